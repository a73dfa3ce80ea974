"""``migrations``: the SQL files, which travel with the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from supabase_auth_state.errors import FolderError

from .console import Console
from .exits import DONE
from .parsing import Commands, add_command


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "migrations",
        run_migrations,
        summary="list, print or copy the SQL files that `supabase db push` applies",
        description="""\
The SQL files that make the tables and functions:

  migrations list          name them (the default)
  migrations print [NAME]  print one, or all in order, e.g. for the SQL editor
  migrations copy [DIR]    copy them to supabase/migrations or DIR, for `supabase db push`""",
        json=False,
    )
    parser.add_argument(
        "action", nargs="?", choices=("list", "print", "copy"), default="list", help="what to do"
    )
    parser.add_argument(
        "target", nargs="?", metavar="NAME|DIR", help="which file to print, or where to copy to"
    )


async def run_migrations(args: argparse.Namespace, console: Console) -> int:
    """List, print or copy."""
    if args.action == "list":
        console.text("\n".join(path.name for path in migration_files()))
    elif args.action == "print":
        console.text("\n".join(path.read_text("utf-8") for path in _named(args.target)))
    else:
        _copy(Path(args.target or "supabase/migrations"), console)
    return DONE


def migration_files() -> list[Path]:
    """Return the SQL files in the order in which they apply."""
    package = Path(__file__).parents[1]
    # In the wheel they lie inside the package, in a checkout beside it.
    for folder in (package / "migrations", package.parent / "supabase" / "migrations"):
        found = sorted(folder.glob("*.sql"))
        if found:
            return found
    raise FolderError(f"the migrations are missing from {package}: install the package again")


def _named(name: str | None) -> list[Path]:
    found = [path for path in migration_files() if name in (None, path.name, path.stem)]
    if not found:
        raise FolderError(
            f"there is no migration {name!r}: `supabase-auth-state migrations` lists them"
        )
    return found


def _copy(directory: Path, console: Console) -> None:
    """Copy all or nothing; a file of the same content is left as it is."""
    new = {}
    for path in migration_files():
        target = directory / path.name
        content = path.read_bytes()
        if not target.exists():
            new[target] = content
        elif target.read_bytes() != content:
            raise FolderError(
                f"{target} is there with other content: a migration that was applied must not "
                "change; move it away to have this version"
            )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for target, content in new.items():
            target.write_bytes(content)
            console.text(str(target))
    except OSError as exc:
        raise FolderError(f"cannot copy to {directory}: {exc.strerror}") from exc
    console.say(f"{len(new)} migrations copied to {directory}; `supabase db push` applies them")
