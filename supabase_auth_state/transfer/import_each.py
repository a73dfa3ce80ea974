"""Importing a folder of folders: every subfolder is a company."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supabase_auth_state import codec
from supabase_auth_state.codec import Malformed
from supabase_auth_state.config import Settings
from supabase_auth_state.errors import (
    AccessDenied,
    CodecError,
    FolderError,
    ProjectRestricted,
    SchemaMissing,
    StoreUnavailable,
    SupabaseAuthStateError,
    some_of,
)
from supabase_auth_state.files.names import CREDS_FILE
from supabase_auth_state.files.reading import read_document
from supabase_auth_state.rest.client import Rest, using_rest

from .documents import Device, device_of
from .import_folder import ImportReport, import_into
from .quiet import located

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient
    from supabase import AsyncClient

CONCURRENCY = 4

# Hidden folders, and those that an export moved aside.
_LEFT_OUT = re.compile(r"^\.|\.backup-[0-9]{8}T[0-9]{6}Z")
# With these, the import of the next company would fail too.
_FATAL = (AccessDenied, ProjectRestricted, SchemaMissing, StoreUnavailable)


@dataclass(frozen=True)
class ImportOutcome:
    """How the import of one company ended: with a report, or with an error."""

    company_id: str
    report: ImportReport | None
    error: SupabaseAuthStateError | None


@dataclass
class ImportEachReport:
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
    under_way: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic, repr=False)

    @property
    def done(self) -> int:
        """How many companies are imported or failed."""
        return len(self.imported) + len(self.failed)

    @property
    def total(self) -> int:
        """How many companies there are."""
        return self.done + len(self.under_way) + len(self.waiting)

    @property
    def per_second(self) -> float:
        """How many companies were done in a second, on average; 0 before the first is."""
        seconds = time.monotonic() - self._began
        return self.done / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at this rate, or None before the first company is done."""
        rate = self.per_second
        return (self.total - self.done) / rate if rate else None

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

    def begin(self) -> str:
        """Note that the import of the next company begins, and return the company."""
        company_id = self.waiting.pop(0)
        self.under_way.append(company_id)
        return company_id

    def end(self, outcome: ImportOutcome) -> None:
        """Note how the import of a company ended."""
        self.under_way.remove(outcome.company_id)
        ended = self.imported if outcome.error is None else self.failed
        ended.append(outcome.company_id)


async def import_each(
    parent: str | os.PathLike[str],
    *,
    client: AsyncClient | AsyncPostgrestClient | Rest | None = None,
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

        async def work() -> None:
            while report.waiting:
                company_id = report.begin()
                before = same_device.get(company_id, ())
                outcome = await _import(folder, company_id, rest, before, options)
                report.end(outcome)
                on_outcome(outcome)

        await _all_of([asyncio.ensure_future(work()) for _ in range(concurrency)])
    return report


async def _all_of(workers: Sequence[asyncio.Future[None]]) -> None:
    """Wait for all workers; if one fails or the caller is cancelled, end the others first."""
    try:
        await asyncio.gather(*workers)
    except asyncio.CancelledError:
        # They are cancelled already. A second time, and they would not give their leases back.
        await asyncio.wait(workers)
        raise
    except BaseException:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        raise


async def _import(
    parent: Path, name: str, rest: Rest, same_device: Sequence[str], options: dict[str, Any]
) -> ImportOutcome:
    try:
        folder = located(parent / name)
        report = await import_into(rest, folder, name, same_device=same_device, **options)
    except _FATAL:
        raise
    except SupabaseAuthStateError as error:
        return ImportOutcome(name, None, error)
    return ImportOutcome(name, report, None)


def _look(parent: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the subfolders, and which names before it are of the same device."""
    try:
        names = sorted(
            path.name
            for path in parent.iterdir()
            if path.is_dir() and not _LEFT_OUT.search(path.name)
        )
    except OSError as exc:
        raise FolderError(f"cannot list {parent}: {exc.strerror}") from exc
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
