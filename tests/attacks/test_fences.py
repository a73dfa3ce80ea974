"""Headers and functions by which a request could pass the fences."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from devstack import Stack
from supabase_auth_state import Rest, use_supabase_auth_state
from tests.attacks.world import SESSION, Db, contents, lease_of, session

UPSERT = {"Prefer": "resolution=merge-duplicates,return=minimal"}
WRITER = "aaaaaaaa-0000-4000-8000-000000000000"


ANYTHING = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
LIKE_A_TOKEN = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", " ", "0", "+", "-", "'", "0x", "\t", "\n"]),
    st.sampled_from(["1", "1.0", "1e0", "01", "9223372036854775808", "9" * 20, "\u0661"]),
    st.sampled_from(["", " ", "\n", ".", ",1", ";", "'", "e0"]),
)
ATTACK = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def client_of(stack: Stack, key: str) -> httpx.Client:
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=f"{stack.url}/rest/v1/", headers=headers, timeout=30)


def is_refused(db: Db, company_id: str, headers: dict[str, str]) -> bool:
    """Write as PostgREST does for a request with these headers; nothing of it is kept."""
    with db.transaction(force_rollback=True):
        db.execute("select set_config('request.headers', %s, true)", [json.dumps(headers)])
        try:
            db.execute(
                "insert into whatsapp_keys values (%s, 'session', %s, '1') "
                "on conflict (company_id, key_type, key_id) do update set value = excluded.value",
                [company_id, SESSION],
            )
        except psycopg.DatabaseError:
            return True
    return False


@pytest.fixture
def owned(direct: Rest, company_id: str) -> Any:
    """Open the company as its first owner, with token 1, until the test ends."""

    async def open_it() -> Any:
        auth = await use_supabase_auth_state(company_id, client=direct, lease=True, lease_ttl=600)
        assert auth.lease.token == 1
        await auth.keys.set({"session": {SESSION: session("owner")}})
        return auth

    return open_it


async def test_no_lease_header_but_the_token_itself_passes(
    owned: Any, db: Db, company_id: str
) -> None:
    auth = await owned()

    @ATTACK
    @given(value=(ANYTHING | LIKE_A_TOKEN | st.integers().map(str)).filter(lambda it: it != "1"))
    @example(value="1 ")
    @example(value=" 1")
    @example(value="1\n")
    @example(value="01")
    @example(value="")
    def attack(value: str) -> None:
        assert is_refused(db, company_id, {"x-whatsapp-lease": value})

    assert not is_refused(db, company_id, {"x-whatsapp-lease": "1"})
    attack()
    await auth.close()


@pytest.mark.parametrize("header", ["x-whatsapp-commit", "x-whatsapp-deadline"])
async def test_a_header_that_is_not_what_it_should_be_is_refused_and_not_left_out(
    owned: Any, db: Db, company_id: str, header: str
) -> None:
    auth = await owned()
    right = {
        "x-whatsapp-lease": "1",
        "x-whatsapp-commit": f"{WRITER}:1",
        "x-whatsapp-deadline": f"{time.time() + 60:.3f}",
    }

    @ATTACK
    @given(value=ANYTHING)
    @example(value="")
    @example(value="1")
    @example(value=f"{WRITER}:")
    @example(value=f"{WRITER}:0")
    @example(value=f"{WRITER}:-1")
    @example(value=f"{WRITER}:1 ")
    @example(value=f"{WRITER}:99999999999999999999")
    @example(value=f"{WRITER}:1:1")
    @example(value="infinity")
    @example(value="NaN")
    @example(value="99999999999999999999")
    @example(value="-1")
    @example(value="1e12")
    def attack(value: str) -> None:
        assert is_refused(db, company_id, {**right, header: value})

    assert not is_refused(db, company_id, right)
    attack()
    await auth.close()


@pytest.mark.parametrize("role", ["anon", "service"])
async def test_no_function_of_the_api_lets_a_stranger_pass_the_fence(
    stack: Stack, owned: Any, db: Db, company_id: str, role: str
) -> None:
    """Call everything that the API offers, with arguments that could do harm."""
    auth = await owned()
    await auth.save_creds()
    before, lease = contents(db, company_id), lease_of(db, company_id)
    functions = db.execute(
        "select p.proname, coalesce(p.proargnames, '{}'), p.pronargs from pg_proc p "
        "where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' "
        "and p.prorettype <> 'trigger'::regtype"
    ).fetchall()
    assert len(functions) > 10
    allowed = {
        # They take or end leases, which is what the service role may do by its token alone.
        "acquire_whatsapp_lease", "renew_whatsapp_lease", "renew_whatsapp_leases",
        "release_whatsapp_lease",
    }  # fmt: skip
    key = stack.anon_key if role == "anon" else stack.service_role_key
    with client_of(stack, key) as client:
        for name, arguments, count in functions:
            if role == "service" and name in allowed:
                continue
            body = {
                argument: argument_for(argument, company_id)
                for argument in arguments[:count]
                if argument
            }
            client.post(f"rpc/{name}", json=body)
            assert contents(db, company_id) == before, name
            assert lease_of(db, company_id) == lease, name
    await auth.keys.set({"session": {SESSION: session("still the owner")}})
    await auth.close()


def argument_for(name: str, company_id: str) -> Any:
    if "company" in name:
        return company_id
    if "type" in name:
        return "session"
    if "policy" in name:
        return {"key_type": "session", "ttl": "1 second"}
    if "ids" in name:
        return [SESSION]
    if "keys" in name:
        return {"session": [SESSION]}
    if "token" in name or "limit" in name or "seconds" in name:
        return 1
    if "creds" in name:
        return {"stolen": True}
    return "x"


async def test_helper_functions_are_granted_to_no_role_of_the_api(db: Db) -> None:
    offered = {
        name
        for (name,) in db.execute(
            "select p.proname from pg_proc p where p.pronamespace = 'public'::regnamespace "
            "and (has_function_privilege('service_role', p.oid, 'execute') "
            "or has_function_privilege('anon', p.oid, 'execute') "
            "or has_function_privilege('authenticated', p.oid, 'execute'))"
        )
    }
    helpers = {
        "guard_whatsapp_company", "touch_whatsapp_keys", "whatsapp_take_number", "whatsapp_enter",
        "whatsapp_check_deadline", "whatsapp_guard_row",
    }  # fmt: skip
    assert offered & helpers == set()


@pytest.mark.parametrize("setting", ["whatsapp_auth.guarded", "whatsapp_auth.maintenance"])
async def test_no_setting_by_which_the_guard_remembers_is_in_reach_of_a_client(
    stack: Stack, owned: Any, db: Db, company_id: str, setting: str
) -> None:
    auth = await owned()
    before = contents(db, company_id)
    row = {"company_id": company_id, "key_type": "session", "key_id": SESSION, "value": {"x": 1}}
    with client_of(stack, stack.service_role_key) as client:
        for name in (setting, setting.replace("_", "-"), f"x-{setting}"):
            for value in (company_id, "on"):
                answer = client.post("whatsapp_keys", json=[row], headers={**UPSERT, name: value})
                assert answer.status_code == 409
        assert client.post("rpc/set_config", json={"name": setting, "value": "on"}).is_error
    assert contents(db, company_id) == before
    await auth.close()
