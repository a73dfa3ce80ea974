"""Answers of PostgREST as the library expects them, a client that respx sees, and a clock."""

from __future__ import annotations

import json
from typing import Any

import httpx
from postgrest import AsyncPostgrestClient

from supabase_auth_state.rest.backoff import Timing

TIME = 1_800_000_000.5
"""The database's time in canned answers."""


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    @property
    def timing(self) -> Timing:
        return Timing(now=lambda: self.time, sleep=self.sleep, random=lambda: 0.5)


def stock_client(url: str, key: str) -> AsyncPostgrestClient:
    """Return a client on httpx's own transport, as a caller may pass one in."""
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    return AsyncPostgrestClient(
        f"{url}/rest/v1", headers=headers, http_client=httpx.AsyncClient(follow_redirects=True)
    )


def answered(request: httpx.Request, **fields: Any) -> httpx.Response:
    """Answer a function that repeats company and request."""
    params = json.loads(request.content)
    named = {"company_id": params["p_company_id"], "request": params["p_request"], "time": TIME}
    return httpx.Response(200, json=named | fields)


def stored(request: httpx.Request) -> httpx.Response:
    """Acknowledge an upsert, with the receipt of its number."""
    return httpx.Response(
        201,
        headers={
            "preference-applied": "resolution=merge-duplicates, return=minimal",
            "x-whatsapp-receipt": f"{request.headers['x-whatsapp-commit']}:{TIME}",
        },
    )


def receipt(request: httpx.Request) -> httpx.Response:
    """Answer a function that writes and repeats company and commit."""
    named = {
        "company_id": json.loads(request.content)["p_company_id"],
        "commit": request.headers["x-whatsapp-commit"],
        "time": TIME,
    }
    return httpx.Response(200, json=named)


def released(request: httpx.Request) -> httpx.Response:
    """Acknowledge the release of a lease."""
    named = {"x-whatsapp-receipt": f"{request.headers['x-whatsapp-commit']}:{TIME}"}
    return httpx.Response(200, json=True, headers=named)
