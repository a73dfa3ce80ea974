from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from typing import Any

import pytest

from supabase_auth_state.errors import StoreUnavailable
from supabase_auth_state.leases.renewals import Renewals


class FakeLease:
    def __init__(self, company_id: str, token: int = 1) -> None:
        self.company_id = company_id
        self.token = token
        self.lost = asyncio.Event()
        self.told: list[str] = []

    @property
    def claim(self) -> list[Any]:
        return [self.company_id, self.token]

    def answered(self, answer: Mapping[str, Any], asked: float) -> None:
        self.told.append(answer["status"])
        if answer["status"] == "lost":
            self.lost.set()

    async def renew(self) -> None:
        self.told.append("alone")


class FakeRest:
    """Answers each lease by its company's name; an exception in `outages` is raised first."""

    def __init__(self, *outages: Exception) -> None:
        self.outages = list(outages)
        self.asked: asyncio.Queue[list[Any]] = asyncio.Queue()

    async def rpc(self, function: str, params: dict[str, Any], **options: Any) -> Any:
        assert function == "renew_whatsapp_leases"
        self.asked.put_nowait(params["p_leases"])
        if self.outages:
            raise self.outages.pop(0)
        names = {"busy": "busy", "lost": "lost"}
        return [{"status": names.get(company, "renewed")} for company, *_ in params["p_leases"]]

    def deadline(self, seconds: float) -> str:
        return str(seconds)

    def met(self, *events: str) -> None:
        self.events = events

    async def next(self) -> list[Any]:
        return await asyncio.wait_for(self.asked.get(), 30)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make every pause short; return how long they should have been."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def short(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0.001)

    monkeypatch.setattr("supabase_auth_state.leases.renewals.asyncio.sleep", short)
    return pauses


def renewals(rest: Any) -> Renewals:
    return Renewals(rest, 30, lambda: 0.0)


async def test_leases_are_renewed_together_in_a_third_of_their_time(hurry: list[float]) -> None:
    rest = FakeRest()
    together, leases = renewals(rest), [FakeLease(str(n), n) for n in range(3)]
    for lease in leases:
        together.add(lease)
    assert sorted(await rest.next()) == [["0", 0], ["1", 1], ["2", 2]]
    await rest.next()
    assert hurry[0] == 10.0
    assert all(lease.told[0] == "renewed" for lease in leases)
    for lease in leases:
        await together.remove(lease)


async def test_a_thousand_leases_are_ten_requests() -> None:
    rest = FakeRest()
    together, leases = renewals(rest), [FakeLease(str(n)) for n in range(1000)]
    for lease in leases:
        together.add(lease)
    parts = [await rest.next() for _ in range(10)]
    assert len({company for part in parts for company, _ in part}) == 1000
    for lease in leases:
        await together.remove(lease)


async def test_a_busy_company_is_renewed_alone_and_a_lost_one_no_more() -> None:
    rest = FakeRest()
    together, busy, lost = renewals(rest), FakeLease("busy"), FakeLease("lost")
    together.add(busy)
    together.add(lost)
    assert len(await rest.next()) == 2
    assert await rest.next() == [["busy", 1]]
    await rest.next()
    assert busy.told[0] == "alone"
    assert lost.told == ["lost"]
    for lease in (busy, lost):
        await together.remove(lease)


async def test_an_unanswered_renewal_is_repeated_soon_and_tells_no_lease_anything(
    hurry: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    rest = FakeRest(StoreUnavailable("no answer"), asyncio.TimeoutError(), TypeError("odd answer"))
    together, lease = renewals(rest), FakeLease("962302")
    together.add(lease)
    for _ in range(4):
        await rest.next()
    assert hurry[0] == 10.0
    assert 0.5 <= hurry[1] <= 1.0
    assert 1.0 <= hurry[2] <= 2.0
    await rest.next()
    assert set(lease.told) == {"renewed"}
    assert "1 leases: renewal unanswered (no answer)" in caplog.text
    assert "1 leases: renewal unanswered (TimeoutError)" in caplog.text
    assert "1 leases: renewal unanswered (odd answer)" in caplog.text
    await together.remove(lease)


async def test_no_task_is_left_after_the_last_lease_and_one_begins_with_the_next() -> None:
    before = asyncio.all_tasks()
    rest = FakeRest()
    together, lease = renewals(rest), FakeLease("962302")
    for _ in range(2):
        together.add(lease)
        await rest.next()
        await together.remove(lease)
        assert asyncio.all_tasks() == before


def test_another_event_loop_renews_its_own_leases_only() -> None:
    rest = FakeRest()
    together = renewals(rest)

    async def begin(name: str) -> None:
        rest.asked = asyncio.Queue()
        together.add(FakeLease(name))
        assert await rest.next() == [[name, 1]]

    for name in ("first", "second"):
        asyncio.run(begin(name))


async def test_an_end_while_a_busy_company_is_renewed_alone_leaves_nothing_in_the_log(
    fresh_log: pytest.LogCaptureFixture,
) -> None:
    together, busy, alone = renewals(FakeRest()), FakeLease("busy"), asyncio.Event()

    async def renew() -> None:
        alone.set()
        await asyncio.Event().wait()

    busy.renew = renew  # type: ignore[method-assign]
    together.add(busy)
    await asyncio.wait_for(alone.wait(), 30)
    await together.remove(busy)
    gc.collect()
    assert fresh_log.records == []
