"""What the database keeps of a company's past, bringing it back, and removing every trace."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from supabase_auth_state import (
    AuthState,
    CompanyNotFound,
    EraseReport,
    LeaseHeld,
    LeaseLost,
    Rest,
    VersionNotRestorable,
    delete_company,
    erase_company,
    read_history,
    restore_version,
    use_supabase_auth_state,
)
from supabase_auth_state.errors import VerificationFailed, WriteRefused
from supabase_auth_state.leases.lease import acquire_lease
from supabase_auth_state.rest.requests import Commit

from .conftest import OpenAuth

Erase = Callable[[], Awaitable[EraseReport]]

SESSION = {"_sessions": {}, "version": "v1"}
KEYS: Any = {
    "session": {"15550100001.0": SESSION},
    "pre-key": {"7": {"public": b"\1" * 32, "private": b"\2" * 32}},
    "lid-mapping": {"15550100001": "962302", "962302_reverse": "15550100001"},
}
TABLES = [
    "whatsapp_auth", "whatsapp_keys", "whatsapp_creds_history", "whatsapp_quarantine",
    "whatsapp_quarantine_keys", "whatsapp_pauses", "whatsapp_leases", "whatsapp_writers",
    "whatsapp_lease_history", "whatsapp_company_statistics",
]  # fmt: skip


@pytest.fixture
def erase(rest: Rest, db: psycopg.Connection[Any], company_id: str) -> Iterator[Erase]:
    """Erase the company, in a world whose time passes at once."""

    async def sleep(seconds: float) -> None:
        assert 0 < seconds < 60
        db.execute(
            "update whatsapp_writers set lands_until = lands_until - make_interval(secs => %s) "
            "where company_id = %s",
            [seconds, company_id],
        )

    yield lambda: erase_company(company_id, client=rest, sleep=sleep)
    db.execute("delete from whatsapp_alert_messages where message ->> 'rule' = 'erasing'")
    # Other tests of this stack begin with the token 1.
    db.execute("delete from whatsapp_leases where company_id = 'supabase-auth-state/erased'")


async def store(auth: AuthState) -> None:
    await auth.keys.set(KEYS)
    auth.creds["me"] = {"id": "962302:1@s.whatsapp.net"}
    await auth.save_creds()


async def stored(rest: Rest, company_id: str) -> Any:
    """Everything that a client can read of a company."""
    async with use_supabase_auth_state(company_id, client=rest, create=False) as auth:
        keys = {each: await auth.keys.get(each, list(KEYS[each])) for each in KEYS}
        return auth.creds, keys


def everything(db: psycopg.Connection[Any], company_id: str) -> list[Any]:
    return db.execute(
        "select to_jsonb(k) - 'expires_at' from whatsapp_keys k where company_id = %(id)s "
        "union all select to_jsonb(a) from whatsapp_auth a where company_id = %(id)s",
        {"id": company_id},
    ).fetchall()


async def save(auth: AuthState, number: int) -> None:
    auth.creds["nextPreKeyId"] = number
    await auth.save_creds()


async def test_the_last_ten_versions_of_creds_are_kept_and_no_more(
    open_auth: OpenAuth, rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    auth = await open_auth(lease=True)
    for number in range(2, 27):
        await save(auth, number)
    await auth.save_creds()  # the same again is no version
    history = await read_history(company_id, client=rest)
    assert [each.version for each in history.versions] == list(range(25, 15, -1))
    assert {(each.kind, each.reason, each.same_device) for each in history.versions} == {
        ("creds", "replaced", True)
    }
    kept = "select creds ->> 'nextPreKeyId' from whatsapp_creds_history where company_id = %s"
    assert {int(number) for (number,) in db.execute(kept, [company_id])} == set(range(16, 26))


async def test_the_last_creds_of_a_day_are_kept_for_a_week(
    open_auth: OpenAuth, rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    auth = await open_auth()
    for day in range(12, 0, -1):
        db.execute(
            "update whatsapp_auth set updated_at = now() - make_interval(days => %s) "
            "where company_id = %s",
            [day, company_id],
        )
        await save(auth, 100 - day)
    for number in range(200, 212):
        await save(auth, number)
    daily = "select count(*) from whatsapp_creds_history where company_id = %s and slot >= 10"
    assert db.execute(daily, [company_id]).fetchone() == (7,)
    history = await read_history(company_id, client=rest)
    assert len(history.versions) == 17
    assert sum(each.until is not None for each in history.versions) == 7
    db.execute(
        "update whatsapp_creds_history set replaced_at = now() - interval '8 days' "
        "where company_id = %s and slot >= 10",
        [company_id],
    )
    assert len((await read_history(company_id, client=rest)).versions) == 10
    db.execute("select cleanup_expired_whatsapp_keys()")
    assert db.execute(daily, [company_id]).fetchone() == (0,)


async def test_a_version_comes_back_and_what_it_replaces_is_kept(
    open_auth: OpenAuth, rest: Rest, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    await save(auth, 31)
    await save(auth, 61)
    with pytest.raises(LeaseHeld):
        await restore_version(company_id, 2, client=rest)
    await auth.close()
    restored = await restore_version(company_id, 2, client=rest)
    assert (restored.version, restored.contents) == (2, "creds")
    creds, _ = await stored(rest, company_id)
    assert creds["nextPreKeyId"] == 31
    await restore_version(company_id, 3, client=rest)
    creds, _ = await stored(rest, company_id)
    assert creds["nextPreKeyId"] == 61


@pytest.mark.parametrize("version", [None, 99])
async def test_what_is_not_kept_cannot_be_restored(
    open_auth: OpenAuth, rest: Rest, company_id: str, version: int | None
) -> None:
    await (await open_auth()).close()
    with pytest.raises(VersionNotRestorable, match="keeps no"):
        await restore_version(company_id, version, client=rest)


async def test_creds_of_another_device_are_not_put_beside_keys_that_are_not_theirs(
    open_auth: OpenAuth, rest: Rest, company_id: str
) -> None:
    auth = await open_auth()
    auth.creds["registrationId"] = auth.creds["registrationId"] % 16000 + 1
    await auth.save_creds()
    with pytest.raises(VersionNotRestorable, match="another linked device"):
        await restore_version(company_id, 1, client=rest)
    lease = await acquire_lease(rest, company_id)
    with pytest.raises(WriteRefused, match="another linked device"):
        await lease.writer.rpc("restore_whatsapp_version", {"p_version": 1})
    await lease.release()


async def test_a_deleted_company_is_read_by_no_client_and_comes_back_whole(
    open_auth: OpenAuth,
    rest: Rest,
    db: psycopg.Connection[Any],
    company_id: str,
    tmp_path: Any,
) -> None:
    async with await open_auth(lease=True) as auth:
        await store(auth)
    before = everything(db, company_id)
    await delete_company(company_id, client=rest, backup_dir=tmp_path)
    assert everything(db, company_id) == []
    with pytest.raises(CompanyNotFound):
        await stored(rest, company_id)
    [removed, *_] = (await read_history(company_id, client=rest)).versions
    assert (removed.reason, removed.keys, removed.creds) == ("delete", 4, True)
    assert removed.until is not None
    assert 13.9 < (removed.until - removed.kept_at) / 86400 < 14.1
    await restore_version(company_id, client=rest)
    assert sorted(map(str, everything(db, company_id))) == sorted(map(str, before))
    # The version of the creds before they had `me` is there again, too.
    assert [each.version for each in (await read_history(company_id, client=rest)).versions] == [1]


async def test_clear_then_a_new_device_and_the_old_one_back_swaps_them(
    open_auth: OpenAuth, rest: Rest, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    await store(auth)
    old = await stored(rest, company_id)
    await auth.keys.clear()
    await auth.keys.clear()  # of nothing: no entry
    assert auth.creds["me"] == (await stored(rest, company_id))[0]["me"]
    del auth.creds["me"]
    auth.creds["registrationId"] = auth.creds["registrationId"] % 16000 + 1
    await auth.save_creds()
    await auth.keys.set({"pre-key": {"1": {"public": b"\3" * 32, "private": b"\4" * 32}}})
    new = await stored(rest, company_id)
    await auth.close()

    removed = [e for e in (await read_history(company_id, client=rest)).versions if e.keys]
    assert [(each.reason, each.keys, each.same_device) for each in removed] == [("clear", 4, False)]
    await restore_version(company_id, client=rest)
    assert await stored(rest, company_id) == old
    await restore_version(company_id, client=rest)
    assert await stored(rest, company_id) == new


async def test_a_late_clear_moves_nothing_and_one_that_comes_twice_moves_once(
    rest: Rest, company_id: str
) -> None:
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as auth:
        assert auth.lease is not None
        await auth.keys.set(KEYS)
        await auth.keys.clear()
        clear = auth.lease.writer.next_commit(auth.lease.headers)
        late = Commit(company_id, clear.writer, clear.number - 1, auth.lease.headers)
        await auth.keys.set(KEYS)  # takes a number above both
        for commit in (late, clear):
            with pytest.raises(WriteRefused):
                await rest.rpc("clear_whatsapp_keys", {"p_company_id": company_id}, commit=commit)
        again = auth.lease.writer.next_commit(auth.lease.headers)
        for _ in range(2):
            await rest.rpc("clear_whatsapp_keys", {"p_company_id": company_id}, commit=again)
            await auth.keys.get("session", ["15550100001.0"])
    reasons = [e.reason for e in (await read_history(company_id, client=rest)).versions]
    assert reasons == ["clear", "clear"]


async def test_failed_attempts_to_link_never_push_out_the_device_that_was_in_use(
    rest: Rest, open_auth: OpenAuth, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    await store(auth)
    await auth.keys.clear()
    pre_key = {"public": b"\3" * 32, "private": b"\4" * 32}
    for _ in range(12):
        await auth.keys.set({"pre-key": {"1": pre_key}})
        await auth.keys.clear()
    await auth.close()
    removed = [e for e in (await read_history(company_id, client=rest)).versions if e.keys]
    assert len(removed) == 10
    assert max(each.keys for each in removed) == 4
    # Putting the oldest back, with the quarantine full, loses nothing of it.
    await auth_with_a_key(open_auth, pre_key)
    [whole] = [each for each in removed if each.keys == 4]
    await restore_version(company_id, whole.version, client=rest)
    _, keys = await stored(rest, company_id)
    assert keys == KEYS


async def auth_with_a_key(open_auth: OpenAuth, pre_key: Any) -> None:
    async with await open_auth(lease=True) as auth:
        await auth.keys.set({"pre-key": {"1": pre_key}})


async def test_cleanup_empties_what_is_over_in_batches_and_nothing_else(
    open_auth: OpenAuth, rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    auth = await open_auth()
    for _ in range(2):
        await auth.keys.set(KEYS)
        await auth.keys.clear()
    db.execute(
        "update whatsapp_quarantine set until = now() where company_id = %s and version = 1",
        [company_id],
    )
    assert [e.version for e in (await read_history(company_id, client=rest)).versions] == [2]
    while await rest.rpc("cleanup_expired_whatsapp_keys", {"p_batch_size": 3}):
        pass
    for table, rows in {"whatsapp_quarantine": 1, "whatsapp_quarantine_keys": 4}.items():
        assert count(db, table, company_id) == rows


def count(db: psycopg.Connection[Any], table: str, company_id: str) -> int:
    query = f"select count(*) from {table} where company_id = %s"  # noqa: S608
    found = db.execute(query.encode(), [company_id]).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("function", ["delete_whatsapp_company", "log_out_whatsapp_company"])
async def test_other_clients_end_a_company_by_a_function_and_it_comes_back_whole(
    open_auth: OpenAuth, rest: Rest, company_id: str, function: str
) -> None:
    async with await open_auth() as auth:
        await store(auth)
        creds = dict(auth.creds)
    why = {"p_code": 401, "p_reason": "logged out", "p_noted_by": "another client"}
    call = {"p_company_id": company_id, **(why if function.startswith("log") else {})}
    # As `supabase.rpc(…)` sends it: no lease, no number.
    await rest.rpc(function, call)
    await restore_version(company_id, client=rest)
    assert await stored(rest, company_id) == (creds, KEYS)


async def test_creds_that_other_clients_delete_are_kept_for_two_weeks(
    open_auth: OpenAuth, rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    async with await open_auth() as auth:
        creds = dict(auth.creds)
    db.execute("delete from whatsapp_auth where company_id = %s", [company_id])
    await restore_version(company_id, 1, client=rest)
    assert (await stored(rest, company_id))[0] == creds
    db.execute("delete from whatsapp_auth where company_id = %s", [company_id])
    db.execute(
        "update whatsapp_creds_history set replaced_at = now() - interval '15 days' "
        "where company_id = %s",
        [company_id],
    )
    db.execute("select cleanup_expired_whatsapp_keys()")
    assert count(db, "whatsapp_creds_history", company_id) == 0


def named_in(db: psycopg.Connection[Any], company_id: str) -> list[str]:
    """Every table of the project that has a row in whose text the company stands anywhere."""
    tables = db.execute(
        "select c.relname from pg_class c where c.relkind in ('r', 'p', 'm') "
        "and c.relnamespace = 'public'::regnamespace"
    ).fetchall()
    rows = "select exists (select from {} t where position(%s in t::text) > 0)"
    return [
        name
        for (name,) in tables
        if db.execute(sql.SQL(rows).format(sql.Identifier(name)), [company_id]).fetchone()
        == (True,)
    ]


def tell_of(db: psycopg.Connection[Any], messages: list[list[str]]) -> None:
    """Keep messages of alerts that name companies, as `Alerts` does."""
    for companies in messages:
        text = f"Few: 2; companies: {', '.join(companies)}"
        message = {"rule": "erasing", "companies": companies, "text": text}
        db.execute(
            "insert into whatsapp_alert_messages (receiver, message, created_at, due_at) "
            "values ('log', %s, now(), 'infinity')",
            [json.dumps(message)],
        )


async def test_erasing_leaves_no_row_in_any_table(
    rest: Rest, erase: Erase, db: psycopg.Connection[Any], company_id: str
) -> None:
    with_a_company_id = db.execute(
        "select table_name from information_schema.columns join information_schema.tables "
        "using (table_schema, table_name) where table_schema = 'public' "
        "and column_name = 'company_id' and table_type = 'BASE TABLE' "
        "and table_name like 'whatsapp%'"
    ).fetchall()
    assert {name for (name,) in with_a_company_id} == set(TABLES)
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as frozen:
        await store(frozen)
        await frozen.keys.clear()
        await store(frozen)
        await rest.ask(
            "note_whatsapp_pause",
            company_id,
            {"p_code": 401, "p_reason": "logged out", "p_seconds": None, "p_noted_by": "test"},
        )
        with pytest.raises(LeaseHeld):
            await erase()
        db.execute("select public.whatsapp_count_companies(array[%s])", [company_id])
        tell_of(db, [["b", company_id, "c"], [company_id]])
        db.execute("update whatsapp_statistics set recount_after = %s", [company_id])
        assert {*TABLES, "whatsapp_alert_messages", "whatsapp_statistics"} == {
            *named_in(db, company_id)
        }
        assert all(count(db, table, company_id) for table in TABLES)
        assert frozen.lease is not None
        # It stands still, and its time runs out.
        db.execute(
            "update whatsapp_leases set owner = null, expires_at = '-infinity' "
            "where company_id = %s",
            [company_id],
        )
        report = await erase()
        assert report.removed["whatsapp_quarantine_keys"] == 4
        assert set(report.left) == {*TABLES, "whatsapp_alert_messages"}
        assert {table: count(db, table, company_id) for table in TABLES} == dict.fromkeys(TABLES, 0)
        assert named_in(db, company_id) == []
        told = "select message from whatsapp_alert_messages where message ->> 'rule' = 'erasing'"
        assert db.execute(told + " order by id").fetchall() == [
            ({"rule": "erasing", "companies": ["b", "c"], "text": "Few: 2; companies: b, c"},),
            ({"rule": "erasing", "companies": [], "text": "Few: 2"},),
        ]

        # Its number is not used again: it stays refused when the company begins anew.
        async with use_supabase_auth_state(company_id, client=rest, lease=True) as fresh:
            assert fresh.lease is not None
            assert fresh.lease.token > frozen.lease.token
            with pytest.raises(LeaseLost):
                await frozen.keys.set(KEYS)
    assert (await erase()).removed["whatsapp_auth"] == 1
    assert not any((await erase()).removed.values())


async def test_erasing_says_so_when_a_client_writes_meanwhile(
    rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    async with use_supabase_auth_state(company_id, client=rest) as auth:
        await auth.keys.set(KEYS)

    async def write_meanwhile(seconds: float) -> None:
        db.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value) "
            "values (%s, 'session', '1.0', '{}')",
            [company_id],
        )
        db.execute(
            "update whatsapp_writers set lands_until = now() where company_id = %s", [company_id]
        )

    with pytest.raises(VerificationFailed, match="whatsapp_keys"):
        await erase_company(company_id, client=rest, sleep=write_meanwhile)


async def test_sealing_creds_anew_is_no_version(
    open_auth: OpenAuth, rest: Rest, db: psycopg.Connection[Any], company_id: str
) -> None:
    async with await open_auth() as auth:
        await save(auth, 31)
        device = db.execute(
            "select encode(sha256(convert_to((creds ->> 'registrationId') || ':' || "
            "(creds -> 'signedIdentityKey' -> 'public' ->> 'data'), 'UTF8')), 'base64') "
            "from whatsapp_auth where company_id = %s",
            [company_id],
        ).fetchone()
    assert len((await read_history(company_id, client=rest)).versions) == 1
    assert device is not None
    with db.transaction():
        db.execute("set local whatsapp_auth.reseal = 'on'")
        db.execute(
            "update whatsapp_auth set creds = jsonb_build_object('$sealed', 'k1', 'device', "
            "%s::text) where company_id = %s",
            [device[0], company_id],
        )
    assert len((await read_history(company_id, client=rest)).versions) == 1
    db.execute(
        'update whatsapp_auth set creds = creds || \'{"box": "other"}\' where company_id = %s',
        [company_id],
    )
    kept, earlier = (await read_history(company_id, client=rest)).versions
    assert kept.same_device is earlier.same_device is True
