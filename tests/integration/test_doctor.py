"""The doctor and the pre-key reaper on the real tables."""

from __future__ import annotations

import ast
import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from devstack import Stack
from supabase_auth_state import (
    CompanyNotFound,
    ConfigurationError,
    FolderError,
    LeaseHeld,
    LeaseLost,
    Rest,
    codec,
)
from supabase_auth_state.doctor.doctor import diagnose, repair
from supabase_auth_state.doctor.pre_keys import FEWEST_KEPT, pre_key_report, reap_pre_keys
from supabase_auth_state.files.names import parse_file_name
from supabase_auth_state.transfer.backups import read_backup
from supabase_auth_state.transfer.company import Company
from supabase_auth_state.transfer.documents import CREDS
from supabase_auth_state.types import KeyRef
from tests.companies import Documents, company, creds_of, documents, legacy, sample
from tests.interop.account import ALICE, BOB, Account
from tests.interop.node import NodeError, NodePeer

DOCS = Path(__file__).parents[2] / "docs" / "doctor.md"

BOBS_LID = "200000000000002@lid"


def insert(db: Any, company_id: str, rows: Company) -> None:
    """Put rows into the tables as another client would have left them."""
    if rows.creds is not None:
        db.execute(
            "insert into whatsapp_auth (company_id, creds, client_family) values (%s, %s, %s)",
            [company_id, Jsonb(rows.creds.json), rows.family],
        )
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into whatsapp_keys (company_id, key_type, key_id, value) "
            "values (%s, %s, %s, %s)",
            [[company_id, *key.ref, Jsonb(key.json)] for key in rows.keys],
        )


def snapshot(db: Any, company_id: str) -> tuple[list[Any], list[Any]]:
    """Give everything that the tables hold of a company, times included."""
    return (
        db.execute(
            "select * from whatsapp_keys where company_id = %s order by key_type, key_id",
            [company_id],
        ).fetchall(),
        db.execute("select * from whatsapp_auth where company_id = %s", [company_id]).fetchall(),
    )


def stored(db: Any, company_id: str) -> Documents:
    """Give the values of a company as they stand in the table, by key."""
    return {KeyRef(row[1], row[2]): row[3] for row in snapshot(db, company_id)[0]}


def files_in(folder: Path) -> list[Path]:
    """Give what is in a folder."""
    return list(folder.iterdir())


# Diagnosis and repair.


@pytest.mark.parametrize("number", range(1, 10))
async def test_after_a_repair_the_store_reads_what_baileys_had(
    rest: Rest, db: Any, open_auth: Any, company_id: str, tmp_path: Path, number: int
) -> None:
    rows, right = legacy(number), sample("v7-small")
    insert(db, company_id, rows)

    before = await diagnose(rest, company_id)
    assert before.damaged
    report = await repair(rest, company_id, backup_folder=tmp_path)
    assert set(report.repaired) == set(before.findings)
    assert (report.findings, report.damaged) == ((), False)
    assert await diagnose(rest, company_id) == report_without_repair(report)

    auth = await open_auth()
    assert auth.creds == codec.decode_creds(creds_of(right), company_id=None)
    for key_type, by_id in decoded(right, only=stored(db, company_id)).items():
        assert await auth.keys.get(key_type, list(by_id)) == by_id
    assert stored(db, company_id).items() <= documents(right).items()


def report_without_repair(report: Any) -> Any:
    return replace(report, repaired=(), backup=None)


def decoded(rows: Company, *, only: Documents) -> dict[str, dict[str, Any]]:
    """Give the Python values of some keys, by type and id."""
    values: dict[str, dict[str, Any]] = {}
    for ref, document in documents(rows).items():
        if ref in only:
            value = codec.decode(document, company_id=None, **ref._asdict())
            values.setdefault(ref.key_type, {})[ref.key_id] = value
    return values


async def test_a_second_repair_changes_nothing(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    insert(db, company_id, legacy(5))
    first = await repair(rest, company_id, backup_folder=tmp_path)
    after = snapshot(db, company_id)
    second = await repair(rest, company_id, backup_folder=tmp_path)
    assert (second.repaired, second.backup) == ((), None)
    assert snapshot(db, company_id) == after
    assert files_in(tmp_path) == [first.backup]


async def test_rows_get_their_own_names_back(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    rows = legacy(10)
    insert(db, company_id, rows)
    report = await repair(rest, company_id, backup_folder=tmp_path)
    assert [finding.code for finding in report.repaired] == ["wrong-name"] * len(rows.keys)
    assert [finding.code for finding in report.findings] == ["creds-missing"]
    assert stored(db, company_id).items() <= documents(sample("v7-small")).items()
    assert len(stored(db, company_id)) == len(rows.keys)


async def test_rows_beyond_repair_stay_as_they_are(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    hopeless = {ref: value for ref, value in documents(legacy(11)).items() if value is not None}
    sound = {("pre-key", "3"): documents(legacy(1))[KeyRef("pre-key", "3")]}
    insert(db, company_id, company({**hopeless, **{KeyRef(*r): v for r, v in sound.items()}}))
    report = await repair(rest, company_id, backup_folder=tmp_path)
    assert {(f.key_type, f.key_id) for f in report.findings if f.key_id} == set(hopeless)
    assert [(f.key_type, f.key_id) for f in report.repaired] == [("pre-key", "3")]
    assert {ref: stored(db, company_id)[ref] for ref in hopeless} == hopeless


async def test_a_diagnosis_changes_nothing(rest: Rest, db: Any, company_id: str) -> None:
    insert(db, company_id, legacy(1))
    before = snapshot(db, company_id)
    await diagnose(rest, company_id)
    assert snapshot(db, company_id) == before


async def test_a_company_of_more_than_one_page_is_examined_whole(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    right = documents(sample("v7-small"))[KeyRef("pre-key", "3")]
    array = documents(legacy(1))[KeyRef("pre-key", "3")]
    ids = range(1, 2101)
    rows = company({KeyRef("pre-key", str(key_id)): array for key_id in ids})
    insert(db, company_id, rows)
    report = await repair(rest, company_id, backup_folder=tmp_path)
    assert (report.keys, len(report.repaired)) == (2100, 2100)
    assert stored(db, company_id) == {KeyRef("pre-key", str(key_id)): right for key_id in ids}
    assert report.backup is not None
    assert len(read_backup(report.backup).rows) == 2100


async def test_a_company_that_is_not_there_is_not_made(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    for looked_at in (
        diagnose(rest, company_id),
        repair(rest, company_id, backup_folder=tmp_path),
    ):
        with pytest.raises(CompanyNotFound):
            await looked_at
    assert snapshot(db, company_id) == ([], [])


async def test_a_wrong_company_id_is_refused(rest: Rest, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        await diagnose(rest, "")
    with pytest.raises(ConfigurationError):
        await repair(rest, " 7", backup_folder=tmp_path)


# Owners.


async def test_a_company_that_is_owned_is_refused_and_stays_as_it_is(
    rest: Rest, db: Any, open_auth: Any, company_id: str, tmp_path: Path
) -> None:
    insert(db, company_id, legacy(1))
    before = snapshot(db, company_id)
    await open_auth(lease=True, owner="shop-7")
    with pytest.raises(LeaseHeld, match="shop-7"):
        await repair(rest, company_id, backup_folder=tmp_path)
    assert snapshot(db, company_id) == before
    assert files_in(tmp_path) == []


async def test_a_diagnosis_names_the_owner(rest: Rest, open_auth: Any, company_id: str) -> None:
    auth = await open_auth(lease=True, owner="shop-7")
    report = await diagnose(rest, company_id)
    assert report.in_use_by == "shop-7"
    assert "in use by 'shop-7'" in str(report)
    await auth.close()
    assert (await diagnose(rest, company_id)).in_use_by is None


async def test_a_repair_lets_go_of_the_company(
    rest: Rest, db: Any, open_auth: Any, company_id: str, tmp_path: Path
) -> None:
    insert(db, company_id, legacy(1))
    await repair(rest, company_id, backup_folder=tmp_path)
    await open_auth(lease=True)


# Crashes, and what is left then.


class Crash(Exception):
    """Stands for the end of the process."""


class CrashingRest:
    """A `Rest` that ends when it is to write."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rest, name)

    async def rpc(self, function: str, *args: Any, **kwargs: Any) -> Any:
        if function == "replace_whatsapp_state":
            raise Crash
        return await self._rest.rpc(function, *args, **kwargs)


async def test_a_crash_between_backup_and_write_loses_nothing(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    rows = legacy(1)
    insert(db, company_id, rows)
    before = snapshot(db, company_id)
    with pytest.raises(Crash):
        await repair(CrashingRest(rest), company_id, backup_folder=tmp_path)  # type: ignore[arg-type]
    assert snapshot(db, company_id) == before
    [backup] = files_in(tmp_path)
    assert in_backup(backup) == {ref: row.json for ref, row in rows.documents.items()}

    report = await repair(rest, company_id, backup_folder=tmp_path)
    assert report.findings == ()
    assert len(files_in(tmp_path)) == 2


async def test_without_a_backup_nothing_is_changed(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    insert(db, company_id, legacy(1))
    before = snapshot(db, company_id)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FolderError, match="cannot write a backup"):
        await repair(rest, company_id, backup_folder=tmp_path / "taken")
    assert snapshot(db, company_id) == before


async def test_an_owner_that_takes_over_before_the_write_keeps_its_rows(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    insert(db, company_id, legacy(1))
    before = snapshot(db, company_id)

    class Overtaken(CrashingRest):
        async def rpc(self, function: str, *args: Any, **kwargs: Any) -> Any:
            if function == "replace_whatsapp_state":
                db.execute(
                    "update whatsapp_leases set token = token + 1, owner = 'shop-7' "
                    "where company_id = %s",
                    [company_id],
                )
            return await rest.rpc(function, *args, **kwargs)

    with pytest.raises(LeaseLost):
        await repair(Overtaken(rest), company_id, backup_folder=tmp_path)  # type: ignore[arg-type]
    assert snapshot(db, company_id) == before


# The backup.


async def test_the_backup_holds_every_row_and_only_its_owner_may_read_it(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    rows = legacy(5)
    insert(db, company_id, rows)
    report = await repair(rest, company_id, backup_folder=tmp_path / "new")
    assert report.backup is not None
    assert stat.S_IMODE(report.backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(report.backup.parent.stat().st_mode) == 0o700
    assert in_backup(report.backup) == {ref: row.json for ref, row in rows.documents.items()}


def in_backup(backup: Path) -> dict[KeyRef, Any]:
    """Give the JSON value of each row that a backup keeps: as it was stored, or as a file."""
    kept = read_backup(backup)
    return {
        **{
            parse_file_name(name) or CREDS: json.loads(content)
            for name, (content, _) in kept.files.items()
        },
        **{ref: row.json for ref, row in kept.rows.items()},
    }


async def test_a_company_of_any_name_gets_a_backup_inside_the_folder(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    odd = f"../{company_id}/\N{SNOWMAN}" + "%" * 150
    insert(db, odd, legacy(1))
    report = await repair(rest, odd, backup_folder=tmp_path)
    assert report.backup is not None
    assert files_in(tmp_path) == [report.backup]


async def test_the_documented_way_back_gives_the_rows_as_they_were(
    rest: Rest,
    db: Any,
    stack: Stack,
    company_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    insert(db, company_id, legacy(1))
    before = snapshot(db, company_id)
    report = await repair(rest, company_id, backup_folder=tmp_path)
    use_environment(stack, monkeypatch)
    await run_example("put_back", company_id, tmp_path)["put_back"](report.backup)
    assert without_times(snapshot(db, company_id)) == without_times(before)


def without_times(found: tuple[list[Any], list[Any]]) -> tuple[list[Any], list[Any]]:
    """Give what `snapshot` gives, without the times."""
    keys, auth = found
    return [row[:4] for row in keys], [row[:3] for row in auth]


async def test_the_documented_examples_run(
    stack: Stack, db: Any, company_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(db, company_id, legacy(1))
    use_environment(stack, monkeypatch)
    await run_example("diagnose", company_id, tmp_path)["done"]
    assert stored(db, company_id).items() <= documents(sample("v7-small")).items()


def use_environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.env().items():
        monkeypatch.setenv(name, value)


def run_example(word: str, company_id: str, folder: Path) -> dict[str, Any]:
    """Run the example of the documentation that has the word; await its ``done``, if it awaits."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    [source] = [block for block in blocks if f" {word}" in block]
    source = source.replace("962302", company_id).replace('"backups"', repr(os.fspath(folder)))
    code = compile(source, DOCS, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {}
    done = FunctionType(code, names)()
    return {**names, "done": done}


# What real Baileys makes of it.


@pytest.mark.parametrize("version", [6, 7])
async def test_real_baileys_connects_with_creds_that_were_repaired(
    rest: Rest, db: Any, stack: Stack, company_id: str, tmp_path: Path, version: int
) -> None:
    insert(db, company_id, legacy(7))
    async with NodePeer(stack.env()) as node:
        alice = Account(node, ALICE)
        with pytest.raises(NodeError, match="doctor"):
            await alice.open("supabase", company=company_id, version=version)

        await repair(rest, company_id, backup_folder=tmp_path)
        await alice.open("supabase", company=company_id, version=version)
        assert await alice.call("creds") == creds_of(sample("v7-small"))
        assert (await alice.call("frames"))["login"]


async def test_real_baileys_goes_on_with_a_session_that_was_moved_to_the_lid(
    rest: Rest, stack: Stack, company_id: str, tmp_path: Path
) -> None:
    async with NodePeer(stack.env()) as node:
        alice, bob = Account(node, ALICE), Account(node, BOB)
        await bob.open("memory")
        await alice.open("supabase", company=company_id, lease=True)
        await alice.meet(bob)
        await alice.tell(bob, "first")
        await bob.tell(alice, "second")
        await alice.call("store-lid", pairs=[{"lid": BOBS_LID, "pn": BOB}])
        late = await bob.call("encrypt", jid=ALICE, text="third")
        await alice.call("close")

        await alice.open("supabase", company=company_id, lease=True)
        with pytest.raises(NodeError, match="No session"):
            await alice.call("decrypt", jid=BOB, **late)
        await alice.call("close")

        report = await repair(rest, company_id, backup_folder=tmp_path)
        assert [finding.code for finding in report.repaired] == ["session-at-phone-number"]
        assert not report.damaged

        await alice.open("supabase", company=company_id, lease=True)
        assert late["type"] == "msg"
        assert await alice.call("decrypt", jid=BOB, **late) == "third"
        await alice.tell(bob, "fourth")
        await alice.call("close")


# Pre-keys.


def with_pre_keys(count: int, *, uploaded: int) -> Company:
    """Give creds that minted so many pre-keys, all of them stored."""
    right = sample("v7-small")
    pair = documents(right)[KeyRef("pre-key", "3")]
    creds = {
        **creds_of(right),
        "nextPreKeyId": count + 1,
        "firstUnuploadedPreKeyId": uploaded + 1,
    }
    return company({KeyRef("pre-key", str(key_id)): pair for key_id in range(1, count + 1)}, creds)


def ids(db: Any, company_id: str) -> list[int]:
    return sorted(int(ref.key_id) for ref in stored(db, company_id) if ref.key_type == "pre-key")


async def test_a_report_counts_pre_keys_and_changes_nothing(
    rest: Rest, db: Any, company_id: str
) -> None:
    insert(db, company_id, with_pre_keys(1500, uploaded=1490))
    insert(db, company_id, company({KeyRef("sender-key", "1::2::3"): {"any": "thing"}}))
    before = snapshot(db, company_id)
    report = await pre_key_report(rest, company_id)
    assert (report.minted, report.uploaded, report.stored) == (1500, 1490, 1500)
    assert (report.used, report.waiting, report.newest_missing) == (0, 10, False)
    assert report.reaped == 0
    assert snapshot(db, company_id) == before


async def test_a_reaper_leaves_the_newest_and_what_is_not_uploaded(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    insert(db, company_id, with_pre_keys(1500, uploaded=1490))
    report = await reap_pre_keys(rest, company_id, keep_newest=1000, backup_folder=tmp_path)
    assert (report.reaped, report.stored, report.waiting) == (490, 1010, 10)
    assert ids(db, company_id) == list(range(491, 1501))
    assert report.backup is not None
    assert len(in_backup(report.backup)) == 1501
    assert "490 deleted" in str(report)

    again = await reap_pre_keys(rest, company_id, keep_newest=1000, backup_folder=tmp_path)
    assert (again.reaped, again.backup) == (0, None)
    assert files_in(tmp_path) == [report.backup]


async def test_a_reaper_stays_away_from_a_company_that_is_owned(
    rest: Rest, db: Any, open_auth: Any, company_id: str, tmp_path: Path
) -> None:
    insert(db, company_id, with_pre_keys(900, uploaded=900))
    await open_auth(lease=True)
    with pytest.raises(LeaseHeld):
        await reap_pre_keys(rest, company_id, keep_newest=FEWEST_KEPT, backup_folder=tmp_path)
    assert len(ids(db, company_id)) == 900


async def test_a_crash_of_the_reaper_deletes_nothing(
    rest: Rest, db: Any, company_id: str, tmp_path: Path
) -> None:
    insert(db, company_id, with_pre_keys(900, uploaded=900))
    before = snapshot(db, company_id)
    with pytest.raises(Crash):
        await reap_pre_keys(
            CrashingRest(rest),  # type: ignore[arg-type]
            company_id,
            keep_newest=FEWEST_KEPT,
            backup_folder=tmp_path,
        )
    assert snapshot(db, company_id) == before
    assert len(files_in(tmp_path)) == 1
