"""Who has what in the database, and who is at work on it; nothing secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.timestamps import seconds

from .tables import human_bytes, table

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient

_PAGE_ROWS = 1000


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
    """

    company_id: str
    rows: int
    bytes: int
    expired: int
    creds_saved: float | None
    owner: str | None
    lease_until: float | None


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
        clock = datetime.fromtimestamp(self.taken_at, timezone.utc)
        summary = (
            f"{clock:%Y-%m-%d %H:%M:%S} UTC   companies: {self.company_count}, owned: "
            f"{self.owned_count}, keys: {self.rows}, expired: {self.expired}, database: "
            f"{human_bytes(self.database_bytes)}"
        )
        rows = [self._row(company) for company in self.companies]
        head = ("company", "keys", "size", "expired", "creds saved", "lease", "owner")
        return f"{summary}\n\n{table(head, rows)}"

    def _row(self, company: CompanyStatus) -> Sequence[str]:
        left = None if company.lease_until is None else company.lease_until - self.taken_at
        saved = None if company.creds_saved is None else self.taken_at - company.creds_saved
        return (
            company.company_id,
            str(company.rows),
            human_bytes(company.bytes),
            str(company.expired),
            "-" if saved is None else f"{_duration(saved)} ago",
            "-" if left is None else _duration(left),
            company.owner or "-",
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
    leases = {
        row["company_id"]: row
        for row in await _all(
            rest, "whatsapp_leases", "company_id,owner,expires_at", {"owner": "not.is.null"}
        )
        if seconds(row["expires_at"]) > now
    }
    saved = {
        row["company_id"]: seconds(row["updated_at"])
        for row in await _all(rest, "whatsapp_auth", "company_id,updated_at", {})
    }
    return Dashboard(
        taken_at=now,
        companies=tuple(_status(row, saved, leases) for row in stats["by_company"]),
        company_count=stats["companies"],
        owned_count=len(leases),
        rows=stats["rows"],
        expired=stats["expired"],
        database_bytes=stats["database_bytes"],
    )


def _status(
    row: Mapping[str, Any], saved: Mapping[str, float], leases: Mapping[str, Mapping[str, Any]]
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
    )


async def _all(
    rest: Rest, name: str, columns: str, wanted: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Read rows by company_id, page by page: the API cuts longer answers without a word."""
    found: list[dict[str, Any]] = []
    last = ""

    def build(client: AsyncPostgrestClient) -> Any:
        query = client.from_(name).select(columns).gt("company_id", last)
        for column, condition in wanted.items():
            operator, _, value = condition.partition(".")
            query = query.filter(column, operator, value)
        return query.order("company_id").limit(_PAGE_ROWS)

    while page := await rest.select(name, build):
        found += page
        last = page[-1]["company_id"]
    return found


def _duration(length: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if length >= size:
            return f"{length / size:.0f} {unit}"
    return f"{max(length, 0.0):.0f} s"
