"""A whole auth folder of Baileys' ``useMultiFileAuthState``: read strictly, written safely.

One file per value, ``<type>-<id>.json``, and ``creds.json``; no index, no subfolders. Baileys reads
a damaged file as a missing one. Here, every entry of the folder is either understood or reported by
name.

Ids of app state keys may differ in case alone, so the file system must distinguish ``A`` and ``a``.

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
from supabase_auth_state.codec import Malformed, dump_json
from supabase_auth_state.errors import CodecError, FolderError, printable
from supabase_auth_state.types import Creds, KeyRef, Value

from .atomic import sync_folder, write_new
from .creds_copies import advice_on, find_copies
from .entries import Entry, entry_of_file, entry_of_folder
from .names import CREDS_FILE, beginning_of, colliding, file_name, parse_file_name
from .reading import kind_of, parse_document, read_content, reason_of, refuse_json_in_text

Problem = tuple[str, str]
"""A name, of a file or of a place in one, and what is wrong there."""


@dataclass(frozen=True)
class FolderKey:
    """One key as a folder holds it.

    Attributes:
        ref: type and id.
        value: the Python value, ``bytes`` for Buffers.
        mtime: when it was last changed, in seconds since 1970, or None.
        document: the JSON value to store, as Baileys writes it, when it was read from a file.
    """

    ref: KeyRef
    value: Value = field(repr=False)
    mtime: float | None = None
    document: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class FolderSnapshot:
    """What the file system says about a folder, or a file, at one moment; without contents.

    Attributes:
        entries: by name: type, size, times of change in nanoseconds, and inode.
    """

    entries: dict[str, tuple[int, ...]]

    def changed_since(self, earlier: FolderSnapshot) -> list[str]:
        """Return the names that came, went or changed between ``earlier`` and this one, sorted."""
        if self.entries == earlier.entries:
            return []
        names = self.entries.keys() | earlier.entries.keys()
        changed = (n for n in names if self.entries.get(n) != earlier.entries.get(n))
        return sorted(map(printable, changed))


@dataclass
class FolderContents:
    """Everything that was found in a folder.

    Attributes:
        snapshot: the folder just before it was read.
        creds: the creds, or None when there is no ``creds.json`` or it is among the problems.
        creds_mtime: when they were last changed, in seconds since 1970.
        creds_document: the JSON value to store for them, as Baileys writes it.
        keys: every key that was understood, in the order of file names.
        problems: name and reason of each file that was not understood, and of each folder that is
            not known.
        broken: the keys whose values are among the problems.
        leftovers: names of copies of Baileys' files, and of writes that were not finished.
        ignored: names of files and folders that hold no value of Baileys'.
        advice: what to do when there are no creds, or an empty string.
        raw: by name, the content of every file that was read.
    """

    snapshot: FolderSnapshot = field(repr=False)
    creds: Creds | None = field(default=None, repr=False)
    creds_mtime: float | None = None
    creds_document: Any = field(default=None, repr=False)
    keys: list[FolderKey] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    broken: list[KeyRef] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    advice: str = ""
    raw: dict[str, bytes] = field(default_factory=dict, repr=False)


def snapshot(path: str | os.PathLike[str]) -> FolderSnapshot:
    """Return the names, sizes and times of a folder, to see later what has changed.

    A file has one entry: itself.

    Raises:
        FolderError: there is nothing at this path, or the folder cannot be listed.
    """
    folder = Path(path)
    try:
        if folder.is_file():
            return FolderSnapshot({folder.name: _facts(folder.stat())})
        with os.scandir(folder) as entries:
            return FolderSnapshot({e.name: _facts(e.stat(follow_symlinks=False)) for e in entries})
    except OSError as exc:
        raise FolderError(f"cannot list the auth folder {folder}: {exc.strerror}") from exc


def _facts(found: os.stat_result) -> tuple[int, ...]:
    kind = stat.S_IFMT(found.st_mode)
    return kind, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def read_folder(path: str | os.PathLike[str]) -> FolderContents:
    """Read a whole auth folder; a file that is not exactly what Baileys writes becomes a problem.

    Problems are files that are empty, torn, not UTF-8 or not strict JSON (a name twice, a number
    that is not finite); whose name is not a key's, or is not the name of the key that it reads as;
    whose value is not whole under its key type; and folders that are not known, links and devices.
    A missing ``creds.json`` is no problem: ``creds`` is None then.

    The contents are of one moment only if nothing has ``changed_since(contents.snapshot)``
    afterwards.

    Raises:
        FolderError: it is not a folder, or cannot be listed.
    """
    folder = Path(path)
    if kind_of(folder) == stat.S_IFREG:
        raise FolderError(f"{folder} is a file, and an auth folder is a folder")
    contents = FolderContents(snapshot(folder))
    for name, facts in sorted(contents.snapshot.entries.items()):
        _add_entry(contents, folder, name, facts)
    if contents.creds is None:
        names = contents.snapshot.entries
        contents.advice = advice_on(folder, find_copies(folder, names), names)
    return contents


def read_files(files: Mapping[str, tuple[bytes, float]]) -> FolderContents:
    """Read the files of an auth folder that are in memory, as `read_folder` reads those on disk.

    Args:
        files: content and time of last change, in seconds since 1970, by name.

    Returns:
        What was found; its ``snapshot`` is empty.
    """
    contents = FolderContents(FolderSnapshot({}))
    for name, (content, mtime) in sorted(files.items()):
        if _is_value(contents, name):
            _add_content(contents, name, content, mtime, "the backup")
    return contents


def _add_entry(contents: FolderContents, folder: Path, name: str, facts: tuple[int, ...]) -> None:
    kind, size, mtime = facts[0], facts[1], facts[2] / 10**9
    if not stat.S_ISREG(kind):
        _add_other(contents, folder / name, is_folder=stat.S_ISDIR(kind))
    elif _is_value(contents, name):
        try:
            contents.raw[name] = content = read_content(folder, name, size)
        except OSError as exc:
            _add_problem(contents, name, f"cannot be read ({exc.strerror})")
        else:
            _add_content(contents, name, content, mtime, str(folder))


def _add_other(contents: FolderContents, path: Path, *, is_folder: bool) -> None:
    """Report a folder, or what is neither a folder nor a file."""
    if entry_of_folder(path.name) is Entry.UNKNOWN:
        reason = (
            "is a folder, and an auth folder has none: move it somewhere else"
            if is_folder
            else "is not a regular file"
        )
        _add_problem(contents, path.name, reason)
    elif _holds_values(path):
        _add_problem(contents, path.name, "is a folder that has files of Baileys' in it")
    else:
        contents.ignored.append(printable(path.name))


def _is_value(contents: FolderContents, name: str) -> bool:
    """Return True for the file of a value; report what any other file is."""
    entry = entry_of_file(name)
    if entry is Entry.OTHER:
        contents.ignored.append(printable(name))
    elif entry is Entry.LEFTOVER:
        contents.leftovers.append(printable(name))
    elif entry is Entry.UNKNOWN:
        _add_problem(contents, name, "has a name that is not that of exactly one key")
    return entry is Entry.VALUE


def _holds_values(folder: Path) -> bool:
    # Hidden folders are the file system's or a program's own, which may keep old versions there.
    return not folder.name.startswith(".") and any(
        entry_of_file(name) is Entry.VALUE for _, _, names in os.walk(folder) for name in names
    )


def _add_content(
    contents: FolderContents, name: str, content: bytes, mtime: float, where: str
) -> None:
    """Add what a file holds to ``contents``, or what is wrong with it.

    Args:
        contents: gets it.
        name: the file's name.
        content: what it holds.
        mtime: when it was last changed, in seconds since 1970.
        where: what the file is in, for the log.
    """
    ref = parse_file_name(name)
    try:
        document = parse_document(content)
        refuse_json_in_text(document)
        if ref is None:
            creds, stored = _creds_of(document, where)
            contents.creds, contents.creds_document, contents.creds_mtime = creds, stored, mtime
        else:
            contents.keys.append(FolderKey(ref, _value_of(document, ref), mtime, document))
    except (Malformed, CodecError) as exc:
        _add_problem(contents, name, reason_of(exc))


def _add_problem(contents: FolderContents, name: str, reason: str) -> None:
    contents.problems.append((printable(name), reason))
    ref = parse_file_name(name)
    if ref is not None:
        contents.broken.append(ref)


def _creds_of(document: Any, where: str) -> tuple[Creds, Any]:
    """Return creds as a Python value, and the document to store."""
    document = codec.with_storable_names(document, where)
    creds = codec.decode_creds(document, company_id=None)
    codec.check_creds(creds, company_id=None)
    _refuse_rewritten(document, codec.encode_creds(creds, company_id=None))
    return creds, document


def _value_of(document: Any, ref: KeyRef) -> Value:
    value = codec.decode(document, company_id=None, **ref._asdict())
    codec.check(value, company_id=None, **ref._asdict())
    _refuse_rewritten(document, codec.encode(value, company_id=None, **ref._asdict()))
    return value


def _refuse_rewritten(document: Any, encoded: Any) -> None:
    # Rows of known clients are repaired. A file was written by Baileys, or nothing is known of it.
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
        building = Path(
            tempfile.mkdtemp(prefix=f".{beginning_of(target.name)}.", dir=target.parent)
        )
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
    kind = kind_of(target)
    if kind == stat.S_IFREG:
        raise FolderError(f"{target} is a file, and an auth folder is a folder")
    if kind is not None and snapshot(target).entries:
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
