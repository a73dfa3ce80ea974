"""The benchmark's parts on real servers: the floor, the network, a version in its own process."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable
from typing import Any

import httpx
import psycopg
import pytest
from postgrest import AsyncPostgrestClient

from benchmarks.bench import far_from
from benchmarks.contestants.checkout import SCRIPT
from benchmarks.contestants.floor import Floor, bare_client
from benchmarks.contestants.process import Process, ProcessContestant
from benchmarks.network import ONE_WAY
from benchmarks.stats import timed
from devstack import Stack
from supabase_auth_state import Rest, Settings, open_rest, use_supabase_auth_state

KEYS = {"session": {"1.0": {"version": "v1"}, "2.0": {"version": "v2"}}}

_ORDER = {"x-whatsapp-commit", "x-whatsapp-deadline"}


async def test_the_floor_sends_what_the_library_sends(stack: Stack, company_id: str) -> None:
    sent: list[httpx.Request] = []

    async def keep(request: httpx.Request) -> None:
        sent.append(request)

    async def told_by(work: Awaitable[Any]) -> Any:
        sent.clear()
        await work
        assert len(sent) == 1
        return _told(sent[0])

    key = stack.service_role_key
    headers = {"apikey": key, "authorization": f"Bearer {key}"}
    async with (
        bare_client(stack) as client,
        AsyncPostgrestClient(f"{stack.url}/rest/v1", headers=headers) as postgrest,
    ):
        client.event_hooks = postgrest.session.event_hooks = {"request": [keep]}
        floor, rest = Floor(client, company_id), open_rest(client=postgrest)
        async with use_supabase_auth_state(company_id, client=rest) as auth:
            written = await told_by(auth.keys.set(KEYS))
            read = await told_by(auth.keys.get("session", ["1.0", "2.0"]))
        assert await told_by(floor.set([KEYS])()) == written
        assert await told_by(floor.get("session", ["1.0", "2.0"])()) == read
        opened = await told_by(floor.creds())
        assert await told_by(_opened_and_closed(rest, company_id)) == opened


async def test_a_network_adds_its_time_to_every_request(stack: Stack, company_id: str) -> None:
    async with far_from(stack) as far, bare_client(far) as client:
        floor = Floor(client, company_id)
        body = floor.read_body({"session": ["1.0"]})
        for _ in range(3):
            assert await timed(lambda: floor.read(body))() >= 2 * ONE_WAY
        with psycopg.connect(far.db_url) as db:
            assert db.execute("select 1").fetchone() == (1,)


async def test_a_version_is_driven_in_a_process_of_its_own(
    stack: Stack, settings: Settings, company_id: str
) -> None:
    process = Process(sys.executable, "-I", str(SCRIPT), stack.url, stack.service_role_key)
    await process.start()
    try:
        contestant = ProcessContestant("a version", process, company_id)
        await contestant.open(lease=True)
        document = {"type": "Buffer", "data": "AQID"}
        for action in (
            contestant.set([KEYS]),
            contestant.sets_at_once("identity-key", [{"1.0": document, "2.0": document}]),
            contestant.get("session", ["1.0"]),
            contestant.gets_at_once("session", ["1.0", "2.0"]),
            contestant.replay(
                [[[("get", "session", ["1.0"]), ("set", {"session": {"2.0": None}})]]]
            ),
            contestant.action("cold-start", [{"session": ["1.0"]}]),
        ):
            assert await action() > 0
    finally:
        await process.close()

    async with use_supabase_auth_state(company_id, settings=settings, create=False) as auth:
        assert await auth.keys.get("session", ["1.0", "2.0"]) == {"1.0": KEYS["session"]["1.0"]}
        assert await auth.keys.get("identity-key", ["2.0"]) == {"2.0": b"\1\2\3"}


async def test_what_fails_in_a_process_is_said_here(stack: Stack, company_id: str) -> None:
    process = Process(sys.executable, "-I", str(SCRIPT), stack.url, stack.service_role_key)
    await process.start()
    try:
        contestant = ProcessContestant("a version", process, company_id)
        await contestant.open(lease=False)
        with pytest.raises(RuntimeError, match="CodecError"):
            await contestant.set([{"session": {"\0": {}}}])()
    finally:
        await process.close()


async def _opened_and_closed(rest: Rest, company_id: str) -> None:
    async with use_supabase_auth_state(company_id, client=rest):
        pass


def _told(request: httpx.Request) -> Any:
    """Return what a request tells the servers, but for names and times of its own."""
    body = json.loads(request.content)
    if isinstance(body, dict):
        body.pop("p_request")
    params = {name: value.replace('"', "").split(",") for name, value in request.url.params.items()}
    prefer = request.headers.get("prefer", "").split(",")
    return (
        request.method,
        request.url.path,
        {name: sorted(values) for name, values in params.items()},
        sorted(prefer),
        request.headers["content-type"],
        _ORDER & request.headers.keys(),
        body,
    )
