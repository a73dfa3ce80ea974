"""All rows of one company: read page by page, and written under a lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import orjson

from supabase_auth_state import codec
from supabase_auth_state.errors import FamilyMismatch
from supabase_auth_state.files.names import KeyRef
from supabase_auth_state.leases.lease import Lease, acquire_lease, new_owner
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.timestamps import timestamp

from .documents import CREDS, Document
from .rows import RawChange, list_pages, write_change

BATCH_ROWS = 100
_BATCH_BYTES = 4 << 20
_TTL = 20.0


@dataclass(frozen=True)
class Company:
    """What the tables hold of a company at one moment.

    Attributes:
        company_id: the company.
        documents: creds and keys as they are stored, creds last; empty when there is nothing.
        created_at: when the company's row was made, in seconds since 1970, or None without one.
    """

    company_id: str
    documents: dict[KeyRef, Document]
    created_at: float | None


async def read_company(rest: Rest, company_id: str, family: str = codec.BAILEYS) -> Company:
    """Return all rows of a company, as they are stored.

    The creds are those that came with the last keys: older creds over newer keys would hand out key
    ids twice.

    Raises:
        FamilyMismatch: the rows belong to another kind of client.
        StoreError: the database refused or did not answer.
    """
    documents: dict[KeyRef, Document] = {}
    auth = None
    async for page in list_pages(rest, "list_whatsapp_company", company_id, itemgetter("keys")):
        for key_type, key_id, stored, updated_at, _ in page["keys"]:
            ref = KeyRef(key_type, key_id)
            documents[ref] = Document(ref, stored, updated_at)
        auth = page["auth"]
    if auth is None:
        return Company(company_id, documents, None)
    creds, stored_family, created_at, updated_at = auth
    if stored_family != family:
        raise FamilyMismatch(company_id, stored=stored_family, wanted=family)
    documents[CREDS] = Document(CREDS, creds, updated_at)
    return Company(company_id, documents, created_at)


@dataclass(frozen=True)
class Batch:
    """Keys that go into the database together.

    Attributes:
        documents: the keys.
        texts: the JSON text of each.
    """

    documents: list[Document] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list, repr=False)


class CompanyWriter:
    """Writes a company's rows with the times they had elsewhere, under a lease."""

    def __init__(self, rest: Rest, lease: Lease) -> None:
        self._rest = rest
        self._lease = lease

    async def put(self, batch: Batch, creds: Document | None = None) -> None:
        """Store keys, and perhaps the creds, in one request and one transaction.

        Raises:
            LeaseLost: this process no longer owns the company.
            StoreError: the database refused (nothing is stored) or did not answer.
        """
        rows = [
            {
                "company_id": self._lease.company_id,
                "key_type": document.ref.key_type,
                "key_id": document.ref.key_id,
                "value": document.json,
                "updated_at": timestamp(document.time),
            }
            for document in batch.documents
        ]
        if rows:
            await self._lease.writer.upsert(
                "whatsapp_keys", rows, on_conflict="company_id,key_type,key_id"
            )
        if creds is not None:
            row = {
                "company_id": self._lease.company_id,
                "creds": creds.json,
                "client_family": codec.BAILEYS,
                "updated_at": timestamp(creds.time),
            }
            await self._lease.writer.upsert("whatsapp_auth", [row], on_conflict="company_id")

    async def exchange(
        self, put: Iterable[Document], removed: Iterable[KeyRef], creds: Document | None
    ) -> None:
        """Store and delete keys and store creds in one transaction; errors as `put`.

        The times are those of now.
        """
        keys: dict[KeyRef, Any] = {document.ref: document.json for document in put}
        change = RawChange(keys | dict.fromkeys(removed), creds.json if creds else None)
        await write_change(self._rest, self._lease.company_id, change, self._lease)


@asynccontextmanager
async def owned_for(rest: Rest, company_id: str, purpose: str) -> AsyncIterator[Lease]:
    """Own a company while a command works on it.

    Args:
        rest: where the database is.
        company_id: the company.
        purpose: the command's name, for whoever meets the lease.

    Raises:
        LeaseHeld: another process owns it.
        StoreError: the database refused or did not answer.
    """
    owner = f"{purpose} {new_owner()}"
    lease = await acquire_lease(rest, company_id, ttl=_TTL, owner=owner)
    try:
        yield lease
    finally:
        await lease.release()


def batches(documents: Iterable[Document]) -> Iterator[Batch]:
    """Cut documents into batches of at most 100, and of a few megabytes."""
    batch, size = Batch(), 0
    for document in documents:
        text = orjson.dumps(document.json)
        if batch.texts and (len(batch.texts) == BATCH_ROWS or size + len(text) > _BATCH_BYTES):
            yield batch
            batch, size = Batch(), 0
        batch.documents.append(document)
        batch.texts.append(text)
        size += len(text)
    if batch.texts:
        yield batch
