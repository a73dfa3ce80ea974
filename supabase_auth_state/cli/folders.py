"""``import``, ``export``, ``verify`` and ``purge-files``: between auth folders and the database."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .console import Console, failure_as_json
from .exits import DIFFERENT, DONE, REFUSED
from .parsing import Commands, add_backup_dir, add_command, add_company, add_folder, days, positive

if TYPE_CHECKING:
    from supabase_auth_state.transfer.import_each import ImportOutcome

_BESIDE = "where to put backups (default: beside the folder)"


def add_parsers(commands: Commands) -> None:
    """Add the parsers of these commands."""
    _add_import(commands)
    _add_export(commands)
    _add_verify(commands)
    _add_purge(commands)


def _add_import(commands: Commands) -> None:
    parser = add_command(
        commands,
        "import",
        run_import,
        summary="copy an auth folder of Baileys' into the database",
        description="""\
Copy an auth folder of Baileys' useMultiFileAuthState into the database, and read it back.

Stop the process that uses the folder first. The folder is backed up beside itself and is not
changed. Nothing is written when a file is not understood, when the folder is in use, when another
process owns the company, when another company is the same linked device, or when a value in the
database would be lost or go back. Running it again changes nothing; an import that was broken off
is finished by running it again. Lid-mappings older than seven days are left out, unless a session
still needs them.""",
    )
    add_folder(parser, "the auth folder; with --each, a folder of auth folders")
    which = parser.add_mutually_exclusive_group(required=True)
    add_company(which, required=False)
    which.add_argument(
        "--each", action="store_true", help="import every subfolder as the company of its name"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="make the database equal to the folder even where that loses newer state, or makes "
        "two companies of one linked device; its rows are backed up",
    )
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out files that are not understood, and list them (creds.json is needed)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="write nothing; say what would be done"
    )
    add_backup_dir(parser, default=None, purpose=_BESIDE)
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=positive,
        default=4,
        help="with --each: how many to import at a time (default: 4)",
    )


async def run_import(args: argparse.Namespace, console: Console) -> int:
    """Import one folder, or each of many."""
    from supabase_auth_state.transfer.import_folder import import_folder

    options: dict[str, Any] = {
        "force": args.force,
        "skip_broken": args.skip_broken,
        "dry_run": args.dry_run,
        "backup_dir": args.backup_dir,
    }
    if args.each:
        return await _import_each(args, console, options)
    with console.progress(args.company) as progress:
        report = await import_folder(args.folder, args.company, progress=progress, **options)
    console.result(report)
    return DONE


async def _import_each(args: argparse.Namespace, console: Console, options: dict[str, Any]) -> int:
    from supabase_auth_state.transfer.import_each import import_each

    count = {True: 0, False: 0}

    def tell(outcome: ImportOutcome) -> None:
        count[outcome.error is None] += 1
        if outcome.report is not None:
            console.result(outcome.report)
        elif outcome.error is not None:
            console.say(f"error: company {outcome.company_id!r}: {outcome.error}")
            if console.json:
                failure = {"company_id": outcome.company_id, **failure_as_json(outcome.error)}
                console.document({"ok": False, **failure})

    await import_each(args.folder, concurrency=args.concurrency, on_outcome=tell, **options)
    console.say(f"{count[True]} companies imported, {count[False]} not")
    return REFUSED if count[False] else DONE


def _add_export(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export",
        run_export,
        summary="write a company as an auth folder that Baileys opens: the way back to files",
        description="""\
Write a company as an auth folder that Baileys' useMultiFileAuthState opens, and read it back.

The folder appears complete or not at all, with mode 0700 and its files 0600, and with the times of
the rows. The company is owned meanwhile. Afterwards use only one of the two: set
USE_DATABASE_AUTH_STATE=false where the folder is to be used.""",
    )
    add_folder(parser, "the folder to write; must not exist, or be empty")
    add_company(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="move a folder that is not empty aside first; nothing is deleted",
    )
    parser.add_argument(
        "--without-lease",
        action="store_true",
        help="copy a company that is in use: a copy to look at, not one to connect with",
    )


async def run_export(args: argparse.Namespace, console: Console) -> int:
    """Export a company."""
    from supabase_auth_state.transfer.export_folder import export_folder

    if args.without_lease:
        console.say(
            "warning: without a lease, another process may be writing: the folder may mix states. "
            "Do not connect with it"
        )
    with console.progress(args.company) as progress:
        report = await export_folder(
            args.folder,
            args.company,
            force=args.force,
            lease=not args.without_lease,
            progress=progress,
        )
    console.result(report)
    return DONE


def _add_verify(commands: Commands) -> None:
    parser = add_command(
        commands,
        "verify",
        run_verify,
        summary="compare an auth folder with the database, value by value",
        description="""\
Compare an auth folder with a company in the database, value by value; nothing is written.

Prints how many values agree and the names of those that differ or that only one side has. Ends
with exit code 3 when there are any.""",
    )
    add_folder(parser, "the auth folder")
    add_company(parser)


async def run_verify(args: argparse.Namespace, console: Console) -> int:
    """Compare both sides."""
    from supabase_auth_state.transfer.verify import verify_folder

    report = await verify_folder(args.folder, args.company)
    console.result(report, ok=report.identical)
    return DONE if report.identical else DIFFERENT


def _add_purge(commands: Commands) -> None:
    parser = add_command(
        commands,
        "purge-files",
        run_purge,
        summary="remove an auth folder whose company has moved into the database",
        description="""\
Remove an auth folder whose company has lived in the database for seven days.

Without --yes it only says what it would do. The folder is removed only when every file is in the
database as it is, or was replaced there by something newer, and when there is a backup of exactly
these files; one is made when there is none. Files that are not Baileys' stay.""",
    )
    add_folder(parser, "the auth folder")
    add_company(parser)
    parser.add_argument(
        "--after-days",
        metavar="DAYS",
        type=days,
        default=7.0,
        help="how long the company must have been in the database (default: 7)",
    )
    add_backup_dir(parser, default=None, purpose="where backups are (default: beside the folder)")
    parser.add_argument("--yes", action="store_true", help="remove the files")


async def run_purge(args: argparse.Namespace, console: Console) -> int:
    """Remove a folder, or say what stands against it."""
    from supabase_auth_state.transfer.purge import purge_files

    report = await purge_files(
        args.folder,
        args.company,
        after_days=args.after_days,
        backup_dir=args.backup_dir,
        yes=args.yes,
    )
    console.result(report, ok=not report.obstacles)
    if not (report.obstacles or report.removed):
        console.say("nothing was changed: --yes removes the files")
    return REFUSED if report.obstacles else DONE
