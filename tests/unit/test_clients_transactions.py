from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from supabase_auth_state.clients.transactions import KeyedLocks, TransactionalKeys
from supabase_auth_state.errors import StoreUnavailable
from supabase_auth_state.types import SignalDataSet, SignalKeyStore


class Store:
    """A key store that tells what was asked of it, holds commits back, and fails on demand."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Any] = {}
        self.reads: list[tuple[str, tuple[str, ...]]] = []
        self.commits: list[SignalDataSet] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.failure: Exception | None = None

    async def get(self, type: str, ids: Sequence[str]) -> dict[str, Any]:
        self.reads.append((type, tuple(ids)))
        if self.failure is not None:
            raise self.failure
        return {i: copy.deepcopy(self.rows[type, i]) for i in ids if (type, i) in self.rows}

    async def set(self, data: SignalDataSet) -> None:
        self.arrived.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.commits.append(data)
        for key_type, values in data.items():
            for key_id, value in values.items():
                if value is None:
                    self.rows.pop((key_type, key_id), None)
                else:
                    self.rows[key_type, key_id] = value

    async def clear(self) -> None:
        self.rows.clear()


async def in_transaction(
    keys: TransactionalKeys, key: str, work: Callable[[], Awaitable[None]]
) -> None:
    async with keys.transaction(key):
        await work()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def keys(store: Store) -> TransactionalKeys:
    return TransactionalKeys(store)


def test_it_is_a_key_store(keys: TransactionalKeys) -> None:
    assert isinstance(keys, SignalKeyStore)


async def test_outside_a_transaction_calls_go_straight_through(
    keys: TransactionalKeys, store: Store
) -> None:
    await keys.set({"session": {"a.0": {"n": 1}}})
    assert store.commits == [{"session": {"a.0": {"n": 1}}}]
    assert await keys.get("session", ["a.0", "b.0"]) == {"a.0": {"n": 1}}
    await keys.clear()
    assert store.rows == {}


async def test_a_transaction_is_one_commit_of_everything_written(
    keys: TransactionalKeys, store: Store
) -> None:
    store.rows["pre-key", "7"] = {"private": b"1", "public": b"2"}
    async with keys.transaction("a.0"):
        await keys.set({"identity-key": {"a.0": b"key"}})
        await keys.set({"session": {"a.0": {"n": 1}}})
        await keys.set({"session": {"a.0": {"n": 2}}, "pre-key": {"7": None}})
        assert store.commits == []
    assert store.commits == [
        {
            "identity-key": {"a.0": b"key"},
            "session": {"a.0": {"n": 2}},
            "pre-key": {"7": None},
        }
    ]


async def test_a_transaction_sees_its_own_writes_and_deletions(
    keys: TransactionalKeys, store: Store
) -> None:
    store.rows["session", "a.0"] = {"n": 0}
    async with keys.transaction("a.0"):
        await keys.set({"session": {"a.0": None, "b.0": {"n": 1}}})
        assert await keys.get("session", ["a.0", "b.0", "c.0"]) == {"b.0": {"n": 1}}


async def test_a_row_is_read_once_and_an_absence_too(keys: TransactionalKeys, store: Store) -> None:
    store.rows["lid-mapping", "15550100001"] = "200000000000100"
    async with keys.transaction("a.0"):
        for _ in range(2):
            found = await keys.get("lid-mapping", ["15550100001", "15550100002"])
            assert found == {"15550100001": "200000000000100"}
        await keys.get("lid-mapping", ["15550100002", "15550100003"])
    assert store.reads == [
        ("lid-mapping", ("15550100001", "15550100002")),
        ("lid-mapping", ("15550100003",)),
    ]


async def test_values_are_fresh_each_time_and_cut_off_from_the_writer(
    keys: TransactionalKeys, store: Store
) -> None:
    store.rows["device-list", "1"] = ["0"]
    written = {"n": [1]}
    async with keys.transaction("a.0"):
        (await keys.get("device-list", ["1"]))["1"].append("9")
        assert await keys.get("device-list", ["1"]) == {"1": ["0"]}
        await keys.set({"session": {"a.0": written}})
        written["n"].append(2)
        (await keys.get("session", ["a.0"]))["a.0"]["n"].append(3)
    assert store.commits == [{"session": {"a.0": {"n": [1]}}}]


async def test_an_exception_leaves_nothing_behind(keys: TransactionalKeys, store: Store) -> None:
    async def stumble() -> None:
        await keys.set({"session": {"a.0": {}}})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await in_transaction(keys, "a.0", stumble)
    assert store.commits == []
    assert not keys.in_transaction
    assert await keys.get("session", ["a.0"]) == {}


async def test_a_read_that_failed_unseen_fails_the_transaction(
    keys: TransactionalKeys, store: Store
) -> None:
    """WAeys takes a failed read of a session for "no session" and stores a new record."""

    async def load_like_waeys() -> None:
        with contextlib.suppress(StoreUnavailable):
            await keys.get("session", ["a.0"])
        store.failure = None
        await keys.set({"session": {"a.0": {}}})

    store.failure = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable, match="gone"):
        await in_transaction(keys, "a.0", load_like_waeys)
    assert store.commits == []


async def test_a_transaction_that_wrote_nothing_commits_nothing(
    keys: TransactionalKeys, store: Store
) -> None:
    async with keys.transaction("a.0"):
        await keys.get("session", ["a.0"])
    assert store.commits == []


async def test_a_nested_transaction_joins_the_outer_one(
    keys: TransactionalKeys, store: Store
) -> None:
    async with keys.transaction("a.0"):
        await keys.set({"session": {"a.0": {"n": 1}}})
        async with keys.transaction("a.0"):
            assert await keys.get("session", ["a.0"]) == {"a.0": {"n": 1}}
            await keys.set({"session": {"a.0": {"n": 2}}})
        assert await keys.get("session", ["a.0"]) == {"a.0": {"n": 2}}
        assert store.commits == []
    assert store.commits == [{"session": {"a.0": {"n": 2}}}]


async def test_a_nested_transaction_that_raises_drops_only_its_own_writes(
    keys: TransactionalKeys, store: Store
) -> None:
    async def stumble() -> None:
        await keys.set({"session": {"a.0": None, "b.0": {}}})
        raise ZeroDivisionError

    async with keys.transaction("a.0"):
        await keys.set({"session": {"a.0": {"n": 1}}})
        with pytest.raises(ZeroDivisionError):
            await in_transaction(keys, "b.0", stumble)
        assert await keys.get("session", ["a.0", "b.0"]) == {"a.0": {"n": 1}}
    assert store.commits == [{"session": {"a.0": {"n": 1}}}]


async def test_tasks_started_inside_belong_to_the_transaction(
    keys: TransactionalKeys, store: Store
) -> None:
    async def encrypt(contact: str) -> None:
        async with keys.transaction(contact):
            await keys.set({"session": {contact: {}}})

    async with keys.transaction("group"):
        await asyncio.gather(*(encrypt(f"{number}.0") for number in range(5)))
        assert store.commits == []
    assert store.commits == [{"session": {f"{number}.0": {} for number in range(5)}}]


async def test_a_task_that_outlives_its_transaction_writes_by_itself(
    keys: TransactionalKeys, store: Store
) -> None:
    late = asyncio.Event()

    async def straggle() -> None:
        async with keys.transaction("b.0"):
            await late.wait()
            await keys.set({"session": {"b.0": {}}})

    async with keys.transaction("a.0"):
        straggler = asyncio.create_task(straggle())
        await asyncio.sleep(0)
        await keys.set({"session": {"a.0": {}}})
    late.set()
    await straggler
    assert store.commits == [{"session": {"a.0": {}}}, {"session": {"b.0": {}}}]


async def test_transactions_of_two_stores_do_not_mix(keys: TransactionalKeys, store: Store) -> None:
    other_store = Store()
    other = TransactionalKeys(other_store)
    async with keys.transaction("a.0"), other.transaction("a.0"):
        await keys.set({"session": {"a.0": {"of": "one"}}})
        await other.set({"session": {"a.0": {"of": "other"}}})
        assert await keys.get("session", ["a.0"]) == {"a.0": {"of": "one"}}
    assert store.commits == [{"session": {"a.0": {"of": "one"}}}]
    assert other_store.commits == [{"session": {"a.0": {"of": "other"}}}]


async def test_the_next_transaction_of_a_key_waits_for_the_commit(
    keys: TransactionalKeys, store: Store
) -> None:
    async def count_up() -> None:
        async with keys.transaction("a.0"):
            found = await keys.get("session", ["a.0"])
            number = found.get("a.0", {"n": 0})["n"]
            await asyncio.sleep(0)
            await keys.set({"session": {"a.0": {"n": number + 1}}})

    store.gate.clear()
    waiting = [asyncio.create_task(count_up()) for _ in range(20)]
    await store.arrived.wait()
    store.gate.set()
    await asyncio.gather(*waiting)
    assert store.rows == {("session", "a.0"): {"n": 20}}


async def test_transactions_of_different_keys_commit_side_by_side(
    keys: TransactionalKeys, store: Store
) -> None:
    store.gate.clear()

    async def write(contact: str) -> None:
        async with keys.transaction(contact):
            await keys.set({"session": {contact: {}}})

    first = asyncio.create_task(write("a.0"))
    await store.arrived.wait()
    store.arrived.clear()
    second = asyncio.create_task(write("b.0"))
    await asyncio.wait_for(store.arrived.wait(), 5)
    store.gate.set()
    await asyncio.gather(first, second)


async def test_a_failed_commit_is_raised_and_frees_the_key(
    keys: TransactionalKeys, store: Store
) -> None:
    async def write() -> None:
        await keys.set({"session": {"a.0": {}}})

    store.failure = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        await in_transaction(keys, "a.0", write)
    store.failure = None
    async with keys.transaction("a.0"):
        await keys.set({"session": {"a.0": {}}})
    assert store.rows == {("session", "a.0"): {}}


async def test_a_cancelled_commit_holds_its_key_until_its_outcome_is_known(
    keys: TransactionalKeys, store: Store
) -> None:
    async def write(number: int) -> None:
        async with keys.transaction("a.0"):
            await keys.get("session", ["a.0"])
            await keys.set({"session": {"a.0": {"n": number}}})

    store.gate.clear()
    first = asyncio.create_task(write(1))
    await store.arrived.wait()
    first.cancel()
    second = asyncio.create_task(write(2))
    await asyncio.sleep(0)
    assert len(store.reads) == 1
    store.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert [commit["session"]["a.0"]["n"] for commit in store.commits] == [1, 2]


async def test_a_lock_is_gone_when_nobody_needs_it() -> None:
    locks = KeyedLocks()
    async with locks.of("a"):
        assert locks.of("a").locked()
        assert not locks.of("b").locked()
    gc.collect()
    assert len(locks._locks) == 0


async def test_a_slow_read_does_not_hide_what_was_written_around_it_meanwhile(
    keys: TransactionalKeys, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.rows["session", "a"] = "old"
    reading, answer = asyncio.Event(), asyncio.Event()
    read = store.get

    async def slow_get(type: str, ids: Sequence[str]) -> dict[str, Any]:
        found = await read(type, ids)
        reading.set()
        await answer.wait()
        return found

    monkeypatch.setattr(store, "get", slow_get)
    seen: list[Any] = []

    async def inside() -> None:
        async with keys.transaction("a"):
            seen.append(await keys.get("session", ["a"]))
            seen.append(await keys.get("session", ["a"]))

    async with keys.transaction("a"):
        task = asyncio.create_task(inside())
        await reading.wait()
        await keys.set({"session": {"a": "new"}})
        answer.set()
        await task
    assert seen == [{"a": "new"}, {"a": "new"}]
    assert store.rows == {("session", "a"): "new"}


async def test_a_clear_in_a_transaction_leaves_nothing_of_what_was_read_and_written_before(
    keys: TransactionalKeys, store: Store
) -> None:
    store.rows["session", "read"] = 1
    async with keys.transaction("a"):
        await keys.get("session", ["read"])
        await keys.set({"session": {"written": 2}})
        async with keys.transaction("b"):
            await keys.set({"session": {"inside": 3}})
            await keys.clear()
            assert await keys.get("session", ["read", "written", "inside"]) == {}
            await keys.set({"session": {"after": 4}})
    assert store.rows == {("session", "after"): 4}


async def test_a_read_that_was_given_up_unseen_fails_the_transaction(
    keys: TransactionalKeys, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(type: str, ids: Sequence[str]) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def message() -> None:
        async with keys.transaction("a"):
            # Clients take a read that took too long for "not stored".
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(keys.get("session", ["a"]), 0.01)
            await keys.set({"session": {"a": "a new session"}})

    store.rows["session", "a"] = "the session"
    monkeypatch.setattr(store, "get", hang)
    with pytest.raises(StoreUnavailable, match="given up"):
        await message()
    assert store.rows == {("session", "a"): "the session"}
