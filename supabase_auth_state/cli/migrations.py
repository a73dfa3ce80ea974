"""``migrations``: the SQL files that make the tables and functions."""

from __future__ import annotations

import argparse
from pathlib import Path

from supabase_auth_state.config import check_schema, environment
from supabase_auth_state.config.settings import SCHEMA_VARIABLE
from supabase_auth_state.errors import ConfigurationError, FolderError

from .console import Console
from .exits import DONE
from .install import NEXT, install, tell_exposure, tell_status
from .migration_files import PUBLIC, migrations_directory, migrations_for
from .parsing import Commands, add_command


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "migrations",
        run_migrations,
        summary="list, print or copy the SQL files that `supabase db push` applies",
        description=f"""\
The SQL files that make the tables and functions:

  migrations list          name them (the default)
  migrations print [NAME]  print one, or all in order, e.g. for the SQL editor
  migrations install [DIR] add those that supabase/migrations of this project, or DIR, has not
  migrations status [DIR]  compare files, database and this version; say what to do next
  migrations copy [DIR]    copy all of them under their own names, or fail

install knows those that are there by their content, whatever their names, changes no file, and puts
new ones behind the project's own. status asks the project of SUPABASE_URL, or with --db-url-env the
Supabase CLI; it ends with exit code 3 when there is something to do.

Then apply them, {NEXT}""",
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "print", "install", "status", "copy"),
        default="list",
        help="what to do",
    )
    parser.add_argument(
        "target", nargs="?", metavar="NAME|DIR", help="which file to print, or which folder"
    )
    parser.add_argument(
        "--db-url-env",
        metavar="NAME",
        help="for status: ask `supabase migration list` for the database whose URL this variable "
        "holds, not the API",
    )
    parser.add_argument(
        "--schema",
        metavar="NAME",
        type=_schema,
        help="write the SQL for this schema, which the API has to expose (default: "
        f"{SCHEMA_VARIABLE}, else public)",
    )


async def run_migrations(args: argparse.Namespace, console: Console) -> int:
    """List, print or copy."""
    schema = args.schema or check_schema(environment().get(SCHEMA_VARIABLE, "").strip() or PUBLIC)
    files = migrations_for(schema)
    directory = Path(args.target) if args.target else migrations_directory(Path.cwd())
    if args.action == "install":
        install(files, directory, schema, console)
        return DONE
    if args.action == "status":
        return await tell_status(files, directory, args.db_url_env, console)
    if args.action == "copy":
        _copy(files, directory, schema, console)
        return DONE
    chosen = _named(files, args.target)
    if console.json:
        _print_as_json(chosen, console, with_sql=args.action == "print")
    elif args.action == "list":
        console.text("\n".join(chosen))
    else:
        console.text("\n".join(chosen.values()))
    return DONE


def _schema(text: str) -> str:
    try:
        return check_schema(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _named(files: dict[str, str], name: str | None) -> dict[str, str]:
    found = {each: sql for each, sql in files.items() if name in (None, each, Path(each).stem)}
    if not found:
        raise FolderError(
            f"there is no migration {name!r}: `supabase-auth-state migrations` lists them"
        )
    return found


def _print_as_json(files: dict[str, str], console: Console, *, with_sql: bool) -> None:
    migrations = [
        {"name": name, "sql": sql} if with_sql else {"name": name} for name, sql in files.items()
    ]
    console.document({"ok": True, "migrations": migrations})


def _copy(files: dict[str, str], directory: Path, schema: str, console: Console) -> None:
    """Copy all or nothing; a file of the same content is left as it is."""
    try:
        new = {
            directory / name: sql.encode()
            for name, sql in files.items()
            if not _is_there(directory / name, sql.encode())
        }
        directory.mkdir(parents=True, exist_ok=True)
        for target, content in new.items():
            target.write_bytes(content)
    except OSError as error:
        reason = error.strerror
    else:
        _tell_copied(list(new), directory, schema, console)
        return
    raise FolderError(f"cannot copy to {directory}: {reason}")


def _is_there(target: Path, content: bytes) -> bool:
    if not target.exists():
        return False
    if target.read_bytes() == content:
        return True
    raise FolderError(
        f"{target} is there with other content: a migration that was applied must not change, and "
        "all of them are for one schema; move it away to have this version"
    )


def _tell_copied(new: list[Path], directory: Path, schema: str, console: Console) -> None:
    if console.json:
        console.document(
            {
                "ok": True,
                "schema": schema,
                "directory": str(directory),
                "copied": [target.name for target in new],
            }
        )
        return
    for target in new:
        console.text(str(target))
    console.say(f"{len(new)} migrations copied to {directory}. Apply them, {NEXT}")
    tell_exposure(schema, console)
