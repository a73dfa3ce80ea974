"""The store on real PostgREST: what a WhatsApp client would believe of it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from supabase import acreate_client

from devstack import Stack
from supabase_auth_state import (
    AuthState,
    CodecError,
    FamilyMismatch,
    InvalidRequest,
    Settings,
    StoreUnavailable,
    UnreadKeyError,
    open_rest,
    use_supabase_auth_state,
)

ODD_IDS = [
    "",
    "a,b",
    'quote"quote',
    "single'quote",
    "paren(the)sis",
    "back\\slash",
    "slash/slash//",
    "percent%25%",
    "under_score__index",
    " spaces  inside ",
    "colon::colon:",
    "emoji 😀 é ß 漢字",
    "{curly},[square]",
    "*.star.*",
    "null",
    "tab\tnewline\n",
    "120363000000000010@g.us::200000000000100_1::0",
]


async def test_fresh_company_gets_creds_that_are_there_at_the_next_opening(open_auth: Any) -> None:
    first = await open_auth()
    second = await open_auth()
    assert first.creds == second.creds
    assert type(first.creds["noiseKey"]["private"]) is bytes


async def test_save_creds_stores_what_creds_are_now(open_auth: Any) -> None:
    auth = await open_auth()
    auth.creds["me"] = {"id": "15550100001:7@s.whatsapp.net", "name": 'Ünïcode "quoted" \\ 😀'}
    auth.creds["routingInfo"] = b"\x00\xff"
    await auth.save_creds()
    assert (await open_auth()).creds == auth.creds


async def test_absent_ids_are_absent(open_auth: Any) -> None:
    auth = await open_auth()
    await auth.keys.set({"session": {"1.0": {"a": 1}}})
    assert await auth.keys.get("session", ["1.0", "2.0"]) == {"1.0": {"a": 1}}
    assert await auth.keys.get("session", []) == {}


@pytest.mark.parametrize("value", [b"", "", 0, False, [], {}, [None], 1.5, "text", b"\x00bytes"])
async def test_only_none_deletes(open_auth: Any, value: Any) -> None:
    auth = await open_auth()
    await auth.keys.set({"some-future-type": {"id": value}})
    found = await auth.keys.get("some-future-type", ["id"])
    assert found == {"id": value}
    assert type(found["id"]) is type(value)
    await auth.keys.set({"some-future-type": {"id": None}})
    assert await auth.keys.get("some-future-type", ["id"]) == {}


async def test_deleting_what_is_not_there_succeeds(open_auth: Any) -> None:
    await (await open_auth()).keys.set({"pre-key": {"7": None}, "session": {}})


async def test_ids_of_any_characters_come_back(open_auth: Any) -> None:
    auth = await open_auth()
    values = {key_id: {"n": n} for n, key_id in enumerate(ODD_IDS)}
    await auth.keys.set({"sender-key-memory": values})
    assert await auth.keys.get("sender-key-memory", ODD_IDS) == values
    for key_id in ODD_IDS:
        assert await auth.keys.get("sender-key-memory", [key_id]) == {key_id: values[key_id]}


async def test_an_id_that_no_row_can_have_is_absent_and_cannot_be_set(open_auth: Any) -> None:
    auth = await open_auth()
    for key_id in ("nul\0", "surrogate\ud800", "x" * 3000):
        assert await auth.keys.get("sender-key", [key_id]) == {}
        with pytest.raises(CodecError, match="without NUL"):
            await auth.keys.set({"sender-key": {key_id: b"[]", "good": b"[]"}})
    assert await auth.keys.get("sender-key", ["good"]) == {}


async def test_three_thousand_keys_of_one_type_come_back(open_auth: Any) -> None:
    auth = await open_auth()
    keys = {str(n): {"private": os.urandom(32), "public": os.urandom(32)} for n in range(1, 3001)}
    await auth.keys.set({"pre-key": keys})
    assert await auth.keys.get("pre-key", list(keys)) == keys


async def test_250_sender_keys_in_one_get(open_auth: Any) -> None:
    auth = await open_auth()
    group = "120363000000000010@g.us"
    keys = {f"{group}::{200000000000000 + n}_1::{n % 100}": b"[%d]" % n for n in range(250)}
    await auth.keys.set({"sender-key": keys})
    assert await auth.keys.get("sender-key", list(keys)) == keys


async def test_a_large_value_comes_back(open_auth: Any) -> None:
    auth = await open_auth()
    value = b"[" + os.urandom(450_000)
    await auth.keys.set({"sender-key": {"120363000000000010@g.us::1::0": value}})
    found = await auth.keys.get("sender-key", ["120363000000000010@g.us::1::0"])
    assert found == {"120363000000000010@g.us::1::0": value}


async def test_set_is_all_or_nothing_when_the_database_refuses_one_value(
    open_auth: Any, db: psycopg.Connection[Any], company_id: str, refuse_id: Callable[[str], None]
) -> None:
    auth = await open_auth()
    await auth.keys.set(
        {"pre-key": {str(n): pair() for n in range(20)}, "session": {"1.0": {"v": 0}}}
    )
    refuse_id("refused")
    mixed: dict[str, dict[str, Any]] = {
        "pre-key": {str(n): None for n in range(20)} | {str(n): pair() for n in range(20, 60)},
        "session": {f"{n}.0": {"v": 1} for n in range(40)},
        "sender-key": {f"g{n}@g.us::1::0": b"[]" for n in range(49)},
        "lid-mapping": {"refused": "200000000000100"},
    }
    assert sum(map(len, mixed.values())) == 150
    before = rows(db, company_id)
    with pytest.raises(InvalidRequest):
        await auth.keys.set(mixed)
    assert rows(db, company_id) == before
    mixed["lid-mapping"] = {"15550100001": "200000000000100"}
    await auth.keys.set(mixed)
    assert len(rows(db, company_id)) == 150 - 20


async def test_a_poisoned_value_takes_no_neighbour_down(
    open_auth: Any, refuse_id: Callable[[str], None]
) -> None:
    auth = await open_auth()
    refuse_id("refused")
    results = await asyncio.gather(
        auth.keys.set({"session": {"1.0": {"n": 1}}}),
        auth.keys.set({"session": {"refused": {"n": 2}, "2.0": {"n": 2}}}),
        auth.keys.set({"session": {"1.0": {"n": 3}}}),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), InvalidRequest, type(None)]
    assert await auth.keys.get("session", ["1.0", "2.0"]) == {"1.0": {"n": 3}}


async def test_the_last_of_many_unawaited_writes_wins(open_auth: Any) -> None:
    auth = await open_auth()
    await asyncio.gather(*(auth.keys.set({"session": {"1.0": {"n": n}}}) for n in range(50)))
    assert await auth.keys.get("session", ["1.0"]) == {"1.0": {"n": 49}}


async def test_clear_deletes_the_keys_of_this_company_alone(
    open_auth: Any, company_id: str
) -> None:
    auth, other = await open_auth(), await open_auth(company_id + "-other")
    for state in (auth, other):
        await state.keys.set({"session": {"1.0": {}}, "pre-key": {"1": pair()}})
    await auth.keys.clear()
    assert await auth.keys.get("session", ["1.0"]) == {}
    assert await other.keys.get("session", ["1.0"]) == {"1.0": {}}
    assert (await open_auth()).creds == auth.creds


async def test_an_unreadable_row_is_an_error_and_cannot_be_overwritten(
    open_auth: Any, db: psycopg.Connection[Any], company_id: str
) -> None:
    auth = await open_auth()
    await auth.keys.set({"pre-key": {"1": pair()}})
    insert(db, company_id, "pre-key", "2", '"[object Object]"')
    with pytest.raises(CodecError, match="'2'"):
        await auth.keys.get("pre-key", ["1", "2"])
    with pytest.raises(UnreadKeyError):
        await auth.keys.set({"pre-key": {"2": pair()}})
    with pytest.raises(UnreadKeyError):
        await auth.keys.set({"pre-key": {"1": None}})
    assert list(await auth.keys.get("pre-key", ["1"])) == ["1"]
    await auth.keys.set({"pre-key": {"1": None}})
    db.execute(
        "update whatsapp_keys set value = '{}' where company_id = %s and key_id = '2'", [company_id]
    )
    with pytest.raises(CodecError):
        await auth.keys.get("pre-key", ["2"])


@pytest.mark.parametrize("number", ["1180591620717411303425", "-18446744073709551617"])
async def test_a_number_that_cannot_be_read_exactly_is_an_error(
    open_auth: Any, db: psycopg.Connection[Any], company_id: str, number: str
) -> None:
    auth = await open_auth()
    insert(db, company_id, "of the future", "1", f'{{"n": [{number}]}}')
    with pytest.raises(CodecError, match=r"at n\.0"):
        await auth.keys.get("of the future", ["1"])


async def test_unreadable_creds_are_an_error_and_stay(
    settings: Settings, db: psycopg.Connection[Any], company_id: str
) -> None:
    db.execute(
        "insert into whatsapp_auth (company_id, creds) values (%s, %s)",
        [company_id, '{"noiseKey": 5}'],
    )
    with pytest.raises(CodecError):
        await use_supabase_auth_state(company_id, settings=settings)
    row = db.execute(
        "select creds from whatsapp_auth where company_id = %s", [company_id]
    ).fetchone()
    assert row == ({"noiseKey": 5},)


async def test_a_mismatching_family_is_refused_and_named(
    settings: Settings, open_auth: Any, company_id: str
) -> None:
    await open_auth(family="pyaileys", new_creds=lambda: {"noise_key": b"\x01"})
    with pytest.raises(FamilyMismatch, match=r"'pyaileys'.*'baileys'"):
        await use_supabase_auth_state(company_id, settings=settings)


async def test_two_tasks_that_start_a_company_get_one_identity(
    settings: Settings, open_auth: Any
) -> None:
    states = await asyncio.gather(*(open_auth() for _ in range(8)))
    assert all(state.creds == states[0].creds for state in states)


def test_two_processes_that_start_a_company_get_one_identity(stack: Stack, company_id: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        seen = pool.map(registration_of, [(stack.url, stack.service_role_key, company_id)] * 2)
    assert seen[0] == seen[1]


def registration_of(where: tuple[str, str, str]) -> bytes:
    url, key, company = where

    async def read() -> bytes:
        async with use_supabase_auth_state(company, settings=Settings(url=url, key=key)) as auth:
            return bytes(auth.creds["noiseKey"]["private"])

    return asyncio.run(read())


async def test_values_belong_to_the_caller(open_auth: Any) -> None:
    auth = await open_auth(lease=True)
    mine = {"list": [1]}
    await auth.keys.set({"device-list": {"1": ["0"]}, "session": {"1.0": mine}})
    mine["list"].append(2)
    for _ in range(3):
        found = await auth.keys.get("session", ["1.0"])
        assert found == {"1.0": {"list": [1]}}
        found["1.0"]["list"].append(3)
        (await auth.keys.get("device-list", ["1"]))["1"].append("12")
    assert await auth.keys.get("device-list", ["1"]) == {"1": ["0"]}


async def test_new_secret_key_works_like_the_service_role_jwt(
    stack: Stack, company_id: str
) -> None:
    settings = Settings(url=stack.url, key=stack.secret_key)
    async with use_supabase_auth_state(company_id, settings=settings) as auth:
        await auth.keys.set({"session": {"1.0": {"n": 1}}})
        assert await auth.keys.get("session", ["1.0"]) == {"1.0": {"n": 1}}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # supabase's own use of postgrest
async def test_a_supabase_client_of_the_users_own_is_used_and_left_open(
    stack: Stack, company_id: str
) -> None:
    client = await acreate_client(stack.url, stack.service_role_key)
    async with use_supabase_auth_state(company_id, client=client) as auth:
        await auth.keys.set({"session": {"1.0": {"n": 1}}})
    rows_seen = (
        await client.table("whatsapp_keys").select("key_id").eq("company_id", company_id).execute()
    )
    assert rows_seen.data == [{"key_id": "1.0"}]
    await client.postgrest.aclose()


async def test_many_companies_share_one_rest(settings: Settings, company_id: str) -> None:
    rest = open_rest(settings)
    states = await asyncio.gather(
        *(use_supabase_auth_state(f"{company_id}-{n}", client=rest) for n in range(10))
    )
    await asyncio.gather(
        *(state.keys.set({"session": {"1.0": {"n": n}}}) for n, state in enumerate(states))
    )
    found = await asyncio.gather(*(state.keys.get("session", ["1.0"]) for state in states))
    assert found == [{"1.0": {"n": n}} for n in range(10)]
    for state in states:
        await state.close()
    await rest.about("whatsapp_lease_status", company_id)
    await rest.close()


async def test_a_database_that_is_away_is_not_an_empty_one(
    fresh_stack: Any, company_id: str
) -> None:
    stack = fresh_stack(migrate=True)
    settings = Settings(url=stack.url, key=stack.service_role_key, timeout=2, give_up_after=0.3)
    auth = await use_supabase_auth_state(company_id, settings=settings)
    await auth.keys.set({"session": {"1.0": {"n": 1}}})
    stack.postgrest.stop()
    with pytest.raises(StoreUnavailable):
        await auth.keys.get("session", ["1.0"])
    with pytest.raises(StoreUnavailable):
        await use_supabase_auth_state(company_id + "-new", settings=settings)
    with pytest.raises(UnreadKeyError):
        await auth.keys.set({"session": {"1.0": {"n": 2}}})
    with pytest.raises(StoreUnavailable):
        await auth.keys.set({"session": {"2.0": {"n": 2}}})
    stack.postgrest.start()
    assert await eventually_get(auth) == {"1.0": {"n": 1}}
    await auth.keys.set({"session": {"1.0": {"n": 2}}})
    await auth.close()


async def eventually_get(auth: AuthState) -> dict[str, Any]:
    for _ in range(200):
        try:
            return await auth.keys.get("session", ["1.0"])
        except StoreUnavailable:
            await asyncio.sleep(0.1)
    raise AssertionError("the database did not come back")


async def test_an_outage_shorter_than_the_patience_is_not_noticed(
    fresh_stack: Any, company_id: str
) -> None:
    stack = fresh_stack(migrate=True)
    settings = Settings(url=stack.url, key=stack.service_role_key, timeout=5, give_up_after=60)
    async with use_supabase_auth_state(company_id, settings=settings) as auth:
        await auth.keys.set({"session": {"1.0": {"n": 1}}})
        stack.postgrest.stop()
        reading = asyncio.create_task(auth.keys.get("session", ["1.0"]))
        writing = asyncio.create_task(auth.keys.set({"session": {"2.0": {"n": 2}}}))
        await asyncio.to_thread(stack.postgrest.start)
        assert await reading == {"1.0": {"n": 1}}
        await writing
        assert await auth.keys.get("session", ["2.0"]) == {"2.0": {"n": 2}}


def pair() -> dict[str, bytes]:
    return {"private": os.urandom(32), "public": os.urandom(32)}


def insert(
    db: psycopg.Connection[Any], company: str, key_type: str, key_id: str, value: str
) -> None:
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value) values (%s, %s, %s, %s)",
        [company, key_type, key_id, value],
    )


def rows(db: psycopg.Connection[Any], company: str) -> list[tuple[Any, ...]]:
    return db.execute(
        "select key_type, key_id, value, updated_at, expires_at, xmin from whatsapp_keys "
        "where company_id = %s order by 1, 2",
        [company],
    ).fetchall()


@pytest.fixture
def refuse_id(db: psycopg.Connection[Any], company_id: str) -> Iterator[Callable[[str], None]]:
    """Let the database refuse an id of the company, as a rule of the user's own might."""
    name = f"refuse_{company_id.replace('-', '_')}"

    def refuse(key_id: str) -> None:
        db.execute(
            f"alter table whatsapp_keys add constraint {name} "
            f"check (not (company_id = '{company_id}' and key_id = '{key_id}'))"
        )

    yield refuse
    db.execute(f"alter table whatsapp_keys drop constraint if exists {name}")


def session(*base_keys: str) -> dict[str, Any]:
    return {"_sessions": {key: {"registrationId": 1} for key in base_keys}, "version": "v1"}


@pytest.mark.parametrize("lease", [False, True])
async def test_after_a_failed_read_no_session_is_replaced_by_a_stranger(
    open_auth: Any, db: psycopg.Connection[Any], company_id: str, lease: bool
) -> None:
    """Baileys reads the mapping first, and takes its failure for "no session" too."""
    auth = await open_auth(lease=lease)
    await auth.keys.set({"session": {"2_1.0": session("old")}, "lid-mapping": {"9": "2"}})
    with db.transaction():
        db.execute("set local whatsapp_auth.maintenance = 'on'")
        db.execute("insert into whatsapp_keys values (%s, 'lid-mapping', '1', '5')", [company_id])
    with pytest.raises(CodecError):
        await auth.keys.get("lid-mapping", ["1"])
    with pytest.raises(UnreadKeyError, match="2_1"):
        await auth.keys.set({"session": {"2_1.0": session("new")}, "pre-key": {"7": None}})
    await auth.keys.set({"session": {"2_1.0": session("new", "old"), "3_1.0": session("first")}})
    await auth.keys.set({"session": {"2_1.0": None}})
    await auth.keys.set({"session": {"2_1.0": session("stranger")}})
    assert await auth.keys.get("session", ["2_1.0"]) == {"2_1.0": session("stranger")}


async def test_without_a_failed_read_a_session_may_be_replaced(open_auth: Any) -> None:
    auth = await open_auth()
    await auth.keys.set({"session": {"2_1.0": session("old")}})
    await auth.keys.set({"session": {"2_1.0": session("new")}})
    assert await auth.keys.get("session", ["2_1.0"]) == {"2_1.0": session("new")}
