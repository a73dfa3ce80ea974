"""Files that hold the old content or the new after a crash, never a part of either."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

_PRIVATE_FILE = 0o600


def write_new(path: Path, text: str, *, mtime: float | None = None) -> None:
    """Create a file of mode 0600; it is on disk when this returns.

    Args:
        path: the file.
        text: its content.
        mtime: the time of last change to give it, in seconds since 1970.

    Raises:
        FileExistsError: there is one already, or one whose name differs only in case and the file
            system does not distinguish them.
        OSError: it cannot be written.
    """
    _write(path, text)
    if mtime is not None:
        nanoseconds = int(mtime) * 10**9 + round(mtime % 1 * 1e9)
        os.utime(path, ns=(nanoseconds, nanoseconds))
    _sync(path)


def replace(folder: Path, contents: Mapping[str, str], removed: Iterable[str] = ()) -> None:
    """Write new contents to files of a folder and remove others; it is on disk when this returns.

    Each file is written beside its target first (``entries`` knows the name) and renamed at the
    end, so that a crash leaves whole files. Which of several have been renamed by then depends on
    the file system.
    """
    token = secrets.token_hex(4)
    beside = {name: folder / f".{token}-{index}.tmp" for index, name in enumerate(contents)}
    try:
        for name, text in contents.items():
            _write(beside[name], text)
        for path in beside.values():
            _sync(path)
        for name, path in beside.items():
            path.replace(folder / name)
    except BaseException:
        for path in beside.values():
            path.unlink(missing_ok=True)
        raise
    for name in removed:
        (folder / name).unlink(missing_ok=True)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Write changes of a folder's names to disk; Windows does that by itself."""
    if os.name != "nt":
        _sync(folder, os.O_RDONLY)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())


def _sync(path: Path, flag: int = os.O_RDWR) -> None:
    descriptor = os.open(path, flag)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
