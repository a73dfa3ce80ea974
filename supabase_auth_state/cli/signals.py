"""Being asked to stop: SIGINT and SIGTERM end a command, whatever it is doing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from .exits import INTERRUPTED, TERMINATED

if TYPE_CHECKING:
    import asyncio

END_WITHIN = 1.0
"""Seconds that a command has, once it is asked to stop, to give back what it holds."""

_CODES = {int(signal.SIGINT): INTERRUPTED, int(signal.SIGTERM): TERMINATED}
_WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}
_OVER = b"\0"


class _Request:
    """The signal that has arrived, and how it is passed on.

    Attributes:
        code: the exit code that it leads to, None before it arrives.
        ask: asks the running command to stop; None while there is none.
        put_back: a terminal's descriptor, and what is written there when the process ends at once.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self.ask: Callable[[], object] | None = None
        self.put_back: tuple[int, bytes] | None = None


# Signals are the process's, so there is one.
_request = _Request()


@contextlib.contextmanager
def heed_signals(*, within: float = END_WITHIN) -> Iterator[None]:
    """End this process upon SIGINT with code 130, upon SIGTERM with 143, while this is open.

    The command that `run` runs is asked to stop and has some time for it. The process ends at once
    when there is no command, when the time is over, and upon a second signal; also while its main
    thread is held up or other threads are at work. A signal that this process was told to ignore,
    as in the background of a shell, stays ignored.

    Args:
        within: the time in seconds.
    """
    if sys.platform == "win32":
        # Ctrl-C raises KeyboardInterrupt there.
        yield
        return
    _request.code = _request.ask = _request.put_back = None
    numbers, writer = os.pipe()
    os.set_blocking(writer, False)
    # Python runs handlers when the main thread has time for it, but writes to this pipe at once.
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in _CODES
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    descriptor = signal.set_wakeup_fd(writer)
    watcher = threading.Thread(target=_watch, args=(numbers, within), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writer, _OVER)
        watcher.join()
        os.close(writer)
        os.close(numbers)


def run(command: Coroutine[Any, Any, int]) -> int:
    """Run a command to its end and return its exit code: the signal's, if that has ended it."""
    import asyncio

    try:
        code = asyncio.run(_stoppable(command))
    except Exception:
        # A command that was stopped may fail to give back what it held: that is not why it ends.
        if _request.code is None:
            raise
        code = _request.code
    if code == _request.code:
        _say(_WORDS[code])
    return code


async def _stoppable(command: Coroutine[Any, Any, int]) -> int:
    import asyncio

    task = asyncio.ensure_future(command)
    _request.ask = _in_this_loop(task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if _request.code is None:
            raise
        return _request.code


@contextlib.contextmanager
def stop_request() -> Iterator[asyncio.Event]:
    """Give an event that a signal sets, where a command is to come to its end by itself."""
    import asyncio

    asked = asyncio.Event()
    cancel, _request.ask = _request.ask, _in_this_loop(asked.set)
    try:
        yield asked
    finally:
        _request.ask = cancel


@contextlib.contextmanager
def put_back_on_leaving(terminal: int, codes: bytes) -> Iterator[None]:
    """Have a terminal put back as it was when this process ends at once, while this is open.

    Args:
        terminal: its descriptor.
        codes: what puts it back, e.g. shows the cursor again.
    """
    before, _request.put_back = _request.put_back, (terminal, codes)
    try:
        yield
    finally:
        _request.put_back = before


def _in_this_loop(do: Callable[[], object]) -> Callable[[], object]:
    import asyncio

    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(do)


def _watch(numbers: int, within: float) -> None:
    code = _next_code(numbers)
    if code is None:
        return
    _request.code = code
    if _request.ask is None:
        _leave(code, _WORDS[code])
    # The loop is closed when the command has just ended.
    with contextlib.suppress(RuntimeError):
        _request.ask()
    ready, _, _ = select.select([numbers], [], [], within)
    if ready:
        second = _next_code(numbers)
        if second is None:
            return
        code = second
    _leave(code, f"{_WORDS[code]}; a lease that was not given back ends by itself")


def _next_code(numbers: int) -> int | None:
    """Wait for a signal; return the exit code that it leads to, None when there will be none."""
    while (number := os.read(numbers, 1)) != _OVER:
        code = _CODES.get(number[0])
        if code is not None:
            return code
    return None


def _leave(code: int, words: str) -> NoReturn:
    if _request.put_back is not None:
        _write(*_request.put_back)
    _say(words)
    os._exit(code)


def _say(words: str) -> None:
    if words:
        _write(2, f"{words}\n".encode())


def _write(descriptor: int, data: bytes) -> None:
    """Write if that can be done at once: whoever reads it may have stopped."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, data)
