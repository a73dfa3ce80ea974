"""A process that owns a company through a pool until it is killed.

    pool_process.py COMPANY TTL [OWNER]

Prints the lease's token when the session is up. The project comes from the environment.
"""

from __future__ import annotations

import asyncio
import sys

from supabase_auth_state import AuthState, SessionPool, open_rest, use_supabase_auth_state


class Session:
    def __init__(self, auth: AuthState) -> None:
        self.auth = auth

    async def close(self) -> None:
        """Nothing is connected."""


async def connect(company_id: str, auth: AuthState) -> Session:
    await auth.keys.set({"session": {"15550100001.0": {"by": "the first owner"}}})
    return Session(auth)


async def main(company_id: str, ttl: float, owner: str | None = None) -> None:
    rest = open_rest()

    async def open_auth(company: str) -> AuthState:
        return await use_supabase_auth_state(
            company, client=rest, lease=True, lease_ttl=ttl, owner=owner
        )

    async with SessionPool(connect, open_auth=open_auth) as pool:
        session = await pool.get(company_id)
        assert session.auth.lease is not None
        print(session.auth.lease.token, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), *sys.argv[3:]))
