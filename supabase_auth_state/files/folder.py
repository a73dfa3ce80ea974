"""A whole auth folder of Baileys' ``useMultiFileAuthState``: read strictly, written safely.

One file per value, ``<type>-<id>.json``, and ``creds.json``; no index, no subfolders. Baileys takes
a file that it cannot read for a missing one. Here, every file is either understood or reported by
name.

App state key ids differ in case alone, so the file system has to tell ``A`` from ``a``.

Source: Baileys 7.0.0-rc14 and 6.7.24, ``src/Utils/use-multi-file-auth-state.ts``.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.codec.bufferjson import Malformed
from supabase_auth_state.codec.json_text import dump_json
from supabase_auth_state.errors import CodecError, FolderError
from supabase_auth_state.types import Creds, Value

from .atomic import parse_document, read_content, sync_folder, write_new
from .multi_file import FolderAuthState, use_multi_file_auth_state
from .names import CREDS_FILE, KeyRef, colliding, file_name, parse_file_name

__all__ = [
    "FolderAuthState",
    "FolderContents",
    "FolderKey",
    "FolderSnapshot",
    "read_files",
    "read_folder",
    "snapshot",
    "use_multi_file_auth_state",
    "write_folder",
]

Problem = tuple[str, str]
"""A file name and what is wrong with the file."""


@dataclass(frozen=True)
class FolderKey:
    """One key as a folder holds it.

    Attributes:
        ref: type and id.
        value: the Python value, ``bytes`` for Buffers.
        mtime: when it was last changed, in seconds since 1970, or None.
        document: the JSON value that the file holds, when it was read from one; where there are no
            bytes in it, the very object that ``value`` is.
    """

    ref: KeyRef
    value: Value = field(repr=False)
    mtime: float | None = None
    document: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class FolderSnapshot:
    """What the file system says about a folder at one moment, without contents.

    Attributes:
        entries: by name: type, size, times of change in nanoseconds, and inode.
    """

    entries: dict[str, tuple[int, ...]]

    def changed_since(self, earlier: FolderSnapshot) -> list[str]:
        """Return the names that came, went or changed between ``earlier`` and this one, sorted."""
        if self.entries == earlier.entries:
            return []
        names = self.entries.keys() | earlier.entries.keys()
        return sorted(n for n in names if self.entries.get(n) != earlier.entries.get(n))


@dataclass
class FolderContents:
    """Everything that was found in a folder.

    Attributes:
        snapshot: the folder just before it was read.
        creds: the creds, or None when there is no ``creds.json`` or it is among the problems.
        creds_mtime: when they were last changed, in seconds since 1970.
        creds_document: the JSON value that ``creds.json`` holds.
        keys: every key that was understood, in the order of file names.
        problems: file name and reason of each file that was not.
        ignored: names of hidden files, of ``lost+found`` and of files that are not ``.json``;
            Baileys does not look at them.
        raw: by name, what the files held that were read.
    """

    snapshot: FolderSnapshot = field(repr=False)
    creds: Creds | None = field(default=None, repr=False)
    creds_mtime: float | None = None
    creds_document: Any = field(default=None, repr=False)
    keys: list[FolderKey] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    raw: dict[str, bytes] = field(default_factory=dict, repr=False)


def snapshot(path: str | os.PathLike[str]) -> FolderSnapshot:
    """Look at a folder's names, sizes and times; a later look tells what has changed since.

    Raises:
        FolderError: it is not a folder, or cannot be listed.
    """
    folder = Path(path)
    try:
        with os.scandir(folder) as entries:
            return FolderSnapshot({e.name: _facts(e.stat(follow_symlinks=False)) for e in entries})
    except OSError as exc:
        raise FolderError(f"cannot list the auth folder {folder}: {exc.strerror}") from exc


def _facts(found: os.stat_result) -> tuple[int, ...]:
    kind = stat.S_IFMT(found.st_mode)
    return kind, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def read_folder(path: str | os.PathLike[str]) -> FolderContents:
    """Read a whole auth folder; a file that is not exactly what Baileys writes becomes a problem.

    Reported are files that are empty, torn, not UTF-8 or not strict JSON (a name twice, a number
    that is not finite); whose name is not a key's, or does not come out again from the key it
    stands for; whose value is not whole under its type; and subfolders, links and devices. A
    missing ``creds.json`` is no problem: ``creds`` is None then.

    The contents are of one moment only if nothing has ``changed_since(contents.snapshot)``
    afterwards.

    Raises:
        FolderError: it is not a folder, or cannot be listed.
    """
    folder = Path(path)
    contents = FolderContents(snapshot(folder))
    for name, facts in sorted(contents.snapshot.entries.items()):
        if _is_foreign(name, facts[0]):
            contents.ignored.append(name)
            continue
        reason = _add_file(contents, folder, name, facts)
        if reason:
            contents.problems.append((name, reason))
    return contents


def _is_foreign(name: str, kind: int) -> bool:
    if name.startswith(".") or name == "lost+found":
        return True
    return stat.S_ISREG(kind) and not name.endswith(".json")


def read_files(files: Mapping[str, tuple[bytes, float]]) -> FolderContents:
    """Read the files of an auth folder that are in memory, as `read_folder` reads those on disk.

    Args:
        files: content and time of last change, in seconds since 1970, by name.

    Returns:
        What was found; its ``snapshot`` is empty.
    """
    contents = FolderContents(FolderSnapshot({}))
    for name, (content, mtime) in sorted(files.items()):
        if _is_foreign(name, stat.S_IFREG):
            contents.ignored.append(name)
            continue
        reason = _add_content(contents, name, content, mtime)
        if reason:
            contents.problems.append((name, reason))
    return contents


def _add_file(
    contents: FolderContents, folder: Path, name: str, facts: tuple[int, ...]
) -> str | None:
    """Add what a file holds to ``contents``, or return what is wrong with the file."""
    kind, size, mtime = facts[0], facts[1], facts[2] / 10**9
    if not stat.S_ISREG(kind):
        return "is not a regular file"
    try:
        contents.raw[name] = content = read_content(folder, name, size)
    except OSError as exc:
        return f"cannot be read ({exc.strerror})"
    return _add_content(contents, name, content, mtime)


def _add_content(contents: FolderContents, name: str, content: bytes, mtime: float) -> str | None:
    ref = parse_file_name(name)
    if ref is None and name != CREDS_FILE:
        return "has a name that is not that of exactly one key"
    try:
        document = parse_document(content)
        if ref is None:
            contents.creds, contents.creds_mtime = _creds_of(document), mtime
            contents.creds_document = document
        else:
            value = _value_of(document, ref)
            contents.keys.append(FolderKey(ref, value, mtime, document))
    except Malformed as exc:
        return exc.reason
    except CodecError as exc:
        return ": ".join([*(str(part) for part in exc.path), exc.reason])
    return None


def _creds_of(document: Any) -> Creds:
    creds = codec.decode_creds(document, company_id=None)
    codec.check_creds(creds, company_id=None)
    _refuse_rewritten(document, codec.encode_creds(creds, company_id=None))
    return creds


def _value_of(document: Any, ref: KeyRef) -> Value:
    if codec.is_plain(document, key_type=ref.key_type):
        codec.check(document, company_id=None, key_type=ref.key_type, key_id=ref.key_id)
        return document
    value = codec.decode(document, company_id=None, key_type=ref.key_type, key_id=ref.key_id)
    codec.check(value, company_id=None, key_type=ref.key_type, key_id=ref.key_id)
    encoded = codec.encode(value, company_id=None, key_type=ref.key_type, key_id=ref.key_id)
    _refuse_rewritten(document, encoded)
    return value


def _refuse_rewritten(document: Any, encoded: Any) -> None:
    # A repair is for rows whose past is known; a file has been written by Baileys, or it is
    # suspect.
    if document != encoded:
        raise Malformed("holds bytes in a form that Baileys does not write to files")


def write_folder(
    path: str | os.PathLike[str],
    creds: Creds,
    keys: Iterable[FolderKey],
    *,
    creds_mtime: float | None = None,
) -> None:
    """Write a whole auth folder that Baileys opens; either all of it appears, or nothing.

    The folder gets mode 0700 and its files 0600. They are written and synced in a hidden folder
    beside ``path``, which then takes its place. Text and names are byte for byte what Baileys
    writes, except for the order of names inside an object when the values come from JSONB, which
    does not keep it.

    Args:
        path: must not exist, or be an empty folder.
        creds: the creds.
        keys: the keys; ``mtime`` becomes the time of the file where it is given.
        creds_mtime: the same for ``creds.json``, in seconds since 1970.

    Raises:
        FolderError: the folder is not empty or cannot be written, two ids would share a file, or an
            id could not be read back from its file name.
        CodecError: a value cannot be encoded.
    """
    target = Path(os.path.realpath(path))
    keys = list(keys)
    _refuse_unless_empty(target)
    _refuse_ambiguous([key.ref for key in keys])
    building: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        _write_files(building, creds, keys, creds_mtime)
        if target.exists():
            target.rmdir()
        building.rename(target)
        sync_folder(target.parent)
    except OSError as exc:
        raise FolderError(f"cannot write the auth folder {target}: {_cause(exc)}") from exc
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)


def _refuse_unless_empty(target: Path) -> None:
    if target.exists() and snapshot(target).entries:
        raise FolderError(
            f"the folder {target} is not empty: writing over a live auth folder would mix two "
            "states; choose another one, or move this one away first"
        )


def _refuse_ambiguous(refs: Sequence[KeyRef]) -> None:
    shared = colliding(refs)
    problems = [(name, "is the file of more than one key") for name in sorted(shared)]
    problems += [
        (name, f"would not lead back to {ref.key_type} {ref.key_id!r}")
        for ref in refs
        if (name := file_name(*ref)) not in shared and parse_file_name(name) != ref
    ]
    if problems:
        raise FolderError(
            f"{len(problems)} file names would not tell which key they hold: {problems[0][0]!r} "
            f"{problems[0][1]}",
            problems=problems,
        )


def _write_files(
    folder: Path, creds: Creds, keys: Iterable[FolderKey], creds_mtime: float | None
) -> None:
    for key in keys:
        key_type, key_id = key.ref
        encoded = codec.encode(key.value, company_id=None, key_type=key_type, key_id=key_id)
        write_new(folder / file_name(*key.ref), dump_json(encoded), mtime=key.mtime)
    encoded = codec.encode_creds(creds, company_id=None)
    write_new(folder / CREDS_FILE, dump_json(encoded), mtime=creds_mtime)
    sync_folder(folder)


def _cause(exc: OSError) -> str:
    if isinstance(exc, FileExistsError):
        return "two file names differ in case alone, and the file system does not tell them apart"
    return exc.strerror or type(exc).__name__
