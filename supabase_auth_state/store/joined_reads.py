"""Reads of one event-loop turn, joined into one request."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from supabase_auth_state.types import Value

Fetch = Callable[[dict[str, list[str]]], Awaitable[dict[str, dict[str, Value]]]]
"""Asks for ``{key_type: [ids]}`` and answers ``{key_type: {id: value}}``."""

Found: TypeAlias = "asyncio.Future[dict[str, Value]]"

_MOST_IDS = 2000
_MUTABLE = (dict, list)


class JoinedReads:
    """Answers every `get` of one turn of the event loop, of any key types, from one request.

    The request is made by the loop, not by one of the callers: a caller that is cancelled harms
    nobody. Every caller gets values of its own.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._open: _Batch | None = None
        self._running: set[asyncio.Task[None]] = set()

    def get(self, key_type: str, ids: Sequence[str]) -> Found:
        """Return what becomes ``{id: value}`` of those that are stored, or raises as the request.

        Cancelling it leaves the request to the others who wait for it.
        """
        loop = asyncio.get_running_loop()
        if self._open is None:
            self._open = _Batch()
            # In the next turn, after every caller of this one, however early the loop's task
            # factory lets a task take its first step.
            loop.call_soon(self._begin, self._open)
        return self._open.ask(key_type, ids, loop.create_future())

    async def settle(self) -> None:
        """Wait until no request is under way. Giving up the wait cancels no request."""
        while self._open is not None or self._running:
            if self._running:
                await asyncio.wait(self._running)
            else:
                await asyncio.sleep(0)

    def _begin(self, batch: _Batch) -> None:
        self._open = None
        if batch.is_abandoned:
            return
        task = asyncio.get_running_loop().create_task(self._answer(batch))
        self._running.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, batch))

    def _ended(self, task: asyncio.Task[None], batch: _Batch) -> None:
        self._running.discard(task)
        if task.cancelled():
            # Also when that was before its first step, as at the end of the loop.
            batch.fail(asyncio.CancelledError())

    async def _answer(self, batch: _Batch) -> None:
        try:
            batch.answer(_merge([await self._fetch(part) for part in split(batch.wanted)]))
        except BaseException as error:
            batch.fail(error)
            if not isinstance(error, Exception):
                raise


class _Batch:
    """Who asked for what.

    Attributes:
        wanted: how many callers want it, by type and id.
    """

    def __init__(self) -> None:
        self.wanted: dict[str, dict[str, int]] = {}
        self._callers: list[tuple[str, Sequence[str], Found]] = []

    @property
    def is_abandoned(self) -> bool:
        """Whether every caller is gone, as at the end of the loop."""
        return all(answer.done() for _, _, answer in self._callers)

    def ask(self, key_type: str, ids: Sequence[str], answer: Found) -> Found:
        wanted = self.wanted.get(key_type)
        if wanted is None:
            self.wanted[key_type] = dict.fromkeys(ids, 1)
        else:
            for key_id in ids:
                wanted[key_id] = wanted.get(key_id, 0) + 1
        self._callers.append((key_type, ids, answer))
        return answer

    def answer(self, values: dict[str, dict[str, Value]]) -> None:
        for key_type, ids, answer in self._callers:
            if answer.done():
                continue
            found, askers = values.get(key_type, {}), self.wanted[key_type]
            # In the order asked for: clients number what they get.
            answer.set_result(
                {
                    key_id: found[key_id] if askers[key_id] == 1 else copied(found[key_id])
                    for key_id in ids
                    if key_id in found
                }
            )

    def fail(self, error: BaseException) -> None:
        for _, _, answer in self._callers:
            if answer.done():
                continue
            if isinstance(error, asyncio.CancelledError):
                answer.cancel()
            else:
                answer.set_exception(error)


def copied(value: Value) -> Value:
    """Copy what can be changed."""
    return copy.deepcopy(value) if type(value) in _MUTABLE else value


def split(wanted: dict[str, dict[str, int]]) -> list[dict[str, list[str]]]:
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
