"""The migrations, applied by the real Supabase CLI over empty databases and over ones with data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import LocalStack, Stack
from devstack.migrations import run_cli

PROJECT = Path(__file__).parents[2]
LEGACY = PROJECT / "tests" / "fixtures" / "baileys" / "legacy-jsonb"

# What the owner's JavaScript was installed with in 2025, as far as such migrations differ.
OWNERS_TABLES = {
    "plain": """
        create table public.whatsapp_auth (
          company_id text primary key, creds jsonb not null,
          created_at timestamptz default now(), updated_at timestamptz default now());
        create table public.whatsapp_keys (
          company_id text not null, key_type text not null, key_id text not null, value jsonb not
          null, expires_at timestamptz, primary key (company_id, key_type, key_id));
    """,
    "uuids and foreign keys": """
        create schema private; create table private.companies (id uuid primary key);
        create table public.whatsapp_auth (
          id uuid primary key default gen_random_uuid(),
          company_id uuid not null unique references private.companies (id) on delete cascade,
          creds jsonb, created_at timestamp default now(), updated_at timestamp);
        create table public.whatsapp_keys (
          id bigserial primary key,
          company_id uuid not null references private.companies (id) on delete cascade,
          key_type varchar(50) not null, key_id varchar(255) not null, value json, expires_at
          timestamp, created_at timestamp default now(), unique (company_id, key_type, key_id));
        create index idx_whatsapp_keys_company on public.whatsapp_keys (company_id);
        create index idx_whatsapp_keys_type on public.whatsapp_keys (company_id, key_type);
        create index idx_whatsapp_keys_expires on public.whatsapp_keys (expires_at) where expires_at
        is not null; insert into private.companies
          select ('00000000-0000-4000-8000-0000000000' || lpad(n::text, 2, '0'))::uuid from
          generate_series(1, 11) n;
        create function private.touch_updated_at() returns trigger language plpgsql set search_path
        = '' as
          $$ begin new.updated_at = now(); return new; end $$;
        create trigger set_updated_at before update on public.whatsapp_auth
          for each row execute function private.touch_updated_at();
    """,
}
OWNERS_POLICIES = """
    alter table public.whatsapp_auth enable row level security;
    alter table public.whatsapp_keys enable row level security;
    create policy "Allow all" on public.whatsapp_auth for all using (company_id is not null) with
    check (true); create policy "Allow all" on public.whatsapp_keys for all to anon, authenticated
    using (true); create function public.cleanup_expired_whatsapp_keys() returns integer language
    plpgsql as
      $$ begin delete from public.whatsapp_keys where expires_at < now(); return 1; end $$;
"""


def test_push_applies_to_an_empty_project_and_again_changes_nothing(fresh_stack: Any) -> None:
    stack: LocalStack = fresh_stack(migrate=False)
    stack.migrate()
    before = schema(stack)
    stack.migrate()
    assert schema(stack) == before
    assert "whatsapp_keys" in before


@pytest.mark.parametrize("tables", OWNERS_TABLES)
def test_push_takes_over_the_owners_tables_with_their_rows(fresh_stack: Any, tables: str) -> None:
    stack: LocalStack = fresh_stack(migrate=False, default_privileges="old")
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute(OWNERS_TABLES[tables])
        db.execute(OWNERS_POLICIES)
        stored = [
            row
            for row in json.loads((LEGACY / "rows.json").read_text())
            if row["value"] is not None
        ]
        creds = json.loads((LEGACY / "auth_rows.json").read_text())
        with db.cursor() as cursor:
            cursor.executemany(
                "insert into whatsapp_keys (company_id, key_type, key_id, value, expires_at) "
                "values "
                "(%s, %s, %s, %s, case when %s = 'lid-mapping' then now() - interval '1 day' end)",
                [
                    [
                        row["company_id"],
                        row["key_type"],
                        row["key_id"],
                        json.dumps(row["value"]),
                        row["key_type"],
                    ]
                    for row in stored
                ],
            )
            cursor.executemany(
                "insert into whatsapp_auth (company_id, creds) values (%s, %s)",
                [[row["company_id"], json.dumps(row["creds"])] for row in creds],
            )
        stack.migrate()
        kept = db.execute(
            "select company_id, key_type, key_id, value from whatsapp_keys order by 1, 2, 3"
        ).fetchall()
        wanted = sorted((row["company_id"], row["key_type"], row["key_id"]) for row in stored)
        assert [row[:3] for row in kept] == wanted
        values = {
            (row["company_id"], row["key_type"], row["key_id"]): row["value"] for row in stored
        }
        assert all(row[3] == values[row[:3]] for row in kept)
        assert db.execute("select company_id, creds from whatsapp_auth order by 1").fetchall() == [
            (row["company_id"], row["creds"])
            for row in sorted(creds, key=lambda row: row["company_id"])
        ]
        # Mappings start their seven days anew: when they were last used is not known.
        assert db.execute(
            "select count(*) from whatsapp_keys where (key_type = 'lid-mapping') <> "
            "(expires_at is not null and expires_at > now() + interval '6 days')"
        ).fetchone() == (0,)
        assert (
            db.execute(
                "select polname from pg_policy where polrelid::regclass::text like 'whatsapp_%' "
                "and 0 = any (polroles) or polname = 'Allow all'"
            ).fetchall()
            == []
        )
    advisors_find_nothing(stack)
    if tables == "plain":
        new: LocalStack = fresh_stack(migrate=True)
        assert sorted(schema(stack).splitlines()) == sorted(schema(new).splitlines())


def test_push_refuses_rows_without_creds_and_changes_nothing(fresh_stack: Any) -> None:
    stack: LocalStack = fresh_stack(migrate=False)
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute("create table public.whatsapp_auth (company_id text primary key, creds jsonb)")
        db.execute("insert into public.whatsapp_auth values ('c', null)")
        with pytest.raises(Exception, match="rows without creds"):
            stack.migrate()
        assert db.execute("select * from public.whatsapp_auth").fetchall() == [("c", None)]
        assert db.execute("select to_regclass('public.whatsapp_keys')").fetchone() == (None,)


def test_the_advisors_find_nothing(fresh_stack: Any) -> None:
    # With the default privileges of before, they look at the owner's tables above.
    advisors_find_nothing(fresh_stack(migrate=True))


def test_privileges_come_out_the_same_under_both_defaults(fresh_stack: Any) -> None:
    stacks = [fresh_stack(migrate=True, default_privileges=mode) for mode in ("new", "old")]
    assert privileges(stacks[0]) == privileges(stacks[1])


def test_every_function_pins_its_search_path_and_none_is_left_to_the_public(
    fresh_stack: Any,
) -> None:
    with psycopg.connect(fresh_stack(migrate=True).db_url) as db:
        functions = db.execute(
            "select proname, proconfig::text, has_function_privilege('anon', oid, 'execute'), "
            "has_function_privilege('authenticated', oid, 'execute') "
            "from pg_proc where pronamespace = 'public'::regnamespace"
        ).fetchall()
    assert len(functions) > 15
    assert [
        row[0] for row in functions if "search_path" not in (row[1] or "") or row[2] or row[3]
    ] == []


def advisors_find_nothing(stack: Stack) -> None:
    run_cli("db", "advisors", f"--remote={stack.db_url}", "--fail-on", "info", workdir=PROJECT)


def test_the_advisors_would_fail_on_something(fresh_stack: Any) -> None:
    stack: LocalStack = fresh_stack(migrate=True)
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute("create table public.open_to_all (id int)")
        db.execute("grant all on public.open_to_all to anon")
    with pytest.raises(Exception, match=r"open_to_all|rls"):
        advisors_find_nothing(stack)


def schema(stack: Stack) -> str:
    """Everything our migrations define, as text."""
    queries = [
        "select 'column', table_name, column_name, data_type, collation_name, is_nullable, "
        "column_default "
        "from information_schema.columns where table_schema = 'public' order by 2, 3",
        "select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) from "
        "pg_constraint "
        "where connamespace = 'public'::regnamespace order by 2, 3",
        "select 'index', indexdef from pg_indexes where schemaname = 'public' order by 2",
        "select 'policy', tablename, policyname, roles::text, cmd, qual, with_check from "
        "pg_policies "
        "where schemaname = 'public' order by 2, 3",
        "select 'function', pg_get_functiondef(oid) from pg_proc where pronamespace = "
        "'public'::regnamespace "
        "order by 2",
        "select 'trigger', pg_get_triggerdef(oid) from pg_trigger where not tgisinternal "
        "and tgrelid::regclass::text like 'whatsapp%%' order by 2",
        "select 'options', relname, reloptions::text from pg_class where relnamespace = "
        "'public'::regnamespace "
        "and relkind = 'r' order by 2",
    ]
    with psycopg.connect(stack.db_url) as db:
        lines = [
            str(row) for query in queries for row in db.execute(query.replace("%%", "%")).fetchall()
        ]
    return "\n".join([*lines, *privileges(stack)])


def privileges(stack: Stack) -> list[str]:
    with psycopg.connect(stack.db_url) as db:
        return [
            str(row)
            for row in db.execute(
                "select relname, acl.grantee::regrole::text, acl.privilege_type from pg_class, "
                "aclexplode(relacl) acl where relnamespace = 'public'::regnamespace and relname "
                "like 'whatsapp%' "
                "and acl.grantee <> 0 union all select proname, acl.grantee::regrole::text, "
                "acl.privilege_type "
                "from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) acl "
                "where pronamespace = 'public'::regnamespace order by 1, 2, 3"
            ).fetchall()
        ]
