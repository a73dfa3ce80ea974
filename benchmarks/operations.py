"""`python -m benchmarks.operations [--companies N]`: what looking costs, and counting.

Prints the tables of docs/operations.md: every figure's time over HTTP and how the database finds
it, every page of the dashboard, and a set beside a refresh and beside triggers that would count.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics as numbers
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg

from devstack.local import LocalStack
from supabase_auth_state.auth_state.database import AuthState, use_supabase_auth_state
from supabase_auth_state.cli.companies import list_companies
from supabase_auth_state.cli.overview import kept_stats
from supabase_auth_state.cli.web.access import Access
from supabase_auth_state.cli.web.app import Dashboard
from supabase_auth_state.cli.web.serve import serve_dashboard
from supabase_auth_state.config import Settings
from supabase_auth_state.operations import statistics
from supabase_auth_state.operations.alert_config import load_alert_config
from supabase_auth_state.operations.capacity import capacity, plan_of
from supabase_auth_state.rest.client import Rest, open_rest

KEYS = 100
ROUNDS = 20
PAIRS = 60
MINUTE = 60.0
FILL = """
    with company as (
      insert into whatsapp_auth (company_id, creds)
      select 'c' || lpad(n::text, 6, '0'), jsonb_build_object('creds', repeat(md5(n::text), 30))
      from generate_series(1, %(companies)s) n
      returning company_id
    ), lease as (
      insert into whatsapp_leases (company_id, token, owner, acquired_at, renewed_at, expires_at)
      select company_id, 1, 'worker-' || right(company_id, 1), now(), now(), now() + interval '1 d'
      from company
    ), writer as (
      insert into whatsapp_writers (company_id, writer, commit_no, token, lands_until)
      select company_id, 'w', 1, 1, now() - interval '1 h' from company
    )
    insert into whatsapp_keys (company_id, key_type, key_id, value)
    select c.company_id, (array['session', 'pre-key', 'sender-key', 'lid-mapping', 'device-list'])[k %% 5 + 1],
      'k' || k, to_jsonb(repeat(md5(c.company_id || k), 10))
    from company c, generate_series(1, %(keys)s) k
"""  # noqa: E501 - one array
WRITTEN = """
    update whatsapp_writers set lands_until = clock_timestamp() + interval '1 minute'
    where company_id < 'c000501'
"""
COUNTING = """
    create table public.counted (company_id text, key_type text, rows bigint, bytes bigint,
      primary key (company_id, key_type));
    create function public.count_rows() returns trigger language plpgsql security definer
    set search_path = '' as $$
    begin
      insert into public.counted as c
      select n.company_id, n.key_type, count(*), sum(pg_column_size(n.value)) from new_rows n
      group by 1, 2
      on conflict (company_id, key_type) do update
      set rows = c.rows + excluded.rows, bytes = c.bytes + excluded.bytes;
      return null;
    end $$;
    create trigger counted_insert after insert on public.whatsapp_keys
      referencing new table as new_rows for each statement execute function public.count_rows();
    create trigger counted_update after update on public.whatsapp_keys
      referencing new table as new_rows for each statement execute function public.count_rows();
"""
NO_COUNTING = """
    drop trigger if exists counted_insert on public.whatsapp_keys;
    drop trigger if exists counted_update on public.whatsapp_keys;
    drop function if exists public.count_rows();
    drop table if exists public.counted;
"""


async def _capacity(rest: Rest) -> None:
    overview = await statistics.read_overview(rest)
    days = await statistics.read_growth(rest)
    page = await statistics.read_companies(rest, sort="bytes", descending=True, limit=10)
    capacity(overview, days, plan_of("pro"), largest=page["companies"])


async def _exact_stats(rest: Rest) -> None:
    await rest.rpc("whatsapp_storage_stats", {"p_companies": 20})
    await rest.rpc("whatsapp_sealing_stats", {})


_LARGEST = "whatsapp_companies_page(p_sort => 'bytes', p_descending => true)"
LATE = '["c009900","c009900"]'
LOOKS: dict[str, tuple[tuple[str, ...], Callable[[Rest], Awaitable[Any]]]] = {
    "overview": (("whatsapp_overview()",), statistics.read_overview),
    "companies, the first page": (("whatsapp_companies_page()",), statistics.read_companies),
    "companies, a late page": (
        (f"whatsapp_companies_page(p_after => '{LATE}')",),
        lambda rest: statistics.read_companies(rest, after=["c009900", "c009900"]),
    ),
    "companies, largest first": (
        (_LARGEST,),
        lambda rest: statistics.read_companies(rest, sort="bytes", descending=True),
    ),
    "companies, last written first": (
        ("whatsapp_companies_page(p_sort => 'last_write', p_descending => true)",),
        lambda rest: statistics.read_companies(rest, sort="last_write", descending=True),
    ),
    "companies, a search": (
        ("whatsapp_companies_page(p_search => 'c00999')",),
        lambda rest: statistics.read_companies(rest, search="c00999"),
    ),
    "one company, counted anew": (
        ("whatsapp_company_overview('c000007')",),
        lambda rest: statistics.read_company(rest, "c000007"),
    ),
    "growth of 90 days": (("whatsapp_growth()",), statistics.read_growth),
    "few or many pre-keys": (
        ("whatsapp_pre_key_extremes(5, 5000)",),
        lambda rest: statistics.read_pre_key_extremes(rest, low=5, high=5000),
    ),
    "workers": (("whatsapp_workers()",), statistics.read_workers),
    "`capacity`": (("whatsapp_overview()", "whatsapp_growth()", _LARGEST), _capacity),
    "`stats`": (
        ("refresh_whatsapp_statistics(500, 0)", "whatsapp_overview()", _LARGEST),
        lambda rest: kept_stats(rest, 20),
    ),
    "`stats --exact`": (("whatsapp_storage_stats(20)", "whatsapp_sealing_stats()"), _exact_stats),
    "the companies of `--all`": (("list_whatsapp_companies()",), list_companies),
}
PAGES = {
    "overview": "/",
    "companies, the first page": "/companies",
    "companies, a late page": f"/companies?after={LATE}",
    "companies, largest first": "/companies?sort=bytes&order=down",
    "companies, a search": "/companies?search=c00999",
    "one company": "/company?id=c000007",
    "workers": "/workers",
    "alerts": "/alerts",
    "capacity": "/capacity",
}


async def measure(companies: int) -> None:
    """Measure, and print tables."""
    with LocalStack.start(migrate=True) as stack:
        fill(stack, companies)
        rest = open_rest(Settings(url=stack.url, key=stack.service_role_key))
        try:
            await looks(stack, rest, companies)
            await pages(rest)
            await counting(stack, rest)
        finally:
            await rest.close()


def fill(stack: LocalStack, companies: int) -> None:
    """Store companies of 100 keys each."""
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute("set whatsapp_auth.maintenance = 'on'")
        db.execute(FILL, {"companies": companies, "keys": KEYS})
        for table in ("keys", "auth", "leases", "writers"):
            db.execute(f"vacuum analyze whatsapp_{table}")


async def looks(stack: LocalStack, rest: Rest, companies: int) -> None:
    """Print how long each look takes, and how the database finds it."""
    started = time.perf_counter()
    await statistics.recount(rest)
    print(f"counting all {companies:,} companies: {time.perf_counter() - started:.1f} s")
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute(
            "insert into whatsapp_statistics_days "
            "select d.day - n, d.taken_at - n * interval '1 day', d.companies, d.rows, d.bytes, "
            "d.creds_bytes, d.by_type, d.storage "
            "from whatsapp_statistics_days d, generate_series(1, 89) n"
        )
        db.execute("vacuum analyze whatsapp_company_statistics")
        refreshes = []
        for _ in range(5):
            db.execute(WRITTEN)
            started = time.perf_counter()
            found = await statistics.refresh(rest, every=0)
            refreshes.append(time.perf_counter() - started)
            if found["counted"] != 500:
                raise SystemExit(f"a refresh that should count 500 companies: {found}")
    print(f"a refresh that counts 500 companies: {_spread(refreshes)}\n")
    taken = await _rounds({name: _look(look, rest) for name, (_, look) in LOOKS.items()})
    print("| look | median over HTTP, and quartiles | scans |\n| --- | ---: | --- |")
    for name, (calls, _) in LOOKS.items():
        print(f"| {name} | {_spread(taken[name])} | {', '.join(plans(stack, calls))} |")


async def pages(rest: Rest) -> None:
    """Print how long each page of the dashboard takes, from its own server."""
    port, stopping = asyncio.get_running_loop().create_future(), asyncio.Event()
    dashboard = Dashboard(rest, rest, Access(), load_alert_config(None), "", "measured")
    serving = asyncio.ensure_future(
        serve_dashboard(dashboard, stopping, host="127.0.0.1", port=0, on_port=port.set_result)
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await port}") as client:
            taken = await _rounds({name: _page(client, path) for name, path in PAGES.items()})
    finally:
        stopping.set()
        await serving
    print("\n| page of the dashboard | median, and quartiles |\n| --- | ---: |")
    for name, found in taken.items():
        print(f"| {name} | {_spread(found)} |")


def _look(look: Callable[[Rest], Awaitable[Any]], rest: Rest) -> Callable[[], Awaitable[Any]]:
    return lambda: look(rest)


def _page(client: httpx.AsyncClient, path: str) -> Callable[[], Awaitable[Any]]:
    async def get() -> None:
        (await client.get(path)).raise_for_status()

    return get


async def _rounds(actions: dict[str, Callable[[], Awaitable[Any]]]) -> dict[str, list[float]]:
    """Return seconds by action, measured in turns so that all meet the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for each in range(ROUNDS + 1):
        for name, act in actions.items():
            started = time.perf_counter()
            await act()
            if each:  # the first round warms up
                taken[name].append(time.perf_counter() - started)
    return taken


def _spread(seconds: Sequence[float]) -> str:
    first, middle, third = (1000 * each for each in numbers.quantiles(seconds, n=4))
    return f"{middle:.1f} ms ({first:.1f} to {third:.1f})"


def plans(stack: LocalStack, calls: Sequence[str]) -> list[str]:
    """Return how the tables are scanned while functions run, by `auto_explain`."""
    notices: list[str] = []
    with stack.cluster.superuser(stack.database) as admin:
        admin.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        for setting in (
            "load 'auto_explain'",
            "set auto_explain.log_min_duration = 0",
            "set auto_explain.log_nested_statements = on",
            "set auto_explain.log_level = 'notice'",
        ):
            admin.execute(setting)
        for call in calls:
            admin.execute(f"select public.{call}")
    found = re.findall(
        r"((?:Seq|Index Only|Index|Bitmap Heap) Scan(?: Backward)?)(?: using (\w+))? on (\w+)",
        "\n".join(notices),
    )
    return sorted({f"{kind} {index or table}" for kind, index, table in found})


async def counting(stack: LocalStack, rest: Rest) -> None:
    """Print what a set costs beside each way of counting.

    Each round sets the same number of times without counting, during one refresh and with
    triggers, in an order that changes. What a refresh costs is the difference within a round.
    """
    print(f"\n{PAIRS} rounds; medians and their 95 % intervals\n")
    print("| | set 1 | set 100 |\n| --- | ---: | ---: |")
    columns = []
    async with use_supabase_auth_state("measured", client=rest, lease=True) as auth:
        for count, sets in ((1, 20), (100, 8)):
            columns.append(await _counted(stack, rest, auth, count, sets))
    for name in columns[0]:
        print(f"| {name} | {columns[0][name]} | {columns[1][name]} |")


async def _counted(
    stack: LocalStack, rest: Rest, auth: AuthState, count: int, sets: int
) -> dict[str, str]:
    """Return the cells of one column."""
    plain: list[float] = []
    extra: dict[str, list[float]] = {"few": [], "many": [], "triggers": []}
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        for _ in range(PAIRS):
            taken: dict[str, list[float]] = {}
            ways = ["plain", *extra]
            random.shuffle(ways)
            for way in ways:
                with _prepared(db, way):
                    for _ in range(3):
                        await _set(auth, count)
                    refresh = asyncio.ensure_future(_refresh(rest, way))
                    taken[way] = []
                    # A refresh that takes longer is covered to its end.
                    while len(taken[way]) < sets or not refresh.done():
                        taken[way].append(await _set(auth, count))
                    await refresh
            each = numbers.mean(taken["plain"])
            plain.append(each * sets)
            for way, found in extra.items():
                found.append(sum(taken[way]) - each * len(taken[way]))
    base = numbers.median(plain)
    minute = 100 / MINUTE
    return {
        "not counted, a set": f"{1000 * base / sets:.2f} ms",
        "time lost to a refresh of few companies": _interval(extra["few"], 1000, "ms"),
        "once a minute": _interval(extra["few"], minute, "%"),
        "time lost to a refresh of 500 companies": _interval(extra["many"], 1000, "ms"),
        "that once a minute": _interval(extra["many"], minute, "%"),
        "triggers": _interval(extra["triggers"], 100 / base, "%"),
    }


@contextmanager
def _prepared(db: psycopg.Connection[Any], way: str) -> Iterator[None]:
    if way == "many":
        db.execute(WRITTEN)
    if way == "triggers":
        db.execute(COUNTING)
    try:
        yield
    finally:
        if way == "triggers":
            db.execute(NO_COUNTING)


async def _refresh(rest: Rest, way: str) -> None:
    if way in {"few", "many"}:
        await statistics.refresh(rest, every=0)


def _interval(values: Sequence[float], factor: float, unit: str) -> str:
    """Return a median and its 95 % interval, by the ranks that hold it whatever the noise is."""
    ordered = sorted(values)
    reach = round(0.98 * len(values) ** 0.5)
    middle = len(values) // 2
    low, high = ordered[max(middle - reach, 0)], ordered[min(middle + reach, len(values) - 1)]
    found = numbers.median(values)
    return f"{factor * found:+.2f} {unit} ({factor * low:+.2f} to {factor * high:+.2f})"


async def _set(auth: AuthState, count: int) -> float:
    data = {"session": {f"s{n}": {"record": "x" * 300, "at": time.time()} for n in range(count)}}
    started = time.perf_counter()
    await auth.keys.set(data)
    return time.perf_counter() - started


def main() -> None:
    """Read the arguments, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operations")
    parser.add_argument("--companies", type=int, default=10_000)
    asyncio.run(measure(parser.parse_args().companies))


if __name__ == "__main__":
    main()
