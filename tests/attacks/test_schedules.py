"""Generated schedules: no order of faults, landings and owners leads to what is not promised.

Each kind of attack has a generator of its own. A schedule that found a fault stays as an example.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
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
    Release,
    Step,
    play,
)
from tests.length import LENGTH

pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is dep:DeprecationWarning")

Steps = list[Step]
KEY_SETS = st.sampled_from([KEYS[:1], KEYS[1:2], KEYS[:2], KEYS[1:], KEYS])
ALL_CALLS = ["set", "set", "set twice", "delete", "clear", "get", "get", "save creds",
             "set and save creds"]  # fmt: skip

assert CLIENTS == 3


def schedules(
    *,
    calls: Sequence[str] = ALL_CALLS,
    faults: Sequence[str],
    about: Sequence[str] = (),
    moves: Sequence[type[Step]] = (),
    clients: Sequence[int] = (0, 0, 0, 1, 1, 2),
    size: int = 8,
) -> st.SearchStrategy[Steps]:
    """Generate schedules in which about half of the calls meet a fault.

    Args:
        calls: what clients call.
        faults: what their requests meet.
        about: which requests of any call meet faults, besides those that the call is about.
        moves: what else happens, besides `Calm`, `Release`, `Land` and `Finish`.
        clients: who does something; the more often named the more often.
        size: how many of these a schedule has at most.
    """
    client = st.sampled_from(clients)
    fault, times = st.sampled_from(faults), st.sampled_from([1, 1, 1, 2, None])

    @st.composite
    def call(draw: st.DrawFn) -> Steps:
        return [Do(draw(client), draw(st.sampled_from(calls)), draw(KEY_SETS))]

    @st.composite
    def disturbed(draw: st.DrawFn) -> Steps:
        who, what = draw(client), draw(st.sampled_from(calls))
        kinds = ["a read" if what == "get" else "a write", *about]
        disturb = Disturb(who, draw(st.sampled_from(kinds)), draw(fault), draw(times))
        return [disturb, Do(who, what, draw(KEY_SETS))]

    @st.composite
    def moved(draw: st.DrawFn) -> Steps:
        who, move = draw(client), draw(st.sampled_from([Calm, Release, Land, Finish, *moves]))
        if move is not Enter:
            return [move(who)]  # type: ignore[call-arg]
        disturb = Disturb(who, "any request", draw(fault), draw(times))
        return [*draw(st.sampled_from([[], [disturb]])), Enter(who, draw(st.booleans()))]

    part = st.one_of(call(), call(), disturbed(), disturbed(), disturbed(), moved(), moved())
    return st.lists(part, min_size=2, max_size=size).map(
        lambda parts: [*chain.from_iterable(parts)]
    )


def attack(examples: int) -> settings:
    return settings(
        max_examples=round(examples * LENGTH),
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


@pytest.fixture(scope="module", autouse=True)
def _warm(stack: Stack) -> None:
    """Load everything: the first opening of a process takes longer than a schedule waits."""
    assert asyncio.run(play(stack, [Do(0, "get")], lease=False, patience=20)) is None


LATE = ["held", "doubled", "doubled at once", "dropped", "answer lost", "delayed"]


@attack(24)
@given(
    steps=schedules(about=["any request", "a fence"], faults=LATE, moves=[Enter, Crash]),
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


@attack(20)
@given(
    steps=schedules(about=["any request", "a fence"], faults=STRANGERS),
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


@attack(20)
@given(
    steps=schedules(
        calls=["set", "set", "delete", "clear", "get", "get", "get", "get"],
        faults=["answer delayed", "answer delayed", "delayed", "held", "answer lost", "page, sent"],
        moves=[Cancel],
        clients=[0],
    )
)
# Half of a set was seen: one value from memory, the other from the table.
@example(
    steps=[
        Do(0, "get", KEYS[:1]),
        Disturb(0, "a write", "answer delayed"),
        Do(0, "set", KEYS[:2]),
        Do(0, "get", KEYS[:2]),
    ]
)  # fmt: skip
# The same of a clear that came while the read was under way.
@example(
    steps=[
        Do(0, "set", KEYS[:1]),
        Disturb(0, "a read", "delayed"),
        Do(0, "get", KEYS[:2]),
        Do(0, "clear"),
    ]
)  # fmt: skip
# The answer to an earlier read was remembered over a value that had been read since.
@example(
    steps=[
        Disturb(0, "a read", "answer delayed"),
        Do(0, "get"),
        Disturb(0, "a write", "answer delayed"),
        Do(0, "set"),
        Do(0, "get"),
        Release(0),
        Do(0, "get"),
    ]
)
def test_what_an_owner_reads_is_what_the_tables_held_meanwhile(stack: Stack, steps: Steps) -> None:
    check(stack, [*NOTHING_REMEMBERED, *steps], lease=True)


@attack(16)
@given(
    steps=schedules(
        calls=["save creds", "set", "get"],
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


@attack(20)
@example(steps=[Enter(1, lease=False), Leave(0), Do(1, "set")])
@given(
    steps=schedules(
        calls=["set", "get", "save creds"],
        about=["a lease request"],
        faults=[*LATE, "answer delayed", "page, sent", "null, not sent"],
        moves=[Enter, Enter, Leave, Crash],
        size=10,
    )
)
def test_owners_that_come_and_go_never_interleave(stack: Stack, steps: Steps) -> None:
    check(stack, steps, lease=True)
