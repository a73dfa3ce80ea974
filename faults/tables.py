"""What the tables hold, past every proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg

from devstack import Stack

from .checker import CREDS, Value
from .recorder import KEYS, decoded


async def execute(stack: Stack, query: str, parameters: Sequence[Any]) -> list[Any]:
    """Run a statement as the database's owner and return its rows."""

    def run() -> list[Any]:
        with psycopg.connect(stack.db_url, autocommit=True) as connection:
            done = connection.execute(query.encode(), parameters)
            return done.fetchall() if done.description else []

    return await asyncio.to_thread(run)


async def stored(stack: Stack, company_id: str) -> dict[str, Value | None]:
    """Return what is stored of a company, by the keys that the checker knows."""
    rows = await execute(
        stack,
        "select key_type, key_id, value from whatsapp_keys where company_id = %s union all "
        "select 'creds', '', creds from whatsapp_auth where company_id = %s",
        [company_id] * 2,
    )
    found: dict[str, Value | None] = dict.fromkeys([*KEYS, CREDS])
    for key_type, key_id, value in rows:
        if key_type == CREDS:
            found[CREDS] = value["nextPreKeyId"]
        else:
            found[f"{key_type} {key_id}"] = decoded(key_type, value)
    return found
