"""What the database holds, how it grows and who owns it, without a look at every row.

Every function answers from counts that the database keeps. Times are seconds since 1970, on the
database's clock. The SQL is in ``supabase/migrations/20261127132000_whatsapp_statistics.sql``
and ``…137000_whatsapp_company_health.sql``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, cast

from supabase_auth_state.errors import SchemaMissing
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.timestamps import seconds as _seconds

Sort = Literal["company_id", "bytes", "rows", "last_write", "pre_keys"]
"""By what a page of companies may be sorted."""

_PAGE = 500
_MOST_REFRESHES = 20


class TypeCount(TypedDict):
    """Rows of one key type.

    Attributes:
        rows: how many.
        bytes: their size, without indexes and dead rows.
        expired: how many could be deleted when they were counted.
    """

    rows: int
    bytes: int
    expired: int


class KeyCounts(TypedDict):
    """All keys.

    Attributes:
        rows: how many.
        bytes: their size, without indexes and dead rows.
        by_type: the same by key type.
    """

    rows: int
    bytes: int
    by_type: Mapping[str, TypeCount]


class TableStorage(TypedDict):
    """A table on the disk.

    Attributes:
        heap: bytes of its rows, dead ones and unused space included.
        toast: bytes of values that are stored apart.
        indexes: bytes of its indexes.
        live_rows: rows, as the database estimates them.
        dead_rows: old versions of rows that vacuum has not removed, as the database estimates them.
    """

    heap: int
    toast: int
    indexes: int
    live_rows: int
    dead_rows: int


class Storage(TypedDict):
    """What is on the disk now.

    Attributes:
        keys: the table ``whatsapp_keys``.
        auth: the table ``whatsapp_auth``.
        other_tables: bytes of our other tables.
        database: bytes of the database, everything in it included.
    """

    keys: TableStorage
    auth: TableStorage
    other_tables: int
    database: int


class LeaseActivity(TypedDict):
    """What happened to leases.

    Attributes:
        acquired_last_hour: how many were acquired in the last hour.
        taken_over_last_hour: how many of them from an owner that had not given them back.
    """

    acquired_last_hour: int
    taken_over_last_hour: int


class CleanupRun(TypedDict):
    """A run of the clean-up.

    Attributes:
        finished_at: when it ended.
        owner: which process it was, or ``pg_cron``.
        deleted: rows deleted.
        complete: whether every expired row was deleted.
        seconds: how long it took.
    """

    finished_at: float
    owner: str
    deleted: int
    complete: bool
    seconds: float


class TrafficSum(TypedDict):
    """Requests of one kind.

    Attributes:
        requests: how many.
        sent: bytes sent, with headers.
        received: bytes received, with headers: what Supabase counts as egress.
    """

    requests: int
    sent: int
    received: int


class Overview(TypedDict):
    """The whole at a glance.

    Attributes:
        time: the database's time.
        refreshed_at: how old ``companies``, ``owned``, ``keys``, ``creds_bytes`` and the two rates
            are; None before the first refresh.
        recounted_at: when the last count of every company began; None before the first, when the
            counts are of a part only.
        companies: companies with creds or keys.
        owned: companies with a live lease.
        keys: rows and bytes of keys.
        creds_bytes: size of all creds.
        expired: keys whose time is over, counted now; 10,000 stands for any larger number.
        oldest_expired: when the time of the oldest of them was over, or None.
        storage: sizes on the disk, measured now.
        commits_per_minute: requests that wrote, between the last two refreshes; None when unknown.
        key_rows_per_minute: rows of keys written or deleted, likewise.
        leases: acquisitions and take-overs, counted now.
        cleanup: the last run of the clean-up, or None.
        traffic: requests and bytes of the last 30 days by kind of request, as the processes that
            tell them have counted. An estimate.
        events: what the processes have met in the last 15 minutes, by name.
        alerts: the state of every rule that has one.
    """

    time: float
    refreshed_at: float | None
    recounted_at: float | None
    companies: int
    owned: int
    keys: KeyCounts
    creds_bytes: int
    expired: int
    oldest_expired: float | None
    storage: Storage
    commits_per_minute: float | None
    key_rows_per_minute: float | None
    leases: LeaseActivity
    cleanup: CleanupRun | None
    traffic: Mapping[str, TrafficSum]
    events: Mapping[str, int]
    alerts: Mapping[str, Mapping[str, Any]]


class Pause(TypedDict):
    """Why pools leave a company alone.

    Attributes:
        code: the status code that WhatsApp gave.
        reason: the same in words.
        until: when they connect again, or None: not before it is reinstated.
        noted_at: when a pool has found that out.
        noted_by: which process that was.
    """

    code: int
    reason: str
    until: float | None
    noted_at: float
    noted_by: str


class Company(TypedDict):
    """One company, in a page of them.

    Attributes:
        company_id: the company.
        counted_at: how old the counts are; owner and lease are those of now.
        has_creds: whether it has creds.
        client_family: which clients understand its values, or None without creds.
        created_at: when its creds were stored first, or None without creds.
        last_write: when a value of it was changed last, as of ``counted_at``.
        rows: how many keys it has.
        bytes: their size, without indexes and dead rows.
        creds_bytes: the size of its creds.
        expired: keys whose time is over.
        pre_keys: how many pre-keys it has.
        by_type: rows, bytes and expired rows by key type.
        owner: who has acquired it last and not given it back, or None.
        lease_until: when that lease ends or has ended, or None.
        live: whether the lease is live.
        token: the number of the lease.
        lapses: how often a lease ran out before its owner renewed it.
        creds_saved: when its creds were last changed, or None without creds; that of now.
        restored_at: when an owner found that the database had been set back to an earlier moment,
            or None; that of now.
        pause: why pools leave it alone, or None; that of now.
    """

    company_id: str
    counted_at: float
    has_creds: bool
    client_family: str | None
    created_at: float | None
    last_write: float
    rows: int
    bytes: int
    creds_bytes: int
    expired: int
    pre_keys: int
    by_type: Mapping[str, TypeCount]
    owner: str | None
    lease_until: float | None
    live: bool
    token: int
    lapses: int
    creds_saved: float | None
    restored_at: float | None
    pause: Pause | None


class LeaseRecord(TypedDict):
    """A time during which a company was owned.

    Attributes:
        token: the number of the lease.
        owner: who owned the company.
        acquired_at: from when.
        released_at: until when, or None when the lease is live or was never given back.
        taken_from: the owner before, when it had not given the company back, or None.
    """

    token: int
    owner: str
    acquired_at: float
    released_at: float | None
    taken_from: str | None


class RecentLease(LeaseRecord):
    """A lease in a list of those of all companies.

    Attributes:
        company_id: the company that was owned.
    """

    company_id: str


class CompanyOverview(Company):
    """One company, counted now.

    Attributes:
        time: the database's time.
        leases: its last 200 leases, latest first.
    """

    time: float
    leases: Sequence[LeaseRecord]


class CompaniesPage(TypedDict):
    """A page of companies.

    Attributes:
        time: the database's time.
        companies: the companies, in the order asked for.
        after: what to ask for to get the next page, or None on the last one.
    """

    time: float
    companies: Sequence[Company]
    after: Sequence[Any] | None


class CompanySize(TypedDict):
    """How much a company holds.

    Attributes:
        company_id: the company.
        rows: how many keys it has.
        bytes: their size, without indexes and dead rows.
        expired: how many could be deleted when they were counted.
    """

    company_id: str
    rows: int
    bytes: int
    expired: int


class StorageStats(TypedDict):
    """What is stored.

    Attributes:
        time: the database's time.
        counted_at: how old the counts are; None before the first count.
        every_company_counted_at: when the last count of every company began; None before the first,
            when the counts are of a part only.
        companies: companies with creds or keys.
        rows: how many keys.
        bytes: their size, without indexes and dead rows.
        expired: keys whose time is over, counted now; 10,000 stands for any larger number.
        by_type: rows, bytes and expired rows by key type.
        by_company: the largest companies, largest first.
        tables: bytes of the two tables, with indexes and unused space, measured now.
        database_bytes: bytes of the database, everything in it included, measured now.
    """

    time: float
    counted_at: float | None
    every_company_counted_at: float | None
    companies: int
    rows: int
    bytes: int
    expired: int
    by_type: Mapping[str, TypeCount]
    by_company: Sequence[CompanySize]
    tables: Mapping[str, int]
    database_bytes: int


class Day(TypedDict):
    """The last statistics of one day.

    Attributes:
        day: the day in UTC, as ``2026-11-27``.
        taken_at: when.
        companies: companies with creds or keys.
        rows: how many keys.
        bytes: their size, without indexes and dead rows.
        creds_bytes: the size of all creds.
        by_type: rows and bytes by key type.
        storage: sizes on the disk.
    """

    day: str
    taken_at: float
    companies: int
    rows: int
    bytes: int
    creds_bytes: int
    by_type: Mapping[str, Mapping[str, int]]
    storage: Storage


class Worker(TypedDict):
    """A process that owned companies at the last refresh.

    Attributes:
        owner: how the process names itself.
        companies: how many it owns.
        since: when it acquired the first of them.
        until: when the first of its leases ends unless it is renewed.
    """

    owner: str
    companies: int
    since: float
    until: float


class Extremes(TypedDict):
    """Companies at one end.

    Attributes:
        count: how many, at most 1,000.
        companies: the first of them.
    """

    count: int
    companies: Sequence[str]


class PreKeyExtremes(TypedDict):
    """Companies with few and with many pre-keys.

    Attributes:
        low: those with few.
        high: those with many.
    """

    low: Extremes
    high: Extremes


class Refresh(TypedDict):
    """What a refresh did.

    Attributes:
        refreshed: False when it was done less than a minute ago, or is being done now.
        counted: how many companies were counted.
        left: whether there are more to count.
    """

    refreshed: bool
    counted: int
    left: bool


async def refresh(rest: Rest, *, companies: int = 500, every: float = 60.0) -> Refresh:
    """Count the companies that were written since they were counted.

    Any number of processes may ask: it is done once in ``every`` seconds. It takes about 0.3 ms a
    company, beside the writes and never before them.

    Args:
        rest: where the database is.
        companies: the most companies to count.
        every: seconds since the last refresh before which nothing is done.

    Raises:
        StoreError: the database refused or did not answer.
    """
    return cast(
        "Refresh",
        await rest.rpc(
            "refresh_whatsapp_statistics",
            {"p_companies": companies, "p_every": every},
            is_right=_has("refreshed"),
        ),
    )


async def count_written(rest: Rest) -> None:
    """Count the companies that were written since they were counted, now and up to 10,000 of them.

    Raises:
        StoreError: the database refused or did not answer.
    """
    for _ in range(_MOST_REFRESHES):
        if not (await refresh(rest, every=0.0))["left"]:
            break


async def recount(
    rest: Rest, *, companies: int = 500, stopping: asyncio.Event | None = None
) -> bool:
    """Count every company, page by page; return whether it came to the end.

    Args:
        rest: where the database is.
        companies: how many companies a page has.
        stopping: when it is set, the count ends after the page under way.

    Raises:
        StoreError: the database refused or did not answer.
    """
    after: str | None = ""
    while after is not None:
        if stopping is not None and stopping.is_set():
            return False
        page = await rest.rpc(
            "recount_whatsapp_statistics",
            {"p_after": after, "p_companies": companies},
            is_right=_has("counted"),
        )
        after = page["after"]
    return True


async def read_overview(rest: Rest) -> Overview:
    """Return the whole at a glance.

    Raises:
        StoreError: the database refused or did not answer.
    """
    return cast("Overview", await rest.rpc("whatsapp_overview", {}, is_right=_has("companies")))


async def read_companies(
    rest: Rest,
    *,
    search: str = "",
    sort: Sort = "company_id",
    descending: bool = False,
    after: Sequence[Any] | None = None,
    limit: int = 50,
) -> CompaniesPage:
    """Return a page of companies.

    Args:
        rest: where the database is.
        search: how the company_id begins.
        sort: by what to sort.
        descending: whether the largest or latest come first.
        after: ``after`` of the page before, or None for the first page.
        limit: the most companies of a page, up to 500.

    Raises:
        StoreError: the database refused or did not answer.
    """
    params = {
        "p_search": search,
        "p_sort": sort,
        "p_descending": descending,
        "p_after": after,
        "p_limit": limit,
    }
    page = await rest.rpc("whatsapp_companies_page", params, is_right=_has("companies"))
    _check_age(page["companies"])
    return cast("CompaniesPage", page)


async def read_largest(rest: Rest, count: int) -> list[Company]:
    """Return the largest companies, largest first.

    Raises:
        StoreError: the database refused or did not answer.
    """
    found: list[Company] = []
    after: Sequence[Any] | None = None
    while len(found) < count:
        page = await read_companies(
            rest, sort="bytes", descending=True, after=after, limit=min(count - len(found), _PAGE)
        )
        found += page["companies"]
        after = page["after"]
        if after is None:
            break
    return found


async def read_storage_stats(rest: Rest, *, companies: int = 20) -> StorageStats:
    """Return what is stored, and how much of it the largest companies have.

    Args:
        rest: where the database is.
        companies: how many companies.

    Raises:
        StoreError: the database refused or did not answer.
    """
    overview = await read_overview(rest)
    largest = await read_largest(rest, companies)
    storage = overview["storage"]
    return {
        "time": overview["time"],
        "counted_at": overview["refreshed_at"],
        "every_company_counted_at": overview["recounted_at"],
        "companies": overview["companies"],
        "rows": overview["keys"]["rows"],
        "bytes": overview["keys"]["bytes"],
        "expired": overview["expired"],
        "by_type": overview["keys"]["by_type"],
        "by_company": [
            {
                "company_id": each["company_id"],
                "rows": each["rows"],
                "bytes": each["bytes"],
                "expired": each["expired"],
            }
            for each in largest
        ],
        "tables": {
            "public.whatsapp_auth": _table_bytes(storage["auth"]),
            "public.whatsapp_keys": _table_bytes(storage["keys"]),
        },
        "database_bytes": storage["database"],
    }


def _table_bytes(table: TableStorage) -> int:
    return table["heap"] + table["toast"] + table["indexes"]


async def read_company(rest: Rest, company_id: str) -> CompanyOverview | None:
    """Return one company, counted now, or None when it has neither creds nor keys.

    Raises:
        StoreError: the database refused or did not answer.
    """
    found = await rest.rpc(
        "whatsapp_company_overview",
        {"p_company_id": company_id},
        is_right=lambda found: found is None or found.get("company_id") == company_id,
    )
    _check_age([] if found is None else [found])
    return cast("CompanyOverview | None", found)


async def read_growth(rest: Rest, *, days: int = 90) -> Sequence[Day]:
    """Return the last statistics of each day, oldest first.

    Raises:
        StoreError: the database refused or did not answer.
    """
    return cast(
        "Sequence[Day]", await rest.rpc("whatsapp_growth", {"p_days": days}, is_right=_is_list)
    )


async def read_workers(rest: Rest, *, limit: int = 200) -> Sequence[Worker]:
    """Return the processes that owned companies at the last refresh, those with the most first.

    Raises:
        StoreError: the database refused or did not answer.
    """
    return cast(
        "Sequence[Worker]",
        await rest.rpc("whatsapp_workers", {"p_limit": limit}, is_right=_is_list),
    )


async def read_pre_key_extremes(
    rest: Rest, *, low: int, high: int, limit: int = 20
) -> PreKeyExtremes:
    """Return companies that have fewer pre-keys than ``low`` or more than ``high``.

    Raises:
        StoreError: the database refused or did not answer.
    """
    return cast(
        "PreKeyExtremes",
        await rest.rpc(
            "whatsapp_pre_key_extremes",
            {"p_low": low, "p_high": high, "p_limit": limit},
            is_right=_has("low"),
        ),
    )


async def read_cleanup_runs(rest: Rest, *, limit: int = 8) -> Sequence[CleanupRun]:
    """Return the last runs of the clean-up, latest first.

    Raises:
        StoreError: the database refused or did not answer.
    """
    found = await rest.select(
        "whatsapp_cleanup_runs",
        lambda client: (
            client.from_("whatsapp_cleanup_runs")
            .select("finished_at,owner,deleted,complete,seconds")
            .order("finished_at", desc=True)
            .limit(limit)
        ),
    )
    return [
        cast("CleanupRun", {**row, "finished_at": _seconds(row["finished_at"])}) for row in found
    ]


async def read_leases(rest: Rest, *, limit: int = 20) -> Sequence[RecentLease]:
    """Return the leases that were acquired last, of whichever company, latest first.

    Raises:
        StoreError: the database refused or did not answer.
    """
    found = await rest.select(
        "whatsapp_lease_history",
        lambda client: (
            client.from_("whatsapp_lease_history")
            .select("company_id,token,owner,acquired_at,released_at,taken_from")
            .not_.like("company_id", "supabase-auth-state/*")
            .order("acquired_at", desc=True)
            .limit(limit)
        ),
    )
    return [
        cast(
            "RecentLease",
            {
                **row,
                "acquired_at": _seconds(row["acquired_at"]),
                "released_at": row["released_at"] and _seconds(row["released_at"]),
            },
        )
        for row in found
    ]


def _check_age(companies: Sequence[Mapping[str, Any]]) -> None:
    if any("pause" not in company for company in companies):
        raise SchemaMissing(
            "the database answers as before 20261127137000_whatsapp_company_health.sql: apply the "
            "migrations"
        )


def _has(name: str) -> Any:
    return lambda found: isinstance(found, dict) and name in found


def _is_list(found: object) -> bool:
    return isinstance(found, list)
