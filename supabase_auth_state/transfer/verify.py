"""Comparing a folder with the database, value by value."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.files.folder import FolderContents
from supabase_auth_state.files.names import CREDS_FILE
from supabase_auth_state.files.source import read_source
from supabase_auth_state.rest.client import Rest, using_rest
from supabase_auth_state.rest.connection import Client
from supabase_auth_state.types import KeyRef

from .company import Company, read_company
from .documents import Match, folder_documents, match, name_of, refuse_sealed, unneeded_mappings
from .quiet import located

_SHOWN = 20


@dataclass(frozen=True)
class VerifyReport:
    """How a folder and the database compare; creds count as one value.

    Attributes:
        company_id: the company.
        folder: the folder.
        same: how many values are the same on both sides, byte by byte and type by type.
        differing: names of values that differ.
        only_in_folder: names of values that the database does not have.
        only_in_database: names of values that the folder does not have.
        unreadable_files: name and reason of each file that is not understood.
        unreadable_rows: names of rows that cannot be read for certain.
        left_out: lid-mappings that only the folder has, older than seven days and not needed by a
            session: no difference.
    """

    company_id: str
    folder: Path
    same: int
    differing: tuple[str, ...]
    only_in_folder: tuple[str, ...]
    only_in_database: tuple[str, ...]
    unreadable_files: tuple[tuple[str, str], ...]
    unreadable_rows: tuple[str, ...]
    left_out: int

    @property
    def identical(self) -> bool:
        """Whether both sides hold the same."""
        return not (
            self.differing
            or self.only_in_folder
            or self.only_in_database
            or self.unreadable_files
            or self.unreadable_rows
        )

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "company_id": self.company_id,
            "folder": str(self.folder),
            "identical": self.identical,
            "same": self.same,
            "differing": list(self.differing),
            "only_in_folder": list(self.only_in_folder),
            "only_in_database": list(self.only_in_database),
            "unreadable_files": [
                {"file": name, "reason": reason} for name, reason in self.unreadable_files
            ],
            "unreadable_rows": list(self.unreadable_rows),
            "left_out": self.left_out,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        verdict = "the same" if self.identical else "NOT the same"
        yield f"company {self.company_id!r}, {self.folder}: {verdict}; {self.same} values agree"
        if self.left_out:
            yield f"left out: {self.left_out} lid-mappings older than 7 days that no session needs"
        for what, found in (
            ("differs", self.differing),
            ("only in the folder", self.only_in_folder),
            ("only in the database", self.only_in_database),
            ("cannot be read in the database", self.unreadable_rows),
            (
                "cannot be read in the folder",
                [f"{name} {why}" for name, why in self.unreadable_files],
            ),
        ):
            yield from (f"{what}: {name}" for name in found[:_SHOWN])
            if len(found) > _SHOWN:
                yield f"{what}: {len(found) - _SHOWN} more; --json names all of them"


async def verify_folder(
    folder: str | os.PathLike[str],
    company_id: str,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
) -> VerifyReport:
    """Compare a folder with a company's rows; nothing is written.

    Args:
        folder: the folder.
        company_id: the company.
        client: as in `use_supabase_auth_state`.
        settings: as in `use_supabase_auth_state`.

    Raises:
        FolderError: it is no folder.
        CompanyNotFound: the company is not in the database.
        FamilyMismatch: the rows belong to another kind of client.
        SealedValueError: a row is sealed, and no key here opens it.
        StoreError: the database refused or did not answer.
    """
    check_company_id(company_id)
    path = located(folder)
    contents = await asyncio.to_thread(read_source, path)
    async with using_rest(settings, client=client) as rest:
        company = (await read_company(rest, company_id)).known().of_family(codec.BAILEYS)
    refuse_sealed(company.documents.values(), company_id)
    return compare(path, contents, company)


def compare(folder: Path, contents: FolderContents, company: Company) -> VerifyReport:
    """Compare what was read of a folder with what was read of the database."""
    files = folder_documents(contents)
    rows = company.documents
    found = {
        ref: match(file, rows[ref], company.company_id)
        for ref, file in files.items()
        if ref in rows
    }
    missing = files.keys() - rows.keys()
    left_out = missing & unneeded_mappings(files, now=time.time())
    return VerifyReport(
        company_id=company.company_id,
        folder=folder,
        same=sum(each in (Match.SAME, Match.SAME_VALUE) for each in found.values()),
        differing=_names(ref for ref, each in found.items() if each is Match.DIFFERENT),
        only_in_folder=_names(missing - left_out),
        only_in_database=_names(rows.keys() - files.keys()),
        unreadable_files=_unreadable(contents),
        unreadable_rows=_names(ref for ref, each in found.items() if each is Match.UNREADABLE),
        left_out=len(left_out),
    )


def _names(refs: Iterable[KeyRef]) -> tuple[str, ...]:
    return tuple(name_of(ref) for ref in sorted(refs))


def _unreadable(contents: FolderContents) -> tuple[tuple[str, str], ...]:
    problems = contents.problems
    if contents.creds is None and CREDS_FILE not in dict(problems):
        return ((CREDS_FILE, "is not there"), *problems)
    return tuple(problems)
