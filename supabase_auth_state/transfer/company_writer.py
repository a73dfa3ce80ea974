"""Writing a company's rows under a lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from supabase_auth_state import codec
from supabase_auth_state.errors import CompanyMoved, LeaseHeld, is_mark
from supabase_auth_state.leases.lease import Lease, acquire_lease, new_owner
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.timestamps import timestamp
from supabase_auth_state.types import KeyRef

from .documents import CREDS, Document

if TYPE_CHECKING:
    from typing_extensions import Self

BATCH_ROWS = 100
_BATCH_BYTES = 4 << 20
_TTL = 20.0


@dataclass
class Change:
    """What to change in a company, all at once.

    Attributes:
        keys: JSON values by key, where None deletes.
        creds: the JSON value of the creds, or None to leave them as they are.
        times: when a value was last changed, in seconds since 1970; now, where there is none.
    """

    keys: dict[KeyRef, Any] = field(default_factory=dict, repr=False)
    creds: Any = field(default=None, repr=False)
    times: dict[KeyRef, float] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, documents: Iterable[Document], removed: Iterable[KeyRef] = ()) -> Self:
        """Return the change that stores documents with their times and deletes other keys."""
        change = cls(dict.fromkeys(removed))
        for document in documents:
            change.times[document.ref] = document.time
            if document.ref == CREDS:
                change.creds = document.json
            else:
                change.keys[document.ref] = document.json
        return change

    def __bool__(self) -> bool:
        return bool(self.keys) or self.creds is not None


class CompanyWriter:
    """The one place where imports, restores, repairs and deletions write, sealed if keys are given.

    Every method raises:
        LeaseLost: this process no longer owns the company.
        StoreError: the database refused (nothing of the request is stored) or did not answer.

    Args:
        lease: the lease of the company.
        family: the client family of what is written.

    Attributes:
        lease: the lease of the company.
    """

    def __init__(self, lease: Lease, family: str = codec.BAILEYS) -> None:
        self.lease = lease
        self._writer = lease.writer
        self._company_id = lease.company_id
        self._family = family

    async def upsert_keys(self, keys: Sequence[Document]) -> None:
        """Store keys with their times, in one request."""
        sealing = await self._writer.sealing()
        rows = [
            {
                "company_id": self._company_id,
                "key_type": key.ref.key_type,
                "key_id": key.ref.key_id,
                "value": sealing.seal(key.ref, key.json),
                "updated_at": timestamp(key.time),
            }
            for key in keys
        ]
        await self._upsert("whatsapp_keys", rows, "company_id,key_type,key_id")

    async def upsert_creds(self, creds: Document) -> None:
        """Store the creds with their time."""
        row = {
            "company_id": self._company_id,
            "creds": (await self._writer.sealing()).seal(CREDS, creds.json),
            "client_family": self._family,
            "updated_at": timestamp(creds.time),
        }
        await self._upsert("whatsapp_auth", [row], "company_id")

    async def replace(self, change: Change) -> None:
        """Store and delete keys and store creds, in one transaction.

        A function and not an upsert: keys and creds are two tables, and a request of PostgREST's
        upserts into one. Half of a replacement, the new keys beside the old creds, would be a
        device that is neither the one nor the other.
        """
        times = {ref: timestamp(time) for ref, time in change.times.items()}
        sealing = await self._writer.sealing()
        keys = [
            [*ref, None if stored is None else sealing.seal(ref, stored), times.get(ref)]
            for ref, stored in change.keys.items()
        ]
        params: dict[str, Any] = {"p_keys": keys, "p_client_family": self._family}
        if change.creds is not None:
            params["p_creds"] = [sealing.seal(CREDS, change.creds), times.get(CREDS)]
        await self._writer.rpc("replace_whatsapp_state", params)

    async def delete_company(self) -> None:
        """Delete all keys and the creds, in one transaction."""
        await self._writer.rpc("delete_whatsapp_company", {})

    async def _upsert(self, table: str, rows: list[dict[str, Any]], on_conflict: str) -> None:
        await self._writer.upsert(
            table, rows[:1], on_conflict=on_conflict, content=orjson.dumps(rows)
        )


@asynccontextmanager
async def owned_for(rest: Rest, company_id: str, purpose: str) -> AsyncIterator[Lease]:
    """Own a company while a command works on it.

    Args:
        rest: where the database is.
        company_id: the company.
        purpose: the command's name, for a process that finds the company owned.

    Raises:
        LeaseHeld: another process owns it.
        StoreError: the database refused or did not answer.
    """
    owner = f"{purpose} {new_owner()}"
    lease = await acquire_lease(rest, company_id, ttl=_TTL, owner=owner)
    try:
        yield lease
    except asyncio.CancelledError:
        # A write that is still under way in the database holds up the release. A signal ends the
        # command all the same; the request to release has been sent by then.
        await rest.in_background(lease.release())
        raise
    except BaseException:
        await _give_back(rest, lease)
        raise
    await _give_back(rest, lease)


async def _give_back(rest: Rest, lease: Lease) -> None:
    # A signal now ends the wait alone: the request goes on, for as long as `rest.close` allows.
    releasing = rest.start(lease.release())
    await asyncio.wait({releasing})
    releasing.result()


async def refuse_if_owned(rest: Rest, company_id: str) -> None:
    """Look whether a process owns a company, without owning it.

    Raises:
        LeaseHeld: one does.
        CompanyMoved: the company has moved to another project, or is on its way from there.
        StoreError: the database refused or did not answer.
    """
    lease = await rest.about("whatsapp_lease_status", company_id)
    if is_mark(lease["owner"]):
        raise CompanyMoved(company_id, lease["owner"])
    if lease["live"]:
        raise LeaseHeld(company_id, owner=lease["owner"], expires_at=lease["expires_at"])


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Cut documents into batches of at most 100, and of a few megabytes."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        length = len(orjson.dumps(document.json))
        if batch and (len(batch) == BATCH_ROWS or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += length
    if batch:
        yield batch
