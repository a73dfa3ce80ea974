"""Owns a company for a second at a time, and writes when told to; the test freezes it."""

from __future__ import annotations

import asyncio
import os
import sys

from supabase_auth_state import LeaseLost, Settings, use_supabase_auth_state


async def main(url: str, company_id: str) -> None:
    settings = Settings(url=url, key=os.environ["SUPABASE_SERVICE_ROLE_KEY"])
    async with use_supabase_auth_state(
        company_id, settings=settings, lease=True, lease_ttl=1
    ) as auth:
        await auth.keys.set({"session": {"1.0": {"by": "frozen"}}})
        print("owning", flush=True)
        sys.stdin.readline()  # nothing of this loop runs until the test says so, not even a renewal
        try:
            await auth.keys.set({"session": {"1.0": {"by": "frozen"}}, "pre-key": {"1": None}})
            print("written", flush=True)
        except LeaseLost:
            print("LeaseLost", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
