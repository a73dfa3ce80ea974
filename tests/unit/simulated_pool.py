"""A simulated database, clock and sessions for the tests of session pools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from supabase_auth_state.errors import LeaseHeld, LeaseLost, StateRolledBack
from supabase_auth_state.pool.session_pool import SessionPool
from supabase_auth_state.rest.backoff import Timing
from tests.eager import eager_task_factory

LIMITS = (10.0, 170.0, 30.0, 120.0)
"""The sleeps that measure something: an attempt's turn, its other time, a closing, a release."""


class FakeTime:
    """A clock that moves only when a test says so, or by itself with every pause."""

    def __init__(self, *, by_itself: bool = False) -> None:
        self.now = 1000.0
        self.by_itself = by_itself
        self.chance = 0.5
        self.pauses: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    @property
    def timing(self) -> Timing:
        return Timing(now=lambda: self.now, sleep=self.sleep, random=lambda: self.chance)

    async def sleep(self, seconds: float) -> None:
        if seconds not in LIMITS:
            self.pauses.append(seconds)
            if self.by_itself:
                self.now += seconds
                return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, sleeper))
        await sleeper

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        for wake_at, sleeper in self._sleepers:
            if wake_at <= self.now and not sleeper.done():
                sleeper.set_result(None)
        await idle()


async def idle() -> None:
    """Let every task run until each waits for something outside."""
    for _ in range(200):
        await asyncio.sleep(0)


class FakeLease:
    def __init__(self, company_id: str, token: int) -> None:
        self.company_id = company_id
        self.token = token
        self.lost = asyncio.Event()
        self.rolled_back = False

    def check(self) -> None:
        if self.rolled_back:
            raise StateRolledBack(self.company_id)
        if self.lost.is_set():
            raise LeaseLost(self.company_id, self.token)


class FakeAuth:
    def __init__(self, database: Database, company_id: str, owner: str, token: int) -> None:
        self.company_id = company_id
        self.lease = FakeLease(company_id, token)
        self._database = database
        self._owner = owner

    async def close(self) -> None:
        await asyncio.sleep(0)
        self._database.release(self.company_id, self._owner)


class Database:
    """Who owns which company, for pools that share the companies."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        self.opened: list[FakeAuth] = []
        self.asked: list[tuple[str, str]] = []

    def opener(self, owner: str) -> Callable[[str], Any]:
        async def open_auth(company_id: str) -> FakeAuth:
            self.asked.append((owner, company_id))
            await asyncio.sleep(0)
            if company_id in self.owners:
                raise LeaseHeld(company_id, owner=self.owners[company_id], expires_at=None)
            self.owners[company_id] = owner
            auth = FakeAuth(self, company_id, owner, len(self.opened) + 1)
            self.opened.append(auth)
            return auth

        return open_auth

    def release(self, company_id: str, owner: str) -> None:
        if self.owners.get(company_id) == owner:
            del self.owners[company_id]


class Session:
    def __init__(self, company_id: str, auth: Any) -> None:
        self.company_id = company_id
        self.auth = auth
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1
        await asyncio.sleep(0)


class Factory:
    """Makes sessions; ``outcomes`` are raised or awaited first, one per call."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.made: list[Session] = []
        self.calls: list[str] = []
        self.running = 0
        self.most_running = 0

    async def __call__(self, company_id: str, auth: Any) -> Session:
        self.calls.append(company_id)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await asyncio.sleep(0)
            outcome = self.outcomes.pop(0) if self.outcomes else None
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is not None:
                await outcome
        finally:
            self.running -= 1
        self.made.append(Session(company_id, auth))
        return self.made[-1]


class World:
    """Pools over one database and one clock; nothing may be left when a test ends."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.database = Database()
        self.pools: list[SessionPool[Any]] = []

    def pool(self, factory: Any, *, owner: str = "here", **options: Any) -> SessionPool[Any]:
        options.setdefault("open_auth", self.database.opener(owner))
        pool: SessionPool[Any] = SessionPool(factory, timing=self.time.timing, **options)
        self.pools.append(pool)
        return pool


@asynccontextmanager
async def new_world(tasks: str = "lazy") -> AsyncIterator[World]:
    """Give a world, close its pools, and see that no task and no lease is left."""
    if tasks == "eager":
        asyncio.get_running_loop().set_task_factory(eager_task_factory)
    world = World()
    yield world
    for pool in world.pools:
        await pool.close_all()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert world.database.owners == {}


def gate() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()
