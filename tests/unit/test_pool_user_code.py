"""Functions that a pool is given raise anything, or hang: one company is harmed, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from supabase_auth_state.errors import PoolError
from supabase_auth_state.pool.session_pool import SessionPool
from tests.eager import eager_task_factory
from tests.unit.simulated_pool import Database, Factory, Session, World, gate, idle, new_world

SECRET = "noiseKey=abc"


class Odd(BaseException):
    """No Exception, as some libraries' control flow is none."""


class OddGroup(Odd):
    """What BaseExceptionGroup is in Python 3.11: an error with errors in it."""

    def __init__(self, *exceptions: BaseException) -> None:
        super().__init__(SECRET)
        self.exceptions = exceptions


ODD = {
    "Odd": (Odd(SECRET), "raised Odd"),
    "GeneratorExit": (GeneratorExit(SECRET), "raised GeneratorExit"),
    "CancelledError": (asyncio.CancelledError(SECRET), "was cancelled from within"),
    "group": (OddGroup(Odd(SECRET), OSError(SECRET)), "raised OddGroup of OSError, Odd"),
}


@pytest.fixture(params=["lazy", "eager"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world that is empty again at the end, where tasks begin later or at once."""
    async with new_world(request.param) as opened:
        yield opened


async def outcomes(pool: SessionPool[Any], company_id: str) -> list[BaseException]:
    """Have three callers wait for a session that fails; their errors."""
    callers = [asyncio.create_task(pool.get(company_id)) for _ in range(3)]
    await asyncio.wait(callers)
    errors = [caller.exception() for caller in callers]
    return [error for error in errors if error is not None]


class Stubborn:
    """Something that goes on when it is cancelled a few times, until the test lets it end."""

    def __init__(self) -> None:
        self.end = gate()
        self.cancellations = 0

    async def run(self) -> None:
        while not self.end.done():
            try:
                await asyncio.shield(self.end)
            except asyncio.CancelledError:
                self.cancellations += 1
                if self.cancellations > 5:
                    raise


# Errors that are no Exception


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_factory_that_raises_no_exception_fails_its_waiters_once(
    world: World, name: str, when: str
) -> None:
    error, message = ODD[name]
    good = Factory()

    def bad(company_id: str, auth: Any) -> Any:
        if when == "at once":
            raise error
        return Factory(error)(company_id, auth)

    factories: list[Any] = [bad]

    def bad_once(company_id: str, auth: Any) -> Any:
        return (factories.pop() if factories else good)(company_id, auth)

    pool = world.pool(bad_once)
    errors = await outcomes(pool, "962302")
    assert [type(each) for each in errors] == [PoolError] * 3
    assert str(errors[0]) == f"company '962302': the factory {message}"
    assert (errors[0].__cause__, errors[0].__context__) == (None, None)
    assert world.database.owners == {}
    await world.time.advance(1.0)
    assert await pool.get("962302") is good.made[0]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("when", ["at once", "later"])
async def test_an_open_auth_that_raises_no_exception_fails_its_waiters_once(
    world: World, name: str, when: str
) -> None:
    error, message = ODD[name]
    errors_left = [error]
    open_auth = world.database.opener("here")

    async def later() -> Any:
        raise errors_left.pop()

    def bad_once(company_id: str) -> Any:
        if not errors_left:
            return open_auth(company_id)
        if when == "later":
            return later()
        raise errors_left.pop()

    factory = Factory()
    pool = world.pool(factory, open_auth=bad_once)
    errors = await outcomes(pool, "962302")
    assert [str(each) for each in errors] == [f"company '962302': open_auth {message}"] * 3
    await world.time.advance(1.0)
    assert await pool.get("962302") is factory.made[0]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_close_session_that_raises_no_exception_keeps_nothing_closed_or_leased(
    world: World, caplog: pytest.LogCaptureFixture, name: str, kind: str
) -> None:
    error, message = ODD[name]

    async def later() -> None:
        raise error

    def close_session(session: Session) -> Any:
        if kind == "async":
            return later()
        raise error

    factory = Factory()
    pool = world.pool(factory, close_session=close_session)
    await pool.get("962302")
    await pool.close("962302")
    assert world.database.owners == {}
    assert f"closing the session {message}" in caplog.text
    assert SECRET not in caplog.text
    assert await pool.get("962302") is factory.made[1]


@pytest.mark.parametrize("name", ODD)
async def test_an_auth_state_whose_close_raises_no_exception_is_opened_again(
    world: World, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    error, message = ODD[name]
    factory = Factory()
    pool = world.pool(factory)
    session = await pool.get("962302")
    close = session.auth.close

    async def close_badly() -> None:
        await close()
        raise error

    session.auth.close = close_badly
    await pool.close("962302")
    assert f"closing the auth state {message}" in caplog.text
    assert await pool.get("962302") is factory.made[1]


@pytest.mark.parametrize("tasks", ["lazy", "eager"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["open_auth", "factory", "close_session", "on_end"])
def test_what_ends_a_program_ends_it_and_gives_the_company_back(
    where: str, error: type[BaseException], tasks: str
) -> None:
    database = Database()

    def end(place: str) -> None:
        if place == where:
            raise error

    async def open_auth(company_id: str) -> Any:
        auth = await database.opener("here")(company_id)
        end("open_auth")
        return auth

    async def factory(company_id: str, auth: Any) -> Session:
        end("factory")
        return Session(company_id, auth)

    async def main() -> None:
        if tasks == "eager":
            asyncio.get_running_loop().set_task_factory(eager_task_factory)
        async with SessionPool(
            factory,
            open_auth=open_auth,
            close_session=lambda _: end("close_session"),
            on_end=lambda *_: end("on_end"),
        ) as pool:
            await pool.get("962302")
            pool.report("962302", 401)
            await gate()

    with pytest.raises(error):
        asyncio.run(main())
    left = {"962302": "here"} if where == "open_auth" else {}
    assert database.owners == left


def test_a_program_that_goes_on_after_the_end_of_a_task_can_use_the_company() -> None:
    """As one does whose framework catches SystemExit."""
    factory = Factory(SystemExit(7))
    with closing(asyncio.new_event_loop()) as loop:
        pool = SessionPool(factory, open_auth=Database().opener("here"), backoff_base=0.0)
        waiting = loop.create_task(pool.get("962302"))
        with pytest.raises(SystemExit):
            loop.run_until_complete(waiting)
        with pytest.raises(PoolError, match="the factory raised SystemExit"):
            loop.run_until_complete(waiting)
        assert loop.run_until_complete(pool.get("962302")) is factory.made[0]
        loop.run_until_complete(pool.close_all())


@pytest.mark.parametrize("turns", [0, 200])
async def test_a_program_that_cancels_every_other_task_can_use_the_company(
    world: World, turns: int
) -> None:
    """As some programs do at a restart of their own; the caller's wait goes on, shielded."""
    factory = Factory(gate())
    pool = world.pool(factory)
    attempt = pool._company("962302").open()
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await idle()
    with pytest.raises(PoolError, match="the pool's own task was cancelled"):
        attempt.result()
    factory.outcomes.clear()
    assert await pool.get("962302") is factory.made[0]


# What hangs


async def test_a_factory_that_hangs_gives_its_turn_to_other_companies(world: World) -> None:
    stuck = gate()
    factory = Factory(stuck)
    pool = world.pool(factory, max_creating=1)
    slow, quick = (asyncio.create_task(pool.get(company)) for company in ("slow", "quick"))
    await idle()
    assert factory.calls == ["slow"]
    await world.time.advance(9.9)
    assert factory.calls == ["slow"]
    await world.time.advance(0.1)
    assert (await quick).company_id == "quick"
    stuck.set_result(None)
    assert (await slow).company_id == "slow"
    assert factory.calls == ["slow", "quick"]


async def test_a_turn_that_was_given_up_is_not_given_back_twice(world: World) -> None:
    stuck = gate()
    factory = Factory(stuck)
    pool = world.pool(factory, max_creating=1)
    slow = asyncio.create_task(pool.get("slow"))
    await idle()
    await world.time.advance(10.0)
    stuck.set_result(None)
    await slow
    await asyncio.gather(*(pool.get(company) for company in "abc"))
    assert factory.most_running == 1


async def test_a_factory_that_hangs_fails_its_waiters_when_its_time_is_over(world: World) -> None:
    factory = Factory(gate())
    pool = world.pool(factory)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    await world.time.advance(10.0)
    await world.time.advance(169.9)
    assert not caller.done()
    await world.time.advance(0.1)
    with pytest.raises(PoolError, match=r"962302.*the factory took longer than 180 s"):
        await caller
    assert factory.running == 0
    assert world.database.owners == {}
    assert pool.status_of("962302").retry_after == pytest.approx(0.75)
    await world.time.advance(1.0)
    assert await pool.get("962302") is factory.made[0]


async def test_an_open_auth_that_hangs_fails_its_waiters_when_its_time_is_over(
    world: World,
) -> None:
    hanging = [gate()]
    open_auth = world.database.opener("here")

    async def hang_once(company_id: str) -> Any:
        if hanging:
            await hanging.pop()
        return await open_auth(company_id)

    factory = Factory()
    pool = world.pool(factory, open_auth=hang_once)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    for seconds in (10.0, 170.0, 30.0):
        assert not caller.done()
        await world.time.advance(seconds)
    with pytest.raises(PoolError, match="open_auth took longer than 180 s"):
        await caller
    await world.time.advance(1.0)
    assert await pool.get("962302") is factory.made[0]


async def test_what_an_open_auth_returns_after_its_time_is_closed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    late = Stubborn()
    open_auth = world.database.opener("here")

    async def open_late(company_id: str) -> Any:
        await late.run()
        return await open_auth(company_id)

    pool = world.pool(Factory(), open_auth=open_late)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    closing = asyncio.create_task(pool.close_all())
    await idle()
    await world.time.advance(30.0)
    assert not closing.done()
    await world.time.advance(30.0)
    await closing
    with pytest.raises(PoolError):
        await caller
    assert "962302: open_auth does not end" in caplog.text
    late.end.set_result(None)
    await idle()
    assert len(world.database.opened) == 1
    assert world.database.owners == {}


async def test_a_factory_that_ignores_its_cancellation_holds_up_no_close(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    late = Stubborn()
    factory = Factory(late.run())
    pool = world.pool(factory)
    caller = asyncio.create_task(pool.get("962302"))
    await idle()
    closing = asyncio.create_task(pool.close("962302"))
    for _ in range(2):
        await idle()
        assert not closing.done()
        await world.time.advance(30.0)
    await closing
    with pytest.raises(PoolError, match="closed while"):
        await caller
    assert world.database.owners == {}
    assert "962302: the factory does not end" in caplog.text
    again = await pool.get("962302")
    late.end.set_result(None)
    await idle()
    assert [session.closed for session in factory.made] == [0, 1]
    assert factory.made[0] is again


@pytest.mark.parametrize("ignores", [True, False])
async def test_a_session_that_does_not_close_holds_up_no_company(
    world: World, caplog: pytest.LogCaptureFixture, ignores: bool
) -> None:
    stubborn = Stubborn()

    async def close_session(session: Session) -> None:
        if not stubborn.end.done():
            await (stubborn.run() if ignores else gate())

    factory = Factory()
    pool = world.pool(factory, close_session=close_session)
    await pool.get("962302")
    again = asyncio.gather(pool.close("962302"), pool.get("962302"))
    await idle()
    for _ in range(1 + ignores):
        assert not again.done()
        await world.time.advance(30.0)
    assert (await again)[1] is factory.made[1]
    assert "962302: closing the session has not ended within 30 s" in caplog.text
    stubborn.end.set_result(None)


async def test_an_auth_state_that_does_not_close_holds_up_no_close(world: World) -> None:
    pool = world.pool(Factory())
    session = await pool.get("962302")
    close = session.auth.close

    async def hang() -> None:
        try:
            await gate()
        finally:
            await close()

    session.auth.close = hang
    closing = asyncio.create_task(pool.close("962302"))
    await idle()
    await world.time.advance(119.0)
    assert not closing.done()
    await world.time.advance(1.0)
    await closing
    assert world.database.owners == {}


# When a task takes its first step


async def test_functions_that_never_wait_make_a_session(world: World) -> None:
    class Auth:
        lease = None

        async def close(self) -> None:
            pass

    async def open_auth(company_id: str) -> Any:
        return Auth()

    async def factory(company_id: str, auth: Any) -> str:
        return company_id

    pool = world.pool(factory, open_auth=open_auth, close_session=lambda _: None, idle_after=9.0)
    assert await asyncio.gather(*(pool.get(company) for company in "aab")) == ["a", "a", "b"]
    pool.report("a", 515)
    assert pool.status() == {"a": "opening", "b": "up"}
    assert await pool.get("a") == "a"
    await pool.close("a")
    pool.serve(["a", "c"])
    await idle()
    assert pool.status() == {"a": "down", "b": "up", "c": "up"}


async def test_nothing_of_the_user_runs_before_a_call_that_does_not_wait_has_returned(
    world: World,
) -> None:
    calls: list[str] = []
    open_auth = world.database.opener("here")

    def close_session(session: Session) -> None:
        calls.append("close_session")

    async def open_and_tell(company_id: str) -> Any:
        calls.append("open_auth")
        return await open_auth(company_id)

    pool = world.pool(
        Factory(),
        open_auth=open_and_tell,
        close_session=close_session,
        on_end=lambda *_: calls.append("on_end"),
    )
    pool.serve(["a"])
    assert calls == []
    await idle()
    assert calls == ["open_auth"]
    pool.report("a", 440)
    assert calls == ["open_auth"]
    await idle()
    assert sorted(calls) == ["close_session", "on_end", "open_auth"]
