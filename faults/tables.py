"""What the tables hold, past every proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg

from devstack import Stack
from supabase_auth_state.codec.sealing import Sealing
from supabase_auth_state.config.encryption import NO_KEYS, parse_keys

from .checker import CREDS, Value
from .recorder import KEYS, decoded

_RESTARTS_WITHIN = 60.0


async def execute(stack: Stack, query: str, parameters: Sequence[Any]) -> list[Any]:
    """Run a statement as the database's owner and return its rows; it may be run twice.

    Waits for a server that is being restarted, or is a replica that has not taken over yet.
    """

    def run() -> list[Any]:
        with psycopg.connect(stack.db_url, autocommit=True) as connection:
            done = connection.execute(query.encode(), parameters)
            return done.fetchall() if done.description else []

    until = asyncio.get_running_loop().time() + _RESTARTS_WITHIN
    while True:
        try:
            return await asyncio.to_thread(run)
        except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction):
            if asyncio.get_running_loop().time() > until:
                raise
        await asyncio.sleep(0.1)


def sealing_of(company_id: str, encryption: str | None) -> Sealing:
    """Return what opens a company's values, by the keys that seal them or None."""
    return Sealing(company_id, NO_KEYS if encryption is None else parse_keys(encryption))


async def stored(stack: Stack, company_id: str, sealing: Sealing) -> dict[str, Value | None]:
    """Return what is stored of a company, by the keys that the checker knows.

    Args:
        stack: where.
        company_id: the company.
        sealing: opens its values.
    """
    rows = await execute(
        stack,
        "select key_type, key_id, value from whatsapp_keys where company_id = %s union all "
        "select '', '', creds from whatsapp_auth where company_id = %s",
        [company_id] * 2,
    )
    found: dict[str, Value | None] = dict.fromkeys([*KEYS, CREDS])
    for key_type, key_id, row in rows:
        value = sealing.open((key_type, key_id), row)
        if key_type:
            found[f"{key_type} {key_id}"] = decoded(key_type, value)
        else:
            found[CREDS] = value["nextPreKeyId"]
    return found


async def plain(stack: Stack, company_id: str) -> list[str]:
    """Return the names of the values of a company that are not sealed."""
    rows = await execute(
        stack,
        "select key_type || ' ' || key_id from whatsapp_keys "
        "where company_id = %s and not value ? '$sealed' union all "
        "select 'creds' from whatsapp_auth where company_id = %s and not creds ? '$sealed'",
        [company_id] * 2,
    )
    return [name for [name] in rows]
