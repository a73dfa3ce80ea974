"""Joined reads: one request a turn, and nobody's cancellation or error is another's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supabase_auth_state.store.joined_reads import JoinedReads, split


class Fetching:
    """A database that answers when told to."""

    def __init__(self) -> None:
        self.requests: list[dict[str, list[str]]] = []
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, wanted: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
        self.requests.append(wanted)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return {
            kind: {i: f"{kind} {i}" for i in ids if i != "absent"} for kind, ids in wanted.items()
        }


@pytest.fixture
def fetch() -> Fetching:
    fetching = Fetching()
    fetching.may_answer.set()
    return fetching


async def test_reads_of_one_turn_are_one_request(fetch: Fetching) -> None:
    reads = JoinedReads(fetch)
    found = await asyncio.gather(
        reads.get("session", ["1", "2"]),
        reads.get("session", ["2", "3"]),
        reads.get("pre-key", ["1"]),
    )
    assert found == [
        {"1": "session 1", "2": "session 2"},
        {"2": "session 2", "3": "session 3"},
        {"1": "pre-key 1"},
    ]
    assert fetch.requests == [{"session": ["1", "2", "3"], "pre-key": ["1"]}]


async def test_values_come_in_the_order_asked_for() -> None:
    async def fetch(_: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
        return {"pre-key": {"10": b"", "2": b"", "1": b""}}

    found = await JoinedReads(fetch).get("pre-key", ["1", "2", "10"])
    assert list(found) == ["1", "2", "10"]


async def test_a_hundred_tasks_are_one_request(fetch: Fetching) -> None:
    reads = JoinedReads(fetch)
    await asyncio.gather(*(reads.get("session", [str(n)]) for n in range(100)))
    assert len(fetch.requests) == 1


async def test_reads_of_a_later_turn_do_not_wait_for_an_earlier_answer(fetch: Fetching) -> None:
    fetch.may_answer.clear()
    reads = JoinedReads(fetch)
    first = asyncio.ensure_future(reads.get("session", ["1"]))
    while not fetch.requests:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(reads.get("session", ["1"]))
    while len(fetch.requests) < 2:
        await asyncio.sleep(0)
    fetch.may_answer.set()
    assert await first == await second == {"1": "session 1"}


async def test_callers_of_the_same_id_get_values_of_their_own() -> None:
    stored = {"session": {"1": {"counter": [1]}, "2": b"bytes"}}

    async def fetch(_: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
        return stored

    reads = JoinedReads(fetch)
    first, second = await asyncio.gather(
        reads.get("session", ["1", "2"]), reads.get("session", ["1", "2"])
    )
    first["1"]["counter"].append(2)
    assert second == {"1": {"counter": [1]}, "2": b"bytes"}


async def test_an_absent_id_is_absent(fetch: Fetching) -> None:
    assert await JoinedReads(fetch).get("session", ["absent", "1"]) == {"1": "session 1"}
    assert await JoinedReads(fetch).get("unheard-of", ["absent"]) == {}


async def test_nothing_asked_is_no_request(fetch: Fetching) -> None:
    assert await JoinedReads(fetch).get("session", []) == {}
    assert fetch.requests == []


@pytest.mark.parametrize("cancel_before_request", [True, False])
async def test_a_cancelled_caller_harms_nobody(
    fetch: Fetching, cancel_before_request: bool
) -> None:
    fetch.may_answer.clear()
    reads = JoinedReads(fetch)
    callers = [asyncio.ensure_future(reads.get("session", [str(n)])) for n in range(3)]
    await asyncio.sleep(0)
    while not cancel_before_request and not fetch.requests:
        await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.sleep(0)
    fetch.may_answer.set()
    assert await callers[1] == {"1": "session 1"}
    assert await callers[2] == {"2": "session 2"}
    assert callers[0].cancelled()


async def test_all_callers_cancelled_leaves_no_task_and_no_complaint(fetch: Fetching) -> None:
    fetch.may_answer.clear()
    fetch.error = OSError("away")
    before = asyncio.all_tasks()
    reads = JoinedReads(fetch)
    callers = [asyncio.ensure_future(reads.get("session", [str(n)])) for n in range(3)]
    while not fetch.requests:
        await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    fetch.may_answer.set()
    await reads.settle()
    assert asyncio.all_tasks() == before | set()


async def test_a_request_cancelled_before_it_began_leaves_nobody_waiting(fetch: Fetching) -> None:
    # An eager task has begun when it is there.
    asyncio.get_running_loop().set_task_factory(None)
    reads = JoinedReads(fetch)
    answer = reads.get("session", ["1"])
    await asyncio.sleep(0)
    (task,) = reads._running
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    assert await reads.get("session", ["1"]) == {"1": "session 1"}
    assert fetch.requests == [{"session": ["1"]}]


async def test_an_error_reaches_every_caller_of_the_request_and_no_later_one(
    fetch: Fetching,
) -> None:
    fetch.error = OSError("away")
    reads = JoinedReads(fetch)
    failed = await asyncio.gather(
        reads.get("session", ["1"]), reads.get("pre-key", ["1"]), return_exceptions=True
    )
    assert failed == [fetch.error, fetch.error]
    fetch.error = None
    assert await reads.get("session", ["1"]) == {"1": "session 1"}


async def test_thousands_of_ids_are_several_requests_and_one_answer(fetch: Fetching) -> None:
    ids = [str(n) for n in range(4500)]
    assert await JoinedReads(fetch).get("pre-key", ids) == {i: f"pre-key {i}" for i in ids}
    assert [len(request["pre-key"]) for request in fetch.requests] == [2000, 2000, 500]


def test_split_keeps_every_id_once() -> None:
    wanted = {"a": dict.fromkeys(map(str, range(1999))), "b": dict.fromkeys(map(str, range(2002)))}
    parts = split(wanted)
    assert [sum(map(len, part.values())) for part in parts] == [2000, 2000, 1]
    for kind, ids in wanted.items():
        assert [i for part in parts for i in part.get(kind, [])] == list(ids)
