"""What an import may not do: lose newer state, open half a company, make two of one device."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import Stack
from supabase_auth_state import (
    DuplicateDevice,
    FolderError,
    ImportEachReport,
    NewerState,
    Rest,
    Settings,
    StoreUnavailable,
    UnfinishedImport,
    diagnose,
    export_folder,
    import_each,
    import_folder,
    use_supabase_auth_state,
    verify_folder,
)
from supabase_auth_state.rest.client import using_rest
from supabase_auth_state.transfer.many import all_of
from tests.folders import another_device, change_file, copied, sample_folder, set_age
from tests.interop.account import ALICE, BOB, Account
from tests.interop.node import NodePeer

Fail = Callable[[int], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small folder that Baileys wrote, last changed an hour ago."""
    return sample_folder("v7-small", tmp_path)


@pytest.fixture
def fail_after(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Let the database answer so many upserts, and no more: `fail_after(1)`."""

    def arrange(answered: int) -> None:
        upsert: Callable[..., Awaitable[Any]] = rest.upsert
        left = iter(range(answered))

        async def upsert_or_not(*args: Any, **kwargs: Any) -> Any:
            if next(left, None) is None:
                raise StoreUnavailable("no answer")
            return await upsert(*args, **kwargs)

        monkeypatch.setattr(rest, "upsert", upsert_or_not)

    return arrange


def stored(db: psycopg.Connection[Any], company_id: str) -> list[Any]:
    """Give all rows of a company, with what tells whether they were written again."""
    return db.execute(
        "select key_type, key_id, value::text, xmin::text from whatsapp_keys where company_id = %s"
        " union all select 'creds', '', creds::text, xmin::text from whatsapp_auth"
        " where company_id = %s order by 1, 2",
        [company_id, company_id],
    ).fetchall()


# An import that broke off


async def test_an_import_that_broke_off_is_no_company_and_the_next_run_finishes_it(
    tmp_path: Path,
    rest: Rest,
    company_id: str,
    fail_after: Fail,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = sample_folder("v7-337", tmp_path)
    fail_after(1)
    with pytest.raises(StoreUnavailable):
        await import_folder(folder, company_id, client=rest)
    monkeypatch.undo()
    with pytest.raises(UnfinishedImport, match="Run the import again to finish it"):
        await export_folder(tmp_path / "out", company_id, client=rest)
    with pytest.raises(UnfinishedImport):
        await use_supabase_auth_state(company_id, client=rest, lease=True)
    report = await import_folder(folder, company_id, client=rest)
    assert (report.unchanged, report.added, report.replaced) == (100, 236, 0)
    assert (await verify_folder(folder, company_id, client=rest)).identical


async def test_a_row_of_a_broken_off_import_that_is_newer_than_its_file_stays(
    folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any], fail_after: Fail,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fail_after(1)
    with pytest.raises(StoreUnavailable):
        await import_folder(folder, company_id, client=rest)
    monkeypatch.undo()
    change_row(db, company_id, "device-list", "15550100001", ["0", "5"])
    before = stored(db, company_id)
    with pytest.raises(NewerState) as caught:
        await import_folder(folder, company_id, client=rest)
    assert caught.value.newer == ("device-list 15550100001",)
    assert stored(db, company_id) == before
    await import_folder(folder, company_id, client=rest, force=True)
    assert (await verify_folder(folder, company_id, client=rest)).identical


async def test_a_broken_off_import_is_not_finished_with_an_older_copy_of_the_folder(
    folder: Path, rest: Rest, company_id: str, fail_after: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "app-state-sync-version-critical_block.json"
    old = copied(folder, "old")
    change_file(folder / name, version=8)
    fail_after(1)
    with pytest.raises(StoreUnavailable):
        await import_folder(folder, company_id, client=rest)
    monkeypatch.undo()
    with pytest.raises(NewerState) as caught:
        await import_folder(old, company_id, client=rest)
    assert caught.value.newer == ()
    assert caught.value.going_back == (("app-state-sync-version critical_block", "version 8 to 1"),)
    assert (await import_folder(folder, company_id, client=rest)).added == 1


def change_row(
    db: psycopg.Connection[Any], company_id: str, key_type: str, key_id: str, value: Any
) -> None:
    """Change a row, as a client would just now."""
    changed = db.execute(
        "update whatsapp_keys set value = %s where company_id = %s and key_type = %s"
        " and key_id = %s",
        [json.dumps(value), company_id, key_type, key_id],
    )
    assert changed.rowcount == 1


# Times of files decide nothing


@pytest.mark.parametrize("age", [3600, 0, -86_400], ids=["older", "now", "clock ahead"])
async def test_an_old_folder_replaces_nothing_whatever_the_times_of_its_files(
    age: float, folder: Path, rest: Rest, company_id: str, open_auth: Any,
    db: psycopg.Connection[Any],
) -> None:  # fmt: skip
    await import_folder(folder, company_id, client=rest)
    async with await open_auth(client=rest, lease=True) as auth:
        auth.creds["nextPreKeyId"] += 30
        await auth.save_creds()
    before = stored(db, company_id)
    old = copied(folder, "old", age=age)
    for dry_run in (True, False):
        with pytest.raises(NewerState, match="creds: nextPreKeyId 36 to 6") as caught:
            await import_folder(old, company_id, client=rest, dry_run=dry_run, quiet_for=0)
        assert caught.value.newer == ("creds",)
        assert caught.value.going_back == (("creds", "nextPreKeyId 36 to 6"),)
    assert stored(db, company_id) == before
    forced = await import_folder(old, company_id, client=rest, force=True, quiet_for=0)
    assert forced.going_back == (("creds", "nextPreKeyId 36 to 6"),)
    assert "went back: creds: nextPreKeyId 36 to 6" in str(forced)


async def test_cp_minus_r_of_a_folder_of_real_baileys_does_not_turn_a_ratchet_back(
    rest: Rest, stack: Stack, company_id: str, tmp_path: Path
) -> None:
    async with NodePeer(stack.env()) as node:
        alice, bob = Account(node, ALICE), Account(node, BOB)
        await bob.open("memory")
        await alice.open("supabase", company=company_id, lease=True)
        await alice.meet(bob)
        await alice.tell(bob, "first")
        await bob.tell(alice, "second")
        await alice.call("close")
        await export_folder(tmp_path / "old", company_id, client=rest)
        await alice.open("supabase", company=company_id, lease=True)
        for text in ("third", "fourth"):
            await alice.tell(bob, text)
            await bob.tell(alice, text)
        late = await bob.call("encrypt", jid=ALICE, text="fifth")
        await alice.call("close")
        copied(tmp_path / "old", "copy", age=0)
        with pytest.raises(NewerState) as caught:
            await import_folder(tmp_path / "copy", company_id, client=rest, quiet_for=0)
        session = dict(caught.value.going_back)["session 15550100002.0"]
        assert "ratchet turns back" in session
        await alice.open("supabase", company=company_id, lease=True)
        assert await alice.call("decrypt", jid=BOB, **late) == "fifth"
        await alice.call("close")


@pytest.mark.parametrize("age", [30 * 86_400, 0, -86_400])
async def test_the_same_folder_with_other_times_is_imported_again_without_force(
    age: float, folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    before = stored(db, company_id)
    again = copied(folder, "again", age=age)
    report = await import_folder(again, company_id, client=rest, quiet_for=0)
    assert (report.added, report.replaced, report.unchanged) == (0, 0, 28 - report.left_out)
    assert stored(db, company_id) == before


async def test_what_a_folder_has_in_addition_is_added_without_force(
    folder: Path, rest: Rest, company_id: str
) -> None:
    await import_folder(folder, company_id, client=rest)
    more = {
        "device-list-15550108888.json": '["0"]',
        "lid-mapping-15550108888.json": '"200000000008888"',
        "lid-mapping-200000000008888_reverse.json": '"15550108888"',
        "session-200000000008888_1.0.json": '{"_sessions":{},"version":"v1"}',
    }
    for name, text in more.items():
        (folder / name).write_text(text)
        set_age(folder / name, 60)
    report = await import_folder(folder, company_id, client=rest)
    assert (report.added, report.replaced, report.unchanged) == (4, 0, 28)


async def test_a_used_pre_key_comes_back_only_by_force(
    folder: Path, rest: Rest, company_id: str, open_auth: Any, db: psycopg.Connection[Any]
) -> None:
    await import_folder(folder, company_id, client=rest)
    async with await open_auth(client=rest, lease=True) as auth:
        await auth.keys.set({"pre-key": {"3": None}})
    before = stored(db, company_id)
    with pytest.raises(NewerState, match="pre-keys would come back") as caught:
        await import_folder(folder, company_id, client=rest)
    assert caught.value.returning == ("pre-key 3",)
    assert (caught.value.newer, caught.value.extra) == ((), ())
    assert stored(db, company_id) == before
    report = await import_folder(folder, company_id, client=rest, force=True, dry_run=True)
    assert report.going_back == (("pre-key 3", "used up or deleted"),)
    assert "would go back: pre-key 3: used up or deleted" in str(report)


# Two companies, one linked device


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_second_company_of_one_device_is_refused(
    dry_run: bool, folder: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    other = f"{company_id}-back"
    await import_folder(folder, company_id, client=rest)
    with pytest.raises(DuplicateDevice, match=f"'{company_id}' holds the same linked") as caught:
        await import_folder(folder, other, client=rest, dry_run=dry_run)
    assert (caught.value.company_id, caught.value.companies) == (other, (company_id,))
    assert stored(db, other) == []
    assert (await import_folder(folder, company_id, client=rest)).unchanged == 28


async def test_the_doctor_finds_two_companies_of_one_device_that_were_forced(
    folder: Path, rest: Rest, company_id: str
) -> None:
    other = f"{company_id}-back"
    await import_folder(folder, company_id, client=rest)
    assert (await diagnose(rest, company_id)).findings == ()
    await import_folder(folder, other, client=rest, force=True)
    for one, two in ((company_id, other), (other, company_id)):
        report = await diagnose(rest, one)
        (finding,) = report.findings
        assert (finding.code, finding.key_type) == ("same-device", "creds")
        assert finding.what == f"also those of '{two}'"
        assert report.damaged


async def test_an_export_beside_its_folder_does_not_become_a_company_of_its_own(
    tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    parent = tmp_path / "auth"
    sample_folder("v7-small", tmp_path / "x").rename(tmp_path / "moved")
    parent.mkdir()
    (tmp_path / "moved").rename(parent / company_id)
    copied(parent / company_id, f"{company_id}-back")
    outcomes: dict[str, Any] = {}
    report = await import_each(
        parent,
        client=rest,
        quiet_for=0,
        on_outcome=lambda each: outcomes.update({each.company_id: each.error}),
    )
    assert (report.imported, report.failed) == ([company_id], [f"{company_id}-back"])
    assert outcomes[company_id] is None
    assert isinstance(outcomes[f"{company_id}-back"], DuplicateDevice)
    assert outcomes[f"{company_id}-back"].companies == (company_id,)
    assert stored(db, f"{company_id}-back") == []


# Paths that are no auth folder


async def test_a_folder_of_auth_folders_is_told_about_each(
    tmp_path: Path, rest: Rest, company_id: str
) -> None:
    for number in range(5):
        (tmp_path / "numbers" / f"96230{number}").mkdir(parents=True)
        (tmp_path / "numbers" / f"96230{number}" / "creds.json").touch()
    with pytest.raises(FolderError, match="--each") as caught:
        await import_folder(tmp_path / "numbers", company_id, client=rest, quiet_for=0)
    assert "holds some (962300, 962301, 962302 and 2 more)" in str(caught.value)


async def test_a_file_is_told_what_an_auth_folder_is(
    folder: Path, tmp_path: Path, rest: Rest, company_id: str
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"is a file\. An auth folder is the folder"):
        await import_folder(tmp_path / "notes.txt", company_id, client=rest)
    with pytest.raises(FolderError, match=f"this one is in {folder}"):
        await import_folder(folder / "creds.json", company_id, client=rest)


# Many


def many(parent: Path, company_id: str, count: int) -> list[str]:
    """Make folders of so many devices, and give their names."""
    names = [f"{company_id}-{number}" for number in range(count)]
    for number, name in enumerate(names):
        folder = another_device(sample_folder("v7-small", parent.with_name("x")), number)
        parent.mkdir(exist_ok=True)
        folder.rename(parent / name)
    return names


async def test_an_interrupted_import_of_many_says_what_is_done_and_what_is_not(
    tmp_path: Path, rest: Rest, company_id: str, db: psycopg.Connection[Any]
) -> None:
    names = many(tmp_path / "numbers", company_id, 5)
    report = ImportEachReport()
    seen: list[tuple[int, int]] = []

    def interrupt(step: str, *_: int) -> None:
        if step == "checking" and report.done == 2:
            importing.cancel()

    importing = asyncio.ensure_future(
        import_each(
            tmp_path / "numbers",
            client=rest,
            concurrency=1,
            on_outcome=lambda _: seen.append((report.done, report.total)),
            progress=interrupt,
            report=report,
        )
    )
    with pytest.raises(asyncio.CancelledError):
        await importing
    assert seen == [(1, 5), (2, 5)]
    assert (report.imported, report.failed) == (names[:2], [])
    assert (report.under_way, report.waiting) == ([names[2]], names[3:])
    assert [name for name in names if stored(db, name)] == names[:3]
    assert str(report).splitlines() == [
        "2 of 5 companies imported, 0 not",
        f"under way and not finished: 1 ({names[2]})",
        f"not begun: 2 ({names[3]}, {names[4]})",
    ]
    finished = await import_each(tmp_path / "numbers", client=rest)
    assert sorted(finished.imported) == names
    assert str(finished) == "5 of 5 companies imported, 0 not"


@pytest.mark.parametrize("how", ["cancelled", "one fails"])
async def test_the_imports_under_way_give_their_companies_back_before_all_of_it_ends(
    how: str,
) -> None:
    given_back = []
    begun = asyncio.Event()

    async def work(number: int) -> None:
        try:
            if number == 0 and how == "one fails":
                await begun.wait()
                raise StoreUnavailable("no answer")
            await asyncio.Event().wait()
        finally:
            for _ in range(number + 1):
                await asyncio.sleep(0)
            given_back.append(number)

    workers = [asyncio.ensure_future(work(number)) for number in range(3)]
    all_of_it = asyncio.ensure_future(all_of(workers))
    await asyncio.sleep(0)
    begun.set()
    if how == "cancelled":
        await asyncio.sleep(0)
        all_of_it.cancel()
    with pytest.raises((asyncio.CancelledError, StoreUnavailable)):
        await all_of_it
    assert sorted(given_back) == [0, 1, 2]


def test_a_rate_is_told_when_there_is_one() -> None:
    began = time.monotonic() - 1000
    report = ImportEachReport(imported=["1", "2"], failed=["3"], waiting=["4", "5"], _began=began)
    assert report.per_second == pytest.approx(0.003, rel=0.01)
    assert report.seconds_left == pytest.approx(667, rel=0.01)
    fresh = ImportEachReport(waiting=["1"])
    assert (fresh.per_second, fresh.seconds_left) == (0, None)
    assert fresh.as_json() == {"imported": [], "failed": [], "under_way": [], "waiting": ["1"]}


@pytest.mark.parametrize("fails", [False, True])
async def test_a_signal_while_the_lease_is_given_back_does_not_keep_it(
    settings: Settings,
    rest: Rest,
    folder: Path,
    company_id: str,
    monkeypatch: pytest.MonkeyPatch,
    fail_after: Fail,
    fails: bool,
) -> None:
    releasing, answer = asyncio.Event(), asyncio.Event()
    do = rest.do

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        releasing.set()
        await answer.wait()
        return await do(*args, **kwargs)

    monkeypatch.setattr(rest, "do", slowly)
    if fails:
        fail_after(0)
    importing = asyncio.ensure_future(import_folder(folder, company_id, client=rest))
    await releasing.wait()
    importing.cancel()
    await asyncio.wait({importing})
    answer.set()
    monkeypatch.undo()
    await rest.close()
    async with using_rest(settings) as other:
        lease = await other.about("whatsapp_lease_status", company_id)
    assert lease["owner"] is None
