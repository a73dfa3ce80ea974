"""What our codec writes, read by the reviver of real Baileys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state.codec import decode, decode_creds
from supabase_auth_state.files.folder import (
    FolderKey,
    read_folder,
    write_folder,
)
from supabase_auth_state.files.multi_file import use_multi_file_auth_state
from supabase_auth_state.types import KeyRef
from tests.interop.node import run_node
from tests.values import BAILEYS, auth_rows, rows

SAMPLES = [("v7-small", 28), ("v7-337", 336), ("v6-small", 30)]


def differences(folder: Path, other: Path) -> dict[str, Any]:
    answer: dict[str, Any] = run_node("compare-folders.mjs", folder, other)
    return answer


@pytest.mark.parametrize(("name", "files"), SAMPLES)
def test_a_folder_that_we_wrote_is_the_same_to_baileys(
    name: str, files: int, tmp_path: Path
) -> None:
    contents = read_folder(BAILEYS / name)
    assert contents.creds is not None
    write_folder(tmp_path / "out", contents.creds, contents.keys)
    answer = differences(BAILEYS / name, tmp_path / "out")
    assert answer == {"files": files, "differences": []}


@pytest.mark.parametrize("company", [f"{number:02}" for number in range(1, 10)])
def test_repaired_rows_are_to_baileys_what_it_once_wrote(company: str, tmp_path: Path) -> None:
    keys = [
        FolderKey(KeyRef(row["key_type"], row["key_id"]), _decoded(row))
        for row in rows()
        if row["company_id"].endswith(company) and not _is_undecidable(row)
    ]
    (creds,) = (row["creds"] for row in auth_rows() if row["company_id"].endswith(company))
    write_folder(tmp_path / "out", decode_creds(creds, company_id=company), keys)
    answer = differences(BAILEYS / "v7-small", tmp_path / "out")
    # The rows are a selection of the folder.
    assert {difference["why"] for difference in answer["differences"]} == {"in one folder only"}
    assert answer["files"] == 28
    assert len(answer["differences"]) == 28 - 1 - len(keys)


async def test_baileys_reads_what_the_multi_file_state_wrote(tmp_path: Path) -> None:
    sample = BAILEYS / "v7-small"
    for path in sample.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    async with use_multi_file_auth_state(tmp_path) as auth:
        for key in read_folder(sample).keys:
            found = await auth.keys.get(key.ref.key_type, [key.ref.key_id])
            await auth.keys.set({key.ref.key_type: {key.ref.key_id: None}})
            await auth.keys.set({key.ref.key_type: found})
        await auth.save_creds()
    assert differences(sample, tmp_path) == {"files": 28, "differences": []}


def _decoded(row: dict[str, Any]) -> Any:
    return decode(
        json.loads(json.dumps(row["value"])),
        company_id=row["company_id"],
        key_type=row["key_type"],
        key_id=row["key_id"],
    )


def _is_undecidable(row: dict[str, Any]) -> bool:
    # Encoded twice, of free length, alone in its record.
    return bool(row["company_id"].endswith("06") and row["key_id"] == "200000000000100@lid")
