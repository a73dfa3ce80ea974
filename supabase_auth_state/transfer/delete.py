"""Deleting a company: into quarantine after a backup, or every trace of it at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.errors import ARRIVING, VerificationFailed
from supabase_auth_state.rest.client import Rest, using_rest
from supabase_auth_state.rest.connection import Client

from .backups import DIRECTORY, back_up_company
from .closable import ClosableCompany
from .company import Company, read_company
from .company_writer import CompanyWriter, owned_for
from .documents import name_of
from .quiet import located

_A_MOMENT = 0.05


@dataclass(frozen=True)
class DeleteReport:
    """What was deleted.

    Attributes:
        company_id: the company.
        keys: how many keys it had.
        creds: whether it had creds.
        backup: where all of it is kept. The database keeps it too, for 14 days.
    """

    company_id: str
    keys: int
    creds: bool
    backup: Path

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**vars(self), "backup": str(self.backup)}

    def __str__(self) -> str:
        creds = "its creds" if self.creds else "no creds"
        return (
            f"company {self.company_id!r}: {self.keys} keys and {creds} deleted\n"
            f"kept in quarantine for 14 days; backup: {self.backup}"
        )


@dataclass(frozen=True)
class EraseReport:
    """What was removed for good.

    Attributes:
        company_id: the company.
        removed: how many rows of it each table had.
        left: how many each table has now, counted after the last deletion: none.
    """

    company_id: str
    removed: Mapping[str, int]
    left: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**vars(self)}

    def __str__(self) -> str:
        rows = ", ".join(f"{table} {count}" for table, count in self.removed.items() if count)
        return (
            f"company {self.company_id!r}: every trace is removed ({rows or 'there was none'})\n"
            f"no row of it is left in {len(self.left)} tables; backups, files and what the project "
            "itself keeps (its backups, its logs) are not looked at"
        )


async def delete_company(
    company_id: str,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    backup_dir: str | os.PathLike[str] | None = None,
) -> DeleteReport:
    """Move a company into quarantine, in one transaction and after a backup.

    A company that was on its way here from another project is open here again; one that has moved
    away stays closed.

    No client reads it there; `restore_version` brings it back whole for 14 days. The company is
    owned while this runs. The linked device stays linked at WhatsApp: log it out on
    the phone, or restore the backup, which `restore_backup` does.

    Args:
        company_id: the company.
        client: as in `use_supabase_auth_state`.
        settings: as in `use_supabase_auth_state`.
        backup_dir: where to put the backup; ``supabase-auth-state-backups`` in the current folder
            when absent.

    Raises:
        CompanyNotFound: the company is not in the database.
        LeaseHeld: another process owns the company; nothing is deleted.
        FolderError: the backup cannot be written; nothing is deleted.
        VerificationFailed: there are rows of the company afterwards.
        StoreError, LeaseLost: the database refused or did not answer, or another process took over.
    """
    check_company_id(company_id)
    directory = located(DIRECTORY if backup_dir is None else backup_dir)
    async with using_rest(settings, client=client) as rest:
        here = ClosableCompany(rest, company_id)
        await here.look()
        async with here.owned_for("delete") as lease:
            company = (await read_company(rest, company_id)).known()
            backup = await asyncio.to_thread(back_up_company, company, directory)
            await CompanyWriter(lease).delete_company()
            _refuse_remains(await read_company(rest, company_id))
            if (here.closed or "").startswith(ARRIVING):
                await here.open()
    return DeleteReport(company_id, len(company.keys), company.creds is not None, backup)


async def erase_company(
    company_id: str,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> EraseReport:
    """Remove every trace of a company from the tables, and count what is left.

    Rows, history, quarantine, pause and lease. There is no backup, and nothing brings it back. It
    takes until no request of the company can land any more, half a minute usually: so long its
    lease and its writers' numbers have to stay. The last token lives on without the company's name.

    Args:
        company_id: the company; not stored is no error, so that it can be called again.
        client: as in `use_supabase_auth_state`.
        settings: as in `use_supabase_auth_state`.
        sleep: waits so many seconds, for tests.

    Raises:
        LeaseHeld: another process owns the company; nothing is removed.
        VerificationFailed: rows of the company are left, e.g. of a client that writes without a
            lease.
        StoreError, LeaseLost: the database refused or did not answer, or another process took over.
    """
    check_company_id(company_id)
    async with using_rest(settings, client=client) as rest:
        before = await rest.about("forget_whatsapp_company", company_id)
        if any(before["left"].values()):
            async with owned_for(rest, company_id, "erase") as lease:
                await lease.writer.rpc("erase_whatsapp_company", {})
        after = await rest.about("forget_whatsapp_company", company_id)
        while after["lands_until"] is not None and after["lands_until"] > after["time"]:
            await sleep(after["lands_until"] - after["time"] + _A_MOMENT)
            after = await rest.about("forget_whatsapp_company", company_id)
    left = [(table, f"{count} rows") for table, count in after["left"].items() if count]
    if left:
        raise VerificationFailed(
            company_id,
            f"company {company_id!r}: rows are left or were written again meanwhile, in "
            f"{', '.join(table for table, _ in left)}; stop its clients and run the command again",
            differences=left,
        )
    return EraseReport(company_id, before["left"], after["left"])


def _refuse_remains(company: Company) -> None:
    remains = [(name_of(ref), "is still there") for ref in company.documents]
    if remains:
        raise VerificationFailed(
            company.company_id,
            f"company {company.company_id!r}: {len(remains)} values are still there after the "
            f"deletion, {remains[0][0]} first; run the command again",
            differences=remains,
        )
