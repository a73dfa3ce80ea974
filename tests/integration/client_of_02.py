"""Is a client of version 0.2: opens a company, and does what standard input says, a line each.

    python client_of_02.py WHEEL URL COMPANY [lease]

Each line of input is a JSON array: `["set", {…}]`, `["get", type, [id, …]]`, `["count", n]`, which
saves creds, or `["close"]`. Each line of output is the JSON result, or the name of an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])

import supabase_auth_state as released


async def main(url: str, company_id: str, *lease: str) -> None:
    settings = released.Settings(url=url, key=os.environ["SUPABASE_SERVICE_ROLE_KEY"])
    loop = asyncio.get_running_loop()
    try:
        auth = await released.use_supabase_auth_state(
            company_id,
            settings=settings,
            lease=bool(lease),
            **({"lease_ttl": 600} if lease else {}),
        )
    except released.SupabaseAuthStateError as error:
        say(type(error).__name__)
        return
    say(f"open {released.__version__}")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, *values = json.loads(line)
        try:
            say(await act(auth, name, *values))
        except released.SupabaseAuthStateError as error:
            say(type(error).__name__)
        if name == "close":
            return


async def act(auth: Any, name: str, *values: Any) -> Any:
    if name == "set":
        await auth.keys.set(*values)
    elif name == "get":
        return await auth.keys.get(*values)
    elif name == "count":
        auth.creds["nextPreKeyId"] = values[0]
        await auth.save_creds()
    else:
        await auth.close()
    return None


def say(result: object) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[2:]))
