"""Reading a folder that no process writes to, and noticing when one does."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from supabase_auth_state.errors import FolderError, some_of
from supabase_auth_state.files.folder import FolderContents, FolderSnapshot, read_folder, snapshot

QUIET_SECONDS = 2.0

Sleep = Callable[[float], Awaitable[None]]


async def read_quiet_folder(
    folder: Path,
    *,
    quiet_for: float = QUIET_SECONDS,
    sleep: Sleep = asyncio.sleep,
    read: Callable[[Path], FolderContents] = read_folder,
) -> FolderContents:
    """Read a whole folder as it was at one moment.

    A folder that was changed within the last ``quiet_for`` seconds is looked at again when they
    are over. A client that is connected but idle cannot be seen this way; stop it first.

    Args:
        folder: the folder.
        quiet_for: seconds that the folder must have been left alone.
        sleep: waits so many seconds; a test passes its own.
        read: reads it.

    Raises:
        FolderError: it is no folder, or it changed while it was looked at.
    """
    contents = await asyncio.to_thread(read, folder)
    wait = quiet_for - (time.time() - _newest(contents.snapshot))
    if wait > 0:
        await sleep(min(wait, quiet_for))
    await refuse_if_changed(folder, contents.snapshot)
    return contents


def located(folder: str | os.PathLike[str]) -> Path:
    """Return the real path of a folder.

    Raises:
        FolderError: it is no path.
    """
    try:
        # Not `Path.resolve`, which raises RuntimeError for a symbolic link to itself.
        return Path(os.path.realpath(folder))
    except ValueError:
        problem = f"{str(folder)[:40]!r} is no path of a folder"
    raise FolderError(problem)


async def refuse_if_changed(folder: Path, since: FolderSnapshot) -> None:
    """Look at a folder once more, and refuse one that has changed.

    Raises:
        FolderError: files came, went or changed since.
    """
    now = await asyncio.to_thread(snapshot, folder)
    changed = now.changed_since(since)
    if not changed:
        return
    raise FolderError(
        f"{folder} is in use: {some_of(changed)} changed while it was looked at; stop the process "
        "that writes there, then try again",
        problems=[(name, "changed while it was looked at") for name in changed],
    )


def _newest(found: FolderSnapshot) -> float:
    # type, size, time of last change of the content in nanoseconds, …
    return max((facts[2] for facts in found.entries.values()), default=0) / 1e9
