"""The clean-up worker on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from devstack import LocalStack
from supabase_auth_state import LeaseHeld, Rest, Settings, open_rest, start_automatic_cleanup
from supabase_auth_state.leases.lease import acquire_lease
from supabase_auth_state.operations.cleanup import (
    CLEANUP_LEASE,
    CleanupReport,
    run_cleanup,
    schedule_cleanup,
)
from supabase_auth_state.rest.backoff import Timing

LONG = 60.0
"""Seconds that nothing here should take; a test that needs them has failed."""

PLANT_PAIRS = """
    insert into whatsapp_keys (company_id, key_type, key_id, value, expires_at)
    select %(company)s, 'lid-mapping', r.id, to_jsonb(r.target), now() + %(expires_in)s::interval
    from generate_series(1, %(pairs)s) as n, lateral (
      values ('pn' || n, 'lid' || n), ('lid' || n || '_reverse', 'pn' || n)) as r (id, target)
"""


class Project:
    """A project of its own, whose rows a clean-up may count."""

    def __init__(self, stack: LocalStack, rest: Rest, db: psycopg.Connection[Any]) -> None:
        self.stack = stack
        self.rest = rest
        self.db = db

    def plant(self, company: str, *, pairs: int, expires_in: str) -> None:
        """Store mappings in both directions, two rows to a pair."""
        self.db.execute(PLANT_PAIRS, {"company": company, "pairs": pairs, "expires_in": expires_in})

    def rows(self) -> dict[str, int]:
        """Count the keys of each company."""
        found = self.db.execute("select company_id, count(*) from whatsapp_keys group by 1")
        return dict(found.fetchall())


@pytest.fixture(scope="module")
def own_stack(local_stack: LocalStack) -> Iterator[LocalStack]:
    """A migrated project for this module alone."""
    with local_stack.fresh(migrate=True) as stack:
        yield stack


@pytest.fixture
async def project(own_stack: LocalStack) -> AsyncIterator[Project]:
    """That project without rows, and little patience for its API."""
    settings = Settings(url=own_stack.url, key=own_stack.service_role_key, give_up_after=0.5)
    rest = open_rest(settings)
    with psycopg.connect(own_stack.db_url, autocommit=True) as db:
        db.execute("truncate whatsapp_auth, whatsapp_keys, whatsapp_leases")
        yield Project(own_stack, rest, db)
    await rest.close()


class Impatience:
    """Makes every pause short and keeps how long it should have been."""

    def __init__(self) -> None:
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        self.timing = Timing(sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.pauses.put_nowait(seconds)
        await asyncio.sleep(0.02)

    async def failure(self) -> None:
        """Wait for the pause that follows a failed run."""
        while await asyncio.wait_for(self.pauses.get(), LONG) > 60:
            pass


async def test_a_run_deletes_what_has_expired_in_batches_and_measures_what_is_left(
    project: Project,
) -> None:
    project.plant("962302", pairs=25, expires_in="-1 hour")
    project.plant("962303", pairs=3, expires_in="1 hour")
    report = await run_cleanup(project.rest, batch_size=20)
    assert (report.deleted, report.complete) == (50, True)
    assert project.rows() == {"962303": 6}
    assert report.stats is not None
    assert (report.stats["rows"], report.stats["expired"]) == (6, 0)
    assert report.stats["by_type"]["lid-mapping"]["rows"] == 6
    assert [company["company_id"] for company in report.stats["by_company"]] == ["962303"]
    assert report.stats["bytes"] > 0


async def test_a_live_lease_of_a_company_does_not_stop_the_clean_up_of_its_rows(
    project: Project,
) -> None:
    project.plant("962302", pairs=1, expires_in="-1 hour")
    lease = await acquire_lease(project.rest, "962302")
    report = await run_cleanup(project.rest)
    await lease.release()
    assert report.deleted == 2
    assert project.rows() == {}


async def test_one_process_at_a_time_cleans_up(project: Project) -> None:
    other = await acquire_lease(project.rest, CLEANUP_LEASE, owner="another machine")
    with pytest.raises(LeaseHeld, match="another machine"):
        await run_cleanup(project.rest)
    await other.release()
    assert (await run_cleanup(project.rest)).complete
    status = await project.rest.rpc("whatsapp_lease_status", {"p_company_id": CLEANUP_LEASE})
    assert status["live"] is False


async def test_the_worker_cleans_up_again_after_an_outage(project: Project) -> None:
    reports: asyncio.Queue[CleanupReport] = asyncio.Queue()
    impatience = Impatience()

    async def next_report() -> CleanupReport:
        return await asyncio.wait_for(reports.get(), LONG)

    async with start_automatic_cleanup(
        "6h", client=project.rest, on_report=reports.put_nowait, timing=impatience.timing
    ):
        await next_report()
        assert impatience.pauses.get_nowait() <= 60
        project.stack.postgrest.stop()
        await impatience.failure()
        while not reports.empty():
            reports.get_nowait()
        project.plant("962302", pairs=2, expires_in="-1 hour")
        project.stack.postgrest.start()
        assert (await next_report()).deleted == 4


async def test_two_workers_share_the_work_and_stop_without_a_trace(project: Project) -> None:
    before = asyncio.all_tasks()
    reports: asyncio.Queue[CleanupReport] = asyncio.Queue()
    project.plant("962302", pairs=100, expires_in="-1 hour")
    workers = [
        start_automatic_cleanup(
            "6h", client=project.rest, on_report=reports.put_nowait, timing=Impatience().timing
        )
        for _ in range(2)
    ]
    deleted = 0
    while deleted < 200:
        deleted += (await asyncio.wait_for(reports.get(), LONG)).deleted
    for worker in workers:
        await worker.stop()
    assert deleted == 200
    assert asyncio.all_tasks() == before
    status = await project.rest.rpc("whatsapp_lease_status", {"p_company_id": CLEANUP_LEASE})
    assert status["live"] is False


async def test_a_database_without_pg_cron_says_so_and_names_the_way_out(project: Project) -> None:
    answer = await schedule_cleanup(project.rest)
    assert answer["scheduled"] is False
    assert "pg_cron is not installed" in answer["reason"]
    assert "supabase-auth-state cleanup --every 6h" in answer["reason"]
    assert await schedule_cleanup(project.rest, "0 3 * * *") == answer
