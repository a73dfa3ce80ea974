"""What asyncio itself does not offer. Imports nothing of this package."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def finish_even_if_cancelled(work: Awaitable[T]) -> T:
    """Await work to its end, also when the caller is cancelled meanwhile.

    The cancellation is raised after the work has ended, however it ended. Use it for what must not
    be left half done, or whose outcome must be known before a lock is given back.

    Args:
        work: a coroutine, a task or a future; it is not cancelled.

    Returns:
        The result of the work. An error of the work is raised as it is.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # asyncio logs an error that no one has asked for
    raise cancelled
