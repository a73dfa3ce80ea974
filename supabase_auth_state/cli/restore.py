"""``restore``: from a backup, or from what the database has kept; ``history`` lists that."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from supabase_auth_state.errors import ConfigurationError

from .console import Console
from .exits import DONE, REFUSED
from .parsing import Commands, add_backup_dir, add_command, add_company, positive
from .tables import Page, Table, human_bytes

if TYPE_CHECKING:
    from supabase_auth_state.rest.client import Rest
    from supabase_auth_state.transfer.history import History, Version

_MEANING = """\
Ratchets go back to {time}. What was sent and received since then is unknown to the restored state:
messages of contacts cannot be read until their sessions are made anew, and one-time pre-keys may be
handed out twice. Restore only if no client has connected since, or if what is there now is lost
anyway. What is there now is kept, and can be restored in the same way."""


def add_parsers(commands: Commands) -> None:
    """Add the parsers of these commands."""
    history = add_command(
        commands,
        "history",
        run_history,
        summary="what the database keeps of a company: earlier creds, and what was removed",
        description="""\
List what the database keeps of a company: the last ten versions of its creds and one a day for a
week, and the company itself for 14 days after it was cleared, deleted or logged out. It shows no
content.""",
    )
    add_company(history)
    parser = add_command(
        commands,
        "restore",
        run_restore,
        summary="store what a backup holds, or what the database has kept",
        description="""\
Without BACKUP: bring back what the database has kept, which history lists: the company that was
removed last, or --version N. It says what that means and asks; elsewhere than at a
terminal --yes is needed. The company is owned meanwhile, and what is replaced is kept.

With BACKUP: store what a backup holds, a .tar.gz that import, doctor, pre-keys, delete or restore
has made. Everything is as with import: the company is owned, what is replaced is backed up first,
and nothing is written without --force where the database may be newer. Restore only if no client
has connected since the backup: state that goes back makes messages of contacts unreadable.""",
    )
    parser.add_argument("backup", metavar="BACKUP", nargs="?", help="the backup, a .tar.gz")
    add_company(parser)
    parser.add_argument(
        "--version", metavar="N", type=positive, help="a version that history lists"
    )
    parser.add_argument("--yes", action="store_true", help="restore a version without asking")
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


async def run_history(args: argparse.Namespace, console: Console) -> int:
    """Print what is kept of a company."""
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        history = await _history_of(rest, args.company)
    console.result(_History(history))
    return DONE


async def _history_of(rest: Rest, company_id: str) -> History:
    """Return what is kept of a company.

    Raises:
        CompanyNotFound: nothing is, and it has no rows.
        StoreError: the database refused or did not answer.
    """
    from supabase_auth_state.transfer.history import read_history

    from .companies import refuse_unknown

    history = await read_history(company_id, client=rest)
    if not history.versions:
        await refuse_unknown(rest, company_id)
    return history


async def run_restore(args: argparse.Namespace, console: Console) -> int:
    """Restore a backup, or what the database has kept."""
    from supabase_auth_state.transfer.restore import restore_backup

    if args.backup is None:
        return await _restore_version(args, console)
    if args.version is not None:
        raise ConfigurationError("a backup has no versions: give BACKUP or --version")
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


async def _restore_version(args: argparse.Namespace, console: Console) -> int:
    from supabase_auth_state.rest.client import using_rest
    from supabase_auth_state.transfer.history import restore_version

    async with using_rest() as rest:
        wanted = (await _history_of(rest, args.company)).version(args.version)
        console.say(_MEANING.format(time=_moment(wanted.saved_at or wanted.kept_at)))
        if args.dry_run:
            console.result(_Restored(args.company, wanted, dry_run=True))
            return DONE
        if not args.yes and not await _confirmed(args.company, wanted, console):
            console.declined("nothing was restored")
            return REFUSED
        with console.progress(args.company) as progress:
            progress("restoring", 0, 0)
            restored = await restore_version(args.company, wanted.version, client=rest)
    console.result(_Restored(args.company, restored, dry_run=False))
    return DONE


async def _confirmed(company_id: str, version: Version, console: Console) -> bool:
    """Return whether a person agrees.

    Raises:
        ConfigurationError: there is no terminal to ask at.
    """
    confirmed = await console.confirm(
        f"restore version {version.version} of company {company_id!r} ({version.contents})?"
    )
    if confirmed is None:
        raise ConfigurationError("--yes is needed where restore cannot ask at a terminal")
    return confirmed


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


class _Restored:
    """What a restore has brought back, for printing."""

    def __init__(self, company_id: str, version: Version, *, dry_run: bool) -> None:
        self._company_id = company_id
        self._version = version
        self._dry_run = dry_run

    def as_json(self) -> dict[str, Any]:
        version = asdict(self._version)
        return {"company_id": self._company_id, "dry_run": self._dry_run, "restored": version}

    def __str__(self) -> str:
        done = "would be restored" if self._dry_run else "is restored"
        version = self._version
        said = (
            f"company {self._company_id!r}: version {version.version} {done}: {version.contents}, "
            f"of {_moment(version.saved_at or version.kept_at)}"
        )
        if version.reason != "logged out":
            return said
        return (
            f"{said}\npools leave it alone until: "
            f"supabase-auth-state reinstate --company {self._company_id}"
        )


class _History(Page):
    """What is kept of a company, for printing."""

    def __init__(self, history: History) -> None:
        self._history = history

    def as_json(self) -> dict[str, Any]:
        return asdict(self._history)

    def parts(self) -> Iterator[str | Table]:
        history = self._history
        now = (
            f"creds of {_moment(history.saved_at)}" if history.saved_at is not None else "no creds"
        )
        head = f"company {history.company_id!r} now: {now}"
        if not history.versions:
            yield f"{head}; nothing earlier is kept"
            return
        yield head
        device = {True: "this device", False: "another device", None: "-"}
        rows = [
            (
                str(each.version),
                each.contents,
                _moment(each.saved_at),
                f"{each.reason} {_moment(each.kept_at)}",
                _moment(each.until),
                device[each.same_device],
                human_bytes(each.bytes),
            )
            for each in history.versions
        ]
        columns = ("version", "holds", "saved", "kept because", "until", "linked as", "size")
        yield Table(columns, rows, spare=("linked as", "size", "until"))
