"""The order that the database gives to requests: numbers, deadlines, epochs, tokens, receipts."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import psycopg
import pytest

from devstack import Stack
from supabase_auth_state import Rest, StateRolledBack, WriteRefused
from supabase_auth_state.leases.lease import acquire_lease

Db = psycopg.Connection[Any]
Send = Callable[..., Awaitable[httpx.Response]]

UPSERT = {"Prefer": "resolution=merge-duplicates,return=minimal"}
ONE, TWO = "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"
AN_HOUR = 3600


def key(company: str, value: Any) -> dict[str, Any]:
    return {"company_id": company, "key_type": "session", "key_id": "1.0", "value": value}


def rows(value: Any) -> Callable[[str], tuple[str, Any]]:
    return lambda company: ("whatsapp_keys", [key(company, value)])


def creds(tag: int) -> Callable[[str], tuple[str, Any]]:
    return lambda company: ("whatsapp_auth", [{"company_id": company, "creds": {"tag": tag}}])


def function(name: str, **params: Any) -> Callable[[str], tuple[str, Any]]:
    return lambda company: (f"rpc/{name}", {"p_company_id": company, **params})


WRITES = {
    "keys": rows({"by": "this"}),
    "a key deleted by null": rows(None),
    "creds": creds(1),
    "clear": function("clear_whatsapp_keys"),
    "delete": function("delete_whatsapp_company"),
    "replace": function(
        "replace_whatsapp_state", p_keys=[["session", "1.0", {"by": "this"}, None]]
    ),
    "create": function(
        "create_whatsapp_company", p_creds={"tag": 1}, p_client_family="baileys", p_request="r"
    ),
    "fence": function("fence_whatsapp_writer"),
}
"""Every request by which a 0.3 client changes the rows of a company."""

every_write = pytest.mark.parametrize("write", WRITES)


@pytest.fixture
def send(stack: Stack, as_role: Any, company_id: str) -> Send:
    """Send a write of the company as a 0.3 client does: `await send("keys", 1)`."""
    client = as_role(stack.service_role_key)

    async def send_it(
        write: str | Callable[[str], tuple[str, Any]],
        number: int,
        *,
        writer: str = ONE,
        company: str = company_id,
        within: float = 60,
        **headers: str,
    ) -> httpx.Response:
        path, body = (WRITES[write] if isinstance(write, str) else write)(company)
        ordered = {
            "x-whatsapp-commit": f"{writer}:{number}",
            "x-whatsapp-deadline": f"{time.time() + within:.3f}",
        }
        answer: httpx.Response = await client.post(
            path, json=body, headers={**UPSERT, **ordered, **headers}
        )
        return answer

    return send_it


def contents(db: Db, company: str) -> tuple[list[Any], list[Any]]:
    return (
        db.execute("select creds from whatsapp_auth where company_id = %s", [company]).fetchall(),
        db.execute(
            "select key_id, value from whatsapp_keys where company_id = %s order by 1", [company]
        ).fetchall(),
    )


def fill(db: Db, company: str) -> tuple[list[Any], list[Any]]:
    """Write rows as a client that knows nothing of numbers."""
    db.execute(
        "insert into whatsapp_keys values (%s, 'session', '1.0', '{\"by\": \"another\"}') "
        "on conflict (company_id, key_type, key_id) do update set value = excluded.value",
        [company],
    )
    db.execute(
        "insert into whatsapp_auth (company_id, creds) values (%s, '{\"tag\": 0}') "
        "on conflict (company_id) do update set creds = excluded.creds",
        [company],
    )
    return contents(db, company)


def acknowledges(answer: httpx.Response, commit: str) -> bool:
    receipt = answer.headers.get("x-whatsapp-receipt", "")
    named, _, told = receipt.rpartition(":")
    return answer.is_success and named == commit and abs(float(told) - time.time()) < 60


@every_write
async def test_a_number_that_is_sent_twice_is_executed_once_and_acknowledged_twice(
    send: Send, db: Db, company_id: str, write: str
) -> None:
    assert acknowledges(await send(write, 1), f"{ONE}:1")
    # Another writer came between the request and its copy.
    between = fill(db, company_id)
    copy = await send(write, 1)
    assert acknowledges(copy, f"{ONE}:1")
    assert contents(db, company_id) == between
    assert acknowledges(await send(rows({"by": "the next"}), 2), f"{ONE}:2")
    assert contents(db, company_id)[1] == [("1.0", {"by": "the next"})]


@every_write
async def test_a_number_below_a_later_one_is_refused(
    send: Send, db: Db, company_id: str, write: str
) -> None:
    between = fill(db, company_id)
    assert (await send("fence", 2)).is_success
    late = await send(write, 1)
    assert (late.status_code, late.json()["code"]) == (409, "PT409")
    assert "later request" in late.json()["message"]
    assert contents(db, company_id) == between


@every_write
async def test_a_request_that_comes_after_its_deadline_is_refused_and_told_the_time(
    send: Send, db: Db, company_id: str, write: str
) -> None:
    between = fill(db, company_id)
    late = await send(write, 1, within=-0.01)
    assert (late.status_code, late.json()["code"]) == (408, "PT408")
    told = float(late.json()["message"].rpartition(" ")[2])
    assert abs(told - time.time()) < 60
    assert contents(db, company_id) == between
    # It took no number.
    assert acknowledges(await send(rows({"by": "a retry"}), 1), f"{ONE}:1")
    assert contents(db, company_id)[1] == [("1.0", {"by": "a retry"})]


@pytest.mark.parametrize(
    "lease_request",
    [
        function("acquire_whatsapp_lease", p_owner="me", p_ttl_seconds=30),
        function("renew_whatsapp_lease", p_token=1, p_ttl_seconds=30),
        function("release_whatsapp_lease", p_token=1),
        lambda company: (
            "rpc/renew_whatsapp_leases",
            {"p_leases": [[company, 1]], "p_ttl_seconds": 30},
        ),
    ],
    ids=["acquire", "renew", "release", "renew many"],
)
async def test_a_request_about_a_lease_that_comes_too_late_is_refused(
    send: Send, rest: Rest, db: Db, company_id: str, lease_request: Any
) -> None:
    lease = await acquire_lease(rest, company_id)
    before = lease_row(db, company_id)
    late = await send(lease_request, 1, within=-0.01)
    assert late.json()["code"] == "PT408"
    assert lease_row(db, company_id) == before
    await lease.release()


def lease_row(db: Db, company: str) -> Any:
    return db.execute("select * from whatsapp_leases where company_id = %s", [company]).fetchone()


async def test_writers_and_companies_number_for_themselves(
    send: Send, db: Db, company_id: str
) -> None:
    other = f"{company_id}-other"
    assert (await send("keys", 7)).is_success
    assert (await send("keys", 1, writer=TWO)).is_success
    assert (await send("keys", 1, company=other)).is_success
    assert (await send("keys", 8)).is_success
    assert (await send("keys", 2, writer=TWO)).is_success
    assert db.execute(
        "select company_id, writer, commit_no from whatsapp_writers "
        "where company_id = any (%s) order by 1, 2",
        [[company_id, other]],
    ).fetchall() == [(company_id, ONE, 8), (company_id, TWO, 2), (other, ONE, 1)]


@every_write
async def test_after_another_owner_a_writer_of_an_earlier_epoch_is_refused(
    send: Send, rest: Rest, db: Db, company_id: str, write: str
) -> None:
    epoch = {"x-whatsapp-epoch": "0"}
    assert (await send("fence", 1, **epoch)).is_success
    await (await acquire_lease(rest, company_id)).release()
    between = fill(db, company_id)
    late = await send(write, 2, **epoch)
    assert late.json()["code"] == "PT409"
    assert "another process has owned" in late.json()["message"]
    assert contents(db, company_id) == between
    # An epoch begins with each acquire, and another one with each release.
    assert (await send("fence", 2, **{"x-whatsapp-epoch": "2"})).is_success


@every_write
async def test_a_token_or_number_that_the_database_does_not_know_yet_means_a_restored_backup(
    send: Send, rest: Rest, db: Db, company_id: str, write: str
) -> None:
    between = fill(db, company_id)
    lease = await acquire_lease(rest, company_id)
    for headers in (
        {"x-whatsapp-lease": str(lease.token + 1)},
        {**lease.headers, "x-whatsapp-stored": "3"},
    ):
        answer = await send(write, 4, writer=TWO, **headers)
        assert answer.json()["code"] == "PT409"
        assert answer.json()["message"].startswith("whatsapp restore:")
    assert contents(db, company_id) == between
    await lease.release()


BEHIND = {
    "the token": "update whatsapp_leases set token = token - 1 where company_id = %s",
    "the owner": "delete from whatsapp_leases where company_id = %s",
    "the number": "update whatsapp_writers set commit_no = commit_no - 1 where company_id = %s",
    "the writer": "delete from whatsapp_writers where company_id = %s",
}


@pytest.mark.parametrize("behind", BEHIND)
async def test_an_owner_is_told_that_the_database_was_set_back_and_writes_nothing(
    open_auth: Any, db: Db, company_id: str, behind: str
) -> None:
    auth = await open_auth(lease=True)
    await auth.keys.set({"session": {"1.0": {"n": 1}}})
    await auth.keys.set({"session": {"1.0": {"n": 2}}})
    db.execute(BEHIND[behind], [company_id])
    db.execute("update whatsapp_leases set expires_at = now() where company_id = %s", [company_id])
    before = fill(db, company_id)
    for write in (auth.keys.set({"session": {"1.0": {"n": 3}}}), auth.keys.clear()):
        with pytest.raises(StateRolledBack, match="lost writes"):
            await write
    with pytest.raises(StateRolledBack):
        await auth.save_creds()
    assert contents(db, company_id) == before


async def test_without_a_lease_another_epoch_means_another_owner(
    open_auth: Any, db: Db, company_id: str
) -> None:
    auth = await open_auth()
    await auth.keys.set({"session": {"1.0": {"n": 1}}})
    db.execute("update whatsapp_leases set epoch = epoch + 1 where company_id = %s", [company_id])
    with pytest.raises(WriteRefused, match="another process has owned"):
        await auth.keys.set({"session": {"1.0": {"n": 2}}})


def ended(db: Db, company: str, writer: str) -> None:
    """Let the time of a writer's requests be over, long ago."""
    db.execute(
        "update whatsapp_writers set lands_until = lands_until - interval '1 day' "
        "where company_id = %s and writer = %s",
        [company, writer],
    )


def writers(db: Db, company: str) -> list[str]:
    found = db.execute("select writer from whatsapp_writers where company_id = %s", [company])
    return sorted(writer for (writer,) in found.fetchall())


async def test_a_writer_whose_requests_can_land_no_more_is_forgotten_when_a_new_one_comes(
    send: Send, db: Db, company_id: str
) -> None:
    assert (await send("keys", 1)).is_success
    assert (await send("keys", 1, writer=TWO)).is_success
    assert writers(db, company_id) == [ONE, TWO]
    ended(db, company_id, ONE)
    three = TWO.replace("2", "3")
    assert (await send("keys", 1, writer=three)).is_success
    assert writers(db, company_id) == [TWO, three]


async def test_the_owner_is_never_forgotten_and_a_former_one_is(
    open_auth: Any, send: Send, rest: Rest, db: Db, company_id: str
) -> None:
    former = await acquire_lease(rest, company_id)
    await former.release()
    auth = await open_auth(lease=True)
    await auth.keys.set({"session": {"1.0": {"n": 1}}})
    for writer in writers(db, company_id):
        ended(db, company_id, writer)
    assert (await send("keys", 1, **auth.lease.headers)).is_success
    assert writers(db, company_id) == sorted([auth.lease.writer.id, ONE])
    await auth.keys.set({"session": {"1.0": {"n": 2}}})


def at_the_same_time(stack: Stack, first: str, second: str, company: str) -> list[Any]:
    """Begin a write, begin a copy of it that has to wait, and end both; give what became of them.

    Both are upserts as PostgREST makes them for requests with these commits.
    """
    outcomes: list[Any] = [None, None]

    def write(connection: Db, place: int, commit: str) -> None:
        headers = (
            f'{{"x-whatsapp-commit": "{commit}", "x-whatsapp-deadline": "{time.time() + 60:.3f}"}}'
        )
        try:
            connection.execute("select set_config('request.headers', %s, true)", [headers])
            connection.execute(
                "insert into whatsapp_keys values (%s, 'session', '1.0', to_jsonb(%s::int)) "
                "on conflict (company_id, key_type, key_id) do update set value = excluded.value",
                [company, place],
            )
            outcomes[place] = "done"
        except psycopg.DatabaseError as error:
            outcomes[place] = error.sqlstate

    with psycopg.connect(stack.db_url) as one, psycopg.connect(stack.db_url) as other:
        write(one, 0, first)
        waiting = threading.Thread(target=write, args=(other, 1, second))
        waiting.start()
        with psycopg.connect(stack.db_url, autocommit=True) as watch:
            query = "select cardinality(pg_blocking_pids(%s)) > 0"
            while watch.execute(query, [other.info.backend_pid]).fetchone() == (False,):
                assert waiting.is_alive()
        one.commit()
        waiting.join(60)
        other.rollback() if outcomes[1] != "done" else other.commit()
    return outcomes


@pytest.mark.parametrize(
    ("numbers", "outcome"),
    [((1, 1), "done"), ((2, 1), "PT409"), ((1, 2), "done")],
    ids=["a copy", "a late one", "the next one"],
)
@pytest.mark.parametrize("known", [False, True], ids=["first of the company", "known company"])
async def test_requests_that_are_executed_at_the_same_time_are_judged_in_turn(
    stack: Stack, db: Db, company_id: str, numbers: tuple[int, int], outcome: str, known: bool
) -> None:
    if known:
        fill(db, company_id)
    commits = [f"{ONE}:{number}" for number in numbers]
    outcomes = at_the_same_time(stack, *commits, company_id)
    # The first two of a company may have to be sent again: there is no row yet to wait for.
    assert outcomes[0] == "done"
    assert outcomes[1] in ({outcome} if known else {outcome, "40001"})
    written = 1 if numbers == (1, 2) and outcomes[1] == "done" else 0
    assert contents(db, company_id)[1] == [("1.0", written)]


async def test_a_client_of_02_is_ordered_as_before_and_leaves_no_trace_among_the_writers(
    stack: Stack, as_role: Any, db: Db, company_id: str
) -> None:
    client = as_role(stack.service_role_key)

    async def commit(number: int, value: int) -> httpx.Response:
        text = f'{{"company_id": "{company_id}", "keys": {{"session": {{"1.0": {value}}}}}}}'
        headers = {"content-type": "text/plain", "x-whatsapp-commit": f"{ONE}:{number}"}
        answer: httpx.Response = await client.post(
            "rpc/commit_whatsapp_state", content=text, headers=headers
        )
        return answer

    assert [(await commit(1, 10)).status_code, (await commit(3, 30)).status_code] == [204, 204]
    assert (await commit(2, 20)).status_code == 409
    # An equal number writes again: that is what its retries rest on.
    fill(db, company_id)
    assert (await commit(3, 30)).status_code == 204
    assert contents(db, company_id)[1] == [("1.0", 30)]
    assert "x-whatsapp-receipt" not in (await commit(4, 40)).headers
    assert writers(db, company_id) == []
