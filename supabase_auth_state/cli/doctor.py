"""``doctor`` and ``pre-keys``: what is wrong with a company's rows, and what piles up."""

from __future__ import annotations

import argparse

from .console import Console
from .exits import DIFFERENT, DONE
from .parsing import Commands, add_command, add_company, add_company_backup_dir, positive

_FEWEST = 812


def add_parsers(commands: Commands) -> None:
    """Add the parsers of these commands."""
    _add_doctor(commands)
    _add_pre_keys(commands)


def _add_doctor(commands: Commands) -> None:
    parser = add_command(
        commands,
        "doctor",
        run_doctor,
        summary="report damaged rows of a company, and repair what can be repaired",
        description="""\
Read a company's rows and report every damaged one: bytes in forms that Baileys no longer reads,
mappings without their other half, keys that do not belong together. Ends with exit code 3 when
something is damaged.

--fix repairs what can be repaired without guessing, after a backup of all rows, and says what it
left alone.""",
    )
    add_company(parser)
    parser.add_argument("--fix", action="store_true", help="repair, after a backup")
    add_company_backup_dir(parser)


async def run_doctor(args: argparse.Namespace, console: Console) -> int:
    """Examine a company, and repair it."""
    from supabase_auth_state.doctor.doctor import diagnose, repair
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        if args.fix:
            report = await repair(rest, args.company, backup_folder=args.backup_dir)
        else:
            report = await diagnose(rest, args.company)
    console.result(report, ok=not report.damaged)
    if report.repairable and not args.fix:
        console.say("nothing was changed: --fix repairs what can be repaired")
    return DIFFERENT if report.damaged else DONE


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
    add_company(parser)
    parser.add_argument(
        "--reap", action="store_true", help="delete all uploaded ones but the newest"
    )
    parser.add_argument(
        "--keep",
        metavar="N",
        type=positive,
        default=_FEWEST,
        help=f"with --reap: how many uploaded ones to keep (default and least: {_FEWEST})",
    )
    add_company_backup_dir(parser)


async def run_pre_keys(args: argparse.Namespace, console: Console) -> int:
    """Count pre-keys, and reap them."""
    from supabase_auth_state.doctor.pre_keys import pre_key_report, reap_pre_keys
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        if args.reap:
            report = await reap_pre_keys(
                rest, args.company, keep_newest=args.keep, backup_folder=args.backup_dir
            )
        else:
            report = await pre_key_report(rest, args.company)
    console.result(report)
    return DONE
