"""examples/node owns its company: by the database's judgement, also when it does not know it."""

from __future__ import annotations

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
    lost = {"path": "rpc/renew_whatsapp_lease", "name": "lost-request"}
    await alice.call("fail", faults=[lost])
    await alice.call("met-faults")
    await alice.call("set", data=WRITE)
    assert count_keys(db, company_id) == 1


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
