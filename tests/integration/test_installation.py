"""``doctor`` without a company, on real projects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from devstack import LocalStack, Stack
from supabase_auth_state import Rest, Settings, open_rest
from supabase_auth_state.cli.installation import (
    Check,
    InstallationReport,
    examine_installation,
)


def failed(report: InstallationReport) -> dict[str, str]:
    return {check.name: check.words for check in report.checks if check.ok is False}


async def test_a_project_as_it_should_be(stack: Stack, settings: Settings, rest: Rest) -> None:
    await rest.rpc("refresh_whatsapp_statistics", {"p_companies": 1, "p_every": 0})
    report = await examine_installation(settings, rest, anon_key=stack.anon_key)
    # A busy machine may be slow; other tests may leave expired keys.
    assert failed(report).keys() <= {"round trip", "clean-up"}
    assert {check.name for check in report.checks} == {
        "url", "key", "round trip", "migrations", "access", "pg_cron", "grants", "outside",
        "max_rows", "clock", "clean-up", "statistics",
    }  # fmt: skip
    assert settings.key not in str(report)
    assert stack.anon_key not in str(report)
    assert report.as_json()["checks"]


async def test_a_project_without_migrations(fresh_stack: Callable[..., LocalStack]) -> None:
    stack = fresh_stack()
    settings = Settings(url=stack.url, key=stack.service_role_key, give_up_after=20)
    rest = open_rest(settings)
    try:
        report = await examine_installation(settings, rest)
    finally:
        await rest.close()
    assert "migration" in failed(report)["connection"]


async def test_a_table_that_is_open_to_outsiders(
    fresh_stack: Callable[..., LocalStack],
) -> None:
    stack = fresh_stack(migrate=True)
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute("grant select on whatsapp_auth to anon")
        db.execute("revoke select on whatsapp_keys from service_role")
    found = await examined(stack, anon_key=stack.anon_key)
    assert found["outside"].ok is found["grants"].ok is False
    assert "whatsapp_auth" in found["outside"].words
    assert "whatsapp_keys" in found["grants"].words


# One project, whose settings are changed and put back


@pytest.fixture
def db(project: LocalStack) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(project.db_url, autocommit=True) as found:
        yield found


async def examined(stack: LocalStack, **keys: str) -> dict[str, Check]:
    # While PostgREST loads the schema that a grant has changed, it may know no function.
    await asyncio.to_thread(stack.reload_schema)
    settings = Settings(url=stack.url, key=stack.service_role_key, give_up_after=20)
    rest = open_rest(settings)
    try:
        report = await examine_installation(settings, rest, **keys)
    finally:
        await rest.close()
    return {check.name: check for check in report.checks}


@pytest.mark.parametrize("kind", ["anon_key", "publishable_key"])
async def test_a_function_that_outsiders_may_call_is_named(
    kind: str, project: LocalStack, db: psycopg.Connection[Any]
) -> None:
    key = getattr(project, kind)
    right = await examined(project, anon_key=key)
    assert (right["outside"].ok, right["access"].ok) == (True, True)
    db.execute("grant execute on function whatsapp_overview() to anon")
    db.execute("grant execute on function clear_whatsapp_keys(text) to authenticated")
    try:
        wrong = await examined(project, anon_key=key)
    finally:
        db.execute("revoke execute on function whatsapp_overview() from anon")
        db.execute("revoke execute on function clear_whatsapp_keys(text) from authenticated")
    assert wrong["outside"].ok is False
    assert "whatsapp_overview()" in wrong["outside"].words
    # What cannot be tried without doing harm, the database is asked for.
    assert wrong["access"].ok is False
    assert "clear_whatsapp_keys, whatsapp_overview:" in wrong["access"].words
    assert key not in str(wrong)


async def test_row_level_security_that_is_off_is_told_and_only_of_our_tables(
    project: LocalStack, db: psycopg.Connection[Any]
) -> None:
    db.execute("create table whatsapp_of_another_program (id int)")
    db.execute("grant select on whatsapp_of_another_program to anon")
    try:
        assert (await examined(project))["access"].ok
        db.execute("alter table whatsapp_pauses disable row level security")
        wrong = (await examined(project))["access"]
    finally:
        db.execute("alter table whatsapp_pauses enable row level security")
        db.execute("drop table whatsapp_of_another_program")
    assert wrong.ok is False
    assert "off for whatsapp_pauses:" in wrong.words
    assert "another_program" not in wrong.words


def set_max_rows(project: LocalStack, db: psycopg.Connection[Any], change: str) -> None:
    """Change what Supabase's settings of the API change, for this database alone."""
    with project.cluster.superuser(db.info.dbname) as admin:
        admin.execute(f"alter role authenticator in database {db.info.dbname} {change}")
    db.execute("notify pgrst, 'reload config'")


async def test_pages_that_the_api_cuts_are_told_with_the_number(
    project: LocalStack, db: psycopg.Connection[Any]
) -> None:
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value)"
        " select 'pages', 'tctoken', n::text, '{}' from generate_series(1, 1001) n"
    )
    try:
        whole = (await examined(project))["max_rows"]
        assert (whole.ok, whole.words) == (True, "pages of 1000 rows come whole")
        set_max_rows(project, db, "set pgrst.db_max_rows = '30'")
        while (cut := (await examined(project))["max_rows"]).ok:
            pass  # until PostgREST has heard of it
    finally:
        set_max_rows(project, db, "reset pgrst.db_max_rows")
        db.execute("delete from whatsapp_keys where company_id = 'pages'")
    assert cut.ok is False
    assert cut.words.startswith("30: pages of 1000 are cut")


async def test_a_clean_up_by_pg_cron_is_told_with_its_schedule(
    project: LocalStack, db: psycopg.Connection[Any]
) -> None:
    assert "not installed" in (await examined(project))["pg_cron"].words
    # pg_cron needs a server built with it; this has its names.
    db.execute("create schema cron")
    try:
        db.execute("create table cron.job (jobname text, schedule text, command text)")
        db.execute(
            "create function cron.schedule(text, text, text) returns bigint language sql as "
            "$$ insert into cron.job values ($1, $2, $3); select 1::bigint $$"
        )
        assert "--schedule-in-database" in (await examined(project))["pg_cron"].words
        db.execute("select schedule_whatsapp_cleanup('*/7 * * * *')")
        db.execute("select run_whatsapp_cleanup()")
        found = await examined(project)
    finally:
        db.execute("drop schema cron cascade")
    assert found["pg_cron"].words == "the clean-up is scheduled: */7 * * * *"
    assert "by pg_cron" in found["clean-up"].words
    db.execute("update whatsapp_cleanup_runs set finished_at = now() - interval '2 days'")
    overdue = (await examined(project))["clean-up"]
    assert (overdue.ok, "2 d ago" in overdue.words) == (False, True)
    db.execute("delete from whatsapp_cleanup_runs")


async def test_an_older_schema_is_told_and_nothing_is_made_up(
    project: LocalStack, db: psycopg.Connection[Any]
) -> None:
    name = "whatsapp_installation"
    db.execute(f"alter function {name}() rename to {name}_later")
    db.execute("notify pgrst, 'reload schema'")
    try:
        while (found := await examined(project))["migrations"].ok:
            pass  # until PostgREST has heard of it
    finally:
        db.execute(f"alter function {name}_later() rename to {name}")
        db.execute("notify pgrst, 'reload schema'")
    assert found["migrations"].words.startswith("older than this library")
    assert (found["access"].ok, found["pg_cron"].ok) == (None, None)
