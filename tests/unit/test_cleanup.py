from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from supabase_auth_state.errors import (
    ConfigurationError,
    LeaseHeld,
    SchemaMissing,
    StoreUnavailable,
)
from supabase_auth_state.operations.cleanup import (
    CLEANUP_LEASE,
    CleanupReport,
    CleanupWorker,
    parse_interval,
    run_cleanup,
    schedule_cleanup,
    start_automatic_cleanup,
)
from supabase_auth_state.rest.backoff import Timing
from tests.eager import eager_task_factory

NAMED = {"company_id": CLEANUP_LEASE}
TABLE = {"heap": 8, "toast": 4, "indexes": 2}
OVERVIEW = {
    "time": 20.0,
    "refreshed_at": 10.0,
    "recounted_at": 5.0,
    "companies": 1,
    "expired": 0,
    "keys": {"rows": 7, "bytes": 700, "by_type": {}},
    "storage": {"auth": TABLE, "keys": TABLE, "database": 50},
}
COMPANY = {"company_id": "7", "rows": 7, "bytes": 700, "expired": 0}
PAGE = {"companies": [{**COMPANY, "pause": None}], "after": None}
STATS = {
    "time": 20.0, "counted_at": 10.0, "every_company_counted_at": 5.0, "companies": 1, "rows": 7,
    "bytes": 700, "expired": 0, "by_type": {}, "by_company": [COMPANY],
    "tables": {"public.whatsapp_auth": 14, "public.whatsapp_keys": 14}, "database_bytes": 50,
}  # fmt: skip


class SlowBatch:
    """A batch that says when it has begun and ends when it is told."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.end = asyncio.Event()

    async def run(self) -> int:
        self.begun.set()
        await self.end.wait()
        return 1


class FakeRest:
    """A database whose clean-up has batches to delete; an exception among them is raised."""

    def __init__(self, *batches: Any) -> None:
        self.batches = list(batches)
        self.owner: str | None = None
        self.calls: list[str] = []
        self.closed = False
        self.overview: Any = OVERVIEW

    async def rpc(self, function: str, params: dict[str, Any], **options: Any) -> Any:
        self.calls.append(function)
        await asyncio.sleep(0)
        answer = await getattr(self, function)(**params)
        if not options.get("is_right", lambda _: True)(answer):
            raise StoreUnavailable("not the answer to this request")
        return answer

    async def ask(
        self, function: str, company_id: str, params: dict[str, Any], **options: Any
    ) -> Any:
        return await self.rpc(function, params)

    async def do(self, function: str, params: dict[str, Any], **options: Any) -> None:
        await self.rpc(function, params)

    async def acquire_whatsapp_lease(self, **params: Any) -> dict[str, Any]:
        if self.owner is not None:
            return {**NAMED, "token": None, "owner": self.owner, "expires_at": None}
        self.owner = params["p_owner"]
        return {**NAMED, "token": 1, "expires_at": None, "lapses": 0}

    async def release_whatsapp_lease(self, **params: Any) -> bool:
        self.owner = None
        return True

    async def cleanup_expired_whatsapp_keys(self, p_batch_size: int) -> Any:
        batch = self.batches.pop(0) if self.batches else 0
        if isinstance(batch, Exception):
            raise batch
        if isinstance(batch, SlowBatch):
            return await batch.run()
        return batch

    async def record_whatsapp_cleanup(self, **params: Any) -> int:
        return 1

    async def recount_whatsapp_statistics(self, **params: Any) -> Any:
        return {"counted": 0, "corrected": 0, "after": None}

    async def whatsapp_overview(self) -> Any:
        if isinstance(self.overview, Exception):
            raise self.overview
        return self.overview

    async def whatsapp_companies_page(self, **params: Any) -> Any:
        return PAGE

    async def schedule_whatsapp_cleanup(self, **params: Any) -> Any:
        return self.overview

    async def in_background(self, work: Any) -> None:
        await work

    def deadline(self, seconds: float) -> str:
        return str(seconds)

    def met(self, *events: str) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


class FakeTime:
    """Sleeps end when the test says so; their lengths are kept."""

    def __init__(self) -> None:
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        self.wake = asyncio.Semaphore(0)

    @property
    def timing(self) -> Timing:
        return Timing(now=lambda: 0.0, sleep=self.sleep, random=lambda: 0.5)

    async def sleep(self, seconds: float) -> None:
        self.pauses.put_nowait(seconds)
        await self.wake.acquire()

    async def next_pause(self) -> float:
        """Wait for the worker to pause, and end the pause."""
        pause = await asyncio.wait_for(self.pauses.get(), 5)
        self.wake.release()
        return pause


@pytest.fixture(params=["lazy", "eager"])
async def time(request: pytest.FixtureRequest) -> FakeTime:
    """A time of the test's own, where tasks begin later or at once."""
    if request.param == "eager":
        asyncio.get_running_loop().set_task_factory(eager_task_factory)
    return FakeTime()


@pytest.fixture(autouse=True)
def patched_open_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a FakeRest stand where a client is taken."""
    monkeypatch.setattr(
        "supabase_auth_state.operations.cleanup.open_rest",
        lambda settings=None, client=None: client,
    )


# parse_interval


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [("90s", 90), ("15m", 900), ("6h", 21600), ("1d", 86400), (" 6H ", 21600), ("1.5h", 5400),
     ("30", 30), (30, 30), (1.5, 1.5)],
)  # fmt: skip
def test_an_interval_is_a_number_with_a_unit_or_seconds(
    interval: str | float, seconds: float
) -> None:
    assert parse_interval(interval) == seconds


@pytest.mark.parametrize("interval", ["", "h", "6 h", "6w", "-6h", "0", "0.5s", "six", "1h30m", -1])
def test_what_is_no_interval_is_refused_with_examples(interval: str | float) -> None:
    with pytest.raises(ConfigurationError, match="write 90s, 15m, 6h or 1d"):
        parse_interval(interval)


# run_cleanup


async def test_a_run_deletes_batch_by_batch_until_nothing_is_left_then_measures() -> None:
    rest: Any = FakeRest(5000, 5000, 12, 0)
    report = await run_cleanup(rest, timing=Timing(now=lambda: 0.0))
    assert report == CleanupReport(deleted=10012, complete=True, seconds=0.0, stats=STATS)
    assert rest.calls == [
        "acquire_whatsapp_lease",
        *["cleanup_expired_whatsapp_keys"] * 4,
        "record_whatsapp_cleanup",
        "recount_whatsapp_statistics",
        "release_whatsapp_lease",
        "whatsapp_overview",
        "whatsapp_companies_page",
    ]


async def test_a_schema_without_statistics_is_cleaned_up_all_the_same() -> None:
    rest: Any = FakeRest(3)
    rest.overview = SchemaMissing("not there")
    report = await run_cleanup(rest)
    assert (report.deleted, report.complete, report.stats) == (3, True, None)


async def test_a_run_while_another_process_is_at_it_deletes_nothing() -> None:
    rest: Any = FakeRest(5000)
    rest.owner = "another/1"
    with pytest.raises(LeaseHeld, match="another/1"):
        await run_cleanup(rest)
    assert rest.calls == ["acquire_whatsapp_lease"]


async def test_a_run_told_to_stop_ends_after_its_batch_and_says_so() -> None:
    batch, stopping = SlowBatch(), asyncio.Event()
    rest: Any = FakeRest(100, batch, 100)
    running = asyncio.create_task(run_cleanup(rest, stopping=stopping))
    await batch.begun.wait()
    stopping.set()
    batch.end.set()
    report = await running
    assert (report.deleted, report.complete, report.stats) == (101, False, None)
    assert rest.owner is None


async def test_a_run_that_fails_gives_the_lease_back() -> None:
    rest: Any = FakeRest(100, StoreUnavailable("no answer"))
    with pytest.raises(StoreUnavailable):
        await run_cleanup(rest)
    assert rest.owner is None


@pytest.mark.parametrize("answer", [None, [], {}, "5000", True, 1.5])
async def test_an_answer_that_is_no_number_of_rows_is_no_answer(answer: Any) -> None:
    rest: Any = FakeRest(answer)
    with pytest.raises(StoreUnavailable):
        await run_cleanup(rest)
    assert rest.owner is None


@pytest.mark.parametrize("answer", [None, [], {}, "accepted"])
async def test_an_answer_that_is_no_statistics_is_no_answer(answer: Any) -> None:
    rest: Any = FakeRest()
    rest.overview = answer
    with pytest.raises(StoreUnavailable):
        await run_cleanup(rest)
    with pytest.raises(StoreUnavailable):
        await schedule_cleanup(rest)


# start_automatic_cleanup


async def test_runs_begin_within_a_minute_and_follow_each_other_with_jitter(
    time: FakeTime,
) -> None:
    rest: Any = FakeRest()
    reports: list[CleanupReport] = []
    async with start_automatic_cleanup(
        "6h", client=rest, on_report=reports.append, timing=time.timing
    ) as worker:
        assert [await time.next_pause() for _ in range(3)] == [30.0, 21600.0, 21600.0]
        assert [report.stats for report in reports] == [STATS, STATS]
        assert worker.last_report is reports[-1]


async def test_a_short_interval_begins_within_the_interval(time: FakeTime) -> None:
    rest: Any = FakeRest()
    async with start_automatic_cleanup(10, client=rest, timing=time.timing):
        assert await time.next_pause() == 5.0


async def test_outages_are_survived_with_growing_pauses_up_to_the_interval(
    time: FakeTime, fresh_log: pytest.LogCaptureFixture
) -> None:
    rest: Any = FakeRest(
        StoreUnavailable("no answer"), SchemaMissing("not there"), StoreUnavailable("no answer"), 3
    )
    async with start_automatic_cleanup("90s", client=rest, timing=time.timing) as worker:
        pauses = [await time.next_pause() for _ in range(5)]
        assert pauses == [30.0, 22.5, 45.0, 67.5, 90.0]
        assert worker.last_report is not None
        assert worker.last_report.deleted == 3
    assert [record.levelno for record in fresh_log.records] == [logging.WARNING] * 3


async def test_a_fault_of_another_kind_is_survived_and_logged_without_its_text(
    time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    rest: Any = FakeRest(KeyError("noiseKey=abc"), 3)
    async with start_automatic_cleanup("90s", client=rest, timing=time.timing) as worker:
        assert [await time.next_pause() for _ in range(3)] == [30.0, 22.5, 90.0]
        assert worker.last_report is not None
    assert "clean-up: failed, and is tried again (KeyError)" in caplog.text
    assert "noiseKey" not in caplog.text


async def test_another_process_at_it_is_no_failure(
    time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "supabase_auth_state")
    rest: Any = FakeRest()
    rest.owner = "another/1"
    async with start_automatic_cleanup("6h", client=rest, timing=time.timing) as worker:
        assert [await time.next_pause() for _ in range(2)] == [30.0, 21600.0]
        assert worker.last_report is None
    assert "clean-up: skipped, because another/1 is cleaning up now" in caplog.text


async def test_stop_between_runs_ends_at_once_and_leaves_no_task(time: FakeTime) -> None:
    before = asyncio.all_tasks()
    rest: Any = FakeRest()
    worker = start_automatic_cleanup("6h", client=rest, timing=time.timing)
    await asyncio.wait_for(time.pauses.get(), 5)
    await worker.stop()
    assert asyncio.all_tasks() == before
    assert rest.calls == []
    await worker.stop()


async def test_stop_before_the_first_step_ends_at_once(time: FakeTime) -> None:
    rest: Any = FakeRest()
    await start_automatic_cleanup("6h", client=rest, timing=time.timing).stop()
    assert rest.calls == []


async def test_stop_during_a_run_waits_for_the_batch_and_no_other(time: FakeTime) -> None:
    batch = SlowBatch()
    rest: Any = FakeRest(batch, 100)
    worker = start_automatic_cleanup("6h", client=rest, timing=time.timing)
    await time.next_pause()
    await batch.begun.wait()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    batch.end.set()
    await stopping
    assert rest.calls.count("cleanup_expired_whatsapp_keys") == 1
    assert rest.owner is None


async def test_stop_during_a_request_that_never_ends_gives_it_up_and_the_lease_back(
    time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supabase_auth_state.operations.cleanup._STOP_WITHIN", 0.0)
    batch = SlowBatch()
    rest: Any = FakeRest(batch)
    worker = start_automatic_cleanup("6h", client=rest, timing=time.timing)
    await time.next_pause()
    await batch.begun.wait()
    await worker.stop()
    assert rest.owner is None


async def test_a_stop_that_is_given_up_gives_the_batch_up_and_the_lease_back(
    time: FakeTime,
) -> None:
    before = asyncio.all_tasks()
    batch = SlowBatch()
    rest: Any = FakeRest(batch)
    worker = start_automatic_cleanup("6h", client=rest, timing=time.timing)
    await time.next_pause()
    await batch.begun.wait()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping})
    await worker.stop()
    assert rest.owner is None
    assert asyncio.all_tasks() == before


def test_a_worker_is_refused_in_a_second_event_loop_and_without_one() -> None:
    rest: Any = FakeRest()

    async def start() -> CleanupWorker:
        return start_automatic_cleanup("6h", client=rest)

    async def stop() -> None:
        await worker.stop()

    worker = asyncio.run(start())
    with pytest.raises(ConfigurationError, match="another event loop"):
        asyncio.run(stop())
    with pytest.raises(ConfigurationError, match="in a coroutine"):
        start_automatic_cleanup("6h", client=rest)


async def test_a_plain_with_says_async_with(time: FakeTime) -> None:
    rest: Any = FakeRest()
    async with start_automatic_cleanup("6h", client=rest, timing=time.timing) as worker:
        plain: Any = worker
        with pytest.raises(TypeError, match="write `async with`"), plain:
            pass


async def test_a_worker_is_refused_after_a_fork(
    time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest: Any = FakeRest()
    async with start_automatic_cleanup("6h", client=rest, timing=time.timing) as worker:
        with monkeypatch.context() as child:
            child.setattr("os.getpid", lambda: -1)
            with pytest.raises(ConfigurationError, match="forked"):
                await worker.stop()


async def test_a_client_of_the_users_own_is_left_open(time: FakeTime) -> None:
    rest: Any = FakeRest()
    async with start_automatic_cleanup("6h", client=rest, timing=time.timing):
        await time.next_pause()
    assert not rest.closed


async def test_connections_opened_here_are_closed(
    time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest: Any = FakeRest()
    monkeypatch.setattr(
        "supabase_auth_state.operations.cleanup.open_rest", lambda settings, client: rest
    )
    async with start_automatic_cleanup("6h", timing=time.timing):
        await time.next_pause()
    assert rest.closed


@pytest.mark.parametrize("error", [OSError("disk full"), asyncio.CancelledError(), GeneratorExit()])
async def test_a_failing_on_report_does_not_end_the_clean_up(
    time: FakeTime, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def on_report(report: CleanupReport) -> None:
        raise error

    rest: Any = FakeRest()
    async with start_automatic_cleanup("6h", client=rest, on_report=on_report, timing=time.timing):
        for _ in range(3):
            await time.next_pause()
    assert caplog.text.count(f"on_report failed ({type(error).__name__})") == 2


async def test_a_bad_interval_is_refused_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*args: Any, **options: Any) -> None:
        pytest.fail("opened")

    monkeypatch.setattr("supabase_auth_state.operations.cleanup.open_rest", never)
    with pytest.raises(ConfigurationError, match="six hours"):
        start_automatic_cleanup("six hours")
