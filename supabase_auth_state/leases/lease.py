"""Being the one owner of a company: a lease in the database, renewed in the background."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from supabase_auth_state.errors import (
    ARRIVING,
    MOVED,
    CompanyMoved,
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    StateRolledBack,
    StoreError,
    is_mark,
)
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.clocks import clock
from supabase_auth_state.rest.connection import Place
from supabase_auth_state.rest.requests import DEADLINE_HEADER, names
from supabase_auth_state.rest.timestamps import time_of

from .renewals import renewals_of
from .writer import Writer

log = logging.getLogger("supabase_auth_state")

LEASE_HEADER = "x-whatsapp-lease"
"""The request header that carries a lease's token."""

_RELEASE_WITHIN = 5.0


class Lease:
    """The right to write a company's rows, as long as it is renewed; made by `acquire_lease`.

    The database checks every write against the token, so a process that was frozen, or cut off, for
    longer than its lease cannot harm the next owner. While no other process has taken over, its
    writes still count.

    Attributes:
        company_id: the company.
        owner: the name under which this process holds it.
        token: the fencing token; a later owner's is higher.
        ttl: seconds that each renewal adds.
        lost: set at once when the lease is known to be lost. It is never set by `release`.
        rolled_back: whether it is lost because the database was set back to an earlier moment.
        lapses: how often the lease ran out and was got back, as the database counts it: others
            could write in between.
        writer: numbers the writes under this lease.
    """

    def __init__(
        self,
        rest: Rest,
        company_id: str,
        *,
        owner: str,
        token: int,
        ttl: int,
        until: float,
        lapses: int = 0,
        writer: Writer | None = None,
    ) -> None:
        self.company_id = company_id
        self.owner = owner
        self.token = token
        self.ttl = ttl
        self.lost = asyncio.Event()
        self.rolled_back = False
        self.lapses = lapses
        self.writer = writer or Writer(rest, company_id)
        self.writer.lease = self
        self._rest = rest
        self._until = until
        self._released = False
        self._place = Place()
        self._renewals = renewals_of(rest, ttl, clock)

    def __repr__(self) -> str:
        state = "lost" if self.lost.is_set() else "live" if self.holds() else "uncertain"
        return f"Lease({self.company_id!r}, token={self.token}, {state})"

    @property
    def headers(self) -> dict[str, str]:
        """The request header that proves this lease."""
        return {LEASE_HEADER: str(self.token)}

    @property
    def claim(self) -> list[Any]:
        """What a renewal says: company, token, writer, and its last number known to be stored."""
        return [self.company_id, self.token, self.writer.id, self.writer.stored]

    def holds(self) -> bool:
        """Return whether no other process can own the company now, by this machine's clock."""
        return clock() < self._until and not self._released and not self.lost.is_set()

    def check(self) -> None:
        """Return if the company may still be written.

        Raises:
            LeaseLost: the lease is lost or was released.
            StateRolledBack: it is lost because the database was set back to an earlier moment.
        """
        if self.rolled_back:
            raise StateRolledBack(self.company_id)
        if self._released or self.lost.is_set():
            raise LeaseLost(self.company_id, self.token)

    def lose(self) -> None:
        """Take note that the database has refused this lease."""
        if not self.lost.is_set():
            log.warning("company %s: lease with token %d is lost", self.company_id, self.token)
            self.lost.set()
            self._rest.met("lease_lost")

    def roll_back(self) -> None:
        """Take note that the database knows less than it has acknowledged to this process."""
        if not self.rolled_back:
            self.rolled_back = True
            self.lose()
            self._rest.start(self._report())

    async def _report(self) -> None:
        """Keep it in the database for those who look: what was refused has left nothing there."""
        with suppress(StoreError, ConfigurationError):
            await self._rest.about("report_whatsapp_restored", self.company_id, timed=True)

    async def renew(self) -> None:
        """Renew the lease now.

        Raises:
            LeaseLost: another process owns the company, or the lease was released.
            StateRolledBack: the database was set back to an earlier moment.
            StoreError: it is not known whether the lease still stands.
        """
        self.check()
        asked = clock()
        answer = await self._rest.rpc(
            "renew_whatsapp_lease",
            {"p_company_id": self.company_id, "p_token": self.token, "p_ttl_seconds": self.ttl},
            headers={DEADLINE_HEADER: self._rest.deadline(self.ttl / 3)},
            give_up_after=self.ttl / 3,
            is_right=lambda found: names(
                found, {"company_id": self.company_id, "token": self.token}
            ),
        )
        self.answered(answer, asked)
        self.check()

    def answered(self, answer: Mapping[str, Any], asked: float) -> None:
        """Take note of what the database answered to a renewal.

        Args:
            answer: ``{"status": "renewed" | "lost" | "missing" | "restored", "lapses": …}``, and
                ``"writer"``, the opening that the lease belongs to, of a database of 0.4.
            asked: when the renewal was asked for, by `clock`.
        """
        if self._released:
            return
        if answer["status"] == "restored" or answer.get("writer", self.writer.id) != self.writer.id:
            # A token is given once, unless the database has forgotten that it gave it.
            self._rest.met("state_rolled_back")
            self.roll_back()
            return
        if answer["status"] != "renewed":
            self.lose()
            return
        # Counted by the database: an earlier renewal, whose answer was lost, may have been the one
        # that found the lease run out.
        if answer["lapses"] > self.lapses:
            self.lapses = answer["lapses"]
            self._rest.met("lease_lapsed")
        self._until = max(self._until, self._ends(answer, asked))

    def _ends(self, answer: Mapping[str, Any], asked: float) -> float:
        # The time runs from the question. Where the answer is one to an earlier renewal, as of a
        # cache in between, it runs from when that one was executed.
        ends = asked + self.ttl
        if (at := time_of(answer.get("expires_at"))) is not None:
            ends = min(ends, self._rest.moment_of(at))
        return ends

    async def release(self) -> None:
        """Stop renewing and let others have the company.

        What this process writes from here on is refused. A lease that cannot be released,
        because the database does not answer, ends by itself. Does nothing in a process that was
        forked from the owner.
        """
        if self._released or not self._place.is_in_this_process():
            return
        self._released = True
        await self._renewals.remove(self)
        if not self.lost.is_set():
            await _give_back(self._rest, self.writer, self.token, _RELEASE_WITHIN)

    async def leave_closed(self) -> None:
        """Stop renewing and do not release: a company that is closed stays so."""
        self._released = True
        await self._renewals.remove(self)

    def keep(self) -> None:
        """Renew in the background from here on."""
        self._renewals.add(self)


async def acquire_lease(
    rest: Rest,
    company_id: str,
    *,
    ttl: float = 30.0,
    owner: str | None = None,
    writer: Writer | None = None,
) -> Lease:
    """Own a company, and keep owning it by renewing in the background until `Lease.release`.

    When this is cancelled, or given up, the lease is given back, also when the database gets to the
    request later: it executes the requests of a writer in their order or not at all.

    Args:
        rest: where the database is.
        company_id: the company.
        ttl: seconds after which others may take over from a process that no longer renews; 1 to
            86400.
        owner: a name of your own for this holder, unique among all processes that run at the same
            time; made up when absent. A process that is started again under its name gets its
            lease back at once, without waiting for the time to run out.
        writer: numbers the requests, this being the first; made when absent.

    Raises:
        LeaseHeld: another process owns the company.
        CompanyMoved: the company is closed, because it has moved to another project.
        ConfigurationError: ttl or owner is out of range.
        StoreError: the database refused or did not answer.
    """
    if not 1 <= ttl <= 86400:
        raise ConfigurationError(f"a lease takes 1 to 86400 seconds, not {ttl!r}")
    if owner is not None and not owner.strip():
        raise ConfigurationError(
            "a lease's owner may not be empty: leave it out, or give it a unique name"
        )
    if is_mark(owner):
        raise ConfigurationError(
            f"a lease's owner may not begin with {ARRIVING.strip()!r} or {MOVED.strip()!r}: these "
            "mark companies that move between projects"
        )
    return await _acquire(rest, writer or Writer(rest, company_id), ttl, owner or new_owner())


async def acquire_closed(rest: Rest, company_id: str, mark: str, *, ttl: float) -> Lease:
    """Own a company that a mark closes. It stays closed to all others, until `Lease.release`.

    Args:
        rest: where the database is.
        company_id: the company.
        mark: the mark that closes it.
        ttl: seconds between renewals, times three.

    Raises:
        WriteRefused: this mark does not close it any more.
        LeaseHeld, CompanyMoved, StoreError: as `acquire_lease`.
    """
    return await _acquire(rest, Writer(rest, company_id), ttl, mark)


async def _acquire(rest: Rest, writer: Writer, ttl: float, owner: str) -> Lease:
    seconds, company_id = math.ceil(ttl), writer.company_id
    asked, commit = clock(), writer.next_commit()
    try:
        answer = await rest.ask(
            "acquire_whatsapp_lease",
            company_id,
            {"p_owner": owner, "p_ttl_seconds": seconds},
            commit=commit,
            # After this a request to give the lease back is executed, and no earlier one then.
            harmless_late=True,
        )
    except BaseException:
        await rest.in_background(_give_back(rest, writer, None, _RELEASE_WITHIN))
        raise
    if answer["token"] is None:
        if is_mark(answer.get("owner")):
            raise CompanyMoved(company_id, answer["owner"])
        raise LeaseHeld(company_id, owner=answer.get("owner"), expires_at=answer.get("expires_at"))
    writer.is_stored(commit)
    lease = Lease(
        rest,
        company_id,
        owner=owner,
        token=answer["token"],
        ttl=seconds,
        until=asked + seconds,
        lapses=answer["lapses"],
        writer=writer,
    )
    lease.keep()
    return lease


async def _give_back(rest: Rest, writer: Writer, token: int | None, within: float) -> None:
    try:
        await rest.do(
            "release_whatsapp_lease",
            {"p_company_id": writer.company_id, "p_token": token},
            commit=writer.next_commit(),
            give_up_after=within,
        )
    except (StoreError, ConfigurationError) as error:
        log.log(
            # Without a token it is not known whether there is a lease.
            logging.INFO if token is None else logging.WARNING,
            "company %s: not known whether the lease is released, it ends by itself: %s",
            writer.company_id,
            error,
        )


def new_owner() -> str:
    """Return a name that no other process and no earlier lease has: host, process and chance."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:12]}"
