from __future__ import annotations

import asyncio
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from supabase_auth_state import Rest
from supabase_auth_state.errors import CompanyNotFound, FolderError
from supabase_auth_state.transfer.backups import find_backup
from supabase_auth_state.transfer.import_folder import import_folder
from supabase_auth_state.transfer.purge import PurgeReport, purge_files
from tests.folders import names_in, set_age
from tests.values import BAILEYS


@pytest.fixture
async def folder(tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]) -> Path:
    """A folder that was imported eight days ago."""
    copy = Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "auth"))
    for name in names_in(copy):
        set_age(copy / name, 8 * 86_400)
    await import_folder(copy, company_id, client=rest)
    set_time_in_database(db, company_id, days=8)
    return copy


def set_time_in_database(db: psycopg.Connection[Any], company_id: str, *, days: float) -> None:
    db.execute(
        "update whatsapp_auth set created_at = now() - make_interval(secs => %s)"
        " where company_id = %s",
        [days * 86_400, company_id],
    )


def change(db: psycopg.Connection[Any], company_id: str, key_type: str, value: Any) -> None:
    """Change the rows of a type, as a client would just now."""
    found = db.execute(
        "update whatsapp_keys set value = %s where company_id = %s and key_type = %s",
        [json.dumps(value), company_id, key_type],
    )
    assert found.rowcount


def delete(db: psycopg.Connection[Any], company_id: str, key_type: str) -> int:
    return db.execute(
        "delete from whatsapp_keys where company_id = %s and key_type = %s", [company_id, key_type]
    ).rowcount


async def test_without_yes_it_only_says_what_it_would_do(
    folder: Path, rest: Rest, company_id: str
) -> None:
    before = names_in(folder)
    report = await purge_files(folder, company_id, client=rest)
    assert (report.obstacles, report.removed, report.files) == ((), False, len(before))
    assert names_in(folder) == before


async def test_with_yes_the_folder_is_gone_and_its_backup_stays(
    folder: Path, rest: Rest, company_id: str
) -> None:
    backup = find_backup(folder)
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert report.removed
    assert folder.name not in names_in(folder.parent)
    assert report.backup == backup
    assert names_in(folder.parent) == [backup.name if backup else None]


async def test_a_removal_that_was_broken_off_says_where_every_file_is(
    folder: Path, rest: Rest, company_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, backup = names_in(folder), find_backup(folder)
    assert backup is not None
    unlink, removed = Path.unlink, []

    def break_off(path: Path, **options: Any) -> None:
        if len(removed) == 2:
            raise PermissionError(1, "Operation not permitted")
        removed.append(path.name)
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", break_off)
    with pytest.raises(FolderError, match=r"cannot remove .*Operation not permitted"):
        await purge_files(folder, company_id, client=rest, yes=True)
    monkeypatch.undo()
    assert removed[0] == "creds.json"

    report = await purge_files(folder, company_id, client=rest, yes=True, quiet_for=0)
    assert not report.removed
    assert "its backup holds every file, and the rest can be removed by hand" in str(report)
    assert sorted(names_in(folder)) == sorted(set(files) - set(removed))
    with tarfile.open(backup) as archive:
        kept = {Path(name).name for name in archive.getnames()}
    assert set(files) <= kept


async def test_a_company_that_is_new_in_the_database_keeps_its_folder(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    set_time_in_database(db, company_id, days=6.9)
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert "has been in the database for 6.9 days, and 7 are asked for" in refused(report, folder)
    later = await purge_files(folder, company_id, client=rest, after_days=6.5)
    assert later.obstacles == ()


async def test_a_company_that_is_not_in_the_database_keeps_its_folder(
    folder: Path, rest: Rest, company_id: str
) -> None:
    before = names_in(folder)
    with pytest.raises(CompanyNotFound):
        await purge_files(folder, f"{company_id}-other", client=rest, yes=True)
    assert names_in(folder) == before


async def test_state_that_has_moved_on_in_the_database_is_no_obstacle(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    change(db, company_id, "device-list", ["0", "5"])
    used = delete(db, company_id, "pre-key")
    report = await purge_files(folder, company_id, client=rest)
    assert report.obstacles == ()
    assert (report.changed_since, report.deleted_since) == (4, used)


async def test_rows_that_vanished_without_any_work_of_a_client_are_an_obstacle(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    delete(db, company_id, "sender-key-memory")
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert "1 values are not in the database: sender-key-memory" in refused(report, folder)


async def test_rows_that_no_client_deletes_are_an_obstacle_when_they_are_gone(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    change(db, company_id, "device-list", ["0", "5"])
    delete(db, company_id, "app-state-sync-key")
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert "2 values are not in the database: app-state-sync-key" in refused(report, folder)


@pytest.mark.parametrize("value", [{"private": [300]}, {"private": "x"}, 7])
async def test_a_newer_row_that_is_not_whole_is_an_obstacle(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any], value: Any
) -> None:
    change(db, company_id, "pre-key", value)
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert "neither the same in the database nor replaced" in refused(report, folder)


async def test_files_that_were_used_after_the_import_are_an_obstacle(
    folder: Path, rest: Rest, company_id: str
) -> None:
    (folder / "device-list-15550100001.json").write_text('["0","5"]')
    set_age(folder / "device-list-15550100001.json", 60)
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert "device-list 15550100001" in refused(report, folder)


async def test_a_file_whose_counters_are_ahead_of_a_row_is_an_obstacle_whatever_the_times(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    db.execute(
        "update whatsapp_auth set creds = jsonb_set(creds, '{nextPreKeyId}', '5')"
        " where company_id = %s",
        [company_id],
    )
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert "1 values are neither the same" in refused(report, folder)


async def test_another_linked_device_in_the_database_is_an_obstacle(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str
) -> None:
    other = Path(shutil.copytree(BAILEYS / "v6-small", tmp_path / "other"))
    await import_folder(other, company_id, client=rest, force=True, quiet_for=0)
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert "the database holds another linked device" in refused(report, folder)


@pytest.mark.parametrize("name", ["creds.json", "session-1.0.json"])
async def test_a_damaged_file_is_an_obstacle(
    folder: Path, rest: Rest, company_id: str, name: str
) -> None:
    (folder / name).write_bytes(b"")
    set_age(folder / name, 60)
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert name in refused(report, folder)


async def test_a_backup_is_made_when_there_is_none_of_exactly_these_files(
    folder: Path, rest: Rest, company_id: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    preview = await purge_files(folder, company_id, client=rest, backup_dir=elsewhere)
    assert preview.backup is None
    report = await purge_files(folder, company_id, client=rest, backup_dir=elsewhere, yes=True)
    assert report.backup is not None
    assert [report.backup.name] == names_in(elsewhere)
    assert folder.name not in names_in(folder.parent)


async def test_files_of_others_stay_and_so_does_the_folder(
    folder: Path, rest: Rest, company_id: str
) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "package.json").write_text("{}")
    for name in ("notes.txt", "package.json"):
        set_age(folder / name, 60)
    report = await purge_files(folder, company_id, client=rest, yes=True)
    assert report.removed
    assert report.kept == ("notes.txt", "package.json")
    assert names_in(folder) == ["notes.txt", "package.json"]


async def test_a_folder_in_use_stays(folder: Path, rest: Rest, company_id: str) -> None:
    async def keep_writing() -> None:
        while True:
            (folder / "creds.json").touch()
            await asyncio.sleep(0.01)

    writing = asyncio.create_task(keep_writing())
    try:
        with pytest.raises(FolderError, match="is in use"):
            await purge_files(folder, company_id, client=rest, yes=True, quiet_for=0.5)
    finally:
        writing.cancel()
    assert len(names_in(folder)) == 28


def refused(report: PurgeReport, folder: Path) -> str:
    """The one obstacle, when nothing was removed."""
    assert not report.removed
    assert len(names_in(folder)) >= 24
    (obstacle,) = report.obstacles
    return obstacle
