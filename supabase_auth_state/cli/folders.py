"""``import``, ``export``, ``verify`` and ``purge-files``: between auth folders and the database."""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supabase_auth_state.errors import FolderError

from .console import Console
from .exits import DIFFERENT, DONE, REFUSED
from .many import Ended, Tally, for_each
from .parsing import (
    Commands,
    add_backup_dir,
    add_command,
    add_company,
    add_company_or_all,
    add_folder,
    days,
    positive,
)

if TYPE_CHECKING:
    from supabase_auth_state.rest.client import Rest
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
    add_folder(
        parser,
        "the auth folder, or the file of useSingleFileAuthState; with --each, a folder of folders",
    )
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
    from supabase_auth_state.rest.client import using_rest
    from supabase_auth_state.transfer.import_each import ImportEachReport, import_each

    from .companies import check_connection

    report = ImportEachReport()

    def tell(outcome: ImportOutcome) -> None:
        if outcome.report is not None:
            tally.end(Ended(outcome.report))
        elif outcome.error is not None:
            tally.fail(outcome.company_id, outcome.error)

    options |= {"concurrency": args.concurrency, "on_outcome": tell, "report": report}
    async with using_rest() as rest:
        await check_connection(rest)
        with Tally(console, report, "imported") as tally:
            await import_each(args.folder, client=rest, **options)
    return tally.code


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
    add_folder(
        parser,
        "the folder to write; must not exist, or be empty. With --all, the folder of folders",
    )
    add_company_or_all(parser, "export every company of the database, as the subfolder of its name")
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
    """Export one company, or all of them."""
    from supabase_auth_state.transfer.export_folder import export_folder

    if args.without_lease:
        console.say(
            "warning: without a lease, another process may be writing: the folder may mix states. "
            "Do not connect with it"
        )
    options: dict[str, Any] = {"force": args.force, "lease": not args.without_lease}
    if args.all:
        return await _export_all(args.folder, console, options)
    with console.progress(args.company) as progress:
        report = await export_folder(args.folder, args.company, progress=progress, **options)
    console.result(report)
    return DONE


async def _export_all(parent: str, console: Console, options: dict[str, Any]) -> int:
    import asyncio

    from supabase_auth_state.rest.client import using_rest
    from supabase_auth_state.transfer.export_folder import export_folder

    from .companies import list_companies

    async with using_rest() as rest:

        async def export(company_id: str) -> Ended:
            folder = Path(parent, folder_name(company_id))
            return Ended(await export_folder(folder, company_id, client=rest, **options))

        companies = await list_companies(rest)
        await asyncio.to_thread(_make_parent, Path(parent))
        return await for_each(companies, export, console, what="exported")


def folder_name(company_id: str) -> str:
    """Return the name of a company's folder, which `import --each` takes for the company.

    Raises:
        FolderError: no folder can have this name, or `import --each` would leave it out.
    """
    from supabase_auth_state.transfer.import_each import is_left_out

    if "/" in company_id or os.sep in company_id or is_left_out(company_id):
        raise FolderError(
            f"company {company_id!r} cannot be exported by --all, because a folder cannot have its "
            "name: export it with --company"
        )
    return company_id


def _make_parent(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
    else:
        return
    raise FolderError(f"cannot make {folder}: {reason}")


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
    add_folder(parser, "the auth folder; with --all, a folder of auth folders")
    add_company_or_all(parser, "compare every subfolder with the company of its name")


async def run_verify(args: argparse.Namespace, console: Console) -> int:
    """Compare one folder with its company, or each of many."""
    from supabase_auth_state.transfer.verify import verify_folder

    async def verify(folder: Path | str, company_id: str, client: Rest | None = None) -> Ended:
        report = await verify_folder(folder, company_id, client=client)
        return Ended(report, DONE if report.identical else DIFFERENT)

    if args.all:
        return await _for_each_folder(args.folder, verify, console, what="the same on both sides")
    with console.progress(args.company) as progress:
        progress("comparing", 0, 0)
        ended = await verify(args.folder, args.company)
    console.result(ended.report, ok=ended.code == DONE)
    return ended.code


async def _for_each_folder(
    parent: str,
    work: Callable[[Path, str, Rest], Awaitable[Ended]],
    console: Console,
    *,
    what: str,
) -> int:
    """Do a command for every subfolder and the company of its name."""
    import asyncio

    from supabase_auth_state.rest.client import using_rest
    from supabase_auth_state.transfer.import_each import company_folders

    from .companies import check_connection

    folders = {path.name: path for path in await asyncio.to_thread(company_folders, parent)}
    async with using_rest() as rest:
        await check_connection(rest)
        return await for_each(
            list(folders), lambda name: work(folders[name], name, rest), console, what=what
        )


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
    add_folder(parser, "the auth folder; with --all, a folder of auth folders")
    add_company_or_all(parser, "remove every subfolder whose company has moved")
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
    """Remove one folder or each of many, or print why it is still needed."""
    from supabase_auth_state.transfer.purge import purge_files

    async def purge(folder: Path | str, company_id: str, client: Rest | None = None) -> Ended:
        report = await purge_files(
            folder,
            company_id,
            client=client,
            after_days=args.after_days,
            backup_dir=args.backup_dir,
            yes=args.yes,
        )
        return Ended(report, REFUSED if report.obstacles else DONE)

    if args.all:
        code = await _for_each_folder(
            args.folder, purge, console, what="removed" if args.yes else "ready to be removed"
        )
    else:
        with console.progress(args.company) as progress:
            progress("comparing", 0, 0)
            ended = await purge(args.folder, args.company)
        console.result(ended.report, ok=ended.code == DONE)
        code = ended.code
    if code == DONE and not args.yes:
        console.say("nothing was changed: --yes removes the files")
    return code
