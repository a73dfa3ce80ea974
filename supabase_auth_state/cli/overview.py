"""``stats`` and ``top``: what is in the database, and who owns it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .console import Console, is_drawable
from .exits import DONE
from .parsing import Commands, add_command, positive
from .tables import Page, Table, human_bytes, human_duration

if TYPE_CHECKING:
    from supabase_auth_state.operations.statistics import StorageStats as StorageCounts
    from supabase_auth_state.rest.client import Rest

_SHOWN = 20
_SEALED = ("keys", "creds", "kept")


def add_parsers(commands: Commands) -> None:
    """Add the parsers of these commands."""
    _add_stats(commands)
    _add_top(commands)


def _add_stats(commands: Commands) -> None:
    parser = add_command(
        commands,
        "stats",
        run_stats,
        summary="how many rows and bytes, by key type and by company",
        description="""\
How many rows there are, how large they are and how many have expired, by key type and by company.

The database keeps these counts: companies that were written since are counted again first, and the
answer says how old the counts are. --exact reads every row instead, and also tells which rows are
sealed with which key.""",
    )
    _add_companies(parser, default=_SHOWN)
    parser.add_argument(
        "--exact", action="store_true", help="read every row, which takes up to a minute"
    )


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
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        with console.progress("stats") as progress:
            progress("counting", 0, 0)
            stats = await (_exact_stats if args.exact else kept_stats)(rest, args.companies)
    console.result(StorageStats(stats))
    return DONE


async def _exact_stats(rest: Rest, companies: int) -> Mapping[str, Any]:
    stats = await rest.rpc("whatsapp_storage_stats", {"p_companies": companies})
    sealing = await rest.rpc("whatsapp_sealing_stats", {})
    return {**stats, "sealed_with": {name: sealing[name] for name in _SEALED}}


async def kept_stats(rest: Rest, companies: int) -> StorageCounts:
    """Return what the database has counted, after it has counted what was written since.

    Args:
        rest: where the database is.
        companies: how many of the largest companies to return.

    Raises:
        StoreError: the database refused or did not answer.
    """
    from supabase_auth_state.operations.statistics import count_written, read_storage_stats

    await count_written(rest)
    return await read_storage_stats(rest, companies=companies)


class StorageStats(Page):
    """What `read_storage_stats` or ``whatsapp_storage_stats()`` returns, for printing."""

    def __init__(self, stats: Mapping[str, Any]) -> None:
        self._stats = stats

    def as_json(self) -> Mapping[str, Any]:
        """Return the statistics as JSON values."""
        return self._stats

    def parts(self) -> Iterator[str | Table]:
        """Yield the sums, and tables by key type and by company."""
        stats = self._stats
        yield "\n".join(self._summary())
        types = sorted(stats["by_type"].items(), key=lambda item: -item[1]["bytes"])
        rows = [(name, *_sizes(counts)) for name, counts in types]
        if rows:
            yield Table(("type", "keys", "size", "expired"), rows)
        rows = [(counts["company_id"], *_sizes(counts)) for counts in stats["by_company"]]
        if rows:
            yield Table(("company", "keys", "size", "expired"), rows)

    def _summary(self) -> Iterator[str]:
        from supabase_auth_state.transfer.rekey import counts_by_key

        stats = self._stats
        yield (
            f"companies: {stats['companies']}, keys: {stats['rows']} "
            f"({human_bytes(stats['bytes'])}), expired: {stats['expired']}; with indexes "
            f"{human_bytes(sum(stats['tables'].values()))}, the whole database "
            f"{human_bytes(stats['database_bytes'])}"
        )
        if "counted_at" in stats:
            whole = stats["every_company_counted_at"]
            yield freshness(stats["time"], stats["counted_at"], whole) + "; sizes are of now"
        sealed = stats.get("sealed_with", {})
        if any(any(counts) for counts in sealed.values()):
            yield from (
                f"{name}: {counts_by_key(counts)}" for name, counts in sealed.items() if counts
            )


def freshness(now: float, counted_at: float | None, whole_at: float | None) -> str:
    """Return how old counts are, for a person.

    Args:
        now: the database's time, in seconds since 1970.
        counted_at: when what was written last was counted, or None.
        whole_at: when the last count of every company began, or None.
    """
    if counted_at is None:
        return "not counted yet"
    words = f"counted {human_duration(now - counted_at)} ago"
    if whole_at is None:
        return f"{words}; the first count is under way: these are counts of a part"
    return f"{words}, every company {human_duration(now - whole_at)} ago"


def _sizes(counts: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(counts["rows"]), human_bytes(counts["bytes"]), str(counts["expired"])


def _add_top(commands: Commands) -> None:
    parser = add_command(
        commands,
        "top",
        run_top,
        summary="companies, rows and leases, live at a terminal",
        description="""\
The largest companies with their rows, the time their creds were saved, and who owns them until
when. At a terminal it is drawn again and again until Ctrl-C; elsewhere, with --once or with --json
it is printed once. Keys are those that the database has counted last, and it says when. It shows
nothing secret.""",
    )
    parser.add_argument("--once", action="store_true", help="print it once")
    parser.add_argument(
        "--every", metavar="TIME", default="5s", help="how often to draw it (default: 5s)"
    )
    _add_companies(parser, default=_SHOWN)


async def run_top(args: argparse.Namespace, console: Console) -> int:
    """Print the largest companies once, or draw it again and again."""
    import asyncio

    from supabase_auth_state.operations.cleanup import parse_interval
    from supabase_auth_state.operations.statistics import count_written, refresh
    from supabase_auth_state.rest.client import using_rest

    from .top import read_dashboard

    pause = parse_interval(args.every)
    async with using_rest() as rest:
        with console.progress("top") as progress:
            progress("counting", 0, 0)
            await count_written(rest)
        if args.once or console.json or not is_drawable(sys.stdout):
            console.result(await read_dashboard(rest, companies=args.companies))
            return DONE
        with console.full_screen(f"every {args.every}; Ctrl-C ends it") as view:
            while True:
                view.show(await read_dashboard(rest, companies=args.companies))
                await asyncio.sleep(pause)
                await refresh(rest)
