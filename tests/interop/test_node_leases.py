"""examples/node owns its company: by the database's judgement, also when it does not know it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from supabase_auth_state import (
    CompanyQuarantined,
    Settings,
    restore_version,
    use_supabase_auth_state,
)
from tests.interop.account import ALICE, Account
from tests.interop.node import NodeError, NodePeer

SESSION = {"_sessions": {}, "version": "v1"}
WRITE = {"session": {"15550100002.0": SESSION}}


@pytest.fixture
async def alice(stack: Any) -> AsyncIterator[Account]:
    """An account in a process of its own, which may be frozen or killed."""
    async with NodePeer(stack.env()) as process:
        yield Account(process, ALICE)


@pytest.fixture
async def rival(stack: Any) -> AsyncIterator[Account]:
    """The same account in another process."""
    async with NodePeer(stack.env()) as process:
        yield Account(process, ALICE)


def let_the_lease_run_out(db: Any, company_id: str) -> None:
    db.execute("update whatsapp_leases set expires_at = now() where company_id = %s", [company_id])


def take_over(db: Any, company_id: str) -> None:
    """Own the company from now on, without a moment in which it could be renewed."""
    with db.transaction():
        let_the_lease_run_out(db, company_id)
        acquire = "select acquire_whatsapp_lease(%s, 'another', 3600) ->> 'token'"
        [token] = db.execute(acquire, [company_id]).fetchone()
    assert token == "2"


def count_keys(db: Any, company_id: str) -> Any:
    [count] = db.execute(
        "select count(*) from whatsapp_keys where company_id = %s", [company_id]
    ).fetchone()
    return count


async def test_a_second_process_is_refused_until_the_first_closes(
    alice: Account, rival: Account, company_id: str
) -> None:
    created = await alice.open("supabase", company=company_id, lease=True, owner="first process")
    with pytest.raises(NodeError, match="first process") as refused:
        await rival.open("supabase", company=company_id, lease=True)
    assert refused.value.code == "LEASE_HELD"
    await alice.call("close")
    assert await rival.open("supabase", company=company_id, lease=True) == created


async def test_a_device_that_node_has_logged_out_is_kept_and_no_new_one_is_made(
    alice: Account, rival: Account, settings: Settings, db: Any, company_id: str
) -> None:
    created = await alice.open("supabase", company=company_id, lease=True)
    await alice.call("set", data=WRITE)
    await alice.call("log-out")
    await alice.call("close-auth")
    for lease in (True, False):
        with pytest.raises(NodeError, match="logged out") as refused:
            await rival.open("supabase", company=company_id, lease=lease)
        assert refused.value.code == "LOGGED_OUT"
    with pytest.raises(CompanyQuarantined):
        await use_supabase_auth_state(company_id, settings=settings)
    assert count_keys(db, company_id) == 0
    await restore_version(company_id, settings=settings)
    assert await rival.open("supabase", company=company_id, lease=True) == created
    assert count_keys(db, company_id) == 1


async def test_a_process_without_a_lease_cannot_write_a_company_that_is_owned(
    alice: Account, rival: Account, db: Any, company_id: str
) -> None:
    await rival.open("supabase", company=company_id)
    await alice.open("supabase", company=company_id, lease=True)
    with pytest.raises(NodeError, match="lease") as refused:
        await rival.call("set", data=WRITE)
    assert refused.value.code == "LEASE_HELD"
    assert count_keys(db, company_id) == 0


async def test_a_process_that_was_frozen_and_replaced_cannot_write(
    alice: Account, rival: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True)
    await alice.call("requests")
    alice.node.process.send_signal(signal.SIGSTOP)
    let_the_lease_run_out(db, company_id)
    await rival.open("supabase", company=company_id, lease=True)
    alice.node.process.send_signal(signal.SIGCONT)

    with pytest.raises(NodeError) as refused:
        await alice.call("set", data=WRITE)
    assert refused.value.code == "LEASE_LOST"
    assert count_keys(db, company_id) == 0
    assert company_id in await alice.call("lease-lost")


async def test_after_the_loss_no_write_is_even_sent(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True)
    take_over(db, company_id)
    with pytest.raises(NodeError, match="taken over"):
        await alice.call("set", data=WRITE)
    await alice.call("requests")
    for op, arguments in (("set", {"data": WRITE}), ("update-creds", {"update": {}})):
        with pytest.raises(NodeError) as refused:
            await alice.call(op, **arguments)
        assert refused.value.code == "LEASE_LOST"
    assert await alice.call("requests") == []


async def test_renewal_in_the_background_notices_that_the_lease_is_lost(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True, leaseTtl=3)
    take_over(db, company_id)
    assert company_id in await alice.call("lease-lost")


async def test_a_renewal_without_an_answer_is_not_a_loss(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True, leaseTtl=3, giveUpAfter=0)
    lost = {"path": "rpc/renew_whatsapp_leases", "name": "lost-request"}
    await alice.call("fail", faults=[lost])
    await alice.call("met-faults")
    await alice.call("set", data=WRITE)
    assert count_keys(db, company_id) == 1


async def test_what_on_lease_lost_throws_ends_no_process_and_hides_no_error(
    alice: Account, db: Any, company_id: str
) -> None:
    other = Account(alice.node, "found out by a write")
    places = ((alice, company_id, 3), (other, f"{company_id}-other", 30))
    for account, company, ttl in places:
        await account.open("supabase", company=company, lease=True, leaseTtl=ttl, lossThrows=True)
        take_over(db, company)
    with pytest.raises(NodeError) as refused:
        await other.call("set", data=WRITE)
    assert refused.value.code == "LEASE_LOST"
    assert company_id in await alice.call("lease-lost")
    for account, company, _ in places:
        assert await account.call("get", type="session", ids=["1.0"]) == {}
        [loss] = await account.call("lease-losses")
        assert company in loss


async def test_a_company_whose_lease_is_lost_before_it_is_open_is_not_opened(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id)
    await alice.call("close")
    faults = [{"path": "rpc/fetch_whatsapp_creds", "name": "after-loss"}]
    place = {"company": company_id, "lease": True, "leaseTtl": 3, "faults": faults}
    opening = asyncio.create_task(alice.open("supabase", **place))
    while not db.execute(
        "select 1 from whatsapp_leases where company_id = %s and owner is not null", [company_id]
    ).fetchone():
        await asyncio.sleep(0.05)
    take_over(db, company_id)
    with pytest.raises(NodeError) as refused:
        await opening
    assert refused.value.code == "LEASE_LOST"


async def test_reading_after_closing_loses_no_lease(alice: Account, company_id: str) -> None:
    place = {"company": company_id, "giveUpAfter": 0, "timeout": 1000}
    await alice.open("supabase", lease=True, **place)
    await alice.call("fail", faults=[{"path": "whatsapp_keys", "name": "lost-request"}])
    with pytest.raises(NodeError):
        await alice.call("set", data=WRITE)
    await alice.call("close-auth")
    assert await alice.call("get", type="session", ids=["15550100002.0"]) == {}
    assert await alice.call("lease-losses") == []


async def test_a_lease_that_cannot_be_given_back_ends_by_itself(
    alice: Account, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True, giveUpAfter=0)
    await alice.call("fail", faults=[{"path": "rpc/release_whatsapp_lease", "name": "401"}])
    await alice.call("close-auth")


async def test_only_the_databases_own_answer_ends_a_release(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True)
    stranger = {"path": "rpc/release_whatsapp_lease", "name": "json", "status": 200, "body": True}
    await alice.call("fail", faults=[stranger])
    await alice.call("close-auth")
    [live] = db.execute("select whatsapp_lease_status(%s) ->> 'live'", [company_id]).fetchone()
    assert live == "false"


async def test_a_company_that_is_closed_is_not_opened_without_a_lease_either(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id)
    await alice.call("close")
    with db.transaction():
        db.execute("select set_config('whatsapp_auth.closing', %s, true)", [company_id])
        db.execute(
            "update whatsapp_leases set owner = 'arriving from https://a' where company_id = %s",
            [company_id],
        )
    with pytest.raises(NodeError, match="arriving from") as refused:
        await alice.open("supabase", company=company_id)
    assert refused.value.code == "LEASE_HELD"


FORGOTTEN = {
    "the number": "update whatsapp_writers set commit_no = 1 where company_id = %s",
    "the owner": "delete from whatsapp_leases where company_id = %s",
}


@pytest.mark.parametrize("what", FORGOTTEN)
async def test_an_owner_that_only_reads_stops_when_the_database_was_set_back(
    alice: Account, db: Any, company_id: str, what: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True, leaseTtl=3)
    db.execute(FORGOTTEN[what], [company_id])
    assert "set back" in await alice.call("lease-lost")
    for _ in range(2):
        with pytest.raises(NodeError) as refused:
            await alice.call("get", type="session", ids=["15550100002.0"])
        assert refused.value.code == "ROLLED_BACK"
    reported = "select whatsapp_lease_status(%s) ->> 'restored_at'"
    while db.execute(reported, [company_id]).fetchone() == (None,):
        await asyncio.sleep(0.05)


async def test_a_renewal_that_hangs_is_sent_again_before_the_lease_runs_out(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True, leaseTtl=6)
    renewals = "select renewed_at > acquired_at, lapses from whatsapp_leases where company_id = %s"
    await alice.call("fail", faults=[{"path": "rpc/renew_whatsapp_leases", "name": "hang"}])
    await alice.call("met-faults")
    while db.execute(renewals, [company_id]).fetchone() == (False, 0):
        await asyncio.sleep(0.1)
    assert db.execute(renewals, [company_id]).fetchone() == (True, 0)


async def test_a_lease_is_renewed_while_its_company_is_written(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True, leaseTtl=3)
    await alice.call("requests")
    expiry = "select expires_at from whatsapp_leases where company_id = %s"
    with db.transaction():
        [before] = db.execute(f"{expiry} for update", [company_id]).fetchone()
        while not any("renew" in one["path"] for one in await alice.call("requests")):
            await asyncio.sleep(0.05)
    while db.execute(expiry, [company_id]).fetchone() == (before,):
        await asyncio.sleep(0.05)
    assert await alice.call("lease-losses") == []


async def test_a_lease_that_ran_out_while_nobody_took_over_still_writes(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True)
    let_the_lease_run_out(db, company_id)
    await alice.call("set", data=WRITE)
    assert count_keys(db, company_id) == 1


async def test_the_same_owner_takes_over_from_its_dead_predecessor_at_once(
    alice: Account, rival: Account, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True, owner="pod-7")
    await alice.node.kill()
    await rival.open("supabase", company=company_id, lease=True, owner="pod-7")
    await rival.call("set", data=WRITE)


async def test_a_company_that_cannot_be_opened_is_not_kept_owned(
    alice: Account, db: Any, company_id: str
) -> None:
    db.execute(
        "insert into whatsapp_auth (company_id, creds, client_family) values (%s, '{}', 'waton')",
        [company_id],
    )
    with pytest.raises(NodeError, match="waton"):
        await alice.open("supabase", company=company_id, lease=True)
    [live] = db.execute("select whatsapp_lease_status(%s) ->> 'live'", [company_id]).fetchone()
    assert live == "false"
