"""Copies of a folder and of a company's rows, made before either is replaced or removed.

A backup is a ``.tar.gz`` of mode 0600 that unpacks to an auth folder. It lies on disk, complete,
when the function returns, under a name with a time.
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
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

from supabase_auth_state.codec.json_text import dump_json
from supabase_auth_state.errors import CodecError, FolderError
from supabase_auth_state.files.atomic import read_content, sync_folder
from supabase_auth_state.files.folder import FolderContents
from supabase_auth_state.files.names import colliding, parse_file_name

from .company import Company
from .documents import CREDS, Document, decoded, encoded, file_of
from .tarball import Member, tarball

_SUFFIX = ".tar.gz"
_LEVEL = 1
_LEFTOVERS = ".rows-that-are-no-files.json"


def back_up_folder(
    folder: Path, directory: Path | None = None, contents: FolderContents | None = None
) -> Path:
    """Copy a folder as it is; a backup with the same content is used again.

    Args:
        folder: the folder.
        directory: where to put the backup; beside the folder when absent.
        contents: what was read of the folder, to spare reading it again.

    Returns:
        The backup's path. Its name tells when the folder was last changed.

    Raises:
        FolderError: the folder cannot be read, or the backup cannot be written.
    """
    members = _members(folder, contents)
    found, free = _look(folder, directory, members)
    return found or _write(free, folder.name, members)


def find_backup(folder: Path, directory: Path | None = None) -> Path | None:
    """Return a backup that holds exactly what the folder holds now, or None.

    Raises:
        FolderError: the folder cannot be read.
    """
    found, _ = _look(folder, directory, _members(folder, None))
    return found


def _look(
    folder: Path, directory: Path | None, members: list[Member]
) -> tuple[Path | None, Iterator[Path]]:
    """Return the backup that holds these files, or else the paths that a new one may take."""
    wanted = {name: content for name, content, _ in members}
    changed = max((time for _, _, time in members), default=0.0)
    paths = _paths(directory or folder.parent, f"{folder.name}.backup", changed)
    path = next(paths)
    while path.exists():
        if _contents(path) == wanted:
            return path, paths
        path = next(paths)
    return None, itertools.chain([path], paths)


def _paths(directory: Path, prefix: str, at: float) -> Iterator[Path]:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    yield directory / f"{prefix}-{stamp}{_SUFFIX}"
    for number in itertools.count(2):
        yield directory / f"{prefix}-{stamp}-{number}{_SUFFIX}"


def back_up_company(company: Company, directory: Path, name: str) -> Path:
    """Write a company's rows as an auth folder.

    Rows that cannot be files, because they are damaged or because their ids make no file name, are
    kept as they are stored, in a hidden file of the same archive.

    Args:
        company: the rows.
        directory: where to put the backup.
        name: the first part of its name.

    Returns:
        The backup's path.

    Raises:
        FolderError: the backup cannot be written.
    """
    paths = _paths(directory, f"{name}.database", time.time())
    return _write(paths, name, list(_files_of(company)))


def _members(folder: Path, contents: FolderContents | None) -> list[Member]:
    known = {} if contents is None else contents.raw
    if contents is not None and known.keys() == contents.snapshot.entries.keys():
        entries = sorted(contents.snapshot.entries.items())
        return [(name, known[name], facts[2] / 1e9) for name, facts in entries]
    try:
        return list(_files(folder, known))
    except OSError as exc:
        raise FolderError(f"cannot read {folder} for a backup: {exc.strerror}") from exc


def _files(folder: Path, known: Mapping[str, bytes]) -> Iterator[Member]:
    for path, folders, names in os.walk(folder):
        folders.sort()
        inside = Path(path).relative_to(folder).as_posix()
        for name in sorted(names):
            facts = os.lstat(os.path.join(path, name))  # noqa: PTH118 - as in `read_content`
            if not stat.S_ISREG(facts.st_mode):
                continue
            if inside == "." and name in known:
                yield name, known[name], facts.st_mtime
            else:
                shown = name if inside == "." else f"{inside}/{name}"
                yield shown, read_content(Path(path), name, facts.st_size), facts.st_mtime


def _files_of(company: Company) -> Iterator[Member]:
    shared = colliding(ref for ref in company.documents if ref != CREDS)
    leftovers = []
    for ref, document in company.documents.items():
        name = file_of(ref)
        text = _file_text(document, company.company_id)
        if text is None or name in shared or (ref != CREDS and parse_file_name(name) != ref):
            leftovers.append([*ref, document.json, document.time])
        else:
            yield name, text.encode(), document.time
    if leftovers:
        yield _LEFTOVERS, orjson.dumps(leftovers), time.time()


def _file_text(document: Document, company_id: str) -> str | None:
    try:
        value = decoded(document, company_id)
        return dump_json(encoded(document.ref, value, document.time, company_id).json)
    except CodecError:
        return None


def _write(paths: Iterator[Path], root: str, members: list[Member]) -> Path:
    named = ((f"{root}/{name}", content, changed) for name, content, changed in members)
    content = gzip.compress(tarball(named), _LEVEL, mtime=0)
    path = next(paths)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while not _create(path, content):
            path = next(paths)
    except OSError as exc:
        raise FolderError(f"cannot write a backup to {path.parent}: {exc.strerror}") from exc
    return path


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
        # Whoever has the name beside it is the only one to take this one.
        if path.exists():
            return False
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _contents(path: Path) -> dict[str, bytes] | None:
    """Return what is in a backup, or None when it is not whole."""
    found = {}
    try:
        # As a whole first: tarfile alone does not look at the checksum at the end.
        whole = io.BytesIO(gzip.decompress(path.read_bytes()))
        with tarfile.open(fileobj=whole, mode="r:") as archive:
            for info in archive:
                file = archive.extractfile(info)
                if file is not None:
                    found[info.name.partition("/")[2]] = file.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError):
        return None
    return found
