"""What an import may read: an auth folder, or the single JSON file of older Baileys."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from supabase_auth_state.codec import Malformed
from supabase_auth_state.errors import FolderError

from .folder import FolderContents, read_folder
from .formats import HEAD_BYTES, SINGLE_FILE, format_of_file, format_of_folder, is_telling
from .names import CREDS_FILE
from .reading import kind_of, read_beginning
from .single_file import read_single_file

# Enough to recognise a folder by; a browser profile has thousands of files.
_MAX_NAMES = 1000


def read_source(path: str | os.PathLike[str]) -> FolderContents:
    """Read an auth folder, or the single JSON file of ``useSingleFileAuthState``.

    Raises:
        FolderError: it is neither, or cannot be read; the message says what it is, if that is
            recognised, and what to do instead.
    """
    source = Path(path)
    if kind_of(source) == stat.S_IFREG:
        return _read_file(source)
    contents = read_folder(source)
    if contents.creds is None and not (contents.keys or contents.advice):
        _refuse_other_format(source)
    return contents


def _read_file(file: Path) -> FolderContents:
    found = format_of_file(file.name, _head(file))
    if found is SINGLE_FILE:
        return read_single_file(file)
    reason = f"{found.what}: {found.instead}" if found is not None else "is a file"
    where = f" (this one is in {file.parent})" if file.name == CREDS_FILE else ""
    raise FolderError(
        f"{file} {reason}. An auth folder is the folder that Baileys' useMultiFileAuthState "
        f"writes, with {CREDS_FILE} and one file per key{where}"
    )


def _refuse_other_format(folder: Path) -> None:
    try:
        names = list(islice(_names(folder), _MAX_NAMES))
        telling = [name for name in names if "/" not in name and is_telling(name)]
        found = format_of_folder(names, dict(_heads(folder, telling)))
    except OSError:
        return
    if found is not None:
        name, other = found
        raise FolderError(
            f"{folder} is no auth folder, since it has no {CREDS_FILE}: {name} in it {other.what}; "
            f"{other.instead}"
        )


def _head(path: Path) -> bytes:
    try:
        return read_beginning(path, HEAD_BYTES)
    except Malformed as exc:
        reason = exc.reason
    except OSError as exc:
        raise FolderError(f"cannot read {path}: {exc.strerror}") from exc
    raise FolderError(f"cannot read {path}: it {reason}")


def _heads(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and first bytes of those that are files and can be read."""
    for name in names:
        with suppress(FolderError):
            yield name, _head(folder / name)


def _names(folder: Path) -> Iterator[str]:
    """Yield the names in a folder, and those in its subfolders with a slash."""
    for entry in sorted(folder.iterdir()):
        yield entry.name
        if entry.is_dir() and not entry.is_symlink():
            yield from (f"{entry.name}/{inside.name}" for inside in sorted(entry.iterdir()))
