"""`python -m faults.crashes`: SIGKILL at every request and file operation of every command.

After each, the rows and files are looked at; then the command is run again, and has to finish or to
say what to do.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from psycopg.types.json import Jsonb

from devstack import Stack, open_stack
from supabase_auth_state import Rest, Settings, open_rest
from supabase_auth_state.cli.parsing import positive
from supabase_auth_state.doctor.doctor import repair
from supabase_auth_state.errors import FolderError
from supabase_auth_state.operations.cleanup import CLEANUP_LEASE, run_cleanup
from supabase_auth_state.transfer.backups import back_up_folder, read_backup
from supabase_auth_state.transfer.delete import delete_company
from supabase_auth_state.transfer.export_folder import export_folder
from supabase_auth_state.transfer.import_each import import_each
from supabase_auth_state.transfer.import_folder import import_folder
from supabase_auth_state.transfer.purge import purge_files
from supabase_auth_state.transfer.restore import restore_backup
from supabase_auth_state.transfer.verify import verify_folder

from .killing import Ended, run

Rows: TypeAlias = "dict[tuple[str, str], Any]"
"""What a company holds: values by type and id; the creds are ``("creds", "")``."""

_CREDS = ("creds", "")
_FIXTURE = Path(__file__).parents[1] / "tests" / "fixtures" / "baileys" / "v7-small"
_FILES = (
    "creds.json", "pre-key-3.json", "pre-key-4.json", "session-200000000000100_1.0.json",
    "identity-key-200000000008019_1.0.json", "tctoken-200000000000100@lid.json",
    "app-state-sync-version-critical_block.json",
)  # fmt: skip
_OLD = 3600.0


class Place:
    """A folder and a company of their own, for one run of a command and what follows.

    Attributes:
        folder: an auth folder, as it was before.
        root: what is below may be changed.
        company_id: the company.
    """

    def __init__(self, stack: Stack, db: psycopg.Connection[Any], root: Path) -> None:
        self.root = root
        self.folder = make_folder(root / "auth")
        self.company_id = f"crash-{uuid.uuid4().hex}"
        self.files = files_in(self.folder)
        self.before: Rows = {}
        self._stack = stack
        self._db = db

    def settings(self) -> Settings:
        """Return how the commands reach the database."""
        return Settings(self._stack.url, self._stack.service_role_key)

    def rows(self, company_id: str | None = None) -> Rows:
        """Return what the company holds."""
        company_id = company_id or self.company_id
        found = self._db.execute(
            "select key_type, key_id, value from whatsapp_keys where company_id = %s union all "
            "select 'creds', '', creds from whatsapp_auth where company_id = %s",
            [company_id] * 2,
        )
        return {(key_type, key_id): value for key_type, key_id, value in found}

    def fill(self, rows: Rows) -> None:
        """Give the company these rows."""
        for (key_type, key_id), value in rows.items():
            if (key_type, key_id) == _CREDS:
                self._db.execute(
                    "insert into whatsapp_auth (company_id, creds) values (%s, %s)",
                    [self.company_id, Jsonb(value)],
                )
            else:
                self._db.execute(
                    "insert into whatsapp_keys (company_id, key_type, key_id, value) "
                    "values (%s, %s, %s, %s)",
                    [self.company_id, key_type, key_id, Jsonb(value)],
                )
        self.before = rows

    def expire(self, number: int) -> None:
        """Give the company so many mappings whose time is over."""
        with self._db.transaction():
            self._db.execute("set local whatsapp_auth.maintenance = 'on'")
            self._db.execute(
                "insert into whatsapp_keys (company_id, key_type, key_id, value, expires_at) "
                "select %s, 'lid-mapping', '1555019' || n, '\"1\"', now() - interval '1 day' "
                "from generate_series(1, %s) n",
                [self.company_id, number],
            )

    def pass_time(self) -> None:
        """Let the lease of a process that is gone run out."""
        self._db.execute(
            "update whatsapp_leases set expires_at = clock_timestamp() "
            "where strpos(company_id, %s) > 0 or company_id = %s",
            [self.company_id, CLEANUP_LEASE],
        )

    def remove(self) -> None:
        """Leave nothing in the database."""
        with self._db.transaction():
            self._db.execute("set local whatsapp_auth.maintenance = 'on'")
            for table in ("whatsapp_auth", "whatsapp_keys"):
                self._db.execute(
                    f"delete from {table} where strpos(company_id, %s) > 0".encode(),  # noqa: S608
                    [self.company_id],
                )

    def backups(self) -> list[Path]:
        """Return the backups below the root that are whole."""
        return [path for path in self.root.rglob("*.tar.gz") if not path.name.startswith(".")]


def make_folder(folder: Path) -> Path:
    """Make a small auth folder, which no process has written to for an hour."""
    folder.mkdir(parents=True)
    for name in _FILES:
        shutil.copyfile(_FIXTURE / name, folder / name)
        _make_old(folder / name)
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    """Return what is in the files of a folder."""
    if not folder.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@dataclass(frozen=True)
class Command:
    """A command, and what has to be true of it.

    Attributes:
        name: what it is called in the table.
        work: does it.
        prepare: makes the state before it; gets the rows of a whole company.
        may_be: what is wrong after a crash, or None.
        done: what is wrong after the second run, or None; gets the error of the second run.
    """

    name: str
    work: Callable[[Place, Rest], Awaitable[Any]]
    prepare: Callable[[Place, Rows], None]
    may_be: Callable[[Place, Rows], str | None]
    done: Callable[[Place, Rows, str | None], str | None]


# What has to be true


def _nothing(_place: Place, _whole: Rows) -> None:
    pass


def _filled(place: Place, whole: Rows) -> None:
    place.fill(whole)


def _new_or_unfinished_or_whole(place: Place, whole: Rows) -> str | None:
    rows = place.rows()
    if place.files != files_in(place.folder):
        return "the folder was changed"
    if any(whole.get(ref) != value for ref, value in rows.items()):
        return "a row holds what is in no file"
    if _CREDS in rows and rows != whole:
        return "creds without all of their keys"
    return None


def _is_whole(place: Place, whole: Rows, error: str | None) -> str | None:
    if error is not None:
        return f"the second run failed: {error}"
    if place.files != files_in(place.folder):
        return "the folder was changed"
    return None if place.rows() == whole else "not every row is there"


def _one_of_two(place: Place, _whole: Rows) -> str | None:
    if place.files != files_in(place.folder):
        return "the folder was changed"
    return None if place.rows() in (place.before, _changed(place.before)) else "rows of two states"


def _changed(whole: Rows) -> Rows:
    rows = {ref: value for ref, value in whole.items() if ref != ("pre-key", "3")}
    rows["creds", ""] = {**rows["creds", ""], "accountSyncCounter": 77}
    return rows


def _change_folder(place: Place, whole: Rows) -> None:
    place.fill(whole)
    _change_creds(place.folder, accountSyncCounter=77)
    (place.folder / "pre-key-3.json").unlink()
    place.files = files_in(place.folder)


def _change_creds(folder: Path, **changed: Any) -> None:
    creds = folder / "creds.json"
    document = {**json.loads(creds.read_text()), **changed}
    creds.write_text(json.dumps(document, separators=(",", ":")))
    _make_old(creds)


def _make_old(path: Path) -> None:
    changed = time.time() - _OLD
    os.utime(path, (changed, changed))


def _is_changed(place: Place, whole: Rows, error: str | None) -> str | None:
    return _is_whole(place, _changed(whole), error)


def _two_folders(place: Place, _whole: Rows) -> None:
    for number in (1, 2):
        folder = make_folder(place.root / "all" / f"{place.company_id}-{number}")
        _change_creds(folder, registrationId=number)


def _each(place: Place, whole: Rows) -> list[tuple[Rows, Rows]]:
    """Return what each of the two companies holds, and what it has to."""
    return [
        (
            place.rows(f"{place.company_id}-{number}"),
            {**whole, _CREDS: {**whole[_CREDS], "registrationId": number}},
        )
        for number in (1, 2)
    ]


def _each_new_or_unfinished_or_whole(place: Place, whole: Rows) -> str | None:
    for rows, wanted in _each(place, whole):
        if any(wanted.get(ref) != value for ref, value in rows.items()):
            return "a row holds what is in no file"
        if _CREDS in rows and rows != wanted:
            return "creds without all of their keys"
    return None


def _each_is_whole(place: Place, whole: Rows, error: str | None) -> str | None:
    if error is not None:
        return f"the second run failed: {error}"
    return next(
        ("not every row is there" for rows, all_ in _each(place, whole) if rows != all_), None
    )


def _absent_or_exported(place: Place, whole: Rows) -> str | None:
    if place.rows() != whole:
        return "a row was changed"
    exported = files_in(place.root / "out")
    if exported and set(exported) != set(place.files):
        return "half of a folder"
    return None


def _is_exported(place: Place, whole: Rows, error: str | None) -> str | None:
    if files_in(place.root / "out").keys() != place.files.keys():
        return f"the folder is not whole: {error}"
    if error is not None and "not empty" not in error:
        return f"the second run failed: {error}"
    return _absent_or_exported(place, whole)


def _something_there(place: Place, whole: Rows) -> None:
    place.fill(whole)
    shutil.copytree(place.folder, place.root / "out")
    (place.root / "out" / "pre-key-9999.json").write_bytes(b"mine")
    _make_old(place.root / "out" / "pre-key-9999.json")


def _old_is_somewhere(place: Place, whole: Rows) -> str | None:
    if place.rows() != whole:
        return "a row was changed"
    old = {**place.files, "pre-key-9999.json": b"mine"}
    folders = [files_in(path) for path in place.root.iterdir() if path.name.startswith("out")]
    if old not in folders:
        return "the folder that was there is gone"
    now = files_in(place.root / "out")
    return None if now in ({}, old) or set(now) == set(place.files) else "half of a folder"


def _is_exported_over(place: Place, whole: Rows, error: str | None) -> str | None:
    if error is not None:
        return f"the second run failed: {error}"
    if files_in(place.root / "out").keys() != place.files.keys():
        return "the folder is not whole"
    return _old_is_somewhere(place, whole)


def _unchanged(place: Place, whole: Rows) -> str | None:
    if place.files != files_in(place.folder):
        return "the folder was changed"
    return None if place.rows() == whole else "a row was changed"


def _is_unchanged(place: Place, whole: Rows, error: str | None) -> str | None:
    return f"the second run failed: {error}" if error else _unchanged(place, whole)


def _files_or_backup(place: Place, whole: Rows) -> str | None:
    if place.rows() != whole:
        return "a row was changed"
    left = files_in(place.folder)
    if any(place.files[name] != content for name, content in left.items()):
        return "a file was changed"
    if left == place.files:
        return None
    kept = [_files_of(path) for path in place.backups()]
    return None if place.files in kept else "a file is gone that is in no backup"


def _files_of(backup: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _) in read_backup(backup).files.items()}


def _is_purged(place: Place, whole: Rows, error: str | None) -> str | None:
    wrong = _files_or_backup(place, whole)
    if wrong is not None:
        return wrong
    if not files_in(place.folder):
        return None
    return None if error is not None else "files are left, and nothing says why"


def _damaged(place: Place, whole: Rows) -> None:
    place.fill({**whole, ("pre-key", "3"): _as_plain_json(whole["pre-key", "3"])})


def _as_plain_json(value: Any) -> Any:
    """Return a key pair as a client stores it that does not use BufferJSON."""
    return {
        name: {str(i): byte for i, byte in enumerate(base64.b64decode(part["data"]))}
        for name, part in value.items()
    }


def _damaged_or_repaired(place: Place, whole: Rows) -> str | None:
    rows = place.rows()
    if rows == place.before:
        return None
    if rows != whole:
        return "rows of two states"
    return None if place.backups() else "repaired without a backup"


def _is_repaired(place: Place, whole: Rows, error: str | None) -> str | None:
    if error is not None:
        return f"the second run failed: {error}"
    return None if place.rows() == whole else "not repaired"


def _with_expired(place: Place, whole: Rows) -> None:
    place.fill(whole)
    place.expire(5)


def _only_expired_are_gone(place: Place, whole: Rows) -> str | None:
    rows = place.rows()
    return None if whole.items() <= rows.items() else "a row is gone that had not expired"


def _is_clean(place: Place, whole: Rows, error: str | None) -> str | None:
    if error is not None:
        return f"the second run failed: {error}"
    return None if place.rows() == whole else "not clean"


def _backed_up(place: Place, _whole: Rows) -> None:
    (place.root / "kept").mkdir()
    back_up_folder(place.folder, place.root / "kept")


def _rows_or_backup(place: Place, whole: Rows) -> str | None:
    rows = place.rows()
    if rows == whole:
        return None
    if rows:
        return "half of a company"
    return None if place.backups() else "deleted without a backup"


def _is_deleted(place: Place, whole: Rows, error: str | None) -> str | None:
    if error is not None and "CompanyNotFound" not in error:
        return f"the second run failed: {error}"
    return "not deleted" if place.rows() else _rows_or_backup(place, whole)


async def _purge(place: Place, rest: Rest) -> None:
    report = await purge_files(
        place.folder, place.company_id, client=rest, quiet_for=0, after_days=0, yes=True
    )
    if report.obstacles:
        raise FolderError("; ".join(report.obstacles))


COMMANDS = (
    Command(
        "import, new company",
        lambda p, rest: import_folder(p.folder, p.company_id, client=rest, quiet_for=0),
        _nothing, _new_or_unfinished_or_whole, _is_whole,
    ),
    Command(
        "import --force, existing company",
        lambda p, rest: import_folder(p.folder, p.company_id, client=rest, quiet_for=0, force=True),
        _change_folder, _one_of_two, _is_changed,
    ),
    Command(
        "import --each, two companies",
        lambda p, rest: import_each(p.root / "all", client=rest, quiet_for=0, concurrency=1),
        _two_folders, _each_new_or_unfinished_or_whole, _each_is_whole,
    ),
    Command(
        "export, new folder",
        lambda p, rest: export_folder(p.root / "out", p.company_id, client=rest, quiet_for=0),
        _filled, _absent_or_exported, _is_exported,
    ),
    Command(
        "export --force, over a folder",
        lambda p, rest: export_folder(
            p.root / "out", p.company_id, client=rest, quiet_for=0, force=True
        ),
        _something_there, _old_is_somewhere, _is_exported_over,
    ),
    Command(
        "verify",
        lambda p, rest: verify_folder(p.folder, p.company_id, client=rest),
        _filled, _unchanged, _is_unchanged,
    ),
    Command(
        "purge-files --yes, with its backup",
        _purge,
        _filled, _files_or_backup, _is_purged,
    ),
    Command(
        "doctor --fix",
        lambda p, rest: repair(rest, p.company_id, backup_folder=p.root / "backups"),
        _damaged, _damaged_or_repaired, _is_repaired,
    ),
    Command(
        "cleanup",
        lambda _, rest: run_cleanup(rest, batch_size=2),
        _with_expired, _only_expired_are_gone, _is_clean,
    ),
    Command(
        "restore",
        lambda p, rest: restore_backup(
            next((p.root / "kept").glob("*.tar.gz")), p.company_id, client=rest
        ),
        _backed_up, _new_or_unfinished_or_whole, _is_whole,
    ),
    Command(
        "delete, with its backup",
        lambda p, rest: delete_company(
            p.company_id, client=rest, backup_dir=p.root / "backups"
        ),
        _filled, _rows_or_backup, _is_deleted,
    ),
)  # fmt: skip
"""What is killed."""


@dataclass
class Line:
    """What came of one command.

    Attributes:
        command: its name.
        points: how many points it has.
        killed: at how many of them it was killed.
        finished: how many second runs finished the work.
        said: how many said what to do instead, by what they said.
        wrong: what must not be, with the point.
    """

    command: str
    points: int = 0
    killed: int = 0
    finished: int = 0
    said: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Crashes:
    """Kills commands at their points.

    Args:
        stack: where.
        every: kill at every so manieth point.
    """

    def __init__(self, stack: Stack, every: int = 1) -> None:
        self._stack = stack
        self._every = every
        with psycopg.connect(stack.db_url, autocommit=True) as db:
            self._whole = self._imported(db)

    def lines(self) -> list[Line]:
        """Kill every command at its points, and return what came of it."""
        with psycopg.connect(self._stack.db_url, autocommit=True) as db:
            return [self.line(command, db) for command in COMMANDS]

    def _imported(self, db: psycopg.Connection[Any]) -> Rows:
        with tempfile.TemporaryDirectory() as root:
            place = Place(self._stack, db, Path(root))
            ended = self._run(COMMANDS[0], place)
            rows = place.rows()
            place.remove()
        if ended.error is not None or len(rows) != len(_FILES):
            raise RuntimeError(f"the import failed: {ended.error}")
        return rows

    def line(self, command: Command, db: psycopg.Connection[Any]) -> Line:
        """Kill one command at its points."""
        line = Line(command.name)
        # The first points that are left out differ from command to command.
        point = 1 + len(command.name) % self._every
        while True:
            with tempfile.TemporaryDirectory() as root:
                place = Place(self._stack, db, Path(root).resolve())
                try:
                    command.prepare(place, self._whole)
                    ended = self._run(command, place, point)
                    if ended.killed_at is None:
                        line.points = point - 1
                        if ended.error is not None:
                            line.wrong.append(f"without a crash: {ended.error}")
                        return line
                    line.killed += 1
                    self._after(command, place, f"{point}, {ended.killed_at}", line)
                finally:
                    place.remove()
            point += self._every

    def _after(self, command: Command, place: Place, where: str, line: Line) -> None:
        wrong = command.may_be(place, self._whole)
        if wrong is not None:
            line.wrong.append(f"{command.name}, {where}: {wrong}")
        place.pass_time()
        again = self._run(command, place)
        if again.error is None:
            line.finished += 1
        else:
            line.said[again.error.replace(str(place.root), "…").replace(place.company_id, "…")] += 1
        wrong = command.done(place, self._whole, again.error)
        if wrong is not None:
            line.wrong.append(f"{command.name}, {where}, second run: {wrong}")

    def _run(self, command: Command, place: Place, kill_at: int = 0) -> Ended:
        async def work() -> None:
            rest = open_rest(place.settings())
            try:
                await command.work(place, rest)
            finally:
                await rest.close()

        return run(work, place.root, kill_at)


def table(lines: list[Line]) -> str:
    """Return the lines as a table in Markdown."""
    rows = ["| command | points | killed at | second run finished | said what to do |"]
    rows.append("| --- | --- | --- | --- | --- |")
    for line in lines:
        said = str(line.said.total())
        rows.append(
            f"| {line.command} | {line.points} | {line.killed} | {line.finished} | {said} |"
        )
    return "\n".join(rows)


def warm_up() -> None:
    """Import what every child needs, once."""
    import httpx_aiohttp  # noqa: F401
    import postgrest  # noqa: F401
    import supabase  # noqa: F401


def main(argv: list[str] | None = None) -> int:
    """Print the table, and what must not be."""
    parser = argparse.ArgumentParser(prog="python -m faults.crashes", description=__doc__)
    parser.add_argument(
        "--every",
        type=positive,
        default=1,
        help="kill at every so manieth point only (default: all)",
    )
    chosen = parser.parse_args(argv)
    logging.getLogger("supabase_auth_state").setLevel(logging.CRITICAL)
    warm_up()
    with open_stack() as stack:
        lines = Crashes(stack, chosen.every).lines()
    for line in lines:
        for said, count in line.said.items():
            print(f"{line.command}, {count} times: {said}")
    wrong: list[str] = [text for line in lines for text in line.wrong]
    print("\n".join([table(lines), *wrong, f"{len(wrong)} violations"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
