"""The recipe of docs/waton.md, as it stands there, with real waton on the rows of a company."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waton.client import WAClient
from waton.protocol.signal_repo import SignalRepository
from waton.utils.auth import AuthCreds

from supabase_auth_state import AuthState, FamilyMismatch, Settings, use_supabase_auth_state

ALICE = "15550100001:1@s.whatsapp.net"
BOB = "15550100002:2@s.whatsapp.net"
BOB_LID = "200000000000002:2@lid"
GROUP = "120363000000000010@g.us"
DOC = Path(__file__).parents[2] / "docs" / "waton.md"


def run_recipe() -> dict[str, Any]:
    """Run every code block of the document, as somebody who pastes them into one file."""
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", DOC.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(DOC), "exec"), names)  # noqa: S102 - our own document
    return names


RECIPE = run_recipe()


@dataclass
class Device:
    """waton's Signal repository, made as its client makes it."""

    jid: str
    auth: AuthState
    repository: SignalRepository

    @property
    def creds(self) -> AuthCreds:
        return self.repository.creds

    async def meet(self, other: Device) -> None:
        [pre_key] = await other.repository.generate_prekeys(1)
        signed = other.creds.signed_pre_key
        await self.repository.inject_session_from_prekey_bundle(
            other.jid,
            registration_id=other.creds.registration_id,
            identity_key=b"\x05" + other.creds.signed_identity_key["public"],
            signed_prekey_id=signed["keyId"],
            signed_prekey_public=b"\x05" + signed["keyPair"]["public"],
            signed_prekey_signature=signed["signature"],
            prekey_id=pre_key["keyId"],
            prekey_public=b"\x05" + pre_key["keyPair"]["public"],
        )

    async def tell(self, other: Device, text: bytes) -> str:
        kind, sealed = await self.repository.encrypt_message(other.jid, text)
        assert await other.repository.decrypt_message(self.jid, kind, sealed) == text
        return kind


@asynccontextmanager
async def waton(settings: Settings, company_id: str, jid: str) -> AsyncIterator[Device]:
    async with use_supabase_auth_state(
        company_id,
        settings=settings,
        family="waton",
        new_creds=RECIPE["new_creds"],
        lease=True,
    ) as auth:
        client = WAClient(RECIPE["SupabaseStorage"](auth))
        creds = await client.storage.get_creds()
        yield Device(jid, auth, SignalRepository(creds, client.storage))


@asynccontextmanager
async def two_devices(settings: Settings, company_id: str) -> AsyncIterator[tuple[Device, Device]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(waton(settings, f"{company_id}-a", ALICE)),
            await stack.enter_async_context(waton(settings, f"{company_id}-b", BOB)),
        )


async def test_a_first_message_and_its_reply_and_so_on_after_a_restart(
    settings: Settings, company_id: str
) -> None:
    async with two_devices(settings, company_id) as (alice, bob):
        await alice.meet(bob)
        assert await alice.tell(bob, b"hello") == "pkmsg"
    async with two_devices(settings, company_id) as (alice, bob):
        assert await bob.tell(alice, b"hello yourself") == "msg"
    async with two_devices(settings, company_id) as (alice, bob):
        assert await alice.tell(bob, b"and again") == "msg"


async def test_group_messages_go_on_after_a_restart(settings: Settings, company_id: str) -> None:
    async with two_devices(settings, company_id) as (alice, bob):
        _, key = await alice.repository.encrypt_group_message(GROUP, ALICE, b"welcome")
        await bob.repository.process_sender_key_distribution_message(GROUP, ALICE, key)
    async with two_devices(settings, company_id) as (alice, bob):
        sealed, _ = await alice.repository.encrypt_group_message(GROUP, ALICE, b"to everybody")
        assert await bob.repository.decrypt_group_message(GROUP, ALICE, sealed) == b"to everybody"


async def test_creds_come_back_as_they_were(settings: Settings, company_id: str) -> None:
    async with waton(settings, company_id, ALICE) as alice:
        alice.creds.me = {"id": ALICE, "name": None, "lid": "200000000000001:1@lid"}
        alice.creds.routing_info = b"\x01\x02"
        await alice.repository.store_lid_pn_mapping(BOB_LID, BOB)
        saved = alice.creds
    async with waton(settings, company_id, ALICE) as alice:
        assert alice.creds == saved
        assert await alice.repository.get_lid_for_pn(BOB) == BOB_LID


async def test_a_used_pre_key_stays_as_the_document_says(
    settings: Settings, company_id: str
) -> None:
    async with two_devices(settings, company_id) as (alice, bob):
        await alice.meet(bob)
        await alice.tell(bob, b"hello")
        assert (await bob.auth.keys.get("pre-key", ["1"])).keys() == {"1"}


async def test_rows_of_waton_are_refused_to_other_clients(
    settings: Settings, company_id: str
) -> None:
    async with waton(settings, company_id, ALICE):
        pass
    with pytest.raises(FamilyMismatch, match=r"'waton'.*'baileys'"):
        await use_supabase_auth_state(company_id, settings=settings)
