from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from supabase_auth_state.errors import (
    CompanyQuarantined,
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    PoolClosed,
    PoolError,
    StateRolledBack,
    StoreUnavailable,
)
from supabase_auth_state.pool.session_pool import SessionPool
from tests.length import LENGTH
from tests.unit.simulated_pool import Database, Factory, Session, World, gate, idle, new_world


@pytest.fixture(params=["lazy", "eager"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world that is empty again at the end, where tasks begin later or at once."""
    async with new_world(request.param) as opened:
        yield opened


# get


async def test_500_concurrent_gets_call_the_factory_once_and_give_one_session(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    sessions = await asyncio.gather(*(pool.get("962302") for _ in range(500)))
    assert factory.calls == ["962302"]
    assert {id(session) for session in sessions} == {id(factory.made[0])}
    assert len(world.database.opened) == 1


async def test_get_again_gives_the_same_session_without_asking_anybody(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    assert await pool.get("962302") is await pool.get("962302")
    assert len(factory.calls) == 1


async def test_the_factory_gets_the_company_and_its_auth_state(world: World) -> None:
    pool = world.pool(Factory())
    session = await pool.get("962302")
    assert session.company_id == "962302"
    assert session.auth is world.database.opened[0]


async def test_companies_do_not_wait_for_each_other(world: World) -> None:
    stuck = gate()
    pool = world.pool(Factory(stuck))
    waiting = asyncio.create_task(pool.get("slow"))
    await idle()
    assert (await pool.get("quick")).company_id == "quick"
    stuck.set_result(None)
    assert (await waiting).company_id == "slow"


async def test_1000_companies_with_20_creations_at_a_time(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory, max_creating=20)
    companies = [str(number) for number in range(1000)]
    sessions = await asyncio.gather(*(pool.get(company) for company in companies))
    assert [session.company_id for session in sessions] == companies
    assert factory.most_running == 20
    await pool.close_all()
    assert [session.closed for session in factory.made] == [1] * 1000


async def test_an_up_company_costs_one_waiting_task_and_a_closed_one_none(world: World) -> None:
    before = len(asyncio.all_tasks())
    pool = world.pool(Factory())
    for number in range(10):
        await pool.get(str(number))
    assert len(asyncio.all_tasks()) == before + 10
    for number in range(10):
        await pool.close(str(number))
    await idle()
    assert len(asyncio.all_tasks()) == before


# Failures


async def test_a_factory_that_fails_three_times_is_called_four_times_with_growing_pauses(
    world: World,
) -> None:
    world.time.by_itself = True
    factory = Factory(OSError("1"), OSError("2"), OSError("3"))
    pool = world.pool(factory, backoff_base=1.0, backoff_cap=300.0)
    for number in "123":
        with pytest.raises(OSError, match=number):
            await pool.get("962302")
    await pool.get("962302")
    assert len(factory.calls) == 4
    assert world.time.pauses == [0.75, 1.5, 3.0]


async def test_a_failing_factory_fails_all_its_waiters_once(world: World) -> None:
    factory = Factory(OSError("no route"))
    pool = world.pool(factory)
    answers = await asyncio.gather(
        *(pool.get("962302") for _ in range(500)), return_exceptions=True
    )
    assert {repr(answer) for answer in answers} == {"OSError('no route')"}
    assert len(factory.calls) == 1


async def test_a_failure_releases_the_company_before_anybody_hears_of_it(world: World) -> None:
    pool = world.pool(Factory(OSError("no route")))
    with pytest.raises(OSError, match="no route"):
        await pool.get("962302")
    assert world.database.owners == {}


async def test_get_after_a_failure_waits_for_the_pause_and_no_longer(world: World) -> None:
    factory = Factory(OSError("no route"))
    pool = world.pool(factory, backoff_base=2.0)
    with pytest.raises(OSError, match="no route"):
        await pool.get("962302")
    second = asyncio.create_task(pool.get("962302"))
    await world.time.advance(1.4)
    assert len(factory.calls) == 1
    await world.time.advance(0.1)
    assert (await second) is factory.made[0]


async def test_get_after_the_pause_has_passed_does_not_wait(world: World) -> None:
    pool = world.pool(Factory(OSError("no route")))
    with pytest.raises(OSError, match="no route"):
        await pool.get("962302")
    await world.time.advance(1.0)
    await pool.get("962302")
    assert world.time.pauses == []


async def test_a_company_that_pauses_takes_no_place_among_the_creations(world: World) -> None:
    pool = world.pool(Factory(OSError("no route")), max_creating=1)
    with pytest.raises(OSError, match="no route"):
        await pool.get("down")
    pausing = asyncio.create_task(pool.get("down"))
    await idle()
    await pool.get("962302")
    await world.time.advance(1.0)
    await pausing


async def test_pauses_are_bounded(world: World) -> None:
    world.time.by_itself = True
    world.time.chance = 1.0
    pool = world.pool(Factory(*(OSError("down") for _ in range(12))), backoff_cap=60.0)
    for _ in range(12):
        with pytest.raises(OSError, match="down"):
            await pool.get("962302")
    assert world.time.pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0]


async def test_a_failed_opening_of_the_auth_state_is_told_and_paused_like_any_failure(
    world: World,
) -> None:
    async def open_auth(company_id: str) -> Any:
        raise StoreUnavailable("no answer")

    factory = Factory()
    pool = world.pool(factory, open_auth=open_auth, backoff_base=2.0)
    with pytest.raises(StoreUnavailable):
        await pool.get("962302")
    again = asyncio.create_task(pool.get("962302"))
    await idle()
    assert world.time.pauses == [1.5]
    await world.time.advance(1.5)
    with pytest.raises(StoreUnavailable):
        await again
    assert factory.calls == []


async def test_a_company_owned_elsewhere_is_told_at_once_every_time(world: World) -> None:
    here, there = world.pool(Factory()), world.pool(Factory(), owner="there")
    await there.get("962302")
    for _ in range(3):
        with pytest.raises(LeaseHeld, match="there"):
            await here.get("962302")
    assert world.time.pauses == []
    await there.close("962302")
    await here.get("962302")


async def test_a_factory_that_cancels_itself_fails_its_callers(world: World) -> None:
    pool = world.pool(Factory(asyncio.CancelledError()))
    with pytest.raises(PoolError, match="cancelled from within"):
        await pool.get("962302")


async def test_a_factory_that_is_no_coroutine_function_fails_its_callers(world: World) -> None:
    pool = world.pool(lambda company_id, auth: 7)
    with pytest.raises(TypeError):
        await pool.get("962302")


# Callers that are cancelled


async def test_a_cancelled_caller_leaves_the_attempt_to_the_others(world: World) -> None:
    making = gate()
    factory = Factory(making)
    pool = world.pool(factory)
    callers = [asyncio.create_task(pool.get("962302")) for _ in range(100)]
    await idle()
    for caller in callers[::2]:
        caller.cancel()
    await idle()
    making.set_result(None)
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [True, False] * 50
    assert factory.calls == ["962302"]
    assert {id(answer) for answer in answers[1::2]} == {id(factory.made[0])}


async def test_a_session_nobody_waits_for_any_more_stays_in_the_pool(world: World) -> None:
    making = gate()
    factory = Factory(making)
    pool = world.pool(factory)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    caller.cancel()
    making.set_result(None)
    await idle()
    assert pool.status() == {"962302": "up"}
    assert await pool.get("962302") is factory.made[0]


async def test_a_storm_of_cancellations_never_makes_a_second_session(world: World) -> None:
    making = gate()
    factory = Factory(making)
    pool = world.pool(factory)
    for _ in range(200):
        caller = asyncio.create_task(pool.get("962302"))
        await asyncio.sleep(0)
        caller.cancel()
    making.set_result(None)
    await pool.get("962302")
    assert len(factory.calls) == len(factory.made) == 1


# close


async def test_close_ends_the_session_then_releases_the_company(world: World) -> None:
    order: list[str] = []

    async def close_session(session: Session) -> None:
        order.append("session" if session.auth.company_id in world.database.owners else "late")

    pool = world.pool(Factory(), close_session=close_session)
    await pool.get("962302")
    await pool.close("962302")
    assert order == ["session"]
    assert world.database.owners == {}
    assert pool.status() == {"962302": "down"}


async def test_get_after_close_makes_a_new_session_at_once(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    await pool.get("962302")
    await pool.close("962302")
    assert await pool.get("962302") is factory.made[1]
    assert world.time.pauses == []


async def test_a_restored_database_quarantines_the_company_instead_of_connecting_again(
    world: World,
) -> None:
    ends: list[Any] = []
    factory = Factory()
    pool = world.pool(factory, on_end=lambda company, end: ends.append(end))
    await pool.get("962302")
    lease = factory.made[0].auth.lease
    lease.rolled_back = True
    lease.lost.set()
    await idle()
    assert pool.status() == {"962302": "quarantined"}
    assert [(end.code, end.status, end.retry_after) for end in ends] == [
        (None, "quarantined", None)
    ]
    assert "set back to an earlier moment" in ends[0].reason
    with pytest.raises(CompanyQuarantined, match=r"restored-database\.md"):
        await pool.get("962302")
    assert len(factory.calls) == 1
    pool.reinstate("962302")
    await pool.get("962302")


@pytest.mark.parametrize("where", ["reported", "raised"])
async def test_an_error_of_a_restored_database_is_no_failure_that_passes(
    world: World, where: str
) -> None:
    error = StateRolledBack("962302")
    factory = Factory(*([error] if where == "raised" else []))
    pool = world.pool(factory)
    if where == "raised":
        with pytest.raises(StateRolledBack):
            await pool.get("962302")
    else:
        await pool.get("962302")
        pool.report("962302", error)
    await idle()
    assert pool.status() == {"962302": "quarantined"}


async def test_get_during_close_waits_for_the_end_of_it(world: World) -> None:
    closing = gate()

    async def close_session(session: Session) -> None:
        await closing

    factory = Factory()
    pool = world.pool(factory, close_session=close_session)
    await pool.get("962302")
    close = asyncio.create_task(pool.close("962302"))
    await idle()
    again = asyncio.create_task(pool.get("962302"))
    await idle()
    assert len(factory.calls) == 1
    closing.set_result(None)
    await close
    assert await again is factory.made[1]


async def test_close_stops_a_creation_and_tells_who_waits_for_it(world: World) -> None:
    factory = Factory(gate())
    pool = world.pool(factory)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    await pool.close("962302")
    with pytest.raises(PoolError, match="closed while"):
        await caller
    assert factory.running == 0
    assert world.database.owners == {}


async def test_close_before_the_attempt_has_begun_tells_who_waits_for_it(world: World) -> None:
    pool = world.pool(Factory())
    caller = asyncio.create_task(pool.get("962302"))
    await asyncio.sleep(0)
    await pool.close("962302")
    with pytest.raises(PoolError, match="closed while"):
        await caller


async def test_close_waits_for_a_lease_that_was_asked_for_and_releases_it(world: World) -> None:
    answer = gate()
    open_auth = world.database.opener("here")

    async def slowly(company_id: str) -> Any:
        await answer
        return await open_auth(company_id)

    pool = world.pool(Factory(), open_auth=slowly)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    close = asyncio.create_task(pool.close("962302"))
    await idle()
    assert not close.done()
    answer.set_result(None)
    await close
    assert len(world.database.opened) == 1
    assert world.database.owners == {}
    with pytest.raises(PoolError, match="closed while"):
        await caller


async def test_a_session_finished_in_spite_of_close_is_closed(world: World) -> None:
    made: list[Session] = []

    async def stubborn(company_id: str, auth: Any) -> Session:
        try:
            await gate()
        except asyncio.CancelledError:
            made.append(Session(company_id, auth))
        return made[0]

    pool = world.pool(stubborn)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    await pool.close("962302")
    assert made[0].closed == 1
    with pytest.raises(PoolError, match="closed while"):
        await caller


async def test_a_company_is_given_back_after_what_its_factory_has_made_is_closed(
    world: World,
) -> None:
    goes_on = gate()
    owners_at_the_end: list[dict[str, str]] = []

    async def factory(company_id: str, auth: Any) -> Session:
        try:
            await gate()
        except asyncio.CancelledError:
            await goes_on
        return Session(company_id, auth)

    def close_session(session: Session) -> None:
        owners_at_the_end.append(dict(world.database.owners))

    pool = world.pool(factory, close_session=close_session)
    waiting = asyncio.create_task(pool.get("962302"))
    await idle()
    closing = asyncio.create_task(pool.close("962302"))
    await idle()
    assert world.database.owners == {"962302": "here"}
    goes_on.set_result(None)
    await closing
    assert owners_at_the_end == [{"962302": "here"}]
    assert world.database.owners == {}
    with pytest.raises(PoolError, match="was closed while"):
        await waiting


async def test_close_that_is_cancelled_goes_on(world: World) -> None:
    closing = gate()

    async def close_session(session: Session) -> None:
        await closing

    pool = world.pool(Factory(), close_session=close_session)
    await pool.get("962302")
    close = asyncio.create_task(pool.close("962302"))
    await idle()
    close.cancel()
    closing.set_result(None)
    await idle()
    assert close.cancelled()
    assert world.database.owners == {}


async def test_a_close_that_fails_still_releases_the_company_and_is_logged_without_its_text(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def close_session(session: Session) -> None:
        raise OSError("noiseKey=abc")

    pool = world.pool(Factory(), close_session=close_session)
    await pool.get("962302")
    await pool.close("962302")
    assert world.database.owners == {}
    assert "962302: closing the session failed (OSError)" in caplog.text
    assert "noiseKey" not in caplog.text


@pytest.mark.parametrize("name", ["aclose", "close", "end", "disconnect"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_sessions_are_closed_by_their_own_method(world: World, name: str, kind: str) -> None:
    closed: list[str] = []

    async def later() -> None:
        closed.append(name)

    def close(session: object) -> Any:
        return later() if kind == "async" else closed.append(name)

    kind_of_session = type("Socket", (), {name: close})

    async def factory(company_id: str, auth: Any) -> Any:
        return kind_of_session()

    pool = world.pool(factory)
    await pool.get("962302")
    await pool.close("962302")
    assert closed == [name]


async def test_a_session_without_a_way_to_close_it_is_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def factory(company_id: str, auth: Any) -> dict[str, str]:
        return {"noiseKey": "abc"}

    pool = world.pool(factory)
    await pool.get("962302")
    await pool.close("962302")
    assert "a session of type dict has none of aclose, close, end, disconnect" in caplog.text
    assert "noiseKey" not in caplog.text


async def test_close_of_an_unknown_company_does_nothing(world: World) -> None:
    pool = world.pool(Factory())
    await pool.close("never seen")
    assert pool.status() == {}


async def test_close_all_leaves_no_task_and_no_lease_whatever_was_going_on(world: World) -> None:
    before = asyncio.all_tasks()
    factory = Factory(None, OSError("down"), gate())
    pool = world.pool(factory, idle_after=60.0)
    await pool.get("up")
    with pytest.raises(OSError, match="down"):
        await pool.get("pausing")
    callers = [asyncio.create_task(pool.get(company)) for company in ("pausing", "creating")]
    pool.serve(["up", "served"])
    await idle()
    pool.report("served", 408)
    assert pool.status() == {
        "up": "up", "pausing": "opening", "creating": "opening", "served": "opening"
    }  # fmt: skip
    await pool.close_all()
    assert asyncio.all_tasks() == before
    assert world.database.owners == {}
    assert [type(caller.exception()) for caller in callers] == [PoolClosed, PoolClosed]


async def test_a_close_of_all_that_is_given_up_goes_on_and_is_finished_by_the_next(
    world: World,
) -> None:
    closing = gate()

    async def close_session(session: Session) -> None:
        await closing

    pool = world.pool(Factory(), close_session=close_session)
    await pool.get("962302")
    first = asyncio.create_task(pool.close_all())
    await idle()
    first.cancel()
    await idle()
    assert first.cancelled()
    second = asyncio.create_task(pool.close_all())
    await idle()
    assert not second.done()
    closing.set_result(None)
    await second
    assert world.database.owners == {}


async def test_a_close_of_all_that_is_given_up_closes_the_connections_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Rest:
        closed = 0

        async def ask(self, function: str, company_id: str, params: Any) -> Any:
            return {"pauses": {}}

        async def close(self) -> None:
            self.closed += 1

    async def factory(company_id: str, auth: Any) -> Session:
        return Session(company_id, auth)

    async def open_state(company_id: str, **options: Any) -> Any:
        return await database.opener("here")(company_id)

    async def close_session(session: Session) -> None:
        await closing

    rest, database, closing = Rest(), Database(), gate()
    monkeypatch.setattr("supabase_auth_state.rest.client.open_rest", lambda client: rest)
    home = "supabase_auth_state.auth_state.database.use_supabase_auth_state"
    monkeypatch.setattr(home, open_state)
    pool = SessionPool(factory, close_session=close_session)
    await pool.get("962302")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(pool.close_all(), 0.001)
    closing.set_result(None)
    await idle()
    assert (rest.closed, database.owners) == (1, {})


async def test_a_close_during_the_opening_of_one_company_leaves_the_others_alone(
    world: World,
) -> None:
    opening = asyncio.Event()
    factory = Factory(opening.wait(), opening.wait())
    pool = world.pool(factory, max_creating=2)
    callers = {name: asyncio.create_task(pool.get(name)) for name in "abc"}
    await idle()
    given_up = asyncio.create_task(pool.close("a"))
    waiting = asyncio.create_task(pool.close("c"))
    await asyncio.sleep(0)
    given_up.cancel()
    await waiting
    opening.set()
    assert (await callers["b"]).company_id == "b"
    for name in "ac":
        with pytest.raises(PoolError, match="closed while"):
            await callers[name]
    await idle()
    assert world.database.owners == {"b": "here"}
    assert (await pool.get("c")).company_id == "c"


async def test_a_closed_pool_refuses_everything_and_may_be_closed_again(world: World) -> None:
    async with world.pool(Factory()) as pool:
        await pool.get("962302")
    with pytest.raises(PoolClosed):
        await pool.get("962302")
    with pytest.raises(PoolClosed):
        pool.serve(["962302"])
    pool.report("962302", 408)
    await pool.close_all()
    assert pool.status() == {"962302": "down"}


# Everything at once


class Odd(BaseException):
    """No Exception, as some libraries' control flow is none."""


EXPECTED = (OSError, PoolError, LeaseLost, asyncio.CancelledError)


class Storm:
    """Sessions that are made and closed slowly, fail and hang, all by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.open_sessions: list[str] = []
        self.doubled: list[str] = []
        self._auths: dict[str, Any] = {}

    async def rest(self) -> None:
        for _ in range(self.chance.randrange(6)):
            await asyncio.sleep(0)

    async def factory(self, company_id: str, auth: Any) -> Session:
        self._auths[company_id] = auth
        await self.rest()
        await self.chance.choice([self.rest, self.rest, self.rest, self._fail, gate])()
        if company_id in self.open_sessions:
            self.doubled.append(company_id)
        self.open_sessions.append(company_id)
        return Session(company_id, auth)

    async def _fail(self) -> None:
        raise self.chance.choice([OSError("no route"), asyncio.CancelledError(), Odd()])

    async def close_session(self, session: Session) -> None:
        try:
            await self.rest()
        finally:
            self.open_sessions.remove(session.company_id)

    def lose_lease(self, company_id: str) -> None:
        if company_id in self._auths:
            self._auths[company_id].lease.lost.set()


@pytest.mark.parametrize("seed", range(round(6 * LENGTH)))
async def test_in_any_storm_a_company_has_one_session_at_most_and_nothing_is_left(
    world: World, seed: int
) -> None:
    storm = Storm(seed)
    chance = storm.chance
    pool = world.pool(
        storm.factory, close_session=storm.close_session, max_creating=2, idle_after=50.0
    )
    callers: list[asyncio.Task[Any]] = []
    steps: list[Callable[[str], Any]] = [
        lambda company: callers.append(asyncio.create_task(pool.get(company))),
        lambda company: callers.append(asyncio.create_task(pool.close(company))),
        lambda company: chance.choice(callers).cancel() if callers else None,
        lambda company: pool.report(company, chance.choice([401, 402, 408, 440, 515])),
        pool.reinstate,
        storm.lose_lease,
    ]
    for _ in range(300):
        chance.choices(steps, weights=[8, 1, 4, 3, 2, 1])[0](chance.choice("abc"))
        await storm.rest()
        if chance.random() < 0.1:
            await world.time.advance(chance.choice([1.0, 10.0, 100.0]))
    await pool.close_all()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    unexpected = [
        a for a in answers if isinstance(a, BaseException) and not isinstance(a, EXPECTED)
    ]
    assert unexpected == []
    assert any(isinstance(answer, Session) for answer in answers)
    assert storm.doubled == storm.open_sessions == []


# Idle sessions


async def test_a_session_nobody_asks_for_is_closed_after_its_idle_time(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory, idle_after=60.0)
    await pool.get("idle")
    await pool.get("busy")
    await world.time.advance(40.0)
    await pool.get("busy")
    await world.time.advance(20.0)
    assert pool.status() == {"idle": "down", "busy": "up"}
    await world.time.advance(39.0)
    assert pool.status() == {"idle": "down", "busy": "up"}
    await world.time.advance(1.0)
    assert pool.status() == {"idle": "down", "busy": "down"}
    assert await pool.get("idle") is factory.made[2]


async def test_served_companies_are_not_idle(world: World) -> None:
    pool = world.pool(Factory(), idle_after=60.0)
    pool.serve(["962302"], every=10**6)
    await world.time.advance(10**5)
    assert pool.status() == {"962302": "up"}


# serve


async def test_serve_opens_what_is_free_and_takes_over_what_becomes_free(world: World) -> None:
    here, there = world.pool(Factory()), world.pool(Factory(), owner="there")
    await there.get("b")
    here.serve(["a", "b"], every=30.0)
    await idle()
    assert here.status() == {"a": "up", "b": "down"}
    del world.database.owners["b"]
    await world.time.advance(30.0)
    assert here.status() == {"a": "up", "b": "up"}


async def test_a_served_company_that_is_closed_moves_to_another_pool(world: World) -> None:
    here, there = world.pool(Factory()), world.pool(Factory(), owner="there")
    for pool in (here, there):
        pool.serve(["962302"], every=30.0)
        await idle()
    await here.close("962302")
    await world.time.advance(30.0)
    assert (here.status(), there.status()) == ({"962302": "down"}, {"962302": "up"})


async def test_a_served_company_nobody_else_wants_comes_back(world: World) -> None:
    pool = world.pool(Factory())
    pool.serve(["962302"], every=30.0)
    await idle()
    await pool.close("962302")
    await world.time.advance(30.0)
    assert pool.status() == {"962302": "down"}
    await world.time.advance(30.0)
    assert pool.status() == {"962302": "up"}


async def test_serve_takes_no_more_than_at_most_and_shares_the_rest(world: World) -> None:
    companies = [str(number) for number in range(12)]
    here, there = world.pool(Factory()), world.pool(Factory(), owner="there")
    here.serve(companies, at_most=7)
    there.serve(companies, at_most=7)
    await world.time.advance(30.0)
    assert sorted(world.database.owners) == sorted(companies)
    shares = [list(world.database.owners.values()).count(owner) for owner in ("here", "there")]
    assert sum(shares) == 12
    assert max(shares) <= 7


async def test_serve_goes_on_looking_while_what_it_asked_for_is_owned_elsewhere(
    world: World,
) -> None:
    companies = [str(number) for number in range(50)]
    there = world.pool(Factory(), owner="there")
    for company in companies[:49]:
        await there.get(company)
    here = world.pool(Factory())
    here.serve(companies, at_most=1)
    for _ in range(20):
        await idle()
    assert [company for company, status in here.status().items() if status == "up"] == ["49"]


async def test_serve_leaves_quarantined_yielded_and_pausing_companies_alone(world: World) -> None:
    factory = Factory(None, None, OSError("down"))
    pool = world.pool(factory, backoff_base=1000.0, backoff_cap=1000.0, yield_base=1000.0)
    world.time.chance = 0.0
    pool.serve(["a", "b", "c"], every=30.0)
    await idle()
    pool.report(factory.calls[0], 401)
    pool.report(factory.calls[1], 440)
    await world.time.advance(30.0)
    await world.time.advance(30.0)
    assert len(factory.calls) == 3
    await world.time.advance(1000.0)
    assert sorted(pool.status().values()) == ["quarantined", "up", "up"]


async def test_serve_again_replaces_the_list_and_keeps_what_is_up(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    pool.serve(["a"], every=30.0)
    await idle()
    pool.serve(["b"], every=30.0)
    await idle()
    assert pool.status() == {"a": "up", "b": "up"}
    await pool.close("a")
    await world.time.advance(10**6)
    assert pool.status() == {"a": "down", "b": "up"}


async def test_room_that_comes_while_a_factory_hangs_is_filled_in_the_next_round(
    world: World,
) -> None:
    hangs = gate()
    pool = world.pool(Factory(None, hangs))
    pool.serve(["a", "b", "c"], every=30.0, at_most=2)
    await idle()
    (up,) = [company for company, status in pool.status().items() if status == "up"]
    await pool.close(up)
    await world.time.advance(30.0)
    assert sorted(pool.status().values()) == ["down", "opening", "up"]
    hangs.set_result(None)


@pytest.mark.parametrize("companies", ["962302", b"962302"])
async def test_serve_takes_no_text_for_a_list(world: World, companies: Any) -> None:
    pool = world.pool(Factory())
    with pytest.raises(ConfigurationError, match="a list"):
        pool.serve(companies)
    await idle()
    assert pool.status() == {}


@pytest.mark.parametrize("name", ["max_creating", "create_within", "idle_after"])
async def test_a_limit_with_which_nothing_would_ever_happen_is_refused(
    world: World, name: str
) -> None:
    options: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigurationError, match=name):
        world.pool(Factory(), **options)
    with pytest.raises(ConfigurationError, match="every"):
        world.pool(Factory()).serve(["962302"], every=0)


# Other ways to use it


async def test_a_plain_with_says_async_with(world: World) -> None:
    pool: Any = world.pool(Factory())
    with pytest.raises(TypeError, match="write `async with`"), pool:
        pass


def test_a_pool_is_refused_in_a_second_event_loop() -> None:
    pool: SessionPool[Session] = SessionPool(Factory(), open_auth=Database().opener("here"))

    async def use() -> None:
        async with pool:
            await pool.get("962302")

    asyncio.run(use())
    uses: list[Callable[[], Any]] = [
        lambda: pool.get("962302"),
        lambda: pool.close("962302"),
        pool.close_all,
        lambda: pool.report("962302", 401),
        lambda: pool.serve(["962302"]),
    ]

    async def use_again(call: Callable[[], Any]) -> None:
        await call()

    for call in uses:
        with pytest.raises(ConfigurationError, match="another event loop"):
            asyncio.run(use_again(call))


async def test_a_report_from_a_thread_is_refused_and_says_what_to_do(world: World) -> None:
    pool = world.pool(Factory())
    session = await pool.get("962302")
    with pytest.raises(ConfigurationError, match="call_soon_threadsafe"):
        await asyncio.to_thread(pool.report, "962302", 401)
    assert await pool.get("962302") is session


async def test_a_pool_is_refused_after_a_fork(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = world.pool(Factory())
    await pool.get("962302")
    with monkeypatch.context() as child:
        child.setattr("os.getpid", lambda: -1)
        with pytest.raises(ConfigurationError, match="forked"):
            await pool.get("962302")


# Logs


async def test_a_failure_nobody_asked_about_is_logged_once_and_nowhere_else(
    world: World, fresh_log: pytest.LogCaptureFixture
) -> None:
    pool = world.pool(Factory(OSError("no route")))
    pool.serve(["962302"])
    await idle()
    gc.collect()
    assert [record.name for record in fresh_log.records] == ["supabase_auth_state"]


async def test_the_log_names_company_reason_and_pause_but_not_a_foreign_errors_text(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "supabase_auth_state")
    pool = world.pool(Factory(OSError("noiseKey=abc"), StoreUnavailable("no answer in 10 s")))
    with pytest.raises(OSError, match="noiseKey"):
        await pool.get("962302")
    assert "company 962302: no session (OSError), next attempt not before 0.8 s" in caplog.text
    await world.time.advance(1.0)
    with pytest.raises(StoreUnavailable):
        await pool.get("962302")
    assert "(StoreUnavailable: no answer in 10 s)" in caplog.text
    assert "noiseKey" not in caplog.text
