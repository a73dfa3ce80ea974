"""WAeys through its real `make_socket`, without a network, on the rows of a company."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from WAeys.Defaults.index import default_connection_config
from WAeys.Signal.whisper_text_protocol import PreKeyWhisperMessage
from WAeys.Socket import make_socket
from WAeys.Utils.auth_utils import make_memory_key_store
from WAeys.Utils.signal import get_next_pre_keys, get_next_pre_keys_node
from WAeys.Utils.validate_connection import encode_signed_device_identity
from WAeys.WABinary.types import BinaryNode
from WAeys.WAProto.WAProto import ADVSignedDeviceIdentity

from supabase_auth_state import AuthState, ConnectionEnd, SessionPool, use_supabase_auth_state
from supabase_auth_state.codec.creds import init_auth_creds
from supabase_auth_state.config import Settings
from supabase_auth_state.errors import FamilyMismatch, StoreUnavailable
from supabase_auth_state.rest.client import using_rest
from supabase_auth_state.types import SignalDataSet
from supabase_auth_state.waeys import WAeysState
from tests.interop.failing_client import failing_client
from tests.sealing import K1

ALICE = "15550100001:1@s.whatsapp.net"
BOB = "15550100002:2@s.whatsapp.net"
BOB_LID = "200000000000002:2@lid"
GROUP = "120363000000000010@g.us"
ACCOUNT = {
    "details": "ZGV0YWlscw==",
    "accountSignatureKey": "a2V5",
    "accountSignature": "c2lnbmF0dXJl",
    "deviceSignature": "ZGV2aWNl",
}


@dataclass
class Device:
    """A WAeys socket on a company."""

    jid: str
    auth: AuthState
    state: WAeysState
    sock: dict[str, Any]

    @property
    def repository(self) -> dict[str, Any]:
        repository: dict[str, Any] = self.sock["signalRepository"]
        return repository

    def bundle(self, pre_key_id: str, pre_key: dict[str, bytes]) -> dict[str, Any]:
        """What WhatsApp hands out to somebody who writes to this device first."""
        creds = self.state.creds
        signed = creds["signedPreKey"]
        return {
            "registrationId": creds["registrationId"],
            "identityKey": b"\x05" + creds["signedIdentityKey"]["public"],
            "signedPreKey": {
                "keyId": signed["keyId"],
                "publicKey": b"\x05" + signed["keyPair"]["public"],
                "signature": signed["signature"],
            },
            "preKey": {"keyId": int(pre_key_id), "publicKey": b"\x05" + pre_key["public"]},
        }

    async def upload_pre_keys(self, count: int) -> Any:
        """Do what its socket does before an upload; the node it would send."""
        minted = await get_next_pre_keys_node(self.sock["authState"], count)
        self.sock["ev"].emit("creds.update", minted["update"])
        return minted["node"]

    async def meet(self, other: Device) -> None:
        await other.upload_pre_keys(1)
        pre_key_id = str(other.state.creds["nextPreKeyId"] - 1)
        found = await other.state.keys.get("pre-key", [pre_key_id])
        session = other.bundle(pre_key_id, found[pre_key_id])
        await self.repository["injectE2ESession"]({"jid": other.jid, "session": session})

    async def encrypt(self, jid: str, text: bytes) -> dict[str, Any]:
        sent: dict[str, Any] = await self.repository["encryptMessage"]({"jid": jid, "data": text})
        return sent

    async def decrypt(self, jid: str, message: dict[str, Any]) -> bytes:
        plain: bytes = await self.repository["decryptMessage"]({"jid": jid, **message})
        return plain

    async def tell(self, other: Device, text: bytes, *, jid: str | None = None) -> None:
        sent = await self.encrypt(jid or other.jid, text)
        assert await other.decrypt(self.jid, sent) == text

    async def tell_group(self, other: Device, text: bytes) -> bytes:
        message = {"group": GROUP, "meId": self.jid, "data": text}
        sent = await self.repository["encryptGroupMessage"](message)
        received = {"group": GROUP, "authorJid": self.jid, "msg": sent["ciphertext"]}
        if not await other.state.keys.get("sender-key", [f"{GROUP}::15550100001::1"]):
            skdm = sent["senderKeyDistributionMessage"]
            item = SimpleNamespace(groupId=GROUP, axolotlSenderKeyDistributionMessage=skdm)
            accept = other.repository["processSenderKeyDistributionMessage"]
            await accept({"item": item, "authorJid": self.jid})
        assert await other.repository["decryptGroupMessage"](received) == text
        return sent["ciphertext"]


class Quiet:
    """WAeys' default logger prints every line to stdout."""

    level = "silent"

    def child(self, _fields: object) -> Quiet:
        return self

    def _ignore(self, *_args: object) -> None: ...

    trace = debug = info = warn = error = _ignore


async def nobody(_pns: list[str]) -> None:
    """Stand for a lookup that WhatsApp's server would answer."""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A server that takes connections and never says a word."""
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1")
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for writer in connections:
            writer.close()


def socket_config(url: str, entries: dict[str, Any]) -> dict[str, Any]:
    return {**default_connection_config(), "logger": Quiet(), "waWebSocketUrl": url, **entries}


@asynccontextmanager
async def waeys(
    settings: Settings, url: str, company_id: str, jid: str, **options: Any
) -> AsyncIterator[Device]:
    options.setdefault("settings", settings)
    async with use_supabase_auth_state(company_id, **options) as auth:
        auth.creds["me"] = {"id": jid}
        state = WAeysState(auth)
        sock = make_socket(socket_config(url, state.config))
        state.attach(sock)
        sock["signalRepository"]["lidMapping"].pn_to_lid_func = nobody
        try:
            yield Device(jid, auth, state, sock)
        finally:
            await state.flush()
            await sock["end"](None)


@pytest.fixture
async def devices(
    settings: Settings, url: str, company_id: str
) -> AsyncIterator[tuple[Device, Device]]:
    """Alice and Bob, two companies with a session between them; Bob's first message is to come."""
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(waeys(settings, url, f"{company_id}-a", ALICE))
        bob = await stack.enter_async_context(waeys(settings, url, f"{company_id}-b", BOB))
        await alice.meet(bob)
        yield alice, bob


def rows(db: Any, device: Device) -> dict[tuple[str, str], tuple[Any, str]]:
    """Value and writing transaction of every key row of a company."""
    found = db.execute(
        "select key_type, key_id, value, xmin::text from whatsapp_keys where company_id = %s",
        [device.auth.company_id],
    )
    return {(key_type, key_id): (value, xmin) for key_type, key_id, value, xmin in found}


def with_wrong_mac(first_message: bytes) -> bytes:
    parts = PreKeyWhisperMessage.decode(first_message[1:])
    parts.message = parts.message[:-1] + bytes([parts.message[-1] ^ 1])
    return first_message[:1] + PreKeyWhisperMessage.encode(parts)


async def test_waeys_by_itself_cannot_handle_a_signal_message(url: str) -> None:
    """The reason for our repository; when this fails, WAeys has learnt to open its transactions."""
    auth = {"creds": {**init_auth_creds(), "me": {"id": ALICE}}, "keys": make_memory_key_store()}
    sock = make_socket(socket_config(url, {"auth": auth}))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'key'"):
        await sock["signalRepository"]["encryptMessage"]({"jid": BOB, "data": b"hi"})
    await sock["end"](None)


@pytest.mark.parametrize("keys", [None, K1])
async def test_two_parties_talk_and_go_on_after_a_restart(
    settings: Settings, url: str, company_id: str, db: Any, keys: str | None
) -> None:
    settings = replace(settings, encryption=keys)
    for first_time in (True, False):
        async with AsyncExitStack() as stack:
            alice, bob = [
                await stack.enter_async_context(waeys(settings, url, name, jid, lease=True))
                for name, jid in ((f"{company_id}-a", ALICE), (f"{company_id}-b", BOB))
            ]
            if first_time:
                await alice.meet(bob)
                await alice.tell(bob, b"first of all")
            for text in (b"one", b"two"):
                await bob.tell(alice, text)
                await alice.tell(bob, text)
            await alice.tell_group(bob, b"to everybody")
    stored = db.execute(
        "select value ->> '$sealed' from whatsapp_keys where company_id like %(it)s || '-%%' union "
        "select creds ->> '$sealed' from whatsapp_auth where company_id like %(it)s || '-%%'",
        {"it": company_id},
    ).fetchall()
    assert stored == [(None if keys is None else "k1",)]


async def test_a_contact_goes_on_under_its_lid(devices: tuple[Device, Device], db: Any) -> None:
    alice, bob = devices
    await alice.tell(bob, b"by number")
    mapping = {"lid": BOB_LID, "pn": BOB}
    await alice.repository["lidMapping"].store_lidpn_mappings([mapping])
    await alice.auth.keys.set({"device-list": {"15550100002": ["2"]}})
    moved = await alice.repository["migrateSession"](BOB, BOB_LID)
    assert moved == {"migrated": 1, "skipped": 0, "total": 1}
    await alice.tell(bob, b"by lid", jid=BOB_LID)
    await alice.tell(bob, b"by number again")
    assert [ref for ref in rows(db, alice) if ref[0] == "session"] == [
        ("session", "200000000000002_1.2")
    ]


async def test_a_first_message_is_one_commit(
    devices: tuple[Device, Device], db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = devices
    commits: list[SignalDataSet] = []
    store_set = bob.auth.keys.set

    async def count(data: SignalDataSet) -> None:
        commits.append(data)
        await store_set(data)

    monkeypatch.setattr(bob.auth.keys, "set", count)
    assert ("pre-key", "1") in rows(db, bob)
    await alice.tell(bob, b"hello")

    [commit] = commits
    assert commit.keys() == {"identity-key", "session", "pre-key"}
    after = rows(db, bob)
    assert after.keys() == {
        ("identity-key", "15550100001.1"),
        ("session", "15550100001.1"),
    }
    assert len({xmin for _, xmin in after.values()}) == 1


async def test_a_message_that_cannot_be_read_leaves_nothing_behind(
    devices: tuple[Device, Device], db: Any
) -> None:
    alice, bob = devices
    before = rows(db, bob)
    sent = await alice.encrypt(BOB, b"hello")
    with pytest.raises(Exception, match="MAC"):
        await bob.decrypt(ALICE, {**sent, "ciphertext": with_wrong_mac(sent["ciphertext"])})
    assert rows(db, bob) == before
    assert await bob.decrypt(ALICE, sent) == b"hello"


@pytest.mark.parametrize("form", ["block", "work"])
async def test_a_transaction_that_raises_leaves_nothing_behind(
    devices: tuple[Device, Device], db: Any, form: str
) -> None:
    alice, _ = devices
    keys = alice.state.keys
    before = rows(db, alice)

    async def stumble() -> None:
        await keys.set({"session": {"1.0": {"version": "v1", "_sessions": {}}}})
        await keys["set"]({"device-list": {"1": ["0"]}})
        assert await keys["get"]("device-list", ["1"]) == {"1": ["0"]}
        raise ZeroDivisionError

    async def in_block() -> None:
        async with keys.transaction("1@s.whatsapp.net"):
            await stumble()

    with pytest.raises(ZeroDivisionError):
        await (in_block() if form == "block" else keys.transaction(stumble, "1@s.whatsapp.net"))
    assert rows(db, alice) == before


async def test_a_session_whose_read_failed_is_not_replaced(
    devices: tuple[Device, Device], db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WAeys takes a failed read of a session for "no session" and would store a new record."""
    alice, bob = devices
    await alice.tell(bob, b"hello")
    await bob.tell(alice, b"hello yourself")
    before = rows(db, bob)
    await alice.meet(bob)
    again = await alice.encrypt(BOB, b"from a new session")
    store_get = bob.auth.keys.get

    async def fail(type: str, ids: Sequence[str]) -> dict[str, Any]:
        if type == "session":
            raise StoreUnavailable("reading: no answer")
        return await store_get(type, ids)

    with monkeypatch.context() as broken:
        broken.setattr(bob.auth.keys, "get", fail)
        with pytest.raises(StoreUnavailable):
            await bob.decrypt(ALICE, again)
    sessions = {ref: row for ref, row in rows(db, bob).items() if ref[0] == "session"}
    assert sessions == {ref: row for ref, row in before.items() if ref[0] == "session"}
    assert await bob.decrypt(ALICE, again) == b"from a new session"


async def test_a_mapping_stays_when_the_message_that_taught_it_cannot_be_read(
    devices: tuple[Device, Device], db: Any
) -> None:
    """WAeys remembers a mapping for days, whether or not the message could be read."""
    alice, bob = devices
    sent = await alice.encrypt(BOB, b"hello")

    async def look_up(pns: list[str]) -> list[dict[str, str]]:
        return [{"pn": pn, "lid": "200000000000001@lid"} for pn in pns]

    bob.repository["lidMapping"].pn_to_lid_func = look_up
    with pytest.raises(Exception, match="MAC"):
        await bob.decrypt(ALICE, {**sent, "ciphertext": with_wrong_mac(sent["ciphertext"])})
    assert {ref: value for ref, (value, _) in rows(db, bob).items() if ref[0] != "pre-key"} == {
        ("lid-mapping", "15550100001"): "200000000000001",
        ("lid-mapping", "200000000000001_reverse"): "15550100001",
    }
    assert await bob.decrypt(ALICE, sent) == b"hello"
    assert ("session", "200000000000001_1.1") in rows(db, bob)


async def test_what_waeys_stores_has_the_form_of_baileys(
    devices: tuple[Device, Device], db: Any
) -> None:
    alice, bob = devices
    await alice.tell(bob, b"hello")
    await bob.tell(alice, b"hello yourself")
    await alice.tell(bob, b"and a new chain")

    def has_null(value: Any) -> bool:
        if isinstance(value, dict):
            return any(has_null(item) for item in value.values())
        return value is None

    sessions = [value for (kind, _), (value, _) in rows(db, bob).items() if kind == "session"]
    assert sessions
    assert not any(has_null(session) for session in sessions)
    finished = [
        chain
        for session in sessions
        for entry in session["_sessions"].values()
        for chain in entry["_chains"].values()
        if "key" not in chain["chainKey"]
    ]
    assert finished, "no finished chain: WAeys would have written none as null"


async def test_an_upload_has_its_pre_keys_and_never_hands_out_an_id_twice(
    settings: Settings, url: str, company_id: str, db: Any
) -> None:
    uploaded: list[int] = []
    for _ in range(2):
        async with waeys(settings, url, company_id, ALICE) as alice:
            node = await alice.upload_pre_keys(5)
            listed = next(child for child in node.content if child.tag == "list")
            uploaded += [int.from_bytes(key.content[0].content, "big") for key in listed.content]
    assert uploaded == list(range(1, 11))
    assert set(rows(db, alice)) == {("pre-key", str(number)) for number in uploaded}
    [(creds,)] = db.execute("select creds from whatsapp_auth where company_id = %s", [company_id])
    assert (creds["nextPreKeyId"], creds["firstUnuploadedPreKeyId"]) == (11, 11)


def stored_counters(db: Any, company_id: str) -> set[int]:
    [(creds,)] = db.execute("select creds from whatsapp_auth where company_id = %s", [company_id])
    return {creds["nextPreKeyId"], creds["firstUnuploadedPreKeyId"]}


def uploaded_keys(node: Any) -> dict[str, bytes]:
    """The public pre-keys that an upload hands to WhatsApp, by id."""
    listed = next(child for child in node.content if child.tag == "list")
    parts = [{part.tag: part.content for part in key.content} for key in listed.content]
    return {str(int.from_bytes(part["id"], "big")): part["value"] for part in parts}


@pytest.mark.parametrize("failing", ["whatsapp_keys", "whatsapp_auth"])
async def test_creds_never_count_pre_keys_that_are_not_stored(
    settings: Settings, url: str, company_id: str, db: Any, failing: str
) -> None:
    async with (
        failing_client(settings) as client,
        waeys(settings, url, company_id, ALICE, client=client.rest) as alice,
    ):
        client.failing.add(failing)
        with pytest.raises(StoreUnavailable):
            await alice.upload_pre_keys(5)
        stored = {key_id for _, key_id in rows(db, alice)}
        assert stored == ({"1", "2", "3", "4", "5"} if failing == "whatsapp_auth" else set())
        assert stored_counters(db, company_id) == {1}
        client.failing.clear()
        alice.sock["ev"].emit("creds.update", {"routingInfo": b"1"})
        await alice.state.flush()
        assert stored_counters(db, company_id) == ({6} if failing == "whatsapp_auth" else {1})


async def test_a_process_that_ends_between_pre_keys_and_creds_uploads_what_is_stored(
    settings: Settings, url: str, company_id: str, db: Any
) -> None:
    async with failing_client(settings) as client:
        first = await use_supabase_auth_state(company_id, client=client.rest)
        client.failing.add("whatsapp_auth")
        with pytest.raises(StoreUnavailable):
            await WAeysState(first).keys.set({"pre-key": {"1": {"public": b"p", "private": b"q"}}})
    async with waeys(settings, url, company_id, ALICE) as alice:
        uploaded = uploaded_keys(await alice.upload_pre_keys(3))
        kept = await alice.auth.keys.get("pre-key", ["1", "2", "3"])
    assert {key_id: key["public"] for key_id, key in kept.items()} == uploaded
    assert stored_counters(db, company_id) == {4}


async def test_creds_emitted_inside_a_transaction_do_not_count_its_pre_keys(
    settings: Settings, url: str, company_id: str, db: Any
) -> None:
    """As Baileys emits them, and WAeys will once its transactions work."""
    async with waeys(settings, url, company_id, ALICE) as alice:
        keys = {"creds": alice.state.creds, "keys": alice.state.keys}
        async with alice.state.keys.transaction("upload"):
            made = await get_next_pre_keys(keys, 5)
            alice.sock["ev"].emit("creds.update", made["update"])
            await alice.state.flush()
            assert alice.state.creds["nextPreKeyId"] == 6
            assert stored_counters(db, company_id) == {1}
            assert rows(db, alice) == {}
        assert len(rows(db, alice)) == 5
        assert stored_counters(db, company_id) == {6}


async def test_an_account_keeps_baileys_form_in_the_rows_and_is_bytes_for_waeys(
    settings: Settings, company_id: str, db: Any
) -> None:
    """Of `account` Baileys stores base64; WAeys needs the bytes for retry receipts."""
    async with use_supabase_auth_state(company_id, settings=settings) as auth:
        auth.creds["account"] = ACCOUNT
        state = WAeysState(auth)
        decoded = {name: base64.b64decode(text) for name, text in ACCOUNT.items()}
        expected = ADVSignedDeviceIdentity.encode(decoded)
        assert encode_signed_device_identity(state.creds["account"], True) == expected
        await state._saver.save()
        assert auth.creds["account"] == ACCOUNT
    [(creds,)] = db.execute("select creds from whatsapp_auth where company_id = %s", [company_id])
    assert creds["account"] == ACCOUNT


async def test_creds_are_saved_on_creds_update(
    settings: Settings, url: str, company_id: str
) -> None:
    """As after pairing: the account is a protobuf message, some fields are None."""
    decoded = {name: base64.b64decode(text) for name, text in ACCOUNT.items()}
    async with waeys(settings, url, company_id, ALICE) as alice:
        update = {
            "account": ADVSignedDeviceIdentity(**decoded),
            "me": {"id": ALICE, "name": None, "lid": "200000000000001:1@lid"},
            "signalIdentities": [
                {
                    "identifier": {"name": "200000000000001:1@lid", "deviceId": 0},
                    "identifierKey": b"\x05" + bytes(32),
                }
            ],
            "platform": None,
            "routingInfo": b"\x01\x02",
        }
        alice.sock["ev"].emit("creds.update", update)
        await alice.state.flush()
    async with use_supabase_auth_state(company_id, settings=settings) as auth:
        assert auth.creds["account"] == ACCOUNT
        assert auth.creds["me"] == {"id": ALICE, "lid": "200000000000001:1@lid"}
        assert auth.creds["signalIdentities"] == update["signalIdentities"]
        assert auth.creds["routingInfo"] == b"\x01\x02"
        assert "platform" not in auth.creds


async def test_rows_of_another_family_are_refused(settings: Settings, company_id: str) -> None:
    async with use_supabase_auth_state(
        company_id, settings=settings, family="pyaileys", new_creds=init_auth_creds
    ) as auth:
        with pytest.raises(FamilyMismatch, match=r"'pyaileys'.*'baileys'"):
            WAeysState(auth)


@pytest.mark.parametrize(
    ("attrs", "facts"),
    [
        ({"reason": "403"}, (403, "quarantined", None)),
        (
            {"reason": "402", "code": "101", "expire": "86400"},
            (402, "yielded", pytest.approx(86400, abs=60)),
        ),
    ],
)
async def test_a_pool_leaves_an_account_alone_that_whatsapp_refuses(
    settings: Settings, url: str, company_id: str, attrs: dict[str, str], facts: Any
) -> None:
    ends: asyncio.Queue[ConnectionEnd] = asyncio.Queue()

    async def connect(company: str, auth: AuthState) -> dict[str, Any]:
        state = WAeysState(auth)
        sock: dict[str, Any] = make_socket(socket_config(url, state.config))
        state.attach(sock)

        def on_update(update: dict[str, Any]) -> None:
            if update.get("connection") == "close":
                pool.report(company, update["lastDisconnect"]["error"], session=sock)

        sock["ev"].on("connection.update", on_update)
        return sock

    def on_end(company: str, end: ConnectionEnd) -> None:
        ends.put_nowait(end)

    def close_session(sock: dict[str, Any]) -> Any:
        return sock["end"](None)

    async with (
        using_rest(settings) as rest,
        SessionPool(connect, client=rest, close_session=close_session, on_end=on_end) as pool,
    ):
        sock = await pool.get(company_id)
        sock["ws"].emit("CB:failure", BinaryNode("failure", attrs))
        end = await asyncio.wait_for(ends.get(), 30)
        assert (end.code, end.status, end.retry_after) == facts
        assert pool.status() == {company_id: end.status}
