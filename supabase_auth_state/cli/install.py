"""``migrations install`` and ``migrations status``: our SQL in a project of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supabase_auth_state import __version__
from supabase_auth_state.config import environment
from supabase_auth_state.config.settings import SCHEMA_VARIABLE, URL_VARIABLE
from supabase_auth_state.errors import ConfigurationError, FolderError

from .console import Console
from .exits import DIFFERENT, DONE
from .installed_files import Installation, Migration, examine
from .migration_files import PUBLIC

if TYPE_CHECKING:
    from .applied_migrations import Applied

NEXT = """\
in a project that `supabase link --project-ref <ref>` has linked:
  supabase db push --remote --yes     (CLI 2: supabase db push --linked --yes)"""

INSTALL = "supabase-auth-state migrations install"
PUSH = "supabase db push --remote --yes"


def install(files: Mapping[str, str], directory: Path, schema: str, console: Console) -> None:
    """Add the migrations that a folder does not have.

    Raises:
        FolderError: they are there for another schema, one is missing between others, or the folder
            cannot be read or written. Nothing is added then.
    """
    found = examine(directory, files)
    _refuse_another_schema(found, schema)
    added = found.additions()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, sql in added.items():
            # Never over a file that has come meanwhile.
            with (directory / name).open("xb") as file:
                file.write(sql.encode())
    except OSError as error:
        reason = error.strerror
    else:
        _tell_installed(found, list(added), schema, console)
        return
    raise FolderError(f"cannot write to {directory}: {reason}")


@dataclass(frozen=True)
class Status:
    """How files, database and this version compare.

    Attributes:
        installation: what the project's folder has.
        asked: what was asked: ``"api"``, ``"cli"``, or None.
        pending: ours that the database has not; None where that is not known.
        next: the one command to run next, or None when all is as it should be.
    """

    installation: Installation
    asked: str | None
    pending: tuple[Migration, ...] | None
    next: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        pending = None if self.pending is None else {each.name for each in self.pending}
        return {
            "version": __version__,
            "directory": str(self.installation.directory),
            "asked": self.asked,
            "migrations": [
                {
                    "name": each.name,
                    "file": each.file,
                    "changed": each.changed,
                    "applied": None if pending is None else each.name not in pending,
                }
                for each in self.installation.migrations
            ],
            "own_tables": list(self.installation.tables),
            "next": self.next,
        }

    def __str__(self) -> str:
        lines = [f"{self.installation.directory}, for supabase-auth-state {__version__}:"]
        lines += [
            f"  {each.name}: {self._file(each)}, {self._applied(each)}"
            for each in self.installation.migrations
        ]
        lines += [f"  {name}: tables of your own" for name in self.installation.tables]
        lines.append(f"next: {self.next}" if self.next else "nothing to do")
        return "\n".join(lines)

    @staticmethod
    def _file(migration: Migration) -> str:
        if migration.file is None:
            return "no file"
        name = "" if migration.file == migration.name else f" as {migration.file}"
        return f"here{name}{', changed' if migration.changed else ''}"

    def _applied(self, migration: Migration) -> str:
        if self.pending is None:
            return "the database was not asked"
        return "not applied" if migration in self.pending else "applied"


async def tell_status(
    files: Mapping[str, str], directory: Path, db_url_variable: str | None, console: Console
) -> int:
    """Print how files, database and this version compare, and return the exit code."""
    from .applied_migrations import functions_made

    found = examine(directory, files)
    asked, applied = await _ask(directory, db_url_variable)
    pending: tuple[Migration, ...] | None = None
    if applied is not None:
        pending = tuple(applied.lacks(found.migrations, functions_made(files)))
    status = Status(found, asked, pending, _next(found, applied, pending))
    console.result(status, ok=status.next is None)
    _warn(found, console)
    if applied is not None and not applied.known:
        console.say(
            "the database was installed by a version before 0.4, or by none: which migrations it "
            "has, it cannot say"
        )
    return DONE if status.next is None else DIFFERENT


async def _ask(directory: Path, db_url_variable: str | None) -> tuple[str | None, Applied | None]:
    from .applied_migrations import ask_api, ask_cli

    values = environment()
    if db_url_variable is not None:
        url = values.get(db_url_variable, "")
        if not url.strip():
            raise ConfigurationError(f"{db_url_variable} is not set: it holds the database's URL")
        return "cli", await ask_cli(url, directory.parent.parent)
    if not values.get(URL_VARIABLE, "").strip():
        return None, None
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        return "api", await ask_api(rest)


def _next(
    found: Installation, applied: Applied | None, pending: tuple[Migration, ...] | None
) -> str | None:
    if found.missing:
        return INSTALL
    if applied is None:
        return f"set {URL_VARIABLE} and the service key, and run this again: the database decides"
    if not pending:
        return None
    last = max(applied.versions or (), default="")
    # Without the flag, the CLI applies nothing before what it has applied.
    return f"{PUSH} --include-all" if pending[0].version < last else PUSH


def _refuse_another_schema(found: Installation, schema: str) -> None:
    """Do not put one schema's migrations beside another's.

    Raises:
        FolderError: the folder has them for another schema.
    """
    if not found.changed or len(found.changed) < len(found.migrations) - len(found.missing):
        return
    first = found.changed[0]
    text = (found.directory / str(first.file)).read_text("utf-8-sig", errors="replace")
    names_public = "public.whatsapp_auth" in text
    if names_public != (schema == PUBLIC) and "whatsapp_auth" in text:
        raise FolderError(
            f"{found.directory} has the migrations for another schema than {schema}, and one "
            f"folder is for one schema: use --schema, or {SCHEMA_VARIABLE}"
        )


def _tell_installed(found: Installation, added: list[str], schema: str, console: Console) -> None:
    if console.json:
        console.document(
            {
                "ok": True,
                "schema": schema,
                "directory": str(found.directory),
                "added": added,
                "there": {
                    each.name: each.file for each in found.migrations if each.file is not None
                },
                "changed": [each.file for each in found.changed],
                "own_tables": list(found.tables),
            }
        )
    for name in [] if console.json else added:
        console.text(str(found.directory / name))
    _warn(found, console)
    there = len(found.migrations) - len(found.missing)
    said = f"{len(added)} migrations added to {found.directory}, {there} were there"
    console.say(f"{said}. Apply them, {NEXT}" if added else said)
    tell_exposure(schema, console)


def _warn(found: Installation, console: Console) -> None:
    for each in found.changed:
        console.say(
            f"warning: {each.file} is not {each.name} of this version as it was published: it was "
            "changed, and the library may not work with it. A migration that was applied must not "
            "change; to see how it differs: "
            f"supabase-auth-state migrations print {each.name} | "
            f"diff - {found.directory / str(each.file)}"
        )
    for name in found.tables:
        console.say(f"{name} makes tables of your own: ours take them over, with their rows")


def tell_exposure(schema: str, console: Console) -> None:
    """Say what another schema than ``public`` needs."""
    if schema != PUBLIC:
        console.say(
            f"Then expose the schema {schema} (Project Settings > Data API > Exposed schemas), and "
            f"set {SCHEMA_VARIABLE}={schema}"
        )
