"""Telling the database once a minute what this process has counted. Best effort."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from supabase_auth_state.errors import SchemaMissing, SupabaseAuthStateError

from .activity import EVENTS

log = logging.getLogger("supabase_auth_state")

TELL = "add_whatsapp_activity"
"""The function that adds counts to those of all processes."""

_EVERY = 60.0
_WITHIN = 5.0

Tell = Callable[[Mapping[str, Any], float], Awaitable[object]]
"""Calls `TELL` with parameters, and gives up after so many seconds."""


class Ledger:
    """What was counted for one project since it was told last.

    Nothing is told before a minute is over, no caller waits for it, and what could not be told is
    told a minute later. The sums of the database are therefore an estimate, and rather too low.

    Args:
        tell: tells it.
        now: seconds that never go back.
    """

    def __init__(self, tell: Tell, now: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._now = now
        self._told_at = now()
        self._traffic: dict[str, list[int]] = {}
        self._events: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None

    def answered(self, kind: str, sent: int, received: int) -> None:
        """Count a request that was answered."""
        found = self._traffic.get(kind)
        if found is None:
            found = self._traffic[kind] = [0, 0, 0]
        found[0] += 1
        found[1] += sent
        found[2] += received
        self._events["requests"] += 1

    def met(self, events: Iterable[str]) -> None:
        """Count events, by name."""
        self._events.update(events)

    def tick(self) -> None:
        """Begin to tell when a minute is over; returns at once."""
        if self._now() - self._told_at < _EVERY or self._task is not None:
            return
        self._told_at = self._now()
        self._task = asyncio.get_running_loop().create_task(self.tell())
        self._task.add_done_callback(self._done)

    async def tell(self) -> None:
        """Tell what was counted. Whatever fails is logged and nothing more."""
        traffic, events = self._traffic, self._events
        self._traffic, self._events = {}, Counter()
        told = {name: events[name] for name in EVENTS if events[name]}
        try:
            await self._tell({"p_traffic": traffic, "p_events": told}, _WITHIN)
        except SchemaMissing:
            # A database without the migration: asked again in an hour.
            self._told_at = self._now() + 3600.0
        except SupabaseAuthStateError as error:
            log.debug("what was counted could not be told: %s", error)
            self._keep(traffic, events)

    def stop(self) -> None:
        """Give up telling."""
        if self._task is not None:
            self._task.cancel()

    def _keep(self, traffic: Mapping[str, list[int]], events: Counter[str]) -> None:
        for kind, counts in traffic.items():
            found = self._traffic.setdefault(kind, [0, 0, 0])
            for place, count in enumerate(counts):
                found[place] += count
        self._events.update(events)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.debug("what was counted could not be told (%s)", type(task.exception()).__name__)
