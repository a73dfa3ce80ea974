"""A Supabase client whose requests to some tables and functions fail before they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from supabase_auth_state import Rest, Settings, open_rest


@dataclass
class FailingClient:
    """What to open auth states with, and what of it fails.

    Attributes:
        rest: for ``use_supabase_auth_state(…, client=rest)``; it gives up soon.
        failing: names of tables and functions.
    """

    failing: set[str] = field(default_factory=set)
    rest: Rest = field(init=False)

    async def check(self, request: httpx.Request) -> None:
        if request.url.path.rsplit("/", 1)[-1] in self.failing:
            raise httpx.ConnectError("cut by the test")


@asynccontextmanager
async def failing_client(settings: Settings) -> AsyncIterator[FailingClient]:
    """Open such a client; nothing fails at first."""
    failing = FailingClient()
    async with httpx.AsyncClient(event_hooks={"request": [failing.check]}) as session:
        options = AsyncClientOptions(httpx_client=session, auto_refresh_token=False)
        client: AsyncClient = await acreate_client(settings.url, settings.key, options=options)
        limits = Settings(url=settings.url, key=settings.key, timeout=0.2, give_up_after=0.2)
        failing.rest = open_rest(limits, client=client)
        yield failing
        await failing.rest.close()
