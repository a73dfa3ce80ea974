"""What an owner answers from memory is what the tables hold, or held while it was asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from faults.actions import answer_delayed, answer_lost, delayed, dropped, held
from faults.proxy import Landing, Proxy
from faults.requests import calls, every, is_read, is_write
from supabase_auth_state import AuthState, Rest, use_supabase_auth_state
from tests.attacks.conftest import Open
from tests.attacks.world import (
    OTHER,
    SESSION,
    WRITES,
    Db,
    contents,
    difference,
    expire,
    little_patience,
    outcome,
    problems_of,
    read,
    seed,
    session,
)


async def session_of(auth: AuthState, key_id: str) -> Any:
    """The text by which a session is told from others."""
    found = await auth.keys.get("session", [key_id])
    return found[key_id]["version"] if found else None


async def test_a_read_from_memory_and_table_sees_all_of_a_set_or_nothing(
    proxy: Proxy, open_auth: Open
) -> None:
    auth = await open_auth(lease=True)
    await auth.keys.set({"session": {SESSION: session("old"), OTHER: session("old")}})
    await auth.close()
    auth = await open_auth(lease=True)
    # Only one of the two is remembered.
    await auth.keys.get("session", [SESSION])
    event = asyncio.Event()
    writing = proxy.on(is_write, answer_delayed(event), times=1)
    setting = asyncio.ensure_future(
        auth.keys.set({"session": {SESSION: session("new"), OTHER: session("new")}})
    )
    await writing.reached()
    await proxy.quiet()
    found = await auth.keys.get("session", [SESSION, OTHER])
    event.set()
    await setting
    assert len({value["version"] for value in found.values()}) == 1


async def test_a_value_that_was_read_once_is_not_followed_by_the_one_before_it(
    proxy: Proxy, open_auth: Open
) -> None:
    auth = await open_auth(lease=True)
    await auth.keys.set({"session": {SESSION: session("old")}})
    await auth.close()
    auth = await open_auth(lease=True)
    read_answer, write_answer = asyncio.Event(), asyncio.Event()
    slow = proxy.on(is_read, answer_delayed(read_answer), times=1)
    first = asyncio.ensure_future(auth.keys.get("session", [SESSION]))
    await slow.reached()
    await proxy.quiet()
    writing = proxy.on(is_write, answer_delayed(write_answer), times=1)
    setting = asyncio.ensure_future(auth.keys.set({"session": {SESSION: session("new")}}))
    await writing.reached()
    await proxy.quiet()
    seen = await session_of(auth, SESSION)
    read_answer.set()
    await first
    seen_after = await session_of(auth, SESSION)
    write_answer.set()
    await setting
    assert (seen, seen_after) != ("new", "old")


async def test_a_write_answered_after_the_lease_had_lapsed_is_not_remembered_over_a_later_one(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    await seed(auth)
    event = asyncio.Event()
    writing = proxy.on(is_write, answer_delayed(event), times=1)
    setting = asyncio.ensure_future(auth.keys.set({"session": {SESSION: session("mine")}}))
    await writing.reached()
    await proxy.quiet()
    expire(db, company_id)
    other = await use_supabase_auth_state(company_id, client=direct)
    await other.keys.set({"session": {SESSION: session("other")}})
    await auth.lease.renew()
    event.set()
    await setting
    assert await session_of(auth, SESSION) == "other"


async def test_a_read_answered_after_the_lease_had_lapsed_is_not_remembered(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    await auth.keys.set({"session": {SESSION: session("mine")}})
    event = asyncio.Event()
    reading = proxy.on(is_read, answer_delayed(event), times=1)
    getting = asyncio.ensure_future(auth.keys.get("session", [OTHER]))
    await reading.reached()
    await proxy.quiet()
    expire(db, company_id)
    other = await use_supabase_auth_state(company_id, client=direct)
    await other.keys.set({"session": {OTHER: session("other")}})
    await auth.lease.renew()
    event.set()
    await getting
    assert await session_of(auth, OTHER) == "other"


@pytest.mark.parametrize("fault", [answer_lost, dropped], ids=["executed", "not executed"])
async def test_a_renewal_whose_answer_was_lost_does_not_hide_that_the_lease_had_lapsed(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str, fault: Any
) -> None:
    for background in (False, True):
        company = f"{company_id}-{background}"
        auth = await open_auth(company, lease=True, lease_ttl=3 if background else 30)
        await auth.keys.set({"session": {SESSION: session("mine")}})
        expire(db, company)
        other = await use_supabase_auth_state(company, client=direct)
        await other.keys.set({"session": {SESSION: session("other")}})
        renewals = proxy.on(calls("renew"), fault, times=1)
        if background:
            await renewals.reached()
            await until_renewed(db, company)
        else:
            await auth.lease.renew()
        assert renewals.met
        # The renewal's answer may still be on its way to the client.
        while not auth.lease.lapses:
            await asyncio.sleep(0.01)
        assert await session_of(auth, SESSION) == "other"


async def until_renewed(db: Db, company_id: str) -> None:
    query = "select from whatsapp_leases where company_id = %s and expires_at > clock_timestamp()"
    while db.execute(query, [company_id]).rowcount != 1:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("moment", ["before", "while", "after"])
async def test_a_caller_that_goes_leaves_a_write_that_its_owner_reads_as_the_tables_hold_it(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, moment: str
) -> None:
    async def attack(company: str, write: Any) -> str | None:
        auth = await open_auth(company, lease=True)
        await seed(auth)
        await read(auth)
        event = asyncio.Event()
        about = every(is_write, lambda request: company.encode() in request.body)
        rule = proxy.on(about, (answer_delayed if moment == "after" else delayed)(event), times=1)
        writing = asyncio.ensure_future(write(auth, "new"))
        if moment == "before":
            await asyncio.sleep(0)
        else:
            await rule.reached()
            await proxy.quiet()
        writing.cancel()
        ended = await outcome(writing)
        event.set()
        if not isinstance(ended.error, asyncio.CancelledError):
            return str(ended)
        await auth.keys.settle()
        stored = await asyncio.to_thread(contents, db, company)
        return difference("read, and not so in the tables", await read(auth), stored)

    attacks = (
        (write.__name__, attack(f"{company_id}-{write.__name__}", write)) for write in WRITES
    )
    assert await problems_of(attacks) == {}


@pytest.mark.parametrize("began", ["before the write", "after it"])
async def test_a_read_that_was_under_way_when_a_write_was_given_up_is_not_remembered(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, began: str
) -> None:
    auth = await open_auth(lease=True)
    event, landing = asyncio.Event(), Landing()

    async def read_slowly() -> asyncio.Future[Any]:
        slow = proxy.on(is_read, answer_delayed(event), times=1)
        getting = asyncio.ensure_future(auth.keys.get("session", [SESSION]))
        await slow.reached()
        await proxy.quiet()
        return getting

    if began == "before the write":
        getting = await read_slowly()
    writes = proxy.on(is_write, held(landing))
    with little_patience(auth):
        setting = asyncio.ensure_future(auth.keys.set({"session": {SESSION: session("new")}}))
        await writes.reached()
    if began == "after it":
        getting = await read_slowly()
    await landing.land()
    if began == "before the write":
        event.set()
    await outcome(setting)
    event.set()
    await outcome(getting)
    writes.end()
    assert difference("read", await read(auth), contents(db, company_id)) is None


@pytest.mark.parametrize("lease", [False, True], ids=["no lease", "lease"])
async def test_creds_that_are_saved_while_keys_are_written_are_not_stored_without_them(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, lease: bool
) -> None:
    auth = await open_auth(lease=lease)
    writes = proxy.on(is_write, dropped)
    with little_patience(auth):
        setting = asyncio.ensure_future(auth.keys.set({"session": {SESSION: session("new")}}))
        await writes.reached()
        auth.creds["nextPreKeyId"] = 31
        saving = asyncio.ensure_future(auth.save_creds())
        assert not (await outcome(setting)).acknowledged
        writes.end()
        await outcome(saving)
    assert contents(db, company_id)["creds"] != "31"


async def test_creds_are_never_stored_before_the_keys_that_they_count(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str
) -> None:
    async def attack(lease: bool, fault: Any) -> str | None:
        company = f"{company_id}-{lease}-{getattr(fault, '__name__', 'held')}"
        auth = await open_auth(company, lease=lease)
        about = every(
            is_write,
            lambda request: "whatsapp_keys" in request.path and company.encode() in request.body,
        )
        proxy.on(about, fault)
        auth.creds["nextPreKeyId"] = 31
        with little_patience(auth):
            ended = await asyncio.gather(
                outcome(auth.keys.set({"session": {SESSION: session("new")}})),
                outcome(auth.save_creds()),
            )
        stored = await asyncio.to_thread(contents, db, company)
        if f"session {SESSION}" not in stored and stored["creds"] == "31":
            return f"creds stored, keys not: {[str(one) for one in ended]}"
        return None

    faults = [dropped, answer_lost, held(Landing())]
    attacks = (
        (f"{fault.__name__}, lease: {lease}", attack(lease, fault))
        for lease in (False, True)
        for fault in faults
    )
    assert await problems_of(attacks) == {}
