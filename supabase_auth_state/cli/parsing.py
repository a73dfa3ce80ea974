"""Parsers of commands, and the arguments that several of them have."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeAlias

from supabase_auth_state.config import check_company_id
from supabase_auth_state.errors import ConfigurationError, SupabaseAuthStateError

from .console import Console, write

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001
"""Where commands are added."""

Run = Callable[[argparse.Namespace, Console], Awaitable[int]]
"""Does a command and returns its exit code."""


class Parser(argparse.ArgumentParser):
    """A parser whose help is laid out as it is written, for the program and for every command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)


class JsonParser(Parser):
    """A parser that prints its errors as JSON too."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end with exit code 2."""
        found = {"ok": False, "error": "UsageError", "message": message}
        # Where the result cannot be written, the usage on standard error is enough.
        with suppress(SupabaseAuthStateError, OSError):
            write(sys.stdout, f"{json.dumps(found)}\n")
        super().error(message)


def add_command(
    commands: Commands, name: str, run: Run, *, summary: str, description: str
) -> Parser:
    """Add a command and the options that every command has.

    Args:
        commands: where to add it.
        name: its name.
        run: what does it.
        summary: one line for the list of commands.
        description: what it does, for its own ``--help``.
    """
    parser = commands.add_parser(name, help=summary, description=description)
    add_common_options(parser, run)
    return parser


def add_common_options(parser: Parser, run: Run) -> None:
    """Add what every command has: what does it, ``--json`` and ``-v``."""
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print results as JSON, one a line")
    add_verbosity(parser, default=argparse.SUPPRESS)


def add_verbosity(parser: Parser, *, default: int | str) -> None:
    """Add ``-v``, which may stand before or behind the command."""
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=default,
        help="print more on standard error; -vv prints everything",
    )


def add_company(
    parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup, *, required: bool = True
) -> None:
    """Add ``--company ID``."""
    parser.add_argument(
        "--company",
        metavar="ID",
        type=company_id,
        required=required,
        help="the company_id: the name of the account in the database",
    )


def add_company_or_all(parser: Parser, all_of_them: str, *, required: bool = True) -> None:
    """Add ``--company ID`` and ``--all``, of which one may be given.

    Args:
        parser: where to add them.
        all_of_them: what ``--all`` does.
        required: whether one of them is needed.
    """
    which = parser.add_mutually_exclusive_group(required=required)
    add_company(which, required=False)
    which.add_argument("--all", action="store_true", help=all_of_them)


def add_folder(parser: Parser, purpose: str) -> None:
    """Add the folder's path."""
    parser.add_argument("folder", metavar="FOLDER", help=purpose)


def add_backup_dir(parser: Parser, *, default: str | None, purpose: str) -> None:
    """Add ``--backup-dir DIR``."""
    parser.add_argument("--backup-dir", metavar="DIR", default=default, help=purpose)


def add_company_backup_dir(parser: Parser) -> None:
    """Add ``--backup-dir DIR`` for backups of companies, which come from no folder."""
    default = "supabase-auth-state-backups"
    add_backup_dir(parser, default=default, purpose=f"where to put the backup (default: {default})")


def company_id(text: str) -> str:
    """Return a usable company_id."""
    try:
        return check_company_id(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Return a number of at least 1."""
    if not text.isascii() or not text.isdigit() or not 1 <= len(text) <= 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of at least 1")
    return int(text)


def port(text: str) -> int:
    """Return a port of TCP, 0 for a free one."""
    if not text.isascii() or not text.isdigit() or not int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a port")
    return int(text)


def days(text: str) -> float:
    """Return a number of days, from 0 to a thousand years."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 365_000:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of days")
    return found
