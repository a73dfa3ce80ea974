"""The command line: ``supabase-auth-state COMMAND``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from supabase_auth_state import __version__
from supabase_auth_state.errors import SupabaseAuthStateError

from . import database, delete, doctor, folders, migrations, restore
from .console import Console
from .exits import INTERRUPTED, REFUSED, TABLE, exit_code
from .parsing import add_verbosity


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="supabase-auth-state",
        description="Baileys (WhatsApp) auth state in Supabase: move it there and back, and look "
        "after it.",
        epilog=TABLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_verbosity(parser, default=0)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in (folders, restore, delete, database, doctor, migrations):
        group.add_parsers(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, do what it says, and return the exit code."""
    args = build_parser().parse_args(argv)
    console = Console(json=args.json)
    _show_log(args.verbose)
    try:
        return _run(args, console)
    except KeyboardInterrupt:
        console.say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED


def _run(args: argparse.Namespace, console: Console) -> int:
    import asyncio

    from .signals import terminable

    try:
        return asyncio.run(terminable(args.run(args, console)))
    except SupabaseAuthStateError as error:
        _trace(args.verbose)
        console.failure(error)
        return exit_code(error)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - people get a line, not a traceback
        _trace(args.verbose)
        # Its text is not ours, so it stays away: it may quote what it was about.
        console.say(f"error: unexpected {type(error).__name__}; -vv shows where")
        return REFUSED


def _trace(verbose: int) -> None:
    if verbose > 1:
        import traceback

        traceback.print_exc()


def _show_log(verbose: int) -> None:
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log = logging.getLogger("supabase_auth_state")
    log.addHandler(handler)
    log.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
