"""Copies of ``creds.json`` beside one that is missing or damaged.

Hosts of Baileys write such copies before they save creds, and writers that were interrupted leave
the new creds in a file beside the old. A copy is never used silently: creds that are older than the
keys make Baileys give out pre-key ids a second time. So the message says what there is,
and how to use it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from supabase_auth_state import codec
from supabase_auth_state.errors import CodecError

from .entries import is_creds_copy
from .names import CREDS_FILE, parse_file_name
from .reading import read_document, reason_of

_DAMAGED_FILE = f"{CREDS_FILE}.damaged"
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True)
class CredsCopy:
    """A copy of ``creds.json``.

    Attributes:
        name: the file's name.
        mtime: when it was last changed, in seconds since 1970.
        fault: why it cannot be used, or None when it can be read as whole creds.
        next_pre_key_id: its ``nextPreKeyId``, when there is one.
    """

    name: str
    mtime: float
    fault: str | None = None
    next_pre_key_id: int | None = None


def find_copies(folder: Path, names: Iterable[str]) -> list[CredsCopy]:
    """Return the copies of ``creds.json`` among the files of a folder, the newest first."""
    copies = [_look_at(folder / name) for name in names if is_creds_copy(name)]
    found = [copy for copy in copies if copy is not None]
    return sorted(found, key=lambda copy: copy.mtime, reverse=True)


def _look_at(path: Path) -> CredsCopy | None:
    try:
        if path.is_symlink() or not path.is_file():
            return None
        mtime = path.stat().st_mtime
        document = read_document(path)
        creds = codec.decode_creds(document, company_id=None)
        codec.check_creds(creds, company_id=None)
    except (codec.Malformed, CodecError) as exc:
        return CredsCopy(path.name, mtime, reason_of(exc))
    except OSError as exc:
        return CredsCopy(path.name, 0.0, f"cannot be read ({exc.strerror})")
    next_id = creds.get("nextPreKeyId")
    return CredsCopy(path.name, mtime, None, next_id if type(next_id) is int else None)


def advice_on(folder: Path, copies: Sequence[CredsCopy], names: Iterable[str]) -> str:
    """Return what the copies are, and how the newest whole one is used; "" without copies.

    Args:
        folder: the folder.
        copies: what `find_copies` returned.
        names: the names of the folder's files.
    """
    if not copies:
        return ""
    now = time.time()
    found = f"Beside it, {'; '.join(_described(copy, now) for copy in copies)}"
    whole = [copy for copy in copies if copy.fault is None]
    return f"{found}. {_how_to_use(folder, whole[0], names)}" if whole else found


def _described(copy: CredsCopy, now: float) -> str:
    age = f"{copy.name} is {_duration(now - copy.mtime)} old"
    if copy.fault is None:
        return f"{age} and can be read as whole creds"
    return f"{age} and cannot be used ({copy.fault})"


def _how_to_use(folder: Path, copy: CredsCopy, names: Iterable[str]) -> str:
    names = set(names)
    target = folder / CREDS_FILE
    commands = [f"cp -p {shlex.quote(str(folder / copy.name))} {shlex.quote(str(target))}"]
    if CREDS_FILE in names:
        aside = shlex.quote(str(folder / _DAMAGED_FILE))
        commands.insert(0, f"mv {shlex.quote(str(target))} {aside}")
    newest = max((_pre_key_id(name) for name in names), default=0)
    how = f"To use {copy.name}: {' && '.join(commands)}"
    if copy.next_pre_key_id is None or copy.next_pre_key_id > newest:
        return how
    return (
        f"{how}. But it is older than the keys: its nextPreKeyId is {copy.next_pre_key_id}, and "
        f"there is a pre-key {newest}, so ids of pre-keys would be used twice; linking the device "
        "anew is safer"
    )


def _pre_key_id(name: str) -> int:
    ref = parse_file_name(name)
    return int(ref.key_id) if ref is not None and ref.key_type == "pre-key" else 0


def _duration(seconds: float) -> str:
    for unit, name in _UNITS:
        count = int(seconds // unit)
        if count > 0:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "0 seconds"
