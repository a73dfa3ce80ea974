"""Backups of a folder and of a company's rows, made before either is replaced or removed.

A backup is a ``.tar.gz`` of mode 0600 that unpacks to an auth folder. It is on disk, complete, when
the function returns, under a name with a time. `read_backup` reads it again.

A company's backup also has a hidden file, ``.whatsapp-rows.json``, so that nothing is lost: it
names the company and its client family, and holds every row that is not exactly the content of its
file, as it is stored: a row that is damaged, or whose id makes no file name.
"""

from __future__ import annotations

import gzip
import io
import itertools
import os
import stat
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from supabase_auth_state import codec
from supabase_auth_state.codec import dump_json
from supabase_auth_state.errors import CodecError, FolderError
from supabase_auth_state.files.atomic import sync_folder
from supabase_auth_state.files.entries import Entry, entry_of_folder
from supabase_auth_state.files.folder import FolderContents
from supabase_auth_state.files.names import beginning_of, colliding, parse_file_name
from supabase_auth_state.files.reading import kind_of, read_content
from supabase_auth_state.types import KeyRef

from .company import Company
from .documents import CREDS, Document, decoded, encoded, file_of

DIRECTORY = "supabase-auth-state-backups"
"""Where backups of companies go that come from no folder, unless another place is given."""

ROWS_FILE = ".whatsapp-rows.json"
"""The file of a backup with the rows that are no files."""

_SUFFIX = ".tar.gz"
_LEVEL = 1
_NAME_LENGTH = 80

_Member = tuple[str, bytes, float]
"""Name, content and time of last change of a file."""


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes:
        path: the backup.
        files: content and time of last change, in seconds since 1970, of each file directly in the
            auth folder, by name.
        rows: the rows that are no files, as they were stored.
        family: the client family of the company.
    """

    path: Path
    files: dict[str, tuple[bytes, float]] = field(repr=False)
    rows: dict[KeyRef, Document] = field(repr=False)
    family: str


def back_up_folder(
    folder: Path, directory: Path | None = None, contents: FolderContents | None = None
) -> Path:
    """Copy a folder; a backup with the same content is used again.

    Folders inside it that are known to hold nothing of Baileys', such as ``media``, are left out.

    Args:
        folder: the folder.
        directory: where to put the backup; beside the folder when absent.
        contents: what was read of the folder, to spare reading it again.

    Returns:
        The backup's path. Its name has the time of the folder's last change.

    Raises:
        FolderError: the folder cannot be read, or the backup cannot be written.
    """
    members = _members(folder, contents)
    found, free = _look(folder, directory, members)
    return found or _write(free, folder.name, members)


def refuse_inside(directory: Path, folder: Path) -> None:
    """Refuse a place for backups that is in the folder which is backed up: it would change that.

    Raises:
        FolderError: it is.
    """
    if directory.is_relative_to(folder):
        raise FolderError(
            f"backups of {folder} cannot be put into it, at {directory}: choose a folder beside it"
        )


def find_backup(folder: Path, directory: Path | None = None) -> Path | None:
    """Return a backup that holds exactly what the folder holds now, or None.

    Raises:
        FolderError: the folder cannot be read.
    """
    found, _ = _look(folder, directory, _members(folder, None))
    return found


def back_up_company(company: Company, directory: Path, name: str | None = None) -> Path:
    """Write a company's rows as an auth folder, and what is no file of it as it is stored.

    Args:
        company: the rows.
        directory: where to put the backup; made when missing.
        name: the first part of its name; made of the company_id when absent.

    Returns:
        The backup's path.

    Raises:
        FolderError: the backup cannot be written.
    """
    name = name or _file_name_of(company.company_id)
    paths = _paths(directory, name, "database", time.time())
    return _write(paths, name, list(_files_of(company)))


def read_backup(path: Path) -> Backup:
    """Read a backup of a folder or of a company.

    Raises:
        FolderError: it cannot be read, or is not whole.
    """
    try:
        members = _unpacked(path.read_bytes())
    except OSError as exc:
        raise FolderError(f"{path} cannot be read as a backup: {exc.strerror}") from exc
    if members is None:
        raise FolderError(
            f"{path} cannot be read as a backup: it is no .tar.gz, or not all of it is there"
        )
    files = {name: (content, changed) for name, content, changed in members if "/" not in name}
    stored, _ = files.pop(ROWS_FILE, (b"{}", 0.0))
    rows, family = _rows_in(path, stored)
    return Backup(path, files, rows, family)


def _look(
    folder: Path, directory: Path | None, members: list[_Member]
) -> tuple[Path | None, Iterator[Path]]:
    """Return the backup that holds these files, or else the paths that a new one may take."""
    wanted = {name: content for name, content, _ in members}
    changed = max((time for _, _, time in members), default=0.0)
    paths = _paths(directory or folder.parent, folder.name, "backup", changed)
    path = next(paths)
    while kind_of(path) is not None:
        found = _contents(path)
        if found is not None and {name: content for name, content, _ in found} == wanted:
            return path, paths
        path = next(paths)
    return None, itertools.chain([path], paths)


def _paths(directory: Path, name: str, kind: str, at: float) -> Iterator[Path]:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    beginning = f"{beginning_of(name)}.{kind}-{stamp}"
    yield directory / f"{beginning}{_SUFFIX}"
    for number in itertools.count(2):
        yield directory / f"{beginning}-{number}{_SUFFIX}"


def _file_name_of(company_id: str) -> str:
    name = quote(company_id, safe="")[:_NAME_LENGTH]
    # A name that begins with a dot would be hidden, or be this folder or the one above.
    return f"%2E{name[1:]}" if name.startswith(".") else name


def _members(folder: Path, contents: FolderContents | None) -> list[_Member]:
    known = {} if contents is None else contents.raw
    if contents is not None and known.keys() == contents.snapshot.entries.keys():
        entries = sorted(contents.snapshot.entries.items())
        return [(name, known[name], facts[2] / 1e9) for name, facts in entries]
    try:
        return list(_files(folder, known))
    except OSError as exc:
        raise FolderError(f"cannot read {folder} for a backup: {exc.strerror}") from exc


def _files(folder: Path, known: Mapping[str, bytes]) -> Iterator[_Member]:
    for path, folders, names in os.walk(folder):
        inside = Path(path).relative_to(folder).as_posix()
        # A media folder may hold gigabytes.
        folders[:] = sorted(
            name for name in folders if inside != "." or entry_of_folder(name) is Entry.UNKNOWN
        )
        for name in sorted(names):
            facts = os.lstat(os.path.join(path, name))  # noqa: PTH118 - as in `read_content`
            if not stat.S_ISREG(facts.st_mode):
                continue
            if inside == "." and name in known:
                yield name, known[name], facts.st_mtime
            else:
                shown = name if inside == "." else f"{inside}/{name}"
                yield shown, read_content(Path(path), name, facts.st_size), facts.st_mtime


def _files_of(company: Company) -> Iterator[_Member]:
    shared = colliding(key.ref for key in company.keys)
    rows = []
    for ref, document in company.documents.items():
        name = file_of(ref)
        file = _file_for(document, company)
        has_file = ref == CREDS or (name not in shared and parse_file_name(name) == ref)
        if file is not None and has_file:
            yield name, dump_json(file.json).encode(), document.time
        if file is None or not has_file or file.text != document.text:
            rows.append(document)
    yield ROWS_FILE, orjson.dumps(_as_json(company, rows)), time.time()


def _file_for(row: Document, company: Company) -> Document | None:
    """Return what Baileys would have written to the file of a row, if that is certain."""
    if company.family not in {None, codec.BAILEYS}:
        return None
    try:
        value = decoded(row, company.company_id)
        return encoded(row.ref, value, row.time, company.company_id)
    except CodecError:
        return None


def _as_json(company: Company, rows: Iterable[Document]) -> dict[str, Any]:
    by_ref = {row.ref: [row.json, row.time] for row in rows}
    creds = by_ref.pop(CREDS, None)
    return {
        "company_id": company.company_id,
        "client_family": company.family,
        "keys": [[*ref, *value] for ref, value in by_ref.items()],
        "creds": creds,
    }


def _rows_in(path: Path, content: bytes) -> tuple[dict[KeyRef, Document], str]:
    try:
        stored = orjson.loads(content)
        rows = {
            KeyRef(key_type, key_id): Document(KeyRef(key_type, key_id), value, float(changed))
            for key_type, key_id, value, changed in stored.get("keys", [])
        }
        if stored.get("creds") is not None:
            value, changed = stored["creds"]
            rows[CREDS] = Document(CREDS, value, float(changed))
        return rows, str(stored.get("client_family") or codec.BAILEYS)
    except (AttributeError, TypeError, ValueError):
        pass
    # Raised here, so that no exception in the chain holds what was read.
    raise FolderError(f"{path}: {ROWS_FILE} in it is not what a backup has there")


def _write(paths: Iterator[Path], root: str, members: list[_Member]) -> Path:
    content = gzip.compress(_archive(root, members), _LEVEL, mtime=0)
    path = next(paths)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while not _create(path, content):
            path = next(paths)
    except OSError as exc:
        raise FolderError(f"cannot write a backup to {path.parent}: {exc.strerror}") from exc
    return path


def _archive(root: str, members: list[_Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content, changed in members:
            info = tarfile.TarInfo(f"{root}/{name}")
            # Whole seconds: for a fraction, tarfile makes a second header and takes three times as
            # long (336 files: 30 ms instead of 10 ms).
            info.size, info.mtime, info.mode = len(content), max(int(changed), 0), 0o600
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _create(path: Path, content: bytes) -> bool:
    """Create a file, complete from the moment it has its name; False when the name is taken."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # No other process writes this path: each creates the file beside it first.
        if path.exists():
            return False
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _contents(path: Path) -> list[_Member] | None:
    """Return the files in a backup, or None when it is not whole or cannot be read."""
    try:
        return _unpacked(path.read_bytes())
    except OSError:
        return None


def _unpacked(content: bytes) -> list[_Member] | None:
    """Return the files in a ``.tar.gz``, or None when it is not whole."""
    found = []
    try:
        # As a whole first: tarfile alone does not look at the checksum at the end.
        whole = io.BytesIO(gzip.decompress(content))
        with tarfile.open(fileobj=whole, mode="r:") as archive:
            for info in archive:
                file = archive.extractfile(info)
                if file is not None:
                    name = info.name.partition("/")[2]
                    found.append((name, file.read(), float(info.mtime)))
    except (OSError, EOFError, KeyError, ValueError, zlib.error, tarfile.TarError):
        # KeyError: a link to what is not in it.
        return None
    return found
