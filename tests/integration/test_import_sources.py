"""What an import reads beside a clean auth folder: the file of Baileys 5, and folders with more."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from supabase_auth_state import FolderError, Rest
from supabase_auth_state.files.folder import read_folder
from supabase_auth_state.transfer.export_folder import export_folder
from supabase_auth_state.transfer.import_folder import import_folder
from supabase_auth_state.transfer.verify import verify_folder
from tests.folders import names_in, sample_folder, set_age
from tests.integration.conftest import OpenAuth
from tests.interop.node import run_node
from tests.values import BAILEYS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small folder that Baileys wrote, last changed an hour ago."""
    return sample_folder("v7-small", tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The single file of useSingleFileAuthState, written in Node, last changed an hour ago."""
    ids: dict[str, list[str]] = {}
    for key in read_folder(BAILEYS / "v6-small").keys:
        ids.setdefault(key.ref.key_type, []).append(key.ref.key_id)
    file = tmp_path / "auth_info.json"
    run_node("single-file.mjs", BAILEYS / "v6-small", file, stdin=ids)
    set_age(file, 3600)
    return file


def content_of(file: Path) -> Any:
    return json.loads(file.read_text())


def change(file: Path, content: Any) -> None:
    """Write a file as it was written an hour ago."""
    file.write_text(json.dumps(content))
    set_age(file, 3600)


def add_what_other_programs_leave(folder: Path) -> None:
    (folder / "media").mkdir()
    for name in ("media/photo.jpg", ".DS_Store", "Thumbs.db", "creds.json.bak"):
        (folder / name).write_bytes(b"\0" * 1000)
    (folder / "session-15550100001.0.json.tmp").write_text("{")
    for path in (folder, *folder.rglob("*")):
        set_age(path, 3600)


async def test_the_single_file_of_baileys_5_is_imported_value_by_value(
    file: Path, tmp_path: Path, rest: Rest, company_id: str
) -> None:
    sender_keys = content_of(file)["keys"]["senderKeys"].values()
    assert {type(value) for value in sender_keys} == {list}

    report = await import_folder(file, company_id, client=rest)

    assert (report.added, report.ignored, report.skipped) == (30, (), ())
    await export_folder(tmp_path / "out", company_id, client=rest)
    compared = run_node("compare-folders.mjs", BAILEYS / "v6-small", tmp_path / "out")
    assert compared == {"files": 30, "differences": []}
    assert (await verify_folder(file, company_id, client=rest)).identical
    again = await import_folder(file, company_id, client=rest)
    assert (again.added, again.replaced, again.unchanged) == (0, 0, 30)
    assert report.backup == again.backup
    assert report.backup is not None
    with tarfile.open(report.backup) as archive:
        assert archive.getnames() == ["auth_info.json/auth_info.json"]


async def test_a_broken_key_of_the_single_file_stops_the_import_and_its_row_is_spared(
    file: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(file, company_id, client=rest)
    content = content_of(file)
    content["keys"]["preKeys"]["7"] = {"private": "?"}
    change(file, content)
    with pytest.raises(FolderError, match=r"keys\.preKeys\.7") as caught:
        await import_folder(file, company_id, client=rest)
    assert [name for name, _ in caught.value.problems] == ["keys.preKeys.7"]
    report = await import_folder(file, company_id, client=rest, skip_broken=True)
    assert (report.removed, [name for name, _ in report.skipped]) == (0, ["keys.preKeys.7"])
    row = db.execute(
        "select count(*) from whatsapp_keys"
        " where company_id = %s and key_type = 'pre-key' and key_id = '7'",
        [company_id],
    ).fetchone()
    assert row == (1,)


async def test_a_single_file_that_is_being_written_is_noticed(
    file: Path, rest: Rest, company_id: str
) -> None:
    def rewrite(stage: str, *_: int) -> None:
        if stage == "writing":
            change(file, content_of(file))

    with pytest.raises(FolderError, match="is in use"):
        await import_folder(file, company_id, client=rest, progress=rewrite)


@pytest.mark.parametrize("damage", [b"", b'{"noiseKey":'], ids=["empty", "torn"])
async def test_damaged_creds_beside_a_copy_stop_the_import_and_say_how_to_use_it(
    folder: Path, rest: Rest, company_id: str, damage: bytes
) -> None:
    shutil.copy(folder / "creds.json", folder / "creds.json.bak")
    set_age(folder / "creds.json.bak", 7200)
    (folder / "creds.json").write_bytes(damage)
    set_age(folder / "creds.json", 3600)
    with pytest.raises(FolderError, match=r"creds\.json\.bak is 2 hours old") as caught:
        await import_folder(folder, company_id, client=rest, skip_broken=True)
    assert f"cp -p {folder}/creds.json.bak {folder}/creds.json" in str(caught.value)


async def test_what_other_programs_left_is_counted_and_copies_are_named(
    folder: Path, rest: Rest, company_id: str
) -> None:
    names = names_in(folder)
    add_what_other_programs_leave(folder)

    report = await import_folder(folder, company_id, client=rest)

    assert report.added == len(names)
    assert report.ignored == (".DS_Store", "Thumbs.db", "media")
    assert report.leftovers == ("creds.json.bak", "session-15550100001.0.json.tmp")
    lines = str(report).splitlines()
    assert "left out: files or folders that are not Baileys': 3" in lines
    assert (
        "left out: copies or unfinished writes of Baileys' files: 2 (creds.json.bak, "
        "session-15550100001.0.json.tmp)" in lines
    )
    assert report.backup is not None
    with tarfile.open(report.backup) as archive:
        kept = {name.partition("/")[2] for name in archive.getnames()}
    assert kept == {*names, ".DS_Store", "Thumbs.db", *report.leftovers}


async def test_an_unknown_folder_stops_the_import_by_name(
    folder: Path, rest: Rest, company_id: str
) -> None:
    (folder / "keys").mkdir()
    set_age(folder / "keys", 3600)
    with pytest.raises(FolderError, match="keys is a folder") as caught:
        await import_folder(folder, company_id, client=rest)
    assert [name for name, _ in caught.value.problems] == ["keys"]


# Display names


async def test_half_an_emoji_in_the_name_does_not_stop_creds(
    open_auth: OpenAuth, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    auth.creds["me"] = {"id": "15550100001:7@s.whatsapp.net", "name": "A\ud83d"}
    await auth.save_creds()
    auth.creds["nextPreKeyId"] = 91
    auth.creds["me"]["notify"] = "a\0b"
    await auth.save_creds()
    assert auth.creds["me"]["name"] == "A\ud83d"
    await auth.close()

    again = await open_auth(lease=True)
    assert again.creds["nextPreKeyId"] == 91
    assert again.creds["me"] == {
        "id": "15550100001:7@s.whatsapp.net",
        "name": "A\ufffd",
        "notify": "a\ufffdb",
    }


async def test_a_folder_with_half_an_emoji_in_its_name_is_imported(
    folder: Path, rest: Rest, company_id: str
) -> None:
    creds = content_of(folder / "creds.json")
    creds["me"]["name"] = "A\ud83d"
    change(folder / "creds.json", creds)
    report = await import_folder(folder, company_id, client=rest)
    assert report.added == len(names_in(folder))
    assert (await verify_folder(folder, company_id, client=rest)).identical
    again = await import_folder(folder, company_id, client=rest)
    assert (again.added, again.replaced) == (0, 0)
