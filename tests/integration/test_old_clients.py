"""Version 0.2 and this one share a company, by leases in both directions and without any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from supabase_auth_state import LeaseHeld, LeaseLost, Settings, use_supabase_auth_state
from tests.integration.conftest import OpenAuth, StartReleased


async def test_a_lease_of_one_is_a_lease_for_the_other(
    released: StartReleased, open_auth: OpenAuth
) -> None:
    old = await released("lease")
    assert await old.answer() == "open 0.2.0"
    await old("set", {"session": {"1.0": {"by": "old"}}})
    with pytest.raises(LeaseHeld):
        await open_auth(lease=True)
    await old("count", 31)
    await old("close")

    new = await open_auth(lease=True)
    assert new.creds["nextPreKeyId"] == 31
    assert await new.keys.get("session", ["1.0"]) == {"1.0": {"by": "old"}}
    await new.keys.set({"session": {"1.0": {"by": "new"}}, "pre-key": {"1": None}})
    assert await (await released("lease")).answer() == "LeaseHeld"
    await new.close()

    again = await released("lease")
    assert await again.answer() == "open 0.2.0"
    assert await again("get", "session", ["1.0"]) == {"1.0": {"by": "new"}}


async def test_an_owner_of_the_old_version_that_was_overtaken_writes_nothing(
    released: StartReleased, open_auth: OpenAuth, company_id: str, db: psycopg.Connection[Any]
) -> None:
    old = await released("lease")
    assert await old.answer() == "open 0.2.0"
    await old("set", {"session": {"1.0": {"by": "old"}}})
    end_lease(db, company_id)
    new = await open_auth(lease=True)
    await new.keys.set({"session": {"1.0": {"by": "new"}}})
    assert await old("set", {"session": {"1.0": {"by": "old"}}}) == "LeaseLost"
    assert await old("count", 99) == "LeaseLost"
    assert await new.keys.get("session", ["1.0"]) == {"1.0": {"by": "new"}}
    assert stored(db, company_id) == [{"by": "new"}]


async def test_an_owner_of_this_version_that_was_overtaken_by_the_old_one_writes_nothing(
    released: StartReleased, open_auth: OpenAuth, company_id: str, db: psycopg.Connection[Any]
) -> None:
    new = await open_auth(lease=True)
    await new.keys.set({"session": {"1.0": {"by": "new"}}})
    end_lease(db, company_id)
    old = await released("lease")
    assert await old.answer() == "open 0.2.0"
    assert await old("set", {"session": {"1.0": {"by": "old"}}}) is None
    with pytest.raises(LeaseLost):
        await new.keys.set({"session": {"1.0": {"by": "new"}}})
    assert await old("get", "session", ["1.0"]) == {"1.0": {"by": "old"}}
    assert stored(db, company_id) == [{"by": "old"}]


async def test_without_leases_each_sees_what_the_other_wrote(
    released: StartReleased, open_auth: OpenAuth
) -> None:
    old, new = await released(), await open_auth()
    assert await old.answer() == "open 0.2.0"
    await old("set", {"session": {"1.0": {"by": "old"}}})
    assert await new.keys.get("session", ["1.0"]) == {"1.0": {"by": "old"}}
    await new.keys.set({"session": {"1.0": {"by": "new"}}})
    assert await old("get", "session", ["1.0"]) == {"1.0": {"by": "new"}}


def end_lease(db: psycopg.Connection[Any], company_id: str) -> None:
    """Let a lease run out, as it does when its owner's process stands still."""
    db.execute(
        "update whatsapp_leases set expires_at = clock_timestamp() where company_id = %s",
        [company_id],
    )


def stored(db: psycopg.Connection[Any], company_id: str) -> list[Any]:
    rows = db.execute(
        "select value from whatsapp_keys where company_id = %s and key_type = 'session'",
        [company_id],
    )
    return [value for (value,) in rows]


async def test_a_client_that_knows_no_sealed_values_sees_none(
    released: StartReleased, settings: Settings, company_id: str
) -> None:
    sealed = replace(settings, encryption="k1:" + "A" * 43 + "=")
    async with use_supabase_auth_state(company_id, settings=settings) as plain:
        await plain.keys.set({"session": {"1.0": {"by": "new"}, "2.0": {"by": "new"}}})
    old = await released()
    assert await old.answer() == "open 0.2.0"
    async with use_supabase_auth_state(company_id, settings=sealed) as new:
        await new.keys.set({"session": {"1.0": {"by": "new", "sealed": True}}})
        # A read that is refused is no answer to it, so it does not replace what it cannot read.
        assert await old("get", "session", ["1.0"]) == "WriteRefused"
        assert await old("set", {"session": {"1.0": {"by": "old"}}}) == "UnreadKeyError"
        assert await old("get", "session", ["2.0"]) == {"2.0": {"by": "new"}}
        await new.save_creds()
        assert await old("count", 31) == "WriteRefused"
        opening = await released()
        assert await opening.answer() == "CodecError"
        assert await new.keys.get("session", ["1.0"]) == {"1.0": {"by": "new", "sealed": True}}
    async with use_supabase_auth_state(company_id, settings=sealed, create=False) as again:
        assert again.creds == plain.creds
