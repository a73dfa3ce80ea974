"""Renewing leases together: a thousand companies cost ten requests, not a thousand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakValueDictionary

from supabase_auth_state.errors import LeaseLost
from supabase_auth_state.rest import backoff
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.requests import DEADLINE_HEADER, names

log = logging.getLogger("supabase_auth_state")

_TOGETHER = 100


class Renewable(Protocol):
    """A lease, as far as renewing it goes."""

    company_id: str
    token: int
    lost: asyncio.Event

    @property
    def claim(self) -> list[Any]:
        """Company and token, and what of this owner's is known to be stored."""
        ...

    def answered(self, answer: Mapping[str, Any], asked: float) -> None:
        """Take note of what the database answered to a renewal that was asked for then."""
        ...

    async def renew(self) -> None:
        """Renew this lease alone, waiting for writes of the company."""
        ...


class Renewals:
    """Renews every lease of one `Rest` that has the same time to live, in a third of that time.

    Args:
        rest: where the database is.
        ttl: the leases' time to live, in seconds.
        now: the clock that leases are measured by.
    """

    def __init__(self, rest: Rest, ttl: int, now: Callable[[], float]) -> None:
        self._rest = rest
        self._ttl = ttl
        self._now = now
        self._leases: set[Renewable] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        """How many leases are renewed."""
        return len(self._leases)

    def add(self, lease: Renewable) -> None:
        """Renew this lease from here on."""
        if self._task is not None and self._task.get_loop() is not asyncio.get_running_loop():
            # A loop that has ended, or that of the process that this one was forked from.
            self._task = None
            self._leases.clear()
        self._leases.add(lease)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())

    async def remove(self, lease: Renewable) -> None:
        """Renew this lease no more; no task is left after the last one."""
        self._leases.discard(lease)
        if not self._leases and self._task is not None:
            task, self._task = self._task, None
            loop = task.get_loop()
            if loop is not asyncio.get_running_loop():
                # It may have ended; and no loop can wait for what another one does.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(task.cancel)
                return
            task.cancel()
            await asyncio.wait({task})

    async def _keep(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(self._pause(failures))
            failures = 0 if await self._round() else failures + 1

    def _pause(self, failures: int) -> float:
        if failures == 0:
            return self._ttl / 3
        return backoff.delay(failures - 1, base=self._ttl / 30, cap=self._ttl / 3)

    async def _round(self) -> bool:
        leases = [lease for lease in self._leases if not lease.lost.is_set()]
        parts = [leases[start : start + _TOGETHER] for start in range(0, len(leases), _TOGETHER)]
        return all(await asyncio.gather(*map(self._renew, parts)))

    async def _renew(self, leases: list[Renewable]) -> bool:
        asked = self._now()
        try:
            answers = await self._within(
                self._rest.rpc(
                    "renew_whatsapp_leases",
                    {
                        "p_leases": [lease.claim for lease in leases],
                        "p_ttl_seconds": self._ttl,
                    },
                    headers={DEADLINE_HEADER: self._rest.deadline(self._ttl / 3)},
                    give_up_after=self._ttl / 3,
                    is_right=lambda found: _answers(leases, found),
                )
            )
            busy = []
            for lease, answer in zip(leases, answers, strict=True):
                if answer["status"] == "busy":
                    busy.append(lease)
                else:
                    lease.answered(answer, asked)
            await self._within(self._renew_each(busy))
        except Exception as error:  # noqa: BLE001 - whatever it is, leases must go on being renewed
            log.warning(
                "%d leases: renewal unanswered (%s); trying again",
                len(leases), str(error) or type(error).__name__,
            )  # fmt: skip
            self._rest.met("renewals_unanswered")
            return False
        return True

    async def _renew_each(self, leases: list[Renewable]) -> None:
        await asyncio.gather(*map(self._renew_alone, leases))

    async def _renew_alone(self, lease: Renewable) -> None:
        # A lost lease knows it, and has told whoever holds it.
        with suppress(LeaseLost):
            await lease.renew()

    async def _within(self, work: Any) -> Any:
        return await asyncio.wait_for(work, self._ttl / 3)


def _answers(leases: list[Renewable], found: Any) -> bool:
    return (
        isinstance(found, list)
        and len(found) == len(leases)
        and all(
            names(answer, {"company_id": lease.company_id, "token": lease.token})
            for lease, answer in zip(leases, found, strict=True)
        )
    )


# An entry lives as long as one of its leases, and keeps its Rest alive: no other has this id.
_in_use: WeakValueDictionary[tuple[int, int], Renewals] = WeakValueDictionary()


def leases_held() -> int:
    """Return how many leases this process renews now."""
    return sum(renewals.held for renewals in tuple(_in_use.values()))


def renewals_of(rest: Rest, ttl: int, now: Callable[[], float]) -> Renewals:
    """Return what renews the leases of this connection and this time to live."""
    return _in_use.setdefault((id(rest), ttl), Renewals(rest, ttl, now))
