"""What the tests with real clients share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from supabase_auth_state.config import Settings
from tests.interop.account import ALICE, BOB, Account
from tests.interop.node import NodePeer


@pytest.fixture
def settings(stack: Any) -> Settings:
    """The stack, as a Python client opens it."""
    return Settings(url=stack.url, key=stack.service_role_key)


@pytest.fixture
async def node(stack: Any) -> AsyncIterator[NodePeer]:
    """A Node process with real Baileys that finds the stack in its environment."""
    async with NodePeer(stack.env()) as peer:
        yield peer


@pytest.fixture
def alice(node: NodePeer) -> Account:
    """An account that is not open yet."""
    return Account(node, ALICE)


@pytest.fixture
async def bob(node: NodePeer) -> Account:
    """An account that lives in memory only: somebody to talk to."""
    account = Account(node, BOB)
    await account.open("memory")
    return account
