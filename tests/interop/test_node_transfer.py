"""Real Baileys goes on with its conversations after its company has moved to another project."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from devstack import LocalStack, Stack
from supabase_auth_state import Settings, transfer_company
from tests.interop.account import ALICE, Account
from tests.interop.node import NodeError, NodePeer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def other(local_stack: LocalStack) -> Iterator[LocalStack]:
    """Another project."""
    with local_stack.fresh(migrate=True) as fresh:
        yield fresh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(stack: Stack) -> AsyncIterator[NodePeer]:
    """A Node process for the first project."""
    async with NodePeer(stack.env()) as peer:
        yield peer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node_there(other: LocalStack) -> AsyncIterator[NodePeer]:
    """A Node process for the other project."""
    async with NodePeer(other.env()) as peer:
        yield peer


async def test_conversations_go_on_in_the_other_project(
    alice: Account,
    bob: Account,
    node_there: NodePeer,
    settings: Settings,
    other: LocalStack,
    company_id: str,
    tmp_path: Path,
) -> None:
    place = {"company": company_id, "lease": True}
    moved = Account(node_there, ALICE)
    await alice.open("supabase", **place)
    await bob.meet(alice)
    await alice.invite(bob)
    await bob.invite(alice)
    for turn in range(3):
        await bob.tell(alice, f"question {turn}")
        await alice.tell(bob, f"answer {turn}")
    late = await bob.call("encrypt", jid=ALICE, text="sent before the move")
    await alice.call("close")

    to = Settings(url=other.url, key=other.service_role_key)
    await transfer_company(company_id, to=to, settings=settings)

    with pytest.raises(NodeError, match="moved to"):
        await alice.open("supabase", **place)
    for turn in range(3):
        await moved.open("supabase", **place)
        if turn == 0:
            assert await moved.call("decrypt", jid=bob.jid, **late) == "sent before the move"
        await bob.tell(moved, f"question {turn} there")
        await moved.tell(bob, f"answer {turn} there")
        await bob.tell_group(moved, f"question {turn} to all")
        await moved.tell_group(bob, f"answer {turn} to all")
        await moved.call("close")

    await transfer_company(company_id, to=settings, settings=to, backup_dir=tmp_path)
    await alice.open("supabase", **place)
    await bob.tell(alice, "and back")
    await alice.tell(bob, "all the same")
    await alice.call("close")
