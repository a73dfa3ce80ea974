from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from supabase_auth_state.errors import (
    CompanyQuarantined,
    LeaseHeld,
    LeaseLost,
    PoolError,
    SessionBackoff,
)
from supabase_auth_state.pool.ends import CompanyState, ConnectionEnd
from supabase_auth_state.pool.session_pool import SessionPool
from tests.unit.simulated_pool import Factory, Session, World, gate, idle, new_world


@pytest.fixture(params=["lazy", "eager"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world that is empty again at the end, where tasks begin later or at once."""
    async with new_world(request.param) as opened:
        yield opened


# report


class BaileysError(Exception):
    def __init__(self, code: int, data: object = None) -> None:
        self.statusCode = code
        self.data = data


class HttpError(Exception):
    """Of any HTTP library, about any server."""

    status_code = 403


async def test_401_quarantines_the_company_until_it_is_reinstated(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    session = await pool.get("962302")
    pool.report("962302", 401)
    await world.time.advance(10**6)
    assert session.closed == 1
    assert world.database.owners == {}
    assert pool.status() == {"962302": "quarantined"}
    with pytest.raises(CompanyQuarantined, match=r"962302.*401.*reinstate"):
        await pool.get("962302")
    pool.reinstate("962302")
    assert await pool.get("962302") is factory.made[1]


@pytest.mark.parametrize("code", [401, 403, 406])
async def test_a_refused_account_is_not_tried_again_until_it_is_reinstated(
    world: World, code: int
) -> None:
    factory = Factory()
    pool = world.pool(factory)
    pool.serve(["962302"], every=30.0)
    await idle()
    pool.report("962302", code)
    for _ in range(100):
        await world.time.advance(1000.0)
    assert len(factory.calls) == 1
    assert pool.status() == {"962302": "quarantined"}
    with pytest.raises(CompanyQuarantined, match=rf"962302.*{code}.*reinstate"):
        await pool.get("962302")
    pool.reinstate("962302")
    await world.time.advance(30.0)
    assert pool.status() == {"962302": "up"}


@pytest.mark.parametrize("code", [402, 405, 409, 411, 440])
async def test_an_account_that_waiting_may_cure_is_left_alone_for_a_long_pause(
    world: World, code: int
) -> None:
    factory = Factory()
    pool = world.pool(factory, yield_base=400.0)
    pool.serve(["962302"], every=30.0)
    await idle()
    pool.report("962302", code)
    for _ in range(9):
        await world.time.advance(30.0)
    assert len(factory.calls) == 1
    assert pool.status() == {"962302": "yielded"}
    with pytest.raises(SessionBackoff, match=rf"962302.*{code}.*reinstate"):
        await pool.get("962302")
    await world.time.advance(31.0)
    assert pool.status() == {"962302": "up"}


async def test_a_ban_with_an_end_is_waited_for(world: World) -> None:
    pool = world.pool(Factory())
    await pool.get("962302")
    pool.report("962302", BaileysError(402, {"expire": "86400"}))
    assert pool.status_of("962302").retry_after == 86400.0
    await world.time.advance(86399.0)
    with pytest.raises(SessionBackoff, match=r"402, temporarily banned.*for 1 s"):
        await pool.get("962302")
    await world.time.advance(1.0)
    await pool.get("962302")


@pytest.mark.parametrize(
    ("error", "status"), [(BaileysError(403), "quarantined"), (HttpError(), "down")]
)
async def test_a_refusal_may_be_raised_by_the_factory(
    world: World, error: Exception, status: str
) -> None:
    pool = world.pool(Factory(error))
    with pytest.raises(type(error)):
        await pool.get("962302")
    assert pool.status() == {"962302": status}
    assert world.database.owners == {}


async def test_440_yields_and_does_not_fight(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory, yield_base=400.0)
    session = await pool.get("962302")
    pool.report("962302", 440)
    await idle()
    assert session.closed == 1
    assert world.database.owners == {}
    assert pool.status() == {"962302": "yielded"}
    await world.time.advance(299.0)
    with pytest.raises(SessionBackoff, match="440") as refused:
        await pool.get("962302")
    assert refused.value.retry_after == pytest.approx(1.0)
    await world.time.advance(2.0)
    assert len(factory.calls) == 1
    assert pool.status() == {"962302": "down"}
    assert await pool.get("962302") is factory.made[1]


async def test_each_440_in_a_row_yields_for_longer_up_to_a_bound(world: World) -> None:
    pool = world.pool(Factory(), yield_base=100.0, yield_cap=300.0)
    waits = []
    for _ in range(4):
        await pool.get("962302")
        pool.report("962302", 440)
        with pytest.raises(SessionBackoff) as refused:
            await pool.get("962302")
        waits.append(refused.value.retry_after)
        await world.time.advance(waits[-1])
    assert waits == [75.0, 150.0, 225.0, 225.0]


async def test_reinstate_ends_yielding_at_once(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    await pool.get("962302")
    pool.report("962302", 440)
    pool.reinstate("962302")
    assert await pool.get("962302") is factory.made[1]
    assert world.time.pauses == []


async def test_515_restarts_at_once_with_the_same_auth_state(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    old = await pool.get("962302")
    pool.report("962302", 515)
    new = await pool.get("962302")
    assert new is factory.made[1]
    assert (old.closed, new.closed) == (1, 0)
    assert new.auth is old.auth
    assert len(world.database.opened) == 1
    assert world.time.pauses == []


async def test_515_again_and_again_backs_off(world: World) -> None:
    world.time.by_itself = True
    pool = world.pool(Factory())
    for _ in range(5):
        await pool.get("962302")
        pool.report("962302", 515)
    await pool.get("962302")
    assert world.time.pauses == [0.75, 1.5]


@pytest.mark.parametrize("reason", [408, 428, 500, 503, None])
async def test_any_other_end_makes_a_new_session_after_a_pause_by_itself(
    world: World, reason: object
) -> None:
    factory = Factory()
    pool = world.pool(factory, backoff_base=2.0)
    session = await pool.get("962302")
    pool.report("962302", reason)
    await idle()
    assert session.closed == 1
    assert world.database.owners == {}
    assert len(factory.calls) == 1
    await world.time.advance(1.5)
    assert pool.status() == {"962302": "up"}
    assert len(factory.calls) == 2


async def test_a_lost_session_is_tried_again_with_growing_pauses_until_it_is_back(
    world: World,
) -> None:
    world.time.by_itself = True
    factory = Factory(None, OSError("1"), OSError("2"))
    pool = world.pool(factory)
    await pool.get("962302")
    pool.report("962302", 428)
    await idle()
    assert pool.status() == {"962302": "up"}
    assert world.time.pauses == [0.75, 1.5, 3.0]


async def test_a_lost_session_that_another_pool_has_taken_is_left_to_it(world: World) -> None:
    here, there = world.pool(Factory()), world.pool(Factory(), owner="there")
    await here.get("962302")
    here.report("962302", 428)
    await idle()
    await there.get("962302")
    await world.time.advance(1.0)
    assert here.status() == {"962302": "down"}
    await world.time.advance(10**6)
    assert [owner for owner, _ in world.database.asked] == ["here", "there", "here"]


async def test_a_session_that_lived_long_begins_with_short_pauses_again(world: World) -> None:
    world.time.by_itself = True
    pool = world.pool(Factory(OSError("1"), OSError("2")), backoff_cap=60.0)
    for _ in range(2):
        with pytest.raises(OSError, match=r"^[12]$"):
            await pool.get("962302")
    await pool.get("962302")
    await world.time.advance(60.0)
    pool.report("962302", 428)
    await pool.get("962302")
    assert world.time.pauses == [0.75, 1.5, 0.75]


async def test_a_session_that_flaps_gets_growing_pauses(world: World) -> None:
    world.time.by_itself = True
    pool = world.pool(Factory())
    for _ in range(4):
        await pool.get("962302")
        pool.report("962302", 428)
    await pool.get("962302")
    assert world.time.pauses == [0.75, 1.5, 3.0, 6.0]


async def test_callers_during_a_reconnect_join_it(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    await pool.get("962302")
    pool.report("962302", 428)
    callers = [asyncio.create_task(pool.get("962302")) for _ in range(50)]
    await world.time.advance(1.0)
    assert {id(session) for session in await asyncio.gather(*callers)} == {id(factory.made[1])}


async def test_a_report_about_a_replaced_session_is_ignored(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    old = await pool.get("962302")
    pool.report("962302", 515, session=old)
    new = await pool.get("962302")
    pool.report("962302", 401, session=old)
    await idle()
    assert await pool.get("962302") is new


async def test_what_a_session_reports_while_it_is_closed_is_ignored(world: World) -> None:
    async def close_session(session: Session) -> None:
        pool.report("962302", 428)
        pool.report("962302", 428, session=session)

    factory = Factory()
    pool = world.pool(factory, close_session=close_session)
    await pool.get("962302")
    await pool.close("962302")
    await world.time.advance(10**6)
    assert pool.status() == {"962302": "down"}
    assert len(factory.calls) == 1


async def test_a_company_that_was_closed_is_not_brought_back_when_a_later_get_fails(
    world: World,
) -> None:
    factory = Factory(None, OSError("no route"))
    pool = world.pool(factory)
    await pool.get("962302")
    await pool.close("962302")
    with pytest.raises(OSError, match="no route"):
        await pool.get("962302")
    await world.time.advance(10**6)
    assert len(factory.calls) == 2


async def test_what_the_old_session_says_during_the_pause_is_ignored(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    await pool.get("962302")
    pool.report("962302", 428)
    await idle()
    pool.report("962302", 401)
    await world.time.advance(1.0)
    assert pool.status() == {"962302": "up"}


async def test_a_report_about_an_unknown_company_is_ignored(world: World) -> None:
    pool = world.pool(Factory())
    pool.report("never seen", 401)
    pool.reinstate("never seen")
    assert pool.status() == {}


# report while the factory runs


def dies_while_made(pool: Callable[[], SessionPool[Any]], reason: int) -> Any:
    async def die() -> None:
        pool().report("962302", reason)

    return die()


async def test_no_reconnect_while_a_session_is_being_made(world: World) -> None:
    making = gate()
    factory = Factory(making)
    pool = world.pool(factory)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    for _ in range(10):
        pool.report("962302", 428)
        await idle()
    assert len(factory.calls) == 1
    making.set_result(None)
    with pytest.raises(PoolError, match="ended while it was being made"):
        await caller
    assert factory.made[0].closed == 1
    assert world.database.owners == {}


async def test_515_while_the_session_is_made_restarts_it_for_the_same_callers(world: World) -> None:
    factory = Factory(dies_while_made(lambda: pool, 515))
    pool = world.pool(factory)
    session = await pool.get("962302")
    assert session is factory.made[1]
    assert factory.made[0].closed == 1
    assert len(world.database.opened) == 1


async def test_515_followed_by_a_failing_factory_restarts_it_for_the_same_callers(
    world: World,
) -> None:
    async def pair_then_fail() -> None:
        pool.report("962302", 515)
        raise ConnectionError("closed to restart")

    factory = Factory(pair_then_fail())
    pool = world.pool(factory)
    assert await pool.get("962302") is factory.made[0]
    assert len(factory.calls) == 2
    assert len(world.database.opened) == 1


@pytest.mark.parametrize(("reason", "status"), [(401, "quarantined"), (440, "yielded")])
async def test_401_and_440_while_the_session_is_made_hold_as_after_it(
    world: World, reason: int, status: str
) -> None:
    factory = Factory(dies_while_made(lambda: pool, reason))
    pool = world.pool(factory)
    with pytest.raises(PoolError, match="ended while it was being made"):
        await pool.get("962302")
    assert factory.made[0].closed == 1
    assert pool.status() == {"962302": status}
    assert world.database.owners == {}


async def test_an_old_sessions_report_does_not_end_the_one_being_made(world: World) -> None:
    making = gate()
    factory = Factory(None, making)
    pool = world.pool(factory)
    old = await pool.get("962302")
    pool.report("962302", 515, session=old)
    await idle()
    pool.report("962302", 401, session=old)
    making.set_result(None)
    assert await pool.get("962302") is factory.made[1]


async def test_an_old_sessions_report_says_nothing_of_a_factory_that_fails(world: World) -> None:
    making = gate()
    factory = Factory(None, making)
    pool = world.pool(factory)
    old = await pool.get("962302")
    pool.report("962302", 515, session=old)
    await idle()
    pool.report("962302", 401, session=old)
    making.set_exception(OSError("no route"))
    with pytest.raises(OSError, match="no route"):
        await pool.get("962302")
    assert pool.status() == {"962302": "opening"}


async def test_a_report_about_another_session_hides_none_about_the_one_being_made(
    world: World,
) -> None:
    async def connect(company_id: str, auth: Any) -> Session:
        session = Session(company_id, auth)
        pool.report(company_id, 401, session=Session(company_id, auth))
        pool.report(company_id, 440, session=session)
        return session

    pool = world.pool(connect)
    with pytest.raises(PoolError, match=r"ended while it was being made.*440"):
        await pool.get("962302")
    assert pool.status() == {"962302": "yielded"}


async def test_a_session_may_end_before_its_factory_returns_it(world: World) -> None:
    class Client:
        async def connect(self) -> None:
            pool.report("962302", 403, session=self)
            raise ConnectionError("closed")

    async def connect(company_id: str, auth: Any) -> Any:
        await Client().connect()

    pool = world.pool(connect)
    with pytest.raises(ConnectionError):
        await pool.get("962302")
    assert pool.status() == {"962302": "quarantined"}


# What an operator hears


class Listener:
    """Keeps what on_end is called with."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ConnectionEnd]] = []

    def __call__(self, company_id: str, end: ConnectionEnd) -> None:
        self.heard.append((company_id, end))

    @property
    def facts(self) -> list[tuple[int | None, str, str, float | None]]:
        return [(end.code, end.reason, end.status, end.retry_after) for _, end in self.heard]


async def test_an_end_is_told_with_its_reason_and_what_follows(world: World) -> None:
    listener = Listener()
    pool = world.pool(Factory(), on_end=listener, yield_base=400.0)
    for code in (515, 428, 440):
        session = await pool.get("962302")
        pool.report("962302", code, session=session)
        await idle()
        assert pool.status_of("962302").last_end == listener.heard[-1][1]
        await world.time.advance(1.0)
    await world.time.advance(10**4)
    await pool.get("962302")
    pool.report("962302", 403)
    await idle()
    assert listener.facts == [
        (515, "restart required", "opening", 0.0),
        (428, "connection closed", "opening", 0.75),
        (440, "replaced by another connection", "yielded", 300.0),
        (403, "banned, or its phone was logged out", "quarantined", None),
    ]
    assert {company_id for company_id, _ in listener.heard} == {"962302"}
    assert all(end.at.tzinfo is not None for _, end in listener.heard)


async def test_an_attempt_that_fails_and_a_lost_lease_are_told_too(world: World) -> None:
    listener = Listener()
    pool = world.pool(Factory(OSError("noiseKey=abc")), on_end=listener)
    with pytest.raises(OSError, match="noiseKey"):
        await pool.get("962302")
    await world.time.advance(1.0)
    session = await pool.get("962302")
    session.auth.lease.lost.set()
    await idle()
    assert listener.facts == [
        (None, "OSError", "down", 0.75),
        (None, "the lease was lost", "opening", 1.5),
    ]


async def test_a_close_and_a_company_owned_elsewhere_are_no_ends(world: World) -> None:
    listener = Listener()
    here, there = world.pool(Factory(), on_end=listener), world.pool(Factory(), owner="there")
    await here.get("962302")
    await here.close("962302")
    await there.get("962302")
    with pytest.raises(LeaseHeld):
        await here.get("962302")
    assert listener.heard == []
    assert here.status_of("962302") == CompanyState("down", 0.0, None)


async def test_a_listener_may_be_async_and_close_or_reinstate_the_company(world: World) -> None:
    async def on_end(company_id: str, end: ConnectionEnd) -> None:
        await pool.close(company_id)
        pool.reinstate(company_id)
        done.set_result(None)

    done = gate()
    factory = Factory()
    pool = world.pool(factory, on_end=on_end)
    await pool.get("962302")
    pool.report("962302", 401)
    await done
    assert await pool.get("962302") is factory.made[1]


@pytest.mark.parametrize("error", [OSError("noiseKey=abc"), asyncio.CancelledError()])
async def test_a_listener_that_fails_is_logged(
    world: World, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def on_end(company_id: str, end: ConnectionEnd) -> None:
        raise error

    factory = Factory()
    pool = world.pool(factory, on_end=on_end)
    await pool.get("962302")
    pool.report("962302", 515)
    assert await pool.get("962302") is factory.made[1]
    await idle()
    assert "company 962302: on_end failed" in caplog.text
    assert "noiseKey" not in caplog.text


async def test_the_state_of_a_company_says_when_it_may_be_tried(world: World) -> None:
    pool = world.pool(Factory(OSError("1")))
    assert pool.status_of("962302") == CompanyState("down", 0.0, None)
    with pytest.raises(OSError, match="1"):
        await pool.get("962302")
    await world.time.advance(0.5)
    state = pool.status_of("962302")
    assert (state.status, state.retry_after) == ("down", 0.25)
    await world.time.advance(0.5)
    await pool.get("962302")
    assert pool.status_of("962302") == CompanyState("up", 0.0, state.last_end)


# Leases


async def test_a_lost_lease_closes_the_session_and_leaves_the_company_to_its_new_owner(
    world: World,
) -> None:
    factory = Factory()
    pool = world.pool(factory)
    session = await pool.get("962302")
    world.database.owners["962302"] = "there"
    session.auth.lease.lost.set()
    await idle()
    assert session.closed == 1
    await world.time.advance(1.0)
    assert pool.status() == {"962302": "down"}
    with pytest.raises(LeaseHeld, match="there"):
        await pool.get("962302")
    assert len(factory.calls) == 1
    world.database.owners.clear()


async def test_a_lost_lease_that_nobody_took_is_acquired_again_after_a_pause(world: World) -> None:
    factory = Factory()
    pool = world.pool(factory)
    session = await pool.get("962302")
    session.auth.lease.lost.set()
    await idle()
    assert len(factory.calls) == 1
    await world.time.advance(1.0)
    assert (await pool.get("962302")).auth.lease.token == 2


async def test_a_lease_lost_while_the_session_is_made_stops_the_factory(world: World) -> None:
    factory = Factory(gate())
    pool = world.pool(factory)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    world.database.opened[0].lease.lost.set()
    with pytest.raises(LeaseLost, match="962302"):
        await caller
    assert factory.running == 0


async def test_a_lease_lost_before_a_restart_is_acquired_anew(world: World) -> None:
    closing = gate()

    async def close_session(session: Session) -> None:
        await closing

    factory = Factory()
    pool = world.pool(factory, close_session=close_session)
    session = await pool.get("962302")
    pool.report("962302", 515)
    await idle()
    session.auth.lease.lost.set()
    closing.set_result(None)
    with pytest.raises(LeaseLost):
        await pool.get("962302")
    await world.time.advance(1.0)
    assert (await pool.get("962302")).auth.lease.token == 2
    assert len(factory.calls) == 2


async def test_an_auth_state_without_a_lease_works_too(world: World) -> None:
    class Plain:
        lease = None

        async def close(self) -> None:
            pass

    async def open_auth(company_id: str) -> Any:
        return Plain()

    pool = world.pool(Factory(), open_auth=open_auth)
    session = await pool.get("962302")
    pool.report("962302", 515)
    assert (await pool.get("962302")).auth is session.auth
