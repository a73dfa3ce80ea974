"""Which of our migrations a database has: by the CLI's history, or by the API."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from supabase_auth_state.errors import ConfigurationError, SchemaMissing, StoreUnavailable
from supabase_auth_state.rest.client import Rest

from .installed_files import Migration

_FUNCTION = re.compile(r'create (or replace )?function (?:public|"\w+")\.(\w+)')
_MADE = re.compile(
    r"create (?:or replace )?(?:table|view|function) (?:if not exists )?"
    r'(?:public|"\w+")\.(\w+)'
)
_DROPPED = re.compile(r'drop function (?:if exists )?(?:public|"\w+")\.(\w+)')


@dataclass(frozen=True)
class Applied:
    """What a database says of itself.

    Attributes:
        versions: versions of the CLI's history, or None where it is not known.
        titles: names of the CLI's history.
        functions: functions of ours that are there, or None where that is not known.
        known: False when the database is older than the function that is asked.
        outside: tables and functions that anon or authenticated may use, or None where that is not
            known. Some may be of another program.
        without_rls: tables without row level security, likewise.
        cron: ``{"installed": …, "schedule": …}`` of pg_cron, or None where that is not known.
    """

    versions: Collection[str] | None = None
    titles: Collection[str] = ()
    functions: Collection[str] | None = None
    known: bool = True
    outside: Collection[str] | None = None
    without_rls: Collection[str] | None = None
    cron: Mapping[str, Any] | None = None

    def lacks(
        self, migrations: Sequence[Migration], made: Mapping[str, Collection[str]]
    ) -> list[Migration]:
        """Return those migrations that have not been applied.

        Args:
            migrations: ours, in the order in which they apply.
            made: for each, the functions that it makes and no later one drops.
        """
        lacking: list[Migration] = []
        later = False
        for migration in reversed(migrations):
            # One that makes no function leaves no other trace than those that came after it.
            if self._has(migration, made[migration.name]) or (later and not made[migration.name]):
                later = True
            else:
                lacking.insert(0, migration)
        return lacking

    def _has(self, migration: Migration, made: Collection[str]) -> bool:
        if self.versions is not None and (
            migration.version in self.versions or migration.title in self.titles
        ):
            return True
        # As when the SQL was pasted into the editor.
        return self.functions is not None and bool(made) and set(made) <= set(self.functions)


async def ask_api(rest: Rest) -> Applied:
    """Ask the database through the API.

    Raises:
        StoreError: the database refused or did not answer.
    """
    try:
        found: Mapping[str, Any] = await rest.rpc(
            "whatsapp_installation", {}, is_right=lambda found: isinstance(found, dict)
        )
    except SchemaMissing:
        return Applied(known=False)
    history = found["history"]
    return Applied(
        versions=None if history is None else [version for version, _ in history],
        titles=[] if history is None else [str(title) for _, title in history],
        functions=found["functions"] or [],
        outside=found.get("outside"),
        without_rls=found.get("without_rls"),
        cron=found.get("cron"),
    )


async def ask_cli(url: str, project: Path) -> Applied:
    """Ask the Supabase CLI for the history of a database.

    Args:
        url: the database's URL. The password goes to the CLI by its environment.
        project: the folder that has the folder ``supabase``.

    Raises:
        ConfigurationError: there is no CLI, or the URL is none of a database.
        StoreUnavailable: the CLI failed. What it prints is not repeated: it may quote the URL.
    """
    command = shutil.which("supabase")
    if command is None:
        raise ConfigurationError("there is no `supabase` on PATH: install the Supabase CLI")
    address, password = _without_password(url)
    process = await asyncio.create_subprocess_exec(
        command, "migration", "list", f"--remote={address}", "--output-format", "json",
        "--workdir", str(project),
        env={**os.environ, **password},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        out, _ = await process.communicate()
    except BaseException:
        process.kill()
        raise
    try:
        listed = json.loads(out)["migrations"]
        return Applied(versions=[each["remote"] for each in listed if each.get("remote")])
    except (ValueError, KeyError, TypeError):
        pass
    raise StoreUnavailable(
        "`supabase migration list` failed: run it yourself to see why, with the same database URL "
        "(it needs CLI 3)"
    )


def functions_made(files: Mapping[str, str]) -> dict[str, set[str]]:
    """Return, for each file, the functions that it makes first and no file drops for good."""
    made: dict[str, set[str]] = {}
    known: set[str] = set()
    for name, sql in files.items():
        new = {match[2] for match in _FUNCTION.finditer(sql)} - known
        known |= new
        made[name] = new
    for sql in files.values():
        again = {match[2] for match in _FUNCTION.finditer(sql)}
        gone = {match[1] for match in _DROPPED.finditer(sql)} - again
        for functions in made.values():
            functions.difference_update(gone)
    return made


def names_made(files: Mapping[str, str]) -> set[str]:
    """Return the names of all tables, views and functions that files make."""
    return {match[1] for sql in files.values() for match in _MADE.finditer(sql)}


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    try:
        parts = urlsplit(url.strip())
        host = parts.netloc.rpartition("@")[2]
        right = parts.scheme in {"postgres", "postgresql"} and bool(parts.hostname)
        password = parts.password
    except ValueError:
        right = False
    if not right:
        raise ConfigurationError("the database URL is none: postgresql://user:password@host/name")
    user = f"{parts.username}@" if parts.username else ""
    address = urlunsplit(parts._replace(netloc=f"{user}{host}"))
    return address, {} if password is None else {"PGPASSWORD": unquote(password)}
