"""From the tables to an auth folder that Baileys opens: the way back to files."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.errors import (
    CodecError,
    FolderError,
    VerificationFailed,
    some_of,
)
from supabase_auth_state.files.atomic import sync_folder
from supabase_auth_state.files.folder import (
    FolderKey,
    FolderSnapshot,
    read_folder,
    snapshot,
    write_folder,
)
from supabase_auth_state.files.names import beginning_of
from supabase_auth_state.files.reading import kind_of
from supabase_auth_state.rest.aio import finish_even_if_cancelled
from supabase_auth_state.rest.client import Rest, using_rest
from supabase_auth_state.rest.connection import Client
from supabase_auth_state.types import KeyRef, Value

from .company import Company, read_company
from .company_writer import owned_for
from .documents import (
    CREDS,
    Document,
    decoded,
    encoded,
    folder_documents,
    name_of,
    refuse_sealed,
)
from .progress import Progress, silent
from .quiet import QUIET_SECONDS, located, read_quiet_folder, refuse_if_changed


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        company_id: the company.
        folder: the folder that was written.
        values: how many files it has, creds among them.
        moved_aside: where the folder that was there before is now.
    """

    company_id: str
    folder: Path
    values: int
    moved_aside: Path | None

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "company_id": self.company_id,
            "folder": str(self.folder),
            "values": self.values,
            "moved_aside": None if self.moved_aside is None else str(self.moved_aside),
        }

    def __str__(self) -> str:
        lines = [f"company {self.company_id!r}: {self.values} files in {self.folder}, read back"]
        if self.moved_aside is not None:
            lines.append(f"the folder that was there is now {self.moved_aside}")
        return "\n".join(lines)


async def export_folder(
    folder: str | os.PathLike[str],
    company_id: str,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    force: bool = False,
    lease: bool = True,
    quiet_for: float = QUIET_SECONDS,
    progress: Progress = silent,
) -> ExportReport:
    """Write a company as a folder that Baileys' ``useMultiFileAuthState`` opens, and read it back.

    The folder appears complete, with mode 0700, its files 0600 and with the times of the rows. The
    company is owned while this runs, so that no process changes it meanwhile. Afterwards only one
    of the two may be used: set ``USE_DATABASE_AUTH_STATE=false`` for the folder.

    Args:
        folder: the folder; must not exist, or be empty.
        company_id: the company.
        client: as in `use_supabase_auth_state`.
        settings: as in `use_supabase_auth_state`.
        force: move a folder that is not empty aside first; it is never deleted.
        lease: own the company. Without it, the copy may mix states when a process is writing.
        quiet_for: seconds for which no process may have written to a folder that is moved aside.
        progress: called with how far the export has come.

    Raises:
        FolderError: the folder is not empty, or in use, or cannot be written.
        CompanyNotFound: the company is not in the database.
        UnfinishedImport: the company has keys and no creds.
        LeaseHeld: another process owns the company.
        FamilyMismatch: the rows are not of Baileys' family.
        CodecError: a row cannot be read for certain; nothing is written.
        SealedValueError: a row is sealed, and no key here opens it; nothing is written.
        VerificationFailed: the files do not read back as what the rows hold; nothing is left.
        StoreError: the database refused or did not answer.
    """
    check_company_id(company_id)
    target = located(folder)
    old = await _look_at(target, force, quiet_for)
    async with AsyncExitStack() as held:
        rest = await held.enter_async_context(using_rest(settings, client=client))
        if lease:
            await held.enter_async_context(owned_for(rest, company_id, "export"))
        progress("reading", 0, 0)
        company = (await read_company(rest, company_id)).of_family(codec.BAILEYS)
        progress("writing", 0, 0)
        aside = await _put(company, target, old)
    return ExportReport(company_id, target, len(company.documents), aside)


async def _put(company: Company, target: Path, old: FolderSnapshot | None) -> Path | None:
    staged = target.parent / f".{beginning_of(target.name)}.export-{uuid.uuid4().hex[:8]}"
    try:
        await finish_even_if_cancelled(asyncio.to_thread(_stage, company, staged))
        if old is not None:
            await refuse_if_changed(target, old)
        return await finish_even_if_cancelled(
            asyncio.to_thread(_swap, staged, target, move_aside=old is not None)
        )
    finally:
        shutil.rmtree(staged, ignore_errors=True)


async def _look_at(target: Path, force: bool, quiet_for: float) -> FolderSnapshot | None:
    """Return a look at the folder that will be moved aside, or None when there is none."""
    if await asyncio.to_thread(_is_free, target):
        return None
    if not force:
        raise _not_empty(target)
    return (await read_quiet_folder(target, quiet_for=quiet_for)).snapshot


def _not_empty(target: Path) -> FolderError:
    return FolderError(
        f"the folder {target} is not empty: choose another one, or use --force, which moves this "
        "one aside"
    )


def _is_free(target: Path) -> bool:
    return kind_of(target) is None or not snapshot(target).entries


def _stage(company: Company, folder: Path) -> None:
    """Write a company to a folder that is not in use yet, and read it back."""
    values = read_values(company)
    times = {ref: document.time for ref, document in company.documents.items()}
    keys = [FolderKey(ref, value, times[ref]) for ref, value in values.items() if ref != CREDS]
    write_folder(folder, values[CREDS], keys, creds_mtime=times[CREDS])
    _verify(folder, company.company_id, values)


def read_values(company: Company) -> dict[KeyRef, Value]:
    """Return every value of a company.

    Raises:
        CompanyNotFound: the company is not in the database.
        UnfinishedImport: the company has keys and no creds.
        CodecError: a value cannot be read for certain.
    """
    refuse_sealed(company.documents.values(), company.company_id)
    values = {}
    failed: list[CodecError] = []
    for ref, document in company.with_creds().documents.items():
        try:
            values[ref] = decoded(document, company.company_id)
        except CodecError as error:
            failed.append(error)
    if failed:
        raise _unreadable(company, failed)
    return values


def _unreadable(company: Company, failed: list[CodecError]) -> CodecError:
    first = failed[0]
    reasons = some_of((error.reason for error in failed), 1)
    return CodecError(
        f"{reasons}; `supabase-auth-state doctor --company {company.company_id}` names "
        "every such row",
        company_id=company.company_id,
        key_type=first.key_type,
        key_id=first.key_id,
        path=first.path,
    )


def _verify(folder: Path, company_id: str, values: dict[KeyRef, Value]) -> None:
    contents = read_folder(folder)
    written = folder_documents(contents)
    wrong = list(contents.problems)
    wrong += [
        (name_of(ref), "came back as another value")
        for ref, value in values.items()
        if not _is_same(written.get(ref), encoded(ref, value, 0.0, company_id))
    ]
    if wrong:
        raise VerificationFailed(
            company_id,
            f"company {company_id!r}: {len(wrong)} values cannot be kept in files as they are, "
            f"{wrong[0][0]} ({wrong[0][1]}) first; nothing was written",
            differences=wrong,
        )


def _is_same(written: Document | None, wanted: Document) -> bool:
    return written is not None and written.text == wanted.text


def _swap(staged: Path, target: Path, *, move_aside: bool) -> Path | None:
    """Put the new folder in its place; return where the old one is now, unless it was empty."""
    aside: Path | None = None
    try:
        if target.exists():
            if any(target.iterdir()):
                if not move_aside:
                    # It was made, or written to, after this export had begun.
                    raise _not_empty(target)
                stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
                beginning = f"{beginning_of(target.name)}.backup-{stamp}"
                aside = target.parent / f"{beginning}-{uuid.uuid4().hex[:4]}"
                target.rename(aside)
            else:
                target.rmdir()
        try:
            staged.rename(target)
        except OSError:
            if aside is not None:
                aside.rename(target)
            raise
        sync_folder(target.parent)
    except OSError as exc:
        raise FolderError(f"cannot put the new folder at {target}: {exc.strerror}") from exc
    return aside
