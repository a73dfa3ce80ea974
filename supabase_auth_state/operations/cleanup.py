"""Deleting what has expired: once, or every few hours for as long as a process runs."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from supabase_auth_state.errors import (
    ConfigurationError,
    LeaseHeld,
    SchemaMissing,
    SupabaseAuthStateError,
)
from supabase_auth_state.leases.lease import acquire_lease
from supabase_auth_state.rest.backoff import Timing, delay
from supabase_auth_state.rest.client import Rest, open_rest
from supabase_auth_state.rest.connection import Place
from supabase_auth_state.rest.opening import AsyncOnly

from .statistics import StorageStats, read_storage_stats, recount

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient
    from supabase import AsyncClient
    from typing_extensions import Self

    from supabase_auth_state.config import Settings

log = logging.getLogger("supabase_auth_state")

CLEANUP_LEASE = "supabase-auth-state/cleanup"
"""The name, among the companies' leases, of the lease that the process holds that cleans up."""

_LEASE_TTL = 60.0
_FIRST_WITHIN = 60.0
_RETRY_AFTER = 30.0
_STOP_WITHIN = 8.0
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class CleanupReport:
    """What one run of the clean-up did.

    Attributes:
        deleted: rows deleted.
        complete: whether every expired row was deleted; False when the run was told to stop.
        seconds: how long the run took.
        stats: `StorageStats` after the run: rows, bytes and expired rows, in all, by key type and
            of the largest companies. None when the run was told to stop.
    """

    deleted: int
    complete: bool
    seconds: float
    stats: StorageStats | None


async def run_cleanup(
    rest: Rest,
    *,
    batch_size: int = 5000,
    stopping: asyncio.Event | None = None,
    timing: Timing | None = None,
) -> CleanupReport:
    """Delete every expired row, in small transactions, and count what is left of every company.

    Args:
        rest: where the database is.
        batch_size: the most rows deleted in one transaction.
        stopping: when it is set, the run ends after the batch under way.
        timing: the clock, for tests.

    Raises:
        LeaseHeld: another process is cleaning up now; ``owner`` says which.
        LeaseLost: this process stood still for so long that another one has taken over.
        StoreError: the database refused or did not answer. Rows deleted before that stay deleted.
    """
    now = (timing or Timing()).now
    started = now()
    stopping = stopping or asyncio.Event()
    lease = await acquire_lease(rest, CLEANUP_LEASE, ttl=_LEASE_TTL)
    deleted, complete = 0, False
    try:
        while not complete and not stopping.is_set():
            lease.check()
            batch = await rest.rpc(
                "cleanup_expired_whatsapp_keys",
                {"p_batch_size": batch_size},
                is_right=lambda found: type(found) is int,
            )
            deleted += batch
            complete = batch == 0
        run = {
            "p_owner": lease.owner,
            "p_deleted": deleted,
            "p_complete": complete,
            "p_seconds": now() - started,
        }
        await _keep_statistics(rest, run, stopping)
    finally:
        await lease.release()
    stats = await _stats(rest) if complete else None
    return CleanupReport(deleted, complete, now() - started, stats)


async def _keep_statistics(rest: Rest, run: Mapping[str, Any], stopping: asyncio.Event) -> None:
    try:
        await rest.rpc("record_whatsapp_cleanup", run)
        await recount(rest, stopping=stopping)
    except SchemaMissing as error:
        log.info("clean-up: no statistics are kept: %s", error)


async def _stats(rest: Rest) -> StorageStats | None:
    try:
        return await read_storage_stats(rest, companies=100)
    except SchemaMissing:
        # `_keep_statistics` has said so.
        return None


async def schedule_cleanup(rest: Rest, schedule: str | None = None) -> Mapping[str, Any]:
    """Have the database clean up by itself, if it has the extension ``pg_cron``.

    Args:
        rest: where the database is.
        schedule: when, in cron's form; every ten minutes when absent; empty ends it.

    Returns:
        ``{"scheduled": True, "job": …, "schedule": …}``, or ``{"scheduled": False, "reason": …}``.

    Raises:
        StoreError: the database refused, e.g. the schedule, or did not answer.
    """
    params = {} if schedule is None else {"p_schedule": schedule}
    answer: Mapping[str, Any] = await rest.rpc(
        "schedule_whatsapp_cleanup",
        params,
        is_right=lambda found: isinstance(found, dict) and "scheduled" in found,
    )
    return answer


def parse_interval(interval: str | float) -> float:
    """Return the seconds of ``"90s"``, ``"15m"``, ``"6h"``, ``"1d"`` or of a number of seconds.

    Raises:
        ConfigurationError: it has none of these forms, or is shorter than a second.
    """
    text = str(interval).strip().lower()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    seconds = float(match[1]) * _SECONDS[match[2] or "s"] if match else 0.0
    if seconds < 1:
        raise ConfigurationError(
            f"{interval!r} is not an interval of a second or more: write 90s, 15m, 6h or 1d"
        )
    return seconds


class CleanupWorker(AsyncOnly):
    """Cleans up every few hours until it is stopped; made by `start_automatic_cleanup`.

    Attributes:
        last_report: what the last run did, or None before the end of the first one.
    """

    def __init__(
        self,
        rest: Rest,
        every: float,
        *,
        owned: bool,
        on_report: Callable[[CleanupReport], object] | None,
        timing: Timing,
    ) -> None:
        self.last_report: CleanupReport | None = None
        self._rest = rest
        self._every = every
        self._owned = owned
        self._on_report = on_report
        self._timing = timing
        self._place = Place()
        self._stopping = asyncio.Event()
        self._pausing: asyncio.Task[None] | None = None
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End after the batch under way, or at once between two runs.

        Returns when nothing of the clean-up is left. A batch that takes longer than eight seconds,
        and one under way when this call is cancelled, is given up: it happens whole or not at all.

        Raises:
            ConfigurationError: it was started in another event loop or process.
        """
        self._place.refuse_elsewhere("the automatic clean-up")
        self._stopping.set()
        if self._pausing is not None:
            self._pausing.cancel()
        try:
            await asyncio.wait({self._running}, timeout=_STOP_WITHIN)
        finally:
            self._running.cancel()
        await asyncio.wait({self._running})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _run(self) -> None:
        try:
            # Machines that start together do not all ask for the lease at the same moment.
            await self._pause(min(self._every, _FIRST_WITHIN) * self._timing.random())
            failures = 0
            while not self._stopping.is_set():
                failures = 0 if await self._try() else failures + 1
                await self._pause(self._until_next(failures))
        finally:
            if self._owned:
                await self._rest.close()

    async def _pause(self, seconds: float) -> None:
        if not self._stopping.is_set():
            self._pausing = asyncio.ensure_future(self._timing.sleep(seconds))
            await asyncio.wait({self._pausing})

    def _until_next(self, failures: int) -> float:
        if failures == 0:
            return self._every * (0.9 + 0.2 * self._timing.random())
        return delay(failures - 1, base=_RETRY_AFTER, cap=self._every, random=self._timing.random)

    async def _try(self) -> bool:
        """Run once; return False if that failed."""
        try:
            report = await run_cleanup(self._rest, stopping=self._stopping, timing=self._timing)
        except LeaseHeld as held:
            log.info("clean-up: skipped, because %s is cleaning up now", held.owner)
        except SupabaseAuthStateError as error:
            log.warning("clean-up: failed, and is tried again: %s", error)
            return False
        except Exception as error:  # noqa: BLE001 - a fault of this library's must not end it
            log.error("clean-up: failed, and is tried again (%s)", type(error).__name__)
            return False
        else:
            self._report(report)
        return True

    def _report(self, report: CleanupReport) -> None:
        self.last_report = report
        left = (
            "{rows} rows of {bytes} bytes are left".format_map(report.stats)
            if report.stats is not None
            else "stopped before the end"
        )
        log.info("clean-up: %d rows deleted in %.1f s, %s", report.deleted, report.seconds, left)
        if self._on_report is None:
            return
        try:
            self._on_report(report)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - also a CancelledError, which is not ours
            log.error("clean-up: on_report failed (%s)", type(error).__name__)


def start_automatic_cleanup(
    every: str | float = "6h",
    *,
    client: AsyncClient | AsyncPostgrestClient | Rest | None = None,
    settings: Settings | None = None,
    on_report: Callable[[CleanupReport], object] | None = None,
    timing: Timing | None = None,
) -> CleanupWorker:
    """Clean up every few hours while this event loop runs, or until ``await worker.stop()``.

    ::

        async with start_automatic_cleanup("6h"):
            await serve()

    Any number of machines may do this: one cleans up at a time. The first run begins within a
    minute, the following ones after ``every``, a tenth more or less. A run that fails is tried
    again within half a minute, then after growing pauses, none longer than ``every``.

    Args:
        every: the time between two runs, as ``"90s"``, ``"15m"``, ``"6h"``, ``"1d"`` or in seconds.
        client: connections to share, as for ``use_supabase_auth_state``; you close it.
        settings: the project and its service key; from the environment or ``.env`` when absent.
        on_report: is called with the `CleanupReport` of every run.
        timing: clock, sleep and chance, for tests.

    Raises:
        ConfigurationError: ``every`` is not an interval, the settings are missing or wrong, or no
            event loop is running here.
    """
    seconds = parse_interval(every)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "the automatic clean-up runs in an event loop: call start_automatic_cleanup in a "
            "coroutine"
        ) from None
    return CleanupWorker(
        open_rest(settings, client=client),
        seconds,
        owned=client is None,
        on_report=on_report,
        timing=timing or Timing(),
    )
