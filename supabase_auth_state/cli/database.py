"""``cleanup``, ``stats`` and ``dashboard``: what is in the database, and what may go."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from supabase_auth_state.errors import LeaseHeld

from .console import Console
from .exits import DONE, OWNED, REFUSED
from .parsing import Commands, add_command, positive

if TYPE_CHECKING:
    from supabase_auth_state.cleanup import CleanupReport
    from supabase_auth_state.rest.client import Rest

_SHOWN = 20


def add_parsers(commands: Commands) -> None:
    """Add the parsers of these commands."""
    _add_cleanup(commands)
    _add_stats(commands)
    _add_dashboard(commands)


def _add_cleanup(commands: Commands) -> None:
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
    """Clean up now, now and then, or let the database do it."""
    if args.every is not None:
        return await _clean_up_every(args.every, console)
    if args.unschedule_in_database or args.schedule_in_database is not None:
        return await _schedule(args, console)
    return await _clean_up_once(console)


async def _clean_up_once(console: Console) -> int:
    from supabase_auth_state.cleanup import run_cleanup

    async with _opened() as rest:
        try:
            report = await run_cleanup(rest)
        except LeaseHeld as held:
            console.say(f"another process is cleaning up now: {held.owner}")
            return OWNED
    console.result(_Cleanup(report))
    return DONE


async def _clean_up_every(every: str, console: Console) -> int:
    from supabase_auth_state.cleanup import start_automatic_cleanup

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
    from supabase_auth_state.cleanup import schedule_cleanup

    wanted = "" if args.unschedule_in_database else args.schedule_in_database or None
    async with _opened() as rest:
        answer = await schedule_cleanup(rest, wanted)
    ok = bool(answer["scheduled"]) or args.unschedule_in_database
    console.result(_Schedule(answer), ok=ok)
    return DONE if ok else REFUSED


class _Cleanup:
    """What one run did."""

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

    def __str__(self) -> str:
        report = self._report
        done = f"{report.deleted} expired keys deleted in {report.seconds:.1f} s"
        if report.stats is None:
            return f"{done}; stopped before the end"
        return f"{done}\n\n{_Stats(report.stats)}"


class _Schedule:
    """What the database says of a schedule."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._answer = answer

    def as_json(self) -> Mapping[str, Any]:
        return self._answer

    def __str__(self) -> str:
        if self._answer["scheduled"]:
            return f"scheduled in the database: {self._answer['schedule']}"
        return f"not scheduled in the database: {self._answer['reason']}"


def _add_stats(commands: Commands) -> None:
    parser = add_command(
        commands,
        "stats",
        run_stats,
        summary="how many rows and bytes, by key type and by company",
        description="How many rows there are, how large they are and how many have expired, by key "
        "type and by company.",
    )
    _add_companies(parser, default=_SHOWN)


def _add_companies(parser: argparse.ArgumentParser, *, default: int) -> None:
    parser.add_argument(
        "--companies",
        metavar="N",
        type=positive,
        default=default,
        help=f"how many of the largest companies to show (default: {default})",
    )


async def run_stats(args: argparse.Namespace, console: Console) -> int:
    """Print what is stored."""
    async with _opened() as rest:
        stats = await rest.rpc("whatsapp_storage_stats", {"p_companies": args.companies})
    console.result(_Stats(stats))
    return DONE


class _Stats:
    """Storage statistics as ``whatsapp_storage_stats()`` gives them."""

    def __init__(self, stats: Mapping[str, Any]) -> None:
        self._stats = stats

    def as_json(self) -> Mapping[str, Any]:
        return self._stats

    def __str__(self) -> str:
        from .tables import human_bytes, table

        stats = self._stats
        types = sorted(stats["by_type"].items(), key=lambda item: -item[1]["bytes"])
        summary = (
            f"companies: {stats['companies']}, keys: {stats['rows']} "
            f"({human_bytes(stats['bytes'])}), expired: {stats['expired']}; with indexes "
            f"{human_bytes(sum(stats['tables'].values()))}, the whole database "
            f"{human_bytes(stats['database_bytes'])}"
        )
        parts = [summary]
        rows = [(name, *_sizes(counts)) for name, counts in types]
        if rows:
            parts.append(table(("type", "keys", "size", "expired"), rows))
        rows = [(counts["company_id"], *_sizes(counts)) for counts in stats["by_company"]]
        if rows:
            parts.append(table(("company", "keys", "size", "expired"), rows))
        return "\n\n".join(parts)


def _sizes(counts: Mapping[str, Any]) -> tuple[str, str, str]:
    from .tables import human_bytes

    return str(counts["rows"]), human_bytes(counts["bytes"]), str(counts["expired"])


def _add_dashboard(commands: Commands) -> None:
    parser = add_command(
        commands,
        "dashboard",
        run_dashboard,
        summary="companies, rows and leases, live at a terminal",
        description="""\
The largest companies with their rows, the time their creds were saved, and who owns them until
when. At a terminal it is drawn again and again until Ctrl-C; elsewhere, with --once or with --json
it is printed once. It shows nothing secret.""",
    )
    parser.add_argument("--once", action="store_true", help="print it once")
    parser.add_argument(
        "--every", metavar="TIME", default="5s", help="how often to draw it (default: 5s)"
    )
    _add_companies(parser, default=_SHOWN)


async def run_dashboard(args: argparse.Namespace, console: Console) -> int:
    """Show who has what, once or again and again."""
    import asyncio

    from supabase_auth_state.cleanup import parse_interval

    from .dashboard import read_dashboard

    pause = parse_interval(args.every)
    live = not (args.once or console.json) and sys.stdout.isatty()
    async with _opened() as rest:
        while True:
            found = await read_dashboard(rest, companies=args.companies, now=time.time())
            if not live:
                console.result(found)
                return DONE
            console.text(f"\x1b[2J\x1b[H{found}\n\nevery {args.every}; Ctrl-C ends it")
            await asyncio.sleep(pause)


def _opened() -> AbstractAsyncContextManager[Rest]:
    from supabase_auth_state.rest.client import using_rest

    return using_rest()
