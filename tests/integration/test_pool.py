"""Session pools that share companies through the leases of a real database."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import Stack
from supabase_auth_state import (
    AuthState,
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    PoolError,
    Rest,
    SessionPool,
    Settings,
    open_rest,
    use_supabase_auth_state,
)

PROGRAM = Path(__file__).with_name("pool_process.py")
LONG = 60.0
"""Seconds that nothing here should take; a test that needs them has failed."""


class Session:
    def __init__(self, company_id: str, auth: AuthState) -> None:
        self.company_id = company_id
        self.auth = auth
        self.closed = asyncio.Event()

    @property
    def token(self) -> int:
        assert self.auth.lease is not None
        return self.auth.lease.token

    async def close(self) -> None:
        self.closed.set()


class Odd(BaseException):
    """No Exception, as some libraries' control flow is none."""


class Machine:
    """A pool that stands for one machine; its sessions arrive in a queue."""

    def __init__(self, rest: Rest, ttl: float, *, owner: str | None = None, **options: Any) -> None:
        self.sessions: asyncio.Queue[Session] = asyncio.Queue()
        self._rest = rest
        self._ttl = ttl
        self._owner = owner
        self.pool = SessionPool(self._connect, open_auth=self._open_auth, **options)

    async def next_session(self) -> Session:
        return await asyncio.wait_for(self.sessions.get(), LONG)

    async def _open_auth(self, company_id: str) -> AuthState:
        return await use_supabase_auth_state(
            company_id, client=self._rest, lease=True, lease_ttl=self._ttl, owner=self._owner
        )

    async def _connect(self, company_id: str, auth: AuthState) -> Session:
        session = Session(company_id, auth)
        self.sessions.put_nowait(session)
        return session


@pytest.fixture
async def machine(rest: Rest) -> AsyncIterator[Callable[..., Machine]]:
    """Make machines; all are closed after the test: `machine(ttl=30.0)`."""
    machines: list[Machine] = []

    def make(ttl: float = 30.0, **options: Any) -> Machine:
        machines.append(Machine(rest, ttl, **options))
        return machines[-1]

    yield make
    for made in machines:
        await made.pool.close_all()


@pytest.fixture
def lease_status(rest: Rest) -> Callable[[str], Awaitable[Any]]:
    """Ask the database about a company's lease."""

    async def ask(company_id: str) -> Any:
        return await rest.rpc("whatsapp_lease_status", {"p_company_id": company_id})

    return ask


async def test_a_session_owns_its_company_and_close_gives_it_back(
    machine: Callable[..., Machine],
    lease_status: Callable[[str], Awaitable[Any]],
    company_id: str,
) -> None:
    pool = machine().pool
    session = await pool.get(company_id)
    assert (await lease_status(company_id))["live"] is True
    await session.auth.keys.set({"session": {"15550100001.0": {"version": "v1"}}})
    await pool.close(company_id)
    assert (await lease_status(company_id))["live"] is False
    with pytest.raises(LeaseLost):
        await session.auth.keys.set({"session": {"15550100001.0": None}})


async def test_no_lease_and_no_task_is_left_after_close_all(
    machine: Callable[..., Machine], db: psycopg.Connection[Any], company_id: str
) -> None:
    before = asyncio.all_tasks()
    pool = machine(max_creating=10).pool
    companies = [f"{company_id}-{number}" for number in range(50)]
    await asyncio.gather(*(pool.get(company) for company in companies))
    live = "select count(*) from whatsapp_leases where company_id like %s and expires_at > now()"
    assert db.execute(live, [f"{company_id}-%"]).fetchone() == (50,)
    await pool.close_all()
    assert db.execute(live, [f"{company_id}-%"]).fetchone() == (0,)
    assert asyncio.all_tasks() == before


async def test_the_default_pool_opens_one_set_of_connections_with_leases_and_closes_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, company_id: str
) -> None:
    for name, value in stack.env().items():
        monkeypatch.setenv(name, value)
    opened: list[Rest] = []

    def open_and_keep(*args: Any, **options: Any) -> Rest:
        opened.append(open_rest(*args, **options))
        return opened[-1]

    async def connect(company: str, auth: AuthState) -> Session:
        return Session(company, auth)

    monkeypatch.setattr("supabase_auth_state.rest.client.open_rest", open_and_keep)
    async with SessionPool(connect) as pool:
        first, second = [await pool.get(f"{company_id}-{number}") for number in (1, 2)]
        assert first.auth.lease is not None
        assert second.auth.lease is not None
    assert len(opened) == 1
    with pytest.raises(ConfigurationError, match="closed"):
        await opened[0].about("whatsapp_lease_status", company_id)


async def test_a_client_given_to_the_pool_stays_open(rest: Rest, company_id: str) -> None:
    async def connect(company: str, auth: AuthState) -> Session:
        return Session(company, auth)

    async with SessionPool(connect, client=rest) as pool:
        await pool.get(company_id)
    assert await rest.rpc("whatsapp_lease_status", {"p_company_id": company_id}) is not None


async def test_a_company_owned_by_one_pool_is_refused_to_the_other_until_it_is_closed(
    machine: Callable[..., Machine], company_id: str
) -> None:
    one, other = machine().pool, machine().pool
    first = await one.get(company_id)
    assert first.auth.lease is not None
    with pytest.raises(LeaseHeld) as held:
        await other.get(company_id)
    assert held.value.owner == first.auth.lease.owner
    await one.close(company_id)
    assert (await other.get(company_id)).token > first.token


async def test_a_restart_keeps_the_lease_and_any_other_end_gives_it_up(
    machine: Callable[..., Machine], company_id: str
) -> None:
    here = machine(backoff_base=0.1)
    first = await here.pool.get(company_id)
    await here.next_session()
    here.pool.report(company_id, 515, session=first)
    second = await here.next_session()
    assert second.token == first.token
    assert first.closed.is_set()
    await here.pool.get(company_id)
    here.pool.report(company_id, 428, session=second)
    third = await here.next_session()
    assert third.token > second.token
    assert second.closed.is_set()


@pytest.mark.parametrize("code", [401, 403, 406])
async def test_a_refused_company_is_free_for_export_and_loses_nothing(
    machine: Callable[..., Machine], settings: Settings, company_id: str, code: int
) -> None:
    pool = machine().pool
    session = await pool.get(company_id)
    await session.auth.keys.set({"pre-key": {"7": {"public": b"p", "private": b"q"}}})
    creds = session.auth.creds
    pool.report(company_id, code)
    await asyncio.wait_for(session.closed.wait(), LONG)
    await pool.close(company_id)
    async with use_supabase_auth_state(company_id, settings=settings) as auth:
        assert auth.creds == creds
        assert set(await auth.keys.get("pre-key", ["7"])) == {"7"}
    with pytest.raises(PoolError, match=str(code)):
        await pool.get(company_id)


@pytest.mark.parametrize("error", [Odd(), asyncio.CancelledError(), GeneratorExit()])
async def test_a_factory_that_raises_no_exception_gives_the_company_back(
    rest: Rest,
    lease_status: Callable[[str], Awaitable[Any]],
    company_id: str,
    error: BaseException,
) -> None:
    errors = [error]

    async def connect(company: str, auth: AuthState) -> Session:
        if errors:
            raise errors.pop()
        return Session(company, auth)

    async with SessionPool(connect, client=rest, backoff_base=0.01) as pool:
        callers = [asyncio.create_task(pool.get(company_id)) for _ in range(3)]
        await asyncio.wait(callers, timeout=LONG)
        assert {type(caller.exception()) for caller in callers} == {PoolError}
        assert (await lease_status(company_id))["live"] is False
        assert (await pool.get(company_id)).company_id == company_id
    assert (await lease_status(company_id))["live"] is False


async def test_a_company_taken_by_another_owner_is_closed_here_and_left_alone(
    machine: Callable[..., Machine], db: psycopg.Connection[Any], company_id: str
) -> None:
    pool = machine(ttl=1.0).pool
    session = await pool.get(company_id)
    db.execute(
        "update whatsapp_leases set token = token + 1, owner = 'another', "
        "expires_at = now() + interval '1 hour' where company_id = %s",
        [company_id],
    )
    await asyncio.wait_for(session.closed.wait(), LONG)
    with pytest.raises(LeaseHeld, match="another"):
        await pool.get(company_id)


@asynccontextmanager
async def owning_process(stack: Stack, *arguments: str) -> AsyncIterator[int]:
    """Run a process that owns a company, give its lease's token, and kill it at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), *arguments,
        env={**os.environ, **stack.env()}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield int(await asyncio.wait_for(process.stdout.readline(), LONG))
    finally:
        process.kill()
        await process.wait()


async def test_when_a_process_is_killed_another_pool_takes_over_after_expiry_with_all_its_data(
    stack: Stack, machine: Callable[..., Machine], company_id: str
) -> None:
    here = machine()
    async with owning_process(stack, company_id, "5") as token:
        with pytest.raises(LeaseHeld):
            await here.pool.get(company_id)
        here.pool.serve([company_id], every=0.2)
    session = await here.next_session()
    assert session.token > token
    found = await session.auth.keys.get("session", ["15550100001.0"])
    assert found == {"15550100001.0": {"by": "the first owner"}}


async def test_a_process_that_is_started_again_under_its_name_has_its_companies_at_once(
    stack: Stack, machine: Callable[..., Machine], company_id: str
) -> None:
    async with owning_process(stack, company_id, "86400", f"worker of {company_id}") as token:
        pass
    with pytest.raises(LeaseHeld, match="worker of"):
        await machine(owner="another worker").pool.get(company_id)
    again = await machine(owner=f"worker of {company_id}").pool.get(company_id)
    assert again.token > token
    found = await again.auth.keys.get("session", ["15550100001.0"])
    assert found == {"15550100001.0": {"by": "the first owner"}}


async def test_two_pools_that_serve_the_same_companies_share_them_and_move_one_on_close(
    machine: Callable[..., Machine], company_id: str
) -> None:
    companies = [f"{company_id}-{number}" for number in range(6)]
    here, there = machine(), machine()
    here.pool.serve(companies, every=LONG, at_most=3)
    there.pool.serve(companies, every=LONG, at_most=3)
    up = (
        [await here.next_session() for _ in range(3)],
        [await there.next_session() for _ in range(3)],
    )
    assert sorted(session.company_id for side in up for session in side) == companies
    there.pool.serve(companies, every=0.2)
    await here.pool.close(up[0][0].company_id)
    moved = await there.next_session()
    assert moved.company_id == up[0][0].company_id
    assert moved.token > up[0][0].token
