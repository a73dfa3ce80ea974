"""From an auth folder into the tables: all of it, or nothing that could be taken for all of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.errors import FolderError
from supabase_auth_state.files.folder import FolderContents
from supabase_auth_state.files.source import read_source
from supabase_auth_state.rest.client import Rest, using_rest
from supabase_auth_state.rest.connection import Client

from .backups import back_up_folder, refuse_inside
from .copy_in import CopyIn
from .copy_report import CopyReport, counts
from .folder_source import refuse_broken, refuse_without_creds, refuse_wrong_path, source_of
from .progress import Progress, silent
from .quiet import QUIET_SECONDS, located, read_quiet_folder, refuse_if_changed


@dataclass(frozen=True, kw_only=True)
class ImportReport(CopyReport):
    """What an import did, or would do.

    Attributes:
        folder: the folder.
        left_out: lid-mappings older than seven days that no session needs.
        backup: the copy of the folder.
    """

    folder: Path
    left_out: int
    backup: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            **super().as_json(),
            "folder": str(self.folder),
            "left_out": self.left_out,
            "backup": None if self.backup is None else str(self.backup),
        }

    def _lines(self) -> Iterator[str]:
        yield from super()._lines()
        if self.left_out:
            yield f"left out: {self.left_out} lid-mappings older than 7 days that no session needs"
        if self.backup is not None:
            yield f"backup of the folder: {self.backup}"


async def import_folder(
    folder: str | os.PathLike[str],
    company_id: str,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    force: bool = False,
    skip_broken: bool = False,
    dry_run: bool = False,
    backup_dir: str | os.PathLike[str] | None = None,
    quiet_for: float = QUIET_SECONDS,
    progress: Progress = silent,
) -> ImportReport:
    """Copy a folder of Baileys' ``useMultiFileAuthState`` into the database, and read it back.

    The company is owned while this runs. A new one is written in batches of 100 with the times of
    the files, creds last: an import that was broken off leaves keys without creds, which no client
    opens, and another run finishes it. A company with creds is changed in one transaction, after a
    backup of its rows. Values that it does not have are added; ``force`` is needed to replace a
    value by another one, to remove one, to bring back a pre-key that was used up, and for any
    counter that would go back.

    Args:
        folder: the folder, or the single JSON file of Baileys' ``useSingleFileAuthState``.
        company_id: the company to become.
        client: as in `use_supabase_auth_state`; share an `open_rest()` between many imports.
        settings: as in `use_supabase_auth_state`.
        force: make the database equal to the folder, even where it may be newer, and even if
            another company is the same linked device.
        skip_broken: leave out files that are not understood, instead of refusing the folder.
        dry_run: write nothing, and say what would be done.
        backup_dir: where to put backups; beside the folder when absent.
        quiet_for: seconds for which no process may have written to the folder.
        progress: called with how far the import has come.

    Raises:
        FolderError: the folder is in use, has no creds, or has files that are not understood;
            nothing is written.
        NewerState: the database holds what may be newer; nothing is written.
        DuplicateDevice: another company is the same linked device; nothing is written.
        LeaseHeld: another process owns the company; nothing is written.
        FamilyMismatch: the rows belong to another kind of client; nothing is written.
        VerificationFailed: what was stored does not read back as what the folder holds.
        StoreError, LeaseLost: the database refused or did not answer, or another process took over.
    """
    async with using_rest(settings, client=client) as rest:
        return await import_into(
            rest,
            located(folder),
            company_id,
            force=force,
            skip_broken=skip_broken,
            dry_run=dry_run,
            backup_dir=backup_dir,
            quiet_for=quiet_for,
            progress=progress,
        )


async def import_into(
    rest: Rest,
    folder: Path,
    company_id: str,
    *,
    force: bool = False,
    skip_broken: bool = False,
    dry_run: bool = False,
    backup_dir: str | os.PathLike[str] | None = None,
    quiet_for: float = QUIET_SECONDS,
    progress: Progress = silent,
    same_device: Sequence[str] = (),
) -> ImportReport:
    """Import a folder; see `import_folder`.

    Args:
        rest: where the database is.
        folder: the folder's real path.
        company_id: the company to become.
        force: as in `import_folder`, like those that follow.
        skip_broken: leave out files that are not understood.
        dry_run: write nothing.
        backup_dir: where to put backups.
        quiet_for: seconds for which no process may have written to the folder.
        progress: called with how far the import has come.
        same_device: other companies that are known to be the same linked device.
    """
    check_company_id(company_id)
    directory = folder.parent if backup_dir is None else located(backup_dir)
    refuse_inside(directory, folder)
    progress("reading", 0, 0)
    contents = await _read(folder, quiet_for)
    refuse_without_creds(contents, str(folder))
    if not skip_broken:
        refuse_broken(contents, str(folder))
    source, left_out = source_of(contents)
    backup: Path | None = None

    async def back_up() -> None:
        nonlocal backup
        backup = await asyncio.to_thread(back_up_folder, folder, directory, contents)

    plan, database_backup = await CopyIn(
        rest=rest,
        company_id=company_id,
        source=source,
        force=force,
        backup_dir=directory,
        backup_name=folder.name,
        otherwise=f"`supabase-auth-state export {folder} --company {company_id} --force` brings "
        "the folder up to it",
        progress=progress,
        before_writing=back_up,
        check_source=lambda: refuse_if_changed(folder, contents.snapshot),
        same_device=same_device,
    ).run("import", dry_run=dry_run)
    return ImportReport(
        company_id=company_id,
        folder=folder,
        dry_run=dry_run,
        left_out=left_out,
        skipped=tuple(contents.problems),
        ignored=tuple(contents.ignored),
        leftovers=tuple(contents.leftovers),
        backup=backup,
        database_backup=database_backup,
        **counts(plan),
    )


async def _read(folder: Path, quiet_for: float) -> FolderContents:
    try:
        contents = await read_quiet_folder(folder, quiet_for=quiet_for, read=read_source)
    except FolderError:
        await asyncio.to_thread(refuse_wrong_path, folder)
        raise
    if contents.creds is None:
        await asyncio.to_thread(refuse_wrong_path, folder)
    return contents
