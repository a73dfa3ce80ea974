"""Tasks do no harm to each other: pools, closings, cancellations, and when a task begins."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from faults.actions import answer_delayed, delayed
from faults.proxy import Proxy
from faults.requests import is_lease, is_read, is_write
from supabase_auth_state import PoolError, Rest, SessionPool, use_supabase_auth_state
from tests.attacks.conftest import Open
from tests.attacks.world import (
    OTHER,
    SESSION,
    Db,
    contents,
    difference,
    lease_of,
    outcome,
    read,
    seed,
    session,
)


class Odd(BaseException):
    """What a factory may raise that is no Exception."""


RAISED = [Odd("x"), asyncio.CancelledError(), GeneratorExit(), ValueError("x")]


@pytest.mark.parametrize("error", RAISED, ids=[type(error).__name__ for error in RAISED])
async def test_a_factory_that_raises_anything_fails_its_waiters_and_no_later_ones(
    direct: Rest, db: Db, company_id: str, error: BaseException
) -> None:
    errors: list[BaseException | None] = [error]

    async def factory(company: str, auth: Any) -> str:
        raised = errors.pop() if errors else None
        if raised is not None:
            raise raised
        return "session"

    pool = SessionPool(factory, client=direct, backoff_base=0.01, backoff_cap=0.01)
    waiting = [asyncio.ensure_future(pool.get(company_id)) for _ in range(3)]
    done, pending = await asyncio.wait(waiting, timeout=20)
    assert not pending
    assert all(task.cancelled() or task.exception() is not None for task in done)
    assert await asyncio.wait_for(pool.get(company_id), 20) == "session"
    await asyncio.wait_for(pool.close_all(), 20)
    assert not lease_of(db, company_id)[1]


async def test_factories_that_hang_leave_room_for_other_companies(
    direct: Rest, company_id: str
) -> None:
    hanging = asyncio.Event()

    async def factory(company: str, auth: Any) -> str:
        if "hangs" in company:
            await hanging.wait()
        return company

    pool = SessionPool(factory, client=direct, max_creating=1)
    stuck = [asyncio.ensure_future(pool.get(f"{company_id}-hangs"))]
    await asyncio.sleep(0)
    try:
        assert await asyncio.wait_for(pool.get(f"{company_id}-other"), 90) == f"{company_id}-other"
    finally:
        hanging.set()
        await asyncio.gather(*stuck, return_exceptions=True)
        await pool.close_all()


async def test_a_waiter_that_is_cancelled_takes_no_other_with_it(
    direct: Rest, company_id: str
) -> None:
    going_on = asyncio.Event()

    async def factory(company: str, auth: Any) -> str:
        await going_on.wait()
        return "session"

    pool = SessionPool(factory, client=direct)
    waiting = [asyncio.ensure_future(pool.get(company_id)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    going_on.set()
    assert await asyncio.gather(*waiting[1:]) == ["session", "session"]
    await pool.close_all()
    with pytest.raises(PoolError):
        await pool.get(company_id)


# Closing, and others at work


@pytest.mark.parametrize("what", ["read", "write"])
async def test_a_close_that_is_given_up_cancels_no_request_of_another_task(
    proxy: Proxy, open_auth: Open, company_id: str, what: str
) -> None:
    auth = await open_auth(lease=True)
    await auth.keys.set({"session": {SESSION: session("old")}})
    event = asyncio.Event()
    rule = proxy.on(is_read if what == "read" else is_write, delayed(event), times=1)
    work = (
        auth.keys.get("session", [OTHER])
        if what == "read"
        else auth.keys.set({"session": {SESSION: session("new")}})
    )
    working = asyncio.ensure_future(work)
    await rule.reached()
    closing = asyncio.ensure_future(auth.close())
    await asyncio.sleep(0)
    closing.cancel()
    assert isinstance((await outcome(closing)).error, asyncio.CancelledError)
    event.set()
    assert (await outcome(working)).acknowledged
    await auth.close()


async def test_a_close_that_is_given_up_is_finished_by_the_next_one(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    event = asyncio.Event()
    rule = proxy.on(is_lease, delayed(event), times=1)
    closing = asyncio.ensure_future(auth.close())
    await rule.reached()
    closing.cancel()
    await outcome(closing)
    event.set()
    await auth.close()
    assert lease_of(db, company_id) == (None, False)


async def test_a_read_that_is_cancelled_takes_no_joined_read_with_it(
    proxy: Proxy, open_auth: Open
) -> None:
    auth = await open_auth()
    await auth.keys.set({"session": {SESSION: session("one"), OTHER: session("two")}})
    event = asyncio.Event()
    rule = proxy.on(is_read, answer_delayed(event), times=1)
    first, second = (
        asyncio.ensure_future(auth.keys.get("session", [key_id])) for key_id in (SESSION, OTHER)
    )
    await rule.reached()
    first.cancel()
    event.set()
    assert await second == {OTHER: session("two")}
    assert (await outcome(first)).error is not None


async def test_writes_that_are_joined_fail_or_succeed_each_for_itself_when_one_is_cancelled(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str
) -> None:
    auth = await open_auth()
    event = asyncio.Event()
    rule = proxy.on(is_write, delayed(event), times=1)
    running = asyncio.ensure_future(auth.keys.set({"session": {"before.0": session("x")}}))
    await rule.reached()
    joined = [
        asyncio.ensure_future(auth.keys.set({"session": {key_id: session("new")}}))
        for key_id in (SESSION, OTHER)
    ]
    await asyncio.sleep(0)
    joined[0].cancel()
    running.cancel()
    event.set()
    await joined[1]
    assert contents(db, company_id)[f"session {OTHER}"] == session("new")
    await auth.keys.settle()


# When a task takes its first step


def first_step_at_once(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """A task factory that takes the first step at once, as Python 3.12's eager one does."""
    first: asyncio.Future[Any] = asyncio.Future(loop=loop)
    task: asyncio.Task[Any] = asyncio.Task(_after(first, coro), loop=loop, **options)
    outer = asyncio.current_task(loop)
    if outer is not None:
        asyncio.tasks._leave_task(loop, outer)
    asyncio.tasks._enter_task(loop, task)
    try:
        first.set_result((False, coro.send(None)))
    except StopIteration as end:
        first.set_result((True, end.value))
    except BaseException as error:  # noqa: BLE001 - the task raises it
        first.set_exception(error)
    finally:
        asyncio.tasks._leave_task(loop, task)
        if outer is not None:
            asyncio.tasks._enter_task(loop, outer)
    return task


@types.coroutine
def _after(first: asyncio.Future[Any], coro: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    ended, awaited = first.result()
    while not ended:
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001 - it is meant for the coroutine
            step: Callable[[Any], Any] = coro.throw
            given: Any = error
        else:
            step, given = coro.send, sent
        try:
            awaited = step(given)
        except StopIteration as end:
            return end.value
    return awaited


EAGER = getattr(asyncio, "eager_task_factory", first_step_at_once)


async def test_with_an_eager_task_factory_reads_writes_renewals_and_closings_work(
    direct: Rest, db: Db, company_id: str
) -> None:
    asyncio.get_running_loop().set_task_factory(EAGER)
    try:
        async with asyncio.timeout(30):
            auth = await use_supabase_auth_state(company_id, client=direct, lease=True)
            await seed(auth)
            await asyncio.gather(
                *(auth.keys.set({"session": {f"{n}.0": session(str(n))}}) for n in range(20))
            )
            found = await asyncio.gather(
                *(auth.keys.get("session", [f"{n}.0"]) for n in range(20)),
                auth.keys.get("session", ["unknown"]),
            )
            assert found[:-1] == [{f"{n}.0": session(str(n))} for n in range(20)]
            await auth.lease.renew()
            await auth.save_creds()
            stored = contents(db, company_id)
            mine = {name: stored[name] for name in await read(auth)}
            assert difference("read", await read(auth), mine) is None
            await auth.close()
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert lease_of(db, company_id) == (None, False)


async def test_with_an_eager_task_factory_reads_past_the_memory_work(
    direct: Rest, company_id: str
) -> None:
    asyncio.get_running_loop().set_task_factory(EAGER)
    try:
        async with asyncio.timeout(30):
            auth = await use_supabase_auth_state(company_id, client=direct)
            await auth.keys.set({"session": {SESSION: session("one")}})
            reads = [auth.keys.get("session", [SESSION]) for _ in range(5)]
            assert await asyncio.gather(*reads) == [{SESSION: session("one")}] * 5
            await auth.close()
    finally:
        asyncio.get_running_loop().set_task_factory(None)


async def test_with_an_eager_task_factory_a_pool_gives_and_closes_sessions(
    direct: Rest, db: Db, company_id: str
) -> None:
    async def factory(company: str, auth: Any) -> str:
        await auth.keys.set({"session": {SESSION: session("one")}})
        return company

    asyncio.get_running_loop().set_task_factory(EAGER)
    try:
        async with asyncio.timeout(30), SessionPool(factory, client=direct) as pool:
            companies = [f"{company_id}-{n}" for n in range(5)]
            assert await asyncio.gather(*map(pool.get, companies)) == companies
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert not any(lease_of(db, company)[1] for company in companies)
