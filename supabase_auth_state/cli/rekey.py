"""``rekey``: seal what is stored, seal it with another key, or open it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .console import Console
from .exits import DIFFERENT, DONE
from .many import Ended, for_each
from .parsing import Commands, add_command, add_company_or_all

if TYPE_CHECKING:
    from supabase_auth_state.rest.client import Rest


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "rekey",
        run_rekey,
        summary="seal stored values with a key that the database does not have, or open them",
        description="""\
Seal every value of a company with the first key of SUPABASE_AUTH_STATE_KEYS. Companies may be in
use meanwhile: a value is only replaced as it was read, and an owner does not notice. A run that
was interrupted is finished by running it again. Ends with exit code 3 while values are left.

To begin:
  1. make a key and keep a copy in a safe place; without it the values are lost:
       openssl rand -base64 32
  2. give it to every process, for reading:       SUPABASE_AUTH_STATE_KEYS=plain,k1:<base64>
  3. then to every process, for writing:          SUPABASE_AUTH_STATE_KEYS=k1:<base64>
  4. seal what was stored before:                 supabase-auth-state rekey --all

To change the key: give every process k1:<base64>,k2:<base64>, then k2:<base64>,k1:<base64>, run
rekey --all, and remove k1 when stats --exact shows no row of it. To end: give every process
plain,k1:<base64>, run rekey --all --open, and remove the variable.

Folders that export writes, and backups, are plain.""",
    )
    add_company_or_all(parser, "seal every company of the database")
    parser.add_argument("--open", action="store_true", help="store the values plain again")


async def run_rekey(args: argparse.Namespace, console: Console) -> int:
    """Seal one company or all."""
    from supabase_auth_state.rest.client import using_rest
    from supabase_auth_state.transfer.rekey import rekey_company

    async def rekey(company_id: str, rest: Rest) -> Ended:
        # Of many, one progress shows how many companies are done.
        with console.progress(company_id) as progress:
            report = await rekey_company(rest, company_id, open_all=args.open, progress=progress)
        return Ended(report, DIFFERENT if report.left else DONE)

    async with using_rest() as rest:
        if args.all:
            from .companies import list_companies

            companies = await list_companies(rest)
            what = "opened" if args.open else "sealed"
            return await for_each(companies, lambda name: rekey(name, rest), console, what=what)
        ended = await rekey(args.company, rest)
    console.result(ended.report, ok=ended.code == DONE)
    return ended.code
