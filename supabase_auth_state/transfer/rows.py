"""A company's rows exactly as they are stored: read, kept in a file, changed in one commit."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from supabase_auth_state.codec.json_text import dump_json
from supabase_auth_state.errors import FolderError
from supabase_auth_state.files.atomic import sync_folder, write_new
from supabase_auth_state.files.names import KeyRef
from supabase_auth_state.leases.lease import Lease
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.timestamps import timestamp

_PAGE = 1000
# The database ends a page at 4 MB of rows as they are stored, whose text is never 16 times shorter.
_SURELY_NOT_CUT = 256 << 10
_NAME_LENGTH = 80


@dataclass(frozen=True)
class RawKey:
    """One row of ``whatsapp_keys``.

    Attributes:
        ref: type and id.
        stored: the JSON value.
        updated_at: when it was last changed, in seconds since 1970.
        expires_at: from when it may be deleted, in seconds since 1970, or None.
    """

    ref: KeyRef
    stored: Any = field(repr=False)
    updated_at: float = 0.0
    expires_at: float | None = None


@dataclass(frozen=True)
class RawAuth:
    """The row of ``whatsapp_auth``.

    Attributes:
        creds: the JSON value.
        family: the recorded client family.
    """

    creds: Any = field(repr=False)
    family: str


@dataclass(frozen=True)
class RawRows:
    """All rows of a company; ``auth`` is None when it has no creds."""

    company_id: str
    keys: tuple[RawKey, ...] = field(repr=False)
    auth: RawAuth | None


@dataclass
class RawChange:
    """What to write: JSON values by key, where None deletes, and creds unless they are None."""

    keys: dict[KeyRef, Any] = field(default_factory=dict, repr=False)
    creds: Any = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.keys) or self.creds is not None


async def read_rows(rest: Rest, company_id: str) -> RawRows:
    """Read every row of a company, as it is.

    They are of one moment only if nobody writes meanwhile. Creds come last: clients store their
    counters before the keys that these count.

    Raises:
        StoreError: the database refused or did not answer.
    """
    keys = tuple([key async for key in list_keys(rest, company_id)])
    return RawRows(company_id, keys, await read_auth(rest, company_id))


async def read_auth(rest: Rest, company_id: str) -> RawAuth | None:
    """Read a company's row of creds, or None when it certainly has none.

    Raises:
        StoreError: the database refused or did not answer.
    """
    found = await rest.ask("fetch_whatsapp_creds", company_id, {})
    return None if found["creds"] is None else RawAuth(found["creds"], found["client_family"])


async def list_keys(
    rest: Rest, company_id: str, *, after: tuple[str, str] | None = None
) -> AsyncIterator[RawKey]:
    """Yield a company's key rows in the order of type and id, page by page.

    Args:
        rest: where the database is.
        company_id: the company.
        after: begin behind this type and id.

    Raises:
        StoreError: the database refused or did not answer.
    """
    async for page in list_pages(rest, "list_whatsapp_keys", company_id, lambda it: it, after):
        for key_type, key_id, stored, updated_at, expires_at in page:
            yield RawKey(KeyRef(key_type, key_id), stored, updated_at, expires_at)


async def list_pages(
    rest: Rest,
    function: str,
    company_id: str,
    rows_of: Callable[[Any], list[list[Any]]],
    after: tuple[str, str] | None = None,
) -> AsyncIterator[Any]:
    """Yield the answers of a function that lists a company's key rows, to the last one.

    Args:
        rest: where the database is.
        function: the function's name.
        company_id: the company.
        rows_of: gives the rows of an answer, each beginning with type and id.
        after: begin behind this type and id.

    Raises:
        StoreError: the database refused or did not answer.
    """
    while True:
        answer, size = await rest.rpc(
            function,
            {"p_company_id": company_id, "p_after": after, "p_limit": _PAGE},
            parse=_parse_page,
        )
        yield answer
        rows = rows_of(answer)
        if not rows or (len(rows) < _PAGE and size < _SURELY_NOT_CUT):
            return
        after = (rows[-1][0], rows[-1][1])


def _parse_page(content: bytes) -> tuple[Any, int]:
    return orjson.loads(content), len(content)


async def write_change(rest: Rest, company_id: str, change: RawChange, lease: Lease) -> None:
    """Write a change in one transaction: all of it or nothing.

    Raises:
        LeaseLost: another process owns the company, and nothing was written.
        StoreError: the database refused or did not answer.
    """
    rows = [
        {"company_id": company_id, "key_type": ref[0], "key_id": ref[1], "value": stored}
        for ref, stored in sorted(change.keys.items())
    ]
    if rows:
        await lease.writer.upsert("whatsapp_keys", rows, on_conflict="company_id,key_type,key_id")
    if change.creds is not None:
        row = {"company_id": company_id, "creds": change.creds}
        await lease.writer.upsert("whatsapp_auth", [row], on_conflict="company_id")


def back_up(rows: RawRows, folder: str | os.PathLike[str]) -> Path:
    """Write all rows to a new file, which is on disk when this returns, and return its path.

    JSON Lines, one row to a line: ``{"table": "whatsapp_keys", "row": {column: value, …}}``. The
    file gets mode 0600, a folder that has to be made 0700: both hold private keys.

    Raises:
        FolderError: it cannot be written.
    """
    path = Path(folder) / _file_name(rows.company_id)
    text = "".join(f"{dump_json(line)}\n" for line in _lines(rows))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(path, text)
        sync_folder(path.parent)
    except OSError as exc:
        raise FolderError(f"cannot write the backup {path}: {exc.strerror}") from exc
    return path


def _file_name(company_id: str) -> str:
    now = datetime.now(timezone.utc)
    return f"{quote(company_id, safe='')[:_NAME_LENGTH]}-{now:%Y%m%dT%H%M%S.%fZ}.jsonl"


def _lines(rows: RawRows) -> Iterator[Mapping[str, Any]]:
    if rows.auth is not None:
        row = {
            "company_id": rows.company_id,
            "creds": rows.auth.creds,
            "client_family": rows.auth.family,
        }
        yield {"table": "whatsapp_auth", "row": row}
    for key in rows.keys:
        row = {
            "company_id": rows.company_id,
            "key_type": key.ref.key_type,
            "key_id": key.ref.key_id,
            "value": key.stored,
            "updated_at": timestamp(key.updated_at),
            "expires_at": None if key.expires_at is None else timestamp(key.expires_at),
        }
        yield {"table": "whatsapp_keys", "row": row}
