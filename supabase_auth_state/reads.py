"""Reads of one event-loop turn, joined into one request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from .types import Value

Fetch = Callable[[dict[str, list[str]]], Awaitable[dict[str, dict[str, Value]]]]
"""Asks for ``{key_type: [ids]}`` and answers ``{key_type: {id: stored value}}``."""

_MOST_IDS = 2000


class JoinedReads:
    """Answers every `get` of one turn of the event loop, of any key types, from one request.

    The request is made by the loop, not by one of the callers: a caller that is cancelled harms
    nobody.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._open: _Batch | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def get(self, key_type: str, ids: Iterable[str]) -> dict[str, Value]:
        """Return ``{id: stored value}`` of those that are stored; raises what the request did."""
        batch = self._open
        if batch is None:
            batch = self._open = _Batch()
            asyncio.get_running_loop().call_soon(self._start, batch)
        batch.wanted.setdefault(key_type, {}).update(dict.fromkeys(ids))
        found = (await asyncio.shield(batch.answer)).get(key_type, {})
        return {key_id: found[key_id] for key_id in ids if key_id in found}

    async def settle(self) -> None:
        """Wait until no request is under way."""
        while self._open is not None or self._running:
            await asyncio.gather(*self._running, asyncio.sleep(0))

    def _start(self, batch: _Batch) -> None:
        self._open = None
        task = asyncio.get_running_loop().create_task(self._answer(batch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, batch: _Batch) -> None:
        try:
            parts = [await self._fetch(part) for part in split(batch.wanted)]
            if not batch.answer.done():
                batch.answer.set_result(_merge(parts))
        except BaseException as error:
            batch.fail(error)
            if not isinstance(error, Exception):
                raise


class _Batch:
    def __init__(self) -> None:
        self.wanted: dict[str, dict[str, None]] = {}
        self.answer: asyncio.Future[dict[str, dict[str, Value]]] = asyncio.Future()

    def fail(self, error: BaseException) -> None:
        if self.answer.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self.answer.cancel()
            return
        self.answer.set_exception(error)
        # When every caller was cancelled nobody asks for the error, and that is no mistake.
        self.answer.exception()


def split(wanted: dict[str, dict[str, None]]) -> list[dict[str, list[str]]]:
    """Cut a request so that none asks for more than a few thousand ids."""
    parts: list[dict[str, list[str]]] = [{}]
    room = _MOST_IDS
    for key_type, by_id in wanted.items():
        ids = list(by_id)
        while ids:
            if room == 0:
                parts.append({})
                room = _MOST_IDS
            taken, ids = ids[:room], ids[room:]
            parts[-1][key_type] = taken
            room -= len(taken)
    return [part for part in parts if part]


def _merge(parts: list[dict[str, dict[str, Value]]]) -> dict[str, dict[str, Value]]:
    if len(parts) == 1:
        return parts[0]
    merged: dict[str, dict[str, Value]] = {}
    for part in parts:
        for key_type, found in part.items():
            merged.setdefault(key_type, {}).update(found)
    return merged
