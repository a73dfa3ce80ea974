"""A request that was given up, or whose retry was answered, lands at any later moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from devstack import Stack
from faults.actions import doubled, held
from faults.proxy import Landing, Proxy
from faults.requests import calls, every, is_write, of_company
from supabase_auth_state import (
    AuthState,
    Rest,
    StoreUnavailable,
    SupabaseAuthStateError,
    use_supabase_auth_state,
)
from tests.attacks.conftest import Open
from tests.attacks.world import (
    OTHER,
    SESSION,
    WRITES,
    Db,
    contents,
    creds,
    difference,
    expire,
    little_patience,
    outcome,
    problems_of,
    read,
    seed,
    session,
    set_every_key,
)

Write = Callable[[AuthState, str], Awaitable[None]]
Since = Callable[[AuthState, Rest], Awaitable[AuthState]]

# What happens between the end of the attempt and the landing; each gives the client to read with.


async def nothing(auth: AuthState, direct: Rest) -> AuthState:
    return auth


async def its_client_reads(auth: AuthState, direct: Rest) -> AuthState:
    await read(auth)
    return auth


async def its_client_writes_another_key(auth: AuthState, direct: Rest) -> AuthState:
    await auth.keys.set({"session": {OTHER: session("second")}})
    return auth


async def its_client_writes_the_same_keys(auth: AuthState, direct: Rest) -> AuthState:
    await set_every_key(auth, "newer")
    auth.creds["nextPreKeyId"] = 999
    await auth.save_creds()
    return auth


async def its_client_clears(auth: AuthState, direct: Rest) -> AuthState:
    await auth.keys.clear()
    return auth


async def its_client_saves_creds(auth: AuthState, direct: Rest) -> AuthState:
    auth.creds["nextPreKeyId"] = 999
    await auth.save_creds()
    return auth


async def it_is_opened_again(auth: AuthState, direct: Rest) -> AuthState:
    await auth.close()
    again = await use_supabase_auth_state(
        auth.company_id, client=direct, lease=auth.lease is not None
    )
    await read(again)
    return again


async def an_owner_came_and_went(auth: AuthState, direct: Rest) -> AuthState:
    if auth.lease is not None:
        await auth.close()
    async with use_supabase_auth_state(auth.company_id, client=direct, lease=True) as owner:
        await owner.keys.set({"session": {OTHER: session("owner")}})
    return await use_supabase_auth_state(auth.company_id, client=direct)


async def another_writer_wrote_another_key(auth: AuthState, direct: Rest) -> AuthState:
    other = await use_supabase_auth_state(auth.company_id, client=direct)
    await other.keys.set({"session": {OTHER: session("other")}})
    return other


async def two_other_writers_wrote_in_turn(auth: AuthState, direct: Rest) -> AuthState:
    others = [await use_supabase_auth_state(auth.company_id, client=direct) for _ in range(2)]
    for number in range(4):
        await others[number % 2].keys.set({"session": {OTHER: session(f"other {number}")}})
    return others[0]


ALONE: list[Since] = [
    nothing, its_client_reads, its_client_writes_another_key, its_client_writes_the_same_keys,
    its_client_clears, its_client_saves_creds, it_is_opened_again, an_owner_came_and_went,
]  # fmt: skip
WITH_OTHERS: list[Since] = [another_writer_wrote_another_key, two_other_writers_wrote_in_turn]
CASES = [
    *((since, lease) for since in ALONE for lease in (False, True)),
    *((since, False) for since in WITH_OTHERS),
]


@pytest.mark.parametrize(
    ("since", "lease"),
    CASES,
    ids=[f"{since.__name__}, {'lease' if lease else 'no lease'}" for since, lease in CASES],
)
async def test_a_request_that_was_given_up_changes_nothing_any_more(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str,
    since: Since, lease: bool,
) -> None:  # fmt: skip
    async def attack(write: Write, *, rows: bool) -> str | None:
        company = f"{company_id}-{write.__name__}-{rows}"
        auth = await open_auth(company, lease=lease)
        if rows:
            await seed(auth)
        landing = Landing()
        rule = proxy.on(every(is_write, of_company(company)), held(landing))
        with little_patience(auth):
            ended = await outcome(write(auth, "late"))
        if not isinstance(ended.error, StoreUnavailable):
            return f"{ended}, though no request got through"
        rule.end()
        return await compare(db, await since(auth, direct), landing)

    attacks = (
        (f"{write.__name__}, {'rows' if rows else 'no rows'}", attack(write, rows=rows))
        for write in WRITES
        for rows in (False, True)
    )
    assert await problems_of(attacks) == {}


@pytest.mark.parametrize("doubling", [held, doubled], ids=["answered to a retry", "sent twice"])
@pytest.mark.parametrize(
    ("since", "lease"),
    CASES,
    ids=[f"{since.__name__}, {'lease' if lease else 'no lease'}" for since, lease in CASES],
)
async def test_a_copy_of_an_acknowledged_request_changes_nothing_any_more(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str,
    since: Since, lease: bool, doubling: Any,
) -> None:  # fmt: skip
    async def attack(write: Write) -> str | None:
        company = f"{company_id}-{write.__name__}"
        auth = await open_auth(company, lease=lease)
        await seed(auth)
        landing = Landing()
        proxy.on(every(is_write, of_company(company)), doubling(landing), times=1)
        ended = await outcome(write(auth, "copied"))
        if not ended.acknowledged:
            return f"{ended}, though only its first request was disturbed"
        return await compare(db, await since(auth, direct), landing)

    assert await problems_of((write.__name__, attack(write)) for write in WRITES) == {}


async def compare(db: Db, reader: AuthState, landing: Landing) -> str | None:
    """Let the request land; say what it changed, and what the reader says that is not so."""
    company = reader.company_id
    before = await asyncio.to_thread(contents, db, company)
    remembered = await read(reader)
    await landing.land()
    after = await asyncio.to_thread(contents, db, company)
    again = await read(reader)
    await reader.close()
    return (
        difference("changed in the tables", before, after)
        or difference("read, and not so in the tables", remembered, after)
        or difference("read again", remembered, again)
    )


@pytest.mark.parametrize("lease", [False, True], ids=["no lease", "lease"])
async def test_what_an_abandoned_process_sent_changes_nothing_once_another_has_the_company(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str, lease: bool
) -> None:
    async def attack(write: Write) -> str | None:
        company = f"{company_id}-{write.__name__}"
        auth = await open_auth(company, lease=lease)
        await seed(auth)
        landing = Landing()
        rule = proxy.on(every(is_write, of_company(company)), held(landing))
        with little_patience(auth):
            writing = asyncio.ensure_future(write(auth, "late"))
            await rule.reached()
            # The process is gone with what it holds; its lease ends by itself.
            expire(db, company)
            next_owner = await use_supabase_auth_state(company, client=direct, lease=True)
            await set_all(next_owner)
            problem = await compare(db, next_owner, landing)
            await outcome(writing)
        return problem

    assert await problems_of((write.__name__, attack(write)) for write in WRITES) == {}


async def set_all(auth: AuthState) -> None:
    await set_every_key(auth, "next")
    auth.creds["nextPreKeyId"] = 999
    await auth.save_creds()


async def test_fresh_creds_that_were_given_up_do_not_land_in_a_company_that_was_seen_empty(
    proxy: Proxy, impatient: Rest, db: Db, company_id: str
) -> None:
    landing = Landing()
    proxy.on(is_write, held(landing))
    with pytest.raises(StoreUnavailable):
        await use_supabase_auth_state(company_id, client=impatient)
    assert contents(db, company_id) == {"creds": None}
    await landing.land()
    assert contents(db, company_id) == {"creds": None}


@pytest.mark.parametrize("lease", [False, True], ids=["no lease", "lease"])
async def test_fresh_creds_that_land_late_do_not_replace_another_identity(
    proxy: Proxy, impatient: Rest, direct: Rest, db: Db, company_id: str, lease: bool
) -> None:
    landing = Landing()
    proxy.on(is_write, held(landing))
    with pytest.raises(StoreUnavailable):
        await use_supabase_auth_state(
            company_id, client=impatient, lease=lease, new_creds=lambda: creds(1)
        )
    async with use_supabase_auth_state(
        company_id, client=direct, lease=lease, new_creds=lambda: creds(2)
    ) as auth:
        assert auth.creds["nextPreKeyId"] == 2
        await landing.land()
        assert contents(db, company_id)["creds"] == "2"


@pytest.mark.parametrize("lease", [False, True], ids=["no lease", "lease"])
async def test_a_write_that_waits_in_the_database_until_it_is_given_up_is_not_stored(
    open_auth: Open, stack: Stack, db: Db, company_id: str, lease: bool
) -> None:
    auth = await open_auth(lease=lease)
    await seed(auth)
    before = contents(db, company_id)
    with psycopg.connect(stack.db_url) as maintenance:
        maintenance.execute(
            "select from whatsapp_keys where company_id = %s for update", [company_id]
        )
        with little_patience(auth), pytest.raises(StoreUnavailable):
            await auth.keys.set({"session": {SESSION: session("late")}})
        assert contents(db, company_id) == before
    await until_no_request_works(db)
    assert contents(db, company_id) == before
    assert await read(auth) | {"creds": before["creds"]} == before


async def until_no_request_works(db: Db) -> None:
    query = (
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and usename = 'authenticator' and state = 'active'"
    )
    while db.execute(query).fetchone() != (0,):
        await asyncio.sleep(0.01)


async def test_a_clear_whose_snapshot_is_older_than_a_write_it_waited_for_deletes_that_write_too(
    open_auth: Open, proxy: Proxy, stack: Stack, db: Db, company_id: str
) -> None:
    auth = await open_auth()
    await seed(auth)
    with psycopg.connect(stack.db_url) as writer:
        writer.execute(
            "insert into whatsapp_keys values (%s, 'session', 'while it waits', '{}')",
            [company_id],
        )
        clearing = asyncio.ensure_future(auth.keys.clear())
        waiting = "select count(*) from pg_locks where not granted"
        while db.execute(waiting).fetchone() == (0,) and not clearing.done():
            await asyncio.sleep(0.01)
        writer.commit()
    await clearing
    assert list(contents(db, company_id)) == ["creds"]


@pytest.mark.parametrize("ending", ["closes", "dies"])
async def test_a_client_without_a_lease_is_refused_once_another_has_owned_the_company(
    open_auth: Open, direct: Rest, db: Db, company_id: str, ending: str
) -> None:
    before = await open_auth()
    owner = await use_supabase_auth_state(company_id, client=direct, lease=True)
    during = await open_auth()
    await set_all(owner)
    if ending == "closes":
        await owner.close()
    else:
        expire(db, company_id)
    after = await open_auth()
    stored = contents(db, company_id)
    for auth in (before, during):
        for write in WRITES:
            assert isinstance((await outcome(write(auth, "old"))).error, SupabaseAuthStateError)
    assert contents(db, company_id) == stored
    await after.keys.set({"session": {SESSION: session("after")}})
    await owner.close()


async def test_a_client_that_was_silent_for_longer_than_it_is_remembered_goes_on(
    open_auth: Open, proxy: Proxy, direct: Rest, db: Db, company_id: str
) -> None:
    for lease in (False, True):
        company = f"{company_id}-{lease}"
        auth = await open_auth(company, lease=lease)
        await auth.keys.set({"session": {SESSION: session("before")}})
        db.execute(
            "update whatsapp_writers set lands_until = lands_until - interval '30 days' "
            "where company_id = %s",
            [company],
        )
        if not lease:
            other = await use_supabase_auth_state(company, client=direct)
            await other.keys.set({"session": {OTHER: session("other")}})
        await auth.keys.set({"session": {SESSION: session("after")}})
        await auth.save_creds()
        assert (await read(auth))[f"session {SESSION}"] == session("after")


@pytest.mark.parametrize("doubling", [held, doubled], ids=["held", "doubled"])
async def test_the_fence_itself_may_land_late_or_twice(
    open_auth: Open, proxy: Proxy, db: Db, company_id: str, doubling: Any
) -> None:
    auth = await open_auth(lease=True)
    await seed(auth)
    landing = Landing()
    blocked = proxy.on(is_write, held(landing))
    with little_patience(auth), pytest.raises(StoreUnavailable):
        await auth.keys.set({"session": {SESSION: session("late")}})
    blocked.end()
    fence = proxy.on(calls("fence"), doubling(landing), times=1)
    found = await read(auth)
    assert fence.met, "nothing was sent between an unknown outcome and the read after it"
    await auth.keys.set({"session": {OTHER: session("second")}})
    await landing.land()
    stored = contents(db, company_id)
    assert stored[f"session {SESSION}"] == found[f"session {SESSION}"]
    assert stored[f"session {OTHER}"] == session("second")


async def test_nothing_is_read_as_long_as_an_unknown_outcome_cannot_be_settled(
    open_auth: Open, proxy: Proxy, db: Db, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    await seed(auth)
    landing = Landing()
    proxy.on(is_write, held(landing))
    proxy.on(calls("fence"), held(landing))
    with little_patience(auth), pytest.raises(StoreUnavailable):
        await auth.keys.set({"session": {SESSION: session("late")}})
    with little_patience(auth), pytest.raises(StoreUnavailable):
        await auth.keys.get("session", [SESSION])
    proxy.clear()
    assert await read(auth) | {"creds": None} == contents(db, company_id) | {"creds": None}
