"""Owns a company with a journal and writes when it is told to; the test kills it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from supabase_auth_state import Journal, Settings, use_supabase_auth_state


async def main(url: str, company_id: str, folder: str) -> None:
    settings = Settings(url, os.environ["SUPABASE_SERVICE_ROLE_KEY"], give_up_after=600)
    auth = await use_supabase_auth_state(
        company_id, settings=settings, lease=True, owner="one", journal=Journal(folder, bytes(32))
    )
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    keys = [
        auth.keys.set({"session": {"1.0": {"_sessions": {}, "version": f"v{number}"}}})
        for number in range(3)
    ]
    auth.creds["nextPreKeyId"] = 77
    await asyncio.gather(*keys, auth.save_creds())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], str(Path(sys.argv[3]))))
