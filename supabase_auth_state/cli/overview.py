"""``stats`` and ``top``: what is in the database, and who owns it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

from .console import Console, is_terminal, terminal_size
from .exits import DONE
from .parsing import Commands, add_command, positive

_SHOWN = 20
_SEALED = ("keys", "creds", "kept")
_HOME = "\x1b[2J\x1b[H"


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
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        stats = await rest.rpc("whatsapp_storage_stats", {"p_companies": args.companies})
        sealing = await rest.rpc("whatsapp_sealing_stats", {})
        stats = {**stats, "sealed_with": {name: sealing[name] for name in _SEALED}}
    console.result(StorageStats(stats))
    return DONE


class StorageStats:
    """What ``whatsapp_storage_stats()`` returns, for printing."""

    def __init__(self, stats: Mapping[str, Any]) -> None:
        self._stats = stats

    def as_json(self) -> Mapping[str, Any]:
        """Return the statistics as JSON values."""
        return self._stats

    def __str__(self) -> str:
        from supabase_auth_state.transfer.rekey import counts_by_key

        from .tables import human_bytes, table

        stats = self._stats
        types = sorted(stats["by_type"].items(), key=lambda item: -item[1]["bytes"])
        summary = (
            f"companies: {stats['companies']}, keys: {stats['rows']} "
            f"({human_bytes(stats['bytes'])}), expired: {stats['expired']}; with indexes "
            f"{human_bytes(sum(stats['tables'].values()))}, the whole database "
            f"{human_bytes(stats['database_bytes'])}"
        )
        sealed = stats.get("sealed_with", {})
        if any(any(counts) for counts in sealed.values()):
            summary += "".join(
                f"\n{name}: {counts_by_key(counts)}" for name, counts in sealed.items() if counts
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


def _add_top(commands: Commands) -> None:
    parser = add_command(
        commands,
        "top",
        run_top,
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


async def run_top(args: argparse.Namespace, console: Console) -> int:
    """Print the largest companies once, or draw it again and again."""
    import asyncio

    from supabase_auth_state.operations.cleanup import parse_interval
    from supabase_auth_state.rest.client import using_rest

    from .top import read_dashboard

    pause = parse_interval(args.every)
    at_terminal = is_terminal(sys.stdout) and not console.json
    live = at_terminal and not args.once
    async with using_rest() as rest:
        while True:
            found = await read_dashboard(rest, companies=args.companies, now=time.time())
            if not at_terminal:
                console.result(found)
            elif not live:
                console.text(found.text(columns=terminal_size(sys.stdout).columns))
            else:
                columns, lines = terminal_size(sys.stdout)
                # The last lines are an empty one, the next one, and that of the cursor.
                drawn = found.text(columns=columns, lines=lines - 3)
                console.text(f"{_HOME}{drawn}\n\nevery {args.every}; Ctrl-C ends it")
            if not live:
                return DONE
            await asyncio.sleep(pause)
