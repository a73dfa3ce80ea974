"""Sealed companies between Python and examples/node with real Baileys, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state import (
    Settings,
    export_folder,
    import_folder,
    use_supabase_auth_state,
    verify_folder,
)
from supabase_auth_state.rest.client import using_rest
from supabase_auth_state.transfer.rekey import rekey_company
from tests.interop.account import Account
from tests.interop.node import NodeError
from tests.interop.samples import BAILEYS, sample_keys
from tests.sealing import K1, K2, OTHER_K1

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOLDER = BAILEYS / "v7-small"


@pytest.fixture
def sealed(stack: Any) -> Settings:
    return Settings(url=stack.url, key=stack.service_role_key, encryption=K1)


def values(db: Any, company_id: str) -> list[Any]:
    return [
        value
        for (value,) in db.execute(
            "select value from whatsapp_keys where company_id = %s union all "
            "select creds from whatsapp_auth where company_id = %s",
            [company_id, company_id],
        )
    ]


@pytest.mark.parametrize(("sample", "version"), [("v7-small", 7), ("v6-small", 6)])
async def test_what_python_sealed_is_opened_by_node(
    alice: Account, company_id: str, sealed: Settings, sample: str, version: int, tmp_path: Path
) -> None:
    await import_folder(BAILEYS / sample, company_id, settings=sealed, backup_dir=tmp_path)
    await alice.open("supabase", company=company_id, version=version, encryption=K1)
    creds = json.loads((BAILEYS / sample / "creds.json").read_text())
    assert await alice.call("creds") == creds
    for key_type, by_id in sample_keys(BAILEYS / sample).items():
        assert await alice.call("get", type=key_type, ids=[*by_id, "never-stored"]) == by_id


async def test_what_node_sealed_is_opened_by_python(
    alice: Account, db: Any, company_id: str, sealed: Settings, tmp_path: Path
) -> None:
    await alice.open("supabase", company=company_id, encryption=f"{K1},{K2}", lease=True)
    await alice.call("set", data=sample_keys(FOLDER))
    await alice.call("update-creds", update=json.loads((FOLDER / "creds.json").read_text()))
    await alice.call("close")
    assert all(value["$sealed"] == "k1" for value in values(db, company_id))
    assert (await verify_folder(FOLDER, company_id, settings=sealed)).identical
    await export_folder(tmp_path / "back", company_id, settings=sealed)
    await alice.open("folder", folder=str(tmp_path / "back"))
    assert await alice.call("creds") == json.loads((FOLDER / "creds.json").read_text())


async def test_a_conversation_goes_on_over_sealed_rows_while_they_are_rekeyed(
    alice: Account, bob: Account, db: Any, company_id: str, stack: Any
) -> None:
    keys = f"{K1},{K2}"
    await alice.open("supabase", company=company_id, encryption=keys, lease=True)
    await bob.meet(alice)
    await bob.tell(alice, "hello")
    settings = Settings(url=stack.url, key=stack.service_role_key, encryption=f"{K2},{K1}")
    for number in range(4):
        async with using_rest(settings) as rest:
            assert (await rekey_company(rest, company_id, open_all=number == 2)).left == {}
        await alice.tell(bob, f"{number} from alice")
        await bob.tell(alice, f"{number} from bob")
    await alice.call("close")
    async with use_supabase_auth_state(company_id, settings=settings) as auth:
        found = await auth.keys.get("session", ["15550100002.0"])
        assert found["15550100002.0"]["_sessions"]


@pytest.mark.parametrize("keys", [None, K2, OTHER_K1])
async def test_node_without_the_key_gets_an_error_and_replaces_nothing(
    alice: Account, db: Any, company_id: str, sealed: Settings, keys: str | None
) -> None:
    options = {} if keys is None else {"encryption": keys}
    await alice.open("supabase", company=company_id)
    await alice.call("set", data=sample_keys(FOLDER))
    await alice.call("close")
    async with using_rest(sealed) as rest:
        await rekey_company(rest, company_id)
    before = values(db, company_id)
    with pytest.raises(NodeError) as refused:
        await alice.open("supabase", company=company_id, **options)
    assert refused.value.code == "SEALED"
    assert values(db, company_id) == before


async def test_node_without_the_key_cannot_replace_a_row_that_was_sealed_behind_its_back(
    alice: Account, db: Any, company_id: str, sealed: Settings
) -> None:
    sessions = sample_keys(FOLDER)["session"]
    await alice.open("supabase", company=company_id)
    await alice.call("set", data={"session": sessions})
    async with using_rest(sealed) as rest:
        await rekey_company(rest, company_id)
    before = values(db, company_id)
    with pytest.raises(NodeError) as refused:
        await alice.call("set", data={"session": sessions})
    assert refused.value.code == "SEALED"
    with pytest.raises(NodeError) as unread:
        await alice.call("get", type="session", ids=list(sessions))
    assert unread.value.code == "SEALED"
    assert values(db, company_id) == before


@pytest.mark.parametrize(
    ("does", "code"),
    [
        ({"throws": "kms: k1 is c2VjcmV0"}, "UNAVAILABLE"),
        ({"returns": None}, "CONFIGURATION"),
        ({"returns": ""}, "CONFIGURATION"),
        ({"returns": 7}, "CONFIGURATION"),
    ],
)
async def test_a_function_that_gives_no_keys_opens_nothing(
    alice: Account, db: Any, company_id: str, does: dict[str, Any], code: str
) -> None:
    with pytest.raises(NodeError) as refused:
        await alice.open("supabase", company=company_id, encryption=does)
    assert refused.value.code == code
    assert "c2VjcmV0" not in refused.value.message
    assert values(db, company_id) == []
