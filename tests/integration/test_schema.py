"""The tables in another schema than `public`, made by the SQL that `migrations copy` writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from devstack import LocalStack
from supabase_auth_state import (
    LeaseHeld,
    LeaseLost,
    Rest,
    SchemaMissing,
    Settings,
    diagnose,
    export_folder,
    import_folder,
    open_rest,
    use_supabase_auth_state,
    verify_folder,
)
from supabase_auth_state.cli.migration_files import migrations_for
from supabase_auth_state.operations.cleanup import run_cleanup
from tests.acceptance.command import Command
from tests.folders import another_device, sample_folder
from tests.values import BAILEYS

SCHEMA = "whatsapp"
SESSION = {"_sessions": {}, "version": "v1"}


@pytest.fixture(scope="module")
def project(
    local_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalStack]:
    """A project whose API exposes a schema of its own, with our tables there and only there."""
    with local_stack.fresh(schemas=f"public,{SCHEMA}") as stack:
        workdir = tmp_path_factory.mktemp("project")
        copied = Command(workdir, {})("migrations", "copy", "--schema", SCHEMA)
        assert copied.code == 0, copied.err
        stack.migrate(workdir)
        yield stack


@pytest.fixture
async def rest(project: LocalStack) -> AsyncIterator[Rest]:
    opened = open_rest(settings_of(project))
    yield opened
    await opened.close()


@pytest.fixture
def run(project: LocalStack, tmp_path: Path) -> Command:
    environ = {"SUPABASE_URL": project.url, "SUPABASE_SECRET_KEY": project.secret_key}
    return Command(tmp_path, {**environ, "SUPABASE_SCHEMA": SCHEMA})


def settings_of(stack: LocalStack, schema: str = SCHEMA) -> Settings:
    return Settings(stack.url, stack.service_role_key, schema=schema)


def rows(stack: LocalStack, query: str, *values: object) -> list[tuple[Any, ...]]:
    options = f"-c search_path={SCHEMA}"
    with psycopg.connect(stack.db_url, autocommit=True, options=options) as db:
        return db.execute(query.encode(), values).fetchall()


def test_nothing_of_ours_is_in_public(project: LocalStack) -> None:
    found = rows(
        project,
        "select count(*), count(*) filter (where n.nspname = 'public') from ("
        " select relname as name, relnamespace as schema from pg_class"
        " union all select proname, pronamespace from pg_proc"
        " union all select typname, typnamespace from pg_type where typtype = 'd') o"
        " join pg_namespace n on n.oid = o.schema where o.name like '%%whatsapp%%'",
    )
    assert found[0][0] > 30
    assert found[0][1] == 0


async def test_keys_and_creds_are_kept_there_under_a_lease(
    rest: Rest, project: LocalStack, company_id: str
) -> None:
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as auth:
        with pytest.raises(LeaseHeld):
            await use_supabase_auth_state(company_id, client=rest, lease=True)
        await auth.keys.set({"session": {"1.0": SESSION}, "pre-key": {"7": None}})
        assert await auth.keys.get("session", ["1.0", "2.0"]) == {"1.0": SESSION}
        auth.creds["nextPreKeyId"] = 31
        await auth.save_creds()
        registration = auth.creds["registrationId"]
    async with use_supabase_auth_state(company_id, client=rest, create=False) as auth:
        assert (auth.creds["registrationId"], auth.creds["nextPreKeyId"]) == (registration, 31)
        assert await auth.keys.get("session", ["1.0"]) == {"1.0": SESSION}
        await auth.keys.set({"session": {"1.0": None}})
        assert await auth.keys.get("session", ["1.0"]) == {}
        await auth.keys.clear()
    counted = "select count(*) from whatsapp_auth where company_id = %s"
    assert rows(project, counted, company_id) == [(1,)]


async def test_the_guard_refuses_a_stale_owner_there_too(
    rest: Rest, project: LocalStack, company_id: str
) -> None:
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as old:
        rows(
            project,
            "update whatsapp_leases set expires_at = now() where company_id = %s returning 1",
            company_id,
        )
        async with use_supabase_auth_state(company_id, client=rest, lease=True):
            with pytest.raises(LeaseLost):
                await old.keys.set({"session": {"1.0": SESSION}})


async def test_what_has_expired_is_cleaned_up_there(
    rest: Rest, project: LocalStack, company_id: str
) -> None:
    rows(
        project,
        "insert into whatsapp_keys (company_id, key_type, key_id, value, expires_at)"
        " select %s, 'lid-mapping', '1', '\"2\"', now() - interval '1 day' returning 1",
        company_id,
    )
    assert (await run_cleanup(rest)).deleted == 1


async def test_a_folder_goes_there_and_comes_back(
    rest: Rest, company_id: str, tmp_path: Path
) -> None:
    folder = BAILEYS / "v7-small"
    report = await import_folder(folder, company_id, client=rest, backup_dir=tmp_path)
    assert report.added == len(list(folder.iterdir()))
    assert (await verify_folder(folder, company_id, client=rest)).identical
    assert not (await diagnose(rest, company_id)).damaged
    await export_folder(tmp_path / "out", company_id, client=rest)
    assert (await verify_folder(tmp_path / "out", company_id, client=rest)).identical


async def test_public_knows_nothing_of_it(project: LocalStack, company_id: str) -> None:
    rest = open_rest(settings_of(project, "public"))
    with pytest.raises(SchemaMissing, match="apply the migrations"):
        await use_supabase_auth_state(company_id, client=rest)
    await rest.close()


async def test_a_schema_that_is_not_exposed_is_told_to_be_exposed(
    project: LocalStack, company_id: str
) -> None:
    rest = open_rest(settings_of(project, "elsewhere"))
    with pytest.raises(SchemaMissing, match=r"PGRST106.*exposed schemas.*SUPABASE_SCHEMA") as told:
        await use_supabase_auth_state(company_id, client=rest)
    assert "migrations" not in str(told.value)
    await rest.close()


def test_the_commands_work_there(run: Command, company_id: str) -> None:
    folder = another_device(sample_folder("v7-small", run.cwd), 7)
    imported = run("import", folder, "--company", company_id, "--backup-dir", "safe")
    assert (imported.code, imported.err) == (0, "")
    for command in ("doctor", "pre-keys"):
        assert run(command, "--company", company_id).code == 0
    assert run("lease", "status", "--company", company_id, "--json").json["token"] > 0
    for command in (["stats"], ["top", "--once"], ["cleanup"]):
        ended = run(*command, "--json")
        assert (ended.code, ended.json["ok"]) == (0, True)
    assert company_id in run("top", "--once").out


@pytest.mark.parametrize("key", ["anon_key", "publishable_key"])
def test_clients_of_the_public_key_reach_nothing_there(project: LocalStack, key: str) -> None:
    headers = {"apikey": getattr(project, key), "accept-profile": SCHEMA, "content-profile": SCHEMA}
    with httpx.Client(base_url=f"{project.url}/rest/v1", headers=headers) as client:
        for answer in (
            client.get("/whatsapp_auth"),
            client.get("/whatsapp_keys"),
            client.post("/rpc/fetch_whatsapp_creds", json={"p_company_id": "7", "p_request": "1"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "42501")


def test_it_may_stand_beside_public_in_one_database(local_stack: LocalStack) -> None:
    with (
        local_stack.fresh(migrate=True, schemas="public,user") as stack,
        psycopg.connect(stack.db_url, autocommit=True) as db,
    ):
        for text in migrations_for("user").values():
            db.execute(text.encode())
        db.execute("""insert into "user".whatsapp_auth (company_id, creds) values ('7', '{}')""")
        assert db.execute("select count(*) from public.whatsapp_auth").fetchone() == (0,)
        db.execute("select public.cleanup_expired_whatsapp_keys()")
        assert db.execute("""select "user".cleanup_expired_whatsapp_keys()""").fetchone() == (0,)
