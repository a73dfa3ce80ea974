"""What WhatsApp has logged out: in quarantine, for every client, until a person says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from supabase_auth_state import (
    AuthState,
    CompanyQuarantined,
    LeaseLost,
    Rest,
    SessionPool,
    Settings,
    StoreError,
    delete_company,
    erase_company,
    export_folder,
    import_folder,
    read_history,
    restore_version,
    use_supabase_auth_state,
)
from supabase_auth_state.errors import WriteRefused
from supabase_auth_state.pool.pauses import SharedPauses, reinstate_company

from . import what_shows
from .conftest import OpenAuth

KEYS: Any = {
    "session": {"15550100001.0": {"_sessions": {}, "version": "v1"}},
    "pre-key": {"7": {"public": b"\1" * 32, "private": b"\2" * 32}},
    "lid-mapping": {"15550100001": "962302", "962302_reverse": "15550100001"},
}


class Device:
    """A connection to WhatsApp."""

    def __init__(self, auth: AuthState) -> None:
        self.auth = auth

    async def close(self) -> None:
        pass


async def connect(company_id: str, auth: AuthState) -> Device:
    return Device(auth)


@pytest.fixture
async def pool(rest: Rest) -> AsyncIterator[SessionPool[Device]]:
    async with SessionPool(connect, client=rest) as pool:
        yield pool


def stored(db: psycopg.Connection[Any], company_id: str) -> list[Any]:
    return db.execute(
        "select to_jsonb(k) - 'expires_at' from whatsapp_keys k where company_id = %(id)s "
        "union all select to_jsonb(a) from whatsapp_auth a where company_id = %(id)s",
        {"id": company_id},
    ).fetchall()


async def logged_out(pool: SessionPool[Device], company_id: str, code: int = 401) -> AuthState:
    """Link a device, have WhatsApp log it out, and wait until the lease is given back."""
    device = await pool.get(company_id)
    device.auth.creds["me"] = {"id": "962302:1@s.whatsapp.net"}
    await device.auth.save_creds()
    # Still under way when the end is reported: it is moved with the others.
    writing = asyncio.ensure_future(device.auth.keys.set(KEYS))
    await asyncio.sleep(0)
    pool.report(company_id, code)
    await pool.close(company_id)
    await writing
    return device.auth


async def test_a_logged_out_company_is_read_by_no_client_and_comes_back_whole(
    pool: SessionPool[Device],
    rest: Rest,
    db: psycopg.Connection[Any],
    company_id: str,
    tmp_path: Path,
) -> None:
    auth = await logged_out(pool, company_id, 403)
    before = stored(db, company_id)
    assert len(before) == 5, "a ban may be lifted: the rows stay where they are"
    await pool.reinstate(company_id)
    await logged_out(pool, company_id)
    assert stored(db, company_id) == []
    [removed] = (await read_history(company_id, client=rest)).versions
    assert (removed.kind, removed.reason, removed.contents) == (
        "company", "logged out", "4 keys and creds",
    )  # fmt: skip

    options: dict[str, Any]
    for options in ({}, {"lease": True}, {"create": False}):
        with pytest.raises(CompanyQuarantined, match=r"logged out.*reinstate.*restore"):
            await use_supabase_auth_state(company_id, client=rest, **options)
    async with SessionPool(connect, client=rest) as other:
        for _ in range(2):
            with pytest.raises(CompanyQuarantined, match="401, logged out"):
                await other.get(company_id)
        assert other.status_of(company_id).status == "quarantined"
    assert stored(db, company_id) == []

    page = (await what_shows.pages(rest, company_id, tmp_path))[f"/company?id={company_id}"]
    assert "Logged out by WhatsApp" in page

    await restore_version(company_id, client=rest)
    assert sorted(map(str, stored(db, company_id)))[1:] == sorted(map(str, before))[1:]
    # Its rows are there again, and it is a person who has it connected.
    async with use_supabase_auth_state(company_id, client=rest, create=False) as back:
        assert back.creds == auth.creds
        assert await back.keys.get("pre-key", ["7"]) == KEYS["pre-key"]
    with pytest.raises(CompanyQuarantined):
        await pool.get(company_id)
    await pool.reinstate(company_id)
    assert (await pool.get(company_id)).auth.creds == auth.creds


async def test_after_reinstate_a_new_device_is_linked_and_the_old_one_is_kept(
    pool: SessionPool[Device], rest: Rest, company_id: str
) -> None:
    old = await logged_out(pool, company_id)
    await reinstate_company(rest, company_id)
    new = (await pool.get(company_id)).auth
    assert new.creds["registrationId"] != old.creds["registrationId"]
    await pool.close(company_id)
    await restore_version(company_id, client=rest)
    async with use_supabase_auth_state(company_id, client=rest, create=False) as auth:
        assert auth.creds == old.creds


async def test_no_client_stores_anything_for_it(
    pool: SessionPool[Device],
    rest: Rest,
    settings: Settings,
    db: psycopg.Connection[Any],
    company_id: str,
    tmp_path: Path,
) -> None:
    async with use_supabase_auth_state(f"{company_id}-other", client=rest) as other:
        await other.keys.set(KEYS)
    await export_folder(tmp_path / "auth", f"{company_id}-other", client=rest)
    await delete_company(f"{company_id}-other", client=rest, backup_dir=tmp_path)
    await logged_out(pool, company_id)
    creds = {"company_id": company_id, "creds": {}, "client_family": "baileys"}
    key = {"company_id": company_id, "key_type": "session", "key_id": "1.0", "value": {}}
    # A client that knows nothing of all this: no lease, no number.
    headers = {"apikey": settings.key, "Authorization": f"Bearer {settings.key}"}
    headers["Prefer"] = "resolution=merge-duplicates"
    async with httpx.AsyncClient(base_url=f"{settings.url}/rest/v1", headers=headers) as client:
        for table, row in (("whatsapp_auth", creds), ("whatsapp_keys", key)):
            for rows in ([row], [{**row, "company_id": f"{company_id}-third"}, row]):
                answer = await client.post(f"/{table}", json=rows)
                assert (answer.status_code, "whatsapp logout" in answer.text) == (409, True)
        # Deleting what is not there is no error.
        answer = await client.post("/whatsapp_keys", json=[{**key, "value": None}])
        assert answer.status_code == 201
    with pytest.raises(psycopg.Error, match="whatsapp logout"):
        db.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value) "
            "values (%s, 'session', '1.0', '{}')",
            [company_id],
        )
    for force in (False, True):
        with pytest.raises(CompanyQuarantined, match="reinstate"):
            await import_folder(tmp_path / "auth", company_id, client=rest, force=force)
    assert stored(db, company_id) == []
    await reinstate_company(rest, company_id)
    await import_folder(tmp_path / "auth", company_id, client=rest, force=True)
    assert len(stored(db, company_id)) == 5


async def test_keys_that_the_client_cleared_because_of_it_come_back_too(
    pool: SessionPool[Device], rest: Rest, company_id: str
) -> None:
    device = await pool.get(company_id)
    await device.auth.keys.set(KEYS)
    await device.auth.keys.clear()
    pool.report(company_id, 401)
    await pool.close(company_id)
    with pytest.raises(LeaseLost):
        await device.auth.keys.clear()
    [removed] = (await read_history(company_id, client=rest)).versions
    assert removed.contents == "4 keys and creds"
    await restore_version(company_id, client=rest)
    async with use_supabase_auth_state(company_id, client=rest, create=False) as auth:
        assert {kind: await auth.keys.get(kind, list(KEYS[kind])) for kind in KEYS} == KEYS


async def test_a_copy_of_the_request_that_lands_late_moves_no_new_device(
    rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    call = {
        "p_company_id": company_id, "p_code": 401, "p_reason": "logged out", "p_noted_by": "test",
    }  # fmt: skip
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as old:
        assert old.lease is not None
        sent = old.lease.writer.next_commit(old.lease.headers)
        assert (await rest.rpc("log_out_whatsapp_company", call, commit=sent))["removed"] == 1
        await reinstate_company(rest, company_id)
        assert (await rest.rpc("log_out_whatsapp_company", call, commit=sent))["removed"] is None
    async with use_supabase_auth_state(company_id, client=rest, lease=True):
        with pytest.raises(WriteRefused):
            await rest.rpc("log_out_whatsapp_company", call, commit=sent)
    assert len(stored(db, company_id)) == 1
    count = "select count(*) from whatsapp_pauses where company_id = %s"
    assert db.execute(count, [company_id]).fetchone() == (0,)


async def test_what_cannot_be_moved_is_left_alone_all_the_same(
    pool: SessionPool[Device],
    rest: Rest,
    db: psycopg.Connection[Any],
    company_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*args: Any) -> None:
        raise StoreError("no")

    monkeypatch.setattr(SharedPauses, "log_out", refuse)
    await logged_out(pool, company_id)
    assert len(stored(db, company_id)) == 5
    async with SessionPool(connect, client=rest) as other:
        with pytest.raises(CompanyQuarantined, match="401, logged out"):
            await other.get(company_id)


async def test_without_a_pool_it_is_called_by_the_user_and_with_or_without_a_lease(
    open_auth: OpenAuth, rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    for lease in (True, False):
        auth = await open_auth(lease=lease)
        await auth.keys.set(KEYS)
        await auth.log_out()
        assert stored(db, company_id) == []
        assert await auth.keys.get("pre-key", ["7"]) == {}
        with pytest.raises(CompanyQuarantined):
            await auth.save_creds()
        await auth.close()
        await reinstate_company(rest, company_id)
    assert [each.keys for each in (await read_history(company_id, client=rest)).versions] == [4, 4]


async def test_a_logged_out_company_is_erased_like_any(
    pool: SessionPool[Device], rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    await logged_out(pool, company_id)

    async def sleep(seconds: float) -> None:
        db.execute(
            "update whatsapp_writers set lands_until = now() where company_id = %s", [company_id]
        )

    report = await erase_company(company_id, client=rest, sleep=sleep)
    assert not any(report.left.values())
    db.execute("delete from whatsapp_leases where company_id = 'supabase-auth-state/erased'")
    async with use_supabase_auth_state(company_id, client=rest):
        pass
