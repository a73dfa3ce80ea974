"""Who may do what through the API: the service role everything, everybody else nothing."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from devstack import LocalStack, Stack, keys

ROWS = {"select", "insert", "update", "delete"}
TABLES: dict[str, set[str]] = {
    "whatsapp_auth": ROWS,
    "whatsapp_keys": ROWS,
    "whatsapp_key_policies": ROWS,
    "whatsapp_leases": {"select"},
    "whatsapp_writers": {"select"},
    "whatsapp_pauses": {"select"},
    "whatsapp_creds_history": set(),
    "whatsapp_quarantine": set(),
    "whatsapp_quarantine_keys": set(),
    "whatsapp_lid_mappings": {"select"},
    "whatsapp_company_statistics": {"select"},
    "whatsapp_lease_history": {"select"},
    "whatsapp_type_statistics": {"select"},
    "whatsapp_statistics": {"select"},
    "whatsapp_statistics_days": {"select"},
    "whatsapp_cleanup_runs": {"select"},
    "whatsapp_traffic": {"select"},
    "whatsapp_events": {"select"},
    "whatsapp_alerts": {"select"},
    "whatsapp_alert_messages": {"select"},
}
"""Every table and view, and what the service role may do with it; all others may do nothing."""

COLUMNS = {
    "whatsapp_key_policies": "key_type", "whatsapp_type_statistics": "key_type",
    "whatsapp_statistics": "recount_after", "whatsapp_statistics_days": "day",
    "whatsapp_cleanup_runs": "owner", "whatsapp_traffic": "kind", "whatsapp_events": "event",
    "whatsapp_alerts": "rule", "whatsapp_alert_messages": "receiver",
}  # fmt: skip
"""A column of each table that has no `company_id`."""

TYPES: set[str] = {"application/vnd.whatsapp-keys+json"}
"""Types that are no table's row: names of a form of answer. They hold nothing."""
CALLS: dict[str, dict[str, Any]] = {
    "get_whatsapp_keys": {"p_company_id": "c", "p_keys": {}},
    "read_whatsapp_keys": {"p_company_id": "c", "p_keys": {}},
    "warm_whatsapp_keys": {"p_company_id": "c"},
    "list_whatsapp_keys": {"p_company_id": "c"},
    "list_whatsapp_company": {"p_company_id": "c"},
    "cleanup_expired_whatsapp_keys": {},
    "whatsapp_storage_stats": {},
    "whatsapp_lease_status": {"p_company_id": "c"},
    "acquire_whatsapp_lease": {"p_company_id": "c", "p_owner": "o", "p_ttl_seconds": 30},
    "renew_whatsapp_lease": {"p_company_id": "c", "p_token": 1, "p_ttl_seconds": 30},
    "renew_whatsapp_leases": {"p_leases": [["c", 1]], "p_ttl_seconds": 30},
    "release_whatsapp_lease": {"p_company_id": "c", "p_token": 1},
    "schedule_whatsapp_cleanup": {},
    "fetch_whatsapp_keys": {"p_company_id": "c", "p_keys": {}, "p_request": "r"},
    "fetch_whatsapp_creds": {"p_company_id": "c", "p_request": "r"},
    "create_whatsapp_company": {
        "p_company_id": "c",
        "p_creds": {},
        "p_client_family": "baileys",
        "p_request": "r",
    },
    "clear_whatsapp_keys": {"p_company_id": "c"},
    "fence_whatsapp_writer": {"p_company_id": "c"},
    "whatsapp_history": {"p_company_id": "c"},
    "restore_whatsapp_version": {"p_company_id": "c", "p_version": 1},
    "log_out_whatsapp_company": {
        "p_company_id": "to be logged out",
        "p_code": 401,
        "p_reason": "logged out",
        "p_noted_by": "test",
    },
    "erase_whatsapp_company": {"p_company_id": "c"},
    "forget_whatsapp_company": {"p_company_id": "never stored"},
    "note_whatsapp_pause": {
        "p_company_id": "c",
        "p_code": 440,
        "p_reason": "replaced",
        "p_seconds": 0,
        "p_noted_by": "test",
        "p_request": "r",
    },
    "whatsapp_pauses_of": {"p_company_id": "c", "p_companies": ["c"], "p_request": "r"},
    "reinstate_whatsapp_company": {"p_company_id": "c", "p_request": "r"},
    "whatsapp_delete_expired_keys": {},
    "whatsapp_empty_quarantine": {"p_batch_size": 1},
    "whatsapp_to_who_knows": {"p_company_id": "c", "p_found": {}},
    "whatsapp_key_may_expire": {"p_key_type": "lid-mapping"},
    "whatsapp_key_expiry": {"p_key_type": "lid-mapping"},
    "whatsapp_last_commit": {"p_company_id": "c", "p_writer": "w"},
    "whatsapp_touch_keys": {"p_company_id": "c", "p_key_type": "lid-mapping", "p_ids": []},
    "replace_whatsapp_state": {"p_company_id": "c", "p_keys": []},
    "delete_whatsapp_company": {"p_company_id": "c"},
    "whatsapp_company_status": {"p_company_id": "c"},
    "list_whatsapp_kept": {"p_company_id": "c"},
    "reseal_whatsapp_kept": {"p_company_id": "c", "p_kept": []},
    "reseal_whatsapp_rows": {"p_company_id": "c", "p_keys": []},
    "whatsapp_sealing_stats": {},
    "whatsapp_companies_of_device": {
        "p_registration_id": 1,
        "p_identity_public": "AQID",
        "p_company_id": "c",
    },
    "report_whatsapp_restored": {"p_company_id": "c"},
    "settle_whatsapp_restored": {"p_company_id": "c"},
    "whatsapp_written_by_others": {"p_company_id": "c", "p_writers": [], "p_since": 0},
    "close_whatsapp_company": {"p_company_id": "c", "p_mark": "moved to u"},
    "whatsapp_installation": {},
    "whatsapp_read_creds": {"p_company_id": "c", "p_request": "r"},
    "whatsapp_company_hashes": {"p_company_id": "c"},
    "refresh_whatsapp_statistics": {},
    "recount_whatsapp_statistics": {},
    "record_whatsapp_cleanup": {
        "p_owner": "o",
        "p_deleted": 0,
        "p_complete": True,
        "p_seconds": 0.1,
    },
    "run_whatsapp_cleanup": {},
    "list_whatsapp_companies": {},
    "add_whatsapp_activity": {"p_traffic": {}, "p_events": {}},
    "whatsapp_overview": {},
    "whatsapp_companies_page": {},
    "whatsapp_company_overview": {"p_company_id": "c"},
    "whatsapp_growth": {},
    "whatsapp_workers": {},
    "whatsapp_pre_key_extremes": {"p_low": 1, "p_high": 9},
    "step_whatsapp_alert": {
        "p_rule": "access",
        "p_version": 0,
        "p_state": {},
        "p_messages": [],
        "p_now": 0,
    },
    "whatsapp_alert_states": {},
    "take_whatsapp_alert_messages": {"p_receivers": [], "p_now": 0},
    "settle_whatsapp_alert_message": {
        "p_id": 0,
        "p_attempts": 1,
        "p_delivered": True,
        "p_due": 0,
    },
}

INSIDE: dict[str, dict[str, Any]] = {
    "whatsapp_enter": {"p_company_id": "c"},
    "whatsapp_enter_in_turn": {"p_company_id": "c"},
    "whatsapp_put_back": {"p_company_id": "c", "p_version": 1},
    "whatsapp_forget_in_turn": {"p_company_id": "c"},
    "whatsapp_forget_name": {"p_company_id": "c"},
    "whatsapp_rows_of": {"p_company_id": "c"},
    "whatsapp_take_number": {"p_company_id": "c", "p_token": 1, "p_headers": {}},
    "whatsapp_check_deadline": {"p_deadline": "1"},
    "whatsapp_receipt": {"p_company_id": "c"},
    "whatsapp_count_companies": {"p_companies": []},
    "whatsapp_storage": {},
    "whatsapp_company_health": {"p_company_id": "c"},
    "whatsapp_take_statistics": {},
    "whatsapp_next_companies": {"p_after": "", "p_limit": 1},
    "whatsapp_next_version": {"p_company_id": "c"},
    "whatsapp_is_mark": {"p_owner": "c"},
    "whatsapp_into_quarantine": {"p_company_id": "c", "p_reason": "r", "p_keep_creds": False},
}
"""What the guard and the history are made of: granted to no role."""

OF_ROWS = {"whatsapp_company_as_json", "whatsapp_same_device"}
"""Functions whose arguments no request can give, or that tell nothing: granted to no role."""

TEXTS = ["commit_whatsapp_state", "import_whatsapp_state"]
"""Functions for the service role that take lines of text."""

TRIGGERS = {
    "whatsapp_end_epoch",
    "whatsapp_keep_lease_history",
    "whatsapp_keep_sealed",
    "whatsapp_above_erased",
    "whatsapp_auth_before_update",
    "whatsapp_guard_row",
    "whatsapp_keep_closed",
    "whatsapp_keep_creds",
    "whatsapp_keys_before_write",
    "whatsapp_keys_delete_null",
    "whatsapp_refuse_given_up",
    "whatsapp_refuse_late",
    "whatsapp_refuse_logged_out",
}

AS_OWNER = {
    "acquire_whatsapp_lease", "add_whatsapp_activity", "clear_whatsapp_keys",
    "close_whatsapp_company", "create_whatsapp_company", "delete_whatsapp_company",
    "erase_whatsapp_company", "fence_whatsapp_writer", "forget_whatsapp_company",
    "list_whatsapp_companies", "list_whatsapp_kept", "log_out_whatsapp_company",
    "note_whatsapp_pause",
    "record_whatsapp_cleanup",
    "recount_whatsapp_statistics", "refresh_whatsapp_statistics", "reinstate_whatsapp_company",
    "release_whatsapp_lease", "renew_whatsapp_lease", "renew_whatsapp_leases",
    "replace_whatsapp_state", "report_whatsapp_restored", "reseal_whatsapp_kept",
    "reseal_whatsapp_rows", "restore_whatsapp_version", "run_whatsapp_cleanup",
    "schedule_whatsapp_cleanup", "settle_whatsapp_alert_message", "settle_whatsapp_restored",
    "step_whatsapp_alert", "take_whatsapp_alert_messages", "whatsapp_above_erased",
    "whatsapp_alert_states", "whatsapp_companies_page", "whatsapp_company_overview",
    "whatsapp_empty_quarantine", "whatsapp_forget_in_turn", "whatsapp_growth",
    "whatsapp_guard_row", "whatsapp_history",
    "whatsapp_installation", "whatsapp_keep_creds", "whatsapp_keep_lease_history",
    "whatsapp_lease_status", "whatsapp_overview", "whatsapp_pre_key_extremes",
    "whatsapp_put_back", "whatsapp_sealing_stats", "whatsapp_workers", "whatsapp_written_by_others",
}  # fmt: skip
"""The functions that are `security definer`; all others run as their caller."""

VERBS = ["GET", "POST", "PATCH", "PUT", "DELETE"]
"""The verbs with an answer to look into; `test_outsiders_are_told_nothing_by_…` has the others."""


def _token(secret: str, *, role: str = "authenticated", lasts: int = 3600) -> str:
    claims = {"role": role, "sub": str(uuid.uuid4()), "exp": int(time.time()) + lasts}
    return keys.sign_jwt(claims, secret)


def _unsigned() -> str:
    parts = ({"alg": "none", "typ": "JWT"}, {"role": "service_role", "exp": time.time() + 3600})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join(part.rstrip("=") for part in encoded) + "."


CALLERS: dict[str, Callable[[Stack], dict[str, str]]] = {
    "no key": lambda stack: {},
    "anon": lambda stack: _headers(stack.anon_key),
    "publishable": lambda stack: _headers(stack.publishable_key),
    "authenticated": lambda stack: _headers(stack.anon_key, _token(stack.jwt_secret)),
    "forged": lambda stack: _headers(
        stack.anon_key, _token("another secret, of 32 characters at least", role="service_role")
    ),
    "expired": lambda stack: _headers(
        stack.anon_key, _token(stack.jwt_secret, role="service_role", lasts=-3600)
    ),
    "not signed": lambda stack: _headers(stack.anon_key, _unsigned()),
    "of no role": lambda stack: _headers(stack.anon_key, _token(stack.jwt_secret, role="postgres")),
}


def _headers(key: str, bearer: str | None = None) -> dict[str, str]:
    return {"apikey": key, "Authorization": f"Bearer {bearer or key}"}


@pytest.fixture(params=CALLERS)
async def outsider(
    request: pytest.FixtureRequest, stack: Stack
) -> AsyncIterator[httpx.AsyncClient]:
    headers = CALLERS[request.param](stack)
    url = f"{stack.url}/rest/v1/"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
        yield client


async def test_outsiders_can_do_nothing_with_a_table(outsider: httpx.AsyncClient) -> None:
    for table in TABLES:
        column = COLUMNS.get(table, "company_id")
        value = "2026-11-27" if column == "day" else "c"
        for verb in VERBS:
            answer = await outsider.request(
                verb,
                table,
                params={column: f"eq.{value}"} if verb in {"PATCH", "PUT", "DELETE"} else {},
                json=None if verb in {"GET", "HEAD", "DELETE"} else {column: value},
            )
            # A PUT names a whole primary key or is none, and a view cannot be written, whoever
            # sends the request: PostgreSQL says so before it looks at privileges.
            refused = {401, 403} | ({405} if verb == "PUT" else set())
            if verb != "GET" and answer.status_code == 500:
                refused |= {500} if answer.json()["code"] == "55000" else set()
            assert answer.status_code in refused, (table, verb, answer.status_code)
            assert 'company_id":' not in answer.text


async def test_outsiders_can_call_nothing(outsider: httpx.AsyncClient) -> None:
    for function, params in {**CALLS, **INSIDE}.items():
        answer = await outsider.post(f"rpc/{function}", json=params)
        assert answer.status_code in (401, 403), (function, answer.text)
        # PostgREST lets a GET call what changes nothing.
        simple = {name: json.dumps(value).strip('"') for name, value in params.items()}
        answer = await outsider.get(f"rpc/{function}", params=simple)
        assert answer.status_code in (401, 403, 405), (function, answer.text)
    for function in TEXTS:
        answer = await outsider.post(
            f"rpc/{function}",
            content='{"company_id": "c", "keys": []}',
            headers={"Content-Type": "text/plain"},
        )
        assert answer.status_code in (401, 403), (function, answer.text)


@pytest.mark.parametrize("caller", ["no key", "publishable", "forged"])
async def test_outsiders_are_told_nothing_by_head_and_options(stack: Stack, caller: str) -> None:
    headers = {**CALLERS[caller](stack), "Prefer": "count=exact"}
    objects = [*TABLES, "rpc/fetch_whatsapp_creds", "rpc/whatsapp_overview", ""]
    # PostgREST's refusal of a HEAD has a body, so no second request is sent after it.
    limits = httpx.Limits(max_keepalive_connections=0)
    url = f"{stack.url}/rest/v1/"
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits) as client:
        for name in objects:
            head = await client.head(name)
            options = await client.options(name)
            for answer in (head, options):
                told = str(dict(answer.headers))
                assert "whatsapp" not in told.replace(name, ""), (name, told)
                assert "content-range" not in answer.headers, "not even how many rows there are"
                assert answer.status_code in {200, 401, 403, 404, 405, 415}, (name, answer)
            if name:
                assert head.status_code in {401, 403, 404, 405}, (name, head)
            if options.status_code == 200:
                # It names the verbs that PostgREST knows, and not what the caller may do.
                assert options.text in {"", "{}"}


async def test_triggers_are_called_by_no_request(stack: Stack, as_role: Any) -> None:
    service = as_role(stack.service_role_key)
    for function in TRIGGERS:
        assert (await service.post(f"rpc/{function}", json={})).status_code == 404


async def test_the_root_of_the_api_tells_outsiders_of_nothing(outsider: httpx.AsyncClient) -> None:
    answer = await outsider.get("")
    assert "whatsapp" not in answer.text


async def test_what_the_anon_key_is_told_is_told_as_an_answer(stack: Stack, as_role: Any) -> None:
    told = await as_role(stack.anon_key).get("")
    known = await as_role(stack.service_role_key).get("")
    assert known.status_code == 200
    assert {f"/{table}" for table, may in TABLES.items() if may} <= known.json()["paths"].keys()
    assert told.status_code == 200
    assert [path for path in told.json()["paths"] if "whatsapp" in path] == []


@pytest.mark.parametrize("function", INSIDE)
async def test_what_the_guard_is_made_of_is_granted_to_nobody(
    stack: Stack, as_role: Any, function: str
) -> None:
    service = as_role(stack.service_role_key)
    answer = await service.post(f"rpc/{function}", json=INSIDE[function])
    assert (answer.status_code, answer.json()["code"]) == (403, "42501")


OURS = """
    select kind, name, oid, owner, acl from (
        select case c.relkind when 'S' then 'sequence' when 'c' then 'type' else 'table' end
            as kind, c.relname::text as name, c.oid, c.relowner as owner, c.relacl as acl
        from pg_class c where c.relnamespace = 'public'::regnamespace
            and c.relkind not in ('i', 'I', 't')
        union all
        select 'function', p.proname, p.oid, p.proowner, p.proacl
        from pg_proc p where p.pronamespace = 'public'::regnamespace
        union all
        select 'type', t.typname, t.oid, t.typowner, t.typacl
        from pg_type t where t.typnamespace = 'public'::regnamespace
            and t.typrelid = 0 and t.typelem = 0
    ) o where not exists (select from pg_depend d where d.objid = o.oid and d.deptype = 'e')
"""
"""What a project has in `public` that is no index, no array and of no extension."""


@pytest.fixture(scope="module")
def catalog(local_stack: LocalStack) -> Iterator[psycopg.Connection[Any]]:
    """A project that has nothing but the migrations."""
    with (
        local_stack.fresh(migrate=True) as fresh,
        psycopg.connect(fresh.db_url, autocommit=True) as connection,
    ):
        yield connection


def test_every_object_has_a_stated_expectation(catalog: psycopg.Connection[Any]) -> None:
    found: dict[str, set[str]] = {kind: set() for kind in ("table", "function", "type", "sequence")}
    for kind, name, *_ in catalog.execute(OURS).fetchall():
        found[kind].add(name)
    assert found == {
        "table": set(TABLES),
        "function": {*CALLS, *INSIDE, *OF_ROWS, *TEXTS, *TRIGGERS},
        "type": TYPES,
        "sequence": {"whatsapp_alert_messages_id_seq", "whatsapp_cleanup_runs_id_seq"},
    }


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_each_role_has_the_stated_privileges_on_every_object_and_column(
    catalog: psycopg.Connection[Any], role: str
) -> None:
    service = role == "service_role"
    tables = catalog.execute(
        "select c.relname::text, array_agg(p.name) filter (where has_table_privilege(%(role)s, "
        "c.oid, p.name)), array_agg(p.name) filter (where p.name in ('select', 'insert', 'update', "
        "'references') and has_any_column_privilege(%(role)s, c.oid, p.name)) "
        "from pg_class c cross join unnest(array['select', 'insert', 'update', 'delete', "
        "'truncate', 'references', 'trigger', 'maintain']) as p (name) "
        "where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'm', 'p', 'f') "
        "group by c.relname",
        {"role": role},
    ).fetchall()
    for table, whole, columns in tables:
        may = TABLES[table] if service else set()
        assert set(whole or ()) == may, table
        assert set(columns or ()) == may - {"delete"}, table
    functions = catalog.execute(
        "select proname::text, has_function_privilege(%s, oid, 'execute') from pg_proc "
        "where pronamespace = 'public'::regnamespace",
        [role],
    ).fetchall()
    by_triggers = {
        "whatsapp_auth_before_update",
        "whatsapp_keys_before_write",
        "whatsapp_keys_delete_null",
        "whatsapp_refuse_late",
    }
    for function, may_call in functions:
        # Those of the first version are granted, but only a trigger can call them.
        if function in by_triggers:
            assert service or not may_call, function
        else:
            assert may_call == (service and function in {*CALLS, *TEXTS}), function
    creating = "select has_schema_privilege(%s, 'public', 'create')"
    assert catalog.execute(creating, [role]).fetchone() == (False,)


def test_what_is_granted_to_everyone_is_nothing(catalog: psycopg.Connection[Any]) -> None:
    granted = catalog.execute(
        f"select o.kind, o.name, a.privilege_type from ({OURS}) o, aclexplode(o.acl) a "  # noqa: S608
        "where a.grantee = 0 and o.kind <> 'type'"
    ).fetchall()
    # Without a list, PostgreSQL's default counts, which lets everyone call a function.
    default = catalog.execute(
        f"select name from ({OURS}) o where acl is null and kind = 'function'"  # noqa: S608
    ).fetchall()
    columns = catalog.execute(
        "select attrelid::regclass from pg_attribute where attacl is not null "
        "and attrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)"
    ).fetchall()
    assert (granted, default, columns) == ([], [], [])


def test_every_object_belongs_to_the_role_that_migrates(catalog: psycopg.Connection[Any]) -> None:
    owners = catalog.execute(f"select distinct owner::regrole::text from ({OURS}) o")  # noqa: S608
    assert owners.fetchall() == [("postgres",)]


def test_functions_look_names_up_nowhere_and_run_as_stated(
    catalog: psycopg.Connection[Any],
) -> None:
    functions = catalog.execute(
        "select proname::text, prosecdef, coalesce('search_path=\"\"' = any (proconfig), false) "
        "from pg_proc where pronamespace = 'public'::regnamespace"
    ).fetchall()
    assert {name for name, definer, _ in functions if definer} == AS_OWNER
    # One that takes its whole meaning from its arguments is put into the query that calls it.
    assert [name for name, _, fixed in functions if not fixed] == []


def test_rows_are_seen_through_policies_by_the_service_role_alone(
    catalog: psycopg.Connection[Any],
) -> None:
    tables = catalog.execute(
        "select relname::text, relkind::text, relrowsecurity, "
        "coalesce('security_invoker=true' = any (reloptions), false) from pg_class "
        "where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'p', 'f')"
    ).fetchall()
    for table, kind, row_security, invoker in tables:
        assert invoker if kind == "v" else (kind == "r" and row_security), table
    roles = "select tablename::text, roles::text from pg_policies where schemaname = 'public'"
    policies = catalog.execute(roles).fetchall()
    assert {each for _, each in policies} == {"{service_role}"}
    assert {table for table, _ in policies} == {t for t, kind, *_ in tables if kind == "r"}


def test_realtime_publishes_no_table_of_ours(catalog: psycopg.Connection[Any]) -> None:
    with catalog.transaction(force_rollback=True):
        # As Supabase makes it, and a project whose publication is for all tables is found out.
        catalog.execute("drop publication if exists supabase_realtime")
        catalog.execute("create publication supabase_realtime")
        assert catalog.execute("select tablename from pg_publication_tables").fetchall() == []
    every = "select pubname::text from pg_publication where puballtables"
    named = "select relname::text from pg_publication_rel r join pg_class c on c.oid = r.prrelid"
    assert catalog.execute(f"{every} union all {named}").fetchall() == []


async def test_the_service_role_may_call_what_is_for_it(stack: Stack, as_role: Any) -> None:
    service = as_role(stack.service_role_key)
    for function, params in CALLS.items():
        answer = await service.post(f"rpc/{function}", json=params)
        if function == "close_whatsapp_company":
            # It may call it, and owns no company here.
            assert "closed only by its owner" in answer.text
            continue
        assert answer.status_code in (200, 204), (function, answer.text)


async def test_the_service_role_cannot_forge_a_lease_or_truncate(
    stack: Stack, as_role: Any, db: Any
) -> None:
    service = as_role(stack.service_role_key)
    for answer in [
        await service.post("whatsapp_leases", json={"company_id": "forged", "token": 9}),
        await service.patch("whatsapp_leases", json={"token": 0}, params={"company_id": "eq.c"}),
        await service.delete("whatsapp_leases", params={"company_id": "eq.c"}),
    ]:
        assert answer.json()["code"] == "42501"
    truncating = db.execute(
        "select relname from pg_class where relname like 'whatsapp%' and relkind = 'r' "
        "and has_table_privilege('service_role', oid, 'truncate')"
    ).fetchall()
    assert truncating == []
