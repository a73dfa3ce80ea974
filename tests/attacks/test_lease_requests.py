"""Requests about leases that come late or twice, and openings that are given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from faults.actions import answer_lost, answered, delayed, doubled, held
from faults.proxy import Landing, Proxy
from faults.requests import calls, is_any, is_lease, is_read, is_write
from supabase_auth_state import (
    AuthState,
    LeaseHeld,
    LeaseLost,
    Rest,
    Settings,
    StoreUnavailable,
    open_rest,
    use_supabase_auth_state,
)
from tests.attacks.conftest import Open
from tests.attacks.world import SESSION, Db, contents, expire, lease_of, outcome, session

COPIES = [held, doubled]
COPY_IDS = ["answered to a retry", "sent twice"]


async def write(auth: AuthState, tag: str) -> None:
    await auth.keys.set({"session": {SESSION: session(tag)}})


# Copies of a request that was answered


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
async def test_an_acquire_that_is_executed_twice_leaves_its_process_the_owner(
    proxy: Proxy, open_auth: Open, direct: Rest, company_id: str, copied: Any
) -> None:
    landing = Landing()
    proxy.on(calls("acquire"), copied(landing), times=1)
    auth = await open_auth(lease=True)
    await write(auth, "first")
    await landing.land()
    await write(auth, "second")
    assert not auth.lease.lost.is_set()
    await auth.close()
    async with use_supabase_auth_state(company_id, client=direct, lease=True) as again:
        await write(again, "third")


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
async def test_an_acquire_that_lands_after_the_release_leaves_the_company_free(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str, copied: Any
) -> None:
    landing = Landing()
    proxy.on(calls("acquire"), copied(landing), times=1)
    auth = await open_auth(lease=True)
    await auth.close()
    await landing.land()
    assert lease_of(db, company_id) == (None, False)


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
@pytest.mark.parametrize("owner", [None, "the same name"], ids=["another name", "the same name"])
async def test_an_acquire_that_lands_while_another_owns_the_company_changes_nothing(
    proxy: Proxy, open_auth: Open, direct: Rest, company_id: str, copied: Any, owner: str | None
) -> None:
    landing = Landing()
    proxy.on(calls("acquire"), copied(landing), times=1)
    auth = await open_auth(lease=True, owner=owner)
    await auth.close()
    async with use_supabase_auth_state(company_id, client=direct, lease=True, owner=owner) as other:
        await write(other, "before")
        await landing.land()
        await write(other, "after")
        assert not other.lease.lost.is_set()


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
async def test_an_acquire_that_lands_after_another_owner_came_and_went_leaves_the_company_free(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str, copied: Any
) -> None:
    landing = Landing()
    proxy.on(calls("acquire"), copied(landing), times=1)
    await (await open_auth(lease=True)).close()
    await (await use_supabase_auth_state(company_id, client=direct, lease=True)).close()
    await landing.land()
    assert lease_of(db, company_id) == (None, False)


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
async def test_a_release_that_lands_late_ends_no_later_lease_of_the_same_process(
    proxy: Proxy, open_auth: Open, company_id: str, copied: Any
) -> None:
    landing = Landing()
    auth = await open_auth(lease=True, owner="one name")
    proxy.on(calls("release"), copied(landing), times=1)
    await auth.close()
    again = await open_auth(lease=True, owner="one name")
    await write(again, "before")
    await landing.land()
    await write(again, "after")
    await again.lease.renew()


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
async def test_a_renewal_that_lands_after_the_release_leaves_the_company_free(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, copied: Any
) -> None:
    landing = Landing()
    auth = await open_auth(lease=True)
    proxy.on(calls("renew"), copied(landing), times=1)
    await auth.lease.renew()
    await auth.close()
    await landing.land()
    assert lease_of(db, company_id) == (None, False)


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
async def test_a_renewal_that_lands_while_another_owns_the_company_changes_nothing(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str, copied: Any
) -> None:
    landing = Landing()
    auth = await open_auth(lease=True)
    proxy.on(calls("renew"), copied(landing), times=1)
    await auth.lease.renew()
    expire(db, company_id)
    async with use_supabase_auth_state(company_id, client=direct, lease=True) as other:
        owner = lease_of(db, company_id)
        await landing.land()
        assert lease_of(db, company_id) == owner
        await write(other, "after")
        with pytest.raises(LeaseLost):
            await write(auth, "late")


# Requests that were given up


async def test_an_acquire_that_was_given_up_takes_no_lease_any_more(
    proxy: Proxy, impatient: Rest, direct: Rest, db: Db, company_id: str
) -> None:
    landing = Landing()
    rule = proxy.on(is_lease, held(landing))
    with pytest.raises(StoreUnavailable):
        await use_supabase_auth_state(company_id, client=impatient, lease=True, lease_ttl=600)
    rule.end()
    await landing.land()
    assert not lease_of(db, company_id)[1]
    async with use_supabase_auth_state(company_id, client=direct, lease=True) as auth:
        await write(auth, "free")


async def test_an_opening_that_was_given_up_after_its_lease_was_taken_gives_it_back(
    proxy: Proxy, impatient: Rest, direct: Rest, db: Db, company_id: str
) -> None:
    proxy.on(calls("acquire"), answer_lost)
    with pytest.raises(StoreUnavailable):
        await use_supabase_auth_state(company_id, client=impatient, lease=True, lease_ttl=600)
    await impatient.close()
    assert not lease_of(db, company_id)[1]


@pytest.mark.parametrize("fault", ["nothing gets through", "a page, 403", "a page, 404"])
async def test_an_opening_whose_creds_cannot_be_read_gives_its_lease_back(
    proxy: Proxy, impatient: Rest, db: Db, company_id: str, fault: str
) -> None:
    if fault == "nothing gets through":
        proxy.on(is_read, held(Landing()))
    else:
        status = int(fault[-3:])
        proxy.on(is_read, answered(status, b"<html>", content_type="text/html", forward=False))
    ended = await outcome(
        use_supabase_auth_state(
            company_id, client=impatient, lease=True, lease_ttl=600
        ).__aenter__()
    )
    assert not ended.acknowledged
    await impatient.close()
    assert not lease_of(db, company_id)[1]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_acquire_that_a_stranger_refuses_after_it_was_executed_is_given_back(
    proxy: Proxy, impatient: Rest, db: Db, company_id: str, status: int
) -> None:
    page = answered(status, b"<html>", content_type="text/html", forward=True)
    proxy.on(calls("acquire"), page)
    ended = await outcome(
        use_supabase_auth_state(
            company_id, client=impatient, lease=True, lease_ttl=600
        ).__aenter__()
    )
    assert not ended.acknowledged
    await impatient.close()
    assert not lease_of(db, company_id)[1]


# Openings that are cancelled, at every request they make


@pytest.mark.parametrize("executed", [True, False], ids=["executed then", "executed later"])
@pytest.mark.parametrize("what", ["acquire", "creds are read", "creds are stored"])
async def test_an_opening_that_is_cancelled_gives_its_lease_back(
    settings: Settings,
    proxy: Proxy,
    direct: Rest,
    db: Db,
    company_id: str,
    what: str,
    executed: bool,
) -> None:
    matches = {"acquire": calls("acquire"), "creds are read": is_read, "creds are stored": is_write}
    event = asyncio.Event()

    async def answer_kept(exchange: Any) -> Any:
        answer = await exchange.forward()
        await event.wait()
        return answer

    rule = proxy.on(matches[what], answer_kept if executed else delayed(event), times=1)
    patient = open_rest(settings)

    async def open_it() -> AuthState:
        return await use_supabase_auth_state(company_id, client=patient, lease=True, lease_ttl=600)

    opening = asyncio.ensure_future(open_it())
    await rule.reached()
    await proxy.quiet()
    opening.cancel()
    ended = await outcome(opening)
    assert isinstance(ended.error, asyncio.CancelledError)
    event.set()
    # What gives the lease back may go on in the background; closing waits for it.
    await patient.close()
    await proxy.quiet()
    assert not lease_of(db, company_id)[1]
    async with use_supabase_auth_state(company_id, client=direct, lease=True) as auth:
        await write(auth, "free")


async def test_openings_that_are_cancelled_at_any_moment_leave_the_company_free(
    settings: Settings, proxy: Proxy, db: Db, company_id: str
) -> None:
    patient = open_rest(settings)

    async def open_and_cancel(number: int) -> str | None:
        company = f"{company_id}-{number}"

        async def open_it() -> None:
            async with use_supabase_auth_state(company, client=patient, lease=True, lease_ttl=600):
                await asyncio.Event().wait()

        opening = asyncio.ensure_future(open_it())
        for _ in range(number):
            await asyncio.sleep(0)
        opening.cancel()
        await outcome(opening)
        return company

    companies = [await open_and_cancel(number) for number in range(0, 120, 3)]
    await patient.close()
    await proxy.quiet()
    assert [company for company in companies if lease_of(db, company)[1]] == []


# Who may write when it is not known


Race = Callable[[AuthState, AuthState], Awaitable[None]]


async def test_two_processes_that_acquire_at_once_are_told_apart_whatever_is_executed_twice(
    proxy: Proxy, through: Rest, db: Db, company_id: str
) -> None:
    landing = Landing()
    proxy.on(calls("acquire"), doubled(landing))
    opening = [
        outcome(use_supabase_auth_state(company_id, client=through, lease=True).__aenter__())
        for _ in range(4)
    ]
    ended = await asyncio.gather(*opening)
    await landing.land()
    assert sorted(str(one) for one in ended) == ["LeaseHeld"] * 3 + ["acknowledged"]
    assert all(one.acknowledged or isinstance(one.error, LeaseHeld) for one in ended)


async def test_a_late_write_of_the_former_owner_is_refused_though_its_token_was_good_when_sent(
    proxy: Proxy, open_auth: Open, direct: Rest, db: Db, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    await write(auth, "mine")
    event = asyncio.Event()
    rule = proxy.on(is_write, delayed(event), times=1)
    writing = asyncio.ensure_future(write(auth, "late"))
    await rule.reached()
    expire(db, company_id)
    async with use_supabase_auth_state(company_id, client=direct, lease=True) as other:
        await write(other, "other")
        event.set()
        assert isinstance((await outcome(writing)).error, LeaseLost)
        assert contents(db, company_id)[f"session {SESSION}"] == session("other")
    assert auth.lease.lost.is_set()


@pytest.mark.parametrize("request_kind", ["every request", "lease requests"])
async def test_everything_sent_twice_is_as_if_it_was_sent_once(
    proxy: Proxy, through: Rest, db: Db, company_id: str, request_kind: str
) -> None:
    proxy.on(is_any if request_kind == "every request" else is_lease, doubled())
    for number in range(3):
        async with use_supabase_auth_state(company_id, client=through, lease=True) as auth:
            await write(auth, f"{number}")
            await auth.lease.renew()
            auth.creds["nextPreKeyId"] = 10 + number
            await auth.save_creds()
        stored = contents(db, company_id)
        assert (stored[f"session {SESSION}"], stored["creds"]) == (
            session(f"{number}"), str(10 + number)
        )  # fmt: skip
        assert lease_of(db, company_id) == (None, False)
