"""Sealed companies on the real tables: opened, copied, repaired, deleted; with keys and without."""

from __future__ import annotations

import asyncio
import base64
import filecmp
import hashlib
import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from supabase import AsyncClientOptions, acreate_client

from devstack import Stack
from supabase_auth_state import (
    AuthState,
    ConfigurationError,
    DuplicateDevice,
    LeaseHeld,
    SealedValueError,
    Settings,
    StoreUnavailable,
    UnreadKeyError,
    delete_company,
    diagnose,
    export_folder,
    import_folder,
    read_history,
    repair,
    restore_backup,
    restore_version,
    use_supabase_auth_state,
    verify_folder,
)
from supabase_auth_state.cli.main import main
from supabase_auth_state.codec.sealing import CREDS_REF, Sealing
from supabase_auth_state.config.encryption import parse_keys
from supabase_auth_state.rest.client import using_rest
from supabase_auth_state.transfer import rekey as rekeying
from supabase_auth_state.transfer.rekey import rekey_company
from tests.companies import BAILEYS
from tests.sealing import K1, K2, OTHER_K1

OpenAuth = Callable[..., Awaitable[AuthState]]

FOLDER = BAILEYS / "v7-small"
SESSION = {"_sessions": {"base": {"rootKey": "c2VjcmV0"}}, "version": "v1"}
NEWER = {"_sessions": {"base": {"rootKey": "bmV3ZXI="}}, "version": "v1"}
PAIR = {"private": bytes(32), "public": bytes(32)}
ID = "15550100001.0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "auth"))


@pytest.fixture
def with_keys(settings: Settings) -> Callable[[str | None], Settings]:
    return lambda keys: replace(settings, encryption=keys)


def stored(db: Any, company_id: str) -> dict[tuple[str, str], Any]:
    rows = db.execute(
        "select key_type, key_id, value from whatsapp_keys where company_id = %s union all "
        "select 'creds', '', creds from whatsapp_auth where company_id = %s",
        [company_id, company_id],
    )
    return {(key_type, key_id): value for key_type, key_id, value in rows}


def key_ids(db: Any, company_id: str) -> set[str | None]:
    return {
        value.get("$sealed") if isinstance(value, dict) else None
        for value in stored(db, company_id).values()
    }


def times(db: Any, company_id: str) -> list[Any]:
    return db.execute(
        "select key_type, key_id, updated_at from whatsapp_keys where company_id = %s union all "
        "select 'creds', '', updated_at from whatsapp_auth where company_id = %s order by 1, 2",
        [company_id, company_id],
    ).fetchall()  # type: ignore[no-any-return]


async def test_nothing_of_a_value_is_in_the_database(
    open_auth: OpenAuth, db: Any, company_id: str
) -> None:
    auth = await open_auth(encryption=K1, lease=True)
    await auth.keys.set({"session": {ID: SESSION}, "lid-mapping": {"15550100001": "100000"}})
    await auth.save_creds()
    rows = stored(db, company_id)
    assert key_ids(db, company_id) == {"k1"}
    assert set(rows["session", ID]) == {"$sealed", "v", "box"}
    assert "c2VjcmV0" not in json.dumps([*map(str, rows.values())])
    assert await auth.keys.get("session", [ID]) == {ID: SESSION}
    await auth.close()

    again = await open_auth(encryption=f"{K2},{K1}")
    assert again.creds == auth.creds
    assert await again.keys.get("session", [ID, "other"]) == {ID: SESSION}
    assert await again.keys.get("lid-mapping", ["15550100001"]) == {"15550100001": "100000"}
    await again.keys.set({"session": {"2.0": SESSION}, "lid-mapping": {"15550100001": None}})
    assert key_ids(db, company_id) == {"k1", "k2"}
    assert await again.keys.get("lid-mapping", ["15550100001"]) == {}


async def test_an_owner_warms_its_memory_with_sealed_rows(open_auth: OpenAuth) -> None:
    auth = await open_auth(encryption=K1, lease=True, owner="o")
    await auth.keys.set({"session": {ID: SESSION}})
    await auth.close()
    again = await open_auth(encryption=K1, lease=True, owner="o")
    assert await again.warm() == 1
    assert await again.keys.get("session", [ID]) == {ID: SESSION}


@pytest.mark.parametrize("keys", [None, OTHER_K1, K2])
async def test_without_the_key_creds_are_an_error_and_never_new(
    open_auth: OpenAuth, db: Any, company_id: str, keys: str | None
) -> None:
    await (await open_auth(encryption=K1)).close()
    before = stored(db, company_id)
    for lease in (False, True):
        with pytest.raises(SealedValueError):
            await open_auth(encryption=keys, lease=lease)
    assert stored(db, company_id) == before


@pytest.mark.parametrize("keys", [None, OTHER_K1, K2])
async def test_without_the_key_a_row_is_neither_read_as_absent_nor_replaced(
    open_auth: OpenAuth, db: Any, company_id: str, keys: str | None
) -> None:
    plain = await open_auth()
    await (await open_auth(encryption=K1)).keys.set({"session": {ID: SESSION}})
    before = stored(db, company_id)
    other = plain if keys is None else await open_auth(encryption=keys)
    with pytest.raises(SealedValueError):
        await other.keys.get("session", [ID])
    with pytest.raises(UnreadKeyError):
        await other.keys.set({"session": {ID: NEWER}})
    assert stored(db, company_id) == before


async def test_the_database_keeps_a_sealed_row_from_who_has_not_read_it(
    open_auth: OpenAuth, db: Any, company_id: str
) -> None:
    plain = await open_auth()
    with_key = await open_auth(encryption=K1)
    await with_key.keys.set({"session": {ID: SESSION}})
    before = stored(db, company_id)
    for other in (plain, await open_auth(encryption=K2)):
        with pytest.raises(SealedValueError, match="k1"):
            await other.keys.set({"session": {ID: NEWER}})
    assert stored(db, company_id) == before
    await with_key.save_creds()
    with pytest.raises(SealedValueError, match="k1"):
        await plain.save_creds()
    await with_key.keys.set({"session": {ID: NEWER}})
    assert await with_key.keys.get("session", [ID]) == {ID: NEWER}


async def test_a_row_that_was_moved_in_the_database_is_refused(
    open_auth: OpenAuth, db: Any, company_id: str
) -> None:
    auth = await open_auth(encryption=K1)
    await auth.keys.set({"session": {ID: SESSION, "2.0": NEWER}})
    db.execute(
        "update whatsapp_keys k set value = (select value from whatsapp_keys where company_id = "
        "k.company_id and key_id = '2.0') where company_id = %s and key_id = %s",
        [company_id, ID],
    )
    with pytest.raises(SealedValueError):
        await auth.keys.get("session", [ID])
    assert await auth.keys.get("session", ["2.0"]) == {"2.0": NEWER}


async def test_keys_may_come_from_a_function(open_auth: OpenAuth, db: Any, company_id: str) -> None:
    async def vault(company: str) -> str:
        assert company == company_id
        return K1

    auth = await open_auth(encryption=vault)
    await auth.keys.set({"session": {ID: SESSION}})
    assert key_ids(db, company_id) == {"k1"}
    await open_auth(encryption=lambda _: K1)

    def broken(company: str) -> str:
        raise RuntimeError(f"secret {K1}")

    with pytest.raises(StoreUnavailable) as caught:
        await open_auth(encryption=broken)
    assert caught.value.__context__ is None
    assert K1 not in str(caught.value)


async def test_a_real_folder_goes_in_sealed_and_comes_out_as_it_was(
    folder: Path, db: Any, company_id: str, with_keys: Callable[..., Settings], tmp_path: Path
) -> None:
    keys = with_keys(K1)
    await import_folder(folder, company_id, settings=keys)
    assert key_ids(db, company_id) == {"k1"}
    assert (await verify_folder(folder, company_id, settings=keys)).identical
    again = await import_folder(folder, company_id, settings=keys)
    assert not again.added
    back = tmp_path / "back"
    await export_folder(back, company_id, settings=keys)
    names = sorted(path.name for path in FOLDER.glob("*.json"))
    assert filecmp.cmpfiles(FOLDER, back, names, shallow=False)[1:] == ([], [])

    for settings in (with_keys(None), with_keys(OTHER_K1)):
        with pytest.raises(SealedValueError):
            await verify_folder(folder, company_id, settings=settings)
        with pytest.raises(SealedValueError):
            await import_folder(folder, company_id, settings=settings, force=True)
        with pytest.raises(SealedValueError):
            await export_folder(tmp_path / "none", company_id, settings=settings)
    assert not (tmp_path / "none").exists()


async def test_a_company_is_deleted_without_the_key_and_restored_with_it(
    folder: Path, db: Any, company_id: str, with_keys: Callable[..., Settings], tmp_path: Path
) -> None:
    keys, none = with_keys(K1), with_keys(None)
    await import_folder(folder, company_id, settings=keys)
    backups = {}
    for settings in (none, keys):
        deleted = await delete_company(company_id, settings=settings, backup_dir=tmp_path / "b")
        assert deleted.backup.stat().st_mode & 0o777 == 0o600
        backups[settings.encryption] = deleted.backup
        assert stored(db, company_id) == {}
        with pytest.raises(SealedValueError):
            await restore_backup(backups[None], company_id, settings=none)
        await restore_backup(deleted.backup, company_id, settings=keys)
        assert key_ids(db, company_id) == {"k1"}
        assert (await verify_folder(folder, company_id, settings=keys)).identical


async def test_the_doctor_works_on_sealed_rows_and_repairs_nothing_blindly(
    folder: Path, db: Any, company_id: str, with_keys: Callable[..., Settings], tmp_path: Path
) -> None:
    await import_folder(folder, company_id, settings=with_keys(K1))
    rows = len(stored(db, company_id))
    async with using_rest(with_keys(K1)) as rest:
        report = await diagnose(rest, company_id)
    assert not report.damaged
    assert report.sealed_with == {"k1": rows}
    assert f"rows: {rows} sealed with k1" in str(report)
    before = stored(db, company_id)
    async with using_rest(with_keys(None)) as rest:
        closed = await repair(rest, company_id, backup_folder=tmp_path)
    assert {finding.code for finding in closed.findings} == {"sealed"}
    assert closed.damaged
    assert stored(db, company_id) == before


async def test_two_companies_of_one_device_are_found_sealed_or_plain(
    folder: Path, company_id: str, with_keys: Callable[..., Settings]
) -> None:
    await import_folder(folder, company_id, settings=with_keys(K1))
    for keys in (None, K1, K2):
        with pytest.raises(DuplicateDevice) as caught:
            await import_folder(folder, f"{company_id}-2", settings=with_keys(keys))
        assert caught.value.companies == (company_id,)


async def test_rekey_seals_changes_the_key_and_opens_and_no_value_or_time_changes(
    folder: Path, db: Any, company_id: str, with_keys: Callable[..., Settings]
) -> None:
    await import_folder(folder, company_id, settings=with_keys(None))
    plain, changed_at = stored(db, company_id), times(db, company_id)
    count = len(plain)

    async def rekey(keys: str, **options: Any) -> rekeying.RekeyReport:
        async with using_rest(with_keys(keys)) as rest:
            return await rekey_company(rest, company_id, **options)

    async def counted() -> Any:
        async with using_rest(with_keys(None)) as rest:
            found = await rest.rpc("whatsapp_sealing_stats", {"p_company_id": company_id})
        return found["keys"], found["creds"]

    steps: list[tuple[str, bool, str | None]] = [
        (K1, False, "k1"),
        (K1, False, "k1"),
        (f"{K2},{K1}", False, "k2"),
        (f"plain,{K2}", True, None),
    ]
    before: str | None = None
    for keys, opens, wanted in steps:
        report = await rekey(keys, open_all=opens)
        assert (report.changed, report.left) == (0 if wanted == before else count, {})
        assert key_ids(db, company_id) == {wanted}
        assert times(db, company_id) == changed_at
        assert await counted() == ({wanted or "": count - 1}, {wanted or "": 1})
        before = wanted
    assert stored(db, company_id) == plain

    with pytest.raises(ConfigurationError):
        await rekey(f"plain,{K1}")


async def test_rekey_tells_what_it_cannot_open_and_leaves_it(
    db: Any, company_id: str, open_auth: OpenAuth, with_keys: Callable[..., Settings]
) -> None:
    auth = await open_auth(encryption=K1)
    await auth.keys.set({"session": {ID: SESSION}})
    before = stored(db, company_id)
    async with using_rest(with_keys(K2)) as rest:
        report = await rekey_company(rest, company_id)
    assert (report.changed, report.left) == (0, {"k1": 2})
    assert stored(db, company_id) == before


async def test_rekey_is_finished_by_another_run(
    folder: Path, db: Any, company_id: str, with_keys: Callable[..., Settings]
) -> None:
    await import_folder(folder, company_id, settings=with_keys(None))

    class Stop(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    async with using_rest(with_keys(K1)) as rest:
        with pytest.raises(Stop):
            await rekey_company(rest, company_id, progress=stop)
        assert key_ids(db, company_id) == {None, "k1"}
        assert not (await rekey_company(rest, company_id)).left
    assert key_ids(db, company_id) == {"k1"}
    assert (await verify_folder(folder, company_id, settings=with_keys(K1))).identical


async def test_rekey_never_puts_back_what_an_owner_has_written_meanwhile(
    open_auth: OpenAuth,
    db: Any,
    company_id: str,
    with_keys: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auth = await open_auth(encryption=f"plain,{K1}", lease=True)
    ids = [f"{number}.0" for number in range(20)]
    await auth.keys.set({"session": dict.fromkeys(ids, SESSION)})
    pages = rekeying.list_pages
    late: list[Any] = []

    async def pages_and_then_a_write(*args: Any, **options: Any) -> Any:
        async for page in pages(*args, **options):
            if not late:
                # The owner writes after the page was read and before it is sealed.
                late.append(page)
                await auth.keys.set({"session": {ids[0]: NEWER, ids[1]: None}})
                auth.creds["nextPreKeyId"] = 77
                await auth.save_creds()
            yield page

    monkeypatch.setattr(rekeying, "list_pages", pages_and_then_a_write)
    async with using_rest(with_keys(K1)) as rest:
        report = await rekey_company(rest, company_id)
    assert report.left == {}
    assert key_ids(db, company_id) == {"k1"}
    expected = {**dict.fromkeys(ids, SESSION), ids[0]: NEWER}
    del expected[ids[1]]
    for reader in (auth, await open_auth(encryption=K1, lease=False)):
        assert await reader.keys.get("session", ids) == expected
        assert reader.creds["nextPreKeyId"] == 77
    # The lease is still the owner's.
    await auth.keys.set({"session": {ids[2]: NEWER}})
    with pytest.raises(LeaseHeld):
        await open_auth(encryption=K1, lease=True)


async def test_rekey_beside_an_owner_that_writes_all_the_time(
    open_auth: OpenAuth, db: Any, company_id: str, with_keys: Callable[..., Settings]
) -> None:
    auth = await open_auth(encryption=f"plain,{K1},{K2}", lease=True)
    ids = [f"{number}.0" for number in range(10)]
    last = {}
    done = asyncio.Event()

    async def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            value = {"_sessions": {"base": {"n": number}}, "version": "v1"}
            await auth.keys.set({"session": {ids[number % 10]: value}})
            last[ids[number % 10]] = value

    writing = asyncio.create_task(write())
    async with (
        using_rest(with_keys(f"{K2},{K1}")) as rest,
        using_rest(with_keys(f"{K1},{K2}")) as other,
    ):
        for _ in range(5):
            await rekey_company(rest, company_id)
            await rekey_company(other, company_id)
    done.set()
    await writing
    reader = await open_auth(encryption=f"{K1},{K2}")
    assert await reader.keys.get("session", ids) == last


async def test_earlier_creds_and_removed_companies_are_sealed_and_restored_too(
    open_auth: OpenAuth, db: Any, company_id: str, with_keys: Callable[..., Settings]
) -> None:
    def kept() -> list[Any]:
        rows = db.execute(
            "select creds from whatsapp_creds_history where company_id = %(it)s union all "
            "select creds from whatsapp_quarantine where company_id = %(it)s union all "
            "select e -> 'creds' from whatsapp_quarantine, jsonb_array_elements(history) e "
            "where company_id = %(it)s union all "
            "select value from whatsapp_quarantine_keys where company_id = %(it)s",
            {"it": company_id},
        )
        return [value for (value,) in rows]

    auth = await open_auth()
    await auth.keys.set({"session": {ID: SESSION}, "pre-key": {"1": PAIR}})
    auth.creds["nextPreKeyId"] = 5
    await auth.save_creds()
    await auth.keys.clear()
    await auth.keys.set({"session": {"2.0": NEWER}})
    plain = kept()
    assert len(plain) == 5
    assert not any("$sealed" in value for value in plain)

    async with using_rest(with_keys(K1)) as rest:
        assert (await rekey_company(rest, company_id)).changed == len(plain) + 2
        assert (await rekey_company(rest, company_id)).changed == 0
        found = await rest.rpc("whatsapp_sealing_stats", {"p_company_id": company_id})
    assert found["kept"] == {"k1": len(plain)}
    # That the creds were sealed made no version of plain ones.
    assert {value["$sealed"] for value in kept()} == {"k1"}

    history = await read_history(company_id, settings=with_keys(None))
    assert [version.same_device for version in history.versions] == [True, True]
    [removed] = [each for each in history.versions if each.kind == "company"]
    [creds] = [each for each in history.versions if each.kind == "creds"]
    await restore_version(company_id, creds.version, settings=with_keys(K1))
    assert (await open_auth(encryption=K1)).creds["nextPreKeyId"] == 1
    newest = (await read_history(company_id, settings=with_keys(None))).versions[0]
    with pytest.raises(SealedValueError):
        await restore_version(company_id, newest.version, settings=with_keys(None))
    await restore_version(company_id, removed.version, settings=with_keys(K1))
    back = await open_auth(encryption=K1)
    assert back.creds["nextPreKeyId"] == 5
    assert await back.keys.get("session", [ID, "2.0"]) == {ID: SESSION}

    async with using_rest(with_keys(f"plain,{K1}")) as rest:
        assert not (await rekey_company(rest, company_id, open_all=True)).left
    assert not any("$sealed" in value for value in kept())
    db.execute(
        "update whatsapp_auth set creds = creds || %s where company_id = %s",
        [json.dumps({"registrationId": 1}), company_id],
    )
    again = await read_history(company_id, settings=with_keys(None))
    assert {version.same_device for version in again.versions if version.creds} == {False}


async def test_a_sealed_mapping_does_not_expire_and_an_opened_one_does_again(
    open_auth: OpenAuth, db: Any, company_id: str, with_keys: Callable[..., Settings]
) -> None:
    def expiries() -> list[Any]:
        rows = db.execute(
            "select expires_at is null from whatsapp_keys where company_id = %s", [company_id]
        )
        return [value for (value,) in rows]

    auth = await open_auth()
    await auth.keys.set({"lid-mapping": {"15550100001": "77", "77_reverse": "15550100001"}})
    assert expiries() == [False, False]
    async with using_rest(with_keys(K1)) as rest:
        await rekey_company(rest, company_id)
        assert expiries() == [True, True]
        db.execute("select cleanup_expired_whatsapp_keys()")
        await rekey_company(rest, company_id, open_all=True)
    assert expiries() == [False, False]
    await (await open_auth(encryption=K1)).keys.set({"lid-mapping": {"15550100001": "78"}})
    assert sorted(expiries()) == [False, True]


def test_the_device_of_sealed_creds_is_a_hash_of_what_every_contact_knows() -> None:
    creds = json.loads((FOLDER / "creds.json").read_text())
    known = f"{creds['registrationId']}:{creds['signedIdentityKey']['public']['data']}"
    sealed = Sealing("962302", parse_keys(K1)).seal(CREDS_REF, creds)
    assert base64.b64decode(sealed["device"]) == hashlib.sha256(known.encode()).digest()


async def test_keys_come_from_the_environment_with_a_client_of_ones_own(
    stack: Stack, company_id: str, monkeypatch: pytest.MonkeyPatch, db: Any
) -> None:
    monkeypatch.setenv("SUPABASE_AUTH_STATE_KEYS", K1)
    async with httpx.AsyncClient() as own:
        options = AsyncClientOptions(httpx_client=own)
        client = await acreate_client(stack.url, stack.service_role_key, options=options)
        async with use_supabase_auth_state(company_id, client=client):
            assert key_ids(db, company_id) == {"k1"}


def test_the_commands_seal_count_and_open(
    stack: Stack,
    db: Any,
    company_id: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value) "
        "values (%s, 'session', %s, %s)",
        [company_id, ID, json.dumps(SESSION)],
    )

    def run(keys: str, *argv: str) -> tuple[int, str]:
        for name, value in stack.env().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SUPABASE_AUTH_STATE_KEYS", keys)
        code = main(argv)
        return code, capsys.readouterr().out

    one = ("rekey", "--company", company_id)
    assert run(K1, *one) == (
        0,
        f"company {company_id!r}: 1 values sealed with k1, 0 were already\n",
    )
    code, out = run(K2, *one, "--json")
    assert code == 3
    assert json.loads(out)["left"] == {"k1": 1}
    assert "keys: " in run(K1, "stats", "--exact")[1]
    assert "1 sealed with k1" in run(K2, "doctor", "--company", company_id)[1]
    assert run(f"plain,{K1}", *one, "--open")[0] == 0
    assert stored(db, company_id)["session", ID] == SESSION
    assert run("", *one)[0] == 2
