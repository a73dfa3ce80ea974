"""``doctor`` and ``pre-keys``: what is wrong with a company's rows, and what piles up."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from supabase_auth_state.errors import ConfigurationError

from .console import Console
from .exits import DIFFERENT, DONE
from .many import Ended, for_each
from .parsing import Commands, add_command, add_company_backup_dir, add_company_or_all, positive

if TYPE_CHECKING:
    from supabase_auth_state.rest.client import Rest

_MIN_KEPT = 812


def add_parsers(commands: Commands) -> None:
    """Add the parsers of these commands."""
    _add_doctor(commands)
    _add_pre_keys(commands)


def _add_doctor(commands: Commands) -> None:
    parser = add_command(
        commands,
        "doctor",
        run_doctor,
        summary="is the project set up as it has to be; damaged rows of a company, and repair",
        description="""\
Without a company: look at URL, key, migrations, grants, what outsiders may use, can read and can
call (with SUPABASE_ANON_KEY), clock, round trip, max_rows, pg_cron, clean-up and statistics, one
line each.

With one: read a company's rows and report every damaged one: bytes in forms that Baileys no longer
reads, mappings without their other half, keys that do not belong together. Ends with exit code 3
when something is damaged.

--fix repairs what can be repaired without guessing, after a backup of all rows, and says what it
left alone.""",
    )
    add_company_or_all(parser, "examine every company of the database", required=False)
    parser.add_argument("--fix", action="store_true", help="repair, after a backup")
    add_company_backup_dir(parser)


async def run_doctor(args: argparse.Namespace, console: Console) -> int:
    """Examine one company or all of them, and repair."""
    from supabase_auth_state.doctor.doctor import diagnose, repair

    if args.company is None and not args.all:
        return await _examine_installation(args, console)

    async def examine(company_id: str, rest: Rest) -> Ended:
        if args.fix:
            report = await repair(rest, company_id, backup_folder=args.backup_dir)
        else:
            report = await diagnose(rest, company_id)
        repairable.extend(report.repairable)
        return Ended(report, DIFFERENT if report.damaged else DONE)

    repairable: list[object] = []
    code = await _for_companies(args, examine, console, what="without damage")
    if repairable and not args.fix:
        console.say("nothing was changed: --fix repairs what can be repaired")
    return code


async def _examine_installation(args: argparse.Namespace, console: Console) -> int:
    from supabase_auth_state.config import Settings, environment
    from supabase_auth_state.config.environment import first_of
    from supabase_auth_state.rest.client import using_rest

    from .installation import ANON_VARIABLES, examine_installation

    if args.fix:
        raise ConfigurationError("--fix repairs a company: add --company or --all")
    settings = Settings.from_env()
    async with using_rest(settings) as rest:
        report = await examine_installation(
            settings, rest, anon_key=first_of(environment(), *ANON_VARIABLES)
        )
    console.result(report, ok=report.is_right)
    return DONE if report.is_right else DIFFERENT


async def _for_companies(
    args: argparse.Namespace,
    work: Callable[[str, Rest], Awaitable[Ended]],
    console: Console,
    *,
    what: str,
) -> int:
    """Do a command for the company of ``--company``, or for all with ``--all``."""
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        if args.all:
            from .companies import list_companies

            companies = await list_companies(rest)
            return await for_each(companies, lambda name: work(name, rest), console, what=what)
        with console.progress(args.company) as progress:
            progress("reading", 0, 0)
            ended = await work(args.company, rest)
    console.result(ended.report, ok=ended.code == DONE)
    return ended.code


def _add_pre_keys(commands: Commands) -> None:
    parser = add_command(
        commands,
        "pre-keys",
        run_pre_keys,
        summary="how many pre-keys a company has minted, uploaded and used",
        description="""\
Report how many pre-keys a company has minted, uploaded and used; nothing is changed.

--reap deletes uploaded ones except the newest, after a backup of all rows. WhatsApp's server may
still hand out one of them, and the first message that uses it is lost then: rarely worth it.""",
    )
    add_company_or_all(parser, "count those of every company of the database")
    parser.add_argument(
        "--reap", action="store_true", help="delete all uploaded ones but the newest"
    )
    parser.add_argument(
        "--keep",
        metavar="N",
        type=positive,
        help=f"with --reap: how many uploaded ones to keep (default and least: {_MIN_KEPT})",
    )
    add_company_backup_dir(parser)


async def run_pre_keys(args: argparse.Namespace, console: Console) -> int:
    """Count the pre-keys of one company or of all, and delete old ones."""
    from supabase_auth_state.doctor.pre_keys import pre_key_report, reap_pre_keys

    async def count(company_id: str, rest: Rest) -> Ended:
        if not args.reap:
            return Ended(await pre_key_report(rest, company_id))
        keep = args.keep or _MIN_KEPT
        return Ended(
            await reap_pre_keys(rest, company_id, keep_newest=keep, backup_folder=args.backup_dir)
        )

    if args.keep is not None and not args.reap:
        console.say("--keep does nothing without --reap: nothing is deleted")
    elif args.keep is not None and args.keep < _MIN_KEPT:
        raise ConfigurationError(f"--keep {args.keep} is too few: keep at least {_MIN_KEPT}")
    return await _for_companies(args, count, console, what="counted")
