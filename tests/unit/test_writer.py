"""Numbers of writes: in order, one at a time, and a fence where an outcome is unknown."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from supabase_auth_state import (
    CompanyQuarantined,
    ConfigurationError,
    InvalidRequest,
    LeaseLost,
    SealedValueError,
    StateRolledBack,
    StoreUnavailable,
    WriteRefused,
)
from supabase_auth_state.leases.lease import Lease
from supabase_auth_state.leases.writer import Writer
from supabase_auth_state.rest.requests import Commit

Answer = Callable[[], Awaitable[None]]


class Database:
    """Takes requests one after the other; `next` says what happens to each, the default is fine."""

    encryption = None

    def __init__(self) -> None:
        self.started: list[str] = []
        self.sent: list[tuple[str, Commit]] = []
        self.next: list[Answer] = []
        self.under_way = 0

    def met(self, *events: str) -> None:
        pass

    async def upsert(self, table: str, rows: Any, *, commit: Commit, **_: Any) -> None:
        await self._take(table, commit)

    async def rpc(self, function: str, params: Any, *, commit: Commit, is_right: Any) -> Any:
        await self._take(function, commit)
        receipt = {"company_id": params["p_company_id"], "commit": str(commit), "time": 1.5}
        assert is_right(receipt)
        for wrong in ({"company_id": "another"}, {"commit": f"{commit.writer}:999"}):
            assert not is_right(receipt | wrong)
        return receipt

    async def ask(self, function: str, company: str, params: Any, *, commit: Commit) -> Any:
        await self._take(function, commit)
        return {"company_id": company}

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.started.append(work.__qualname__)
        work.close()

    async def _take(self, what: str, commit: Commit) -> None:
        self.under_way += 1
        assert self.under_way == 1, "two writes of one company at once"
        self.sent.append((what, commit))
        try:
            if self.next:
                await self.next.pop(0)()
        finally:
            self.under_way -= 1

    @property
    def numbers(self) -> list[int]:
        return [commit.number for _, commit in self.sent]


def raising(error: BaseException) -> Answer:
    async def answer() -> None:
        raise error

    return answer


def refused(text: str) -> Answer:
    return raising(WriteRefused(f"writing whatsapp_keys: HTTP 409 PT409 {text}"))


LEASE_REFUSED = "whatsapp lease: token 7 of company c is not its last one"
RESTORED = "whatsapp restore: commit 5 of company c was acknowledged, and the database has only 3"
LATE = "whatsapp commit: a later request of the same writer was executed for company c"


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def writer(database: Database) -> Writer:
    return Writer(database, "c")  # type: ignore[arg-type]


async def write(writer: Writer) -> None:
    await writer.upsert("whatsapp_keys", [{}], on_conflict="company_id")


def owned(writer: Writer, database: Database) -> Lease:
    return Lease(
        database, "c", owner="me", token=7, ttl=30, until=float("inf"), writer=writer  # type: ignore[arg-type]
    )  # fmt: skip


async def test_every_request_has_the_next_number_of_one_writer(
    writer: Writer, database: Database
) -> None:
    await write(writer)
    await writer.rpc("clear_whatsapp_keys", {})
    await writer.ask("create_whatsapp_company", {})
    database.next = [raising(StoreUnavailable("away"))]
    with pytest.raises(StoreUnavailable):
        await write(writer)
    await write(writer)
    assert database.numbers == [1, 2, 3, 4, 5]
    assert {commit.writer for _, commit in database.sent} == {writer.id}
    assert str(uuid.UUID(writer.id)) == writer.id
    assert Writer(database, "c").id != writer.id  # type: ignore[arg-type]


async def test_a_write_is_sent_when_the_one_before_it_has_ended(
    writer: Writer, database: Database
) -> None:
    going_on = asyncio.Event()

    async def wait() -> None:
        await going_on.wait()

    database.next = [wait]
    writing = [asyncio.ensure_future(write(writer)) for _ in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert database.numbers == [1]
    going_on.set()
    await asyncio.gather(*writing)
    assert database.numbers == [1, 2, 3]


async def test_what_was_cancelled_before_its_turn_has_no_number(
    writer: Writer, database: Database
) -> None:
    going_on = asyncio.Event()

    async def wait() -> None:
        await going_on.wait()

    database.next = [wait]
    writing = [asyncio.ensure_future(write(writer)) for _ in range(3)]
    await asyncio.sleep(0)
    writing[1].cancel()
    going_on.set()
    await asyncio.gather(writing[0], writing[2])
    assert database.numbers == [1, 2]
    assert not writer.unknown


async def test_a_lease_sends_its_token_and_what_it_knows_to_be_stored(
    writer: Writer, database: Database
) -> None:
    owned(writer, database)
    writer.epoch = 6
    await write(writer)
    database.next = [raising(StoreUnavailable("away"))]
    with pytest.raises(StoreUnavailable):
        await write(writer)
    await write(writer)
    await write(writer)
    assert [dict(commit.headers) for _, commit in database.sent] == [
        {"x-whatsapp-lease": "7"},
        {"x-whatsapp-lease": "7", "x-whatsapp-stored": "1"},
        {"x-whatsapp-lease": "7", "x-whatsapp-stored": "1"},
        {"x-whatsapp-lease": "7", "x-whatsapp-stored": "3"},
    ]


async def test_without_a_lease_the_last_owner_that_is_known_is_named(
    writer: Writer, database: Database
) -> None:
    await write(writer)
    writer.epoch = 0
    await write(writer)
    assert [dict(commit.headers) for _, commit in database.sent] == [{}, {"x-whatsapp-epoch": "0"}]


FAILURES = [
    StoreUnavailable("away"), InvalidRequest("no"), ConfigurationError("odd"), RuntimeError("bug"),
    asyncio.CancelledError(), GeneratorExit(),
]  # fmt: skip


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_after_any_failure_a_fence_makes_the_outcome_final(
    writer: Writer, database: Database, error: BaseException
) -> None:
    await writer.fence()
    assert database.sent == []
    database.next = [raising(error)]
    with pytest.raises(type(error)):
        await write(writer)
    assert writer.unknown
    await asyncio.gather(*(writer.fence() for _ in range(3)))
    assert not writer.unknown
    await writer.fence()
    assert [what for what, _ in database.sent] == ["whatsapp_keys", "fence_whatsapp_writer"]
    assert database.numbers == [1, 2]


async def test_a_later_write_that_is_stored_makes_the_outcome_final_too(
    writer: Writer, database: Database
) -> None:
    database.next = [raising(StoreUnavailable("away"))]
    with pytest.raises(StoreUnavailable):
        await write(writer)
    await write(writer)
    await writer.fence()
    assert database.numbers == [1, 2]


async def test_a_fence_waits_for_the_write_under_way(writer: Writer, database: Database) -> None:
    going_on = asyncio.Event()

    async def fail_later() -> None:
        await going_on.wait()
        raise StoreUnavailable("away")

    database.next = [raising(StoreUnavailable("away")), fail_later]
    with pytest.raises(StoreUnavailable):
        await write(writer)
    writing = asyncio.ensure_future(write(writer))
    await asyncio.sleep(0)
    fencing = asyncio.ensure_future(writer.fence())
    await asyncio.sleep(0)
    going_on.set()
    await asyncio.wait({writing, fencing})
    assert [what for what, _ in database.sent][-1] == "fence_whatsapp_writer"
    assert not writer.unknown


@pytest.mark.parametrize("answer", [LEASE_REFUSED, LATE])
async def test_a_fence_that_is_refused_is_one_as_well(
    writer: Writer, database: Database, answer: str
) -> None:
    owned(writer, database)
    database.next = [raising(StoreUnavailable("away")), refused(answer)]
    with pytest.raises(StoreUnavailable):
        await write(writer)
    await writer.fence()
    assert not writer.unknown


async def test_a_database_that_was_set_back_ends_the_lease_and_everything_that_follows(
    writer: Writer, database: Database
) -> None:
    lease = owned(writer, database)
    database.next = [refused(RESTORED)]
    with pytest.raises(StateRolledBack):
        await write(writer)
    assert lease.lost.is_set()
    assert lease.rolled_back
    for call in (write(writer), writer.rpc("clear_whatsapp_keys", {}), writer.fence()):
        with pytest.raises(StateRolledBack):
            await call
    assert database.numbers == [1]
    assert database.started == ["Lease._report"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(raising(StoreUnavailable("away")), StoreUnavailable), (refused(RESTORED), StateRolledBack)],
    ids=["no answer", "restored"],
)
async def test_a_fence_without_an_answer_leaves_the_outcome_unknown(
    writer: Writer, database: Database, answer: Answer, kind: type[Exception]
) -> None:
    owned(writer, database)
    database.next = [raising(StoreUnavailable("away")), answer]
    with pytest.raises(StoreUnavailable):
        await write(writer)
    with pytest.raises(kind):
        await writer.fence()
    assert writer.unknown


async def test_a_refusal_says_what_stands_against_the_write(
    writer: Writer, database: Database
) -> None:
    lease = owned(writer, database)
    database.next = [refused(LATE), refused(LEASE_REFUSED)]
    with pytest.raises(WriteRefused, match="later request"):
        await write(writer)
    assert not lease.lost.is_set()
    with pytest.raises(LeaseLost) as raised:
        await write(writer)
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert lease.lost.is_set()
    with pytest.raises(LeaseLost):
        await write(writer)
    assert database.numbers == [1, 2]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("whatsapp logout: company c was logged out by WhatsApp", CompanyQuarantined),
        ("whatsapp sealing: a row of company c is sealed with the key k1", SealedValueError),
    ],
)
@pytest.mark.parametrize("fenced", [True, False])
async def test_a_refusal_that_may_pass_is_told_behind_a_fence(
    writer: Writer, database: Database, said: str, kind: type[Exception], fenced: bool
) -> None:
    owned(writer, database)
    database.next = [refused(said)]
    if not fenced:
        database.next.append(raising(StoreUnavailable("away")))
    with pytest.raises(kind) as raised:
        await write(writer)
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert [what for what, _ in database.sent] == ["whatsapp_keys", "fence_whatsapp_writer"]
    assert database.numbers == [1, 2]
    assert writer.unknown == (not fenced)


async def test_without_a_lease_none_is_lost(writer: Writer, database: Database) -> None:
    database.next = [refused("whatsapp lease: company c is owned by me")]
    with pytest.raises(WriteRefused, match="owned by me"):
        await write(writer)


def test_a_company_that_was_opened_in_another_event_loop_is_not_written(
    database: Database,
) -> None:
    async def open_it() -> Writer:
        return Writer(database, "c")  # type: ignore[arg-type]

    writer = asyncio.run(open_it())
    with pytest.raises(ConfigurationError, match="'c' was opened in another event loop"):
        asyncio.run(write(writer))
    assert database.sent == []


async def test_a_company_that_was_opened_before_a_fork_is_not_written(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ConfigurationError, match="before this process was forked"):
        await write(writer)
    assert database.sent == []
