"""From one Supabase project into another, without a moment in which both could be used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.errors import (
    ARRIVING,
    MOVED,
    CompanyMoved,
    ConfigurationError,
    VerificationFailed,
)
from supabase_auth_state.rest.client import Rest, using_rest
from supabase_auth_state.rest.connection import Client
from supabase_auth_state.types import KeyRef

from .backups import DIRECTORY
from .closable import ClosableCompany
from .company import read_company
from .copy_in import CopyIn
from .documents import name_of, sealed_with_each
from .history import read_history
from .plan import Plan, Source
from .progress import Progress, silent
from .quiet import located


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """What a transfer did.

    Attributes:
        company_id: the company.
        project: URL of the project that it lives in now.
        values: how many values it has there; creds count as one. None when it had moved before.
        unchanged: how many of them were there already, as after a transfer that was broken off.
        already_moved: whether an earlier transfer had done everything.
        sealed: how many of them are sealed, by the id of their key: processes there need it.
        kept_here: how many earlier versions of it stay in the project that it has left.
        database_backup: the copy of the rows that the other project held, if any was replaced.
    """

    company_id: str
    project: str
    values: int | None = None
    unchanged: int = 0
    already_moved: bool = False
    sealed: Mapping[str, int] = field(default_factory=dict)
    kept_here: int = 0
    database_backup: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        backup = None if self.database_backup is None else str(self.database_backup)
        return {**vars(self), "database_backup": backup}

    def __str__(self) -> str:
        company = f"company {self.company_id!r}"
        if self.already_moved:
            return f"{company} had moved to {self.project} before; nothing was changed"
        moved = (
            f"{company}: {self.values} values moved to {self.project}, each the same on both "
            "sides; it is closed here"
        )
        return "\n".join([moved, *self._notes()])

    def _notes(self) -> Iterator[str]:
        for key_id, count in self.sealed.items():
            yield f"{count} values are sealed with {key_id}, which processes need there too"
        if self.kept_here:
            yield f"{self.kept_here} earlier versions stay here: `history` lists them"
        if self.database_backup is not None:
            yield f"backup of what the other project held: {self.database_backup}"


async def transfer_company(
    company_id: str,
    *,
    to: Settings | Rest,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    force: bool = False,
    backup_dir: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> TransferReport:
    """Move a company to another project; it is owned on both sides meanwhile, then closed here.

    Every value is copied as it is stored, with its time, and both databases hash all of them. A
    sealed value stays sealed with the same key, whichever keys are given here. Why pools leave the
    company alone comes along; earlier versions and removed companies do not. Only when all hashes
    are the same is the company closed here, and only then can it be opened there. What is broken
    off is finished by running it again; until then no process can open the company in the other
    project, and here only as long as it is not closed. The rows stay here. A closed company comes
    back by a transfer in the other direction.

    Args:
        company_id: the company.
        to: the other project; its migrations must be applied.
        client: as in `use_supabase_auth_state`: the project that the company is in.
        settings: as in `use_supabase_auth_state`.
        force: replace what the other project holds even where it may be newer, after a backup, and
            even if another company there is the same linked device.
        backup_dir: where that backup goes; ``supabase-auth-state-backups`` in the current folder
            when absent.
        progress: called with how far it has come.

    Raises:
        ConfigurationError: both projects have one URL.
        CompanyNotFound, UnfinishedImport: the company has no rows here, or no creds.
        CompanyMoved: the company has moved to a third project, or is on its way from there.
        LeaseHeld: another process owns the company in one of the projects.
        NewerState, DuplicateDevice: the other project holds the company or its device already.
        FamilyMismatch: the rows there belong to another kind of client.
        VerificationFailed: a value is not the same on both sides. The company is not opened there.
        StoreError, LeaseLost: a database refused or did not answer, or another process took over.
    """
    check_company_id(company_id)
    async with (
        using_rest(settings, client=client) as source,
        using_rest(
            to if isinstance(to, Settings) else None, client=to if isinstance(to, Rest) else None
        ) as target,
    ):
        move = _Move(
            company_id=company_id,
            source=source,
            target=target,
            force=force,
            backup_dir=located(DIRECTORY if backup_dir is None else backup_dir),
            progress=progress,
        )
        return await move.run()


@dataclass(kw_only=True)
class _Move:
    company_id: str
    source: Rest
    target: Rest
    force: bool
    backup_dir: Path
    progress: Progress
    here: ClosableCompany = field(init=False)
    there: ClosableCompany = field(init=False)

    def __post_init__(self) -> None:
        if self.source.url == self.target.url:
            raise ConfigurationError(f"a transfer goes to another project than {self.source.url}")
        self.here = ClosableCompany(self.source, self.company_id)
        # Without keys: what arrives is stored as it was, sealed or plain.
        self.there = ClosableCompany(self.target.with_encryption(None), self.company_id)
        self._moved = MOVED + self.target.url
        self._arriving = ARRIVING + self.source.url
        self._sealed: Mapping[str, int] = {}

    async def run(self) -> TransferReport:
        await self.here.look()
        if self.here.closed not in {None, self._moved}:
            raise CompanyMoved(self.company_id, str(self.here.closed))
        async with self.here.owned_for("transfer"):
            # Behind the lease: no other transfer from here is under way.
            await self.there.look()
            if self.here.closed is not None and self.there.closed != self._arriving:
                return TransferReport(
                    company_id=self.company_id, project=self.target.url, already_moved=True
                )
            if self.there.closed not in {None, self._arriving, MOVED + self.source.url}:
                raise CompanyMoved(self.company_id, str(self.there.closed))
            # What a closed company holds there came from here, or went here.
            force = self.force or self.there.closed is not None
            async with self.there.owned_for("transfer"):
                return await self._move(force=force)

    async def _move(self, *, force: bool) -> TransferReport:
        plan, backup = await self._copy(force=force)
        hashes = await self._compare()
        if self.here.closed is None:
            await self.here.close(self._moved)
            if await self.here.hashes() != hashes:
                # Our lease had run out, and a process without one has written.
                await self._copy(force=True)
                await self._compare()
        await self.there.set_pause(await self.here.pause())
        kept = await read_history(self.company_id, client=self.source)
        await self.there.open()
        return TransferReport(
            company_id=self.company_id,
            project=self.target.url,
            values=len(hashes),
            unchanged=plan.unchanged,
            sealed=self._sealed,
            kept_here=len(kept.versions),
            database_backup=backup,
        )

    async def _copy(self, *, force: bool) -> tuple[Plan, Path | None]:
        self.progress("reading", 0, 0)
        company = (await read_company(self.source, self.company_id)).with_creds()
        self._sealed = sealed_with_each(company.documents.values())
        assert self.there.lease is not None  # noqa: S101 - owned by the caller
        return await CopyIn(
            rest=self.target,
            company_id=self.company_id,
            source=Source(company.documents, family=str(company.family), as_stored=True),
            force=force,
            backup_dir=self.backup_dir,
            backup_name=None,
            otherwise="use the company there, and leave this one",
            progress=self.progress,
            before_writing=self._close_there,
        ).run_under(self.there.lease)

    async def _close_there(self) -> None:
        """Close the company in the other project before its first value is written."""
        if self.there.closed != self._arriving:
            await self.there.close(self._arriving)

    async def _compare(self) -> Mapping[KeyRef, str]:
        here, there = await self.here.hashes(), await self.there.hashes()
        wrong = [ref for ref in {**here, **there} if here.get(ref) != there.get(ref)]
        if wrong:
            raise VerificationFailed(
                self.company_id,
                f"company {self.company_id!r}: {len(wrong)} values are not the same in both "
                f"projects, {name_of(wrong[0])} first; it is not opened in {self.target.url}. "
                "Run the same transfer again",
                differences=[(name_of(ref), "is not the same on both sides") for ref in wrong],
            )
        return here
