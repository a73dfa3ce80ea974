"""The companies in the database, how large they are and who owns them; nothing secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.rows import WhatsappAuthRow, WhatsappLeasesRow
from supabase_auth_state.rest.timestamps import seconds

from .companies import read_all
from .tables import cut, human_bytes, human_duration, table

# The summary, an empty line, and the head of the table.
_FRAME_LINES = 3


@dataclass(frozen=True)
class CompanyStatus:
    """One company.

    Attributes:
        company_id: the company.
        rows: how many keys it has.
        bytes: how much they take, without indexes.
        expired: how many may be deleted.
        creds_saved: when its creds were last changed, in seconds since 1970; None without creds.
        owner: who holds its lease, or None.
        lease_until: when that lease ends unless it is renewed, in seconds since 1970, or None.
        rolled_back_at: when an owner found that the database had been set back to an earlier
            moment, in seconds since 1970, or None.
    """

    company_id: str
    rows: int
    bytes: int
    expired: int
    creds_saved: float | None
    owner: str | None
    lease_until: float | None
    rolled_back_at: float | None = None


@dataclass(frozen=True)
class Dashboard:
    """The largest companies at one moment.

    Attributes:
        taken_at: the moment, in seconds since 1970.
        companies: the largest companies, largest first.
        company_count: how many companies there are.
        owned_count: how many are owned now.
        rows: how many keys there are.
        expired: how many of them may be deleted.
        database_bytes: how large the database is, all of it.
    """

    taken_at: float
    companies: tuple[CompanyStatus, ...]
    company_count: int
    owned_count: int
    rows: int
    expired: int
    database_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the dashboard as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return self.text()

    def text(self, *, columns: int | None = None, lines: int | None = None) -> str:
        """Return the dashboard for a person.

        Args:
            columns: how wide it may be, or None for any width.
            lines: how many lines it may have, or None for any number. Companies that do not fit are
                counted.
        """
        clock = datetime.fromtimestamp(self.taken_at, timezone.utc)
        summary = (
            f"{clock:%Y-%m-%d %H:%M:%S} UTC   companies: {self.company_count}, owned: "
            f"{self.owned_count}, keys: {self.rows}, expired: {self.expired}, database: "
            f"{human_bytes(self.database_bytes)}"
        )
        shown = list(self.companies)
        if lines is not None and len(shown) > max(lines - _FRAME_LINES, 0):
            # One line less, for the count of the others.
            shown = shown[: max(lines - _FRAME_LINES - 1, 0)]
        head = ("company", "keys", "size", "expired", "creds saved", "lease", "owner")
        found = [summary, "", *table(head, [self._row(each) for each in shown]).splitlines()]
        if len(shown) < len(self.companies):
            found.append(f"… and {len(self.companies) - len(shown)} more")
        return "\n".join(found if columns is None else [cut(line, columns) for line in found])

    def _row(self, company: CompanyStatus) -> Sequence[str]:
        left = None if company.lease_until is None else company.lease_until - self.taken_at
        saved = None if company.creds_saved is None else self.taken_at - company.creds_saved
        return (
            company.company_id,
            str(company.rows),
            human_bytes(company.bytes),
            str(company.expired),
            "-" if saved is None else f"{human_duration(saved)} ago",
            "-" if left is None else human_duration(left),
            "set back" if company.rolled_back_at is not None else company.owner or "-",
        )


async def read_dashboard(rest: Rest, *, companies: int, now: float) -> Dashboard:
    """Look at the database.

    Args:
        rest: where it is.
        companies: how many companies to show.
        now: the time, in seconds since 1970.

    Raises:
        StoreError: it refused or did not answer.
    """
    stats = await rest.rpc("whatsapp_storage_stats", {"p_companies": companies})
    columns = "company_id,owner,expires_at,restored_at"
    rows = await read_all(rest, "whatsapp_leases", columns, WhatsappLeasesRow)
    leases = {
        row["company_id"]: row
        for row in rows
        if row["owner"] is not None and seconds(row["expires_at"]) > now
    }
    rolled_back = {
        row["company_id"]: seconds(row["restored_at"])
        for row in rows
        if row["restored_at"] is not None
    }
    saved = {
        row["company_id"]: seconds(row["updated_at"])
        for row in await read_all(rest, "whatsapp_auth", "company_id,updated_at", WhatsappAuthRow)
    }
    return Dashboard(
        taken_at=now,
        companies=tuple(_status(row, saved, leases, rolled_back) for row in stats["by_company"]),
        company_count=stats["companies"],
        owned_count=len(leases),
        rows=stats["rows"],
        expired=stats["expired"],
        database_bytes=stats["database_bytes"],
    )


def _status(
    row: Mapping[str, Any],
    saved: Mapping[str, float],
    leases: Mapping[str, WhatsappLeasesRow],
    rolled_back: Mapping[str, float],
) -> CompanyStatus:
    lease = leases.get(row["company_id"])
    return CompanyStatus(
        company_id=row["company_id"],
        rows=row["rows"],
        bytes=row["bytes"],
        expired=row["expired"],
        creds_saved=saved.get(row["company_id"]),
        owner=None if lease is None else lease["owner"],
        lease_until=None if lease is None else seconds(lease["expires_at"]),
        rolled_back_at=rolled_back.get(row["company_id"]),
    )
