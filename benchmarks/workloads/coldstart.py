"""A session starts: creds and all 335 keys, from nothing in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import httpx
from postgrest import AsyncPostgrestClient

from benchmarks import sample
from benchmarks.bench import PORT, Bench
from benchmarks.contestants.library import LIBRARY, OWNER
from benchmarks.contestants.node import FILES, cold_start, open_files
from benchmarks.contestants.port import Port
from benchmarks.stats import timed
from supabase_auth_state import use_supabase_auth_state
from supabase_auth_state.rest.client import Rest, open_rest

COLD_START, REQUESTS = "cold start, creds + 335 keys", "cold start, requests"


async def run(bench: Bench) -> None:
    """Measure the group."""
    keys = sample.company(1)
    wanted = {key_type: list(values) for key_type, values in keys.items()}
    company_id = bench.company(keys)
    floor = bench.floor(keys)
    body = floor.read_body(wanted)

    async def two_requests() -> None:
        await floor.creds()
        await floor.read(body)

    actions = {
        "floor": timed(two_requests),
        LIBRARY: timed(lambda: open_and_read(bench.rest, company_id, wanted)),
        OWNER: timed(lambda: open_and_warm(bench.rest, company_id)),
        PORT: timed(lambda: _port(Port(bench.supabase, company_id), wanted)),
    }
    if not bench.is_far:
        folder = bench.baileys_folder(keys)
        actions[FILES] = cold_start(await open_files(bench.node, folder), folder, wanted)
    await bench.measure(COLD_START, actions, rounds=40, primed=True)
    if not bench.is_far:
        await _count_requests(bench, company_id, wanted)


async def open_and_read(rest: Rest, company_id: str, wanted: Mapping[str, Sequence[str]]) -> None:
    """Open a company and read the keys."""
    async with use_supabase_auth_state(company_id, client=rest) as auth:
        await asyncio.gather(*(auth.keys.get(key_type, ids) for key_type, ids in wanted.items()))


async def open_and_warm(rest: Rest, company_id: str) -> None:
    """Open a company with a lease and load what is hot into its cache."""
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as auth:
        await auth.warm()


async def _port(port: Port, wanted: Mapping[str, Sequence[str]]) -> None:
    await port.creds()
    await asyncio.gather(*(port.get(key_type, ids) for key_type, ids in wanted.items()))


async def _count_requests(
    bench: Bench, company_id: str, wanted: Mapping[str, Sequence[str]]
) -> None:
    requests: list[httpx.Request] = []

    async def count(request: httpx.Request) -> None:
        requests.append(request)

    base = f"{bench.stack.url}/rest/v1"
    key = bench.stack.service_role_key
    async with httpx.AsyncClient(base_url=base, event_hooks={"request": [count]}) as session:
        headers = {"apikey": key, "authorization": f"Bearer {key}"}
        rest = open_rest(client=AsyncPostgrestClient(base, headers=headers, http_client=session))
        await open_and_read(rest, company_id, wanted)
        bench.keep(REQUESTS, LIBRARY, [len(requests)], unit="requests")
        requests.clear()
        await open_and_warm(rest, company_id)
        note = "acquires and releases the lease too"
        bench.keep(REQUESTS, OWNER, [len(requests)], unit="requests", note=note)
