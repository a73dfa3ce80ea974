"""``cleanup``: delete what has expired."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from supabase_auth_state.errors import LeaseHeld

from .console import Console, failure_as_json
from .exits import DONE, OWNED, REFUSED
from .overview import StorageStats
from .parsing import Commands, add_command
from .tables import Page, Table

if TYPE_CHECKING:
    from supabase_auth_state.operations.cleanup import CleanupReport


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "cleanup",
        run_cleanup_command,
        summary="delete what has expired: once, every few hours, or scheduled in the database",
        description="""\
Delete keys whose time is over: by default lid-mappings seven days after their last use, and never
one that a session needs. Works in small transactions, one machine at a time, and prints what is
left. Nothing else ever expires.""",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--every",
        metavar="TIME",
        help="keep running, and clean up every 6h, 30m, 1d, …; SIGTERM ends it cleanly",
    )
    how.add_argument(
        "--schedule-in-database",
        metavar="CRON",
        nargs="?",
        const="",
        default=None,
        help="have the database do it by pg_cron, every ten minutes or as CRON says",
    )
    how.add_argument(
        "--unschedule-in-database",
        action="store_true",
        help="end what --schedule-in-database began",
    )


async def run_cleanup_command(args: argparse.Namespace, console: Console) -> int:
    """Clean up once, every few hours, or have it scheduled in the database."""
    if args.every is not None:
        return await _clean_up_every(args.every, console)
    if args.unschedule_in_database or args.schedule_in_database is not None:
        return await _schedule(args, console)
    return await _clean_up_once(console)


async def _clean_up_once(console: Console) -> int:
    from supabase_auth_state.operations.cleanup import run_cleanup
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        try:
            with console.progress("clean-up") as progress:
                progress("deleting and counting", 0, 0)
                report = await run_cleanup(rest)
        except LeaseHeld as held:
            console.say(f"another process is cleaning up now: {held.owner}")
            if console.json:
                console.document({"ok": False, **failure_as_json(held)})
            return OWNED
    console.result(_Cleanup(report))
    return DONE


async def _clean_up_every(every: str, console: Console) -> int:
    from supabase_auth_state.operations.cleanup import start_automatic_cleanup

    from .signals import stop_request

    worker = start_automatic_cleanup(every, on_report=lambda each: console.result(_Cleanup(each)))
    try:
        with stop_request() as asked:
            console.say(f"cleaning up every {every}; the first time within a minute")
            await asked.wait()
    finally:
        await worker.stop()
    return DONE


async def _schedule(args: argparse.Namespace, console: Console) -> int:
    from supabase_auth_state.operations.cleanup import schedule_cleanup
    from supabase_auth_state.rest.client import using_rest

    wanted = "" if args.unschedule_in_database else args.schedule_in_database or None
    async with using_rest() as rest:
        answer = await schedule_cleanup(rest, wanted)
    ok = bool(answer["scheduled"]) or args.unschedule_in_database
    console.result(_Schedule(answer), ok=ok)
    return DONE if ok else REFUSED


class _Cleanup(Page):
    """A clean-up report, for printing."""

    def __init__(self, report: CleanupReport) -> None:
        self._report = report

    def as_json(self) -> dict[str, Any]:
        report = self._report
        return {
            "deleted": report.deleted,
            "complete": report.complete,
            "seconds": round(report.seconds, 3),
            "stats": report.stats,
        }

    def parts(self) -> Iterator[str | Table]:
        report = self._report
        done = f"{report.deleted} expired keys deleted in {report.seconds:.1f} s"
        yield done if report.complete else f"{done}; stopped before the end"
        if report.stats is not None:
            yield from StorageStats(report.stats).parts()


class _Schedule:
    """The database's answer about a schedule, for printing."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._answer = answer

    def as_json(self) -> Mapping[str, Any]:
        return self._answer

    def __str__(self) -> str:
        if self._answer["scheduled"]:
            return f"scheduled in the database: {self._answer['schedule']}"
        return f"not scheduled in the database: {self._answer['reason']}"
