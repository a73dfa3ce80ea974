"""Closing a company, and owning one that is closed: what a move between projects is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from supabase_auth_state.errors import StoreUnavailable
from supabase_auth_state.leases.lease import Lease, acquire_closed, acquire_lease, new_owner
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.types import KeyRef

from .documents import CREDS

_TTL = 20.0


@dataclass
class ClosableCompany:
    """A company in one project, which a mark may close there.

    Attributes:
        rest: where the database is.
        company_id: the company.
        closed: the mark that closes the company, or that may do so by now.
        lease: the lease under which it is owned, or None.
    """

    rest: Rest
    company_id: str
    closed: str | None = None
    lease: Lease | None = None

    async def look(self) -> None:
        """Read which mark closes the company.

        By a POST: a read replica may not know it yet.
        """
        found = await self.rest.ask("fetch_whatsapp_creds", self.company_id, {})
        self.closed = found.get("closed")

    @asynccontextmanager
    async def owned_for(self, purpose: str) -> AsyncIterator[Lease]:
        """Own the company. At the end it stays closed if a mark may close it.

        Args:
            purpose: the command's name, for a process that finds the company owned.
        """
        if self.closed is None:
            owner = f"{purpose} {new_owner()}"
            lease = await acquire_lease(self.rest, self.company_id, ttl=_TTL, owner=owner)
        else:
            lease = await acquire_closed(self.rest, self.company_id, self.closed, ttl=_TTL)
        self.lease = lease
        try:
            yield lease
        finally:
            # Not awaited to its end: a signal ends the command at once.
            await self.rest.in_background(
                lease.leave_closed() if self.closed is not None else lease.release()
            )

    async def close(self, mark: str) -> None:
        """Put a mark in the place of the owner, which is this process."""
        assert self.lease is not None  # noqa: S101 - a side is closed while it is owned
        # From here on nothing gives the lease back: the database may have the mark already.
        self.closed = mark
        await self.lease.writer.rpc("close_whatsapp_company", {"p_mark": mark})

    async def open(self) -> None:
        """Take the mark away.

        Raises:
            StoreUnavailable: it is not known that it is away.
        """
        assert self.lease is not None  # noqa: S101 - as above
        await self.lease.release()
        await self.look()
        if self.closed is not None:
            raise StoreUnavailable(
                f"company {self.company_id!r} is still closed in {self.rest.url}: run the same "
                "command again"
            )

    async def pause(self) -> Mapping[str, Any] | None:
        """Return why pools leave the company alone, or None when they do not."""
        wanted = {"p_companies": [self.company_id]}
        found = await self.rest.ask("whatsapp_pauses_of", self.company_id, wanted)
        pause: Mapping[str, Any] | None = found["pauses"].get(self.company_id)
        return pause

    async def set_pause(self, pause: Mapping[str, Any] | None) -> None:
        """Make pools leave the company alone just as another project's do, or not."""
        await self.rest.ask("reinstate_whatsapp_company", self.company_id, {}, timed=True)
        if pause is not None:
            names = ("code", "reason", "seconds", "noted_by")
            noted = {f"p_{name}": pause[name] for name in names}
            await self.rest.ask("note_whatsapp_pause", self.company_id, noted, timed=True)

    async def hashes(self) -> Mapping[KeyRef, str]:
        """Return the database's hash of each value."""
        found = await self.rest.about("whatsapp_company_hashes", self.company_id)
        hashes = {KeyRef(key_type, key_id): value for key_type, key_id, value in found["keys"]}
        return hashes if found["creds"] is None else {**hashes, CREDS: found["creds"]}
