"""A day of some seconds: companies change hands, nothing is lost, and what grows is told."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

from devstack import LocalStack
from soak.__main__ import WORKERS, Soak
from soak.figures import FIGURES, Sample, judge, table
from soak.traffic import REFILL, Client, rate
from tests.length import LENGTH

DAY = 6.0 * LENGTH
"""Seconds."""
DATABASE = {"table": 1, "index": 1, "rows": 1, "writers": 1, "dead": 0, "connections": 1}


@pytest.fixture
def own_stack(local_stack: LocalStack) -> Iterator[LocalStack]:
    with local_stack.fresh(migrate=True) as stack:
        yield stack


async def test_every_owner_finds_what_the_last_one_stored(own_stack: LocalStack) -> None:
    soak = Soak(own_stack, 6, {"begun": time.time(), "day": DAY, "messages": 240.0})
    await soak.run()
    assert soak.violations == []
    # It was a day: there were messages, and all processes had companies of their own.
    assert soak.messages > 0
    assert soak.owners == set(WORKERS)


async def test_an_owner_that_does_not_find_it_is_told(own_stack: LocalStack) -> None:
    soak = Soak(own_stack, 2, {"begun": time.time(), "day": DAY, "messages": 240.0})
    with psycopg.connect(own_stack.db_url, autocommit=True) as db:
        db.execute(
            "create function set_back() returns trigger language plpgsql as $$ begin "
            "new.value := '{\"n\": -1}'; return new; end $$; "
            "create trigger whatsapp_keys_99_set_back "
            "before update on whatsapp_keys for each row when (new.key_id = '15550000000.0') "
            "execute function set_back()"
        )
    await soak.run()
    assert any("of " in violation for violation in soak.violations)


def day(memory: float, sockets: int = 9) -> list[Sample]:
    """A day at whose end the process has `memory` times what it had at its beginning."""
    return [
        Sample(hour / 10, DATABASE, [{"memory": 1 + (memory - 1) * hour / 240, "sockets": sockets}])
        for hour in range(240)
    ]


def test_what_grows_is_told_and_what_is_flat_is_not() -> None:
    assert list(judge(day(1.1))) == []
    assert [line.split(": ")[0] for line in judge(day(5))] == ["one process", "three processes"]
    assert [line.split(" grew to ")[1] for line in judge(day(1, sockets=41))] == [
        "41.0, more than 40"
    ] * 2
    assert len(list(table(day(1)))) == 2 + 2 * len(FIGURES) + 1


def test_a_night_is_quiet_and_a_client_never_runs_out_of_pre_keys() -> None:
    assert rate(15) == 1
    assert rate(3) == rate(27) == 0.1
    client = Client(962302)
    client.begin([], 1)
    used = [
        key_id
        for _ in range(3000)
        for step in client.message()
        if step[0] == "set"
        for key_id, value in step[1].get("pre-key", {}).items()
        if value is None
    ]
    assert len(set(used)) == len(used) > REFILL
    assert max(map(int, used)) < client.next_pre_key
