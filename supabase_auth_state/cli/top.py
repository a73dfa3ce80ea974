"""The companies in the database, how large they are and who owns them; nothing secret."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from supabase_auth_state.operations.statistics import (
    Company,
    read_largest,
    read_overview,
)
from supabase_auth_state.rest.client import Rest

from .overview import freshness
from .tables import Page, Table, human_bytes, human_duration

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_HEAD = ("company", "keys", "size", "expired", "creds saved", "lease", "owner")
# What a narrow terminal does not show.
_SPARE = ("expired", "creds saved", "lease")
# The summary, an empty line, and the head of the table.
_FRAME_LINES = 4


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
class Dashboard(Page):
    """The largest companies at one moment.

    Attributes:
        taken_at: the moment, in seconds since 1970.
        counted_at: when the database has counted what was written, or None before the first time.
        every_company_counted_at: when the last count of every company began, or None before it.
        companies: the largest companies, largest first; their leases are those of now.
        company_count: how many companies there are.
        owned_count: how many were owned when they were counted.
        rows: how many keys there are.
        expired: how many of them may be deleted, counted now; 10,000 stands for any larger number.
        database_bytes: how large the database is now, all of it.
    """

    taken_at: float
    counted_at: float | None
    every_company_counted_at: float | None
    companies: tuple[CompanyStatus, ...]
    company_count: int
    owned_count: int
    rows: int
    expired: int
    database_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the dashboard as JSON values."""
        return asdict(self)

    def parts(self) -> Iterator[str | Table]:
        """Yield a summary and the companies."""
        yield "\n".join(self._summary())
        yield self._table(self.companies)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.height is None:
            yield from super().__rich_console__(console, options)
            return
        from .screen import one_line

        shown = self.companies
        if len(shown) > options.height - _FRAME_LINES:
            # One line less, for the count of the others.
            shown = shown[: max(options.height - _FRAME_LINES - 1, 0)]
        yield from (one_line(console, line) for line in (*self._summary(), ""))
        yield self._table(shown)
        if len(shown) < len(self.companies):
            yield f"… and {len(self.companies) - len(shown)} more"

    def _summary(self) -> tuple[str, str]:
        clock = datetime.fromtimestamp(self.taken_at, timezone.utc)
        counted = freshness(self.taken_at, self.counted_at, self.every_company_counted_at)
        counts = (
            f"{clock:%Y-%m-%d %H:%M:%S} UTC   companies: {self.company_count}, owned: "
            f"{self.owned_count}, keys: {self.rows}, expired: {self.expired}, database: "
            f"{human_bytes(self.database_bytes)}"
        )
        return counts, counted

    def _table(self, companies: Sequence[CompanyStatus]) -> Table:
        return Table(_HEAD, [self._row(each) for each in companies], spare=_SPARE)

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


async def read_dashboard(rest: Rest, *, companies: int) -> Dashboard:
    """Look at what the database has counted.

    Args:
        rest: where it is.
        companies: how many companies to show.

    Raises:
        StoreError: it refused or did not answer.
    """
    overview = await read_overview(rest)
    largest = await read_largest(rest, companies)
    return Dashboard(
        taken_at=overview["time"],
        counted_at=overview["refreshed_at"],
        every_company_counted_at=overview["recounted_at"],
        companies=tuple(map(_status, largest)),
        company_count=overview["companies"],
        owned_count=overview["owned"],
        rows=overview["keys"]["rows"],
        expired=overview["expired"],
        database_bytes=overview["storage"]["database"],
    )


def _status(company: Company) -> CompanyStatus:
    return CompanyStatus(
        company_id=company["company_id"],
        rows=company["rows"],
        bytes=company["bytes"],
        expired=company["expired"],
        creds_saved=company["creds_saved"],
        owner=company["owner"] if company["live"] else None,
        lease_until=company["lease_until"] if company["live"] else None,
        rolled_back_at=company["restored_at"],
    )
