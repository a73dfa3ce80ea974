"""Who may do what through the API: the service role everything, everybody else nothing."""

from __future__ import annotations

import time
import uuid
from typing import Any

import httpx
import pytest

from devstack import Stack, keys

TABLES = [
    "whatsapp_auth", "whatsapp_keys", "whatsapp_key_policies", "whatsapp_leases",
    "whatsapp_writers", "whatsapp_company_statistics", "whatsapp_lease_history",
]  # fmt: skip
KEPT_BY_FUNCTIONS = {
    "whatsapp_type_statistics": "key_type", "whatsapp_statistics": "recount_after",
    "whatsapp_statistics_days": "day", "whatsapp_cleanup_runs": "owner",
    "whatsapp_traffic": "kind", "whatsapp_events": "event", "whatsapp_alerts": "rule",
    "whatsapp_alert_messages": "receiver",
}  # fmt: skip
"""Tables that have no `company_id`, with a column."""

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
    "whatsapp_last_commit": {"p_company_id": "c", "p_writer": "w"},
    "whatsapp_touch_keys": {"p_company_id": "c", "p_key_type": "lid-mapping", "p_ids": []},
    "replace_whatsapp_state": {"p_company_id": "c", "p_keys": []},
    "delete_whatsapp_company": {"p_company_id": "c"},
    "whatsapp_company_status": {"p_company_id": "c"},
    "whatsapp_companies_of_device": {
        "p_registration_id": 1,
        "p_identity_public": "AQID",
        "p_company_id": "c",
    },
    "refresh_whatsapp_statistics": {},
    "recount_whatsapp_statistics": {},
    "record_whatsapp_cleanup": {
        "p_owner": "o",
        "p_deleted": 0,
        "p_complete": True,
        "p_seconds": 0.1,
    },
    "run_whatsapp_cleanup": {},
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
    "whatsapp_take_number": {"p_company_id": "c", "p_token": 1, "p_headers": {}},
    "whatsapp_check_deadline": {"p_deadline": "1"},
    "whatsapp_receipt": {"p_company_id": "c"},
    "whatsapp_count_companies": {"p_companies": []},
    "whatsapp_storage": {},
    "whatsapp_take_statistics": {},
    "whatsapp_next_companies": {"p_after": "", "p_limit": 1},
}
"""What the guard and the statistics are made of: granted to nobody."""


@pytest.fixture(params=["anon", "publishable", "authenticated"])
def outsider(request: pytest.FixtureRequest, stack: Stack, as_role: Any) -> httpx.AsyncClient:
    if request.param == "anon":
        return as_role(stack.anon_key)
    if request.param == "publishable":
        return as_role(stack.publishable_key)
    token = keys.sign_jwt(
        {"role": "authenticated", "sub": str(uuid.uuid4()), "exp": int(time.time()) + 3600},
        stack.jwt_secret,
    )
    return as_role(stack.anon_key, token)


@pytest.mark.parametrize("table", [*TABLES, *KEPT_BY_FUNCTIONS])
async def test_outsiders_can_do_nothing_with_a_table(
    outsider: httpx.AsyncClient, table: str
) -> None:
    column = KEPT_BY_FUNCTIONS.get(table, "company_id")
    column = "key_type" if table == "whatsapp_key_policies" else column
    value = "2026-11-27" if column == "day" else "c"
    answers = [
        await outsider.get(table),
        await outsider.post(table, json={column: value}),
        await outsider.patch(table, json={column: value}, params={column: f"eq.{value}"}),
        await outsider.delete(table, params={column: f"eq.{value}"}),
    ]
    assert [(answer.status_code in (401, 403), answer.json()["code"]) for answer in answers] == [
        (True, "42501")
    ] * 4


@pytest.mark.parametrize("function", CALLS)
async def test_outsiders_can_call_nothing(outsider: httpx.AsyncClient, function: str) -> None:
    answer = await outsider.post(f"rpc/{function}", json=CALLS[function])
    assert (answer.status_code in (401, 403), answer.json()["code"]) == (True, "42501")


@pytest.mark.parametrize("function", ["commit_whatsapp_state", "import_whatsapp_state"])
async def test_outsiders_cannot_commit(outsider: httpx.AsyncClient, function: str) -> None:
    answer = await outsider.post(
        f"rpc/{function}",
        content='{"company_id": "c", "keys": []}',
        headers={"Content-Type": "text/plain"},
    )
    assert answer.json()["code"] == "42501"


@pytest.mark.parametrize("function", INSIDE)
async def test_what_the_guard_is_made_of_is_granted_to_nobody(
    stack: Stack, as_role: Any, function: str
) -> None:
    service = as_role(stack.service_role_key)
    answer = await service.post(f"rpc/{function}", json=INSIDE[function])
    assert (answer.status_code, answer.json()["code"]) == (403, "42501")


async def test_every_function_of_ours_has_a_stated_caller(db: Any) -> None:
    named = {*CALLS, *INSIDE, "commit_whatsapp_state", "import_whatsapp_state"}
    rows = db.execute(
        "select proname, prorettype::regtype::text from pg_proc "
        "where pronamespace = 'public'::regnamespace and proname like '%whatsapp%'"
    ).fetchall()
    callable_ones = {name for name, returns in rows if returns != "trigger"}
    # The last takes a row of a table, which no client can send; it is granted to nobody either.
    policies = {"whatsapp_key_may_expire", "whatsapp_key_expiry", "whatsapp_company_as_json"}
    assert callable_ones - policies == named


async def test_the_service_role_may_call_what_is_for_it(stack: Stack, as_role: Any) -> None:
    service = as_role(stack.service_role_key)
    for function, params in CALLS.items():
        answer = await service.post(f"rpc/{function}", json=params)
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
