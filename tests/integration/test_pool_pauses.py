"""What the pool of one machine has found out about a company, obeyed by the pools of all."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

from devstack import Stack
from supabase_auth_state import (
    AuthState,
    CompanyQuarantined,
    LeaseHeld,
    PoolError,
    Rest,
    SessionBackoff,
    SessionPool,
    StateRolledBack,
    StoreError,
)
from supabase_auth_state.cli.console import Console
from supabase_auth_state.cli.reinstate import run_reinstate
from supabase_auth_state.pool.pauses import SharedPauses

LONG = 30.0


class Connections:
    """What all machines connect to, which tells of each connection."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.changed = asyncio.Event()

    async def factory(self, company_id: str, auth: AuthState) -> Connections:
        self.made.append(company_id)
        self.changed.set()
        return self

    async def close(self) -> None:
        pass


@pytest.fixture
async def connections() -> Connections:
    return Connections()


@pytest.fixture
async def machine(
    rest: Rest, connections: Connections
) -> AsyncIterator[Callable[..., SessionPool[Connections]]]:
    """Start machines; each one may die: `await pool.close_all()`."""
    pools: list[SessionPool[Connections]] = []

    def start(**options: Any) -> SessionPool[Connections]:
        pools.append(SessionPool(connections.factory, client=rest, **options))
        return pools[-1]

    yield start
    for pool in pools:
        await pool.close_all()


Start = Callable[..., SessionPool[Connections]]


def noted(db: psycopg.Connection[Any], company_id: str) -> list[Any]:
    return db.execute(
        "select code, until = 'infinity' from whatsapp_pauses where company_id = %s", [company_id]
    ).fetchall()


async def ended(pool: SessionPool[Connections], company_id: str, code: int) -> None:
    """Connect, have WhatsApp end it, and wait until the lease is given back."""
    await pool.get(company_id)
    pool.report(company_id, code)
    await pool.close(company_id)


@pytest.mark.parametrize("code", [401, 403, 406])
async def test_a_logged_out_device_is_connected_by_no_machine_until_it_is_reinstated(
    machine: Start,
    connections: Connections,
    db: psycopg.Connection[Any],
    company_id: str,
    code: int,
) -> None:
    first, second = machine(), machine()
    await ended(first, company_id, code)
    assert noted(db, company_id) == [(code, True)]
    for pool in (first, second, machine()):
        for _ in range(2):
            with pytest.raises(CompanyQuarantined, match=f"{code}.*reinstate"):
                await pool.get(company_id)
        assert pool.status_of(company_id).status == "quarantined"
    assert connections.made == [company_id]
    lease = "select owner from whatsapp_leases where company_id = %s"
    assert db.execute(lease, [company_id]).fetchone() == (None,)

    await second.reinstate(company_id)
    assert noted(db, company_id) == []
    await first.get(company_id)
    assert len(connections.made) == 2


async def test_a_long_pause_is_obeyed_by_a_machine_that_was_restarted(
    machine: Start, connections: Connections, db: psycopg.Connection[Any], company_id: str
) -> None:
    first = machine()
    await ended(first, company_id, 440)
    await first.close_all()
    again = machine()
    with pytest.raises(SessionBackoff) as caught:
        await again.get(company_id)
    assert 140 < caught.value.retry_after <= 300
    assert connections.made == [company_id]
    # It is over in the database, and with that everywhere.
    db.execute("update whatsapp_pauses set until = now() where company_id = %s", [company_id])
    await again.get(company_id)
    assert len(connections.made) == 2
    # For a day it is remembered how long it was.
    for ago, left in (("23 hours", [(440, False)]), ("25 hours", [])):
        db.execute(
            "update whatsapp_pauses set until = now() - %s::interval where company_id = %s",
            [ago, company_id],
        )
        while db.execute("select cleanup_expired_whatsapp_keys()").fetchone() != (0,):
            pass
        assert noted(db, company_id) == left


async def test_pauses_grow_on_from_where_another_machine_was_until_a_connection_lasts(
    machine: Start, db: psycopg.Connection[Any], company_id: str
) -> None:
    async def replaced(**options: Any) -> float:
        """Have a new machine replaced, and return the pause that a further one is told of."""
        db.execute("update whatsapp_pauses set until = now() where company_id = %s", [company_id])
        await ended(machine(**options), company_id, 440)
        with pytest.raises(SessionBackoff) as caught:
            await machine().get(company_id)
        return caught.value.retry_after

    for most in (300, 600, 1200):
        assert most / 2 - 10 < await replaced() <= most
    # Here every connection has lasted, so it is the first pause again, also for those after it.
    assert 140 < await replaced(backoff_cap=0.0) <= 300
    assert 290 < await replaced() <= 600
    await machine().reinstate(company_id)
    assert 140 < await replaced() <= 300


async def test_a_shorter_pause_does_not_end_a_quarantine(
    rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    what = {"p_reason": "so", "p_noted_by": "test"}
    for code, seconds in ((401, None), (440, 60.0)):
        await rest.ask(
            "note_whatsapp_pause", company_id, {"p_code": code, "p_seconds": seconds, **what}
        )
    assert noted(db, company_id) == [(401, True)]


async def test_an_attempt_waits_for_the_reinstatement_that_was_not_awaited(
    machine: Start, connections: Connections, company_id: str
) -> None:
    pool = machine()
    await ended(pool, company_id, 401)
    pool.reinstate(company_id)
    await pool.get(company_id)
    assert len(connections.made) == 2


async def test_a_reinstatement_is_not_undone_by_what_was_found_out_before_it(
    machine: Start,
    connections: Connections,
    db: psycopg.Connection[Any],
    company_id: str,
) -> None:
    closing = asyncio.Event()

    async def close_slowly(session: Connections) -> None:
        await closing.wait()

    pool = machine(close_session=close_slowly)
    await pool.get(company_id)
    pool.report(company_id, 401)
    reinstated = asyncio.ensure_future(pool.reinstate(company_id))
    # The session has not been closed yet, so the logout is not noted yet either.
    await asyncio.wait({reinstated}, timeout=0.3)
    closing.set()
    await reinstated
    await pool.close(company_id)
    assert noted(db, company_id) == []
    await pool.get(company_id)
    assert len(connections.made) == 2


async def test_every_reinstatement_that_was_not_awaited_is_waited_for(
    machine: Start,
    connections: Connections,
    company_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = machine()
    await ended(pool, company_id, 401)
    first, second = asyncio.Event(), asyncio.Event()
    waits = iter([first, second])
    reinstate = SharedPauses.reinstate

    async def slowly(self: SharedPauses, company: str) -> Any:
        wait = next(waits)
        await wait.wait()
        return await reinstate(self, company) if wait is second else None

    monkeypatch.setattr(SharedPauses, "reinstate", slowly)
    pool.reinstate(company_id)
    asked = asyncio.ensure_future(pool.get(company_id))
    await asyncio.wait({asked}, timeout=0.3)
    pool.reinstate(company_id)
    first.set()
    await asyncio.wait({asked}, timeout=0.3)
    second.set()
    await asked
    assert len(connections.made) == 2


@pytest.mark.parametrize("how", ["the pool", "the company"])
async def test_a_get_that_looks_at_the_pause_opens_nothing_after_a_close(
    machine: Start,
    connections: Connections,
    db: psycopg.Connection[Any],
    company_id: str,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    pool = machine()
    await ended(pool, company_id, 401)
    looking, answer = asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any) -> Any:
        looking.set()
        await answer.wait()
        return {}

    monkeypatch.setattr(SharedPauses, "find", slowly)
    asked = asyncio.ensure_future(pool.get(company_id))
    await looking.wait()
    closing = asyncio.ensure_future(
        pool.close_all() if how == "the pool" else pool.close(company_id)
    )
    await asyncio.wait({closing}, timeout=0.3)
    answer.set()
    await closing
    with pytest.raises(PoolError, match="closed"):
        await asked
    assert connections.made == [company_id]
    lease = "select owner from whatsapp_leases where company_id = %s"
    assert db.execute(lease, [company_id]).fetchone() == (None,)


async def test_a_pool_that_serves_takes_a_company_up_again_when_it_was_reinstated_elsewhere(
    machine: Start,
    connections: Connections,
    stack: Stack,
    company_id: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serving = machine()
    serving.serve([company_id], every=0.1)
    await asyncio.wait_for(connections.changed.wait(), LONG)
    while serving.status_of(company_id).status != "up":
        await asyncio.sleep(0)
    serving.report(company_id, 401)
    other = machine()
    with pytest.raises(CompanyQuarantined):
        await asyncio.wait_for(get_when_free(other, company_id), LONG)
    connections.changed.clear()
    for name, value in stack.env().items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        args = argparse.Namespace(company=company_id)
        assert await run_reinstate(args, Console(json=True)) == 0
    await asyncio.wait_for(connections.changed.wait(), LONG)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["pause"] and each["pause"]["code"] for each in said] == [401, None]


async def get_when_free(pool: SessionPool[Connections], company_id: str) -> None:
    while True:
        try:
            await pool.get(company_id)
        except LeaseHeld:
            await asyncio.sleep(0.01)


async def test_a_database_that_does_not_answer_is_no_leave_to_connect(
    machine: Start,
    connections: Connections,
    db: psycopg.Connection[Any],
    company_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = machine()
    await ended(pool, company_id, 401)
    other = machine()

    async def refuse(*args: Any) -> Any:
        raise StoreError("no answer")

    monkeypatch.setattr("supabase_auth_state.pool.pauses.SharedPauses.find", refuse)
    for each in (pool, other):
        with pytest.raises(StoreError, match="no answer"):
            await each.get(company_id)
    assert connections.made == [company_id]


async def test_a_restored_database_is_no_reason_for_another_machine_to_connect(
    machine: Start, connections: Connections, db: psycopg.Connection[Any], company_id: str
) -> None:
    first = machine()
    await first.get(company_id)
    first.report(company_id, StateRolledBack(company_id))
    await first.close(company_id)
    other = machine()
    with pytest.raises(CompanyQuarantined, match="set back"):
        await other.get(company_id)
    assert connections.made == [company_id]
    await other.reinstate(company_id)
    await other.get(company_id)
