"""Files that a crash leaves with the old content or the new, never with half of either."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from supabase_auth_state.codec.bufferjson import Malformed
from supabase_auth_state.codec.json_text import parse_json

_PRIVATE_FILE = 0o600
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_CHUNK = 16384


def read_document(path: Path) -> Any:
    """Return the JSON document in a file.

    Raises:
        Malformed: the file is empty, torn, not UTF-8 or not strict JSON.
        OSError: the file cannot be read at all.
    """
    return parse_document(path.read_bytes())


def read_content(folder: Path, name: str, size: int) -> bytes:
    """Return what a file of a folder holds.

    Args:
        folder: the folder.
        name: the file's name.
        size: how many bytes it is expected to hold.

    Raises:
        OSError: the file cannot be read.
    """
    # A Path and a file object for each of many small files take three times as long as to read it.
    descriptor = os.open(os.path.join(folder, name), _READ)  # noqa: PTH118
    try:
        content = os.read(descriptor, size + 1)
        # Only the end of a file cuts a read short.
        if len(content) > size:
            content = b"".join([content, *iter(lambda: os.read(descriptor, _CHUNK), b"")])
        return content
    finally:
        os.close(descriptor)


def parse_document(content: bytes) -> Any:
    """Return the JSON document that a file holds.

    Raises:
        Malformed: as `read_document`.
    """
    if not content:
        raise Malformed("is empty")
    text = _text(content)
    if text is None:
        raise Malformed("is not UTF-8")
    return parse_json(text)


def _text(content: bytes) -> str | None:
    # Not raised from inside the except block: the error would carry the content along.
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def write_new(path: Path, text: str, *, mtime: float | None = None) -> None:
    """Create a file of mode 0600, on disk when this returns.

    Args:
        path: where.
        text: what.
        mtime: the time of last change to give it, in seconds since 1970.

    Raises:
        FileExistsError: there is one already, or one whose name differs only in case and the file
            system does not tell them apart.
        OSError: it cannot be written.
    """
    _write(path, text)
    if mtime is not None:
        nanoseconds = int(mtime) * 10**9 + round(mtime % 1 * 1e9)
        os.utime(path, ns=(nanoseconds, nanoseconds))
    _sync(path)


def replace(folder: Path, contents: Mapping[str, str], removed: Iterable[str] = ()) -> None:
    """Give files of a folder new contents and remove others, on disk when this returns.

    Each file is written beside its target first and takes its place at the end, so that a crash
    leaves whole files. Which of several have been replaced by then is up to the file system.
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
    """Make names created, changed and removed in a folder last; Windows does that by itself."""
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
