"""Importing a folder of folders: every subfolder is a company."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.codec import Malformed
from supabase_auth_state.config import Settings
from supabase_auth_state.errors import (
    CodecError,
    FolderError,
    SupabaseAuthStateError,
    some_of,
)
from supabase_auth_state.files.names import CREDS_FILE
from supabase_auth_state.files.reading import kind_of, read_document
from supabase_auth_state.rest.client import Rest, using_rest
from supabase_auth_state.rest.connection import Client

from .documents import Device, device_of
from .import_folder import ImportReport, import_into
from .many import FATAL, ManyCompanies, work_through
from .quiet import located

CONCURRENCY = 4

# Hidden folders, and those that an export moved aside.
_LEFT_OUT = re.compile(r"^\.|\.backup-[0-9]{8}T[0-9]{6}Z")


def is_left_out(name: str) -> bool:
    """Return True for the name of a subfolder that is no company's."""
    return _LEFT_OUT.search(name) is not None


@dataclass(frozen=True)
class ImportOutcome:
    """How the import of one company ended: with a report, or with an error."""

    company_id: str
    report: ImportReport | None
    error: SupabaseAuthStateError | None


@dataclass
class ImportEachReport(ManyCompanies):
    """How far an import of many companies has come. It changes while the import runs.

    Attributes:
        imported: companies that were imported.
        failed: companies that could not be.
        under_way: companies whose import has begun and not ended. After an interruption each of
            them holds what it held, or is unfinished; another run finishes it.
        waiting: companies whose import has not begun.
    """

    imported: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many companies are imported or failed."""
        return len(self.imported) + len(self.failed)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "imported": list(self.imported),
            "failed": list(self.failed),
            "under_way": list(self.under_way),
            "waiting": list(self.waiting),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{len(self.imported)} of {self.total} companies imported, {len(self.failed)} not"
        for what, companies in (
            ("not imported", self.failed),
            ("under way and not finished", self.under_way),
            ("not begun", self.waiting),
        ):
            if companies:
                yield f"{what}: {len(companies)} ({some_of(companies)})"

    def end(self, outcome: ImportOutcome) -> None:
        """Note how the import of a company ended."""
        self.under_way.remove(outcome.company_id)
        ended = self.imported if outcome.error is None else self.failed
        ended.append(outcome.company_id)


async def import_each(
    parent: str | os.PathLike[str],
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    concurrency: int = CONCURRENCY,
    on_outcome: Callable[[ImportOutcome], object] = lambda _: None,
    report: ImportEachReport | None = None,
    **options: Any,
) -> ImportEachReport:
    """Import every subfolder of a folder as the company of its name.

    One that cannot be imported does not keep the others from it. Of subfolders that are one linked
    device, the first by name is imported and the others are refused. Hidden subfolders, and those
    that an export moved aside, are left out.

    Args:
        parent: the folder of folders.
        client: as in `import_folder`.
        settings: as in `import_folder`.
        concurrency: how many to import at a time.
        on_outcome: called with how each one ended, when it has.
        report: what to keep up to date and return; pass your own to look at it while the import
            runs, or after it was interrupted.
        options: what else `import_folder` takes.

    Raises:
        FolderError: it is no folder.
        StoreUnavailable, AccessDenied, SchemaMissing, ProjectRestricted: the database does not
            work, so the rest was not tried.
    """
    report = ImportEachReport() if report is None else report
    folder = located(parent)
    names, same_device = await asyncio.to_thread(_look, folder)
    report.waiting.extend(names)
    async with using_rest(settings, client=client) as rest:

        async def work(company_id: str) -> None:
            before = same_device.get(company_id, ())
            outcome = await _import(folder, company_id, rest, before, options)
            report.end(outcome)
            on_outcome(outcome)

        await work_through(report, work, concurrency=concurrency)
    return report


async def _import(
    parent: Path, name: str, rest: Rest, same_device: Sequence[str], options: dict[str, Any]
) -> ImportOutcome:
    try:
        folder = located(parent / name)
        report = await import_into(rest, folder, name, same_device=same_device, **options)
    except FATAL:
        raise
    except SupabaseAuthStateError as error:
        return ImportOutcome(name, None, error)
    return ImportOutcome(name, report, None)


def company_folders(parent: str | os.PathLike[str]) -> list[Path]:
    """Return the subfolders of a folder that are named after a company, in order.

    Raises:
        FolderError: it is no folder, or the auth folder of one company.
    """
    folder = located(parent)
    try:
        found = sorted(
            path for path in folder.iterdir() if path.is_dir() and not is_left_out(path.name)
        )
    except OSError as exc:
        raise FolderError(f"cannot list {folder}: {exc.strerror}") from exc
    if not found and kind_of(folder / CREDS_FILE) is not None:
        raise FolderError(
            f"{folder} is an auth folder itself, and no folder of auth folders: give its company"
        )
    return found


def _look(parent: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the subfolders, and which names before it are of the same device."""
    names = [path.name for path in company_folders(parent)]
    first: dict[Device, str] = {}
    same = {}
    for name in names:
        device = _device_in(parent / name)
        if device is not None and first.setdefault(device, name) != name:
            same[name] = [first[device]]
    return names, same


def _device_in(folder: Path) -> Device | None:
    try:
        creds = codec.decode_creds(read_document(folder / CREDS_FILE), company_id=None)
    except (Malformed, CodecError, OSError):
        return None
    return device_of(creds)
