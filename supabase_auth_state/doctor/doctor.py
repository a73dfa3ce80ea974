"""Examining a company, and repairing what can be repaired."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from supabase_auth_state import codec
from supabase_auth_state.codec import sealed_with
from supabase_auth_state.config import check_company_id
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.transfer.backups import back_up_company
from supabase_auth_state.transfer.company import Company, companies_of_device, read_company
from supabase_auth_state.transfer.company_writer import CompanyWriter, owned_for
from supabase_auth_state.transfer.documents import device_in

from .examination import examine
from .findings import DoctorReport, Findings


async def diagnose(rest: Rest, company_id: str) -> DoctorReport:
    """Report everything that is wrong with a company's rows; nothing is changed.

    While a client writes, rows that belong together may be read before and after: the report names
    the owner, if there is one.

    Args:
        rest: where the database is.
        company_id: the company.

    Raises:
        ConfigurationError: the company_id is none.
        CompanyNotFound: the company is not in the database.
        StoreError: the database refused or did not answer.
    """
    check_company_id(company_id)
    lease = await rest.about("whatsapp_lease_status", company_id)
    company, same_device = await _read(rest, company_id)
    owner = lease["owner"] if lease["live"] else None
    report = _report(company, await _examined(company, same_device))
    return replace(report, in_use_by=owner, rolled_back_at=lease["restored_at"])


async def repair(
    rest: Rest, company_id: str, *, backup_folder: str | os.PathLike[str]
) -> DoctorReport:
    """Repair what can be repaired without guessing, and report that and what was left alone.

    The company is owned meanwhile, so a client that is connected without a lease has its writes
    refused: stop it first. Before anything is changed, all rows are written to a new backup in
    ``backup_folder``, which `restore_backup` reads; all changes are one transaction.

    Args:
        rest: where the database is.
        company_id: the company.
        backup_folder: where to put the backup; made when missing.

    Raises:
        LeaseHeld: another process owns the company.
        FolderError: the backup cannot be written, and nothing was changed.
        ConfigurationError: the company_id is none.
        CompanyNotFound: the company is not in the database.
        StoreError: the database refused (nothing was changed) or did not answer (all of it may have
            been; a second repair finds out).
    """
    check_company_id(company_id)
    async with owned_for(rest, company_id, "doctor") as lease:
        company, same_device = await _read(rest, company_id)
        before = await _examined(company, same_device)
        if not before.change:
            return _report(company, before)
        backup = await asyncio.to_thread(back_up_company, company, Path(backup_folder))
        await CompanyWriter(lease).replace(before.change)
        company = await read_company(rest, company_id)
    after = await _examined(company, same_device)
    remaining = set(after.in_order())
    repaired = tuple(f for f in before.in_order() if f.repairable and f not in remaining)
    return replace(_report(company, after), repaired=repaired, backup=backup)


async def _read(rest: Rest, company_id: str) -> tuple[Company, list[str]]:
    """Return a company, and the other companies that hold the same linked device."""
    company = (await read_company(rest, company_id)).known()
    device = device_in(company.documents, company_id, company.family or codec.BAILEYS)
    return company, await companies_of_device(rest, device, company_id)


async def _examined(company: Company, same_device: Sequence[str]) -> Findings:
    # Thousands of signatures and key pairs take a while, and the lease has to be renewed meanwhile.
    return await asyncio.to_thread(examine, company, same_device=same_device)


def _report(company: Company, findings: Findings) -> DoctorReport:
    rows = company.documents.values()
    return DoctorReport(
        company.company_id,
        company.family,
        len(company.keys),
        findings.in_order(),
        sealed_with=Counter(sealed_with(row.sealed) or "" for row in rows),
    )
