"""What the tests with Node share: a process with real Baileys for each module, as it starts slowly.

A module that uses it marks its tests with `pytest.mark.asyncio(loop_scope="module")`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from supabase_auth_state import Settings
from tests.interop.account import ALICE, BOB, Account
from tests.interop.node import NodePeer


@pytest.fixture
def settings(stack: Any) -> Settings:
    """The stack, as a Python client opens it."""
    return Settings(url=stack.url, key=stack.service_role_key)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(stack: Any) -> AsyncIterator[NodePeer]:
    """A Node process that finds the stack in its environment."""
    async with NodePeer(stack.env()) as peer:
        yield peer


@pytest_asyncio.fixture(loop_scope="module")
async def alice(node: NodePeer) -> AsyncIterator[Account]:
    """An account that is not open yet."""
    account = Account(node, ALICE)
    yield account
    await account.call("forget")


@pytest_asyncio.fixture(loop_scope="module")
async def bob(node: NodePeer) -> AsyncIterator[Account]:
    """An account that lives in memory only: somebody to talk to."""
    account = Account(node, BOB)
    await account.open("memory")
    yield account
    await account.call("forget")
