"""Importing a folder of folders: every subfolder is a company."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supabase_auth_state.config import Settings
from supabase_auth_state.errors import (
    AccessDenied,
    FolderError,
    ProjectRestricted,
    SchemaMissing,
    StoreUnavailable,
    SupabaseAuthStateError,
)
from supabase_auth_state.rest.client import Rest, using_rest

from .import_folder import ImportReport, import_folder
from .quiet import located

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient
    from supabase import AsyncClient

CONCURRENCY = 4

# Hidden, or moved aside by an export.
_PASSED_OVER = re.compile(r"^\.|\.backup-[0-9]{8}T[0-9]{6}Z")
# With these, the next company would fare no better.
_FATAL = (AccessDenied, ProjectRestricted, SchemaMissing, StoreUnavailable)


@dataclass(frozen=True)
class Outcome:
    """How the import of one company ended: with a report, or with an error."""

    company_id: str
    report: ImportReport | None
    error: SupabaseAuthStateError | None


async def import_each(
    parent: str | os.PathLike[str],
    *,
    client: AsyncClient | AsyncPostgrestClient | Rest | None = None,
    settings: Settings | None = None,
    concurrency: int = CONCURRENCY,
    on_outcome: Callable[[Outcome], object],
    **options: Any,
) -> None:
    """Import every subfolder of a folder as the company of its name.

    One that cannot be imported does not keep the others from it. Memory does not grow with their
    number. Hidden subfolders, and those that an export moved aside, are passed over.

    Args:
        parent: the folder of folders.
        client: as in `import_folder`.
        settings: as in `import_folder`.
        concurrency: how many to import at a time.
        on_outcome: is told how each one ended.
        options: what else `import_folder` takes.

    Raises:
        FolderError: it is no folder.
        StoreUnavailable, AccessDenied, SchemaMissing, ProjectRestricted: the database does not
            work, so the rest was not tried.
    """
    folders = iter(await asyncio.to_thread(company_folders, parent))
    async with using_rest(settings, client=client) as rest:

        async def work() -> None:
            for folder in folders:
                on_outcome(await _import(folder, rest, options))

        workers = [asyncio.ensure_future(work()) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def _import(folder: Path, rest: Rest, options: dict[str, Any]) -> Outcome:
    try:
        report = await import_folder(folder, folder.name, client=rest, **options)
    except _FATAL:
        raise
    except SupabaseAuthStateError as error:
        return Outcome(folder.name, None, error)
    return Outcome(folder.name, report, None)


def company_folders(parent: str | os.PathLike[str]) -> list[Path]:
    """Return the subfolders of a folder that are named after a company, in order.

    Raises:
        FolderError: it cannot be listed.
    """
    folder = located(parent)
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.is_dir() and not _PASSED_OVER.search(path.name)
        )
    except OSError as exc:
        raise FolderError(f"cannot list {folder}: {exc.strerror}") from exc
