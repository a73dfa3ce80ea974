"""Deleting a company: its keys and its creds, after a backup."""

from __future__ import annotations

import asyncio
import os
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
from .company_writer import CompanyWriter
from .documents import name_of
from .quiet import located


@dataclass(frozen=True)
class DeleteReport:
    """What was deleted.

    Attributes:
        company_id: the company.
        keys: how many keys it had.
        creds: whether it had creds.
        backup: where all of it is kept.
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
            f"backup: {self.backup}"
        )


async def delete_company(
    company_id: str,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    backup_dir: str | os.PathLike[str] | None = None,
) -> DeleteReport:
    """Delete all keys and the creds of a company, in one transaction and after a backup.

    A company that was on its way here from another project is open here again; one that has moved
    away stays closed.

    The company is owned while this runs. The linked device stays linked at WhatsApp: log it out on
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


def _refuse_remains(company: Company) -> None:
    remains = [(name_of(ref), "is still there") for ref in company.documents]
    if remains:
        raise VerificationFailed(
            company.company_id,
            f"company {company.company_id!r}: {len(remains)} values are still there after the "
            f"deletion, {remains[0][0]} first; run the command again",
            differences=remains,
        )
