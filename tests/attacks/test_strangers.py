"""An acknowledgement is proof or none; a read is answered by what was asked for or fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from postgrest import AsyncPostgrestClient
from supabase import AsyncClient, acreate_client

from devstack import Stack
from faults.actions import Swapped
from faults.proxy import Landing, Proxy
from faults.requests import calls, every, is_fence, is_lease, is_read, is_write, of_company
from supabase_auth_state import (
    AuthState,
    Rest,
    Settings,
    StoreError,
    StoreUnavailable,
    SupabaseAuthStateError,
    open_rest,
    use_supabase_auth_state,
)
from tests.attacks.conftest import Open
from tests.attacks.strangers import CUT, REDIRECTS, REFUSALS, SENT, UNSENT, Stranger, refusing
from tests.attacks.world import (
    OTHER,
    SESSION,
    WRITES,
    Db,
    contents,
    creds,
    difference,
    lease_of,
    little_patience,
    outcome,
    problems_of,
    read,
    seed,
    session,
)
from tests.length import LENGTH

Write = Callable[[AuthState, str], Awaitable[None]]
Strangers = dict[str, Stranger]

WRITES_EACH = len(WRITES) if LENGTH >= 10 else 1
"""How many ways to write each stranger answers; they take turns."""


async def attack_write(
    proxy: Proxy, db: Db, auth: AuthState, write: Write, stranger: Stranger, *, proves: bool
) -> str | None:
    """Let a stranger answer a write; say what is wrong with what the client makes of it.

    The write may be acknowledged if it is stored and ``proves``.
    """
    company = auth.company_id
    await seed(auth)
    await read(auth)
    before = await asyncio.to_thread(contents, db, company)
    rule = proxy.on(every(is_write, of_company(company)), stranger(proxy))
    with little_patience(auth):
        ended = await outcome(write(auth, "new"))
    rule.end()
    after = await asyncio.to_thread(contents, db, company)
    if ended.acknowledged and not (proves and after != before):
        return f"acknowledged; stored: {after != before}"
    if not ended.acknowledged and not isinstance(ended.error, StoreUnavailable):
        return f"{type(ended.error).__module__}.{ended}"
    return difference("read, and not so in the tables", await read(auth), after)


@pytest.mark.parametrize("kind", UNSENT)
async def test_an_answer_that_is_not_postgrests_acknowledges_no_write_that_did_not_happen(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, kind: str
) -> None:
    assert await every_write(proxy, open_auth, db, company_id, UNSENT[kind], proves=False) == {}


@pytest.mark.parametrize("kind", SENT)
async def test_an_answer_that_is_not_postgrests_leaves_open_whether_a_write_happened(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, kind: str
) -> None:
    # A client may find another proof that the write is stored.
    assert await every_write(proxy, open_auth, db, company_id, SENT[kind], proves=True) == {}


@pytest.mark.parametrize("lease", [False, True], ids=["no lease", "lease"])
async def test_a_refusal_that_is_not_postgrests_leaves_nothing_that_lands_after_it_is_told(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, lease: bool
) -> None:
    async def attack(company: str, write: Write, status: int, body: bytes) -> str | None:
        auth = await open_auth(company, lease=lease)
        await seed(auth)
        landing = Landing()
        rule = proxy.on(every(is_write, of_company(company)), refusing(status, body, landing))
        with little_patience(auth):
            ended = await outcome(write(auth, "late"))
        if not isinstance(ended.error, StoreError):
            return str(ended)
        rule.end()
        before = await asyncio.to_thread(contents, db, company)
        await landing.land()
        return difference("changed", before, await asyncio.to_thread(contents, db, company))

    attacks = (
        (f"{write.__name__}: {name}", attack(f"{company_id}-{n}-{m}", write, status, body))
        for n, (name, (status, body)) in enumerate(REFUSALS.items())
        for m, write in enumerate(WRITES)
    )
    assert await problems_of(attacks) == {}


async def test_a_damaged_answer_acknowledges_no_write_that_did_not_happen(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str
) -> None:
    assert await every_write(proxy, open_auth, db, company_id, CUT, proves=True) == {}


async def every_write(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, strangers: Strangers, *, proves: bool
) -> dict[str, str]:
    async def attack(number: int, write: Write, stranger: Stranger) -> str | None:
        # With and without a lease in turn.
        auth = await open_auth(f"{company_id}-{number}", lease=number % 2 == 0)
        return await attack_write(proxy, db, auth, write, stranger, proves=proves)

    cases = [
        (WRITES[(first + n) % len(WRITES)], name)
        for first, name in enumerate(strangers)
        for n in range(WRITES_EACH)
    ]
    return await problems_of(
        (f"{write.__name__}: {name}", attack(number, write, strangers[name]))
        for number, (write, name) in enumerate(cases)
    )


@pytest.mark.parametrize("kind", [*UNSENT, "damaged"])
async def test_a_read_answered_by_a_stranger_fails_and_is_not_taken_for_nothing_stored(
    proxy: Proxy, open_auth: Open, company_id: str, kind: str
) -> None:
    async def attack(number: int, stranger: Stranger) -> str | None:
        company = f"{company_id}-{number}"
        auth = await open_auth(company, lease=number % 2 == 0)
        await auth.keys.set({"session": {SESSION: session("old")}})
        proxy.on(every(is_read, of_company(company)), stranger(proxy))
        for key_id in (OTHER, "unknown"):
            try:
                with little_patience(auth):
                    found = await auth.keys.get("session", [key_id])
            except StoreUnavailable:
                continue
            # What was cut or repeated may have been whole enough for the retry.
            if found or kind != "damaged":
                return f"answered {found}"
        return None

    strangers = {**UNSENT, "damaged": CUT}[kind]
    attacks = ((name, attack(n, stranger)) for n, (name, stranger) in enumerate(strangers.items()))
    assert await problems_of(attacks) == {}


@pytest.mark.parametrize("kind", [*UNSENT, "damaged"])
async def test_no_company_is_taken_for_new_because_a_stranger_answered_for_its_creds(
    proxy: Proxy, impatient: Rest, direct: Rest, db: Db, company_id: str, kind: str
) -> None:
    async def attack(company: str, stranger: Stranger, *, lease: bool, known: bool) -> str | None:
        if known:
            async with use_supabase_auth_state(
                company, client=direct, new_creds=lambda: creds(7)
            ) as auth:
                await seed(auth)
        before = await asyncio.to_thread(contents, db, company)
        rule = proxy.on(every(is_read, of_company(company)), stranger(proxy))
        try:
            async with use_supabase_auth_state(
                company, client=impatient, lease=lease, new_creds=lambda: creds(8)
            ) as auth:
                right = auth.creds["nextPreKeyId"] == (7 if known else 8) and kind == "damaged"
                return None if right else f"opened with creds {auth.creds['nextPreKeyId']}"
        except SupabaseAuthStateError:
            if kind == "damaged" and not known:
                return None  # it is new: its creds may have been stored
            return difference("changed", before, await asyncio.to_thread(contents, db, company))
        finally:
            rule.end()

    strangers = {**UNSENT, "damaged": CUT}[kind]
    attacks = (
        (
            f"{name}, known: {known}",
            attack(f"{company_id}-{n}-{known}", stranger, lease=n % 2 == 0, known=known),
        )
        for n, (name, stranger) in enumerate(strangers.items())
        for known in (False, True)
    )
    assert await problems_of(attacks) == {}


@pytest.mark.parametrize("kind", [*UNSENT, "sent", "damaged"])
async def test_a_lease_is_acquired_renewed_and_released_by_the_database_alone(
    proxy: Proxy, through: Rest, db: Db, company_id: str, kind: str
) -> None:
    async def attack(company: str, what: str, stranger: Stranger) -> str | None:
        about = every(is_lease, of_company(company))
        # Two, since the first answer of those that are repeated is right.
        fault, times = stranger(proxy), 2 if kind == "damaged" else 1
        # At the first contact another server is a wrong address, which is told at once.
        await through.about("whatsapp_company_status", company)
        if what == "acquire":
            proxy.on(about, fault, times=times)
        auth = await use_supabase_auth_state(company, client=through, lease=True)
        assert auth.lease is not None
        if what == "renew":
            proxy.on(about, fault, times=times)
            await auth.lease.renew()
        await auth.keys.set({"session": {SESSION: session("owned")}})
        if what == "release":
            proxy.on(about, fault, times=times)
        await auth.close()
        owner, _ = await asyncio.to_thread(lease_of, db, company)
        return f"still owned by {owner}" if owner else None

    sent = {name: stranger for group in SENT.values() for name, stranger in group.items()}
    strangers = {**UNSENT, "sent": sent, "damaged": CUT}[kind]
    attacks = (
        (f"{what}: {name}", attack(f"{company_id}-{what}-{n}", what, stranger))
        for n, (name, stranger) in enumerate(strangers.items())
        for what in ("acquire", "renew", "release")
    )
    assert await problems_of(attacks) == {}


@pytest.mark.parametrize("kind", UNSENT)
async def test_a_renewal_that_only_strangers_answer_is_no_renewal_and_no_loss(
    proxy: Proxy, open_auth: Open, company_id: str, kind: str
) -> None:
    async def attack(company: str, stranger: Stranger) -> str | None:
        auth = await open_auth(company, lease=True, lease_ttl=3)
        assert auth.lease is not None
        rule = proxy.on(every(is_lease, of_company(company)), stranger(proxy))
        ended = await outcome(auth.lease.renew())
        rule.end()
        if auth.lease.lost.is_set():
            return "lost"
        return None if isinstance(ended.error, StoreUnavailable) else str(ended)

    attacks = (
        (name, attack(f"{company_id}-{n}", stranger))
        for n, (name, stranger) in enumerate(UNSENT[kind].items())
    )
    assert await problems_of(attacks) == {}


@pytest.mark.parametrize(
    ("kind", "answer"), [("JSON", "null"), ("like PostgREST", "200 null"), ("nothing", "204")]
)
async def test_an_unknown_outcome_is_not_settled_by_a_stranger(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, kind: str, answer: str
) -> None:
    auth = await open_auth(lease=True)
    await seed(auth)
    proxy.on(is_write, UNSENT[kind][answer](proxy))
    proxy.on(is_fence, UNSENT[kind][answer](proxy))
    with little_patience(auth), pytest.raises(StoreUnavailable):
        await auth.keys.set({"session": {SESSION: session("late")}})
    with little_patience(auth), pytest.raises(StoreUnavailable):
        await auth.keys.get("session", [SESSION])
    proxy.clear()
    assert difference("read", await read(auth), contents(db, company_id)) is None


# Answers that belong to another request


async def test_two_reads_whose_answers_are_swapped_give_no_value_of_the_other(
    proxy: Proxy, open_auth: Open, company_id: str
) -> None:
    auth = await open_auth()
    await auth.keys.set({"session": {SESSION: session("one"), OTHER: session("two")}})
    rule = proxy.on(is_read, Swapped(), times=2)
    first = asyncio.ensure_future(auth.keys.get("session", [SESSION]))
    await rule.reached()
    second = asyncio.ensure_future(auth.keys.get("session", [OTHER]))
    assert await first == {SESSION: session("one")}
    assert await second == {OTHER: session("two")}


async def test_two_reads_of_two_companies_whose_answers_are_swapped_stay_apart(
    proxy: Proxy, open_auth: Open, company_id: str
) -> None:
    auths = [await open_auth(f"{company_id}-{n}") for n in range(2)]
    for n, auth in enumerate(auths):
        await auth.keys.set({"session": {SESSION: session(str(n))}})
    proxy.on(is_read, Swapped(), times=2)
    found = await asyncio.gather(*(auth.keys.get("session", [SESSION]) for auth in auths))
    assert found == [{SESSION: session(str(n))} for n in range(2)]


async def test_two_openings_whose_creds_are_swapped_get_their_own(
    proxy: Proxy, through: Rest, direct: Rest, company_id: str
) -> None:
    companies = [f"{company_id}-{n}" for n in range(2)]
    for n, company in enumerate(companies):
        await use_supabase_auth_state(company, client=direct, new_creds=lambda n=n: creds(n))
    proxy.on(is_read, Swapped(), times=2)
    opened = await asyncio.gather(
        *(use_supabase_auth_state(company, client=through) for company in companies)
    )
    assert [auth.creds["nextPreKeyId"] for auth in opened] == [0, 1]


@pytest.mark.parametrize("lease", [False, True], ids=["no lease", "lease"])
async def test_two_writes_whose_answers_are_swapped_acknowledge_what_is_stored(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, lease: bool
) -> None:
    auths = [await open_auth(f"{company_id}-{n}", lease=lease) for n in range(2)]
    proxy.on(is_write, Swapped(), times=2)
    writes = (auth.keys.set({"session": {SESSION: session("new")}}) for auth in auths)
    for auth, ended in zip(auths, await asyncio.gather(*map(outcome, writes)), strict=True):
        assert ended.acknowledged
        assert contents(db, auth.company_id)[f"session {SESSION}"] == session("new")


async def test_two_acquires_whose_answers_are_swapped_give_each_company_its_own_token(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str
) -> None:
    # Different tokens: one company has been owned before.
    await (await open_auth(f"{company_id}-0", lease=True)).close()
    proxy.on(calls("acquire"), Swapped(), times=2)
    opening = (open_auth(f"{company_id}-{n}", lease=True) for n in range(2))
    for auth in await asyncio.gather(*opening):
        await auth.keys.set({"session": {SESSION: session("owned")}})
        assert contents(db, auth.company_id)[f"session {SESSION}"] == session("owned")


# A client of the caller's own, which follows redirects and lets its errors through


# Without the warning of supabase's own use of postgrest.
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is dep:DeprecationWarning")


@pytest.fixture
async def given(stack: Stack, proxy: Proxy) -> AsyncIterator[AsyncClient]:
    """A Supabase client as a user makes it."""
    client = await acreate_client(proxy.url, stack.service_role_key)
    yield client
    await client.postgrest.aclose()


async def test_a_client_of_the_callers_follows_no_redirect(
    proxy: Proxy, given: AsyncClient, stack: Stack, db: Db, company_id: str
) -> None:
    settings = Settings(proxy.url, stack.service_role_key, timeout=20, give_up_after=20)

    async def attack(company: str, write: Write, stranger: Stranger) -> str | None:
        rest = open_rest(settings, client=given)
        auth = await use_supabase_auth_state(company, client=rest)
        return await attack_write(proxy, db, auth, write, stranger, proves=False)

    attacks = (
        (f"{write.__name__}: {name}", attack(f"{company_id}-{n}-{m}", write, stranger))
        for n, (name, stranger) in enumerate(REDIRECTS.items())
        for m, write in enumerate(WRITES)
    )
    assert await problems_of(attacks) == {}
    assert all("redirected" not in passed.request.query for passed in proxy.log)


class Odd(Exception):
    """An exception that no HTTP library has."""


class OddTransport(httpx.AsyncHTTPTransport):
    """Sends what it is given, and then raises instead of answering."""

    error: BaseException | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if self.error is None:
            return response
        await response.aread()
        raise self.error


ODD = [
    Odd("from a hook"), ValueError("x"), KeyError("x"), AttributeError("x"), RuntimeError("x"),
    OSError("x"), asyncio.TimeoutError(), httpx.DecodingError("x"), httpx.InvalidURL("x"),
    UnicodeDecodeError("utf-8", b"", 0, 1, "x"), asyncio.CancelledError(),
]  # fmt: skip


@pytest.mark.parametrize("error", ODD, ids=[type(error).__name__ for error in ODD])
async def test_whatever_is_raised_after_a_write_was_sent_the_owner_reads_what_is_stored(
    stack: Stack, db: Db, company_id: str, error: BaseException
) -> None:
    async with AsyncExitStack() as opened:

        async def attack(write: Write) -> str | None:
            company = f"{company_id}-{write.__name__}"
            transport = OddTransport()
            session = await opened.enter_async_context(httpx.AsyncClient(transport=transport))
            key = stack.service_role_key
            headers = {"apikey": key, "Authorization": f"Bearer {key}"}
            client = AsyncPostgrestClient(
                f"{stack.url}/rest/v1", headers=headers, http_client=session
            )
            settings = Settings(stack.url, key, timeout=20, give_up_after=20)
            rest = open_rest(settings, client=client)
            auth = await use_supabase_auth_state(company, client=rest, lease=True)
            await seed(auth)
            await read(auth)
            transport.error = error
            with little_patience(auth):
                ended = await outcome(write(auth, "new"))
            transport.error = None
            found = await read(auth)
            stored = await asyncio.to_thread(contents, db, company)
            await auth.close()
            if not isinstance(ended.error, (SupabaseAuthStateError, asyncio.CancelledError)):
                return str(ended)
            return difference("read, and not so in the tables", found, stored)

        assert await problems_of((write.__name__, attack(write)) for write in WRITES) == {}


@pytest.mark.parametrize("error", ODD[:-1], ids=[type(error).__name__ for error in ODD[:-1]])
async def test_no_foreign_exception_reaches_the_caller_of_a_read(
    stack: Stack, company_id: str, error: Exception
) -> None:
    transport = OddTransport()
    key = stack.service_role_key
    async with httpx.AsyncClient(transport=transport) as session:
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        client = AsyncPostgrestClient(f"{stack.url}/rest/v1", headers=headers, http_client=session)
        rest = open_rest(Settings(stack.url, key), client=client)
        auth = await use_supabase_auth_state(company_id, client=rest)
        transport.error = error
        with little_patience(auth):
            raised: Any = (await outcome(auth.keys.get("session", [SESSION]))).error
            opening = use_supabase_auth_state(company_id, client=rest)
            raised_at_opening: Any = (await outcome(opening.__aenter__())).error
        transport.error = None
    for problem in (raised, raised_at_opening):
        assert isinstance(problem, SupabaseAuthStateError)
        assert problem.__cause__ is None
        assert problem.__context__ is None or "apikey" not in repr(vars(problem.__context__))
