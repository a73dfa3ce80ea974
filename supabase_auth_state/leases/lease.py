"""Being the one owner of a company: a lease in the database, renewed in the background."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from supabase_auth_state.errors import (
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    StoreError,
    WriteRefused,
)
from supabase_auth_state.rest.client import Rest

from .renewals import renewals_of

log = logging.getLogger("supabase_auth_state")

LEASE_HEADER = "x-whatsapp-lease"
"""The request header that carries a lease's token."""

_RELEASE_WITHIN = 5.0


def clock() -> float:
    """Seconds on a clock that never goes back and counts the time this machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if _BOOTTIME else time.monotonic()


_BOOTTIME = hasattr(time, "CLOCK_BOOTTIME")


class Lease:
    """The right to write a company's rows, as long as it is renewed; made by `acquire_lease`.

    The database checks every write against the token, so a process that was frozen, or cut off, for
    longer than its lease cannot harm the next owner. While nobody else has taken over, its writes
    still count.

    Attributes:
        company_id: the company.
        owner: the name under which this process holds it.
        token: the fencing token; a later owner's is higher.
        ttl: seconds that each renewal adds.
        lost: set at once when the lease is known to be lost. It is never set by `release`.
        lapses: how often the lease ran out and was got back: others could write in between.
    """

    def __init__(
        self, rest: Rest, company_id: str, *, owner: str, token: int, ttl: int, until: float
    ) -> None:
        self.company_id = company_id
        self.owner = owner
        self.token = token
        self.ttl = ttl
        self.lost = asyncio.Event()
        self.lapses = 0
        self._rest = rest
        self._until = until
        self._released = False
        self._renewals = renewals_of(rest, ttl, clock)

    def __repr__(self) -> str:
        state = "lost" if self.lost.is_set() else "live" if self.holds() else "uncertain"
        return f"Lease({self.company_id!r}, token={self.token}, {state})"

    @property
    def headers(self) -> dict[str, str]:
        """The request header that proves this lease."""
        return {LEASE_HEADER: str(self.token)}

    def holds(self) -> bool:
        """Tell whether nobody else can own the company now, judged by this machine's clock."""
        return clock() < self._until and not self._released and not self.lost.is_set()

    def check(self) -> None:
        """Return if the company may still be written.

        Raises:
            LeaseLost: the lease is lost or was released.
        """
        if self._released or self.lost.is_set():
            raise LeaseLost(self.company_id, self.token)

    def lose(self) -> None:
        """Take note that the database has refused this lease."""
        if not self.lost.is_set():
            log.warning("company %s: lease with token %d is lost", self.company_id, self.token)
            self.lost.set()

    async def renew(self) -> None:
        """Renew the lease now.

        Raises:
            LeaseLost: another process owns the company, or the lease was released.
            StoreError: it is not known whether the lease still stands.
        """
        self.check()
        asked = clock()
        answer = await self._rest.rpc(
            "renew_whatsapp_lease",
            {"p_company_id": self.company_id, "p_token": self.token, "p_ttl_seconds": self.ttl},
            give_up_after=self.ttl / 3,
        )
        self.answered(answer, asked)
        self.check()

    def answered(self, answer: Mapping[str, Any], asked: float) -> None:
        """Take note of what the database answered to a renewal.

        Args:
            answer: ``{"status": "renewed" | "lost" | "missing", …}``.
            asked: when the renewal was asked for, by `clock`.
        """
        if self._released:
            return
        if answer["status"] != "renewed":
            self.lose()
            return
        if answer.get("lapsed") or asked >= self._until:
            self.lapses += 1
        self._until = asked + self.ttl

    async def release(self) -> None:
        """Stop renewing and let others have the company.

        What this process writes from here on is refused. A lease that cannot be released,
        because the database does not answer, ends by itself.
        """
        if self._released:
            return
        self._released = True
        await self._renewals.remove(self)
        if self.lost.is_set():
            return
        try:
            await self._rest.rpc(
                "release_whatsapp_lease",
                {"p_company_id": self.company_id, "p_token": self.token},
                give_up_after=_RELEASE_WITHIN,
            )
        except StoreError as error:
            log.warning(
                "company %s: lease not released, it ends by itself: %s", self.company_id, error
            )

    def keep(self) -> None:
        """Renew in the background from here on."""
        self._renewals.add(self)


async def acquire_lease(
    rest: Rest, company_id: str, *, ttl: float = 30.0, owner: str | None = None
) -> Lease:
    """Own a company, and keep owning it by renewing in the background until `Lease.release`.

    Args:
        rest: where the database is.
        company_id: the company.
        ttl: seconds after which others may take over from a process that no longer renews; 1 to
            86400.
        owner: a name of your own for this holder, unique among all processes; made up when absent.

    Raises:
        LeaseHeld: another process owns the company.
        ConfigurationError: ttl or owner is out of range.
        StoreError: the database refused or did not answer.
    """
    if not 1 <= ttl <= 86400:
        raise ConfigurationError(f"a lease takes 1 to 86400 seconds, not {ttl!r}")
    if owner is not None and not owner.strip():
        raise ConfigurationError(
            "a lease's owner may not be empty: leave it out, or give it a unique name"
        )
    owner = owner or new_owner()
    seconds = math.ceil(ttl)
    asked = clock()
    answer: Mapping[str, Any] = await rest.rpc(
        "acquire_whatsapp_lease",
        {"p_company_id": company_id, "p_owner": owner, "p_ttl_seconds": seconds},
    )
    if answer["token"] is None:
        raise LeaseHeld(company_id, owner=answer.get("owner"), expires_at=answer.get("expires_at"))
    lease = Lease(
        rest, company_id, owner=owner, token=answer["token"], ttl=seconds, until=asked + seconds
    )
    lease.keep()
    return lease


@contextmanager
def as_owner(lease: Lease | None) -> Iterator[None]:
    """Write under a lease, if there is one: the database's refusal of it becomes `LeaseLost`.

    Raises:
        LeaseLost: the lease was lost before, or is found to be lost now.
    """
    if lease is None:
        yield
        return
    lease.check()
    try:
        yield
    except WriteRefused as error:
        refused = error
    else:
        return
    if "whatsapp lease:" not in str(refused):
        raise refused
    lease.lose()
    raise LeaseLost(lease.company_id, lease.token)


def new_owner() -> str:
    """Return a name that no other process and no earlier lease has: host, process and chance."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:12]}"
