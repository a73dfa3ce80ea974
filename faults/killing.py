"""Work in a forked child that is killed at its n-th request or file operation."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supabase_auth_state.errors import SupabaseAuthStateError
from supabase_auth_state.rest.requests import Sender

Work = Callable[[], Awaitable[Any]]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Python tells an audit hook of these before it does them.
_CHANGES = frozenset(
    {
        "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
        "os.truncate", "os.utime",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How the child ended.

    Attributes:
        killed_at: the point at which it was killed, or None when it came to its end.
        error: what the work raised, or None.
    """

    killed_at: str | None
    error: str | None = None


class Points:
    """Counts the points of this process, and kills it at one of them.

    A point is before and after every request, and before every file operation below a folder and
    at the end of the work. Between two points nothing is changed anywhere, so "after" a file
    operation is the next point.

    Args:
        folder: where file operations count.
        kill_at: the point, from 1; 0 for none.
        tell: gets the point's name.
    """

    def __init__(self, folder: Path, kill_at: int, tell: Callable[[str], None]) -> None:
        self._folder = str(folder)
        self._kill_at = kill_at
        self._tell = tell
        self._count = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        """Count from here on; there is no way back, so only in a child."""
        send, fsync = Sender._send, os.fsync  # noqa: SLF001 - the one place that sends

        async def counted_send(
            sender: Sender, what: str, built: Any, headers: Mapping[str, str], content: bytes | None
        ) -> Any:
            name = f"{built.http_method} {built.path}"
            self.reach(f"before {name}")
            answer = await send(sender, what, built, headers, content)
            self.reach(f"after {name}")
            return answer

        def counted_fsync(descriptor: Any) -> None:
            self.reach("before os.fsync")
            fsync(descriptor)

        Sender._send = counted_send  # type: ignore[assignment, method-assign]  # noqa: SLF001
        os.fsync = counted_fsync  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def reach(self, name: str) -> None:
        """Be at a point."""
        with self._lock:
            self._count += 1
            if self._count == self._kill_at:
                self._tell(name)
                os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if not isinstance(flags, int) or not flags & _WRITING:
                return
        elif event in _CHANGES:
            path = args[0]
        else:
            return
        if isinstance(path, (str, os.PathLike)):
            shown = os.fspath(path)
            # A path without a folder is one of rmtree's.
            if not os.path.isabs(shown) or shown.startswith(self._folder):  # noqa: PTH117
                self.reach(f"before {event}")


def run(work: Work, folder: Path, kill_at: int = 0) -> Ended:
    """Do work in a fork of this process, which may have neither threads nor an event loop.

    Args:
        work: what to do.
        folder: where file operations count.
        kill_at: the point at which to kill it, from 1; 0 for none.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(work, folder, kill_at, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        said = told.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and said:
        return Ended(said.decode())
    if not os.WIFEXITED(status) or os.WEXITSTATUS(status):
        raise RuntimeError(f"the child ended with status {status}: {said.decode()}")
    return Ended(None, json.loads(said)["error"])


def _be_child(work: Work, folder: Path, kill_at: int, writing: int) -> None:
    code = 1
    try:

        def tell(name: str) -> None:
            os.write(writing, name.encode())

        points = Points(folder, kill_at, tell)
        points.install()
        error = None
        try:
            asyncio.run(_whole(work))
            points.reach("the end")
        except SupabaseAuthStateError as raised:
            error = f"{type(raised).__name__}: {raised}"
        os.write(writing, json.dumps({"error": error}).encode())
        code = 0
    except BaseException as raised:  # noqa: BLE001 - a child must never return into its parent's code
        os.write(writing, repr(raised).encode())
    finally:
        os._exit(code)


async def _whole(work: Work) -> None:
    await work()
