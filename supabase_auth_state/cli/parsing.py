"""Parsers of commands, and the arguments that several of them have."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from supabase_auth_state.config import check_company_id
from supabase_auth_state.errors import ConfigurationError

if TYPE_CHECKING:
    from .console import Console

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
"""Where commands are added."""

Run = Callable[[argparse.Namespace, "Console"], Awaitable[int]]
"""Does a command and returns its exit code."""


def add_command(
    commands: Commands,
    name: str,
    run: Run,
    *,
    summary: str,
    description: str,
    json: bool = True,
) -> argparse.ArgumentParser:
    """Add a command and the options that every command has.

    Args:
        commands: where to add it.
        name: its name.
        run: what does it.
        summary: one line for the list of commands.
        description: what it does, for its own ``--help``.
        json: whether its results can be had as JSON.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, json=False)
    if json:
        parser.add_argument("--json", action="store_true", help="print results as JSON, one a line")
    add_verbosity(parser, default=argparse.SUPPRESS)
    return parser


def add_verbosity(parser: argparse.ArgumentParser, *, default: int | str) -> None:
    """Add ``-v``, which may stand before or behind the command."""
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=default,
        help="tell more on standard error; -vv tells everything",
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


def add_folder(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the folder's path."""
    parser.add_argument("folder", metavar="FOLDER", help=purpose)


def add_backup_dir(parser: argparse.ArgumentParser, *, default: str | None, purpose: str) -> None:
    """Add ``--backup-dir DIR``."""
    parser.add_argument("--backup-dir", metavar="DIR", default=default, help=purpose)


def add_company_backup_dir(parser: argparse.ArgumentParser) -> None:
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
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def days(text: str) -> float:
    """Return a number of days, 0 or more."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return found
