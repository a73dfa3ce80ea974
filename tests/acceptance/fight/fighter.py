"""A process that wants companies: fighter.py LOG LEASE_TTL COMPANY…

While it owns a company it counts up in the company's row. Every write that is acknowledged becomes
a line in LOG, on disk before the next write. Says when it is ready; ends on SIGTERM and gives back
what it owns. The project is named by the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from supabase_auth_state import (
    AuthState,
    LeaseLost,
    Rest,
    SessionPool,
    Settings,
    StoreUnavailable,
    open_rest,
    use_supabase_auth_state,
)

KEY_TYPE, KEY_ID = "session", "counter"
AT_MOST = 4
ASK_EVERY = 1.0


class Log:
    """Lines that are on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, **entry: Any) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        os.fsync(self._file.fileno())


class Counter:
    """A session: counts up in its company's row until it is closed or loses the lease."""

    def __init__(self, company_id: str, auth: AuthState, log: Log) -> None:
        assert auth.lease is not None
        self._company_id = company_id
        self._auth = auth
        self._token = auth.lease.token
        self._log = log
        self._counting = asyncio.create_task(self._count())

    async def close(self) -> None:
        self._counting.cancel()
        await asyncio.wait({self._counting})

    async def _count(self) -> None:
        try:
            n = await self._found()
            while True:
                n += 1
                write = {"n": n, "token": self._token, "writer": f"process {os.getpid()}"}
                await self._write(write)
                self._log.write(company=self._company_id, ack=write)
                await asyncio.sleep(random.uniform(0.05, 0.2))
        except LeaseLost:
            self._log.write(company=self._company_id, lost=self._token)
        except Exception as error:
            self._log.write(company=self._company_id, unexpected=repr(error))
            raise

    async def _found(self) -> int:
        while True:
            try:
                found = await self._auth.keys.get(KEY_TYPE, [KEY_ID])
            except StoreUnavailable:
                continue
            return int(found[KEY_ID]["n"]) if found else 0

    async def _write(self, write: dict[str, Any]) -> None:
        # No answer leaves open whether it happened; the same write again is safe, another is not.
        while True:
            try:
                await self._auth.keys.set({KEY_TYPE: {KEY_ID: write}})
            except StoreUnavailable:
                continue
            return


def pool_of(rest: Rest, log: Log, ttl: float) -> SessionPool[Counter]:
    async def open_auth(company_id: str) -> AuthState:
        return await use_supabase_auth_state(company_id, client=rest, lease=True, lease_ttl=ttl)

    async def connect(company_id: str, auth: AuthState) -> Counter:
        return Counter(company_id, auth, log)

    return SessionPool(connect, open_auth=open_auth, backoff_base=0.2, backoff_cap=2.0)


async def main(log: Log, ttl: float, companies: list[str]) -> None:
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    env = os.environ
    settings = Settings(
        env["SUPABASE_URL"], env["SUPABASE_SERVICE_ROLE_KEY"], timeout=1.0, give_up_after=2.0
    )
    rest = open_rest(settings)
    async with pool_of(rest, log, ttl) as pool:
        pool.serve(companies, every=ASK_EVERY, at_most=AT_MOST)
        print("ready", flush=True)
        await told_to_stop.wait()
    await rest.close()


if __name__ == "__main__":
    asyncio.run(main(Log(Path(sys.argv[1])), float(sys.argv[2]), sys.argv[3:]))
