from __future__ import annotations

import asyncio

import pytest

from supabase_auth_state.rest.aio import finish_even_if_cancelled


class Work:
    """Something under way that ends when the test says so."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended = False

    async def run(self) -> str:
        try:
            return await self.outcome
        finally:
            self.ended = True


async def test_the_result_of_the_work_is_returned() -> None:
    work = Work()
    work.outcome.set_result("done")
    assert await finish_even_if_cancelled(work.run()) == "done"


async def test_an_error_of_the_work_is_raised() -> None:
    work = Work()
    work.outcome.set_exception(OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        await finish_even_if_cancelled(work.run())


@pytest.mark.parametrize("error", [None, OSError("disk full")])
async def test_however_often_the_caller_is_cancelled_the_work_ends_first(
    error: OSError | None,
) -> None:
    work = Work()
    caller = asyncio.create_task(finish_even_if_cancelled(work.run()))
    for _ in range(3):
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    if error is None:
        work.outcome.set_result("done")
    else:
        work.outcome.set_exception(error)
    await asyncio.wait({caller})
    assert work.ended
    assert caller.cancelled()


async def test_a_time_limit_of_the_caller_is_kept_after_the_work() -> None:
    work = Work()

    async def end_after_the_limit() -> str:
        asyncio.get_running_loop().call_later(0.01, work.outcome.set_result, "done")
        return await work.run()

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(finish_even_if_cancelled(end_after_the_limit()), 0.001)
    assert work.ended


async def test_work_that_is_cancelled_by_itself_is_told_as_a_cancellation() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await finish_even_if_cancelled(cancelled())
