"""All rows of one company: read page by page, and written under a lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.care.rawrows import RawChange, list_keys, write_change
from supabase_auth_state.errors import FamilyMismatch
from supabase_auth_state.folders.filenames import KeyRef
from supabase_auth_state.lease import Lease, acquire_lease, as_owner, new_owner
from supabase_auth_state.rest import Rest
from supabase_auth_state.times import seconds, timestamp

from .documents import CREDS, Document

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

    The creds are read last: older creds over newer keys would hand out key ids twice.

    Raises:
        FamilyMismatch: the rows belong to another kind of client.
        StoreError: the database refused or did not answer.
    """
    documents = {
        key.ref: Document(key.ref, key.stored, key.updated_at)
        async for key in list_keys(rest, company_id)
    }
    row = await _creds_row(rest, company_id)
    if row is None:
        return Company(company_id, documents, None)
    if row["client_family"] != family:
        raise FamilyMismatch(company_id, stored=row["client_family"], wanted=family)
    documents[CREDS] = Document(CREDS, row["creds"], seconds(row["updated_at"]))
    return Company(company_id, documents, seconds(row["created_at"]))


async def _creds_row(rest: Rest, company_id: str) -> dict[str, Any] | None:
    rows = await rest.select(
        "whatsapp_auth",
        {"company_id": f"eq.{company_id}", "select": "creds,client_family,created_at,updated_at"},
    )
    return rows[0] if rows else None


class CompanyWriter:
    """Writes a company's rows with the times they had elsewhere, under a lease."""

    def __init__(self, rest: Rest, lease: Lease) -> None:
        self._rest = rest
        self._lease = lease

    async def put_keys(self, documents: Sequence[Document]) -> None:
        """Store keys in one request and one transaction.

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
            for document in documents
        ]
        await self._upsert("whatsapp_keys", rows, on_conflict="company_id,key_type,key_id")

    async def put_creds(self, creds: Document) -> None:
        """Store creds; errors as `put_keys`."""
        row = {
            "company_id": self._lease.company_id,
            "creds": creds.json,
            "client_family": codec.BAILEYS,
            "updated_at": timestamp(creds.time),
        }
        await self._upsert("whatsapp_auth", [row], on_conflict="company_id")

    async def exchange(
        self, put: Iterable[Document], removed: Iterable[KeyRef], creds: Document | None
    ) -> None:
        """Store and delete keys and store creds in one transaction; errors as `put_keys`.

        The times are those of now.
        """
        keys: dict[KeyRef, Any] = {document.ref: document.json for document in put}
        change = RawChange(keys | dict.fromkeys(removed), creds.json if creds else None)
        await write_change(self._rest, self._lease.company_id, change, self._lease)

    async def _upsert(
        self, table: str, rows: Sequence[Mapping[str, Any]], *, on_conflict: str
    ) -> None:
        with as_owner(self._lease):
            await self._rest.upsert(
                table, rows, on_conflict=on_conflict, headers=self._lease.headers
            )


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


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Cut documents into lists of at most 100, and of a few megabytes."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        if batch and (len(batch) == BATCH_ROWS or size + len(document.text) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += len(document.text)
    if batch:
        yield batch
