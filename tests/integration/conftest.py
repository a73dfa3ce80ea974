"""What tests on the real stack share: settings, PostgREST to talk to, auth states to close."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
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


PROGRAM = Path(__file__).with_name("client_of_02.py")
WHEEL = PROGRAM.parents[1] / "fixtures" / "releases" / "supabase_auth_state-0.2.0-py3-none-any.whl"


class Released:
    """A process with the released client in it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(await self._process.stdout.readline())

    async def __call__(self, *command: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.answer()


StartReleased = Callable[..., Awaitable[Released]]


@pytest.fixture
async def released(stack: Stack, company_id: str) -> AsyncIterator[StartReleased]:
    """Start clients of version 0.2: `await released("lease")`; their answer to it is not read."""
    async with AsyncExitStack() as started:

        async def start(*lease: str) -> Released:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", PROGRAM, WHEEL, stack.url, company_id, *lease,
                env={"SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key},
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip

            async def end() -> None:
                if process.returncode is None:
                    process.kill()
                await process.wait()

            started.push_async_callback(end)
            return Released(process)

        yield start
