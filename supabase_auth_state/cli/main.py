"""The command line: ``supabase-auth-state COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from supabase_auth_state import __version__
from supabase_auth_state.errors import FolderError, SupabaseAuthStateError

from .exits import INTERRUPTED, REFUSED, TABLE, exit_code
from .memory import keep_memory_private
from .signals import heed_signals, run

if TYPE_CHECKING:
    from .console import Console
    from .parsing import Parser


def build_parser(*, json: bool = False) -> Parser:
    """Return the parser of all commands.

    Args:
        json: whether usage errors are printed as JSON too.
    """
    from . import (
        alerts,
        capacity,
        cleanup,
        dashboard,
        delete,
        doctor,
        folders,
        leases,
        metrics,
        migrations,
        overview,
        reinstate,
        rekey,
        restore,
        settle,
        transfer,
    )
    from .parsing import JsonParser, Parser, add_verbosity

    parser = (JsonParser if json else Parser)(
        prog="supabase-auth-state",
        description="Baileys (WhatsApp) auth state in Supabase: move it there and back, and look "
        "after it.",
        epilog=TABLE,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_verbosity(parser, default=0)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    groups = (
        *(folders, restore, delete, transfer, cleanup, overview, dashboard),
        *(capacity, alerts, metrics, doctor, rekey, leases, reinstate, settle, migrations),
    )
    for group in groups:
        group.add_parsers(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, do what it says, and return the exit code."""
    keep_memory_private()
    with heed_signals():
        return _main(sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> int:
    from .console import Console, discard_output

    args = build_parser(json="--json" in argv).parse_args(argv)
    console = Console(json=args.json)
    _show_log(args.verbose, console)
    try:
        return _run(args, console)
    except KeyboardInterrupt:  # on Windows, see heed_signals
        console.say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone.
        discard_output()
        return REFUSED


def _run(args: argparse.Namespace, console: Console) -> int:
    try:
        return run(args.run(args, console))
    except SupabaseAuthStateError as error:
        _trace(args.verbose, error)
        console.failure(error)
        return exit_code(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        # A path that no part of the library expected; the system's words quote nothing but it.
        _trace(args.verbose, error)
        console.failure(FolderError(f"{error.filename or 'the system'}: {error.strerror}"))
        return REFUSED
    except Exception as error:  # noqa: BLE001 - people get a line, not a traceback
        # The text of such an error is not printed: it may quote a stored value.
        _trace(args.verbose, error, with_text=False)
        name = type(error).__name__
        console.failure(SupabaseAuthStateError(f"unexpected {name}; -vv shows where"))
        return REFUSED


def _trace(verbose: int, error: BaseException, *, with_text: bool = True) -> None:
    if verbose < 2:
        return
    import traceback

    with suppress(OSError):
        if with_text:
            traceback.print_exception(error)
        else:
            frames = "".join(traceback.format_tb(error.__traceback__))
            head = "Traceback (most recent call last):"
            sys.stderr.write(f"{head}\n{frames}{type(error).__name__}\n")


def _show_log(verbose: int, console: Console) -> None:
    import logging

    from supabase_auth_state.config import Settings

    from .console import is_terminal
    from .waiting import LogLines, WaitingNotice

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    log = logging.getLogger("supabase_auth_state")
    log.addHandler(LogLines(console, level))
    log.setLevel(level)
    if is_terminal(sys.stderr):
        log.addHandler(WaitingNotice(console, give_up_after=Settings.give_up_after))
        log.setLevel(logging.DEBUG)
