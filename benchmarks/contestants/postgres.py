"""PostgreSQL itself, without HTTP: psycopg, prepared statements, up to eight connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import psycopg
from psycopg.types.json import set_json_loads

CONNECTIONS = 8

_GET = """
select key_id, value from whatsapp_keys
where company_id = %s and key_type = %s and key_id = any(%s)
"""
_SET = """
insert into whatsapp_keys (company_id, key_type, key_id, value)
select %s, t.key_type, t.key_id, t.value
from unnest(%s::text[], %s::text[], %s::jsonb[]) as t (key_type, key_id, value)
order by t.key_type collate "C", t.key_id collate "C"
on conflict (company_id, key_type, key_id) do update set value = excluded.value
"""


class Connections:
    """A few connections that take turns."""

    def __init__(self) -> None:
        self._free: asyncio.LifoQueue[psycopg.AsyncConnection[Any]] = asyncio.LifoQueue()
        self._all: list[psycopg.AsyncConnection[Any]] = []

    async def open(self, db_url: str) -> Connections:
        """Open them."""
        for _ in range(CONNECTIONS):
            connection = await psycopg.AsyncConnection.connect(db_url, autocommit=True)
            set_json_loads(orjson.loads, connection)
            connection.prepare_threshold = 0
            self._all.append(connection)
            self._free.put_nowait(connection)
        return self

    @asynccontextmanager
    async def one(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Borrow one, waiting for one that is free."""
        connection = await self._free.get()
        try:
            yield connection
        finally:
            self._free.put_nowait(connection)

    async def close(self) -> None:
        """Close them."""
        for connection in self._all:
            await connection.close()


class Postgres:
    """Keys of one company. Values are documents: nothing is made of Buffers."""

    def __init__(self, connections: Connections, company_id: str) -> None:
        self._connections = connections
        self._company_id = company_id

    async def get(self, type: str, ids: Sequence[str]) -> dict[str, Any]:
        """Read values."""
        async with self._connections.one() as connection:
            answer = await connection.execute(_GET, (self._company_id, type, list(ids)))
            return dict(await answer.fetchall())

    async def set(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Write values in one statement; null deletes, by the table's own trigger."""
        rows = [
            (key_type, key_id, None if value is None else orjson.dumps(value).decode())
            for key_type, values in data.items()
            for key_id, value in values.items()
        ]
        types, ids, values = zip(*rows, strict=True)
        async with self._connections.one() as connection:
            await connection.execute(_SET, (self._company_id, list(types), list(ids), list(values)))
