"""Real Baileys talks to real Baileys; one side lives on the database and starts anew each turn."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.account import ALICE, Account

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACES = pytest.mark.parametrize(
    ("version", "cache"), [(7, True), (7, False), (6, True)], ids=["v7", "v7 without cache", "v6"]
)


@PLACES
async def test_a_direct_conversation_goes_on_from_the_database(
    alice: Account, bob: Account, company_id: str, version: int, cache: bool
) -> None:
    place = {"company": company_id, "lease": True, "version": version, "cache": cache}
    await alice.open("supabase", **place)
    await bob.meet(alice)
    for turn in range(4):
        await bob.tell(alice, f"question {turn}")
        await alice.call("close")
        await alice.open("supabase", **place)
        await alice.tell(bob, f"answer {turn}")


@PLACES
async def test_a_group_conversation_goes_on_from_the_database(
    alice: Account, bob: Account, company_id: str, version: int, cache: bool
) -> None:
    place = {"company": company_id, "lease": True, "version": version, "cache": cache}
    await alice.open("supabase", **place)
    await alice.invite(bob)
    await bob.invite(alice)
    for turn in range(4):
        await bob.tell_group(alice, f"question {turn}")
        await alice.call("close")
        await alice.open("supabase", **place)
        await alice.tell_group(bob, f"answer {turn}")


async def test_a_first_message_stores_its_session_and_uses_up_its_pre_key_in_one_request(
    alice: Account, bob: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id)
    await bob.meet(alice)
    await alice.call("requests")
    message = await bob.call("encrypt", jid=ALICE, text="first")
    assert await alice.call("decrypt", jid=bob.jid, **message) == "first"
    writes = [one["rows"] for one in await alice.call("requests") if one["path"] == "whatsapp_keys"]
    assert writes == [1, 2]  # Baileys 7 stores the identity before it decrypts
    stored = db.execute(
        "select key_type from whatsapp_keys where company_id = %s order by 1", [company_id]
    )
    assert stored.fetchall() == [("identity-key",), ("session",)]
