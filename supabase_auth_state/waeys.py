"""WAeys on Supabase rows: what its ``config['auth']`` needs, and a signal repository that commits.

    state = WAeysState(auth)
    sock = make_socket({**default_connection_config(), **state.config})
    state.attach(sock)

Optional extra: ``pip install supabase-auth-state[waeys]``. WAeys keeps Baileys' names and shapes,
so a company is shared with Node Baileys (client family ``baileys``), one process at a time.

Checked against WAeys 0.1.3 (``Socket/socket.py``, ``Signal/libsignal.py``, ``Utils/signal.py``).
What that version needs from its adapter:

* its key store is called as ``keys.get`` and as ``keys['get']``;
* its own transactions raise on every Signal call and roll nothing back, so the repository gets
  ours;
* it numbers pre-keys with integers and then looks them up as text;
* it wants ``creds.account`` as bytes where Baileys stores base64.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .clients.base import ClientKeys, CredsSaver, require_family
from .types import Creds, SignalDataSet

try:
    from WAeys.Signal.libsignal import make_libsignal_repository
except ModuleNotFoundError as error:
    raise ImportError(
        "supabase_auth_state.waeys needs WAeys: pip install 'supabase-auth-state[waeys]'"
    ) from error

if TYPE_CHECKING:
    from .auth_state.database import AuthState

_T = TypeVar("_T")
_Handler = Callable[[Any], Awaitable[Any]]

_ACCOUNT_FIELDS = ("details", "accountSignatureKey", "accountSignature", "deviceSignature")


class WAeysState:
    """The auth state of one company in the shape WAeys takes.

    Attributes:
        creds: WAeys' own creds; it changes them in place, and ``auth.creds`` follows on every save.
        keys: the key store, with transactions. New pre-keys are stored before the creds that count
            them; a ``set`` of new pre-keys ends when both are durable.
    """

    def __init__(self, auth: AuthState) -> None:
        """Wrap an open state.

        Raises:
            FamilyMismatch: the rows were written by a client with other value shapes.
        """
        require_family(auth, "baileys")
        self.creds = _creds_for_waeys(auth.creds)
        self.keys = WAeysKeys(auth.keys, self._count_pre_keys)
        self._saver = CredsSaver(auth, self._update, self.keys)

    @property
    def config(self) -> dict[str, Any]:
        """The entries ``auth`` and ``makeSignalRepository`` of the config for ``make_socket``."""
        return {
            "auth": {"creds": self.creds, "keys": self.keys},
            "makeSignalRepository": self._make_signal_repository,
        }

    def attach(self, sock: Mapping[str, Any]) -> None:
        """Save creds whenever this socket emits ``creds.update``.

        The event does not wait for its listeners: a save that fails is logged, made up for by the
        next one, and raised by `flush`.
        """
        sock["ev"].on("creds.update", lambda _update: self._saver.save_soon())

    async def flush(self) -> None:
        """Return when the creds of every update so far are durable. Call it before closing.

        Raises:
            SupabaseAuthStateError: they could not be stored.
        """
        await self._saver.flush()

    async def _count_pre_keys(self, next_id: int) -> None:
        if next_id > self.creds["nextPreKeyId"]:
            self.creds.update(nextPreKeyId=next_id, firstUnuploadedPreKeyId=next_id)
        await self._saver.save()

    def _update(self, stored: Creds) -> None:
        """Update the stored creds to WAeys' own, in the form Baileys writes."""
        for name, value in self.creds.items():
            if value is None:
                stored.pop(name, None)
            else:
                stored[name] = _FORMS.get(name, _same)(value)

    def _make_signal_repository(
        self, auth: Mapping[str, Any], logger: object = None, pn_to_lid: object = None
    ) -> dict[str, Any]:
        """Build WAeys' repository over our keys; the wrapped ones it passes cannot commit."""
        own = {"creds": auth["creds"], "keys": self.keys}
        repository: dict[str, Any] = make_libsignal_repository(own, logger, pn_to_lid)
        decrypt = repository["decryptMessage"]
        distribute = repository["processSenderKeyDistributionMessage"]
        return {
            **repository,
            "decryptMessage": self._atomic(decrypt, _contact),
            "processSenderKeyDistributionMessage": self._atomic(distribute, _group),
        }

    def _atomic(self, handle: _Handler, key: Callable[[Any], str]) -> _Handler:
        """Wrap a handler, which writes before its own transaction, in one of the same key."""

        async def in_transaction(message: Any) -> Any:
            async with self.keys.transaction(key(message)):
                return await handle(message)

        return in_transaction


class WAeysKeys(ClientKeys):
    """The key store as WAeys calls it: by attribute and by subscript."""

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    async def get(self, type: str, ids: Sequence[str]) -> dict[str, Any]:
        """Return ``{id: value}``; pre-keys are found under their number too."""
        found = await super().get(type, ids)
        return _Numbered(found) if type == "pre-key" else found

    async def set(self, data: SignalDataSet) -> None:
        """Store values in the form Node Baileys writes; see `ClientKeys.set`.

        LID mappings are stored at once even inside a transaction: WAeys remembers them in memory
        for days, whatever becomes of the message that taught them.
        """
        rows = {key_type: _as_baileys(key_type, values) for key_type, values in data.items()}
        if self.in_transaction and "lid-mapping" in rows:
            await self._keys.set({"lid-mapping": rows["lid-mapping"]})
        await super().set(rows)

    @overload
    def transaction(self, key: str, /) -> AbstractAsyncContextManager[None]: ...

    @overload
    def transaction(
        self, work: Callable[[], Awaitable[_T]], key: str, /
    ) -> Coroutine[Any, Any, _T]: ...

    def transaction(self, work: Any, key: str | None = None, /) -> Any:
        """Commit once: an ``async with`` block, or the ``work`` that is given to be awaited."""
        return super().transaction(work) if key is None else self._run(work, key)

    async def _run(self, work: Callable[[], Awaitable[_T]], key: str) -> _T:
        async with super().transaction(key):
            return await work()


class _Numbered(dict[str, Any]):
    """Pre-keys by id, which WAeys makes a number before it looks a key up."""

    def __missing__(self, key: object) -> Any:
        if isinstance(key, int):
            return self[str(key)]
        raise KeyError(key)


def _contact(message: Mapping[str, Any]) -> str:
    return str(message["jid"])


def _group(message: Mapping[str, Any]) -> str:
    return str(message["item"].groupId)


def _as_baileys(key_type: str, values: Mapping[Any, Any]) -> dict[str, Any]:
    convert = _without_nulls if key_type == "session" else _same
    return {str(key_id): convert(value) for key_id, value in values.items()}


def _without_nulls(value: Any) -> Any:
    """Leave out fields that are None, which Baileys does not write."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return value


def _same(value: Any) -> Any:
    return value


def _creds_for_waeys(creds: Creds) -> Creds:
    account = creds.get("account")
    if account is None:
        return dict(creds)
    decoded = {name: base64.b64decode(text) for name, text in account.items()}
    return {**creds, "account": decoded}


def _account_as_baileys(account: Any) -> dict[str, str]:
    """Encode the account: a dict when it came from the rows, a protobuf message after pairing."""
    fields = account if isinstance(account, Mapping) else vars(account)
    return {
        name: base64.b64encode(fields[name]).decode("ascii")
        for name in _ACCOUNT_FIELDS
        if fields.get(name) is not None
    }


_FORMS: Mapping[str, Callable[[Any], Any]] = {
    "account": _account_as_baileys,
    "me": _without_nulls,
}
