"""What tests on the real stack share: settings, PostgREST to talk to, auth states to close."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from devstack import Stack
from supabase_auth_state import AuthState, Rest, Settings, open_rest, use_supabase_auth_state

OpenAuth = Callable[..., Awaitable[AuthState]]


@pytest.fixture
def settings(stack: Stack) -> Settings:
    """The stack's URL and service key, with little patience."""
    return Settings(url=stack.url, key=stack.service_role_key, timeout=10, give_up_after=20)


@pytest.fixture
async def rest(settings: Settings) -> AsyncIterator[Rest]:
    """PostgREST as the service role."""
    opened = open_rest(settings)
    yield opened
    await opened.close()


@pytest.fixture
async def open_auth(settings: Settings, company_id: str) -> AsyncIterator[OpenAuth]:
    """Open auth states that are closed after the test: `await open_auth(lease=True)`."""
    async with AsyncExitStack() as opened:

        async def open_it(company: str = company_id, **options: Any) -> AuthState:
            options.setdefault("settings", settings)
            return await opened.enter_async_context(use_supabase_auth_state(company, **options))

        yield open_it


@pytest.fixture
async def as_role(stack: Stack) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Plain HTTP clients of the API: `as_role(stack.anon_key)`."""
    clients: list[httpx.AsyncClient] = []

    def make(key: str, bearer: str | None = None) -> httpx.AsyncClient:
        headers = {"apikey": key, "Authorization": f"Bearer {bearer or key}"}
        clients.append(
            httpx.AsyncClient(base_url=f"{stack.url}/rest/v1/", headers=headers, timeout=30)
        )
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()
