"""pyaileys' real client on the rows of a company; only the wire to WhatsApp is missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pyaileys import WhatsAppClient
from pyaileys.auth.creds import AuthenticationCreds, Contact
from pyaileys.auth.utils import init_auth_creds
from pyaileys.messages.wa_message import encode_wa_message_bytes
from pyaileys.proto import WAProto_pb2
from pyaileys.signal.repository import PreKeyBundle, PreKeyBundleKey
from pyaileys.wabinary.types import BinaryNode

from supabase_auth_state import AuthState, use_supabase_auth_state
from supabase_auth_state.config import Settings
from supabase_auth_state.errors import FamilyMismatch, StoreUnavailable
from supabase_auth_state.pyaileys import creds_from_rows, creds_to_rows, new_creds, whatsapp_client
from supabase_auth_state.types import SignalDataSet
from tests.interop.failing_client import failing_client
from tests.sealing import K1

ALICE = "15550100001:1@s.whatsapp.net"
BOB = "15550100002:2@s.whatsapp.net"
GROUP = "120363000000000010@g.us"
Wire = Callable[[BinaryNode], Awaitable[None]]


@dataclass
class Phone:
    """A pyaileys client on a company, and what it sends and tells its listeners."""

    jid: str
    auth: AuthState
    client: WhatsAppClient
    sent: list[BinaryNode] = field(default_factory=list)
    heard: asyncio.Queue[tuple[str, Any]] = field(default_factory=asyncio.Queue)
    acked: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, node: BinaryNode) -> None:
        """Stand for the wire to WhatsApp, whose server answers every query with nothing."""
        self.sent.append(node)
        if node.tag == "receipt":
            self.acked.set()
        if node.tag == "iq":
            await self.client.socket.events.emit(f"tag:{node.attrs['id']}", BinaryNode("iq", {}))

    async def upload_pre_keys(self, count: int) -> BinaryNode:
        await self.client.socket._upload_prekeys(count)
        return next(node for node in self.sent if node.attrs.get("xmlns") == "encrypt")

    async def meet(self, other: Phone) -> None:
        await other.upload_pre_keys(1)
        creds = other.client.socket.auth.creds
        key_id = creds.next_pre_key_id - 1
        pre_key = (await other.auth.keys.get("pre-key", [str(key_id)]))[str(key_id)]
        signed = creds.signed_pre_key
        bundle = PreKeyBundle(
            creds.registration_id,
            b"\x05" + creds.signed_identity_key.public,
            PreKeyBundleKey(signed.key_id, b"\x05" + signed.key_pair.public, signed.signature),
            PreKeyBundleKey(key_id, b"\x05" + pre_key["public"]),
        )
        await self.client.signal.inject_outgoing_session(other.jid, bundle)

    async def encrypt(self, other: Phone, message: Any) -> BinaryNode:
        data = encode_wa_message_bytes(message.SerializeToString())
        kind, ciphertext = await self.client.signal.encrypt_message(other.jid, data=data)
        return BinaryNode("enc", {"v": "2", "type": kind}, ciphertext)

    async def encrypt_group(self, text: str) -> tuple[BinaryNode, bytes]:
        data = encode_wa_message_bytes(says(text).SerializeToString())
        ciphertext, key = await self.client.signal.encrypt_group_message(
            group_jid=GROUP, me_jid=self.jid, data=data
        )
        return BinaryNode("enc", {"v": "2", "type": "skmsg"}, ciphertext), key

    async def receive(self, *parts: BinaryNode, **attrs: str) -> None:
        """Do what the client does with a message stanza that came in."""
        stanza = BinaryNode("message", {"id": "3EB0", "t": "1", **attrs}, list(parts))
        await self.client.socket._dispatch_node(stanza)

    async def hears(self, text: str) -> None:
        event, told = await asyncio.wait_for(self.heard.get(), 10)
        assert (event, told.get("text")) == ("message.decrypted", text), told

    async def tell(self, other: Phone, text: str) -> None:
        await other.receive(await self.encrypt(other, says(text)), **{"from": self.jid})
        await other.hears(text)


def says(text: str) -> Any:
    return WAProto_pb2.Message(conversation=text)


def hands_over(key: bytes) -> Any:
    """A message that carries the sender's key for the group, and says so."""
    message = says("here is my key")
    message.senderKeyDistributionMessage.groupId = GROUP
    message.senderKeyDistributionMessage.axolotlSenderKeyDistributionMessage = key
    return message


@asynccontextmanager
async def pyaileys(
    settings: Settings, company_id: str, jid: str, **options: Any
) -> AsyncIterator[Phone]:
    options.setdefault("settings", settings)
    async with use_supabase_auth_state(
        company_id, family="pyaileys", new_creds=new_creds, **options
    ) as auth:
        auth.creds["me"] = {"id": jid}
        client = whatsapp_client(auth)
        phone = Phone(jid, auth, client)
        client.socket._install_default_handlers()
        client.socket.send_node = phone.send
        for event in ("message.decrypted", "message.decrypt_error"):
            client.on(event, lambda told, event=event: phone.heard.put_nowait((event, told)))
        yield phone


@pytest.fixture
async def phones(settings: Settings, company_id: str) -> AsyncIterator[tuple[Phone, Phone]]:
    """Alice and Bob, two companies with a session between them; Bob's first message is to come."""
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(pyaileys(settings, f"{company_id}-a", ALICE))
        bob = await stack.enter_async_context(pyaileys(settings, f"{company_id}-b", BOB))
        await alice.meet(bob)
        yield alice, bob


def rows(db: Any, phone: Phone) -> dict[tuple[str, str], tuple[Any, str]]:
    """Value and writing transaction of every key row of a company."""
    found = db.execute(
        "select key_type, key_id, value, xmin::text from whatsapp_keys where company_id = %s",
        [phone.auth.company_id],
    )
    return {(key_type, key_id): (value, xmin) for key_type, key_id, value, xmin in found}


@pytest.mark.parametrize("keys", [None, K1])
async def test_two_parties_talk_and_go_on_after_a_restart(
    settings: Settings, company_id: str, db: Any, keys: str | None
) -> None:
    settings = replace(settings, encryption=keys)
    for first_time in (True, False, False):
        async with AsyncExitStack() as stack:
            alice, bob = [
                await stack.enter_async_context(pyaileys(settings, name, jid, lease=True))
                for name, jid in ((f"{company_id}-a", ALICE), (f"{company_id}-b", BOB))
            ]
            if first_time:
                await alice.meet(bob)
                await alice.tell(bob, "first of all")
            for text in ("one", "two"):
                await bob.tell(alice, text)
                await alice.tell(bob, text)
            part, key = await alice.encrypt_group("to everybody")
            handed = await alice.encrypt(bob, hands_over(key))
            if first_time:
                await bob.receive(handed, **{"from": GROUP, "participant": ALICE})
                await bob.hears("here is my key")
            await bob.receive(part, **{"from": GROUP, "participant": ALICE})
            await bob.hears("to everybody")
    stored = db.execute(
        "select value ->> '$sealed' from whatsapp_keys where company_id like %(it)s || '-%%' union "
        "select creds ->> '$sealed' from whatsapp_auth where company_id like %(it)s || '-%%'",
        {"it": company_id},
    ).fetchall()
    assert stored == [(None if keys is None else "k1",)]


async def test_a_first_message_is_one_commit(
    phones: tuple[Phone, Phone], db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = phones
    commits = watch_commits(bob, monkeypatch)
    assert ("pre-key", "1") in rows(db, bob)
    await alice.tell(bob, "hello")

    [commit] = commits
    assert commit.keys() == {"identity-key", "session", "pre-key"}
    after = rows(db, bob)
    assert after.keys() == {
        ("identity-key", "15550100001.1"),
        ("session", "15550100001.1"),
    }
    assert len({xmin for _, xmin in after.values()}) == 1


async def test_a_new_session_and_its_identity_are_one_commit(
    phones: tuple[Phone, Phone], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = phones
    commits = watch_commits(bob, monkeypatch)
    await bob.meet(alice)
    assert [set(commit) for commit in commits] == [{"identity-key", "session"}]


async def test_a_message_is_acknowledged_when_it_is_durable(
    phones: tuple[Phone, Phone], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = phones
    store_set = bob.auth.keys.set
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(data: SignalDataSet) -> None:
        arrived.set()
        await go_on.wait()
        await store_set(data)

    monkeypatch.setattr(bob.auth.keys, "set", slow)
    sent_before = len(bob.sent)
    await bob.receive(await alice.encrypt(bob, says("hello")), **{"from": ALICE})
    await asyncio.wait_for(arrived.wait(), 10)
    assert bob.sent[sent_before:] == []
    assert bob.heard.empty()
    go_on.set()
    await asyncio.wait_for(bob.acked.wait(), 10)
    assert [node.tag for node in bob.sent[sent_before:]] == ["ack", "receipt"]
    await bob.hears("hello")


async def test_a_message_that_could_not_be_stored_is_not_acknowledged_and_comes_again(
    phones: tuple[Phone, Phone], db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = phones
    before = rows(db, bob)
    message = await alice.encrypt(bob, says("hello"))

    async def fail(data: SignalDataSet) -> None:
        raise StoreUnavailable("writing: no answer")

    sent_before = len(bob.sent)
    with monkeypatch.context() as broken:
        broken.setattr(bob.auth.keys, "set", fail)
        await bob.receive(message, **{"from": ALICE})
        event, _ = await asyncio.wait_for(bob.heard.get(), 10)
    assert event == "message.decrypt_error"
    assert bob.sent[sent_before:] == []
    assert rows(db, bob) == before

    await bob.receive(message, **{"from": ALICE})
    await bob.hears("hello")
    assert [node.tag for node in bob.sent[sent_before:]] == ["ack", "receipt"]


async def test_a_session_whose_read_failed_is_not_replaced(
    phones: tuple[Phone, Phone], db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = phones
    await alice.tell(bob, "hello")
    before = rows(db, bob)
    message = await alice.encrypt(bob, says("again"))

    async def fail(type: str, ids: Sequence[str]) -> dict[str, Any]:
        raise StoreUnavailable("reading: no answer")

    with monkeypatch.context() as broken:
        broken.setattr(bob.auth.keys, "get", fail)
        await bob.receive(message, **{"from": ALICE})
        event, _ = await asyncio.wait_for(bob.heard.get(), 10)
    assert event == "message.decrypt_error"
    assert rows(db, bob) == before
    await bob.receive(message, **{"from": ALICE})
    await bob.hears("again")


async def test_a_message_that_cannot_be_read_leaves_nothing_behind_and_is_acknowledged(
    phones: tuple[Phone, Phone], db: Any
) -> None:
    alice, bob = phones
    before = rows(db, bob)
    message = await alice.encrypt(bob, says("hello"))
    parts = WAProto_pb2.PreKeySignalMessage.FromString(message.content[1:])
    parts.message = parts.message[:-1] + bytes([parts.message[-1] ^ 1])
    damaged = BinaryNode("enc", message.attrs, message.content[:1] + parts.SerializeToString())
    await bob.receive(damaged, **{"from": ALICE})
    event, _ = await asyncio.wait_for(bob.heard.get(), 10)
    assert event == "message.decrypt_error"
    assert rows(db, bob) == before
    assert bob.acked.is_set()


async def test_a_group_key_and_the_text_it_opens_come_in_one_message(
    phones: tuple[Phone, Phone],
) -> None:
    """pyaileys by itself opens both at the same time, and the text finds no key."""
    alice, bob = phones
    text, key = await alice.encrypt_group("to everybody")
    handed = await alice.encrypt(bob, hands_over(key))
    await bob.receive(handed, text, **{"from": GROUP, "participant": ALICE})
    await bob.hears("here is my key")
    await bob.hears("to everybody")


async def test_messages_of_one_sender_are_opened_in_their_order(
    phones: tuple[Phone, Phone],
) -> None:
    alice, bob = phones
    first, key = await alice.encrypt_group("one")
    second, _ = await alice.encrypt_group("two")
    handed = await alice.encrypt(bob, hands_over(key))
    for part in (handed, first, second):
        await bob.receive(part, **{"from": GROUP, "participant": ALICE})
    for text in ("here is my key", "one", "two"):
        await bob.hears(text)


async def test_a_listener_may_answer_and_wait_for_the_next_message(
    phones: tuple[Phone, Phone],
) -> None:
    alice, bob = phones
    answered = asyncio.Event()

    async def converse(told: dict[str, Any]) -> None:
        if told["text"] != "hello":
            return
        await alice.receive(await bob.encrypt(alice, says("who is it?")), **{"from": BOB})
        await bob.client.socket.events.wait_for("message.decrypted", timeout_s=10)
        answered.set()

    bob.client.on("message.decrypted", converse)
    await bob.receive(await alice.encrypt(bob, says("hello")), **{"from": ALICE})
    await alice.hears("who is it?")
    await bob.receive(await alice.encrypt(bob, says("me")), **{"from": ALICE})
    await asyncio.wait_for(answered.wait(), 10)


async def test_an_upload_has_its_pre_keys_and_never_hands_out_an_id_twice(
    settings: Settings, company_id: str, db: Any
) -> None:
    uploaded: list[int] = []
    for _ in range(2):
        async with pyaileys(settings, company_id, ALICE) as alice:
            node = await alice.upload_pre_keys(5)
            listed = next(child for child in node.content if child.tag == "list")
            uploaded += [int.from_bytes(key.content[0].content, "big") for key in listed.content]
    assert uploaded == list(range(1, 11))
    assert set(rows(db, alice)) == {("pre-key", str(number)) for number in uploaded}


def stored_counters(db: Any, company_id: str) -> set[int]:
    [(creds,)] = db.execute("select creds from whatsapp_auth where company_id = %s", [company_id])
    return {creds["nextPreKeyId"], creds["firstUnuploadedPreKeyId"]}


def uploaded_keys(node: BinaryNode) -> dict[str, Any]:
    """The public pre-keys that an upload hands to WhatsApp, by id."""
    listed = next(child for child in node.content if child.tag == "list")
    parts = [{part.tag: part.content for part in key.content} for key in listed.content]
    return {str(int.from_bytes(part["id"], "big")): part["value"] for part in parts}


@pytest.mark.parametrize("failing", ["whatsapp_keys", "whatsapp_auth"])
async def test_creds_never_count_pre_keys_that_are_not_stored(
    settings: Settings, company_id: str, db: Any, failing: str
) -> None:
    async with (
        failing_client(settings) as client,
        pyaileys(settings, company_id, ALICE, client=client.rest) as alice,
    ):
        client.failing.add(failing)
        with pytest.raises(StoreUnavailable):
            await alice.client.socket._upload_prekeys(5)
        assert alice.sent == []
        stored = {key_id for _, key_id in rows(db, alice)}
        assert stored == ({"1", "2", "3", "4", "5"} if failing == "whatsapp_auth" else set())
        assert stored_counters(db, company_id) == {1}
        client.failing.clear()
        await alice.client.socket.events.emit("creds.update", alice.client.socket.auth.creds)
        assert stored_counters(db, company_id) == ({6} if failing == "whatsapp_auth" else {1})


async def test_a_process_that_ends_between_pre_keys_and_creds_uploads_what_is_stored(
    settings: Settings, company_id: str, db: Any
) -> None:
    async with (
        failing_client(settings) as client,
        pyaileys(settings, company_id, ALICE, client=client.rest) as alice,
    ):
        client.failing.add("whatsapp_auth")
        with pytest.raises(StoreUnavailable):
            await alice.client.socket._upload_prekeys(2)
    async with pyaileys(settings, company_id, ALICE) as alice:
        uploaded = uploaded_keys(await alice.upload_pre_keys(3))
        kept = await alice.auth.keys.get("pre-key", ["1", "2", "3"])
    assert {key_id: key["public"] for key_id, key in kept.items()} == uploaded
    assert stored_counters(db, company_id) == {4}


async def test_creds_are_saved_on_creds_update(settings: Settings, company_id: str) -> None:
    async with pyaileys(settings, company_id, ALICE) as alice:
        changed = alice.client.socket.auth.creds
        changed.routing_info = b"\x01\x02"
        changed.me = Contact(id=ALICE, lid="200000000000001:1@lid")
        changed.account = account()
        await alice.client.socket.events.emit("creds.update", changed)
    async with use_supabase_auth_state(company_id, settings=settings, family="pyaileys") as auth:
        assert creds_from_rows(auth.creds) == changed
        changed.routing_info = None
        auth.creds["pushName"] = "a field that pyaileys does not know"
        client = whatsapp_client(auth)
        client.socket.auth.creds.routing_info = None
        await client.socket.events.emit("creds.update", client.socket.auth.creds)
        assert creds_from_rows(auth.creds) == changed
        assert auth.creds["pushName"] == "a field that pyaileys does not know"


def test_creds_are_stored_under_baileys_names() -> None:
    stored = new_creds()
    assert stored["signedPreKey"].keys() == {"keyPair", "signature", "keyId"}
    assert stored["accountSettings"] == {"unarchiveChats": False}
    assert (stored["nextPreKeyId"], stored["firstUnuploadedPreKeyId"]) == (1, 1)
    assert "routingInfo" not in stored


def test_creds_come_back_as_they_were() -> None:
    creds: AuthenticationCreds = init_auth_creds()
    assert creds_from_rows(creds_to_rows(creds)) == creds
    creds.me = Contact(id=ALICE, name="Alice", lid="200000000000001:1@lid")
    creds.account = account()
    creds.signed_pre_key.timestamp_s = 1767225600
    creds.account_settings.default_disappearing_mode = {"ephemeralExpiration": 86400}
    creds.signal_identities = [{"identifier": {"name": "a", "deviceId": 0}, "identifierKey": b"k"}]
    creds.additional_data = {"some_key": {"other_key": 1}}
    assert creds_from_rows(creds_to_rows(creds)) == creds


async def test_rows_of_another_family_are_refused(settings: Settings, company_id: str) -> None:
    async with use_supabase_auth_state(company_id, settings=settings) as auth:
        with pytest.raises(FamilyMismatch, match=r"'baileys'.*'pyaileys'"):
            whatsapp_client(auth)


def account() -> bytes:
    message = WAProto_pb2.ADVSignedDeviceIdentity(
        details=b"details",
        accountSignatureKey=bytes(32),
        accountSignature=bytes(64),
        deviceSignature=bytes(64),
    )
    return bytes(message.SerializeToString())


def watch_commits(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> list[SignalDataSet]:
    """Every `set` that reaches the store from now on."""
    commits: list[SignalDataSet] = []
    store_set = phone.auth.keys.set

    async def note(data: SignalDataSet) -> None:
        commits.append(data)
        await store_set(data)

    monkeypatch.setattr(phone.auth.keys, "set", note)
    return commits
