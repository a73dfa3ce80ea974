"""What the database counts is what is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from devstack import LocalStack
from supabase_auth_state import (
    Rest,
    SchemaMissing,
    Settings,
    open_rest,
    use_supabase_auth_state,
)
from supabase_auth_state.cli.companies import list_companies
from supabase_auth_state.cli.overview import kept_stats
from supabase_auth_state.cli.top import read_dashboard
from supabase_auth_state.leases.lease import acquire_lease
from supabase_auth_state.operations import statistics
from supabase_auth_state.operations.cleanup import run_cleanup
from supabase_auth_state.operations.statistics import Sort

TABLES = (
    "whatsapp_auth, whatsapp_keys, whatsapp_leases, whatsapp_writers, whatsapp_lease_history, "
    "whatsapp_company_statistics, whatsapp_type_statistics, whatsapp_statistics_days, "
    "whatsapp_cleanup_runs, whatsapp_traffic, whatsapp_events"
)
EXACT = """
    select key_type, count(*), count(*) filter (where expires_at <= now())
    from whatsapp_keys group by 1 order by 1
"""
PLANT = """
    with company as (
      insert into whatsapp_auth (company_id, creds)
      select 'c' || lpad(n::text, 4, '0'), '{"a": 1}' from generate_series(1, %(companies)s) n
      returning company_id
    )
    insert into whatsapp_keys (company_id, key_type, key_id, value)
    select c.company_id, (array['session', 'pre-key', 'device-list'])[k %% 3 + 1], 'k' || k,
      to_jsonb(repeat('x', k + length(c.company_id)))
    from company c, generate_series(1, %(keys)s) k
"""


@pytest.fixture
def db(project: LocalStack) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(project.db_url, autocommit=True) as found:
        found.execute(f"truncate {TABLES}")
        found.execute(
            "update whatsapp_statistics set refreshed_at = '-infinity', recounted_at = null, "
            "recount_after = '', companies = 0, creds_bytes = 0, commits = null, key_rows = null, "
            "rated_at = null, commits_per_minute = null, key_rows_per_minute = null"
        )
        found.execute("set whatsapp_auth.maintenance = 'on'")
        yield found


@pytest.fixture
async def rest(project: LocalStack, db: Any) -> AsyncIterator[Rest]:
    found = open_rest(Settings(url=project.url, key=project.service_role_key))
    yield found
    await found.close()


def plant(db: psycopg.Connection[Any], companies: int, keys: int) -> None:
    """Store companies as a client does that numbers no writes."""
    db.execute(PLANT, {"companies": companies, "keys": keys})


async def assert_exact(rest: Rest, db: psycopg.Connection[Any]) -> None:
    overview = await statistics.read_overview(rest)
    exact = [(name, rows, expired) for name, rows, expired in db.execute(EXACT)]
    counted = sorted(
        (name, found["rows"], found["expired"])
        for name, found in overview["keys"]["by_type"].items()
    )
    assert counted == exact
    companies = db.execute(
        "select count(*) from (select company_id from whatsapp_auth "
        "union select company_id from whatsapp_keys) c"
    ).fetchone()
    assert (overview["companies"],) == companies


async def test_what_is_written_is_counted_at_the_next_refresh(rest: Rest, db: Any) -> None:
    plant(db, 3, 10)
    await statistics.recount(rest)
    async with use_supabase_auth_state("c0002", client=rest, lease=True) as auth:
        await auth.keys.set({"session": {"new": {"a": "b"}}, "pre-key": {"k1": None}})
        found = await statistics.refresh(rest, every=0)
        assert (found["refreshed"], found["counted"], found["left"]) == (True, 1, False)
    await assert_exact(rest, db)
    again = await statistics.refresh(rest)
    assert again == {"refreshed": False, "counted": 0, "left": False}


async def test_companies_that_hold_nothing_keep_no_other_from_being_counted(
    rest: Rest, db: Any
) -> None:
    await statistics.recount(rest)
    db.execute(
        "insert into whatsapp_writers (company_id, writer, commit_no, lands_until) "
        "select 'b' || n, '0a', 1, now() from generate_series(1, 600) n"
    )
    async with use_supabase_auth_state("c1", client=rest, lease=True) as auth:
        await auth.keys.set({"session": {"a": {"b": "c"}}})
    await statistics.refresh(rest, every=0)
    page = await statistics.read_companies(rest)
    assert [company["company_id"] for company in page["companies"]] == ["c1"]


async def test_a_count_of_all_corrects_what_no_refresh_sees(rest: Rest, db: Any) -> None:
    plant(db, 7, 6)
    assert await statistics.recount(rest, companies=2)
    await assert_exact(rest, db)
    # A client before 0.3, or a person: no number, no lease.
    db.execute("delete from whatsapp_keys where company_id = 'c0003'")
    db.execute("delete from whatsapp_auth where company_id in ('c0003', 'c0004')")
    db.execute("delete from whatsapp_keys where key_type = 'device-list'")
    plant_keys = "insert into whatsapp_keys (company_id, key_type, key_id, value, expires_at) "
    db.execute(f"{plant_keys} values ('only-keys', 'tctoken', 'x', '1', now() - interval '1 d')")
    assert await statistics.recount(rest, companies=3)
    await assert_exact(rest, db)
    overview = await statistics.read_overview(rest)
    assert overview["expired"] == 1
    sums = db.execute("select sum(rows), sum(bytes) from whatsapp_company_statistics").fetchone()
    assert (overview["keys"]["rows"], overview["keys"]["bytes"]) == sums


async def test_the_first_refreshes_count_everything_a_part_at_a_time(rest: Rest, db: Any) -> None:
    plant(db, 5, 3)
    assert (await statistics.read_overview(rest))["recounted_at"] is None
    parts = 0
    while (await statistics.refresh(rest, companies=2, every=0))["left"]:
        parts += 1
        assert parts < 10
    assert parts == 2
    assert (await statistics.read_overview(rest))["recounted_at"] is not None
    await assert_exact(rest, db)


async def test_refreshes_and_counts_at_the_same_time_stay_exact(
    rest: Rest, db: Any, project: LocalStack
) -> None:
    plant(db, 6, 5)

    async def write(company: str) -> None:
        async with use_supabase_auth_state(company, client=rest, lease=True) as auth:
            for n in range(5):
                await auth.keys.set({"session": {f"s{n}": {"n": n}}})

    await asyncio.gather(
        *(write(f"c{n:04}") for n in range(1, 5)),
        *(statistics.recount(rest, companies=2) for _ in range(3)),
        *(statistics.refresh(rest, every=0) for _ in range(3)),
        *(statistics.read_company(rest, f"c{n:04}") for n in range(1, 5)),
    )
    await statistics.recount(rest)
    await assert_exact(rest, db)


async def test_the_clean_up_counts_and_is_remembered(rest: Rest, db: Any) -> None:
    plant(db, 2, 3)
    db.execute("update whatsapp_keys set expires_at = now() where key_type = 'device-list'")
    report = await run_cleanup(rest)
    assert report.deleted == 2
    overview = await statistics.read_overview(rest)
    assert overview["cleanup"] is not None
    assert (overview["cleanup"]["deleted"], overview["cleanup"]["complete"]) == (2, True)
    await assert_exact(rest, db)
    days = await statistics.read_growth(rest)
    assert [(day["companies"], day["rows"]) for day in days] == [(2, 4)]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["company_id", "bytes", "rows", "last_write", "pre_keys"])
async def test_pages_have_every_company_once_in_order(
    rest: Rest, db: Any, sort: Sort, descending: bool
) -> None:
    plant(db, 11, 4)
    db.execute("delete from whatsapp_keys where company_id = 'c0004' and key_id < 'k3'")
    await statistics.recount(rest)
    seen: list[Any] = []
    after = None
    while True:
        page = await statistics.read_companies(
            rest, sort=sort, descending=descending, after=after, limit=3
        )
        seen += [(company[sort], company["company_id"]) for company in page["companies"]]
        after = page["after"]
        if after is None:
            break
    assert seen == sorted(seen, reverse=descending)
    assert len(seen) == len(set(seen)) == 11


async def test_a_search_is_for_how_the_id_begins_whatever_characters_it_has(
    rest: Rest, db: Any
) -> None:
    for name in ("a%b", "a_b", "axb", "a", "b", "ä1"):
        db.execute("insert into whatsapp_auth (company_id, creds) values (%s, '{}')", [name])
    await statistics.recount(rest)
    for search, wanted in (("a", ["a", "a%b", "a_b", "axb"]), ("a%", ["a%b"]), ("ä", ["ä1"])):
        page = await statistics.read_companies(rest, search=search)
        assert [company["company_id"] for company in page["companies"]] == wanted


async def test_one_company_has_its_leases(rest: Rest, db: Any) -> None:
    plant(db, 1, 3)
    lease = await acquire_lease(rest, "c0001", owner="first")
    await lease.release()
    lost = await acquire_lease(rest, "c0001", owner="died")
    db.execute("update whatsapp_leases set expires_at = now() where company_id = 'c0001'")
    lease = await acquire_lease(rest, "c0001", owner="second")
    found = await statistics.read_company(rest, "c0001")
    assert found is not None
    assert [(each["owner"], each["taken_from"]) for each in found["leases"]] == [
        ("second", "died"),
        ("died", None),
        ("first", None),
    ]
    assert found["leases"][2]["released_at"] is not None
    assert (found["owner"], found["live"], found["rows"]) == ("second", True, 3)
    assert await statistics.read_company(rest, "nothing") is None
    overview = await statistics.read_overview(rest)
    assert overview["leases"] == {"acquired_last_hour": 3, "taken_over_last_hour": 1}
    await statistics.refresh(rest, every=0)
    workers = await statistics.read_workers(rest)
    assert [(each["owner"], each["companies"]) for each in workers] == [("second", 1)]
    for each in (lease, lost):
        await each.release()


async def test_what_is_the_matter_with_a_company_is_beside_its_counts(
    rest: Rest, db: psycopg.Connection[Any]
) -> None:
    plant(db, 3, 2)
    await statistics.recount(rest)
    page = await statistics.read_companies(rest)
    assert [(each["restored_at"], each["pause"]) for each in page["companies"]] == [
        (None, None)
    ] * 3
    db.execute(
        "insert into whatsapp_leases (company_id, token, restored_at) values ('c0001', 1, now())"
    )
    db.execute(
        "insert into whatsapp_pauses (company_id, code, reason, until, noted_by) values "
        "('c0002', 401, 'logged out', 'infinity', 'w'), "
        "('c0003', 402, 'banned', now() - interval '1 s', 'w')"
    )
    first, second, third = (await statistics.read_companies(rest))["companies"]
    assert page["time"] - 60 < (first["restored_at"] or 0) < page["time"] + 60
    assert second["pause"] is not None
    assert second["pause"]["reason"] == "logged out"
    assert second["pause"]["until"] is None
    assert third["pause"] is None
    one = await statistics.read_company(rest, "c0002")
    assert one is not None
    assert one["pause"] == second["pause"]
    db.execute("delete from whatsapp_pauses")


async def test_an_older_schema_is_named(rest: Rest, project: LocalStack, db: Any) -> None:
    plant(db, 1, 1)
    await statistics.recount(rest)
    with psycopg.connect(project.db_url, autocommit=True) as admin:
        (made,) = admin.execute(
            "select pg_get_functiondef('whatsapp_company_health'::regproc)"
        ).fetchone()  # type: ignore[misc]
        admin.execute(
            "create or replace function whatsapp_company_health(p_company_id text) returns jsonb "
            "language sql stable set search_path = '' as $$ select '{}'::jsonb $$"
        )
        try:
            for look in (statistics.read_companies(rest), statistics.read_company(rest, "c0001")):
                with pytest.raises(SchemaMissing, match="apply the migrations"):
                    await look
        finally:
            admin.execute(made)


async def test_the_last_runs_of_the_clean_up_and_the_last_leases_come_latest_first(
    rest: Rest, db: psycopg.Connection[Any]
) -> None:
    assert await statistics.read_cleanup_runs(rest) == []
    assert await statistics.read_leases(rest) == []
    for hours in (3, 1, 2):
        db.execute(
            "insert into whatsapp_cleanup_runs (finished_at, owner, deleted, complete, seconds) "
            "values (now() - %s * interval '1 h', 'w', %s, true, 0.5)",
            [hours, hours],
        )
    runs = await statistics.read_cleanup_runs(rest, limit=2)
    assert [run["deleted"] for run in runs] == [1, 2]
    now = (await statistics.read_overview(rest))["time"]
    assert abs(now - 3600 - runs[0]["finished_at"]) < 60
    for company in ("one", "two", "supabase-auth-state/cleanup"):
        db.execute("select acquire_whatsapp_lease(%s, 'w', 60)", [company])
    db.execute("select release_whatsapp_lease('one', 1)")
    two, one = await statistics.read_leases(rest)
    assert (two["company_id"], two["owner"], two["released_at"]) == ("two", "w", None)
    assert one["company_id"] == "one"
    assert one["released_at"] is not None
    assert one["acquired_at"] <= one["released_at"]


async def test_few_and_many_pre_keys_are_found(rest: Rest, db: Any) -> None:
    plant(db, 3, 9)
    db.execute("delete from whatsapp_keys where company_id = 'c0002' and key_type = 'pre-key'")
    await statistics.recount(rest)
    found = await statistics.read_pre_key_extremes(rest, low=1, high=2)
    assert found == {
        "low": {"count": 1, "companies": ["c0002"]},
        "high": {"count": 2, "companies": ["c0003", "c0001"]},
    }


async def test_days_are_kept_for_ninety(rest: Rest, db: Any) -> None:
    db.execute(
        "insert into whatsapp_statistics_days "
        "select current_date - n, now(), 1, 1, 1, 1, '{}', '{}' from generate_series(1, 200) n"
    )
    await statistics.recount(rest)
    days = await statistics.read_growth(rest, days=365)
    assert len(days) == 91


async def test_what_a_process_sends_is_added_to_the_ledger_of_all(rest: Rest, db: Any) -> None:
    async with use_supabase_auth_state("c1", client=rest, lease=True) as auth:
        await auth.keys.set({"session": {"a": {"b": "c" * 1000}}})
    for _ in range(2):
        await rest._ledger.tell()
        await rest._ledger.tell()
    traffic = (await statistics.read_overview(rest))["traffic"]
    assert traffic["writing whatsapp_keys"]["requests"] == 1
    assert traffic["writing whatsapp_keys"]["sent"] > 1000
    assert 0 < traffic["writing whatsapp_keys"]["received"] < 1000


async def test_looking_reads_no_key_but_by_index(db: Any, rest: Rest) -> None:
    plant(db, 300, 20)
    db.execute("analyze")
    await statistics.recount(rest)
    scans = (
        "select relname, seq_scan from pg_stat_user_tables "
        "where relname in ('whatsapp_keys', 'whatsapp_auth') order by 1"
    )
    db.execute("select pg_stat_force_next_flush()")
    before = db.execute(scans).fetchall()
    for call in (
        "whatsapp_overview()",
        "whatsapp_companies_page()",
        "whatsapp_companies_page(p_sort => 'bytes', p_descending => true)",
        "whatsapp_company_overview('c0007')",
        "whatsapp_growth()",
        "whatsapp_pre_key_extremes(1, 1000)",
        "refresh_whatsapp_statistics(500, 0)",
        "list_whatsapp_companies()",
        "list_whatsapp_companies('c0100', 50)",
    ):
        db.execute(f"select {call}")
    db.execute("select pg_stat_force_next_flush()")
    assert db.execute(scans).fetchall() == before
    assert json.dumps(await statistics.read_overview(rest))


# Companies by key


@pytest.mark.parametrize("size", [1, 7, 5000])
async def test_companies_are_listed_once_in_order_page_by_page(
    size: int, rest: Rest, db: Any
) -> None:
    plant(db, 20, 3)
    db.execute("delete from whatsapp_auth where company_id = 'c0007'")
    db.execute("delete from whatsapp_keys where company_id = 'c0012'")
    db.execute("insert into whatsapp_auth (company_id, creds) values ('Ä\"(,', '{}'), ('%', '{}')")
    await statistics.recount(rest)
    # Counted, and gone since.
    db.execute("delete from whatsapp_auth where company_id = 'c0009'")
    db.execute("delete from whatsapp_keys where company_id = 'c0009'")
    expected = sorted(["%", 'Ä"(,', *(f"c{n:04}" for n in range(1, 21) if n != 9)], key=str.encode)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = db.execute("select list_whatsapp_companies(%s, %s)", [after, size]).fetchone()[0]
        assert len(page["companies"]) <= size
        found += page["companies"]
        after = page["after"]
    assert found == expected
    assert await list_companies(rest) == expected


async def test_of_a_company_with_many_keys_few_entries_of_the_index_are_read(
    rest: Rest, db: Any
) -> None:
    plant(db, 40, 500)
    entries = "select idx_tup_read from pg_stat_user_indexes where indexrelname = %s"
    db.execute("select pg_stat_force_next_flush()")
    (before,) = db.execute(entries, ["whatsapp_keys_pkey"]).fetchone()
    # Statistics of the planner that are not there yet make it choose nothing else.
    (found,) = db.execute("select list_whatsapp_companies()").fetchone()
    db.execute("select pg_stat_force_next_flush()")
    (after,) = db.execute(entries, ["whatsapp_keys_pkey"]).fetchone()
    assert len(found["companies"]) == 40
    assert 40 <= after - before <= 120


async def test_commands_look_at_what_the_database_keeps_and_at_no_row(
    rest: Rest, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(db, 5, 4)
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value) "
        "select case when n < 7 then 'c0003' else 'c0001' end, 'tctoken', n::text, '{}' "
        "from generate_series(1, 10) n"
    )
    called: list[str] = []
    real = Rest.rpc

    async def rpc(self: Rest, function: str, *args: Any, **options: Any) -> Any:
        called.append(function)
        return await real(self, function, *args, **options)

    monkeypatch.setattr(Rest, "rpc", rpc)
    stats = await kept_stats(rest, 2)
    dashboard = await read_dashboard(rest, companies=2)
    await list_companies(rest)
    assert set(called) == {
        "refresh_whatsapp_statistics", "whatsapp_overview", "whatsapp_companies_page",
        "list_whatsapp_companies",
    }  # fmt: skip
    (exact,) = db.execute("select whatsapp_storage_stats(2)").fetchone()
    for name in ("companies", "rows", "expired", "tables"):
        assert stats[name] == exact[name]
    assert [each["company_id"] for each in stats["by_company"]] == [
        each["company_id"] for each in exact["by_company"]
    ]
    assert {name: each["rows"] for name, each in stats["by_type"].items()} == {
        name: each["rows"] for name, each in exact["by_type"].items()
    }
    assert 0 <= stats["time"] - stats["counted_at"] < 60
    assert stats["every_company_counted_at"] is not None
    assert (dashboard.company_count, dashboard.rows) == (5, 30)
    assert dashboard.companies[0].creds_saved is not None


async def test_stats_count_what_was_written_a_moment_ago(rest: Rest, db: Any) -> None:
    await kept_stats(rest, 2)
    async with use_supabase_auth_state("c1", client=rest, lease=True) as auth:
        await auth.keys.set({"session": {"a": {"b": "c"}}})
        assert (await kept_stats(rest, 2))["rows"] == 1
        await auth.keys.set({"session": {"b": {"b": "c"}}})
        assert (await kept_stats(rest, 2))["rows"] == 2


async def test_a_look_in_between_makes_no_rate_of_a_moment(rest: Rest, db: Any) -> None:
    await statistics.refresh(rest, every=0)
    db.execute("update whatsapp_statistics set rated_at = now() - interval '1 minute'")
    plant(db, 1, 60)
    db.execute("select pg_stat_force_next_flush()")
    db.execute("select refresh_whatsapp_statistics(500, 0)")
    first = (await statistics.read_overview(rest))["key_rows_per_minute"]
    assert first is not None
    # That of a moment would be thousands; rows of an earlier test may be counted late.
    assert 30 <= first <= 600
    await statistics.refresh(rest, every=0)
    assert (await statistics.read_overview(rest))["key_rows_per_minute"] == first


# Companies that live elsewhere


@pytest.mark.parametrize("mark", ["moved to https://b.example", "arriving from https://a.example"])
async def test_a_company_that_has_moved_is_owned_by_no_process(
    mark: str, rest: Rest, db: Any
) -> None:
    await acquire_lease(rest, "c1", owner="worker/1")
    await acquire_lease(rest, "c2", owner="worker/1")
    await statistics.refresh(rest, every=0)
    assert (await statistics.read_overview(rest))["owned"] == 2
    assert [each["companies"] for each in await statistics.read_workers(rest)] == [2]
    with db.transaction():
        db.execute("select set_config('whatsapp_auth.closing', 'c1', true)")
        db.execute("update whatsapp_leases set owner = %s where company_id = 'c1'", [mark])
    await statistics.refresh(rest, every=0)
    overview = await statistics.read_overview(rest)
    assert overview["owned"] == 1
    assert overview["leases"]["acquired_last_hour"] == 2
    workers = await statistics.read_workers(rest)
    assert [(each["owner"], each["companies"]) for each in workers] == [("worker/1", 1)]
    # The lease of the process that closed it is over.
    ended = "select company_id, released_at is not null from whatsapp_lease_history order by 1"
    assert db.execute(ended).fetchall() == [("c1", True), ("c2", False)]
