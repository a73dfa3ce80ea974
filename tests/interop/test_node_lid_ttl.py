"""A seven-day life for lid-mapping rows that breaks no conversation, shown with real Baileys 7."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.interop.account import BOB, Account

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOB_LID = "200000000000002@lid"
STRANGER = "15550109999@s.whatsapp.net"
STRANGER_LID = "200000000009999@lid"
MAPPINGS = [{"pn": BOB, "lid": BOB_LID}, {"pn": STRANGER, "lid": STRANGER_LID}]


def clean_up_long_after(db: Any, company_id: str) -> None:
    """Let the time of every mapping be over, and clean up until nothing is left to do."""
    db.execute(
        "update whatsapp_keys set expires_at = now() - interval '30 days'"
        " where company_id = %s and key_type = 'lid-mapping'",
        [company_id],
    )
    while db.execute("select cleanup_expired_whatsapp_keys()").fetchone()[0]:
        pass


def mapping_ids(db: Any, company_id: str) -> set[str]:
    rows = db.execute(
        "select key_id from whatsapp_keys where company_id = %s and key_type = 'lid-mapping'",
        [company_id],
    )
    return {key_id for (key_id,) in rows}


@pytest_asyncio.fixture(loop_scope="module")
async def conversation(alice: Account, bob: Account, company_id: str) -> Account:
    """Alice has talked to Bob, whose session lives at his LID, and has only seen a stranger."""
    await alice.open("supabase", company=company_id)
    await alice.call("store-lid", pairs=MAPPINGS)
    await alice.meet(bob)
    await alice.tell(bob, "before")
    found = await alice.call("get", type="session", ids=["200000000000002_1.0", "15550100002.0"])
    assert list(found) == ["200000000000002_1.0"]
    await alice.call("close")
    return alice


async def test_a_contact_with_a_session_is_still_reached_by_phone_number_after_clean_up(
    conversation: Account, bob: Account, db: Any, company_id: str
) -> None:
    clean_up_long_after(db, company_id)
    assert mapping_ids(db, company_id) == {"15550100002", "200000000000002_reverse"}
    await conversation.open("supabase", company=company_id)
    await conversation.tell(bob, "after")
    await bob.tell(conversation, "welcome back")
    assert await conversation.call("pn-for-lid", lid=BOB_LID) == "15550100002:0@s.whatsapp.net"


async def test_a_pair_that_nobody_needs_goes_in_both_directions(
    conversation: Account, db: Any, company_id: str
) -> None:
    clean_up_long_after(db, company_id)
    await conversation.open("supabase", company=company_id)
    assert await conversation.call("lid-for-pn", pn=STRANGER) is None
    assert await conversation.call("pn-for-lid", lid=STRANGER_LID) is None
    await conversation.call("store-lid", pairs=MAPPINGS[1:])
    assert mapping_ids(db, company_id) >= {"15550109999", "200000000009999_reverse"}


async def test_a_mapping_that_baileys_read_since_is_kept(
    conversation: Account, db: Any, company_id: str
) -> None:
    db.execute("update whatsapp_keys set expires_at = now() where company_id = %s", [company_id])
    await conversation.open("supabase", company=company_id)
    assert await conversation.call("lid-for-pn", pn=STRANGER) == STRANGER_LID
    assert db.execute("select cleanup_expired_whatsapp_keys()").fetchone() is not None
    assert {"15550109999", "200000000009999_reverse"} <= mapping_ids(db, company_id)


async def test_deleting_the_pair_as_a_plain_ttl_would_makes_the_contact_unreachable(
    conversation: Account, db: Any, company_id: str
) -> None:
    db.execute(
        "delete from whatsapp_keys where company_id = %s and key_type = 'lid-mapping'", [company_id]
    )
    await conversation.open("supabase", company=company_id)
    with pytest.raises(Exception, match="No sessions"):
        await conversation.call("encrypt", jid=BOB, text="are you there?")
