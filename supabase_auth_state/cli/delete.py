"""``delete``: remove a company from the database."""

from __future__ import annotations

import argparse

from supabase_auth_state.errors import ConfigurationError

from .console import Console
from .exits import DONE, REFUSED
from .parsing import Commands, add_command, add_company, add_company_backup_dir


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "delete",
        run_delete,
        summary="delete a company's keys and creds, after a backup",
        description="""\
Delete all keys and the creds of a company, in one transaction and after a backup.

At a terminal it asks first; elsewhere --yes is needed. The company is owned meanwhile. The device
stays linked at WhatsApp: log it out on the phone. restore brings the company back.""",
    )
    add_company(parser)
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    add_company_backup_dir(parser)


async def run_delete(args: argparse.Namespace, console: Console) -> int:
    """Ask, and delete a company."""
    from supabase_auth_state.transfer.delete import delete_company

    if not args.yes and not await _confirmed(args.company, console):
        console.say("nothing was deleted")
        return REFUSED
    console.result(await delete_company(args.company, backup_dir=args.backup_dir))
    return DONE


async def _confirmed(company_id: str, console: Console) -> bool:
    """Return whether a person types the company's id.

    Raises:
        ConfigurationError: there is no terminal to ask at.
    """
    typed = await console.ask(
        f"delete company {company_id!r} with all its keys and its creds? type its id:"
    )
    if typed is None:
        raise ConfigurationError("--yes is needed where delete cannot ask at a terminal")
    return typed == company_id
