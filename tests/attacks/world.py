"""What the attacks have in common: values, the writes that are attacked, and the tables."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from supabase_auth_state import AuthState, init_auth_creds

Db = psycopg.Connection[Any]

SESSION = "15550100001.0"
OTHER = "15550100002.0"
GROUP = "120363000000000010@g.us"


def session(tag: str) -> dict[str, Any]:
    """A value of the key type `session` that can be told from others."""
    return {"_sessions": {"base": {}}, "version": tag}


def creds(tag: int) -> dict[str, Any]:
    """Fresh creds that can be told from others by their nextPreKeyId."""
    return {**init_auth_creds(), "nextPreKeyId": tag}


def contents(db: Db, company_id: str) -> dict[str, Any]:
    """Everything that is stored of a company: values by type and id, and ``nextPreKeyId``."""
    found = db.execute(
        "select key_type || ' ' || key_id, value from whatsapp_keys where company_id = %s",
        [company_id],
    ).fetchall()
    row = db.execute(
        "select creds ->> 'nextPreKeyId' from whatsapp_auth where company_id = %s", [company_id]
    ).fetchone()
    return {**dict(found), "creds": None if row is None else row[0]}


TABLES = (
    "whatsapp_auth", "whatsapp_keys", "whatsapp_creds_history", "whatsapp_quarantine",
    "whatsapp_quarantine_keys", "whatsapp_pauses",
)  # fmt: skip
"""The tables that hold what is stored of a company, and what is kept of it."""


def everything(db: Db, company_id: str, *, tables: Iterable[str] = TABLES) -> list[list[Any]]:
    """Every row of a company, table by table."""
    query = sql.SQL("select to_jsonb(t) from {} t where company_id = %s order by 1")
    return [
        db.execute(query.format(sql.Identifier(table)), [company_id]).fetchall() for table in tables
    ]


def lease_of(db: Db, company_id: str) -> tuple[str | None, bool]:
    """The owner of a company, and whether its lease lasts."""
    row = db.execute(
        "select owner, expires_at > clock_timestamp() from whatsapp_leases where company_id = %s",
        [company_id],
    ).fetchone()
    return (None, False) if row is None or row[0] is None else (row[0], row[1])


def expire(db: Db, company_id: str) -> None:
    """End a lease as the time would."""
    db.execute(
        "update whatsapp_leases set expires_at = clock_timestamp() - interval '1 second' "
        "where company_id = %s",
        [company_id],
    )


def difference(what: str, before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """Say which values differ; of creds only where both have them."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if "creds" in names and not ("creds" in before and "creds" in after):
        names.remove("creds")
    shown = ", ".join(f"{name}: {before.get(name)} -> {after.get(name)}" for name in names)
    return f"{what}: {shown}" if names else None


async def read(auth: AuthState) -> dict[str, Any]:
    """What a client reads of the values that the attacks write, as `contents` gives them."""
    found = {}
    for key_type, ids in (("session", [SESSION, OTHER]), ("sender-key-memory", [GROUP])):
        values = await auth.keys.get(key_type, ids)
        found |= {f"{key_type} {key_id}": value for key_id, value in values.items()}
    return found


@contextmanager
def little_patience(auth: AuthState) -> Iterator[None]:
    """Let what is attempted meanwhile be given up after half a second, and nothing else."""
    sender = auth.keys._rest._sender
    patience = sender._timeout, sender._give_up_after
    sender._timeout = sender._give_up_after = 0.5
    try:
        yield
    finally:
        sender._timeout, sender._give_up_after = patience


async def set_one(auth: AuthState, tag: str) -> None:
    """Write one session."""
    await auth.keys.set({"session": {SESSION: session(tag)}})


async def set_two_types(auth: AuthState, tag: str) -> None:
    """Write one value and delete another."""
    await auth.keys.set({"session": {SESSION: session(tag)}, "sender-key-memory": {GROUP: None}})


async def delete_one(auth: AuthState, tag: str) -> None:
    """Delete one session."""
    await auth.keys.set({"session": {SESSION: None}})


async def clear(auth: AuthState, tag: str) -> None:
    """Delete every key."""
    await auth.keys.clear()


async def save_creds(auth: AuthState, tag: str) -> None:
    """Save creds that can be told from others."""
    auth.creds["nextPreKeyId"] = 100 + len(tag)
    await auth.save_creds()


WRITES: list[Callable[[AuthState, str], Awaitable[None]]] = [
    set_one, set_two_types, delete_one, clear, save_creds,
]  # fmt: skip
"""Every way to write through an open auth state; each takes a tag that the value shows."""


async def seed(auth: AuthState) -> None:
    """Store what the writes of the attacks replace or delete."""
    await set_every_key(auth, "first")


async def set_every_key(auth: AuthState, tag: str) -> None:
    """Write every key that the attacks write."""
    sessions = {SESSION: session(tag), OTHER: session(tag)}
    await auth.keys.set({"session": sessions, "sender-key-memory": {GROUP: {tag: True}}})


@dataclass(frozen=True)
class Outcome:
    """How something ended that was attempted.

    Attributes:
        error: what it raised, or None.
    """

    error: BaseException | None

    @property
    def acknowledged(self) -> bool:
        return self.error is None

    def __str__(self) -> str:
        return "acknowledged" if self.error is None else type(self.error).__name__


async def outcome(attempt: Awaitable[object]) -> Outcome:
    """Wait for an attempt and say how it ended; a cancellation of the test itself passes."""
    task = asyncio.ensure_future(attempt)
    await asyncio.wait({task})
    if task.cancelled():
        return Outcome(asyncio.CancelledError())
    return Outcome(task.exception())


async def problems_of(
    cases: Iterable[tuple[str, Awaitable[str | None]]], *, at_once: int = 16
) -> dict[str, str]:
    """Run cases at the same time; return what is wrong by the name of the case, if anything is."""
    places = asyncio.Semaphore(at_once)

    async def run(name: str, case: Awaitable[str | None]) -> tuple[str, str | None]:
        async with places:
            try:
                return name, await case
            except Exception as error:  # noqa: BLE001 - it is told like everything that is wrong
                return name, f"{type(error).__module__}.{type(error).__name__}: {error}"

    found = await asyncio.gather(*(run(name, case) for name, case in cases))
    return {name: problem for name, problem in found if problem}
