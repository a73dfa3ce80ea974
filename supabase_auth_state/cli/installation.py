"""``doctor`` without a company: is the project set up as it has to be."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from supabase_auth_state import __version__
from supabase_auth_state.config import Settings
from supabase_auth_state.errors import StoreError, SupabaseAuthStateError

from .applied_migrations import Applied, ask_api, functions_made, names_made
from .installed_files import Migration
from .migration_files import migrations_for
from .tables import human_duration

if TYPE_CHECKING:
    from supabase_auth_state.operations.statistics import Overview
    from supabase_auth_state.rest.client import Rest

ANON_VARIABLES = ("SUPABASE_ANON_KEY", "SUPABASE_PUBLISHABLE_KEY")

_OURS = ("whatsapp_auth", "whatsapp_keys", "whatsapp_leases")
# Not even the service role reads these but by functions.
_TABLES = (*_OURS, "whatsapp_creds_history", "whatsapp_quarantine_keys")
_NO_COMPANY = "supabase-auth-state/doctor"
# Calls that change nothing, whoever makes them.
_CALLS: Mapping[str, Mapping[str, Any]] = {
    "get_whatsapp_keys": {"p_company_id": _NO_COMPANY, "p_keys": {}},
    "list_whatsapp_companies": {"p_limit": 1},
    "release_whatsapp_lease": {"p_company_id": _NO_COMPANY, "p_token": 0},
    "whatsapp_lease_status": {"p_company_id": _NO_COMPANY},
    "whatsapp_overview": {},
    "whatsapp_storage_stats": {"p_companies": 1},
}
_PAGE = 1000
_SLOW = 0.3
_SKEW = 5.0
_CLEANUP_OVERDUE = 86_400.0
_STATISTICS_OLD = 3600.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it is as it should be; None when it could not be looked at.
        words: what was found, and what to do.
    """

    name: str
    ok: bool | None
    words: str

    def __str__(self) -> str:
        mark = {True: "ok  ", False: "FAIL", None: "?   "}[self.ok]
        return f"{mark} {self.name}: {self.words}"


@dataclass(frozen=True)
class InstallationReport:
    """What was looked at.

    Attributes:
        checks: one by one.
    """

    checks: Sequence[Check]

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok is not False for check in self.checks)

    def as_json(self) -> Mapping[str, Any]:
        """Return the report as JSON values."""
        return {"version": __version__, "checks": [asdict(check) for check in self.checks]}

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks))


async def examine_installation(
    settings: Settings, rest: Rest, *, anon_key: str | None = None
) -> InstallationReport:
    """Look at the project; nothing is changed.

    Args:
        settings: the project.
        rest: the same, opened.
        anon_key: its anon or publishable key, to see what outsiders see.
    """
    return InstallationReport([check async for check in _checks(settings, rest, anon_key)])


async def _checks(settings: Settings, rest: Rest, anon_key: str | None) -> AsyncIterator[Check]:
    yield check_url(settings.url)
    yield check_key(settings.key)
    try:
        seconds = [await _round_trip(rest) for _ in range(3)]
    except SupabaseAuthStateError as error:
        yield Check("connection", False, str(error))
        return
    yield check_round_trip(min(seconds))
    files = migrations_for(settings.schema)
    try:
        applied = await ask_api(rest)
    except StoreError as error:
        yield Check("migrations", None, str(error))
    else:
        yield check_migrations(applied, files)
        yield check_access(applied, files)
        yield check_pg_cron(applied)
    yield await _check_grants(rest)
    yield await _check_outside(settings, anon_key)
    yield await _check_max_rows(rest)
    from supabase_auth_state.operations.statistics import read_overview

    try:
        before = time.time()
        overview = await read_overview(rest)
        after = time.time()
    except StoreError as error:
        yield Check("statistics", None, str(error))
        return
    for check in check_overview(overview, here=(before + after) / 2):
        yield check


def check_url(url: str) -> Check:
    """Look at the URL. No I/O."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host.endswith("-all.supabase.co"):
        plain = host.replace("-all.supabase.co", ".supabase.co")
        return Check(
            "url",
            False,
            f"{url} is the load balancer, behind which replicas answer late: use https://{plain}",
        )
    if parts.scheme == "http" and host not in {"localhost", "127.0.0.1", "::1"}:
        return Check("url", False, f"{url} is not encrypted, and the key travels on it: use https")
    return Check("url", True, url)


def check_key(key: str) -> Check:
    """Look at what kind of key it is. No I/O."""
    if key.startswith("sb_secret_"):
        return Check("key", True, "a secret key")
    return Check("key", True, "a legacy service_role key; Supabase replaces these by sb_secret_…")


def check_round_trip(seconds: float) -> Check:
    """Look at how long the smallest request takes. No I/O."""
    words = f"{seconds * 1000:.0f} ms"
    if seconds > _SLOW:
        words += ": run the clients in the project's region, each write waits for this"
    return Check("round trip", seconds <= _SLOW, words)


def check_overview(overview: Overview, *, here: float) -> list[Check]:
    """Look at clock, clean-up and statistics. No I/O.

    Args:
        overview: what the database says.
        here: this machine's time when it said so, in seconds since 1970.
    """
    now = overview["time"]
    skew = abs(now - here)
    words = f"{skew:.1f} s apart from the database's"
    if skew > _SKEW:
        words += ": synchronize this machine's clock (NTP)"
    return [
        Check("clock", skew <= _SKEW, words),
        _cleanup(overview),
        _statistics(overview),
    ]


def _cleanup(overview: Overview) -> Check:
    run = overview["cleanup"]
    advice = (
        "run `supabase-auth-state cleanup --schedule-in-database`, or `cleanup` from a cron job"
    )
    if run is None:
        expired = overview["expired"]
        words = f"no run is recorded, and {expired} keys have expired: {advice}"
        if not expired:
            words = f"no run is recorded, and nothing has expired; {advice}"
        return Check("clean-up", not expired, words)
    age = overview["time"] - run["finished_at"]
    who = "by pg_cron" if run["owner"] == "pg_cron" else f"by {run['owner']}, not by pg_cron"
    words = f"{human_duration(age)} ago, {who}"
    if age > _CLEANUP_OVERDUE:
        return Check("clean-up", False, f"{words}: {advice}")
    return Check("clean-up", True, words)


def _statistics(overview: Overview) -> Check:
    refreshed = overview["refreshed_at"]
    advice = "`alerts run`, `metrics` or `dashboard` count once a minute"
    if refreshed is None:
        # Nothing is wrong with a new installation.
        return Check("statistics", True, f"never counted yet; {advice}")
    age = max(overview["time"] - refreshed, 0.0)
    words = f"{human_duration(age)} old"
    return Check(
        "statistics",
        age <= _STATISTICS_OLD,
        words if age <= _STATISTICS_OLD else f"{words}: {advice}",
    )


async def _round_trip(rest: Rest) -> float:
    began = time.perf_counter()
    await rest.about("whatsapp_lease_status", _NO_COMPANY)
    return time.perf_counter() - began


def check_migrations(applied: Applied, files: Mapping[str, str]) -> Check:
    """Look at which migrations are applied. No I/O.

    Args:
        applied: what the database says of itself.
        files: our migrations, name to SQL.
    """
    todo = "`supabase-auth-state migrations install`, then `supabase db push`"
    if not applied.known:
        return Check("migrations", False, f"older than this library {__version__}: {todo}")
    ours = [Migration(name) for name in files]
    lacking = applied.lacks(ours, functions_made(files))
    if lacking:
        return Check("migrations", False, f"{len(lacking)} are not applied: {todo}")
    history = "" if applied.versions is not None else "; not by the CLI, which has no history here"
    return Check("migrations", True, f"all {len(ours)} of {__version__} are applied{history}")


def check_access(applied: Applied, files: Mapping[str, str]) -> Check:
    """Look at row level security and at what outsiders may use. No I/O.

    Args:
        applied: what the database says of itself.
        files: our migrations, name to SQL.
    """
    if applied.outside is None or applied.without_rls is None:
        return Check("access", None, "not known: a migration is not applied")
    ours = names_made(files)
    wrong = [
        f"{what} {', '.join(sorted(ours & set(names)))}"
        for what, names in (
            ("anon or authenticated may use", applied.outside),
            ("row level security is off for", applied.without_rls),
        )
        if ours & set(names)
    ]
    if wrong:
        words = f"{'; '.join(wrong)}: revoke what was granted, and apply the migrations again"
        return Check("access", False, words)
    return Check("access", True, "anon and authenticated may use nothing, and all tables have RLS")


def check_pg_cron(applied: Applied) -> Check:
    """Look at whether the database cleans up by itself. No I/O.

    Args:
        applied: what the database says of itself.
    """
    if applied.cron is None:
        return Check("pg_cron", None, "not known: a migration is not applied")
    schedule = applied.cron["schedule"]
    if schedule is not None:
        return Check("pg_cron", True, f"the clean-up is scheduled: {schedule}")
    if applied.cron["installed"]:
        todo = "`supabase-auth-state cleanup --schedule-in-database` lets it clean up"
        return Check("pg_cron", True, f"installed, and not used: {todo}")
    return Check("pg_cron", True, "not installed: a process or a cron job has to clean up")


def _first_company(table: str, client: Any) -> Any:
    return client.from_(table).select("company_id").limit(1)


async def _check_grants(rest: Rest) -> Check:
    refused = []
    for table in _OURS:
        try:
            await rest.select(table, partial(_first_company, table))
        except StoreError:
            refused.append(table)
    if refused:
        return Check(
            "grants",
            False,
            f"the key may not read {', '.join(refused)}: apply the migrations again",
        )
    return Check("grants", True, "the key may read what it has to")


async def _check_outside(settings: Settings, anon_key: str | None) -> Check:
    """Try to read with the anon key, as anyone on the internet can."""
    if anon_key is None:
        return Check("outside", None, f"not tried: set {ANON_VARIABLES[0]} to see what it can read")
    import httpx

    headers = {
        "apikey": anon_key,
        "accept-profile": settings.schema,
        "content-profile": settings.schema,
    }
    if anon_key.startswith("eyJ"):
        headers["authorization"] = f"Bearer {anon_key}"
    open_to_all = []
    try:
        async with httpx.AsyncClient(
            base_url=settings.url, headers=headers, timeout=settings.timeout
        ) as client:
            for table in _TABLES:
                found = await client.get(f"/rest/v1/{table}", params={"select": "*", "limit": "1"})
                if found.is_success:
                    open_to_all.append(table)
            for function, params in _CALLS.items():
                found = await client.post(f"/rest/v1/rpc/{function}", json=params)
                if found.is_success:
                    open_to_all.append(f"{function}()")
    except httpx.HTTPError as error:
        return Check("outside", None, f"not known: {type(error).__name__}")
    if open_to_all:
        return Check(
            "outside",
            False,
            f"the anon key is let into {', '.join(open_to_all)}: apply the migrations again, and "
            "revoke what was granted since",
        )
    return Check(
        "outside",
        True,
        f"the anon key is refused by {len(_TABLES)} tables and {len(_CALLS)} functions",
    )


async def _check_max_rows(rest: Rest) -> Check:
    try:
        rows = await rest.select(
            "whatsapp_keys",
            lambda client: client.from_("whatsapp_keys").select("key_type").limit(_PAGE),
        )
        more = await rest.select(
            "whatsapp_keys",
            lambda client: (
                client.from_("whatsapp_keys").select("key_type").range(len(rows), len(rows))
            ),
        )
    except StoreError as error:
        return Check("max_rows", None, str(error))
    if len(rows) < _PAGE and more:
        return Check(
            "max_rows",
            False,
            f"{len(rows)}: pages of {_PAGE} are cut; set it to {_PAGE} or more (API settings)",
        )
    return Check("max_rows", True, f"pages of {_PAGE} rows come whole" if more else "few rows yet")
