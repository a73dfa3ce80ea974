"""Reading one file of an auth folder, strictly."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import Any

from supabase_auth_state.codec import Malformed, parse_json
from supabase_auth_state.errors import CodecError, FolderError, place

# Without O_NONBLOCK, a pipe is opened when a process opens its other end, which may be never.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_CHUNK = 16384
_OTHER_ENCODINGS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
    # JSON text begins with an ASCII character, so these show UTF-16 without a mark.
    (b"{\0", "UTF-16"),
    (b"\0{", "UTF-16"),
    (b"[\0", "UTF-16"),
    (b"\0[", "UTF-16"),
    (b'"\0', "UTF-16"),
    (b'\0"', "UTF-16"),
)


def kind_of(path: Path) -> int | None:
    """Return what is at a path, as ``stat.S_IFMT`` gives it, or None when nothing is.

    Raises:
        FolderError: it cannot be looked at, e.g. because a folder above it is closed to this user.
    """
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise FolderError(f"cannot look at {path}: {exc.strerror}") from exc


def read_document(path: Path) -> Any:
    """Return the JSON document in a file.

    Raises:
        Malformed: it is no file, or the file is empty, torn, not UTF-8 or not strict JSON.
        OSError: the file cannot be read at all.
    """
    return parse_document(read_beginning(path))


def read_beginning(path: Path, size: int = -1) -> bytes:
    """Return what a file holds, or its first ``size`` bytes.

    Raises:
        Malformed: it is no file, but a pipe or a device, for instance.
        OSError: it cannot be read at all.
    """
    descriptor = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Malformed("is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(size)
    finally:
        os.close(descriptor)


def read_content(folder: Path, name: str, size: int) -> bytes:
    """Return what a file of a folder holds.

    Args:
        folder: the folder.
        name: the file's name.
        size: how many bytes it is expected to hold.

    Raises:
        OSError: the file cannot be read.
    """
    # With a Path and a file object for each, 336 small files take 4.1 ms instead of 1.5 ms.
    descriptor = os.open(os.path.join(folder, name), _READ)  # noqa: PTH118
    try:
        content = os.read(descriptor, size + 1)
        # Only the end of a file makes a read shorter than what was asked for.
        if len(content) > size:
            content = b"".join([content, *iter(lambda: os.read(descriptor, _CHUNK), b"")])
        return content
    finally:
        os.close(descriptor)


def parse_document(content: bytes) -> Any:
    """Return the JSON document that a file holds; a UTF-8 byte order mark before it is left out.

    Raises:
        Malformed: as `read_document`.
    """
    if not content:
        raise Malformed("is empty")
    if not content.strip(b"\0"):
        raise Malformed("holds only zero bytes, as after a power failure")
    for beginning, encoding in _OTHER_ENCODINGS:
        if content.startswith(beginning):
            raise Malformed(f"is {encoding} text, and JSON files are UTF-8: save it as UTF-8")
    text = _text(content.removeprefix(codecs.BOM_UTF8))
    if text is None:
        raise Malformed("is not UTF-8")
    return parse_json(text)


def refuse_json_in_text(document: Any) -> None:
    """Refuse a document that is a JSON string with JSON text inside.

    Raises:
        Malformed: it is one.
    """
    if type(document) is str and document.startswith(("{", "[", '"')):
        raise Malformed("is JSON text inside a JSON string: it was encoded twice")


def reason_of(error: Malformed | CodecError) -> str:
    """Return what is wrong with a value and at which place inside it, without the value."""
    path = error.path if isinstance(error, CodecError) else error.path[::-1]
    return f"{place(path)}: {error.reason}" if path else error.reason


def _text(content: bytes) -> str | None:
    # Not raised from inside the except block: the error would carry the content along.
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None
