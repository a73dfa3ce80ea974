"""Drive the library as it is installed here, whatever its version: `python -I worker.py URL KEY`.

One JSON command a line on stdin, one answer a line on stdout:

    open     store, lease                    opens the company of that name, with a lease or without
    prepare  store, number, kind, variants   revives the values, so that a run holds the store's work alone
    run      store, number                   seconds that one run of the next variant took

It uses public names alone that 0.2 has too, and nothing of the benchmark.
"""  # noqa: E501 - a table

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from supabase_auth_state import AuthState, Settings, use_supabase_auth_state


class Worker:
    """The stores that were opened, and the work that was prepared for them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stores: dict[str, AuthState] = {}
        self._prepared: dict[tuple[str, int], tuple[str, Iterator[Any]]] = {}
        self._kinds: dict[str, Callable[[str, Any], Awaitable[object]]] = {
            "get": lambda store, wanted: self._keys(store).get(wanted["type"], wanted["ids"]),
            "set": lambda store, data: self._keys(store).set(data),
            "chats": self._chats,
            "cold-start": self._cold_start,
        }

    async def open(self, store: str, *, lease: bool) -> None:
        """Open a company."""
        self._stores[store] = await use_supabase_auth_state(
            store, settings=self._settings, lease=lease
        )

    async def prepare(self, store: str, number: int, kind: str, variants: list[Any]) -> None:
        """Keep the data of some work, as values of the library."""
        self._prepared[store, number] = kind, itertools.cycle([_revived(one) for one in variants])

    async def run(self, store: str, number: int) -> float:
        """Do prepared work once, and return the seconds that it took."""
        kind, turns = self._prepared[store, number]
        data = next(turns)
        gc.collect()
        gc.freeze()
        try:
            started = time.perf_counter()
            await self._kinds[kind](store, data)
            return time.perf_counter() - started
        finally:
            gc.unfreeze()

    async def close(self) -> None:
        """Close every company."""
        for auth in self._stores.values():
            await auth.close()

    def _keys(self, store: str) -> Any:
        return self._stores[store].keys

    async def _chats(self, store: str, chats: list[list[Any]]) -> None:
        await asyncio.gather(*(self._talk(store, chat) for chat in chats))

    async def _talk(self, store: str, chat: list[Any]) -> None:
        keys = self._keys(store)
        for step in chat:
            if step[0] == "get":
                await keys.get(step[1], step[2])
            else:
                await keys.set(step[1])

    async def _cold_start(self, store: str, wanted: dict[str, list[str]]) -> None:
        async with use_supabase_auth_state(store, settings=self._settings) as auth:
            await asyncio.gather(*(auth.keys.get(*asked) for asked in wanted.items()))


def _revived(value: Any) -> Any:
    if isinstance(value, list):
        return [_revived(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "Buffer":
        return base64.b64decode(value["data"])
    return {name: _revived(item) for name, item in value.items()}


async def main() -> None:
    """Answer commands until stdin ends."""
    worker = Worker(Settings(sys.argv[1], sys.argv[2], timeout=120))
    commands = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while line := await commands.readline():
        command = json.loads(line)
        try:
            work: Awaitable[Any] = getattr(worker, command.pop("op"))(**command)
            answer = {"result": await work}
        except Exception as error:  # noqa: BLE001 - the benchmark's process says it and ends
            answer = {"error": repr(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await worker.close()


if __name__ == "__main__":
    asyncio.run(main())
