"""``delete``: remove a company from the database."""

from __future__ import annotations

import argparse

from supabase_auth_state.errors import ConfigurationError

from .console import Console, Report
from .exits import DONE, REFUSED
from .parsing import Commands, add_command, add_company, add_company_backup_dir


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "delete",
        run_delete,
        summary="move a company into quarantine, after a backup; or remove every trace of it",
        description="""\
Move all keys and the creds of a company into quarantine, in one transaction and after a backup. No
client reads it there, restore brings it back whole, and it is deleted after 14 days.

At a terminal it asks first; elsewhere --yes is needed. The company is owned meanwhile. The device
stays linked at WhatsApp: log it out on the phone.

--now removes every trace from the tables instead (rows, history, quarantine, pause, lease), makes
no backup, and counts what is left. It takes half a minute, until no request of the company can
land any more.""",
    )
    add_company(parser)
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument(
        "--now", action="store_true", help="remove every trace, for good and without a backup"
    )
    add_company_backup_dir(parser)


async def run_delete(args: argparse.Namespace, console: Console) -> int:
    """Ask, and delete a company."""
    from supabase_auth_state.transfer.delete import delete_company, erase_company

    if not args.yes and not await _confirmed(args.company, console, now=args.now):
        console.declined("nothing was deleted")
        return REFUSED
    with console.progress(args.company) as progress:
        progress("deleting", 0, 0)
        report: Report
        if args.now:
            report = await erase_company(args.company)
        else:
            report = await delete_company(args.company, backup_dir=args.backup_dir)
    console.result(report)
    return DONE


async def _confirmed(company_id: str, console: Console, *, now: bool) -> bool:
    """Return whether a person types the company's id.

    Raises:
        ConfigurationError: there is no terminal to ask at.
    """
    what = "every trace of it, for good" if now else "all its keys and its creds"
    typed = await console.ask(f"delete company {company_id!r} with {what}? type its id:")
    if typed is None:
        raise ConfigurationError("--yes is needed where delete cannot ask at a terminal")
    return typed == company_id
