"""Several writes of a client as one commit: the transactions that a key store does not have.

One message changes several rows: a first message from a new contact stores the contact's identity,
stores a session and deletes a used pre-key. A client that writes them one by one can be interrupted
between two of them. `TransactionalKeys` stands between such a client and a key store. It makes all
writes inside ``transaction`` one ``set``, which the store commits whole or not at all.

Used by the adapters for WAeys and pyaileys. Mirrors the meaning of Baileys 7.0.0-rc14,
``src/Utils/auth-utils.ts``, ``addTransactionCapability``.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from supabase_auth_state.errors import StoreUnavailable
from supabase_auth_state.rest.aio import finish_even_if_cancelled
from supabase_auth_state.types import SignalDataSet, SignalKeyStore

_Rows = dict[str, dict[str, Any]]


class KeyedLocks:
    """One lock per name. A lock that no task holds or waits for is forgotten."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """Return the lock of ``name``; it is forgotten when the caller drops it."""
        return self._locks.setdefault(name, asyncio.Lock())


@dataclass(eq=False)
class _Transaction:
    """What one transaction has read and written; a value of None means "not stored".

    Attributes:
        keys: the store it belongs to.
        outer: the transaction around it, of whichever store.
        known: rows that were read or written.
        writes: rows that were written.
        failed_read: the error of a read in it, if one failed.
        open: whether its block is still running.
    """

    keys: TransactionalKeys
    outer: _Transaction | None
    known: _Rows = field(default_factory=dict)
    writes: _Rows = field(default_factory=dict)
    failed_read: Exception | None = None
    open: bool = True

    def write(self, data: SignalDataSet) -> None:
        """Keep rows for the commit."""
        for key_type, values in data.items():
            self.known.setdefault(key_type, {}).update(values)
            self.writes.setdefault(key_type, {}).update(values)


_innermost: ContextVar[_Transaction | None] = ContextVar("innermost_transaction", default=None)


class TransactionalKeys:
    """A `SignalKeyStore` over another one, with transactions.

    Outside a transaction every call goes to the other store at once. A task that is started inside
    a transaction belongs to it. Transactions of two stores are independent, also when one is opened
    inside the other.

    Args:
        keys: the store underneath.
    """

    def __init__(self, keys: SignalKeyStore) -> None:
        self._keys = keys
        self._locks = KeyedLocks()

    @property
    def in_transaction(self) -> bool:
        """Whether the running task is inside a transaction of this store."""
        return bool(self._layers())

    async def get(self, type: str, ids: Sequence[str]) -> dict[str, Any]:
        """Return ``{id: value}`` as the store does; a transaction sees its own writes.

        Inside a transaction each row is read once. A read that fails, or is given up, makes the
        transaction fail at its end too: clients take a failed read for "not stored" and would write
        over the row.
        """
        layers = self._layers()
        if not layers:
            return await self._keys.get(type, ids)
        known = ChainMap(*(layer.known.setdefault(type, {}) for layer in layers))
        unknown = [key_id for key_id in ids if key_id not in known]
        if unknown:
            stored = await self._read(layers[0], type, unknown)
            for key_id in unknown:
                # Another task may have written the row meanwhile, here or in a transaction around
                # this one: that is newer.
                if key_id not in known:
                    layers[0].known[type][key_id] = stored.get(key_id)
        return {key_id: _copy(known[key_id]) for key_id in ids if known[key_id] is not None}

    async def set(self, data: SignalDataSet) -> None:
        """Store values and delete ids whose value is None: at once, or at the transaction's end."""
        layers = self._layers()
        if not layers:
            await self._commit(data)
            return
        # What the client does to its objects later is not part of this write.
        layers[0].write({key_type: _copy(dict(values)) for key_type, values in data.items()})

    async def clear(self) -> None:
        """Delete every key of the company, at once.

        Also what was written before in the transaction around this, which is not committed then.
        """
        layers = self._layers()
        await self._keys.clear()
        for layer in layers:
            layer.known.clear()
            layer.writes.clear()

    def transaction(self, key: str, /) -> AbstractAsyncContextManager[None]:
        """Open a block whose writes are committed as one ``set``, or not at all if it raises.

        The commit is durable when the block has ended. Transactions of the same ``key`` run one
        after the other, commit included. A transaction inside another joins it: its writes are
        committed with those of the outer one, or dropped when it raises itself.

        Args:
            key: what the transaction is about, such as the address of the contact.

        Raises:
            SupabaseAuthStateError: a read inside failed, and nothing is stored; or the commit
                failed, as a ``set`` of the store does.
        """
        return self._transaction(key)

    async def _commit(self, data: SignalDataSet) -> None:
        """Store what one ``set``, or one transaction, has written."""
        await self._keys.set(data)

    @asynccontextmanager
    async def _transaction(self, key: str) -> AsyncIterator[None]:
        async with self._turn(key):
            layer = _Transaction(self, outer=_innermost.get())
            reset = _innermost.set(layer)
            try:
                yield
            finally:
                layer.open = False
                _innermost.reset(reset)
            await self._finish(layer)

    def _turn(self, key: str) -> AbstractAsyncContextManager[Any]:
        # No lock inside a transaction: two that wait for each other's key would never end.
        return nullcontext() if self.in_transaction else self._locks.of(key)

    def _layers(self) -> list[_Transaction]:
        """Return the open transactions of this store around the running task, innermost first."""
        layers = []
        layer = _innermost.get()
        while layer is not None:
            if layer.keys is self and layer.open:
                layers.append(layer)
            layer = layer.outer
        return layers

    async def _read(self, layer: _Transaction, type: str, ids: Sequence[str]) -> dict[str, Any]:
        try:
            return await self._keys.get(type, ids)
        except asyncio.CancelledError:
            # As by `asyncio.wait_for`, after which a client may go on.
            layer.failed_read = StoreUnavailable(
                f"a read of {type} was given up, so nothing of the transaction is stored"
            )
            raise
        except Exception as error:
            layer.failed_read = error
            raise

    async def _finish(self, layer: _Transaction) -> None:
        if layer.failed_read is not None:
            raise layer.failed_read
        around = self._layers()
        if around:
            around[0].write(layer.writes)
        elif layer.writes:
            # The lock of the key is kept until the outcome is known, also when this is cancelled.
            await finish_even_if_cancelled(self._commit(layer.writes))


def _copy(value: Any) -> Any:
    """Copy a value, except for what cannot change."""
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value
