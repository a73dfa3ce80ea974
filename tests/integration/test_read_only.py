"""A database that only reads: what PostgREST answers, what callers are told, and that it passes."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest

from devstack import LocalStack
from faults.actions import doubled
from faults.chaos import Chaos
from faults.node_client import NodeClient, NodeProcess
from faults.proxy import Landing, Proxy
from faults.recorder import Client, PythonClient
from faults.requests import is_write
from supabase_auth_state import (
    AuthState,
    ProjectRestricted,
    Rest,
    Settings,
    StoreError,
    StoreUnavailable,
    open_rest,
    use_supabase_auth_state,
)
from supabase_auth_state.rest.activity import ACTIVITY

SESSION, OTHER = "15550100001.0", "15550100002.0"


@pytest.fixture(scope="module")
def own_stack() -> Iterator[LocalStack]:
    """A stack whose database may be made one that only reads."""
    with LocalStack.start() as started:
        asyncio.run(Chaos(started, random.Random()).prepare())
        yield started


@pytest.fixture
async def rest(own_stack: LocalStack) -> AsyncIterator[Rest]:
    key = own_stack.service_role_key
    opened = open_rest(Settings(own_stack.url, key, timeout=3, give_up_after=1))
    yield opened
    await opened.close()


@pytest.fixture
async def auth(own_stack: LocalStack, rest: Rest) -> AsyncIterator[AuthState]:
    company_id = f"read-only-{uuid.uuid4().hex}"
    await asyncio.wait_for(answered_by_postgrest(own_stack, 200, None), 60)
    async with use_supabase_auth_state(
        company_id, client=rest, lease=True, lease_ttl=600
    ) as opened:
        await opened.keys.set(session(SESSION, 1))
        await opened.keys.set(session(OTHER, 1))
        yield opened


def session(key_id: str, number: int) -> dict[str, Any]:
    return {"session": {key_id: {"_sessions": {}, "version": f"v{number}"}}}


def stored(stack: LocalStack, company_id: str) -> dict[str, str]:
    with psycopg.connect(stack.db_url) as db:
        rows = db.execute(
            "select key_id, value ->> 'version' from whatsapp_keys where company_id = %s",
            [company_id],
        )
        return dict(rows.fetchall())


class During(Chaos):
    """Does something else while a server is disturbed, in the place of waiting."""

    def __init__(self, stack: LocalStack, work: Callable[[], Awaitable[None]]) -> None:
        super().__init__(stack, random.Random(0))
        self._work = work

    async def _a_while(self) -> None:
        await self._work()


async def answered_by_postgrest(stack: LocalStack, status: int, code: str | None) -> None:
    """Wait until PostgREST answers a write so: its connections notice changes a moment later."""
    key = stack.service_role_key
    headers = {"apikey": key, "authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers) as client:
        url = f"{stack.url}/rest/v1/rpc/release_whatsapp_lease"
        while True:
            answer = await client.post(url, json={"p_company_id": "none", "p_token": 1})
            found = answer.json()
            if answer.status_code == status and (code is None or found.get("code") == code):
                return
            await asyncio.sleep(0.05)


CASES: list[tuple[str, int, str, type[StoreError], str, bool]] = [
    ("make_read_only", 405, "25006", ProjectRestricted, "The database is read-only", False),
    ("fail_over", 400, "0A000", StoreUnavailable, "is a replica that only reads", True),
]


@pytest.mark.parametrize(("deed", "status", "code", "kind", "said", "again"), CASES)
async def test_a_write_is_refused_with_its_cause_and_nothing_is_lost(
    own_stack: LocalStack, auth: AuthState, deed: str, status: int, code: str,
    kind: type[StoreError], said: str, again: bool,
) -> None:  # fmt: skip
    async def work() -> None:
        await asyncio.wait_for(answered_by_postgrest(own_stack, status, code), 60)
        retries = ACTIVITY.events["retries"]
        with pytest.raises(kind, match=said) as raised:
            await auth.keys.set(session(SESSION, 2))
        assert (raised.value.status, raised.value.code) == (status, code)
        assert (ACTIVITY.events["retries"] > retries) is again
        assert stored(own_stack, auth.company_id) == {SESSION: "v1", OTHER: "v1"}

    await getattr(During(own_stack, work), deed)()
    await asyncio.wait_for(answered_by_postgrest(own_stack, 200, None), 60)
    assert await auth.keys.get("session", [SESSION, OTHER]) == {
        **session(SESSION, 1)["session"], **session(OTHER, 1)["session"],
    }  # fmt: skip
    await auth.keys.set(session(SESSION, 3))
    assert stored(own_stack, auth.company_id) == {SESSION: "v3", OTHER: "v1"}


@asynccontextmanager
async def in_python(url: str, key: str) -> AsyncIterator[Client]:
    rest = open_rest(Settings(url, key, timeout=3, give_up_after=1))
    yield PythonClient(rest)
    await rest.close()


@asynccontextmanager
async def in_node(url: str, key: str) -> AsyncIterator[Client]:
    async with NodeProcess() as process:
        yield NodeClient(process, url, key, 3, None)


@pytest.mark.parametrize("language", [in_python, in_node])
async def test_a_copy_of_a_write_that_was_refused_lands_no_more(
    own_stack: LocalStack, company_id: str, language: Any
) -> None:
    await asyncio.wait_for(answered_by_postgrest(own_stack, 200, None), 60)
    landing = Landing()
    async with (
        Proxy(own_stack.url) as proxy,
        language(proxy.url, own_stack.service_role_key) as client,
    ):
        auth = await client.open(company_id, lease=False, lease_ttl=30, tag=1)
        await auth.keys.set(session(SESSION, 1))

        async def work() -> None:
            await asyncio.wait_for(answered_by_postgrest(own_stack, 405, "25006"), 60)
            proxy.on(is_write, doubled(landing), times=1)
            with pytest.raises(StoreError, match="read-only"):
                await auth.keys.set(session(SESSION, 2))

        await During(own_stack, work).make_read_only()
        await asyncio.wait_for(answered_by_postgrest(own_stack, 200, None), 60)
        # Readers have seen the first value since the call has failed.
        [answer] = await landing.land()
        assert answer is not None
        assert answer.status == 408
        assert stored(own_stack, company_id) == {SESSION: "v1"}
        await auth.close()


async def test_reading_works_from_a_database_that_only_reads(
    own_stack: LocalStack, rest: Rest, auth: AuthState
) -> None:
    async def work() -> None:
        await asyncio.wait_for(answered_by_postgrest(own_stack, 405, "25006"), 60)
        async with use_supabase_auth_state(auth.company_id, client=rest, create=False) as reader:
            found = await reader.keys.get("session", [SESSION])
            assert found == session(SESSION, 1)["session"]

    await During(own_stack, work).make_read_only()


async def test_the_default_of_the_database_does_not_stop_what_comes_by_postgrest(
    own_stack: LocalStack, auth: AuthState
) -> None:
    setting = "alter database postgres {} default_transaction_read_only {}"
    chaos = Chaos(own_stack, random.Random(0))
    await chaos.execute(setting.format("set", "= on"))
    try:
        await chaos.end_connections()
        await asyncio.wait_for(answered_by_postgrest(own_stack, 200, None), 60)
        await auth.keys.set(session(SESSION, 2))
        assert stored(own_stack, auth.company_id)[SESSION] == "v2"
        # What runs in the database by itself, as the jobs of pg_cron do, is stopped.
        with psycopg.connect(own_stack.db_url) as db, pytest.raises(psycopg.Error) as raised:
            db.execute("select cleanup_expired_whatsapp_keys()")
        assert raised.value.sqlstate == "25006"
    finally:
        await chaos.execute(f"begin read write; {setting.format('reset', '')}; commit")
        await chaos.end_connections()
