"""Python WhatsApp clients that answer the commands of peer.mjs, each on the rows of a company."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol
from unittest.mock import patch

from pyaileys import WhatsAppClient
from pyaileys.signal.repository import PreKeyBundle, PreKeyBundleKey
from WAeys.Utils.signal import get_next_pre_keys

from supabase_auth_state import AuthState, use_supabase_auth_state
from supabase_auth_state.config import Settings
from supabase_auth_state.pyaileys import new_creds, whatsapp_client
from supabase_auth_state.waeys import WAeysState


class Party(Protocol):
    """One open account; its methods are commands, as the top of peer.mjs describes them."""

    auth: AuthState


Open = Callable[..., Awaitable[Party]]


class PythonPeer:
    """What a NodePeer is for Node: `await peer.call("encrypt", party="alice", jid=…, text=…)`."""

    def __init__(self, settings: Settings, open_party: Open) -> None:
        self._settings = settings
        self._open_party = open_party
        self.parties: dict[str, Party] = {}

    async def call(self, op: str, *, party: str, **arguments: Any) -> Any:
        if op == "open":
            self.parties[party] = await self._open_party(self._settings, **arguments)
            return None
        if op == "close":
            await self.parties.pop(party).auth.close()
            return None
        return await getattr(self.parties[party], op.replace("-", "_"))(**arguments)

    async def close(self) -> None:
        """Close every account that is still open."""
        for name in list(self.parties):
            await self.call("close", party=name)


@dataclass
class WAeysParty:
    """WAeys' own Signal repository on a company, made as its `make_socket` makes it."""

    auth: AuthState
    state: WAeysState
    repository: Mapping[str, Any]

    @classmethod
    async def open(
        cls, settings: Settings, *, company: str, kind: str = "supabase", **options: Any
    ) -> WAeysParty:
        assert kind == "supabase"
        auth = await use_supabase_auth_state(company, settings=settings, **options)
        state = WAeysState(auth)
        config = state.config
        return cls(auth, state, config["makeSignalRepository"](config["auth"], None, no_server))

    async def bundle(self) -> dict[str, Any]:
        minted = await get_next_pre_keys(self.state.config["auth"], 1)
        self.state.creds.update(minted["update"])
        [(key_id, pre_key)] = minted["preKeys"].items()
        creds = self.state.creds
        signed = creds["signedPreKey"]
        return {
            "registrationId": creds["registrationId"],
            "identityKey": signal_text_of(creds["signedIdentityKey"]["public"]),
            "signedPreKey": {
                "keyId": signed["keyId"],
                "publicKey": signal_text_of(signed["keyPair"]["public"]),
                "signature": text_of(signed["signature"]),
            },
            "preKey": {"keyId": int(key_id), "publicKey": signal_text_of(pre_key["public"])},
        }

    async def inject(self, *, jid: str, bundle: Mapping[str, Any]) -> None:
        signed, pre_key = bundle["signedPreKey"], bundle["preKey"]
        session = {
            "registrationId": bundle["registrationId"],
            "identityKey": bytes_of(bundle["identityKey"]),
            "signedPreKey": {
                "keyId": signed["keyId"],
                "publicKey": bytes_of(signed["publicKey"]),
                "signature": bytes_of(signed["signature"]),
            },
            "preKey": {"keyId": pre_key["keyId"], "publicKey": bytes_of(pre_key["publicKey"])},
        }
        await self.repository["injectE2ESession"]({"jid": jid, "session": session})

    async def encrypt(self, *, jid: str, text: str) -> dict[str, str]:
        sent = await self.repository["encryptMessage"]({"jid": jid, "data": text.encode()})
        return {"type": sent["type"], "ciphertext": text_of(sent["ciphertext"])}

    async def decrypt(self, *, jid: str, type: str, ciphertext: str) -> str:
        message = {"jid": jid, "type": type, "ciphertext": bytes_of(ciphertext)}
        plain: bytes = await self.repository["decryptMessage"](message)
        return plain.decode()

    async def encrypt_group(self, *, group: str, me: str, text: str) -> dict[str, str]:
        message = {"group": group, "meId": me, "data": text.encode()}
        sent = await self.repository["encryptGroupMessage"](message)
        return {
            "ciphertext": text_of(sent["ciphertext"]),
            "skdm": text_of(sent["senderKeyDistributionMessage"]),
        }

    async def accept_sender_key(self, *, group: str, author: str, skdm: str) -> None:
        item = SimpleNamespace(groupId=group, axolotlSenderKeyDistributionMessage=bytes_of(skdm))
        message = {"item": item, "authorJid": author}
        await self.repository["processSenderKeyDistributionMessage"](message)

    async def decrypt_group(self, *, group: str, author: str, ciphertext: str) -> str:
        message = {"group": group, "authorJid": author, "msg": bytes_of(ciphertext)}
        plain: bytes = await self.repository["decryptGroupMessage"](message)
        return plain.decode()

    async def store_lid(self, *, pairs: list[dict[str, str]]) -> None:
        await self.repository["lidMapping"].store_lidpn_mappings(pairs)

    async def migrate(self, **jids: str) -> dict[str, int]:
        moved: dict[str, int] = await self.repository["migrateSession"](jids["from"], jids["to"])
        return moved


@dataclass
class PyaileysParty:
    """The Signal side of a pyaileys client on a company."""

    auth: AuthState
    client: WhatsAppClient

    @classmethod
    async def open(
        cls, settings: Settings, *, company: str, kind: str = "supabase", **options: Any
    ) -> PyaileysParty:
        assert kind == "supabase"
        auth = await use_supabase_auth_state(
            company, settings=settings, family="pyaileys", new_creds=new_creds, **options
        )
        return cls(auth, whatsapp_client(auth))

    async def bundle(self) -> dict[str, Any]:
        socket = self.client.socket
        creds = socket.auth.creds
        uploaded: list[Any] = []

        async def server(node: Any, **_options: Any) -> None:
            uploaded.append(node)

        with patch.object(socket, "query", server):
            await socket._upload_prekeys(1)
        [pre_key] = _child(uploaded[0], "list").content
        signed = creds.signed_pre_key
        return {
            "registrationId": creds.registration_id,
            "identityKey": signal_text_of(creds.signed_identity_key.public),
            "signedPreKey": {
                "keyId": signed.key_id,
                "publicKey": signal_text_of(signed.key_pair.public),
                "signature": text_of(signed.signature),
            },
            "preKey": {
                "keyId": int.from_bytes(_child(pre_key, "id").content, "big"),
                "publicKey": signal_text_of(_child(pre_key, "value").content),
            },
        }

    async def inject(self, *, jid: str, bundle: Mapping[str, Any]) -> None:
        received = PreKeyBundle(
            registration_id=bundle["registrationId"],
            identity_key=bytes_of(bundle["identityKey"]),
            signed_pre_key=_bundle_key(bundle["signedPreKey"]),
            pre_key=_bundle_key(bundle["preKey"]),
        )
        await self.client.signal.inject_outgoing_session(jid, received)

    async def encrypt(self, *, jid: str, text: str) -> dict[str, str]:
        kind, ciphertext = await self.client.signal.encrypt_message(jid, data=text.encode())
        return {"type": kind, "ciphertext": text_of(ciphertext)}

    async def decrypt(self, *, jid: str, type: str, ciphertext: str) -> str:
        plain = await self.client.signal.decrypt_message(
            jid, message_type=type, ciphertext=bytes_of(ciphertext)
        )
        return plain.decode()

    async def encrypt_group(self, *, group: str, me: str, text: str) -> dict[str, str]:
        ciphertext, skdm = await self.client.signal.encrypt_group_message(
            group_jid=group, me_jid=me, data=text.encode()
        )
        return {"ciphertext": text_of(ciphertext), "skdm": text_of(skdm)}

    async def accept_sender_key(self, *, group: str, author: str, skdm: str) -> None:
        await self.client.signal.process_sender_key_distribution_message(
            group, author_jid=author, distribution_bytes=bytes_of(skdm)
        )

    async def decrypt_group(self, *, group: str, author: str, ciphertext: str) -> str:
        plain = await self.client.signal.decrypt_group_message(
            group_jid=group, author_jid=author, ciphertext=bytes_of(ciphertext)
        )
        return plain.decode()


async def no_server(_pns: list[str]) -> None:
    """Stand for a lookup that WhatsApp's server would answer."""


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def signal_text_of(public: bytes) -> str:
    """A public key as Signal writes it, with its type in front."""
    return text_of(b"\x05" + public)


def bytes_of(text: str) -> bytes:
    return base64.b64decode(text)


def _bundle_key(key: Mapping[str, Any]) -> PreKeyBundleKey:
    signature = key.get("signature")
    return PreKeyBundleKey(
        key["keyId"], bytes_of(key["publicKey"]), bytes_of(signature) if signature else None
    )


def _child(node: Any, tag: str) -> Any:
    return next(child for child in node.content if child.tag == tag)
