"""Removing a folder whose state has certainly moved into the database."""

from __future__ import annotations

import asyncio
import enum
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.errors import CodecError, FolderError
from supabase_auth_state.files.atomic import sync_folder
from supabase_auth_state.files.folder import FolderContents
from supabase_auth_state.files.names import CREDS_FILE, parse_file_name
from supabase_auth_state.rest.client import Rest, using_rest
from supabase_auth_state.rest.connection import Client
from supabase_auth_state.types import KeyRef

from .backups import back_up_folder, find_backup, refuse_inside
from .company import Company, read_company
from .counters import going_back
from .documents import (
    CREDS,
    Document,
    Documents,
    Match,
    decoded,
    file_of,
    folder_documents,
    is_newer,
    is_other_device,
    match,
    names,
    refuse_sealed,
    type_of,
    unneeded_mappings,
)
from .quiet import QUIET_SECONDS, located, read_quiet_folder, refuse_if_changed

AFTER_DAYS = 7.0

# No client deletes these.
_NEVER_DELETED = frozenset({"app-state-sync-key"})


@dataclass(frozen=True)
class PurgeReport:
    """What was removed, or would be.

    Attributes:
        company_id: the company.
        folder: the folder.
        obstacles: why nothing may be removed; empty when it may.
        files: how many files of Baileys' there are, or were.
        kept: names of other files, which stay.
        changed_since: how many values have changed in the database after the folder.
        deleted_since: how many values have been deleted in the database after the folder.
        backup: the copy of the folder; None when there is none yet.
        removed: whether the files were removed.
    """

    company_id: str
    folder: Path
    obstacles: tuple[str, ...]
    files: int
    kept: tuple[str, ...]
    changed_since: int
    deleted_since: int
    backup: Path | None
    removed: bool

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "company_id": self.company_id,
            "folder": str(self.folder),
            "obstacles": list(self.obstacles),
            "files": self.files,
            "kept": list(self.kept),
            "changed_since": self.changed_since,
            "deleted_since": self.deleted_since,
            "backup": None if self.backup is None else str(self.backup),
            "removed": self.removed,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.obstacles:
            yield f"{self.folder} is still needed:"
            yield from (f"  {obstacle}" for obstacle in self.obstacles)
            return
        done = "removed" if self.removed else "would be removed"
        yield f"{self.files} files of {self.folder} {done}"
        yield (
            f"in the database {self.changed_since} values have changed since, and "
            f"{self.deleted_since} were deleted"
        )
        if self.kept:
            yield f"not Baileys' and kept: {', '.join(self.kept)}"
        yield f"backup: {self.backup or 'would be made first'}"


async def purge_files(
    folder: str | os.PathLike[str],
    company_id: str,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    after_days: float = AFTER_DAYS,
    backup_dir: str | os.PathLike[str] | None = None,
    yes: bool = False,
    quiet_for: float = QUIET_SECONDS,
) -> PurgeReport:
    """Remove a folder whose company is in the database, or say why it has to stay.

    It is removed only when the company has been in the database for ``after_days``, when every file
    is in the database as it is or was replaced there by something newer, and when there is a
    backup of exactly these files. Files that are not Baileys' stay.

    Args:
        folder: the folder.
        company_id: the company.
        client: as in `use_supabase_auth_state`.
        settings: as in `use_supabase_auth_state`.
        after_days: how long the company must have been in the database.
        backup_dir: where backups are; beside the folder when absent.
        yes: remove the files; without it nothing is changed.
        quiet_for: seconds for which no process may have written to the folder.

    Raises:
        FolderError: it is no folder, or in use, or a file cannot be removed.
        CompanyNotFound: the company is not in the database.
        FamilyMismatch: the rows belong to another kind of client.
        SealedValueError: a row is sealed, and no key here opens it.
        StoreError: the database refused or did not answer.
    """
    check_company_id(company_id)
    path = located(folder)
    directory = path.parent if backup_dir is None else located(backup_dir)
    refuse_inside(directory, path)
    contents = await read_quiet_folder(path, quiet_for=quiet_for)
    async with using_rest(settings, client=client) as rest:
        company = (await read_company(rest, company_id)).known().of_family(codec.BAILEYS)
    refuse_sealed(company.documents.values(), company_id)
    found = _Comparison.of(contents, company)
    obstacles = (*_too_young(company, after_days), *found.obstacles)
    remove = yes and not obstacles
    backup = await asyncio.to_thread(back_up_folder if remove else find_backup, path, directory)
    if remove:
        await refuse_if_changed(path, contents.snapshot)
        await asyncio.to_thread(_remove, path, found.names)
    return PurgeReport(
        company_id=company_id,
        folder=path,
        obstacles=obstacles,
        files=len(found.names),
        kept=tuple(sorted(contents.snapshot.entries.keys() - set(found.names))),
        changed_since=len(found.changed),
        deleted_since=len(found.deleted),
        backup=backup,
        removed=remove,
    )


def _too_young(company: Company, after_days: float) -> Iterator[str]:
    if company.created_at is None:
        yield f"company {company.company_id!r} has keys in the database, and no creds"
        return
    age = timedelta(seconds=max(time.time() - company.created_at, 0))
    if age < timedelta(days=after_days):
        days = age / timedelta(days=1)
        yield (
            f"company {company.company_id!r} has been in the database for {days:.1f} days, and "
            f"{after_days:g} are asked for"
        )


@dataclass(frozen=True)
class _Comparison:
    """A folder beside the rows that should have taken its place.

    Attributes:
        names: the files that are Baileys', creds first: without them, what is left of a folder is
            no device that could be opened.
        changed: values that the database has in a newer version.
        deleted: values that the database no longer has.
        obstacles: why the folder is still needed.
    """

    names: list[str]
    changed: list[KeyRef]
    deleted: list[KeyRef]
    obstacles: list[str]

    @classmethod
    def of(cls, contents: FolderContents, company: Company) -> _Comparison:
        files = folder_documents(contents)
        missing = files.keys() - company.documents.keys()
        deleted = sorted(missing - unneeded_mappings(files, now=time.time()))
        fates = {ref: _fate(files[ref], company) for ref in sorted(files.keys() - missing)}
        lost = [ref for ref, fate in fates.items() if fate is _Fate.LOST]
        return cls(
            names=sorted(map(file_of, files), key=lambda name: (name != CREDS_FILE, name)),
            changed=[ref for ref, fate in fates.items() if fate is _Fate.REPLACED],
            deleted=deleted,
            obstacles=[
                *_damaged(contents),
                *_wrong_rows(files, lost, company),
                *_missing_rows(files, deleted, company),
            ],
        )


class _Fate(enum.Enum):
    """What has become of a file's value in the database."""

    KEPT = enum.auto()
    REPLACED = enum.auto()
    LOST = enum.auto()


def _fate(file: Document, company: Company) -> _Fate:
    row = company.documents[file.ref]
    found = match(file, row, company.company_id)
    if found in (Match.SAME, Match.SAME_VALUE):
        return _Fate.KEPT
    replaced = (
        is_newer(row, file) and _is_whole(row, company) and not _is_behind(row, file, company)
    )
    return _Fate.REPLACED if replaced else _Fate.LOST


def _is_behind(row: Document, file: Document, company: Company) -> bool:
    """Return whether a counter of the file is ahead of the row's, whatever their times say."""
    values = (decoded(each, company.company_id) for each in (row, file))
    return bool(going_back(type_of(row.ref), *values))


def _is_whole(row: Document, company: Company) -> bool:
    try:
        value = decoded(row, company.company_id)
        if row.ref == CREDS:
            codec.check_creds(value, company_id=company.company_id)
        else:
            codec.check(value, company_id=company.company_id, **row.ref._asdict())
    except CodecError:
        return False
    return True


def _damaged(contents: FolderContents) -> Iterator[str]:
    if contents.creds is None:
        yield (
            f"{CREDS_FILE} is not there, or cannot be read: this is no auth folder. If a purge was "
            "broken off, its backup holds every file, and the rest can be removed by hand"
        )
    damaged = [name for name, _ in contents.problems if parse_file_name(name) is not None]
    if damaged:
        yield f"{len(damaged)} files cannot be read, {damaged[0]} first"


def _wrong_rows(files: Documents, lost: list[KeyRef], company: Company) -> Iterator[str]:
    if is_other_device(files, company.documents, company.company_id):
        yield "the database holds another linked device"
    elif lost:
        yield (
            f"{len(lost)} values are neither the same in the database nor replaced there by newer "
            f"ones that are whole: {names(lost)}"
        )


def _missing_rows(files: Documents, deleted: list[KeyRef], company: Company) -> Iterator[str]:
    if CREDS not in company.documents:
        return
    # Clients delete what they have used up. Rows are missing for another reason if no client has
    # worked since.
    last_file = max(files.values(), key=lambda file: file.time, default=None)
    active = last_file is not None and any(
        is_newer(row, last_file) for row in company.documents.values()
    )
    unexplained = [ref for ref in deleted if not active or ref.key_type in _NEVER_DELETED]
    if unexplained:
        yield f"{len(unexplained)} values are not in the database: {names(unexplained)}"


def _remove(folder: Path, names: list[str]) -> None:
    try:
        for name in names:
            (folder / name).unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
        sync_folder(folder)
    except OSError as exc:
        raise FolderError(f"cannot remove {folder}: {exc.strerror}") from exc
