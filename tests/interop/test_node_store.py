"""examples/node on the real tables: what is stored, in how many requests, and what comes back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.interop.account import ALICE, Account
from tests.interop.node import NodeError, NodePeer
from tests.interop.samples import SAMPLES, sample_keys

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAIR = {
    half: {"type": "Buffer", "data": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
    for half in ("private", "public")
}
SESSION = {"_sessions": {}, "version": "v1"}


def stored_keys(db: Any, company_id: str) -> dict[str, dict[str, Any]]:
    """Give the values of a company as they stand in the table, by type and id."""
    rows = db.execute(
        "select key_type, key_id, value from whatsapp_keys where company_id = %s", [company_id]
    )
    stored: dict[str, dict[str, Any]] = {}
    for key_type, key_id, value in rows:
        stored.setdefault(key_type, {})[key_id] = value
    return stored


async def test_processes_that_start_at_once_get_the_same_new_creds(
    stack: Any, db: Any, company_id: str
) -> None:
    names = [f"party-{number}" for number in range(4)]
    opening = [
        {"op": "open", "party": name, "kind": "supabase", "company": company_id} for name in names
    ]
    async with NodePeer(stack.env()) as first, NodePeer(stack.env()) as second:
        opened = await asyncio.gather(first.together(*opening), second.together(*opening))
    identities = {creds["identity"] for process in opened for creds in process}
    [(creds, family)] = db.execute(
        "select creds, client_family from whatsapp_auth where company_id = %s", [company_id]
    ).fetchall()
    assert identities == {creds["signedIdentityKey"]["public"]["data"]}
    assert family == "baileys"


@pytest.mark.parametrize(("sample", "version"), SAMPLES)
async def test_every_value_of_a_real_folder_comes_back_as_it_was(
    alice: Account, db: Any, company_id: str, sample: Path, version: int
) -> None:
    keys = sample_keys(sample)
    creds = json.loads((sample / "creds.json").read_text())
    await alice.open("supabase", company=company_id, version=version)
    await alice.call("set", data=keys)
    await alice.call("update-creds", update=creds)

    assert stored_keys(db, company_id) == keys
    for key_type, values in keys.items():
        found = await alice.call("get", type=key_type, ids=[*values, "never-stored"])
        assert found == values
    await alice.call("close")
    await alice.open("supabase", company=company_id, version=version)
    assert await alice.call("creds") == creds


async def test_values_and_deletions_of_one_set_are_one_request(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id)
    await alice.call("set", data={"pre-key": {"1": PAIR, "2": PAIR}})
    await alice.call("requests")
    data = {"session": {"15550100002.0": SESSION}, "pre-key": {"1": None, "never-stored": None}}
    await alice.call("set", data=data)
    [request] = await alice.call("requests")
    assert (request["method"], request["path"], request["rows"]) == ("POST", "whatsapp_keys", 3)
    assert stored_keys(db, company_id) == {
        "session": {"15550100002.0": SESSION},
        "pre-key": {"2": PAIR},
    }


async def test_falsy_values_delete_and_empty_ones_are_stored(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id)
    empty: dict[str, Any] = {"a@g.us": {}, "b@g.us": {}, "c@g.us": {}}
    await alice.call("set", data={"sender-key-memory": empty, "device-list": {"1": []}})
    await alice.call("set", data={"sender-key-memory": {"a@g.us": 0, "b@g.us": ""}})
    assert stored_keys(db, company_id) == {
        "sender-key-memory": {"c@g.us": {}},
        "device-list": {"1": []},
    }


async def test_nothing_is_stored_of_a_set_that_the_database_refuses(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id)
    await alice.call("set", data={"pre-key": {"1": PAIR}})
    hostile = {"pre-key": {"1": None}, "session": {"15550100002.0": SESSION, "nul\0": SESSION}}
    with pytest.raises(NodeError) as refused:
        await alice.call("set", data=hostile)
    assert refused.value.code == "REFUSED"
    assert stored_keys(db, company_id) == {"pre-key": {"1": PAIR}}


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["nul", "lone surrogate"])
async def test_text_that_jsonb_refuses_is_an_error_that_names_the_key(
    alice: Account, db: Any, company_id: str, text: str
) -> None:
    await alice.open("supabase", company=company_id)
    with pytest.raises(NodeError) as refused:
        await alice.call("set", data={"session": {"1.0": SESSION, "2.0": {"text": text}}})
    assert refused.value.code == "DAMAGED"
    assert company_id in refused.value.message
    assert "session 2.0" in refused.value.message
    assert stored_keys(db, company_id) == {}


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["nul", "lone surrogate"])
async def test_a_display_name_that_jsonb_refuses_keeps_no_creds_from_being_stored(
    alice: Account, db: Any, company_id: str, text: str
) -> None:
    await alice.open("supabase", company=company_id)
    me = {"id": "15550100001:7@s.whatsapp.net", "name": text, "notify": "b"}
    await alice.call("update-creds", update={"me": me, "nextPreKeyId": 31})
    (stored,) = db.execute(
        "select creds from whatsapp_auth where company_id = %s", [company_id]
    ).fetchone()
    assert stored["me"] == {**me, "name": "a\ufffdb"}
    assert stored["nextPreKeyId"] == 31


async def test_a_pre_key_upload_is_written_and_read_in_one_request_each(
    alice: Account, company_id: str
) -> None:
    await alice.open("supabase", company=company_id)
    pre_keys = {str(number): PAIR for number in range(1, 1813)}
    await alice.call("requests")
    await alice.call("set", data={"pre-key": pre_keys})
    assert await alice.call("get", type="pre-key", ids=[*pre_keys, *pre_keys]) == pre_keys
    assert len(await alice.call("requests")) == 2


async def test_reading_no_ids_asks_nobody(alice: Account, company_id: str) -> None:
    await alice.open("supabase", company=company_id)
    await alice.call("requests")
    assert await alice.call("get", type="session", ids=[]) == {}
    await alice.call("set", data={"session": {}})
    assert await alice.call("requests") == []


async def test_a_company_of_another_client_family_is_refused(
    alice: Account, db: Any, company_id: str
) -> None:
    db.execute(
        "insert into whatsapp_auth (company_id, creds, client_family) values (%s, '{}', %s)",
        [company_id, "pyaileys"],
    )
    with pytest.raises(NodeError, match=r'"pyaileys".*"baileys"') as refused:
        await alice.open("supabase", company=company_id)
    assert refused.value.code == "FAMILY_MISMATCH"


async def test_creds_that_lost_their_buffers_are_refused_before_baileys_sees_them(
    alice: Account, company_id: str
) -> None:
    await alice.open("plain-json", company=company_id)
    await alice.call("close")
    with pytest.raises(NodeError, match="doctor") as refused:
        await alice.open("supabase", company=company_id)
    assert refused.value.code == "DAMAGED"


DAMAGED: list[tuple[str, Any]] = [
    ("pre-key", {"private": PAIR["private"], "public": {"0": 1, "2": 3}}),
    ("pre-key", {"private": PAIR["private"]}),
    ("identity-key", {"type": "Buffer", "data": "QlFZPQ=="}),
    ("sender-key", {"type": "Buffer", "data": {}}),
    ("tctoken", {"token": "AAEC", "timestamp": "1"}),
    ("app-state-sync-version", {"version": 1, "hash": PAIR["public"], "indexValueMap": {}}),
    ("app-state-sync-key", {"keyData": {"bytes": 1}, "timestamp": "1"}),
    ("app-state-sync-key", {"keyData": "not base64", "timestamp": "1"}),
]


@pytest.mark.parametrize(("key_type", "value"), DAMAGED)
@pytest.mark.parametrize("version", [7, 6])
async def test_a_damaged_value_is_an_error_that_names_it(
    alice: Account, db: Any, company_id: str, version: int, key_type: str, value: Any
) -> None:
    await alice.open("supabase", company=company_id, version=version)
    insert = (
        "insert into whatsapp_keys (company_id, key_type, key_id, value) values (%s, %s, 'x', %s)"
    )
    db.execute(insert, [company_id, key_type, json.dumps(value)])
    with pytest.raises(NodeError) as refused:
        await alice.call("get", type=key_type, ids=["x"])
    assert refused.value.code == "DAMAGED"
    assert f"{key_type} x" in refused.value.message
    assert company_id in refused.value.message


async def test_clear_removes_the_keys_of_this_company_only(
    alice: Account, bob: Account, db: Any, company_id: str
) -> None:
    other = Account(alice.node, "other")
    for account, company in ((alice, company_id), (other, f"{company_id}-other")):
        await account.open("supabase", company=company)
        await account.call("set", data={"session": {"1.0": SESSION}})
    await alice.call("clear")
    assert stored_keys(db, company_id) == {}
    assert stored_keys(db, f"{company_id}-other") == {"session": {"1.0": SESSION}}


async def test_a_write_after_close_is_refused(alice: Account, db: Any, company_id: str) -> None:
    await alice.open("supabase", company=company_id)
    results = await alice.node.together(
        {"op": "set", "party": ALICE, "data": {"session": {"1.0": SESSION}}},
        {"op": "close-auth", "party": ALICE},
        {"op": "set", "party": ALICE, "data": {"session": {"2.0": SESSION}}},
    )
    assert results[:2] == [None, None]
    assert isinstance(results[2], NodeError)
    assert results[2].code == "CLOSED"
    assert stored_keys(db, company_id) == {"session": {"1.0": SESSION}}
