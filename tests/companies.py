"""Companies as the tables may hold them: sample folders, damaged rows, and what a repair makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supabase_auth_state.files.names import parse_file_name
from supabase_auth_state.transfer.company import Company
from supabase_auth_state.transfer.company_writer import Change
from supabase_auth_state.transfer.documents import CREDS, Document
from supabase_auth_state.types import KeyRef

BAILEYS = Path(__file__).parent / "fixtures" / "baileys"

Documents = dict[KeyRef, Any]
"""JSON values by key."""

LEGACY = {number: f"00000000-0000-4000-8000-{number:012}" for number in range(1, 12)}
"""The companies of ``legacy-jsonb``, one for each way of damaging rows."""


def sample(name: str) -> Company:
    """Give a sample folder as rows."""
    folder = BAILEYS / name
    keys = {ref: json.loads((folder / file).read_text()) for file, ref in _refs(folder)}
    return company(keys, json.loads((folder / "creds.json").read_text()), name=name)


def _refs(folder: Path) -> Iterator[tuple[str, KeyRef]]:
    for path in sorted(folder.glob("*.json")):
        ref = parse_file_name(path.name)
        if ref is not None:
            yield path.name, ref


def legacy(number: int) -> Company:
    """Give a company of ``legacy-jsonb``; 10 and 11 have no creds."""
    name = LEGACY[number]
    rows = json.loads((BAILEYS / "legacy-jsonb" / "rows.json").read_text())
    creds = json.loads((BAILEYS / "legacy-jsonb" / "auth_rows.json").read_text())
    keys = {
        KeyRef(row["key_type"], row["key_id"]): row["value"]
        for row in rows
        if row["company_id"] == name
    }
    found = next((row["creds"] for row in creds if row["company_id"] == name), None)
    return company(keys, found, name=name)


def company(
    keys: Documents, creds: Any = None, *, family: str = "baileys", name: str = "962302"
) -> Company:
    """Give a company with these rows; without creds when they are None."""
    rows = {ref: Document(ref, stored, 0.0) for ref, stored in keys.items()}
    if creds is None:
        return Company(name, rows, None, None)
    return Company(name, {**rows, CREDS: Document(CREDS, creds, 0.0)}, family, 0.0)


def creds_of(rows: Company) -> Any:
    """Give the creds of a company that has some."""
    assert rows.creds is not None
    return rows.creds.json


def documents(rows: Company) -> Documents:
    """Give the key rows of a company by key."""
    return {key.ref: key.json for key in rows.keys}


def repaired(rows: Company, change: Change) -> Company:
    """Give the rows as they are when the change is written."""
    deleted = {ref for ref, stored in change.keys.items() if stored is None}
    keys = documents(rows) | change.keys
    creds = None if rows.creds is None else rows.creds.json
    return company(
        {ref: stored for ref, stored in keys.items() if ref not in deleted},
        creds if change.creds is None else change.creds,
        name=rows.company_id,
    )
