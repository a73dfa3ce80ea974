"""From a backup into the tables: what an import, a repair or a deletion kept before it wrote."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supabase_auth_state.codec import Sealing
from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.files.folder import FolderContents, read_files
from supabase_auth_state.leases.seals import sealing_for
from supabase_auth_state.rest.client import Rest, using_rest
from supabase_auth_state.rest.connection import Client

from .backups import Backup, read_backup
from .copy_in import CopyIn
from .copy_report import CopyReport, counts
from .documents import CREDS, folder_documents, opened, refuse_sealed
from .folder_source import broken_keys, refuse_broken, refuse_without_creds
from .plan import Source
from .progress import Progress, silent
from .quiet import located


@dataclass(frozen=True, kw_only=True)
class RestoreReport(CopyReport):
    """What a restore did, or would do.

    Attributes:
        backup: the backup that was restored.
    """

    backup: Path

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**super().as_json(), "backup": str(self.backup)}

    def _lines(self) -> Iterator[str]:
        yield from super()._lines()
        yield f"restored from: {self.backup}"


async def restore_backup(
    backup: str | os.PathLike[str],
    company_id: str,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    force: bool = False,
    skip_broken: bool = False,
    dry_run: bool = False,
    backup_dir: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> RestoreReport:
    """Store what a backup holds: one that an import, a repair, a deletion or a restore has made.

    Rows that the backup keeps as they were stored, because they were damaged for instance, come
    back exactly so. Everything else is as in `import_folder`: the company is owned, what is
    replaced is backed up first, and ``force`` is needed where the database may be newer. State that
    goes back makes messages of contacts unreadable, if a client has connected since.

    Args:
        backup: the ``.tar.gz``.
        company_id: the company to become.
        client: as in `use_supabase_auth_state`.
        settings: as in `use_supabase_auth_state`.
        force: make the database equal to the backup, even where it may be newer, and even if
            another company is the same linked device.
        skip_broken: leave out files that are not understood, instead of refusing the backup.
        dry_run: write nothing, and say what would be done.
        backup_dir: where to put the backup of what is replaced; beside ``backup`` when absent.
        progress: called with how far the restore has come.

    Raises:
        FolderError: the backup cannot be read, has no creds, or has files that are not understood;
            nothing is written.
        NewerState: the database holds what may be newer; nothing is written.
        DuplicateDevice: another company is the same linked device; nothing is written.
        LeaseHeld: another process owns the company; nothing is written.
        FamilyMismatch: the rows belong to another kind of client; nothing is written.
        SealedValueError: the backup or the company has sealed rows that no key here opens; nothing
            is written.
        VerificationFailed: what was stored does not read back as what the backup holds.
        StoreError, LeaseLost: the database refused or did not answer, or another process took over.
    """
    check_company_id(company_id)
    path = located(backup)
    progress("reading", 0, 0)
    kept, contents = await asyncio.to_thread(_read, path, skip_broken)
    async with using_rest(settings, client=client) as rest:
        source = _source(kept, contents, await sealing_for(rest, company_id))
        refuse_sealed(source.documents.values(), company_id)
        plan, database_backup = await CopyIn(
            rest=rest,
            company_id=company_id,
            source=source,
            force=force,
            backup_dir=path.parent if backup_dir is None else located(backup_dir),
            backup_name=None,
            otherwise="there is nothing to restore",
            progress=progress,
        ).run("restore", dry_run=dry_run)
    return RestoreReport(
        company_id=company_id,
        backup=path,
        dry_run=dry_run,
        skipped=tuple(contents.problems),
        ignored=tuple(contents.ignored),
        leftovers=tuple(contents.leftovers),
        database_backup=database_backup,
        **counts(plan),
    )


def _read(path: Path, skip_broken: bool) -> tuple[Backup, FolderContents]:
    kept = read_backup(path)
    contents = read_files(kept.files)
    if CREDS not in kept.rows:
        refuse_without_creds(contents, str(path))
    if not skip_broken:
        refuse_broken(contents, str(path))
    return kept, contents


def _source(kept: Backup, contents: FolderContents, sealing: Sealing) -> Source:
    """Return what is to be stored: rows as they were stored, else the files."""
    rows = {ref: opened(ref, row.json, row.time, sealing) for ref, row in kept.rows.items()}
    documents = {**folder_documents(contents), **rows}
    creds = documents.pop(CREDS)
    by_key = dict(sorted(documents.items()))
    return Source({**by_key, CREDS: creds}, broken_keys(contents), kept.family)
