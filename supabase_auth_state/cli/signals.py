"""Being asked to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any

from .exits import TERMINATED


async def until_stopped() -> None:
    """Return when SIGINT or SIGTERM asks this process to stop."""
    stopped = asyncio.Event()
    with _handling(stopped.set, signal.SIGINT, signal.SIGTERM):
        await stopped.wait()


async def terminable(command: Coroutine[Any, Any, int]) -> int:
    """Run a command so that SIGTERM ends it as Ctrl-C does: what it holds is given back."""
    task = asyncio.ensure_future(command)
    terminated: list[bool] = []

    def terminate() -> None:
        terminated.append(task.cancel())

    with _handling(terminate, signal.SIGTERM):
        try:
            return await task
        except asyncio.CancelledError:
            if terminated:
                return TERMINATED
            raise
        finally:
            # Cancelled from outside: the command gives back what it holds before its loop ends.
            task.cancel()
            await asyncio.wait([task])


@contextlib.contextmanager
def _handling(do: Any, *signals: signal.Signals) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = []
    for number in signals:
        # Windows has no such handlers; there, the process just ends.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, do)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
