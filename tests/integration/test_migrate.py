from __future__ import annotations

import json
import shutil
import stat
import tarfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from supabase_auth_state import Rest, Settings
from supabase_auth_state.errors import (
    CodecError,
    CompanyNotFound,
    FamilyMismatch,
    FolderError,
    InvalidRequest,
    LeaseHeld,
    NewerState,
    StoreUnavailable,
    UnfinishedImport,
    VerificationFailed,
)
from supabase_auth_state.leases.lease import acquire_lease
from supabase_auth_state.transfer.export_folder import export_folder
from supabase_auth_state.transfer.import_each import ImportOutcome, import_each
from supabase_auth_state.transfer.import_folder import import_folder
from supabase_auth_state.transfer.verify import verify_folder
from tests.folders import another_device, names_in, sample_folder, set_age
from tests.interop.node import run_node
from tests.values import BAILEYS, auth_rows, rows

DAY = 86_400
LEGACY = [row["company_id"] for row in auth_rows()]
# There, one tctoken may be encoded twice or not at all: nobody can tell.
DOUBTFUL = "00000000-0000-4000-8000-000000000006"
REPAIRABLE = [company_id for company_id in LEGACY if company_id != DOUBTFUL]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small folder that Baileys wrote, last changed an hour ago."""
    return sample_folder("v7-small", tmp_path)


def changed_at(path: Path) -> float:
    return path.stat().st_mtime


def table(db: psycopg.Connection[Any], company_id: str) -> dict[tuple[str, str], Any]:
    """All rows of a company, with what tells whether they were written again."""
    found = db.execute(
        "select key_type, key_id, value::text, updated_at, xmin::text from whatsapp_keys"
        " where company_id = %s union all"
        " select 'creds', '', creds::text, updated_at, xmin::text from whatsapp_auth"
        " where company_id = %s",
        [company_id, company_id],
    )
    return {(row[0], row[1]): row[2:] for row in found}


def touch_row(db: psycopg.Connection[Any], company_id: str, key_type: str, value: Any) -> str:
    """Change one row of a type, as a client would just now, and return its id."""
    row = db.execute(
        "update whatsapp_keys set value = %s where (company_id, key_type, key_id) in (select"
        " company_id, key_type, key_id from whatsapp_keys where company_id = %s and key_type = %s"
        " order by key_id limit 1) returning key_id",
        [json.dumps(value), company_id, key_type],
    ).fetchone()
    assert row is not None
    return str(row[0])


# There and back


@pytest.mark.parametrize("name", ["v7-small", "v7-337", "v6-small"])
async def test_a_folder_goes_there_and_back_and_is_the_same_to_baileys(
    name: str, tmp_path: Path, rest: Rest, company_id: str
) -> None:
    folder = sample_folder(name, tmp_path)
    count = len(names_in(folder))
    report = await import_folder(folder, company_id, client=rest)
    assert (report.added, report.unchanged, report.left_out) == (count, 0, 0)
    exported = await export_folder(tmp_path / "out", company_id, client=rest)
    assert exported.values == count
    compared = run_node("compare-folders.mjs", folder, tmp_path / "out")
    assert compared == {"files": count, "differences": []}


async def test_every_value_keeps_the_time_of_its_file_there_and_back(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    for number, name in enumerate(names_in(folder)):
        set_age(folder / name, 1000 + number)
    await import_folder(folder, company_id, client=rest)
    times = {ref: row[1].timestamp() for ref, row in table(db, company_id).items()}
    assert times["creds", ""] == pytest.approx(changed_at(folder / "creds.json"), abs=1e-5)
    await export_folder(tmp_path / "out", company_id, client=rest)
    for name in names_in(folder):
        written = changed_at(tmp_path / "out" / name)
        assert written == pytest.approx(changed_at(folder / name), abs=1e-5), name


async def test_mangled_names_come_back_as_the_right_ids(
    tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(sample_folder("v7-337", tmp_path), company_id, client=rest)
    found = table(db, company_id).keys()
    assert {
        ("app-state-sync-key", "++++////"),
        ("app-state-sync-key", "AAEC//4="),
        ("sender-key", "15550100001-1600000000@g.us::200000000055533_1::0"),
        ("sender-key", "status@broadcast::200000000047614_1::0"),
        ("session", "299999999999999_129.99"),
        ("tctoken", "__index"),
        ("tctoken", "200000000000100@lid"),
        ("lid-mapping", "200000000000100_reverse"),
    } <= found


@pytest.mark.parametrize("legacy", REPAIRABLE)
async def test_rows_of_older_clients_are_exported_as_baileys_wrote_them(
    legacy: str, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    insert_legacy_rows(db, legacy, company_id)
    await export_folder(tmp_path / "out", company_id, client=rest)
    names = names_in(tmp_path / "out")
    assert len(names) == 22
    original = tmp_path / "original"
    original.mkdir()
    for name in names:
        shutil.copy(BAILEYS / "v7-small" / name, original)
    compared = run_node("compare-folders.mjs", original, tmp_path / "out")
    assert compared == {"files": 22, "differences": []}


def insert_legacy_rows(db: psycopg.Connection[Any], legacy: str, company_id: str) -> None:
    for row in rows():
        if row["company_id"] == legacy:
            db.execute(
                "insert into whatsapp_keys (company_id, key_type, key_id, value)"
                " values (%s, %s, %s, %s)",
                [company_id, row["key_type"], row["key_id"], json.dumps(row["value"])],
            )
    (creds,) = (row["creds"] for row in auth_rows() if row["company_id"] == legacy)
    db.execute(
        "insert into whatsapp_auth (company_id, creds) values (%s, %s)",
        [company_id, json.dumps(creds)],
    )


@pytest.mark.parametrize("legacy", REPAIRABLE)
async def test_importing_the_folder_mends_the_rows_of_older_clients(
    legacy: str, folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    insert_legacy_rows(db, legacy, company_id)
    report = await import_folder(folder, company_id, client=rest)
    assert (report.added, report.replaced + report.unchanged) == (6, 22)
    stored = table(db, company_id)
    tctoken = json.loads(stored["tctoken", "__index"][0])["token"]
    assert tctoken == json.loads((folder / "tctoken-__index.json").read_text())["token"]
    again = await import_folder(folder, company_id, client=rest)
    assert (again.added, again.replaced) == (0, 0)


async def test_what_nobody_can_tell_stops_export_and_import_with_its_name(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    insert_legacy_rows(db, DOUBTFUL, company_id)
    with pytest.raises(CodecError) as unreadable:
        await export_folder(tmp_path / "out", company_id, client=rest)
    assert unreadable.value.key_id == "200000000000100@lid"
    with pytest.raises(NewerState) as newer:
        await import_folder(folder, company_id, client=rest)
    assert newer.value.newer == ("tctoken 200000000000100@lid",)
    await import_folder(folder, company_id, client=rest, force=True)
    assert (await verify_folder(folder, company_id, client=rest)).same == 28


async def test_two_thousand_values_and_a_large_one_are_not_cut(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str
) -> None:
    for number in range(2100):
        (folder / f"device-list-{number:05}.json").write_text('["0"]')
    (folder / "sender-key-memory-120363000000000099@g.us.json").write_text(
        json.dumps({f"{number}@lid": True for number in range(100_000)}, separators=(",", ":"))
    )
    report = await import_folder(folder, company_id, client=rest)
    assert report.added == len(names_in(folder))
    verified = await verify_folder(folder, company_id, client=rest)
    assert verified.identical
    exported = await export_folder(tmp_path / "out", company_id, client=rest)
    assert exported.values == report.added


# Again, and in the middle of it


async def test_a_second_run_changes_nothing(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    first = await import_folder(folder, company_id, client=rest)
    before = table(db, company_id)
    again = await import_folder(folder, company_id, client=rest)
    assert table(db, company_id) == before
    assert (again.added, again.replaced, again.removed, again.unchanged) == (0, 0, 0, 28)
    assert again.backup == first.backup


async def test_what_is_missing_is_added_and_the_rest_is_not_written_again(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    before = table(db, company_id)
    db.execute(
        "delete from whatsapp_keys where company_id = %s and key_type = 'device-list'", [company_id]
    )
    report = await import_folder(folder, company_id, client=rest)
    after = table(db, company_id)
    assert report.added == 4
    assert {ref: row[:2] for ref, row in after.items()} == {
        ref: row[:2] for ref, row in before.items()
    }
    rewritten = {ref for ref in after if after[ref] != before[ref]}
    assert {key_type for key_type, _ in rewritten} == {"device-list"}


async def test_files_that_were_used_since_replace_rows_only_by_force(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    before = table(db, company_id)
    changed = folder / "device-list-15550100001.json"
    changed.write_text('["0","77"]')
    set_age(changed, 60)
    with pytest.raises(NewerState) as caught:
        await import_folder(folder, company_id, client=rest)
    assert caught.value.newer == ("device-list 15550100001",)
    assert table(db, company_id) == before
    report = await import_folder(folder, company_id, client=rest, force=True)
    assert (report.added, report.replaced, report.unchanged) == (0, 1, 27)
    after = table(db, company_id)
    ref = ("device-list", "15550100001")
    assert json.loads(after[ref][0]) == ["0", "77"]
    assert after[ref][1].timestamp() == pytest.approx(changed_at(changed), abs=1e-5)
    assert {other for other in after if after[other] != before[other]} == {ref}
    assert report.database_backup is not None
    assert stat.S_IMODE(report.database_backup.stat().st_mode) == 0o600


async def test_creds_come_last_so_that_half_an_import_is_no_company(
    tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    seen: list[tuple[int, bool]] = []

    def look(step: str, done: int, total: int) -> None:
        if step == "writing":
            found = table(db, company_id)
            seen.append((len(found), ("creds", "") in found))
            assert (done, total) == (len(found), 336)

    await import_folder(sample_folder("v7-337", tmp_path), company_id, client=rest, progress=look)
    assert seen == [(100, False), (200, False), (300, False), (335, False), (336, True)]


async def test_creds_that_are_refused_leave_an_import_that_the_next_run_finishes(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    db.execute(
        "create function pg_temp.refuse() returns trigger language plpgsql as "
        "$$ begin raise exception 'no' using errcode = '23514'; end $$"
    )
    db.execute(
        "create trigger refuse before insert on whatsapp_auth for each row "
        f"when (new.company_id = '{company_id}') execute function pg_temp.refuse()"
    )
    try:
        with pytest.raises(InvalidRequest):
            await import_folder(folder, company_id, client=rest)
        found = table(db, company_id)
        assert (len(found), ("creds", "") in found) == (27, False)
    finally:
        db.execute("drop trigger refuse on whatsapp_auth")
    report = await import_folder(folder, company_id, client=rest)
    assert (report.added, report.unchanged) == (1, 27)


async def test_a_folder_that_is_written_to_meanwhile_does_not_become_a_company(
    tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    folder = sample_folder("v7-337", tmp_path)

    def interfere(step: str, done: int, total: int) -> None:
        if done == 200:
            (folder / "device-list-15550100001.json").write_text('["0","99"]')

    with pytest.raises(FolderError, match=r"is in use: device-list-15550100001\.json changed"):
        await import_folder(folder, company_id, client=rest, progress=interfere)
    assert ("creds", "") not in table(db, company_id)
    set_age(folder / "device-list-15550100001.json", 60)
    report = await import_folder(folder, company_id, client=rest)
    assert (report.added, report.replaced) == (1, 1)
    assert (await verify_folder(folder, company_id, client=rest)).identical


async def test_a_change_after_the_last_write_is_noticed(
    folder: Path, rest: Rest, company_id: str
) -> None:
    def interfere(step: str, done: int, total: int) -> None:
        if step == "checking":
            (folder / "device-list-15550100001.json").write_text('["0","99"]')

    with pytest.raises(FolderError, match="is in use"):
        await import_folder(folder, company_id, client=rest, progress=interfere)


async def test_a_value_that_changes_in_the_database_meanwhile_fails_verification(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    def interfere(step: str, done: int, total: int) -> None:
        if step == "checking":
            # As a superuser may: no lease stands in the way of the database's owner.
            with db.transaction():
                db.execute("set local whatsapp_auth.maintenance = 'on'")
                touch_row(db, company_id, "device-list", ["66"])
                db.execute(
                    "delete from whatsapp_keys where company_id = %s and key_type = 'tctoken'",
                    [company_id],
                )

    with pytest.raises(VerificationFailed) as caught:
        await import_folder(folder, company_id, client=rest, progress=interfere)
    assert dict(caught.value.differences) == {
        "device-list 15550100001": "came back as another value",
        "tctoken 200000000000100@lid": "is not in the database",
        "tctoken __index": "is not in the database",
    }


# What is refused


async def test_newer_rows_are_not_overwritten_without_force(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any], tmp_path: Path
) -> None:
    await import_folder(folder, company_id, client=rest)
    newer = touch_row(db, company_id, "device-list", ["0", "5"])
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value)"
        " values (%s, 'pre-key', '900', '{}')",
        [company_id],
    )
    before = table(db, company_id)
    with pytest.raises(NewerState) as caught:
        await import_folder(folder, company_id, client=rest)
    assert caught.value.newer == (f"device-list {newer}",)
    assert caught.value.extra == ("pre-key 900",)
    assert not caught.value.other_device
    assert "export" in str(caught.value)
    assert table(db, company_id) == before

    report = await import_folder(folder, company_id, client=rest, force=True)
    assert (report.replaced, report.removed, report.unchanged) == (1, 1, 27)
    assert (await verify_folder(folder, company_id, client=rest)).identical
    assert report.database_backup is not None
    with tarfile.open(report.database_backup) as archive:
        kept = archive.extractfile(f"auth/device-list-{newer}.json")
        assert kept is not None
        assert json.load(kept) == ["0", "5"]


async def test_another_linked_device_is_not_overwritten_without_force(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(sample_folder("v6-small", tmp_path / "other"), company_id, client=rest)
    # Its creds are older than the folder's: the time alone would not save them.
    db.execute(
        "update whatsapp_auth set updated_at = '2020-01-01' where company_id = %s", [company_id]
    )
    with pytest.raises(NewerState, match="the creds of another linked device") as caught:
        await import_folder(folder, company_id, client=rest)
    assert caught.value.other_device
    await import_folder(folder, company_id, client=rest, force=True)
    assert (await verify_folder(folder, company_id, client=rest)).identical


async def test_a_replacement_is_one_transaction(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(sample_folder("v6-small", tmp_path / "other"), company_id, client=rest)
    before = {ref: row[0] for ref, row in table(db, company_id).items()}
    states: list[dict[tuple[str, str], str]] = []

    def look(step: str, done: int, total: int) -> None:
        states.append({ref: row[0] for ref, row in table(db, company_id).items()})

    await import_folder(folder, company_id, client=rest, force=True, progress=look)
    after = {ref: row[0] for ref, row in table(db, company_id).items()}
    assert before in states
    assert all(state in (before, after) for state in states)


BROKEN = {
    "creds.json": b"",
    "pre-key-77.json": b"",
    "session-1.0.json": b'{"_sessions":{"a":',
    "device-list-1.json": b'["0"]\xff',
    "device-list-2.json": b'{"a":1,"a":2}',
    "lid-mapping-1.json": b"15550100001",
    "pre-key-78.json": b'{"private":{"type":"Buffer","data":"AQID"}}',
    "hello.json": b"{}",
    "sender-key-x--1--1.json": b"{}",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_file_that_is_not_understood_stops_the_import_before_anything_is_written(
    name: str, folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    (folder / name).write_bytes(BROKEN[name])
    set_age(folder / name, 60)
    with pytest.raises(FolderError) as caught:
        await import_folder(folder, company_id, client=rest)
    assert [problem for problem, _ in caught.value.problems] == [name]
    assert name in str(caught.value)
    assert table(db, company_id) == {}
    assert db.execute(
        "select count(*) from whatsapp_leases where company_id = %s", [company_id]
    ).fetchone() == (0,)
    assert names_in(folder.parent) == ["auth"]


async def test_broken_files_can_be_left_out_and_are_counted(
    folder: Path, rest: Rest, company_id: str
) -> None:
    for name, content in BROKEN.items():
        if name != "creds.json":
            (folder / name).write_bytes(content)
            set_age(folder / name, 60)
    (folder / "notes.txt").write_text("not Baileys'")
    report = await import_folder(folder, company_id, client=rest, skip_broken=True)
    assert {name for name, _ in report.skipped} == BROKEN.keys() - {"creds.json"}
    assert report.ignored == ("notes.txt",)
    assert report.added == 28


async def test_a_row_whose_file_is_torn_stays(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    before = table(db, company_id)
    (folder / "device-list-15550100001.json").write_bytes(b"")
    set_age(folder / "device-list-15550100001.json", 60)
    report = await import_folder(folder, company_id, client=rest, skip_broken=True)
    assert (report.unchanged, report.removed) == (27, 0)
    assert table(db, company_id) == before


@pytest.mark.parametrize("skip_broken", [False, True])
async def test_without_creds_there_is_nothing_to_import(
    folder: Path, rest: Rest, company_id: str, skip_broken: bool
) -> None:
    (folder / "creds.json").unlink()
    with pytest.raises(FolderError, match=r"creds\.json is not there"):
        await import_folder(folder, company_id, client=rest, skip_broken=skip_broken)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_company_that_is_owned_is_left_alone(
    folder: Path,
    rest: Rest,
    company_id: str,
    db: psycopg.Connection[Any],
    dry_run: bool,
) -> None:
    lease = await acquire_lease(rest, company_id, owner="a bot")
    try:
        with pytest.raises(LeaseHeld) as caught:
            await import_folder(folder, company_id, client=rest, dry_run=dry_run)
        assert caught.value.owner == "a bot"
        assert table(db, company_id) == {}
    finally:
        await lease.release()


async def test_an_import_leaves_no_lease(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    (folder / "creds.json").write_bytes(b"")
    with pytest.raises(FolderError):
        await import_folder(folder, company_id, client=rest)
    lease = await rest.rpc("whatsapp_lease_status", {"p_company_id": company_id})
    assert not lease["live"]


async def test_another_client_family_is_refused(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    db.execute(
        "insert into whatsapp_auth (company_id, creds, client_family)"
        " values (%s, '{}', 'pyaileys')",
        [company_id],
    )
    for attempt in (
        import_folder(folder, company_id, client=rest, force=True),
        verify_folder(folder, company_id, client=rest),
        export_folder(tmp_path / "out", company_id, client=rest),
    ):
        with pytest.raises(FamilyMismatch):
            await attempt


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    report = await import_folder(folder, company_id, client=rest, dry_run=True)
    assert (report.dry_run, report.added, report.backup) == (True, 28, None)
    assert table(db, company_id) == {}
    assert names_in(folder.parent) == ["auth"]
    lease = await rest.rpc("whatsapp_lease_status", {"p_company_id": company_id})
    assert lease["token"] == 0


async def test_old_mappings_are_left_out_unless_a_session_needs_them(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    for name, text in {
        "lid-mapping-111.json": '"999"',
        "lid-mapping-999_reverse.json": '"111"',
        "lid-mapping-222.json": '"888"',
        "lid-mapping-888_reverse.json": '"222"',
    }.items():
        (folder / name).write_text(text)
    for name in names_in(folder):
        if name.startswith("lid-mapping-"):
            set_age(folder / name, 8 * DAY)
    set_age(folder / "lid-mapping-222.json", 1 * DAY)
    report = await import_folder(folder, company_id, client=rest)
    assert report.left_out == 4
    stored = {key_id for key_type, key_id in table(db, company_id) if key_type == "lid-mapping"}
    with_a_session = {
        "15550101000", "200000000008019_reverse", "15550101001", "200000000000100_reverse",
    }  # fmt: skip
    assert stored == {"222", "888_reverse"} | with_a_session
    verified = await verify_folder(folder, company_id, client=rest)
    assert (verified.identical, verified.left_out) == (True, 4)
    again = await import_folder(folder, company_id, client=rest)
    assert (again.added, again.left_out) == (0, 4)


# Export


async def test_an_exported_folder_is_its_owner_s_alone(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str
) -> None:
    await import_folder(folder, company_id, client=rest)
    await export_folder(tmp_path / "deep" / "out", company_id, client=rest)
    out = tmp_path / "deep" / "out"
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE((out / name).stat().st_mode) for name in names_in(out)} == {0o600}
    assert names_in(out.parent) == ["out"]


async def test_a_folder_with_something_in_it_is_moved_aside_only_by_force(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str
) -> None:
    await import_folder(folder, company_id, client=rest)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    set_age(out / "mine.txt", 60)
    with pytest.raises(FolderError, match="is not empty"):
        await export_folder(out, company_id, client=rest)
    assert names_in(out) == ["mine.txt"]
    report = await export_folder(out, company_id, client=rest, force=True)
    assert report.moved_aside is not None
    assert (report.moved_aside / "mine.txt").read_text() == "keep me"
    assert (await verify_folder(out, company_id, client=rest)).identical


async def test_an_empty_folder_may_be_there(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str
) -> None:
    await import_folder(folder, company_id, client=rest)
    (tmp_path / "out").mkdir()
    report = await export_folder(tmp_path / "out", company_id, client=rest)
    assert report.moved_aside is None


async def test_a_company_that_is_not_there_is_not_exported(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    with pytest.raises(CompanyNotFound, match="is not in the database"):
        await export_folder(folder, company_id, client=rest, force=True)
    assert len(names_in(folder)) == 28
    await import_folder(folder, company_id, client=rest)
    db.execute("delete from whatsapp_auth where company_id = %s", [company_id])
    with pytest.raises(UnfinishedImport, match="has keys and no creds"):
        await export_folder(tmp_path / "out", company_id, client=rest)
    assert [name for name in names_in(tmp_path) if "backup" not in name] == ["auth"]


async def test_a_row_that_cannot_be_read_stops_the_export(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    key_id = touch_row(db, company_id, "pre-key", {"private": [300]})
    with pytest.raises(CodecError, match="doctor") as caught:
        await export_folder(tmp_path / "out", company_id, client=rest)
    assert (caught.value.key_type, caught.value.key_id) == ("pre-key", key_id)
    assert not (tmp_path / "out").exists()


async def test_an_owned_company_is_exported_only_without_a_lease(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str
) -> None:
    await import_folder(folder, company_id, client=rest)
    lease = await acquire_lease(rest, company_id)
    try:
        with pytest.raises(LeaseHeld):
            await export_folder(tmp_path / "out", company_id, client=rest)
        assert not (tmp_path / "out").exists()
        await export_folder(tmp_path / "out", company_id, client=rest, lease=False)
    finally:
        await lease.release()
    assert (await verify_folder(tmp_path / "out", company_id, client=rest)).identical


async def test_a_value_that_no_folder_can_hold_stops_the_export(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value) select company_id,"
        " key_type, key_id || '0000' || chr(10), value from whatsapp_keys"
        " where company_id = %s and key_type = 'device-list'",
        [company_id],
    )
    with pytest.raises(FolderError, match="would not tell which key they hold"):
        await export_folder(tmp_path / "out", company_id, client=rest)
    assert [name for name in names_in(tmp_path) if "backup" not in name] == ["auth"]


# Verify


async def test_differences_are_named_side_by_side(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    differing = touch_row(db, company_id, "device-list", ["0", "5"])
    unreadable = touch_row(db, company_id, "pre-key", 7)
    db.execute(
        "delete from whatsapp_keys where company_id = %s and key_type = 'sender-key-memory'",
        [company_id],
    )
    (folder / "device-list-15550101000.json").unlink()
    (folder / "session-1.0.json").write_bytes(b"")
    report = await verify_folder(folder, company_id, client=rest)
    assert not report.identical
    assert report.differing == (f"device-list {differing}",)
    assert report.unreadable_rows == (f"pre-key {unreadable}",)
    assert [name.split()[0] for name in report.only_in_folder] == ["sender-key-memory"]
    assert report.only_in_database == ("device-list 15550101000",)
    assert report.unreadable_files == (("session-1.0.json", "is empty"),)
    assert report.same == 24


async def test_damaged_forms_of_the_same_values_are_no_difference(
    tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    insert_legacy_rows(db, REPAIRABLE[0], company_id)
    await export_folder(tmp_path / "out", company_id, client=rest)
    report = await verify_folder(tmp_path / "out", company_id, client=rest)
    assert (report.identical, report.same) == (True, 22)


async def test_a_folder_without_creds_is_never_the_same(
    tmp_path: Path, rest: Rest, company_id: str
) -> None:
    await import_folder(sample_folder("v6-small", tmp_path), company_id, client=rest)
    (tmp_path / "empty").mkdir()
    report = await verify_folder(tmp_path / "empty", company_id, client=rest)
    assert report.unreadable_files == (("creds.json", "is not there"),)
    assert not report.identical


# Many


async def test_each_subfolder_becomes_the_company_of_its_name(
    tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    parent = tmp_path / "numbers"
    parent.mkdir()
    for number in range(5):
        another_device(sample_folder("v7-small", tmp_path), number).rename(
            parent / f"{company_id}-{number}"
        )
    (parent / f"{company_id}-1" / "creds.json").write_bytes(b"")
    set_age(parent / f"{company_id}-1" / "creds.json", 60)
    (parent / ".hidden").mkdir()
    (parent / f"{company_id}-0.backup-20260101T000000Z-abcd").mkdir()
    (parent / "file").touch()
    outcomes: dict[str, ImportOutcome] = {}
    await import_each(
        parent, client=rest, on_outcome=lambda each: outcomes.update({each.company_id: each})
    )
    assert outcomes.keys() == {f"{company_id}-{number}" for number in range(5)}
    failed = outcomes.pop(f"{company_id}-1")
    assert failed.report is None
    assert isinstance(failed.error, FolderError)
    for name, outcome in outcomes.items():
        assert outcome.error is None
        assert len(table(db, name)) == 28


async def test_a_database_that_does_not_answer_ends_the_import_of_many(
    tmp_path: Path, settings: Settings, company_id: str
) -> None:
    parent = tmp_path / "numbers"
    parent.mkdir()
    for number in range(3):
        sample_folder("v7-small", tmp_path).rename(parent / f"{company_id}-{number}")
    nowhere = Settings(url="http://127.0.0.1:9", key=settings.key, timeout=0.5, give_up_after=0.2)
    outcomes: list[ImportOutcome] = []
    with pytest.raises(StoreUnavailable):
        await import_each(parent, settings=nowhere, concurrency=2, on_outcome=outcomes.append)
    assert outcomes == []
