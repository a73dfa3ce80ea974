"""Making a company hold what a folder or a backup holds: compare, write, read back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from supabase_auth_state.errors import DuplicateDevice, VerificationFailed
from supabase_auth_state.leases.lease import Lease
from supabase_auth_state.rest.client import Rest

from .backups import back_up_company
from .company import Company, companies_of_device, read_company
from .company_writer import Change, CompanyWriter, batches, owned_for, refuse_if_owned
from .documents import CREDS, device_in, name_of, refuse_sealed, sealed_with_each
from .plan import Plan, Source, plan_import, refusal
from .progress import Progress


async def _nothing() -> None:
    return


@dataclass(frozen=True)
class CopyIn:
    """What an import and a restore have in common.

    Attributes:
        rest: where the database is.
        company_id: the company.
        source: what it is to hold.
        force: make the database equal to the source whatever it holds.
        backup_dir: where the backup of replaced rows goes.
        backup_name: the first part of its name; made of the company_id when absent.
        otherwise: what to do if the database is what counts, as the end of a sentence.
        progress: called with how far the work has come.
        before_writing: called before anything is written.
        check_source: raises if the source has changed since it was read.
        same_device: other companies that are known to be the same linked device.
    """

    rest: Rest
    company_id: str
    source: Source
    force: bool
    backup_dir: Path
    backup_name: str | None
    otherwise: str
    progress: Progress
    before_writing: Callable[[], Awaitable[None]] = _nothing
    check_source: Callable[[], Awaitable[None]] = _nothing
    same_device: Sequence[str] = ()

    async def run(self, purpose: str, *, dry_run: bool) -> tuple[Plan, Path | None]:
        """Own the company, compare, back up what is replaced, write, and read all of it back.

        Args:
            purpose: the command's name, for a process that finds the company owned.
            dry_run: only compare.

        Returns:
            What was done, or would be, and the backup of the rows as they were, if any was replaced
            or removed.

        Raises:
            NewerState: the database holds what may be newer.
            DuplicateDevice: another company is the same linked device.
            FamilyMismatch: the rows belong to another kind of client.
            SealedValueError: the company has rows that no key here opens.
            LeaseHeld: another process owns the company.
            FolderError: the backup cannot be written, or the source has changed.
            VerificationFailed: what was stored does not read back.
            LeaseLost: this process no longer owns the company.
            StoreError: the database refused or did not answer.
        """
        if dry_run:
            await refuse_if_owned(self.rest, self.company_id)
            plan, _ = await self._plan()
            return plan, None
        async with owned_for(self.rest, self.company_id, purpose) as lease:
            result = await self.run_under(lease)
        await self.check_source()
        return result

    async def run_under(self, lease: Lease) -> tuple[Plan, Path | None]:
        """Do what `run` does, under a lease that the caller has."""
        plan, company = await self._plan()
        await self.before_writing()
        backup = await self._back_up(plan, company)
        if plan.writes:
            await self._write(lease, plan, company)
        await self._verify()
        lease.check()
        return plan, backup

    async def _plan(self) -> tuple[Plan, Company]:
        company = (await read_company(self.rest, self.company_id)).of_family(self.source.family)
        if not self.source.as_stored:
            # What cannot be compared is not replaced, --force or not.
            refuse_sealed(company.documents.values(), self.company_id)
        plan = plan_import(self.source, company)
        if not self.force:
            if plan.needs_force:
                raise refusal(plan, self.company_id, otherwise=self.otherwise)
            await self._refuse_same_device()
        return plan, company

    async def _refuse_same_device(self) -> None:
        device = device_in(self.source.documents, self.company_id, self.source.family)
        found = await companies_of_device(self.rest, device, self.company_id)
        others = sorted({*found, *self.same_device})
        if others:
            raise DuplicateDevice(self.company_id, others)

    async def _back_up(self, plan: Plan, company: Company) -> Path | None:
        if not (plan.replaced or plan.removed):
            return None
        return await asyncio.to_thread(back_up_company, company, self.backup_dir, self.backup_name)

    async def _write(self, lease: Lease, plan: Plan, company: Company) -> None:
        writer = CompanyWriter(lease, self.source.family)
        changed = [*plan.added, *plan.replaced]
        if self.source.as_stored:
            changed = [replace(each, json=each.stored) for each in changed]
            # What is replaced is in the backup, whether or not it could be opened.
            lease.writer.replaces_sealed = tuple(sealed_with_each(company.documents.values()))
        if company.creds is not None:
            # A client that opens the company finds all of it as it was, or as it will be.
            await self.check_source()
            await writer.replace(Change.of(changed, plan.removed))
            return
        # No client opens a company without creds, so they come last; another run finishes what is
        # broken off before.
        if plan.removed:
            await writer.replace(Change.of([], plan.removed))
        done = 0
        for batch in batches(document for document in changed if document.ref != CREDS):
            await writer.upsert_keys(batch)
            done += len(batch)
            self.progress("writing", done, len(changed))
        await self.check_source()
        await writer.upsert_creds(next(each for each in changed if each.ref == CREDS))
        self.progress("writing", len(changed), len(changed))

    async def _verify(self) -> None:
        self.progress("checking", 0, 0)
        plan = plan_import(self.source, await read_company(self.rest, self.company_id))
        wrong = [(name_of(each.ref), "is not in the database") for each in plan.added]
        wrong += [(name_of(each.ref), "came back as another value") for each in plan.replaced]
        wrong += [(name_of(ref), "is in the database only") for ref in plan.removed]
        if wrong:
            raise VerificationFailed(
                self.company_id,
                f"company {self.company_id!r}: {len(wrong)} values did not come back as they were "
                f"stored, {wrong[0][0]} first; do not open it, and run the command again",
                differences=wrong,
            )
