"""Writes that wait in a journal survive SIGKILL, and are not written over another owner's."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import Stack
from faults import actions
from faults.proxy import Proxy, Request
from faults.requests import calls, is_any
from supabase_auth_state import (
    AuthState,
    ConfigurationError,
    Journal,
    JournalError,
    Rest,
    Settings,
    StoreUnavailable,
    use_supabase_auth_state,
)
from tests.integration.conftest import StartReleased

PROGRAM = Path(__file__).with_name("journal_process.py")
KEY = bytes(32)
CREDS = 1000
"""How many bytes creds take at least, which are written last."""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal", KEY)


@asynccontextmanager
async def killed_while_writing(
    stack: Stack, company_id: str, journal: Journal
) -> AsyncIterator[None]:
    """Let a process wait for Supabase with four writes, and kill it."""
    async with Proxy(stack.url) as proxy:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), proxy.url, company_id, str(journal.directory),
            env={"SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.stdout.readline() == b"open\n"
        [path] = files(journal)
        empty = path.stat().st_size
        proxy.on(is_any, actions.dropped)
        process.stdin.write(b"write\n")
        while path.stat().st_size < empty + 3 * 100 + CREDS:
            await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        yield


def files(journal: Journal) -> list[Path]:
    return list(Path(journal.directory).glob("*.journal*"))


def opened(rest: Rest, company_id: str, journal: Journal | None, **more: Any) -> Any:
    options = {"lease": True, "owner": "one", **more}
    return use_supabase_auth_state(company_id, client=rest, journal=journal, **options)


def expire(db: psycopg.Connection[Any], company_id: str) -> None:
    db.execute("update whatsapp_leases set expires_at = now() where company_id = %s", [company_id])


async def version(auth: AuthState) -> str | None:
    found = await auth.keys.get("session", ["1.0"])
    return found["1.0"]["version"] if found else None


async def test_what_waited_is_written_by_the_next_process(
    stack: Stack, rest: Rest, company_id: str, journal: Journal
) -> None:
    async with killed_while_writing(stack, company_id, journal):
        pass
    async with opened(rest, company_id, journal) as auth:
        assert await version(auth) == "v2"
        assert auth.creds["nextPreKeyId"] == 77
        await auth.keys.set({"session": {"1.0": {"_sessions": {}, "version": "later"}}})
    assert files(journal) == []
    async with opened(rest, company_id, journal) as auth:
        assert await version(auth) == "later"


async def test_what_waited_is_written_after_openings_that_broke_off(
    stack: Stack, rest: Rest, company_id: str, journal: Journal
) -> None:
    async with killed_while_writing(stack, company_id, journal):
        pass
    written: list[Request] = []

    def is_second_write(request: Request) -> bool:
        if "whatsapp_keys" in request.path:
            written.append(request)
        return len(written) > 1

    async with Proxy(stack.url) as proxy:
        settings = Settings(proxy.url, stack.service_role_key, timeout=1, give_up_after=1)
        for broken, fault in (
            (calls("acquire_whatsapp_lease"), actions.answer_lost),
            (calls("acquire_whatsapp_lease"), actions.dropped),
            (is_second_write, actions.dropped),
        ):
            rule = proxy.on(broken, fault)
            with pytest.raises(StoreUnavailable):
                await use_supabase_auth_state(
                    company_id, settings=settings, lease=True, owner="one", journal=journal
                )
            rule.end()
    assert len(written) > 1
    async with opened(rest, company_id, journal) as auth:
        assert await version(auth) == "v2"
        assert auth.creds["nextPreKeyId"] == 77
    assert files(journal) == []


@pytest.mark.parametrize("lease", [True, False])
async def test_after_another_process_has_written_it_is_put_aside(
    stack: Stack, rest: Rest, company_id: str, journal: Journal, lease: bool,
    db: psycopg.Connection[Any],
) -> None:  # fmt: skip
    async with killed_while_writing(stack, company_id, journal):
        expire(db, company_id)
        other = {"lease": lease, "owner": "two" if lease else None}
        async with opened(rest, company_id, None, **other) as auth:
            await auth.keys.set({"session": {"1.0": {"_sessions": {}, "version": "another"}}})
    with pytest.raises(JournalError, match="another process has owned or written") as raised:
        await opened(rest, company_id, journal)
    assert raised.value.path.exists()
    async with opened(rest, company_id, journal) as auth:
        assert await version(auth) == "another"
    assert raised.value.path.exists()


OLD_WRITES: dict[str, list[list[Any]]] = {
    "a value": [["set", {"session": {"1.0": {"by": "old"}}}]],
    "only a deletion": [["set", {"session": {"9.9": None}}]],
    "creds": [["count", 31]],
}


@pytest.mark.parametrize(
    ("writes", "lease"), [("a value", ("lease",)), *((writes, ()) for writes in OLD_WRITES)]
)
async def test_after_a_client_of_02_has_written_it_is_put_aside(
    stack: Stack, rest: Rest, company_id: str, journal: Journal, db: psycopg.Connection[Any],
    released: StartReleased, writes: str, lease: tuple[str, ...],
) -> None:  # fmt: skip
    async with killed_while_writing(stack, company_id, journal):
        expire(db, company_id)
        old = await released(*lease)
        assert await old.answer() == "open 0.2.0"
        for command in OLD_WRITES[writes]:
            assert await old(*command) is None
        await old("close")
    before = rows(db, company_id)
    with pytest.raises(JournalError, match="another process has owned or written"):
        await opened(rest, company_id, journal)
    assert rows(db, company_id) == before


async def test_what_a_client_of_02_wrote_before_the_journal_began_is_no_obstacle(
    stack: Stack, rest: Rest, company_id: str, journal: Journal, released: StartReleased
) -> None:
    old = await released()
    assert await old.answer() == "open 0.2.0"
    assert await old("set", {"session": {"1.0": {"by": "old"}}}) is None
    await old("close")
    async with killed_while_writing(stack, company_id, journal):
        pass
    async with opened(rest, company_id, journal) as auth:
        assert await version(auth) == "v2"


def rows(db: psycopg.Connection[Any], company_id: str) -> list[Any]:
    return db.execute(
        "select key_id, value from whatsapp_keys where company_id = %s union all "
        "select '', creds from whatsapp_auth where company_id = %s order by 1",
        [company_id] * 2,
    ).fetchall()


async def test_a_journal_without_a_lease_is_refused(
    rest: Rest, company_id: str, journal: Journal
) -> None:
    with pytest.raises(ConfigurationError, match="needs lease=True"):
        await opened(rest, company_id, journal, lease=False)


async def test_a_journal_that_is_in_use_takes_no_lease(
    rest: Rest, company_id: str, journal: Journal
) -> None:
    async with opened(rest, company_id, journal) as auth:
        assert auth.lease is not None
        with pytest.raises(JournalError, match="another process uses"):
            await opened(rest, company_id, journal)
        await auth.lease.renew()
