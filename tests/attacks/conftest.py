"""A proxy before the stack, clients through it and past it, auth states that are closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from devstack import Stack
from faults.proxy import Proxy
from supabase_auth_state import AuthState, Rest, Settings, open_rest, use_supabase_auth_state

Open = Callable[..., Awaitable[AuthState]]


@pytest.fixture
async def proxy(stack: Stack) -> AsyncIterator[Proxy]:
    """A proxy that passes everything on until a test adds a rule."""
    async with Proxy(stack.url) as opened:
        yield opened


@pytest.fixture
def settings(stack: Stack, proxy: Proxy) -> Settings:
    """The proxy's address, with the patience for a slow machine."""
    return Settings(proxy.url, stack.service_role_key, timeout=20, give_up_after=20)


@pytest.fixture
async def through(settings: Settings) -> AsyncIterator[Rest]:
    """PostgREST through the proxy."""
    opened = open_rest(settings)
    yield opened
    await opened.close()


@pytest.fixture
async def impatient(settings: Settings) -> AsyncIterator[Rest]:
    """PostgREST through the proxy, for what is to be given up."""
    opened = open_rest(replace(settings, timeout=0.5, give_up_after=0.5))
    yield opened
    await opened.close()


@pytest.fixture
async def direct(stack: Stack) -> AsyncIterator[Rest]:
    """PostgREST past the proxy, for what is not attacked."""
    opened = open_rest(Settings(stack.url, stack.service_role_key, timeout=20, give_up_after=20))
    yield opened
    await opened.close()


@pytest.fixture
async def open_auth(settings: Settings, proxy: Proxy, company_id: str) -> AsyncIterator[Open]:
    """Open auth states through the proxy that are closed after the test, when no rule is left."""
    async with AsyncExitStack() as opened:

        async def open_it(company: str = company_id, **options: Any) -> AuthState:
            options.setdefault("settings", settings)
            return await opened.enter_async_context(use_supabase_auth_state(company, **options))

        yield open_it
        proxy.clear()
