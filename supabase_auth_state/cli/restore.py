"""``restore``: from a backup into the database."""

from __future__ import annotations

import argparse

from .console import Console
from .exits import DONE
from .parsing import Commands, add_backup_dir, add_command, add_company


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "restore",
        run_restore,
        summary="store what a backup holds that another command has made",
        description="""\
Store what a backup holds: a .tar.gz that import, doctor, pre-keys, delete or restore has made.

Everything is as with import: the company is owned, what is replaced is backed up first, and nothing
is written without --force where the database may be newer. Restore only if no client has connected
since the backup: state that goes back makes messages of contacts unreadable.""",
    )
    parser.add_argument("backup", metavar="BACKUP", help="the backup, a .tar.gz")
    add_company(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="make the database equal to the backup even where that loses newer state, or makes "
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
    add_backup_dir(
        parser,
        default=None,
        purpose="where to put the backup of what is replaced (default: beside BACKUP)",
    )


async def run_restore(args: argparse.Namespace, console: Console) -> int:
    """Restore a backup."""
    from supabase_auth_state.transfer.restore import restore_backup

    with console.progress(args.company) as progress:
        report = await restore_backup(
            args.backup,
            args.company,
            force=args.force,
            skip_broken=args.skip_broken,
            dry_run=args.dry_run,
            backup_dir=args.backup_dir,
            progress=progress,
        )
    console.result(report)
    return DONE
