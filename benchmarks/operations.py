"""`python -m benchmarks.operations [--companies N]`: what looking costs, and counting.

Prints the tables of docs/operations.md: every figure's time over HTTP and how the database finds
it, and a set beside triggers that would count instead.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics as numbers
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from devstack.local import LocalStack
from supabase_auth_state.auth_state.database import AuthState, use_supabase_auth_state
from supabase_auth_state.config import Settings
from supabase_auth_state.operations import statistics
from supabase_auth_state.rest.client import Rest, open_rest

KEYS = 100
ROUNDS = 30
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
LOOKS: dict[str, tuple[str, Callable[[Rest], Awaitable[Any]]]] = {
    "overview": ("whatsapp_overview()", statistics.read_overview),
    "companies, by id": (
        "whatsapp_companies_page()",
        statistics.read_companies,
    ),
    "companies, largest first": (
        "whatsapp_companies_page(p_sort => 'bytes', p_descending => true)",
        lambda rest: statistics.read_companies(rest, sort="bytes", descending=True),
    ),
    "companies, last written first": (
        "whatsapp_companies_page(p_sort => 'last_write', p_descending => true)",
        lambda rest: statistics.read_companies(rest, sort="last_write", descending=True),
    ),
    "companies, a search": (
        "whatsapp_companies_page(p_search => 'c00999')",
        lambda rest: statistics.read_companies(rest, search="c00999"),
    ),
    "one company, counted anew": (
        "whatsapp_company_overview('c000007')",
        lambda rest: statistics.read_company(rest, "c000007"),
    ),
    "growth of 90 days": ("whatsapp_growth()", statistics.read_growth),
    "few or many pre-keys": (
        "whatsapp_pre_key_extremes(5, 5000)",
        lambda rest: statistics.read_pre_key_extremes(rest, low=5, high=5000),
    ),
    "workers": ("whatsapp_workers()", statistics.read_workers),
}


async def measure(companies: int) -> None:
    """Measure, and print tables."""
    with LocalStack.start(migrate=True) as stack:
        fill(stack, companies)
        rest = open_rest(Settings(url=stack.url, key=stack.service_role_key))
        try:
            await looks(stack, rest, companies)
            await counting(stack, rest)
        finally:
            await rest.close()


def fill(stack: LocalStack, companies: int) -> None:
    """Store companies of 100 keys each, and 90 days of statistics."""
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
        db.execute(
            "update whatsapp_writers set lands_until = now() + interval '1 minute' "
            "where company_id < 'c000501'"
        )
    started = time.perf_counter()
    found = await statistics.refresh(rest, every=0)
    spent = time.perf_counter() - started
    print(f"a refresh that counts {found['counted']} companies: {spent * 1000:.0f} ms\n")
    print("| look | median over HTTP | scans |\n| --- | ---: | --- |")
    for name, (sql, look) in LOOKS.items():
        await look(rest)
        spent = numbers.median([await _seconds(look, rest) for _ in range(ROUNDS)])
        print(f"| {name} | {spent * 1000:.1f} ms | {', '.join(plans(stack, sql))} |")


def plans(stack: LocalStack, call: str) -> list[str]:
    """Return how the tables are scanned while a function runs, by `auto_explain`."""
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
        admin.execute(f"select public.{call}")
    found = re.findall(
        r"((?:Seq|Index Only|Index|Bitmap Heap) Scan(?: Backward)?)(?: using (\w+))? on (\w+)",
        "\n".join(notices),
    )
    return sorted({f"{kind} {index or table}" for kind, index, table in found})


async def counting(stack: LocalStack, rest: Rest) -> None:
    """Print what a set costs beside each way of counting."""
    print("\n| | set 1 | set 100 |\n| --- | ---: | ---: |")
    ways: dict[str, list[list[float]]] = {"not counted": [[], []]}
    ways |= {"a refresh every 5 s": [[], []], "triggers": [[], []]}
    async with use_supabase_auth_state("measured", client=rest, lease=True) as auth:
        for _ in range(24):
            for way, measured in ways.items():
                with psycopg.connect(stack.db_url, autocommit=True) as db:
                    db.execute(NO_COUNTING)
                    if way == "triggers":
                        db.execute(COUNTING)
                task = asyncio.ensure_future(_refreshing(rest, on="refresh" in way))
                measured[0] += [await _set(auth, 1) for _ in range(45)][5:]
                measured[1] += [await _set(auth, 100) for _ in range(17)][2:]
                task.cancel()
    base = [numbers.median(each) for each in ways["not counted"]]
    for way, found in ways.items():
        medians = [numbers.median(each) for each in found]
        cells = " | ".join(
            f"{spent * 1000:.2f} ms ({spent / floor - 1:+.1%})"
            for spent, floor in zip(medians, base, strict=True)
        )
        print(f"| {way} | {cells} |")


async def _refreshing(rest: Rest, *, on: bool) -> None:
    while on:  # far more often than once a minute
        await statistics.refresh(rest, every=0)
        await asyncio.sleep(5.0)


async def _set(auth: AuthState, count: int) -> float:
    data = {"session": {f"s{n}": {"record": "x" * 300, "at": time.time()} for n in range(count)}}
    started = time.perf_counter()
    await auth.keys.set(data)
    return time.perf_counter() - started


async def _seconds(look: Callable[[Rest], Awaitable[Any]], rest: Rest) -> float:
    started = time.perf_counter()
    await look(rest)
    return time.perf_counter() - started


def main() -> None:
    """Read the arguments, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operations")
    parser.add_argument("--companies", type=int, default=10_000)
    asyncio.run(measure(parser.parse_args().companies))


if __name__ == "__main__":
    main()
