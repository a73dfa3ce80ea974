"""Reading a company for the doctor, and putting right what can be put right."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from supabase_auth_state.config import check_company_id
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.transfer.company import owned_for
from supabase_auth_state.transfer.rows import RawRows, back_up, read_rows, write_change

from .examination import examine
from .findings import Chart, Report


async def diagnose(rest: Rest, company_id: str) -> Report:
    """Report everything that is wrong with a company's rows; nothing is changed.

    While a client writes, rows that belong together may be read before and after: the report names
    the owner, if there is one.

    Args:
        rest: where the database is.
        company_id: the company.

    Raises:
        ConfigurationError: the company_id is none.
        StoreError: the database refused or did not answer.
    """
    check_company_id(company_id)
    lease = await rest.rpc("whatsapp_lease_status", {"p_company_id": company_id})
    rows = await read_rows(rest, company_id)
    owner = lease["owner"] if lease is not None and lease["live"] else None
    return replace(_report(rows, await _examined(rows)), in_use_by=owner)


async def repair(rest: Rest, company_id: str, *, backup_folder: str | os.PathLike[str]) -> Report:
    """Put right what can be put right without guessing, and report that and what was left alone.

    The company is owned meanwhile, so a client that is connected without a lease has its writes
    refused: stop it first. Before anything is changed, all rows are written to a new file in
    ``backup_folder``; all changes are one transaction.

    Args:
        rest: where the database is.
        company_id: the company.
        backup_folder: where to put the backup; made when missing.

    Raises:
        LeaseHeld: another process owns the company.
        FolderError: the backup cannot be written, and nothing was changed.
        ConfigurationError: the company_id is none.
        StoreError: the database refused (nothing was changed) or did not answer (all of it may have
            been; a second repair finds out).
    """
    check_company_id(company_id)
    async with owned_for(rest, company_id, "doctor") as lease:
        rows = await read_rows(rest, company_id)
        chart = await _examined(rows)
        if not chart.change:
            return _report(rows, chart)
        backup = await asyncio.to_thread(back_up, rows, backup_folder)
        await write_change(rest, company_id, chart.change, lease)
        rows = await read_rows(rest, company_id)
    after = await _examined(rows)
    remaining = set(after.findings)
    repaired = tuple(f for f in chart.findings if f.repairable and f not in remaining)
    return replace(_report(rows, after), repaired=repaired, backup=backup)


async def _examined(rows: RawRows) -> Chart:
    # Thousands of signatures and key pairs take a while, and the lease has to be renewed meanwhile.
    return await asyncio.to_thread(examine, rows)


def _report(rows: RawRows, chart: Chart) -> Report:
    family = None if rows.auth is None else rows.auth.family
    return Report(rows.company_id, family, len(rows.keys), chart.findings)
