"""Generated schedules: no order of faults, landings and owners leads to what is not promised.

Each kind of attack has a generator of its own. A schedule that found a fault stays as an example.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from devstack import Stack
from faults.recorder import KEYS
from faults.schedule import (
    CLIENTS,
    Calm,
    Cancel,
    Crash,
    Disturb,
    Do,
    Enter,
    Finish,
    Land,
    Leave,
    Step,
    play,
)

pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is dep:DeprecationWarning")

Steps = list[Step]
KEY_SETS = st.sampled_from([KEYS[:1], KEYS[1:2], KEYS[:2], KEYS[1:], KEYS])
CLIENT = st.sampled_from([0, 0, 0, 1, 1, 2])
ALL_CALLS = ["set", "set", "set twice", "delete", "clear", "get", "get", "save creds",
             "set and save creds"]  # fmt: skip

assert CLIENTS == 3


def schedules(
    *,
    calls: Sequence[str] = ALL_CALLS,
    about: Sequence[str],
    faults: Sequence[str],
    moves: Sequence[type[Step]] = (),
    size: int = 12,
) -> st.SearchStrategy[Steps]:
    """Generate schedules in which about a third of the steps are faults."""
    do = st.builds(Do, CLIENT, st.sampled_from(calls), KEY_SETS)
    disturb = st.builds(
        Disturb,
        CLIENT,
        st.sampled_from(about),
        st.sampled_from(faults),
        st.sampled_from([1, 1, 1, 2, None]),
    )
    others: list[st.SearchStrategy[Step]] = [
        st.builds(Enter, CLIENT, st.booleans()) if move is Enter else st.builds(move, CLIENT)
        for move in (Calm, Land, Finish, *moves)
    ]
    step: st.SearchStrategy[Step] = st.one_of(do, do, disturb, disturb, *others)
    return st.lists(step, min_size=3, max_size=size)


def attack(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def check(stack: Stack, steps: Steps, *, lease: bool) -> None:
    problem = asyncio.run(play(stack, steps, lease=lease))
    assert problem is None, problem


LATE = ["held", "doubled", "doubled at once", "dropped", "answer lost", "delayed"]


@attack(60)
@given(
    steps=schedules(
        about=["a write", "a write", "any request", "a fence"], faults=LATE, moves=[Enter, Crash]
    ),
    lease=st.booleans(),
)
def test_late_and_doubled_requests_change_nothing_that_was_seen(
    stack: Stack, steps: Steps, lease: bool
) -> None:
    check(stack, steps, lease=lease)


STRANGERS = [
    "truncated", "answers swapped", "answers repeated", "redirected", "page, not sent",
    "page, sent", "page 404, sent", "page 502, sent", "null, not sent", "empty list, not sent",
    "empty object, not sent", "empty 201, not sent", "empty 204, not sent", "busy", "too many",
]  # fmt: skip


@attack(50)
@given(
    steps=schedules(about=["a write", "a read", "any request", "a fence"], faults=STRANGERS),
    lease=st.booleans(),
)
def test_answers_of_strangers_acknowledge_nothing_and_are_no_values(
    stack: Stack, steps: Steps, lease: bool
) -> None:
    check(stack, steps, lease=lease)


NOTHING_REMEMBERED: Steps = [
    Do(0, "set", KEYS), Finish(0), Leave(0), Finish(0), Enter(0, lease=True), Finish(0),
]  # fmt: skip
"""Rows that the owner has not read since it opened the company."""


@attack(50)
@given(
    steps=schedules(
        calls=[*ALL_CALLS, "get", "get"],
        about=["a write", "a read", "any request"],
        faults=["answer delayed", "delayed", "held", "answer lost", "page, sent"],
        moves=[Cancel],
    )
)
def test_what_an_owner_reads_is_what_the_tables_held_meanwhile(stack: Stack, steps: Steps) -> None:
    check(stack, [*NOTHING_REMEMBERED, *steps], lease=True)


@attack(40)
@given(
    steps=schedules(
        calls=["save creds", "set", "get"],
        about=["any request", "a write", "a read"],
        faults=[
            "held",
            "dropped",
            "answer lost",
            "page, sent",
            "empty object, not sent",
            "null, not sent",
        ],
        moves=[Enter, Enter, Leave, Crash],
    ),
    lease=st.booleans(),
)
def test_openings_at_any_time_give_the_one_identity_of_the_company(
    stack: Stack, steps: Steps, lease: bool
) -> None:
    check(stack, [Leave(0), Finish(0), *steps], lease=lease)


@attack(50)
@given(
    steps=schedules(
        calls=["set", "get", "save creds"],
        about=["a lease request", "an acquire", "a release", "a write"],
        faults=[*LATE, "answer delayed", "page, sent", "null, not sent"],
        moves=[Enter, Enter, Leave, Crash],
        size=14,
    )
)
def test_owners_that_come_and_go_never_interleave(stack: Stack, steps: Steps) -> None:
    check(stack, steps, lease=True)
