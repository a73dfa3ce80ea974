"""How a company's pre-keys come and go, and a reaper for those that pile up.

A pre-key is minted, uploaded, handed out by WhatsApp's server to a contact who writes first, and
deleted when that first message arrives. Many are handed out and never used, so rows pile up: each
costs some 300 bytes, and nothing else. A client cannot know which of them the server still has, nor
whose first message is under way; when one of those is deleted, that message is lost. Hence a
report, and a reaper that has to be asked for.

Source: Baileys 7.0.0-rc14, ``src/Utils/signal.ts`` (ids and counters), ``src/Defaults/index.ts``
(812 at the first upload), ``src/Socket/socket.ts`` (topped up when the server has 5 or fewer left,
or when the newest is not stored).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.config import check_company_id
from supabase_auth_state.errors import ConfigurationError, UnfinishedImport
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.transfer.backups import back_up_company
from supabase_auth_state.transfer.company import list_pages, read_company
from supabase_auth_state.transfer.company_writer import Change, CompanyWriter, owned_for
from supabase_auth_state.transfer.documents import Document, pre_key_number
from supabase_auth_state.types import KeyRef

FEWEST_KEPT = 812
"""The fewest pre-keys that a reaper keeps: the server may still have all of one first upload."""

_DAY = 86400.0
_TYPE = "pre-key"


@dataclass(frozen=True)
class PreKeyReport:
    """How many pre-keys a company has, and what became of the others.

    Attributes:
        company_id: the company.
        minted: how many were ever made, by the creds' counter.
        uploaded: how many of those were uploaded.
        stored: how many have a row.
        used: how many of the uploaded have none any more: a first message used them, or a reaper
            took them.
        waiting: how many have a row and are not yet uploaded.
        unknown: how many have a row and an id that the creds do not know; see the doctor.
        oldest: the lowest id that has a row, or None.
        newest: the highest id that has a row, or None.
        newest_missing: the newest that was minted has no row; clients mint more at the next login.
        minted_per_day: how many were made in a day, on average since ``oldest``; None when the rows
            do not tell.
        reaped: how many rows the reaper deleted.
        backup: where all rows are kept as they were before, if any was deleted.
    """

    company_id: str
    minted: int
    uploaded: int
    stored: int
    used: int
    waiting: int
    unknown: int
    oldest: int | None
    newest: int | None
    newest_missing: bool
    minted_per_day: float | None
    reaped: int = 0
    backup: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**vars(self), "backup": None if self.backup is None else str(self.backup)}

    def __str__(self) -> str:
        counts = f"{self.minted} minted, {self.uploaded} uploaded, {self.used} used"
        lines = [f"company {self.company_id!r}: {counts}, {self.stored} pre-keys stored"]
        if self.stored:
            lines.append(f"stored are ids {self.oldest} to {self.newest}")
        if self.minted_per_day is not None:
            lines.append(f"about {self.minted_per_day:.1f} a day since id {self.oldest}")
        if self.waiting:
            lines.append(f"{self.waiting} not yet uploaded")
        if self.unknown:
            lines.append(f"{self.unknown} that the creds do not know: run the doctor")
        if self.newest_missing:
            lines.append(f"the newest, id {self.minted}, is not stored: a login makes new ones")
        if self.backup is not None:
            lines.append(f"{self.reaped} deleted; the rows as they were: {self.backup}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Counters:
    """What creds say of pre-keys.

    Attributes:
        next_id: the id that is minted next.
        first_unuploaded: the lowest id that is not yet uploaded.
    """

    next_id: int
    first_unuploaded: int


def summarize(company_id: str, counters: Counters, keys: Sequence[Document]) -> PreKeyReport:
    """Count pre-keys.

    Args:
        company_id: the company.
        counters: what the creds say.
        keys: the rows of the type ``pre-key``; ids that are no numbers are left out.
    """
    numbered = [(pre_key_number(key.ref.key_id), key.time) for key in keys]
    minted_at = {number: time for number, time in numbered if number is not None}
    ids = sorted(minted_at)
    uploaded = counters.first_unuploaded - 1
    stored_uploaded = sum(1 for key_id in ids if key_id <= uploaded)
    known = sum(1 for key_id in ids if key_id < counters.next_id)
    newest_minted = counters.next_id - 1
    return PreKeyReport(
        company_id=company_id,
        minted=newest_minted,
        uploaded=uploaded,
        stored=len(ids),
        used=uploaded - stored_uploaded,
        waiting=known - stored_uploaded,
        unknown=len(ids) - known,
        oldest=ids[0] if ids else None,
        newest=ids[-1] if ids else None,
        newest_missing=newest_minted > 0 and newest_minted not in minted_at,
        minted_per_day=_per_day(minted_at),
    )


def reapable(counters: Counters, ids: Sequence[int], *, keep_newest: int) -> list[int]:
    """Return which stored pre-keys a reaper may delete, oldest first.

    Never the highest id, never one that is not yet uploaded or that the creds do not know, and none
    of the ``keep_newest`` highest of the others.
    """
    uploaded = sorted(key_id for key_id in ids if key_id < counters.first_unuploaded)
    deletable = uploaded[: max(len(uploaded) - keep_newest, 0)]
    spared = {counters.next_id - 1, max(ids, default=0)}
    return [key_id for key_id in deletable if key_id not in spared]


async def pre_key_report(rest: Rest, company_id: str) -> PreKeyReport:
    """Report how many pre-keys were minted, uploaded and used; nothing is changed.

    Args:
        rest: where the database is.
        company_id: the company.

    Raises:
        ConfigurationError: the creds do not count pre-keys.
        CompanyNotFound: the company is not in the database.
        UnfinishedImport: the company has keys and no creds.
        CodecError: the creds cannot be read.
        StoreError: the database refused or did not answer.
    """
    check_company_id(company_id)
    keys: list[Document] = []
    async for page in list_pages(rest, company_id, after=KeyRef(_TYPE, "")):
        found = [key for key in page.keys if key.ref.key_type == _TYPE]
        keys += found
        if len(found) < len(page.keys):
            break
    creds, family = page.creds, page.family
    if creds is None:
        # Keys of other types decide whether the company is unknown or unfinished.
        company = (await read_company(rest, company_id)).with_creds()
        creds, family = company.creds, company.family
    return summarize(company_id, read_counters(company_id, creds, family), keys)


async def reap_pre_keys(
    rest: Rest, company_id: str, *, keep_newest: int, backup_folder: str | os.PathLike[str]
) -> PreKeyReport:
    """Delete uploaded pre-keys except the newest, and report what is left then.

    A deleted pre-key that the server still hands out, or whose first message is still under way,
    costs that message, and the rows do not say which. The company is owned meanwhile, all its rows
    are written to a new backup in ``backup_folder`` first, and the deletion is one transaction.

    Args:
        rest: where the database is.
        company_id: the company.
        keep_newest: how many uploaded ones to keep, at least ``FEWEST_KEPT``.
        backup_folder: where to put the backup; made when missing.

    Raises:
        ConfigurationError: ``keep_newest`` is too low, or the creds do not count pre-keys.
        CompanyNotFound: the company is not in the database.
        UnfinishedImport: the company has keys and no creds.
        LeaseHeld: another process owns the company.
        FolderError: the backup cannot be written, and nothing was deleted.
        CodecError: the creds cannot be read.
        StoreError: the database refused or did not answer.
    """
    check_company_id(company_id)
    if keep_newest < FEWEST_KEPT:
        raise ConfigurationError(
            f"keeping {keep_newest} pre-keys is too few: the server may still hand out the "
            f"{FEWEST_KEPT} of one first upload; keep at least so many"
        )
    async with owned_for(rest, company_id, "pre-key reaper") as lease:
        company = (await read_company(rest, company_id)).with_creds()
        counters = read_counters(company_id, company.creds, company.family)
        keys = [key for key in company.keys if key.ref.key_type == _TYPE]
        numbers = [pre_key_number(key.ref.key_id) for key in keys]
        ids = [number for number in numbers if number is not None]
        reaped = {
            KeyRef(_TYPE, str(key_id))
            for key_id in reapable(counters, ids, keep_newest=keep_newest)
        }
        kept = [key for key in keys if key.ref not in reaped]
        report = summarize(company_id, counters, kept)
        if not reaped:
            return report
        backup = await asyncio.to_thread(back_up_company, company, Path(backup_folder))
        await CompanyWriter(lease).replace(Change(dict.fromkeys(reaped)))
    return replace(report, reaped=len(reaped), backup=backup)


def read_counters(company_id: str, creds: Document | None, family: str | None) -> Counters:
    """Return what a company's creds say of pre-keys, under Baileys' names in every client family.

    Raises:
        ConfigurationError: they do not count pre-keys.
        UnfinishedImport: there are no creds.
        CodecError: the creds cannot be read.
    """
    if creds is None or family is None:
        raise UnfinishedImport(company_id)
    value = codec.decode_creds(creds.json, company_id=company_id, family=family)
    next_id, first = value.get("nextPreKeyId"), value.get("firstUnuploadedPreKeyId")
    if type(next_id) is not int or type(first) is not int or not 1 <= first <= next_id:
        raise ConfigurationError(
            f"company {company_id!r}: its creds, of the client family {family!r}, have no "
            "nextPreKeyId and firstUnuploadedPreKeyId that count pre-keys"
        )
    return Counters(next_id, first)


def _per_day(minted_at: dict[int, float]) -> float | None:
    """Return the rate at which ids grew between the oldest and the newest row."""
    if not minted_at:
        return None
    oldest, newest = min(minted_at), max(minted_at)
    days = (minted_at[newest] - minted_at[oldest]) / _DAY
    return (newest - oldest) / days if days >= 1 else None
