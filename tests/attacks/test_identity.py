"""What decides a company's identity is read from the primary, whole, and does not go back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from devstack import Stack
from faults.actions import Replica, answer_lost, dropped, held
from faults.proxy import Landing, Proxy
from faults.requests import is_any, is_write
from supabase_auth_state import (
    Rest,
    SupabaseAuthStateError,
    export_folder,
    import_folder,
    init_auth_creds,
    use_supabase_auth_state,
)
from tests.attacks.conftest import Open
from tests.attacks.world import SESSION, Db, contents, lease_of, outcome, session
from tests.interop.account import ALICE, Account
from tests.interop.node import NodeError, NodePeer


@pytest.fixture
async def lagging(stack: Stack) -> AsyncIterator[Proxy]:
    """A proxy whose reads by GET are to be answered by a replica."""
    async with Proxy(stack.url) as opened:
        yield opened


def old_copy(db: Db, company_id: str) -> Replica:
    """A read replica that stands still from now on, as far as one company goes."""
    tables = {}
    for table in ("whatsapp_auth", "whatsapp_keys", "whatsapp_leases"):
        rows = db.execute(
            f"select to_jsonb(t) from {table} t where company_id = %s",  # noqa: S608
            [company_id],
        ).fetchall()
        tables[table] = [row for (row,) in rows]
    return Replica(tables)


@pytest.mark.parametrize("copied", ["before the company was new", "before it changed"])
@pytest.mark.parametrize("lease", [False, True], ids=["no lease", "lease"])
async def test_creds_do_not_go_back_behind_a_replica_that_lags(
    proxy: Proxy, open_auth: Open, db: Db, company_id: str, lease: bool, copied: str
) -> None:
    replica = old_copy(db, company_id)
    auth = await open_auth(lease=lease)
    identity = auth.creds["registrationId"]
    if copied == "before it changed":
        replica = old_copy(db, company_id)
    auth.creds["nextPreKeyId"] = 831
    await auth.save_creds()
    await auth.keys.set({"session": {SESSION: session("new")}})
    await auth.close()
    proxy.on(is_any, replica)
    again = await open_auth(lease=lease)
    assert (again.creds["registrationId"], again.creds["nextPreKeyId"]) == (identity, 831)
    assert await again.keys.get("session", [SESSION]) == {SESSION: session("new")}
    await again.save_creds()
    assert contents(db, company_id)["creds"] == "831"


async def test_node_reads_no_creds_from_a_replica_that_lags(
    stack: Stack, lagging: Proxy, db: Db, company_id: str
) -> None:
    replica = old_copy(db, company_id)
    async with NodePeer({**stack.env(), "SUPABASE_URL": lagging.url}) as node:
        alice = Account(node, ALICE)
        first = await alice.open("supabase", company=company_id)
        stale = old_copy(db, company_id)
        await alice.call("update-creds", update={"nextPreKeyId": 831})
        await alice.call("close")
        for copy in (stale, replica):
            rule = lagging.on(is_any, copy)
            opened = await alice.open("supabase", company=company_id)
            assert (opened["identity"], opened["nextPreKeyId"]) == (first["identity"], 831)
            await alice.call("update-creds", update={"platform": "android"})
            await alice.call("close")
            rule.end()
    assert contents(db, company_id)["creds"] == "831"


async def test_no_import_and_no_export_decides_by_a_replica_that_lags(
    proxy: Proxy, through: Rest, direct: Rest, db: Db, company_id: str, tmp_path: Path
) -> None:
    before = old_copy(db, company_id)
    async with use_supabase_auth_state(company_id, client=direct, lease=True) as auth:
        auth.creds["nextPreKeyId"] = 61
        await auth.save_creds()
        await auth.keys.set({"session": {SESSION: session("newer")}})
    stored = contents(db, company_id)
    write_folder(tmp_path / "auth", next_pre_key_id=31, sessions=[SESSION])
    proxy.on(is_any, before)
    ended = await outcome(import_folder(tmp_path / "auth", company_id, client=through, quiet_for=0))
    assert isinstance(ended.error, SupabaseAuthStateError)
    assert contents(db, company_id) == stored
    await export_folder(tmp_path / "out", company_id, client=through, quiet_for=0)
    assert json.loads((tmp_path / "out" / "creds.json").read_text())["nextPreKeyId"] == 61


def write_folder(folder: Path, *, next_pre_key_id: int, sessions: list[str]) -> dict[str, Any]:
    """Write a folder as Baileys does, of a device that is not in the database."""
    from supabase_auth_state.codec import encode_creds

    folder.mkdir()
    creds = {**init_auth_creds(), "nextPreKeyId": next_pre_key_id}
    creds["me"] = {"id": "15550100001:1@s.whatsapp.net"}
    encoded = encode_creds(creds, company_id="folder")
    (folder / "creds.json").write_text(json.dumps(encoded))
    for key_id in sessions:
        (folder / f"session-{key_id}.json").write_text(json.dumps(session("folder")))
    return creds


# Imports that break off


FAULTS = {"lost on its way": dropped, "executed, the answer lost": answer_lost}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", [0, 1, 2])
async def test_an_import_that_broke_off_is_not_opened_and_a_second_one_finishes_it(
    proxy: Proxy, impatient: Rest, direct: Rest, db: Db, company_id: str, tmp_path: Path,
    after: int, fault: str,
) -> None:  # fmt: skip
    sessions = [f"{number}.0" for number in range(250)]
    creds = write_folder(tmp_path / "auth", next_pre_key_id=31, sessions=sessions)
    written = 0

    def from_then_on(request: Any) -> bool:
        nonlocal written
        if not is_write(request) or "release" in request.path:
            return False
        written += 1
        return written > after

    rule = proxy.on(from_then_on, FAULTS[fault])
    broken = await outcome(
        import_folder(tmp_path / "auth", company_id, client=impatient, quiet_for=0)
    )
    assert isinstance(broken.error, SupabaseAuthStateError)
    rule.end()
    stored = contents(db, company_id)
    complete = len(stored) == 251 and stored["creds"] == "31"
    for lease in (False, True):
        opening = await outcome(
            use_supabase_auth_state(company_id, client=direct, lease=lease).__aenter__()
        )
        if len(stored) > 1 and not complete:
            assert isinstance(opening.error, SupabaseAuthStateError)
            assert "import" in str(opening.error)
            assert contents(db, company_id) == stored
    if len(stored) == 1 and stored["creds"] is None:
        return  # nothing had been written: the opening made a new device
    again = await import_folder(tmp_path / "auth", company_id, client=direct, quiet_for=0)
    assert again.added + again.unchanged + again.replaced == 251
    opened = await use_supabase_auth_state(company_id, client=direct)
    assert opened.creds["registrationId"] == creds["registrationId"]
    assert len(await opened.keys.get("session", sessions)) == 250


async def test_an_import_that_was_given_up_writes_nothing_into_what_came_after_it(
    proxy: Proxy, impatient: Rest, direct: Rest, db: Db, company_id: str, tmp_path: Path
) -> None:
    write_folder(tmp_path / "auth", next_pre_key_id=31, sessions=[SESSION])
    landing = Landing()
    rule = proxy.on(is_write, held(landing))
    ended = await outcome(
        import_folder(tmp_path / "auth", company_id, client=impatient, quiet_for=0)
    )
    assert isinstance(ended.error, SupabaseAuthStateError)
    rule.end()
    async with use_supabase_auth_state(company_id, client=direct, lease=True) as auth:
        await auth.keys.set({"session": {SESSION: session("new")}})
        before = contents(db, company_id)
        await landing.land()
        assert contents(db, company_id) == before
        assert await auth.keys.get("session", [SESSION]) == {SESSION: session("new")}


async def test_a_company_with_keys_and_no_creds_gets_no_fresh_ones(
    direct: Rest, db: Db, company_id: str
) -> None:
    for lease in (False, True):
        company = f"{company_id}-{lease}"
        db.execute("insert into whatsapp_keys values (%s, 'session', '1.0', '{}')", [company])
        ended = await outcome(
            use_supabase_auth_state(company, client=direct, lease=lease).__aenter__()
        )
        assert isinstance(ended.error, SupabaseAuthStateError)
        assert "import" in str(ended.error)
        assert contents(db, company)["creds"] is None
        assert not lease_of(db, company)[1]


async def test_keys_that_arrive_while_a_company_is_opened_leave_it_without_fresh_creds(
    proxy: Proxy, through: Rest, db: Db, company_id: str
) -> None:
    event = asyncio.Event()

    async def kept(exchange: Any) -> Any:
        await event.wait()
        return await exchange.forward()

    rule = proxy.on(is_write, kept)
    opening = asyncio.ensure_future(
        outcome(use_supabase_auth_state(company_id, client=through).__aenter__())
    )
    await rule.reached()
    db.execute("insert into whatsapp_keys values (%s, 'session', '1.0', '{}')", [company_id])
    event.set()
    assert isinstance((await opening).error, SupabaseAuthStateError)
    assert contents(db, company_id)["creds"] is None


# Folders that are older than the database, however new their files look


async def older_folder(direct: Rest, company_id: str, folder: Path) -> None:
    """Export a company, then use it: the folder is behind the database from then on."""
    async with use_supabase_auth_state(company_id, client=direct, lease=True) as auth:
        auth.creds["nextPreKeyId"] = 31
        await auth.save_creds()
        await auth.keys.set({"session": {SESSION: counted(1)}})
    await export_folder(folder, company_id, client=direct, quiet_for=0)
    async with use_supabase_auth_state(company_id, client=direct, lease=True) as auth:
        await auth.keys.set({"session": {SESSION: counted(2)}})
        auth.creds["nextPreKeyId"] = 61
        await auth.save_creds()


def put_ahead(folder: Path) -> None:
    """Give every file the time of a machine whose clock is an hour ahead."""
    ahead = time.time() + 3600
    for path in folder.iterdir():
        os.utime(path, (ahead, ahead))


def counted(number: int) -> dict[str, Any]:
    return {"_sessions": {"base": {}}, "version": "v1", "n": number}


@pytest.mark.parametrize("times", ["copied", "an hour ahead"])
async def test_an_old_folder_with_new_file_times_replaces_nothing_without_force(
    direct: Rest, db: Db, company_id: str, tmp_path: Path, times: str
) -> None:
    folder = tmp_path / "auth"
    await older_folder(direct, company_id, folder)
    stored = contents(db, company_id)
    copy = Path(shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile))
    if times == "an hour ahead":
        put_ahead(copy)
    ended = await outcome(import_folder(copy, company_id, client=direct, quiet_for=0))
    assert isinstance(ended.error, SupabaseAuthStateError)
    assert "force" in str(ended.error)
    assert contents(db, company_id) == stored
    report = await import_folder(copy, company_id, client=direct, quiet_for=0, force=True)
    assert report.replaced == 2
    assert contents(db, company_id)["creds"] == "31"


async def test_node_opens_no_company_with_keys_and_no_creds(
    stack: Stack, db: Db, company_id: str
) -> None:
    db.execute("insert into whatsapp_keys values (%s, 'session', '1.0', '{}')", [company_id])
    async with NodePeer(stack.env()) as node:
        with pytest.raises(NodeError, match="import"):
            await Account(node, ALICE).open("supabase", company=company_id)
    assert contents(db, company_id)["creds"] is None
