"""Node Baileys 7 and WAeys share one company in turns, and nobody who talks to it may notice.

Every turn is a process of its own in Node or an auth state of its own in Python, with the lease. It
begins with the messages that came while nobody was there, and ends with a pre-key that a stranger
will use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state.config import Settings
from supabase_auth_state.transfer.export_folder import export_folder
from supabase_auth_state.transfer.import_folder import import_folder
from tests.interop.account import ALICE, BOB, GROUP, Account
from tests.interop.fast_crypto import fast_crypto
from tests.interop.node import NodePeer
from tests.interop.python_peer import PythonPeer, WAeysParty
from tests.length import LENGTH

TURNS = round(2 * LENGTH)


@asynccontextmanager
async def in_node(stack: Any, company_id: str) -> AsyncIterator[Account]:
    async with NodePeer(stack.env()) as node:
        alice = Account(node, ALICE)
        await alice.open("supabase", company=company_id, lease=True)
        yield alice
        await alice.call("close")


@asynccontextmanager
async def in_waeys(settings: Settings, company_id: str) -> AsyncIterator[Account]:
    peer = PythonPeer(settings, WAeysParty.open)
    alice = Account(peer, ALICE)
    await alice.open("supabase", company=company_id, lease=True)
    try:
        yield alice
    finally:
        await peer.close()


@asynccontextmanager
async def in_folder(folder: Path) -> AsyncIterator[Account]:
    async with NodePeer() as node:
        alice = Account(node, ALICE)
        await alice.open("folder", folder=str(folder))
        yield alice


@dataclass(frozen=True)
class Mail:
    """What waits for ALICE: from somebody she knows, to the group, and from a stranger."""

    direct: dict[str, str]
    group: dict[str, str]
    stranger: str
    first: dict[str, str]

    async def is_read_by(self, alice: Account) -> None:
        assert await alice.call("decrypt", jid=BOB, **self.direct) == "are you there?"
        group = {"group": GROUP, "author": BOB, "ciphertext": self.group["ciphertext"]}
        assert await alice.call("decrypt-group", **group) == "is anybody there?"
        assert await alice.call("decrypt", jid=self.stranger, **self.first) == "nice to meet you"


async def write_to(alice: Account, bob: Account, number: int) -> Mail:
    """Write to her from all sides; the stranger fetches one of her pre-keys first."""
    stranger = Account(bob.node, f"1555020{number:04}@s.whatsapp.net")
    await stranger.open("memory")
    await stranger.meet(alice)
    return Mail(
        direct=await bob.call("encrypt", jid=ALICE, text="are you there?"),
        group=await bob.call("encrypt-group", group=GROUP, me=BOB, text="is anybody there?"),
        stranger=stranger.jid,
        first=await stranger.call("encrypt", jid=ALICE, text="nice to meet you"),
    )


async def begin(alice: Account, bob: Account) -> Mail:
    """The first contact, and the sender keys of the group."""
    await alice.meet(bob)
    await alice.tell(bob, "hello")
    await bob.tell(alice, "hello yourself")
    await alice.invite(bob)
    await bob.invite(alice)
    return await write_to(alice, bob, 0)


async def take_turn(alice: Account, bob: Account, mail: Mail, number: int) -> Mail:
    """Read the mail, answer everybody, and leave new mail for whoever comes next."""
    await mail.is_read_by(alice)
    stranger = Account(bob.node, mail.stranger)
    await alice.tell(stranger, "how do you do?")
    for text in (f"turn {number}", "and again"):
        await alice.tell(bob, text)
    await bob.tell(alice, "welcome back")
    await alice.tell_group(bob, f"turn {number} in the group")
    return await write_to(alice, bob, number)


async def take_turns(
    stack: Any, settings: Settings, company_id: str, bob: Account, mail: Mail
) -> Mail:
    for number in range(1, TURNS + 1):
        by_waeys = number % 2
        turn = in_waeys(settings, company_id) if by_waeys else in_node(stack, company_id)
        async with turn as alice:
            mail = await take_turn(alice, bob, mail, number)
    return mail


@pytest.fixture
async def world() -> AsyncIterator[NodePeer]:
    """Everybody else, in a Node process that goes on all the time."""
    async with NodePeer() as node:
        yield node


@pytest.fixture
async def bob(world: NodePeer) -> Account:
    account = Account(world, BOB)
    await account.open("memory")
    return account


async def test_turns_of_node_and_waeys(
    stack: Any, settings: Settings, company_id: str, bob: Account
) -> None:
    async with in_node(stack, company_id) as alice:
        mail = await begin(alice, bob)
    mail = await take_turns(stack, settings, company_id, bob, mail)
    async with in_waeys(settings, company_id) as alice:
        await mail.is_read_by(alice)


async def test_turns_between_a_folder_and_a_folder(
    stack: Any, settings: Settings, company_id: str, bob: Account, tmp_path: Path
) -> None:
    """A company that comes from files, and goes back to files after its turns."""
    async with in_folder(tmp_path / "before") as alice:
        mail = await begin(alice, bob)
    await import_folder(tmp_path / "before", company_id, settings=settings, quiet_for=0)
    with fast_crypto():  # the other test shows the turns with WAeys as it is
        mail = await take_turns(stack, settings, company_id, bob, mail)
    await export_folder(tmp_path / "behind", company_id, settings=settings)
    async with in_folder(tmp_path / "behind") as alice:
        await take_turn(alice, bob, mail, TURNS + 1)
