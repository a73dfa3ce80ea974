"""The tasks of a pool, and the code of its user that runs in them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from supabase_auth_state.errors import PoolError
from supabase_auth_state.rest.aio import finish_even_if_cancelled

from .ends import describe

log = logging.getLogger("supabase_auth_state")

T = TypeVar("T")

_CANCELLED_WITHIN = 30.0


class PoolTasks:
    """The tasks that a pool waits for before it is closed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._none_left = asyncio.Event()

    def spawn(self, work: Callable[..., Awaitable[T]], /, *args: Any) -> asyncio.Task[T]:
        """Call ``work`` in a task, in a later turn of the event loop.

        So nothing of ``work`` happens before this returns, whatever the loop's task factory: not in
        the middle of a change of state, nor inside a handler of the user that reports something.
        """
        task = asyncio.get_running_loop().create_task(_in_a_later_turn(work, *args))
        self._tasks.add(task)
        task.add_done_callback(self.forget)
        return task

    def forget(self, task: asyncio.Task[Any]) -> None:
        """Wait no longer for a task, whether or not it ends."""
        self._tasks.discard(task)
        if not self._tasks:
            self._none_left.set()

    async def have_ended(self) -> None:
        """Wait until no task is left."""
        while self._tasks:
            self._none_left.clear()
            await self._none_left.wait()


class UserCode:
    """Runs what the pool's user passed in, for one company.

    Whatever that code raises, it ends its own task alone. Only ``KeyboardInterrupt`` and
    ``SystemExit`` also end the program, as asyncio has it. What does not end is given up.

    Args:
        company_id: the company, for messages.
        tasks: where the code runs.
        sleep: waits so many seconds.
    """

    def __init__(
        self, company_id: str, tasks: PoolTasks, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._company_id = company_id
        self._tasks = tasks
        self._sleep = sleep

    def start(self, function: Callable[..., Awaitable[T]], *args: Any) -> asyncio.Task[T]:
        """Call a function in a task; `result_of` gives its outcome."""
        return self._tasks.spawn(function, *args)

    def result_of(self, task: asyncio.Task[T], what: str, *, within: float) -> T:
        """Return the result of a task, or raise its error as one that a caller can catch.

        Args:
            task: runs the user's code; one that has not ended is late.
            what: names the code in messages.
            within: the seconds it had.

        Raises:
            PoolError: it is late, was cancelled, or raised what is not an ``Exception``.
            Exception: whatever it raised.
        """
        if not task.done():
            reason = f"took longer than {within:g} s and was given up"
        elif task.cancelled():
            reason = "was cancelled from within"
        else:
            error = task.exception()
            if error is None or isinstance(error, Exception):
                return task.result()
            reason = f"raised {_class_of(error)}"
        raise PoolError(f"company {self._company_id!r}: {what} {reason}")

    async def call(
        self, what: str, within: float, function: Callable[..., object], *args: Any
    ) -> None:
        """Call a function, await what it returns if that can be awaited, and log what it raises.

        Args:
            what: names the function in messages.
            within: seconds after which it is cancelled.
            function: sync or async.
            args: what it is called with.
        """
        task = self._tasks.spawn(_called, function, *args)
        try:
            if await self.has_outcome(task, what, within):
                self.result_of(task, what, within=within)
        except Exception as error:  # noqa: BLE001 - the pool goes on
            log.error("company %s: %s failed (%s)", self._company_id, what, describe(error))

    async def has_outcome(self, task: asyncio.Task[Any], what: str, within: float) -> bool:
        """Wait so many seconds for a task, then cancel it. Return False if that was its end.

        A task that does not end although it was cancelled goes on by itself.
        """
        if await self._is_done(task, within):
            return True
        log.warning(
            "company %s: %s has not ended within %g s and is cancelled",
            self._company_id, what, within,
        )  # fmt: skip
        task.cancel()
        if await self._is_done(task, _CANCELLED_WITHIN):
            return not task.cancelled()
        log.error(
            "company %s: %s does not end, although it was cancelled; the pool goes on without it",
            self._company_id,
            what,
        )
        task.cancel()
        self._tasks.forget(task)
        return False

    async def _is_done(self, task: asyncio.Task[Any], within: float) -> bool:
        time_over = self._tasks.spawn(self._sleep, within)
        try:
            await asyncio.wait({task, time_over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            time_over.cancel()
        return task.done()


class ClosingQueue:
    """What a company's connection no longer hands out, closed one after the other in that order.

    Args:
        code: waits for tasks that were given up.
        tasks: where the closing runs, so that a cancelled caller does not interrupt it.
    """

    def __init__(self, code: UserCode, tasks: PoolTasks) -> None:
        self._code = code
        self._tasks = tasks
        self._closers: list[tuple[Callable[[], Awaitable[None]], asyncio.Future[None]]] = []

    def add(self, close: Callable[[T], Awaitable[None]], opened: T) -> asyncio.Future[None]:
        """Have something closed by ``close(opened)``, which must not raise.

        Returns:
            What is done when that has ended.
        """
        return self._add(partial(close, opened))

    def add_result_of(
        self,
        task: asyncio.Task[T],
        what: str,
        within: float,
        close: Callable[[T], Awaitable[None]],
    ) -> None:
        """Have a task ended that was given up, and closed what it returns in spite of that.

        Args:
            task: opens something. It is cancelled after ``within`` seconds.
            what: names it in messages.
            within: seconds.
            close: closes what it returns, and must not raise.
        """
        self._add(partial(self._close_result, task, what, within, close))

    async def close_all(self) -> None:
        """Close everything, also when this is cancelled meanwhile; one call at a time."""
        while self._closers:
            closer, ended = self._closers.pop(0)
            closing = self._tasks.spawn(closer)
            closing.add_done_callback(partial(_end, ended))
            await finish_even_if_cancelled(asyncio.wait({closing}))

    def _add(self, closer: Callable[[], Awaitable[None]]) -> asyncio.Future[None]:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closers.append((closer, ended))
        return ended

    async def _close_result(
        self,
        task: asyncio.Task[T],
        what: str,
        within: float,
        close: Callable[[T], Awaitable[None]],
    ) -> None:
        if not await self._code.has_outcome(task, what, within):
            task.add_done_callback(lambda late: self._close_late(late, close))
        elif _has_result(task):
            await close(task.result())

    def _close_late(self, task: asyncio.Task[T], close: Callable[[T], Awaitable[None]]) -> None:
        if _has_result(task):
            self._tasks.spawn(close, task.result())


def finished() -> asyncio.Future[None]:
    """Return what can be awaited and is done already."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


def _end(ended: asyncio.Future[None], _: asyncio.Task[None]) -> None:
    ended.set_result(None)


def _has_result(task: asyncio.Task[Any]) -> bool:
    return not task.cancelled() and task.exception() is None


def _class_of(error: BaseException) -> str:
    """Name the class of an error, and of those inside a group: their texts may hold secrets."""
    inside = sorted({_class_of(each) for each in getattr(error, "exceptions", ())})
    return f"{type(error).__name__} of {', '.join(inside)}" if inside else type(error).__name__


async def _in_a_later_turn(work: Callable[..., Awaitable[T]], *args: Any) -> T:
    await asyncio.sleep(0)
    return await work(*args)


async def _called(function: Callable[..., object], *args: Any) -> None:
    result = function(*args)
    if inspect.isawaitable(result):
        await result
