"""Group commit: joined, in order, durable when it says so, and no one pays for another's data."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supabase_auth_state import InvalidRequest, LeaseLost, StoreError, StoreUnavailable
from supabase_auth_state.store.group_commit import Change, GroupCommit, Outcome, joined


class Database:
    """Takes commits one after the other, when told to, and refuses poison."""

    def __init__(self) -> None:
        self.commits: list[Change] = []
        self.rows: dict[Any, bytes] = {}
        self.under_way = 0
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.error: Exception | None = None

    async def __call__(self, change: Change) -> None:
        self.under_way += 1
        assert self.under_way == 1, "two commits of one company at once"
        try:
            await self.may_commit.wait()
            if self.error is not None:
                raise self.error
            if b"poison" in change.keys.values():
                raise InvalidRequest("refused")
            self.commits.append(change)
            if change.clear:
                self.rows.clear()
            self.rows.update(change.keys)
        finally:
            self.under_way -= 1


def put(key_id: str, value: bytes) -> Change:
    return Change({("session", key_id): value})


async def started(database: Database) -> None:
    while not database.under_way:
        await asyncio.sleep(0)


async def test_writes_of_one_turn_are_one_commit() -> None:
    database = Database()
    writes = GroupCommit(database)
    await asyncio.gather(*(writes.commit(put(str(n), b"1")) for n in range(100)))
    assert len(database.commits) == 1
    assert len(database.rows) == 100


async def test_writes_during_a_commit_join_into_the_next() -> None:
    database = Database()
    database.may_commit.clear()
    writes = GroupCommit(database)
    first = asyncio.create_task(writes.commit(put("1", b"1")))
    await started(database)
    later = [asyncio.create_task(writes.commit(put("1", b"%d" % n))) for n in range(2, 50)]
    await asyncio.sleep(0)
    database.may_commit.set()
    await asyncio.gather(first, *later)
    assert [dict(change.keys) for change in database.commits] == [
        {("session", "1"): b"1"},
        {("session", "1"): b"49"},
    ]


async def test_a_write_returns_only_when_it_is_durable() -> None:
    database = Database()
    database.may_commit.clear()
    writes = GroupCommit(database)
    writing = asyncio.create_task(writes.commit(put("1", b"1")))
    await started(database)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not writing.done()
    assert database.rows == {}
    database.may_commit.set()
    await writing
    assert database.rows == {("session", "1"): b"1"}


def creds(value: bytes) -> Change:
    return Change(creds=value)


async def test_keys_go_before_creds_and_the_last_creds_win() -> None:
    database = Database()
    writes = GroupCommit(database)
    await asyncio.gather(
        writes.commit(creds(b"1")), writes.commit(put("1", b"v")), writes.commit(creds(b"2"))
    )
    assert database.commits == [put("1", b"v"), creds(b"2")]


async def test_a_caller_of_keys_does_not_wait_for_the_creds() -> None:
    database = Database()
    stop_at = asyncio.Event()

    async def send(change: Change) -> None:
        if change.creds is not None:
            await stop_at.wait()
        await database(change)

    writes = GroupCommit(send)
    saving = asyncio.ensure_future(writes.commit(creds(b"1")))
    await writes.commit(put("1", b"v"))
    assert not saving.done()
    stop_at.set()
    await saving


@pytest.mark.parametrize("error", [StoreUnavailable("away"), LeaseLost("c", 1)])
async def test_creds_are_not_written_over_keys_whose_outcome_is_unknown(error: Exception) -> None:
    database = Database()
    database.error = error
    writes = GroupCommit(database)
    results = await asyncio.gather(
        writes.commit(creds(b"1")), writes.commit(put("1", b"v")), return_exceptions=True
    )
    assert results == [error, error]
    assert database.commits == []


@pytest.mark.parametrize("room", [1, 1 << 20], ids=["outside", "in line"])
@pytest.mark.parametrize("value", [b"poison", b"v"], ids=["refused", "unavailable"])
async def test_creds_that_wait_while_keys_fail_are_not_written_without_them(
    room: int, value: bytes
) -> None:
    database = Database()
    database.error = None if value == b"poison" else StoreUnavailable("away")
    database.may_commit.clear()
    writes = GroupCommit(database, max_pending=room)
    keys = put("1", value)
    setting = asyncio.create_task(writes.commit(keys))
    await started(database)
    counting = Change(creds=b"1", counts=[Outcome(ended=True), keys.outcome])
    saving = asyncio.create_task(writes.commit(counting))
    later = asyncio.create_task(writes.commit(put("2", b"v")))
    await asyncio.sleep(0)
    database.may_commit.set()
    [failed, not_saved] = await asyncio.gather(setting, saving, return_exceptions=True)
    assert isinstance(failed, StoreError)
    assert not_saved is failed
    database.error = None
    await asyncio.wait([later])
    assert database.rows.keys() <= {("session", "2")}
    await writes.commit(creds(b"2"))
    assert database.commits[-1] == creds(b"2")
    assert writes._pending == 0


async def test_creds_that_are_refused_leave_the_keys_and_their_callers_alone() -> None:
    database = Database()

    async def send(change: Change) -> None:
        if change.creds == b"bad":
            raise InvalidRequest("refused")
        await database(change)

    writes = GroupCommit(send)
    both = Change(keys={("session", "1"): b"older"}, creds=b"bad")
    results = await asyncio.gather(
        writes.commit(both),
        writes.commit(put("1", b"newer")),
        writes.commit(creds(b"bad")),
        writes.commit(creds(b"good")),
        writes.commit(creds(b"bad")),
        return_exceptions=True,
    )
    refused = [isinstance(result, InvalidRequest) for result in results]
    assert refused == [True, False, True, False, True]
    assert database.rows == {("session", "1"): b"newer"}
    assert database.commits[-1] == creds(b"good")


async def test_after_the_end_of_its_task_every_caller_is_cancelled() -> None:
    database = Database()
    database.may_commit.clear()
    writes = GroupCommit(database, max_commit=1)
    callers = [asyncio.create_task(writes.commit(put(str(n), b"1"))) for n in range(3)]
    await started(database)
    writes._worker.cancel()
    await asyncio.wait(callers)
    assert all(caller.cancelled() for caller in callers)
    database.may_commit.set()
    await writes.commit(put("1", b"2"))
    await writes.settle()


async def test_poison_is_refused_alone_and_order_is_kept() -> None:
    database = Database()
    writes = GroupCommit(database)
    results = await asyncio.gather(
        writes.commit(put("1", b"old")),
        writes.commit(Change({("session", "1"): b"refused too", ("session", "2"): b"poison"})),
        writes.commit(put("1", b"new")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), InvalidRequest, type(None)]
    assert database.rows == {("session", "1"): b"new"}
    assert len(database.commits) == 2


@pytest.mark.parametrize("error", [StoreUnavailable("away"), LeaseLost("c", 1)])
async def test_a_failure_reaches_all_of_its_commit_and_the_next_goes_on(error: Exception) -> None:
    database = Database()
    database.error = error
    writes = GroupCommit(database)
    results = await asyncio.gather(
        *(writes.commit(put(str(n), b"1")) for n in range(3)), return_exceptions=True
    )
    assert results == [error] * 3
    assert database.commits == []
    database.error = None
    await writes.commit(put("1", b"2"))
    assert database.rows == {("session", "1"): b"2"}


async def test_a_cancelled_caller_harms_nobody_and_its_write_happens() -> None:
    database = Database()
    database.may_commit.clear()
    writes = GroupCommit(database)
    callers = [asyncio.create_task(writes.commit(put(str(n), b"1"))) for n in range(3)]
    await started(database)
    callers[1].cancel()
    await asyncio.sleep(0)
    database.may_commit.set()
    await asyncio.gather(callers[0], callers[2])
    assert callers[1].cancelled()
    assert len(database.rows) == 3


async def test_memory_is_bounded_and_callers_wait_in_order() -> None:
    database = Database()
    database.may_commit.clear()
    writes = GroupCommit(database, max_pending=3000, max_commit=1500)
    callers = [
        asyncio.create_task(writes.commit(put("1", b"%04d" % n + b"x" * 900))) for n in range(20)
    ]
    await started(database)
    for _ in range(50):
        await asyncio.sleep(0)
    assert writes._pending <= 3000
    database.may_commit.set()
    await asyncio.gather(*callers)
    values = [change.keys["session", "1"][:4] for change in database.commits]
    assert values == sorted(values)
    assert values[-1] == b"0019"
    assert writes._pending == 0


async def test_a_caller_cancelled_in_line_leaves_the_line_moving() -> None:
    database = Database()
    database.may_commit.clear()
    writes = GroupCommit(database, max_pending=1000)
    callers = [asyncio.create_task(writes.commit(put(str(n), b"x" * 900))) for n in range(4)]
    await started(database)
    for _ in range(5):
        await asyncio.sleep(0)
    callers[1].cancel()
    await asyncio.sleep(0)
    database.may_commit.set()
    await asyncio.gather(callers[0], callers[2], callers[3])
    assert ("session", "1") not in database.rows
    assert len(database.rows) == 3


async def test_a_change_larger_than_all_limits_goes_alone() -> None:
    database = Database()
    writes = GroupCommit(database, max_pending=10, max_commit=10)
    await asyncio.gather(*(writes.commit(put(str(n), b"x" * 100)) for n in range(3)))
    assert len(database.commits) == 3


async def test_clearing_is_in_order_with_the_writes_around_it() -> None:
    database = Database()
    writes = GroupCommit(database)
    await asyncio.gather(
        writes.commit(put("before", b"1")),
        writes.commit(Change(clear=True)),
        writes.commit(put("after", b"1")),
    )
    assert database.rows == {("session", "after"): b"1"}
    assert [change.clear for change in database.commits] == [False, True, False]


async def test_settle_waits_for_everything_and_leaves_no_task() -> None:
    database = Database()
    before = asyncio.all_tasks()
    writes = GroupCommit(database, max_pending=2000)
    callers = [asyncio.create_task(writes.commit(put(str(n), b"x" * 500))) for n in range(10)]
    await asyncio.sleep(0)
    await writes.settle()
    await asyncio.gather(*callers)
    assert len(database.rows) == 10
    assert asyncio.all_tasks() == before


CHANGES = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30
)


@given(CHANGES)
def test_any_schedule_ends_with_the_last_accepted_write_of_each_key(
    plan: list[tuple[str, bool, int]],
) -> None:
    async def run() -> None:
        database = Database()
        writes = GroupCommit(database, max_pending=600, max_commit=300)
        wanted: dict[Any, bytes] = {}
        callers = []
        for n, (key_id, poisoned, yields) in enumerate(plan):
            value = b"poison" if poisoned else b"%d" % n
            if not poisoned:
                wanted["session", key_id] = value
            callers.append(asyncio.create_task(writes.commit(put(key_id, value))))
            for _ in range(yields):
                await asyncio.sleep(0)
        results = await asyncio.gather(*callers, return_exceptions=True)
        refused = [isinstance(result, InvalidRequest) for result in results]
        # Poison that a later value of the same key replaced in the same commit never reaches the
        # database.
        assert all(poisoned for (_, poisoned, _), no in zip(plan, refused, strict=True) if no)
        assert {key: value for key, value in database.rows.items() if key in wanted} == wanted

    asyncio.run(run())


def test_joining_is_call_order() -> None:
    changes = [put("1", b"a"), put("2", b"b"), put("1", b"c")]
    assert joined(changes).keys == {("session", "1"): b"c", ("session", "2"): b"b"}
    for order in itertools.permutations(changes):
        assert joined(list(order)).keys["session", "2"] == b"b"
