"""Two requests that cross in the database: one waits for the other, or lands after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from psycopg import sql

from devstack import Stack
from supabase_auth_state import Rest, WriteRefused, use_supabase_auth_state
from supabase_auth_state.pool.pauses import reinstate_company
from tests.attacks.world import TABLES, Db, contents, everything, lease_of, session

Connection = psycopg.AsyncConnection[Any]
Connect = Callable[..., Awaitable[Connection]]

WRITER, OTHER = (f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in "12")


@pytest.fixture(autouse=True)
def no_company_was_erased(db: Db) -> Iterator[None]:
    """Let other tests of this stack begin with the token 1."""
    yield
    db.execute("delete from whatsapp_leases where company_id = 'supabase-auth-state/erased'")


@pytest.fixture
async def connect(stack: Stack) -> AsyncIterator[Connect]:
    """Open connections whose requests have headers, as PostgREST's have."""
    async with AsyncExitStack() as opened:

        async def open_it(headers: dict[str, str] | None = None) -> Connection:
            connection = await psycopg.AsyncConnection.connect(stack.db_url)
            opened.push_async_callback(connection.close)
            if headers is not None:
                await set_headers(connection, headers)
            return connection

        yield open_it


async def set_headers(connection: Connection, headers: dict[str, str]) -> None:
    """Give the requests of a connection these headers."""
    await call(connection, "select set_config('request.headers', %s, false)", json.dumps(headers))


async def call(connection: Connection, query: str, *params: Any) -> Any:
    """Run one request, and commit it."""
    async with connection.transaction():
        cursor = await connection.execute(query.encode(), params)
        row = await cursor.fetchone() if cursor.description else None
    return None if row is None else row[0]


def begin(connection: Connection, query: str, *params: Any) -> asyncio.Task[Any]:
    """Send one request without waiting for its answer."""
    return asyncio.ensure_future(call(connection, query, *params))


async def waits(db: Db, connection: Connection, request: asyncio.Task[Any]) -> bool:
    """Return whether a request waits for another transaction, as soon as it does or has ended."""
    pid = connection.info.backend_pid
    query = "select cardinality(pg_blocking_pids(%s)) > 0"
    while not request.done():
        if db.execute(query, [pid]).fetchone() == (True,):
            return True
        await asyncio.sleep(0.01)
    return False


async def until_it_waits(db: Db, connection: Connection, request: asyncio.Task[Any]) -> None:
    """Wait until a request waits for another transaction."""
    if not await waits(db, connection, request):
        pytest.fail(f"it did not wait: {request.exception() or request.result()}")


def now(db: Db) -> float:
    row = db.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    assert row is not None
    return float(row[0])


def numbered(db: Db, number: int, *, writer: str = WRITER, within: float = 60) -> dict[str, str]:
    """The headers of a request that has a number and a deadline."""
    return {
        "x-whatsapp-commit": f"{writer}:{number}",
        "x-whatsapp-deadline": f"{now(db) + within:.3f}",
    }


def store(db: Db, company_id: str, keys: int = 2, key_type: str = "session") -> None:
    """Store a company as a client that knows nothing of numbers."""
    db.execute(
        "insert into whatsapp_auth (company_id, creds) values (%s, %s)",
        [company_id, json.dumps({"registrationId": 7, "nextPreKeyId": 1})],
    )
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value) "
        "select %s, %s, n::text, '{}' from generate_series(1, %s) n",
        [company_id, key_type, keys],
    )


def erased_but_for_its_lease(db: Db, company_id: str) -> int:
    """Make a company of which only the lease is left, and return its last token."""
    row = db.execute(
        "insert into whatsapp_leases (company_id) values (%s) returning token", [company_id]
    ).fetchone()
    row = db.execute(
        "update whatsapp_leases set token = token + 3, epoch = epoch + 6 where company_id = %s "
        "returning token",
        [company_id],
    ).fetchone()
    assert row is not None
    return int(row[0])


FORGET = "select forget_whatsapp_company(%s)"
ACQUIRE = "select acquire_whatsapp_lease(%s, 'me', 30)"


@pytest.mark.parametrize("moment", ["its lease is locked", "its lease is gone"])
async def test_no_token_is_given_twice_to_a_company_that_is_erased_while_it_is_asked_for(
    connect: Connect, db: Db, company_id: str, moment: str
) -> None:
    last = erased_but_for_its_lease(db, company_id)
    erasing, asking = await connect(), await connect()
    async with erasing.transaction():
        if moment == "its lease is locked":
            await erasing.execute(
                "select from whatsapp_leases where company_id = %s for update", [company_id]
            )
            request = begin(asking, ACQUIRE, company_id)
            await until_it_waits(db, asking, request)
        await erasing.execute(FORGET, [company_id])
        if moment == "its lease is gone":
            request = begin(asking, ACQUIRE, company_id)
            await until_it_waits(db, asking, request)
    answer = await request
    assert answer["token"] is not None
    assert answer["token"] > last
    assert lease_of(db, company_id) == ("me", True)
    # The process that was frozen since before it was erased.
    frozen = await connect({"x-whatsapp-lease": str(last - 2)})
    with pytest.raises(psycopg.Error, match="is not its last one"):
        await call(
            frozen, "insert into whatsapp_auth (company_id, creds) values (%s, '{}')", company_id
        )


async def test_a_company_that_is_erased_while_it_is_counted_leaves_the_sums_exact(
    connect: Connect, db: Db, company_id: str
) -> None:
    key_type = f"type of {company_id}"
    store(db, company_id, 3, key_type)
    counted = "select rows from whatsapp_type_statistics where key_type = %s"
    db.execute("select whatsapp_company_overview(%s)", [company_id])
    assert db.execute(counted, [key_type]).fetchone() == (3,)
    db.execute("select erase_whatsapp_company(%s)", [company_id])
    counting, erasing = await connect(), await connect()
    async with counting.transaction():
        await counting.execute("select whatsapp_company_overview(%s)", [company_id])
        request = begin(erasing, FORGET, company_id)
        await until_it_waits(db, erasing, request)
    await request
    assert db.execute(counted, [key_type]).fetchone() == (0,)
    db.execute("delete from whatsapp_type_statistics where key_type = %s", [key_type])


LOG_OUT = "select log_out_whatsapp_company(%s, 401, 'logged out', 'test')"
ERASE = "select erase_whatsapp_company(%s)"
HELD = {
    "log out, a pause": (LOG_OUT, "whatsapp_pauses"),
    "erase, a pause": (ERASE, "whatsapp_pauses"),
    "erase, the quarantine": (ERASE, "whatsapp_quarantine"),
    "erase, the history": (ERASE, "whatsapp_creds_history"),
}


@pytest.mark.parametrize("held", HELD)
async def test_what_waits_for_another_table_until_its_deadline_is_undone(
    connect: Connect, db: Db, company_id: str, held: str
) -> None:
    query, table = HELD[held]
    store(db, company_id)
    db.execute("select clear_whatsapp_keys(%s)", [company_id])
    db.execute(
        "update whatsapp_auth set creds = creds || '{\"n\": 2}' where company_id = %s", [company_id]
    )
    db.execute("select note_whatsapp_pause(%s, 440, 'replaced', 60, 'test', 'r')", [company_id])
    before = everything(db, company_id)
    holding, late = await connect(), await connect()
    within = 0.25
    async with holding.transaction():
        await holding.execute(
            sql.SQL("select from {} where company_id = %s for update").format(
                sql.Identifier(table)
            ),
            [company_id],
        )
        while True:
            headers = numbered(db, 1, within=within)
            await set_headers(late, headers)
            request = begin(late, query, company_id)
            if await waits(db, late, request):
                break
            # On a slow machine it came too late even to wait.
            ended = request.exception()
            assert isinstance(ended, psycopg.Error)
            assert ended.sqlstate == "PT408"
            within *= 2
        while now(db) <= float(headers["x-whatsapp-deadline"]):
            await asyncio.sleep(0.01)
    with pytest.raises(psycopg.Error) as refused:
        await request
    assert refused.value.sqlstate == "PT408"
    assert everything(db, company_id) == before


UPSERT = (
    "insert into whatsapp_keys (company_id, key_type, key_id, value) values "
    "(%s, 'session', '1.0', '{}'), (%s, 'session', '1.0', '{}'), (%s, 'session', '2.0', '{}') "
    "on conflict (company_id, key_type, key_id) do update set value = excluded.value"
)


async def test_no_row_of_a_numbered_request_is_left_out_because_it_writes_two_companies(
    connect: Connect, db: Db, company_id: str
) -> None:
    other = f"{company_id}-other"
    client = await connect(numbered(db, 1))
    with pytest.raises(psycopg.Error, match="writes one company"):
        await call(client, UPSERT, company_id, other, company_id)
    assert contents(db, company_id) == contents(db, other) == {"creds": None}


async def test_the_token_of_one_company_does_not_open_another_one_beside_it(
    connect: Connect, db: Db, company_id: str
) -> None:
    other = f"{company_id}-other"
    tokens = {
        company: db.execute(
            "select acquire_whatsapp_lease(%s, %s, 30)", [company, company]
        ).fetchone()
        for company in (company_id, other)
    }
    token = tokens[company_id][0]["token"]
    assert tokens[other][0]["token"] == token
    client = await connect({"x-whatsapp-lease": str(token)})
    with pytest.raises(psycopg.Error, match="writes one company"):
        await call(client, UPSERT, company_id, other, company_id)
    assert contents(db, other) == {"creds": None}


async def test_a_copy_of_a_restore_leaves_what_was_logged_out_since_logged_out(
    connect: Connect, db: Db, company_id: str
) -> None:
    store(db, company_id)
    marked = "select logged_out from whatsapp_pauses where company_id = %s"
    restoring = await connect(numbered(db, 1))
    version = (await call(await connect(), LOG_OUT, company_id))["removed"]
    restore = "select restore_whatsapp_version(%s, %s)"
    assert (await call(restoring, restore, company_id, version))["restored"]
    assert db.execute(marked, [company_id]).fetchone() == (False,)
    assert (await call(await connect(), LOG_OUT, company_id))["removed"] == version
    before = everything(db, company_id)
    assert not (await call(restoring, restore, company_id, version))["restored"]
    assert everything(db, company_id) == before
    assert db.execute(marked, [company_id]).fetchone() == (True,)


CLEAN_UP = "select whatsapp_empty_quarantine(%s)"


async def test_what_the_clean_up_has_begun_to_delete_is_not_restored_by_half(
    connect: Connect, db: Db, company_id: str
) -> None:
    store(db, company_id, 3)
    db.execute("select delete_whatsapp_company(%s)", [company_id])
    version = "select version from whatsapp_quarantine where company_id = %s"
    holding, restoring = await connect(), await connect()
    async with holding.transaction():
        await holding.execute(
            "select from whatsapp_leases where company_id = %s for update", [company_id]
        )
        request = begin(
            restoring, f"select restore_whatsapp_version(%s, ({version}))", company_id, company_id
        )
        await until_it_waits(db, restoring, request)
        # Its time is over while the restore waits.
        db.execute(
            "update whatsapp_quarantine set until = clock_timestamp() where company_id = %s",
            [company_id],
        )
        assert db.execute(CLEAN_UP, [1]).fetchone() == (1,)
    assert not (await request)["restored"]
    assert contents(db, company_id) == {"creds": None}
    while db.execute(CLEAN_UP, [5000]).fetchone() != (0,):
        pass


async def test_a_clean_up_and_the_end_of_a_company_do_not_wait_for_each_other(
    connect: Connect, db: Db, company_id: str
) -> None:
    store(db, company_id)
    db.execute("select delete_whatsapp_company(%s)", [company_id])
    db.execute("update whatsapp_quarantine set until = now() where company_id = %s", [company_id])
    cleaning, erasing = await connect(), await connect()
    async with cleaning.transaction():
        await cleaning.execute(CLEAN_UP, [1])
        request = begin(erasing, ERASE, company_id)
        await until_it_waits(db, erasing, request)
        await cleaning.execute(CLEAN_UP, [5000])
    await request
    assert everything(db, company_id) == [[] for _ in TABLES]


async def test_a_clean_up_leaves_what_a_request_holds_for_the_next_run(
    connect: Connect, db: Db, company_id: str
) -> None:
    store(db, company_id)
    db.execute("select delete_whatsapp_company(%s)", [company_id])
    db.execute("update whatsapp_quarantine set until = now() where company_id = %s", [company_id])
    holding, cleaning = await connect(), await connect()
    await call(cleaning, "set lock_timeout = '10s'")
    async with holding.transaction():
        await holding.execute(
            "select from whatsapp_quarantine where company_id = %s for update", [company_id]
        )
        await call(cleaning, CLEAN_UP, 5000)
        assert [len(rows) for rows in everything(db, company_id)][3:5] == [1, 2]
    await call(cleaning, CLEAN_UP, 5000)
    assert everything(db, company_id) == [[] for _ in TABLES]


async def test_two_requests_of_an_owner_without_numbers_that_came_late_are_both_executed(
    connect: Connect, db: Db, company_id: str
) -> None:
    db.execute("select acquire_whatsapp_lease(%s, 'node', 30)", [company_id])
    row = db.execute(
        "update whatsapp_leases set expires_at = now() where company_id = %s returning token",
        [company_id],
    ).fetchone()
    assert row is not None
    token = {"x-whatsapp-lease": str(row[0])}
    reading, first, second = await connect(), await connect(token), await connect(token)
    insert = (
        "insert into whatsapp_keys (company_id, key_type, key_id, value) "
        "values (%s, 'session', %s, '{}')"
    )
    async with reading.transaction():
        await reading.execute(
            "select from whatsapp_leases where company_id = %s for share", [company_id]
        )
        requests = [begin(c, insert, company_id, n) for c, n in ((first, "1.0"), (second, "2.0"))]
        for connection, request in zip((first, second), requests, strict=True):
            await until_it_waits(db, connection, request)
    await asyncio.gather(*requests)
    assert {*contents(db, company_id)} == {"session 1.0", "session 2.0", "creds"}


async def test_ending_a_dead_lease_opens_no_company_that_was_closed_a_moment_before(
    connect: Connect, db: Db, company_id: str
) -> None:
    row = db.execute("select acquire_whatsapp_lease(%s, 'transfer', 30)", [company_id]).fetchone()
    assert row is not None
    token = row[0]["token"]
    moving = await connect({**numbered(db, 1), "x-whatsapp-lease": str(token)})
    release = "select release_whatsapp_lease(%s, %s)"
    person = await connect()
    async with moving.transaction():
        await moving.execute("select close_whatsapp_company(%s, 'moved to there')", [company_id])
        request = begin(person, release, company_id, token)
        await until_it_waits(db, person, request)
    assert await request is False
    assert lease_of(db, company_id) == ("moved to there", True)
    # The process itself may, by a request in its order.
    moving = await connect({**numbered(db, 2), "x-whatsapp-lease": str(token)})
    assert await call(moving, release, company_id, token) is True


async def test_what_plain_requests_deleted_since_keeps_no_company_in_quarantine(
    connect: Connect, db: Db, company_id: str
) -> None:
    """The history of the device after it stays too."""
    delete = "select delete_whatsapp_company(%s)"
    save = "update whatsapp_auth set creds = creds || %s where company_id = %s"
    for tag in (1, 2):
        store(db, company_id)
        for number in range(10):
            db.execute(save, [json.dumps({"device": tag, "nextPreKeyId": number}), company_id])
        if tag == 1:
            db.execute(delete, [company_id])
            removed = everything(db, company_id)[3][0][0]["version"]
    db.execute("delete from whatsapp_auth where company_id = %s", [company_id])
    db.execute("delete from whatsapp_keys where company_id = %s", [company_id])
    assert len(everything(db, company_id)[2]) == 10
    restore = "select restore_whatsapp_version(%s, %s)"
    assert (await call(await connect(), restore, company_id, removed))["restored"]
    auth, keys, history, (left,) = everything(db, company_id)[:4]
    assert auth[0][0]["creds"]["device"] == 1
    assert (len(keys), len(history)) == (2, 10)
    assert {version["creds"]["device"] for version in left[0]["history"]} == {2}
    assert (await call(await connect(), restore, company_id, left[0]["version"]))["restored"]
    assert {row[0]["creds"]["device"] for row in everything(db, company_id)[2]} == {2}


async def test_a_client_of_the_device_that_was_logged_out_writes_nothing_to_the_next_one(
    direct: Rest, db: Db, company_id: str
) -> None:
    async with use_supabase_auth_state(company_id, client=direct) as old:
        async with use_supabase_auth_state(company_id, client=direct) as other:
            await other.log_out(401, "logged out", "test")
        await reinstate_company(direct, company_id)
        async with use_supabase_auth_state(company_id, client=direct) as new:
            await new.keys.set({"session": {"1.0": session("new")}})
            before = everything(db, company_id)
            with pytest.raises(WriteRefused):
                await old.save_creds()
            with pytest.raises(WriteRefused):
                await old.keys.set({"session": {"1.0": session("old")}})
            assert everything(db, company_id) == before
            await new.save_creds()
