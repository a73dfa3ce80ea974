"""Restoring backups, and deleting companies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from supabase_auth_state import (
    CompanyNotFound,
    DuplicateDevice,
    FamilyMismatch,
    FolderError,
    LeaseHeld,
    LeaseLost,
    NewerState,
    Rest,
    StoreUnavailable,
    VerificationFailed,
    delete_company,
    import_folder,
    restore_backup,
    verify_folder,
)
from supabase_auth_state.leases.lease import acquire_lease
from supabase_auth_state.transfer.backups import read_backup
from tests.companies import Company, documents, legacy
from tests.folders import names_in, sample_folder, set_age

Rows = list[tuple[Any, ...]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small folder that Baileys wrote, last changed an hour ago."""
    return sample_folder("v7-small", tmp_path)


def rows(db: psycopg.Connection[Any], company_id: str) -> dict[tuple[str, str], tuple[Any, float]]:
    """Give value and time of each row of a company."""
    found = db.execute(
        "select key_type, key_id, value, extract(epoch from updated_at)::float8 from whatsapp_keys"
        " where company_id = %s union all"
        " select 'creds', client_family, creds, extract(epoch from updated_at)::float8"
        " from whatsapp_auth where company_id = %s",
        [company_id, company_id],
    )
    return {(row[0], row[1]): (row[2], row[3]) for row in found}


def values(db: psycopg.Connection[Any], company_id: str) -> dict[tuple[str, str], Any]:
    return {ref: value for ref, (value, _) in rows(db, company_id).items()}


def insert(db: psycopg.Connection[Any], company_id: str, company: Company) -> None:
    """Put rows into the tables as another client would have left them."""
    if company.creds is not None:
        db.execute(
            "insert into whatsapp_auth (company_id, creds, client_family) values (%s, %s, %s)",
            [company_id, Jsonb(company.creds.json), company.family],
        )
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into whatsapp_keys (company_id, key_type, key_id, value)"
            " values (%s, %s, %s, %s)",
            [[company_id, *key.ref, Jsonb(key.json)] for key in company.keys],
        )


def change(db: psycopg.Connection[Any], company_id: str, key_type: str, value: Any) -> None:
    changed = db.execute(
        "update whatsapp_keys set value = %s where company_id = %s and key_type = %s",
        [json.dumps(value), company_id, key_type],
    )
    assert changed.rowcount


# Restoring


async def test_what_was_deleted_is_restored_with_its_times(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    before = rows(db, company_id)
    deleted = await delete_company(company_id, client=rest, backup_dir=tmp_path / "safe")
    assert (deleted.keys, deleted.creds) == (27, True)
    assert rows(db, company_id) == {}
    report = await restore_backup(deleted.backup, company_id, client=rest)
    assert (report.added, report.replaced, report.removed) == (28, 0, 0)
    assert report.database_backup is None
    after = rows(db, company_id)
    assert {ref: value for ref, (value, _) in after.items()} == {
        ref: value for ref, (value, _) in before.items()
    }
    # A backup keeps whole seconds.
    assert all(0 <= before[ref][1] - after[ref][1] < 1 for ref in before)


async def test_the_backup_of_a_folder_is_restored_too(
    folder: Path, rest: Rest, company_id: str
) -> None:
    imported = await import_folder(folder, company_id, client=rest)
    other = f"{company_id}-other"
    assert imported.backup is not None
    report = await restore_backup(imported.backup, other, client=rest, force=True)
    assert report.added == 28
    assert (await verify_folder(folder, other, client=rest)).identical


@pytest.mark.parametrize("number", range(1, 10))
async def test_damaged_rows_come_back_exactly_as_they_were(
    number: int, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    insert(db, company_id, legacy(number))
    before = values(db, company_id)
    deleted = await delete_company(company_id, client=rest, backup_dir=tmp_path)
    await restore_backup(deleted.backup, company_id, client=rest)
    assert values(db, company_id) == before


async def test_rows_of_another_client_come_back_as_theirs(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    db.execute(
        "insert into whatsapp_auth (company_id, creds, client_family) values (%s, %s, 'pyaileys')",
        [company_id, Jsonb({"a": {"type": "Buffer", "data": "AQID"}})],
    )
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value)"
        " values (%s, 'session', 'x', '[1, 2]')",
        [company_id],
    )
    before = values(db, company_id)
    deleted = await delete_company(company_id, client=rest, backup_dir=tmp_path)
    await restore_backup(deleted.backup, company_id, client=rest)
    assert values(db, company_id) == before
    other = f"{company_id}-other"
    await import_folder(folder, other, client=rest)
    with pytest.raises(FamilyMismatch):
        await restore_backup(deleted.backup, other, client=rest, force=True)


async def test_newer_rows_are_replaced_only_by_force_and_are_backed_up(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    imported = await import_folder(folder, company_id, client=rest)
    assert imported.backup is not None
    db.execute(
        "update whatsapp_auth set creds = jsonb_set(creds, '{nextPreKeyId}', '36')"
        " where company_id = %s",
        [company_id],
    )
    change(db, company_id, "device-list", ["0", "5"])
    newer = values(db, company_id)
    for dry_run in (True, False):
        with pytest.raises(NewerState) as caught:
            await restore_backup(imported.backup, company_id, client=rest, dry_run=dry_run)
        assert caught.value.going_back == (("creds", "nextPreKeyId 36 to 6"),)
    assert values(db, company_id) == newer
    forced = await restore_backup(
        imported.backup, company_id, client=rest, force=True, backup_dir=tmp_path / "safe"
    )
    assert forced.going_back == (("creds", "nextPreKeyId 36 to 6"),)
    assert (await verify_folder(folder, company_id, client=rest)).identical
    assert forced.database_backup is not None
    assert forced.database_backup.parent == tmp_path / "safe"
    await restore_backup(forced.database_backup, company_id, client=rest, force=True)
    assert values(db, company_id) == newer


async def test_a_dry_run_writes_nothing(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    imported = await import_folder(folder, company_id, client=rest)
    await delete_company(company_id, client=rest, backup_dir=tmp_path)
    assert imported.backup is not None
    before = names_in(tmp_path)
    report = await restore_backup(imported.backup, company_id, client=rest, dry_run=True)
    assert (report.dry_run, report.added) == (True, 28)
    assert rows(db, company_id) == {}
    assert names_in(tmp_path) == before


async def test_old_mappings_are_restored_like_all_others(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    with db.transaction():
        db.execute("set local whatsapp_auth.maintenance = 'on'")
        db.execute(
            "update whatsapp_keys set updated_at = now() - interval '30 days'"
            " where company_id = %s and key_type = 'lid-mapping'",
            [company_id],
        )
        db.execute(
            "delete from whatsapp_keys where company_id = %s and key_type = 'session'",
            [company_id],
        )
    before = values(db, company_id)
    deleted = await delete_company(company_id, client=rest, backup_dir=tmp_path)
    await restore_backup(deleted.backup, company_id, client=rest)
    assert values(db, company_id) == before


async def test_a_restore_that_broke_off_is_finished_by_the_next(
    tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    imported = await import_folder(sample_folder("v7-337", tmp_path), company_id, client=rest)
    before = values(db, company_id)
    await delete_company(company_id, client=rest, backup_dir=tmp_path)
    assert imported.backup is not None
    upsert, calls = rest.upsert, iter(range(2))

    async def upsert_twice(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise StoreUnavailable("no answer")
        return await upsert(*args, **kwargs)

    monkeypatch.setattr(rest, "upsert", upsert_twice)
    with pytest.raises(StoreUnavailable):
        await restore_backup(imported.backup, company_id, client=rest)
    monkeypatch.undo()
    assert len(values(db, company_id)) == 200
    report = await restore_backup(imported.backup, company_id, client=rest)
    assert (report.unchanged, report.added) == (200, 136)
    assert values(db, company_id) == before


async def test_a_torn_file_in_a_backup_stops_the_restore_unless_it_is_left_out(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    (folder / "session-1.0.json").write_bytes(b'{"_sess')
    (folder / "notes.txt").write_text("mine")
    for name in ("session-1.0.json", "notes.txt"):
        set_age(folder / name, 60)
    imported = await import_folder(folder, company_id, client=rest, skip_broken=True)
    assert imported.backup is not None
    other = f"{company_id}-other"
    with pytest.raises(FolderError, match=r"session-1\.0\.json is not JSON"):
        await restore_backup(imported.backup, other, client=rest, force=True)
    assert rows(db, other) == {}
    report = await restore_backup(imported.backup, other, client=rest, force=True, skip_broken=True)
    assert report.skipped == (("session-1.0.json", "is not JSON"),)
    assert report.ignored == ("notes.txt",)
    assert report.added == 28


async def test_a_backup_without_creds_is_not_restored(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    insert(db, company_id, legacy(10))
    deleted = await delete_company(company_id, client=rest, backup_dir=tmp_path)
    assert (deleted.keys > 0, deleted.creds) == (True, False)
    with pytest.raises(FolderError, match=r"creds\.json is not there"):
        await restore_backup(deleted.backup, company_id, client=rest, force=True)
    assert rows(db, company_id) == {}


async def test_a_company_that_is_owned_is_not_restored(
    folder: Path, rest: Rest, company_id: str
) -> None:
    imported = await import_folder(folder, company_id, client=rest)
    assert imported.backup is not None
    lease = await acquire_lease(rest, company_id, owner="a bot")
    for dry_run in (True, False):
        with pytest.raises(LeaseHeld, match="a bot"):
            await restore_backup(imported.backup, company_id, client=rest, dry_run=dry_run)
    await lease.release()


async def test_a_restore_makes_no_second_company_of_a_device(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    imported = await import_folder(folder, company_id, client=rest)
    assert imported.backup is not None
    other = f"{company_id}-other"
    with pytest.raises(DuplicateDevice) as caught:
        await restore_backup(imported.backup, other, client=rest)
    assert caught.value.companies == (company_id,)
    assert rows(db, other) == {}


async def test_what_is_no_backup_is_not_restored(folder: Path, rest: Rest, company_id: str) -> None:
    for path in (folder, folder / "creds.json", folder / "missing.tar.gz"):
        with pytest.raises(FolderError, match="cannot be read as a backup"):
            await restore_backup(path, company_id, client=rest)


# Deleting


async def test_a_deletion_keeps_all_of_it_in_a_backup_and_leaves_other_companies_alone(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    other = f"{company_id}-other"
    await import_folder(folder, company_id, client=rest)
    await import_folder(folder, other, client=rest, force=True)
    report = await delete_company(company_id, client=rest, backup_dir=tmp_path / "safe")
    assert names_in(tmp_path / "safe") == [report.backup.name]
    assert len(read_backup(report.backup).files) == 28
    assert rows(db, company_id) == {}
    assert len(rows(db, other)) == 28
    assert "27 keys and its creds deleted" in str(report)
    lease = await rest.rpc("whatsapp_lease_status", {"p_company_id": company_id})
    assert not lease["live"]


async def test_a_company_that_is_owned_is_not_deleted(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    lease = await acquire_lease(rest, company_id, owner="a bot")
    with pytest.raises(LeaseHeld, match="a bot"):
        await delete_company(company_id, client=rest, backup_dir=tmp_path / "safe")
    await lease.release()
    assert len(rows(db, company_id)) == 28
    assert not (tmp_path / "safe").exists()


async def test_without_a_backup_nothing_is_deleted(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FolderError, match="cannot write a backup"):
        await delete_company(company_id, client=rest, backup_dir=tmp_path / "taken")
    assert len(rows(db, company_id)) == 28


async def test_an_owner_that_takes_over_before_the_deletion_keeps_its_rows(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await import_folder(folder, company_id, client=rest)
    rpc = rest.rpc

    async def overtaken(function: str, *args: Any, **kwargs: Any) -> Any:
        if function == "delete_whatsapp_company":
            db.execute(
                "update whatsapp_leases set token = token + 1, owner = 'shop-7' "
                "where company_id = %s",
                [company_id],
            )
        return await rpc(function, *args, **kwargs)

    monkeypatch.setattr(rest, "rpc", overtaken)
    with pytest.raises(LeaseLost):
        await delete_company(company_id, client=rest, backup_dir=tmp_path)
    assert len(rows(db, company_id)) == 28


async def test_rows_that_are_still_there_afterwards_are_an_error(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await import_folder(folder, company_id, client=rest)
    rpc = rest.rpc

    async def says_it_did(function: str, params: Any, **kwargs: Any) -> Any:
        if function == "delete_whatsapp_company":
            return {"company_id": company_id, "keys": 27, "creds": True}
        return await rpc(function, params, **kwargs)

    monkeypatch.setattr(rest, "rpc", says_it_did)
    with pytest.raises(VerificationFailed, match="28 values are still there"):
        await delete_company(company_id, client=rest, backup_dir=tmp_path)


async def test_a_company_that_is_not_there_is_not_deleted(
    tmp_path: Path, rest: Rest, company_id: str
) -> None:
    with pytest.raises(CompanyNotFound, match="is not in the database"):
        await delete_company(company_id, client=rest, backup_dir=tmp_path)
    assert names_in(tmp_path) == []


async def test_an_unfinished_import_can_be_deleted(
    tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    insert(db, company_id, legacy(10))
    report = await delete_company(company_id, client=rest, backup_dir=tmp_path)
    assert (report.keys, report.creds) == (len(documents(legacy(10))), False)
    assert rows(db, company_id) == {}
