"""From an auth folder into the tables: all of it, or nothing that could be taken for all of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.errors import FolderError, LeaseHeld, NewerState, VerificationFailed
from supabase_auth_state.files.folder import FolderContents
from supabase_auth_state.files.names import CREDS_FILE, KeyRef, parse_file_name
from supabase_auth_state.rest.client import Rest, using_rest

from .backups import back_up_company, back_up_folder
from .company import Batch, Company, CompanyWriter, batches, owned_for, read_company
from .documents import (
    CREDS,
    Document,
    Documents,
    Match,
    folder_documents,
    is_newer,
    is_other_device,
    match,
    name_of,
    names,
    unneeded_mappings,
)
from .progress import Progress, silent
from .quiet import QUIET_SECONDS, located, read_quiet_folder, refuse_if_changed

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient
    from supabase import AsyncClient


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or would do.

    Creds count as one value.

    Attributes:
        company_id: the company.
        folder: the folder.
        dry_run: whether nothing was written.
        added: values that the database did not have.
        replaced: values that were older in the database, or stored in a damaged form.
        removed: values that only the database had; more than 0 only with ``force``.
        unchanged: values that were there already.
        left_out: lid-mappings older than seven days that no session needs.
        skipped: name and reason of each file that was not understood, with ``skip_broken``.
        ignored: names of files that are not Baileys'.
        backup: the copy of the folder.
        database_backup: the copy of the rows that were replaced.
    """

    company_id: str
    folder: Path
    dry_run: bool
    added: int
    replaced: int
    removed: int
    unchanged: int
    left_out: int
    skipped: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    backup: Path | None = None
    database_backup: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "company_id": self.company_id,
            "folder": str(self.folder),
            "dry_run": self.dry_run,
            "added": self.added,
            "replaced": self.replaced,
            "removed": self.removed,
            "unchanged": self.unchanged,
            "left_out": self.left_out,
            "skipped": [{"file": name, "reason": reason} for name, reason in self.skipped],
            "ignored": list(self.ignored),
            "backup": None if self.backup is None else str(self.backup),
            "database_backup": None if self.database_backup is None else str(self.database_backup),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        counts = f"{self.added} values added, {self.replaced} replaced, {self.removed} removed, "
        if self.dry_run:
            yield f"company {self.company_id!r}: would have {counts}{self.unchanged} unchanged"
        else:
            yield f"company {self.company_id!r}: {counts}{self.unchanged} unchanged"
            yield "read back: every value is the same on both sides"
        if self.left_out:
            yield f"left out: {self.left_out} lid-mappings older than 7 days that no session needs"
        for name, reason in self.skipped:
            yield f"skipped: {name} {reason}"
        if self.backup is not None:
            yield f"backup of the folder: {self.backup}"
        if self.database_backup is not None:
            yield f"backup of what the database held: {self.database_backup}"


@dataclass
class Plan:
    """What has to be done for the database to hold what the folder holds.

    Attributes:
        added: values that the database does not have.
        replaced: values that the database has otherwise, be it in form only.
        removed: keys that only the database has.
        newer: keys of ``replaced`` that the database changed later than the folder.
        unchanged: how many values are the same.
        other_device: whether the database holds the creds of another linked device.
    """

    added: list[Document] = field(default_factory=list)
    replaced: list[Document] = field(default_factory=list)
    removed: list[KeyRef] = field(default_factory=list)
    newer: list[KeyRef] = field(default_factory=list)
    unchanged: int = 0
    other_device: bool = False

    @property
    def writes(self) -> bool:
        """Whether anything has to be written."""
        return bool(self.added or self.replaced or self.removed)

    @property
    def needs_force(self) -> bool:
        """Whether something would be lost that may be newer than the folder."""
        return bool(self.newer or self.removed or self.other_device)


def plan_import(
    files: Documents, company: Company, *, spared: AbstractSet[KeyRef] = frozenset()
) -> Plan:
    """Compare a folder with a company's rows.

    Args:
        files: the folder's documents.
        company: the rows.
        spared: keys that are not removed although ``files`` does not have them.
    """
    plan = Plan(other_device=is_other_device(files, company.documents, company.company_id))
    for ref, file in files.items():
        row = company.documents.get(ref)
        found = None if row is None else match(file, row, company.company_id)
        if row is None:
            plan.added.append(file)
        elif found is Match.SAME:
            plan.unchanged += 1
        else:
            plan.replaced.append(file)
            if found is not Match.SAME_VALUE and not is_newer(file, row):
                plan.newer.append(ref)
    plan.removed = [ref for ref in company.documents if ref not in files and ref not in spared]
    return plan


async def import_folder(
    folder: str | os.PathLike[str],
    company_id: str,
    *,
    client: AsyncClient | AsyncPostgrestClient | Rest | None = None,
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
    the files, creds with the last, so that an import that was broken off leaves nothing that could
    be opened; run it again to finish it. One that is there already is changed in one transaction,
    after a backup of what is replaced.

    Args:
        folder: the folder.
        company_id: the company to become.
        client: as in `use_supabase_auth_state`; share an `open_rest()` between many imports.
        settings: as in `use_supabase_auth_state`.
        force: make the database equal to the folder, even where it is newer.
        skip_broken: leave out files that are not understood, instead of refusing the folder.
        dry_run: write nothing, and say what would be done.
        backup_dir: where to put backups; beside the folder when absent.
        quiet_for: seconds that nobody may have written to the folder.
        progress: is told how far the import has come.

    Raises:
        FolderError: the folder is in use, has no creds, or has files that are not understood;
            nothing is written.
        NewerState: the database holds newer state; nothing is written.
        LeaseHeld: another process owns the company; nothing is written.
        FamilyMismatch: the rows belong to another kind of client; nothing is written.
        VerificationFailed: what was stored does not read back as what the folder holds.
        StoreError, LeaseLost: the database refused or did not answer, or somebody else took over.
    """
    check_company_id(company_id)
    async with using_rest(settings, client=client) as rest:
        return await _Import(
            rest=rest,
            folder=located(folder),
            company_id=company_id,
            force=force,
            skip_broken=skip_broken,
            dry_run=dry_run,
            backup_dir=None if backup_dir is None else located(backup_dir),
            quiet_for=quiet_for,
            progress=progress,
        ).run()


@dataclass(frozen=True)
class _Import:
    rest: Rest
    folder: Path
    company_id: str
    force: bool
    skip_broken: bool
    dry_run: bool
    backup_dir: Path | None
    quiet_for: float
    progress: Progress

    async def run(self) -> ImportReport:
        source = await self._read()
        if self.dry_run:
            await refuse_if_owned(self.rest, self.company_id)
            plan, _ = await self._plan(source)
            return self._report(source, plan)
        async with owned_for(self.rest, self.company_id, "import") as lease:
            plan, company = await self._plan(source)
            backups = await asyncio.to_thread(self._back_up, source.contents, plan, company)
            if plan.writes:
                writer = CompanyWriter(self.rest, lease)
                await self._write(writer, source, plan, CREDS in company.documents)
            await self._verify(source)
            lease.check()
        await refuse_if_changed(self.folder, source.contents.snapshot)
        return self._report(source, plan, *backups)

    async def _read(self) -> _Source:
        self.progress("reading", 0, 0)
        contents = await read_quiet_folder(self.folder, quiet_for=self.quiet_for)
        self._refuse_broken(contents)
        return _Source.of(contents)

    def _refuse_broken(self, contents: FolderContents) -> None:
        reasons = dict(contents.problems)
        if contents.creds is None:
            reason = reasons.get(CREDS_FILE, "is not there")
            raise FolderError(
                f"{self.folder} cannot be imported: {CREDS_FILE} {reason}, and without it there is "
                "no linked device",
                problems=[(CREDS_FILE, reason)],
            )
        if contents.problems and not self.skip_broken:
            name, reason = contents.problems[0]
            more = f" (and {len(contents.problems) - 1} more)" if len(contents.problems) > 1 else ""
            raise FolderError(
                f"{self.folder} cannot be imported as it is: {name} {reason}{more}. Nothing was "
                "written; --skip-broken leaves such files out",
                problems=contents.problems,
            )

    async def _plan(self, source: _Source) -> tuple[Plan, Company]:
        company = await read_company(self.rest, self.company_id)
        plan = plan_import(source.files, company, spared=source.spared)
        if plan.needs_force and not self.force:
            raise _newer_state(self.company_id, self.folder, plan)
        return plan, company

    def _back_up(
        self, contents: FolderContents, plan: Plan, company: Company
    ) -> tuple[Path, Path | None]:
        backup = back_up_folder(self.folder, self.backup_dir, contents)
        if not (plan.replaced or plan.removed):
            return backup, None
        return backup, back_up_company(company, backup.parent, self.folder.name)

    async def _write(
        self, writer: CompanyWriter, source: _Source, plan: Plan, exists: bool
    ) -> None:
        changed = [*plan.added, *plan.replaced]
        keys = [file for file in changed if file.ref != CREDS]
        creds = source.files[CREDS] if len(keys) < len(changed) else None
        if exists:
            await refuse_if_changed(self.folder, source.contents.snapshot)
            # Whoever opens the company meanwhile finds all of it as it was, or as it will be. The
            # batches that follow only give the rows the times of their files.
            await writer.exchange(keys, plan.removed, creds)
        elif plan.removed:
            await writer.exchange([], plan.removed, None)
        parts = list(batches(keys))
        if creds is not None and not parts:
            parts.append(Batch())
        done = 0
        for batch in parts:
            last = creds if batch is parts[-1] else None
            if last is not None:
                await refuse_if_changed(self.folder, source.contents.snapshot)
            await writer.put(batch, last)
            done += len(batch.documents) + (last is not None)
            self.progress("writing", done, len(changed))

    async def _verify(self, source: _Source) -> None:
        self.progress("checking", 0, 0)
        company = await read_company(self.rest, self.company_id)
        plan = plan_import(source.files, company, spared=source.spared)
        wrong = [(name_of(file.ref), "is not in the database") for file in plan.added]
        wrong += [(name_of(file.ref), "came back as another value") for file in plan.replaced]
        wrong += [(name_of(ref), "is in the database only") for ref in plan.removed]
        if wrong:
            raise VerificationFailed(
                self.company_id,
                f"company {self.company_id!r}: {len(wrong)} values did not come back as they were "
                f"stored, {wrong[0][0]} first; do not open it, and run the import again",
                differences=wrong,
            )

    def _report(
        self,
        source: _Source,
        plan: Plan,
        backup: Path | None = None,
        database_backup: Path | None = None,
    ) -> ImportReport:
        return ImportReport(
            company_id=self.company_id,
            folder=self.folder,
            dry_run=self.dry_run,
            added=len(plan.added),
            replaced=len(plan.replaced),
            removed=len(plan.removed),
            unchanged=plan.unchanged,
            left_out=source.left_out,
            skipped=tuple(source.contents.problems),
            ignored=tuple(source.contents.ignored),
            backup=backup,
            database_backup=database_backup,
        )


@dataclass(frozen=True)
class _Source:
    """A folder as it goes into the database.

    Attributes:
        contents: what was read.
        files: the documents to have in the database.
        spared: keys of the folder that are not among them, and that rows may have all the same.
        left_out: how many of those are old mappings.
    """

    contents: FolderContents
    files: dict[KeyRef, Document]
    spared: frozenset[KeyRef]
    left_out: int

    @classmethod
    def of(cls, contents: FolderContents) -> _Source:
        files = folder_documents(contents)
        left_out = unneeded_mappings(files, now=time.time())
        broken = {ref for name, _ in contents.problems if (ref := parse_file_name(name))}
        kept = {ref: file for ref, file in files.items() if ref not in left_out}
        return cls(contents, kept, frozenset(left_out | broken), len(left_out))


def _newer_state(company_id: str, folder: Path, plan: Plan) -> NewerState:
    found = []
    if plan.other_device:
        found.append("the creds of another linked device")
    if plan.newer:
        found.append(f"{len(plan.newer)} values newer than their files ({names(plan.newer)})")
    if plan.removed:
        found.append(f"{len(plan.removed)} that the folder does not have ({names(plan.removed)})")
    return NewerState(
        company_id,
        f"company {company_id!r} is not overwritten: the database holds {', and '.join(found)}. If "
        "the folder is what counts, --force makes the database equal to it, after a backup; if the "
        f"database is, `supabase-auth-state export {folder} --company {company_id} --force` brings "
        "the folder up to it",
        newer=[name_of(ref) for ref in plan.newer],
        extra=[name_of(ref) for ref in plan.removed],
        other_device=plan.other_device,
    )


async def refuse_if_owned(rest: Rest, company_id: str) -> None:
    """Look whether somebody owns a company, without owning it.

    Raises:
        LeaseHeld: somebody does.
    """
    lease = await rest.rpc("whatsapp_lease_status", {"p_company_id": company_id})
    if lease is not None and lease["live"]:
        raise LeaseHeld(company_id, owner=lease["owner"], expires_at=lease["expires_at"])
