"""The SQL files, which travel with the package: for the schema `public`, or for another one."""

from __future__ import annotations

import re
from pathlib import Path

from supabase_auth_state.errors import FolderError

PUBLIC = "public"

# `public.` before a name, also inside a string that becomes SQL; not the role of that name.
_QUALIFIER = re.compile(r'\bpublic(?=\.["%a-z])')
_NAMESPACE = re.compile(r"'public'(?=::regnamespace)")
_CRON_JOB = re.compile(r"'supabase-auth-state cleanup'")


def migration_files() -> list[Path]:
    """Return the SQL files in the order in which they apply.

    Raises:
        FolderError: the package is incomplete.
    """
    package = Path(__file__).parents[1]
    # In the wheel they lie inside the package, in a checkout beside it.
    for folder in (package / "migrations", package.parent / "supabase" / "migrations"):
        found = sorted(folder.glob("*.sql"))
        if found:
            return found
    raise FolderError(f"the migrations are missing from {package}: install the package again")


def migrations_for(schema: str) -> dict[str, str]:
    """Return the SQL of every migration for a schema, by file name, in the order of application.

    Args:
        schema: the schema, checked by `config.check_schema`. Every file names the schema before
            each table and function, so the text for another schema differs in these names only,
            and in the name of the pg_cron job. The first file also makes the schema.
    """
    texts = {path.name: path.read_text("utf-8") for path in migration_files()}
    if schema == PUBLIC:
        return texts
    first = next(iter(texts))
    rewritten = {name: _rewritten(text, schema) for name, text in texts.items()}
    return rewritten | {first: _made(schema) + rewritten[first]}


def migrations_directory(start: Path) -> Path:
    """Return the `supabase/migrations` of the project that a folder is in, as the CLI finds it.

    That is the nearest folder, here or above, whose `supabase` has a `config.toml`. Where there is
    none, it is `supabase/migrations` below; and inside a folder that is named so, that folder.

    Args:
        start: an absolute path.
    """
    for folder in (start, *start.parents):
        if (folder / "supabase" / "config.toml").is_file():
            return folder / "supabase" / "migrations"
    if start.name == "supabase":
        return start / "migrations"
    if start.name == "migrations" and start.parent.name == "supabase":
        return start
    return start / "supabase" / "migrations"


def _rewritten(text: str, schema: str) -> str:
    # Quoted, because a name such as `user` is a word of SQL too.
    text = _QUALIFIER.sub(f'"{schema}"', text)
    text = _NAMESPACE.sub(f"'\"{schema}\"'", text)
    # One database may hold our tables in several schemas, and a job name is unique in a database.
    return _CRON_JOB.sub(f"'supabase-auth-state cleanup of {schema}'", text)


def _made(schema: str) -> str:
    return f"""\
-- For the schema "{schema}", by `supabase-auth-state migrations copy --schema {schema}`.
create schema if not exists "{schema}";
grant usage on schema "{schema}" to service_role;

"""
