"""Tasks that take their first step at once, as by ``asyncio.eager_task_factory``."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any


def _first_step_at_once(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """Do what it does in Python 3.12, but for the current task, which is the caller's at first."""
    context = options.pop("context", None) or contextvars.copy_context()
    if not loop.is_running():
        return _task(coro, loop, context, options)
    try:
        awaited = context.run(coro.send, None)
    except StopIteration as end:
        work = _ended(end.value)
    except Exception as error:  # noqa: BLE001 - the task raises it
        work = _failed(error)
    else:
        work = _continued(coro, awaited)
    return _task(work, loop, context, options)


def _task(
    work: Coroutine[Any, Any, Any],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    options: dict[str, Any],
) -> asyncio.Task[Any]:
    if sys.version_info >= (3, 11):
        return asyncio.Task(work, loop=loop, context=context, **options)
    return context.run(lambda: asyncio.Task(work, loop=loop, **options))


async def _ended(result: Any) -> Any:
    return result


async def _failed(error: Exception) -> Any:
    raise error


async def _continued(coro: Coroutine[Any, Any, Any], awaited: Any) -> Any:
    return await _other_steps(coro, awaited)


@types.coroutine
def _other_steps(coro: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    while True:
        thrown: BaseException | None = None
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001 - it is for the coroutine
            thrown = error
        try:
            awaited = coro.send(None) if thrown is None else coro.throw(thrown)
        except StopIteration as end:
            return end.value


def eager_task_factory(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """Make a task that takes its first step at once.

    uvloop 0.23 passes ``eager_start``, which the factory of Python 3.12 and 3.13.0 does not know.
    """
    options.pop("eager_start", None)
    make: Any = getattr(asyncio, "eager_task_factory", _first_step_at_once)
    return make(loop, coro, **options)
