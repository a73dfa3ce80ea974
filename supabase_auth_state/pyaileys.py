"""pyaileys on Supabase rows: a client whose received message is one commit, acknowledged after it.

    opening = use_supabase_auth_state("962302", family="pyaileys", new_creds=new_creds, lease=True)
    async with opening as auth:
        client = whatsapp_client(auth)
        await client.connect()

Optional extra: ``pip install supabase-auth-state[pyaileys]``. Creds are stored under Baileys' field
names; sessions and sender keys are protobuf, so no company is shared with Baileys (client family
``pyaileys``).

Checked against pyaileys 0.1.5 (``client.py``, ``socket.py``, ``signal/repository.py``). On its
own, that version stores the three rows of a first message one by one, acknowledges a message before
it is decrypted, and decrypts the parts of a message at the same time, so that the group key in one
part may come too late for the text in the other.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from .clients.base import ClientKeys, CredsSaver, require_family
from .clients.transactions import KeyedLocks, TransactionalKeys
from .types import Creds, SignalDataSet, SignalKeyStore

try:
    from pyaileys.auth.creds import AuthenticationCreds
    from pyaileys.auth.serde import creds_from_dict
    from pyaileys.auth.state import AuthenticationState
    from pyaileys.auth.utils import init_auth_creds
    from pyaileys.client import ClientConfig, WhatsAppClient
    from pyaileys.proto import WAProto_pb2
    from pyaileys.signal.group import jid_to_sender_key_name
    from pyaileys.signal.repository import PreKeyBundle, SignalRepository
    from pyaileys.socket import WASocket
    from pyaileys.store import InMemoryStore
    from pyaileys.util.events import AsyncEventEmitter
    from pyaileys.wabinary.types import BinaryNode
except ModuleNotFoundError as error:
    raise ImportError(
        "supabase_auth_state.pyaileys needs pyaileys: pip install 'supabase-auth-state[pyaileys]'"
    ) from error

if TYPE_CHECKING:
    from .auth_state.database import AuthState

_proto: Any = WAProto_pb2
_NESTED = ("signed_pre_key", "account_settings")


def whatsapp_client(
    auth: AuthState, *, config: ClientConfig | None = None, store: InMemoryStore | None = None
) -> WhatsAppClient:
    """Return a pyaileys client that uses this state and saves its creds.

    A message is acknowledged to WhatsApp when everything it changed is durable, and handed to the
    listeners after that. When the store failed, it is not acknowledged, and WhatsApp sends it again
    on the next connection. Messages of one sender are handled in the order they came.

    Args:
        auth: opened with ``family="pyaileys"``.
        config: as for pyaileys' ``WhatsAppClient``.
        store: where pyaileys keeps chats and contacts; in memory by default.

    Raises:
        FamilyMismatch: the rows were written by another kind of client.
    """
    return _Client(auth, config, store)


def new_creds() -> Creds:
    """Return the creds of a device that has never been linked, as ``new_creds`` of an opening."""
    return creds_to_rows(init_auth_creds())


def creds_from_rows(stored: Creds) -> AuthenticationCreds:
    """Return stored creds as pyaileys' dataclass."""
    named = {_snake(name): value for name, value in stored.items()}
    for name in _NESTED:
        named[name] = {_snake(key): value for key, value in named.get(name, {}).items()}
    if named.get("account") is not None:
        named["account"] = _account_to_bytes(named["account"])
    return creds_from_dict(named)


def creds_to_rows(creds: AuthenticationCreds) -> Creds:
    """Return pyaileys' creds under Baileys' field names; what is None is left out."""
    rows = {name: value for name, value in _by_camel_names(creds).items() if name != "account"}
    if creds.account is not None:
        rows["account"] = _account_to_text(creds.account)
    return rows


@dataclass(eq=False)
class _Delivery:
    """One received message that the client is handling.

    Attributes:
        open: whether events are still kept back.
        failed: whether the store failed, so that the message must come again.
        events: what listeners are told when the message is durable.
    """

    open: bool = True
    failed: bool = False
    events: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)


_delivery: ContextVar[_Delivery | None] = ContextVar("delivery", default=None)


class _Client(WhatsAppClient):
    """pyaileys' client, with the state, the repository and the order of events of this module."""

    def __init__(
        self, auth: AuthState, config: ClientConfig | None, store: InMemoryStore | None
    ) -> None:
        require_family(auth, "pyaileys")
        keys = ClientKeys(_WatchedKeys(auth.keys), self._count_pre_keys)
        self._saver = CredsSaver(auth, self._update, keys)
        state = AuthenticationState(creds=creds_from_rows(auth.creds), keys=keys)
        super().__init__(auth=state, config=config, store=store)
        self.signal = _Repository(state, keys)
        self._socket = _Socket(config=self.config.socket, auth=state)
        self.socket = self._socket
        self.socket.events.on("stanza.message", self._on_message_stanza)
        self.socket.events.on("creds.update", self._on_creds_update)
        self._order = KeyedLocks()
        self._deliveries: set[asyncio.Task[None]] = set()

    async def _on_message_stanza(self, stanza: BinaryNode) -> None:
        # In the background: the receive loop must go on, or no query is answered.
        task = asyncio.create_task(self._deliver(stanza))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, stanza: BinaryNode) -> None:
        delivery = _Delivery()
        sender = stanza.attrs.get("participant") or stanza.attrs.get("from") or ""
        async with self._order.of(sender):
            reset = _delivery.set(delivery)
            try:
                await self._handle(stanza)
            finally:
                delivery.open = False
                _delivery.reset(reset)
            if not delivery.failed:
                await self._socket.acknowledge(stanza)
        for event, args, kwargs in delivery.events:
            await self.socket.events.emit(event, *args, **kwargs)

    async def _handle(self, stanza: BinaryNode) -> None:
        """Have pyaileys handle the parts of a message one after the other, each to its end."""
        parts = stanza.content if isinstance(stanza.content, list) else []
        for part in parts:
            before = asyncio.all_tasks()
            # This starts tasks and returns without waiting: tasks that are new are its own.
            await super()._on_message_stanza(replace(stanza, content=[part]))
            started = asyncio.all_tasks() - before
            if started:
                await asyncio.wait(started)

    async def _on_creds_update(self, _creds: object) -> None:
        await self._saver.try_to_save()

    def _update(self, stored: Creds) -> None:
        """Update the stored creds to pyaileys' own, under Baileys' names."""
        live = creds_to_rows(self.socket.auth.creds)
        for creds_field in fields(AuthenticationCreds):
            stored.pop(_camel(creds_field.name), None)
        stored.update(live)

    async def _count_pre_keys(self, next_id: int) -> None:
        creds = self.socket.auth.creds
        if next_id > creds.next_pre_key_id:
            creds.next_pre_key_id = creds.first_unuploaded_pre_key_id = next_id
        await self._saver.save()


class _Socket(WASocket):
    """pyaileys' socket, except that the client acknowledges messages."""

    def __init__(self, *, config: Any, auth: AuthenticationState) -> None:
        super().__init__(config=config, auth=auth)
        self.events = _Events()

    async def _on_message_stanza(self, stanza: BinaryNode) -> None:
        """Do nothing: the client acknowledges when it has handled the message."""

    async def acknowledge(self, stanza: BinaryNode) -> None:
        """Send what pyaileys sends for a received message."""
        await super()._on_message_stanza(stanza)


class _Events(AsyncEventEmitter):
    """An emitter that keeps the events of a message back until the message is durable."""

    async def emit(self, event: str, *args: Any, **kwargs: Any) -> bool:
        delivery = _delivery.get()
        if delivery is None or not delivery.open or event == "creds.update":
            return await super().emit(event, *args, **kwargs)
        delivery.events.append((event, args, kwargs))
        return True


class _WatchedKeys:
    """A key store that marks the message being handled when it fails; pyaileys hides the error."""

    def __init__(self, keys: SignalKeyStore) -> None:
        self._keys = keys

    async def get(self, type: str, ids: Sequence[str]) -> dict[str, Any]:
        return await _watched(self._keys.get(type, ids))

    async def set(self, data: SignalDataSet) -> None:
        await _watched(self._keys.set(data))

    async def clear(self) -> None:
        await self._keys.clear()


_T = TypeVar("_T")


async def _watched(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except BaseException:
        delivery = _delivery.get()
        if delivery is not None:
            delivery.failed = True
        raise


class _Repository(SignalRepository):
    """pyaileys' Signal repository with one commit per call."""

    def __init__(self, auth: AuthenticationState, keys: TransactionalKeys) -> None:
        super().__init__(auth)
        self._keys = keys

    async def inject_outgoing_session(self, jid: str, bundle: PreKeyBundle) -> None:
        async with self._keys.transaction(self._contact(jid)):
            await super().inject_outgoing_session(jid, bundle)

    async def encrypt_message(self, jid: str, *, data: bytes) -> tuple[str, bytes]:
        async with self._keys.transaction(self._contact(jid)):
            return await super().encrypt_message(jid, data=data)

    async def decrypt_message(self, jid: str, *, message_type: str, ciphertext: bytes) -> bytes:
        async with self._keys.transaction(self._contact(jid)):
            return await super().decrypt_message(
                jid, message_type=message_type, ciphertext=ciphertext
            )

    async def encrypt_group_message(
        self, *, group_jid: str, me_jid: str, data: bytes
    ) -> tuple[bytes, bytes]:
        async with self._keys.transaction(_sender(group_jid, me_jid)):
            return await super().encrypt_group_message(
                group_jid=group_jid, me_jid=me_jid, data=data
            )

    async def decrypt_group_message(
        self, *, group_jid: str, author_jid: str, ciphertext: bytes
    ) -> bytes:
        async with self._keys.transaction(_sender(group_jid, author_jid)):
            return await super().decrypt_group_message(
                group_jid=group_jid, author_jid=author_jid, ciphertext=ciphertext
            )

    async def process_sender_key_distribution_message(
        self, group_jid: str, *, author_jid: str, distribution_bytes: bytes
    ) -> None:
        async with self._keys.transaction(_sender(group_jid, author_jid)):
            await super().process_sender_key_distribution_message(
                group_jid, author_jid=author_jid, distribution_bytes=distribution_bytes
            )

    def _contact(self, jid: str) -> str:
        return str(self.jid_to_address(jid))


def _sender(group_jid: str, jid: str) -> str:
    return jid_to_sender_key_name(group_jid, jid).serialize()


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _by_camel_names(value: Any) -> dict[str, Any]:
    return {
        _camel(item.name): _plain(getattr(value, item.name))
        for item in fields(value)
        if getattr(value, item.name) is not None
    }


def _plain(value: Any) -> Any:
    return _by_camel_names(value) if is_dataclass(value) else value


def _account_to_bytes(account: dict[str, str]) -> bytes:
    parts = {name: base64.b64decode(text) for name, text in account.items()}
    return bytes(_proto.ADVSignedDeviceIdentity(**parts).SerializeToString())


def _account_to_text(account: bytes) -> dict[str, str]:
    message = _proto.ADVSignedDeviceIdentity.FromString(account)
    return {
        part.name: base64.b64encode(value).decode("ascii") for part, value in message.ListFields()
    }
