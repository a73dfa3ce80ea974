"""``transfer``: move companies to another Supabase project."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from supabase_auth_state.errors import ConfigurationError

from .console import Console
from .exits import DONE
from .many import Ended, for_each
from .parsing import Commands, add_command, add_company, add_company_backup_dir

if TYPE_CHECKING:
    from supabase_auth_state.config import Settings

KEY_VARIABLE = "SUPABASE_TO_SERVICE_ROLE_KEY"


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "transfer",
        run_transfer,
        summary="move companies to another Supabase project",
        description=f"""\
Move a company, or each one, from the project of SUPABASE_URL to another project, where the
migrations have been applied. The service key of that one is read from the environment or .env:
{KEY_VARIABLE}, or the variable that --to-key-env names.

The company is owned on both sides meanwhile. Every value is copied as it is stored and compared by
both databases; then the company is closed here for good, and opened there. Sealed values stay
sealed with the same key, with or without that key here. Why pools leave the company alone comes
along; `history` and companies in quarantine stay here. Whoever opens it here later is told where
it went. Running it again finishes what was broken off. A transfer in the other direction brings it
back.""",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    add_company(which, required=False)
    which.add_argument("--each", action="store_true", help="move every company of the project")
    parser.add_argument(
        "--to-url", metavar="URL", required=True, help="the other project's API URL"
    )
    parser.add_argument(
        "--to-key-env",
        metavar="NAME",
        default=KEY_VARIABLE,
        help=f"the variable that holds the other project's service key (default: {KEY_VARIABLE})",
    )
    parser.add_argument(
        "--to-schema",
        metavar="NAME",
        default="public",
        help="the schema of the tables there (default: public)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace what the other project holds of the company, after a backup",
    )
    add_company_backup_dir(parser)


async def run_transfer(args: argparse.Namespace, console: Console) -> int:
    """Move one company or all of them."""
    from supabase_auth_state.rest.client import using_rest
    from supabase_auth_state.transfer.between_projects import transfer_company

    to = _other_project(args)
    async with using_rest() as source, using_rest(to) as target:

        async def move(company_id: str) -> Ended:
            # Of many, one progress shows how many companies are done.
            with console.progress(company_id) as progress:
                return Ended(
                    await transfer_company(
                        company_id,
                        to=target,
                        client=source,
                        force=args.force,
                        backup_dir=args.backup_dir,
                        progress=progress,
                    )
                )

        if not args.each:
            console.result((await move(args.company)).report)
            return DONE
        from .companies import check_connection, list_companies

        await check_connection(target)
        return await for_each(await list_companies(source), move, console, what="moved")


def _other_project(args: argparse.Namespace) -> Settings:
    """Return the settings of the project to move to.

    Raises:
        ConfigurationError: the URL or the key is missing or wrong; the message names the variable.
    """
    from supabase_auth_state.config import Settings, environment

    values = environment()
    key = values.get(args.to_key_env, "")
    if not key.strip():
        raise ConfigurationError(
            f"{args.to_key_env} is not set{', and ' if values.unread else ''}{values.unread}: put "
            "the service key of the project to move to there, in the environment or in a .env file"
        )
    try:
        return Settings(url=args.to_url, key=key, schema=args.to_schema)
    except ConfigurationError as error:
        # The settings speak of the variables of the project that is moved from.
        problem = str(error)
    raise ConfigurationError(
        f"the project to move to (--to-url, --to-schema, and {args.to_key_env} for its key): "
        f"{problem}"
    )
