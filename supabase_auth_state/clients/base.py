"""What the adapters for Python WhatsApp clients share.

A client keeps its creds in memory and counts the pre-keys it makes in them. Two orders matter:

* Creds in the database never count a pre-key that is not stored there. So new pre-keys are stored
  first, and creds that are saved meanwhile count without them.
* A client uploads new pre-keys to WhatsApp right after its ``set`` has returned. From then on their
  ids must not be given to other keys, so ``set`` returns after the counters are stored too. A
  process that dies between the two writes has uploaded nothing: the next one makes new keys under
  the same ids and stores them over the old ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from supabase_auth_state.errors import FamilyMismatch, SupabaseAuthStateError
from supabase_auth_state.types import ClientFamily, Creds, SignalDataSet, SignalKeyStore

from .transactions import TransactionalKeys

if TYPE_CHECKING:
    from supabase_auth_state.auth_state.database import AuthState

log = logging.getLogger("supabase_auth_state")

_COUNTERS = ("nextPreKeyId", "firstUnuploadedPreKeyId")


def require_family(auth: AuthState, family: ClientFamily) -> None:
    """Refuse a company whose rows another kind of client wrote.

    Raises:
        FamilyMismatch: naming both families.
    """
    if auth.family != family:
        raise FamilyMismatch(auth.company_id, stored=auth.family, wanted=family)


class ClientKeys(TransactionalKeys):
    """A transactional key store that stores new pre-keys before the creds that count them.

    Args:
        keys: the store underneath.
        count: given the first id that is free after new pre-keys, raises the counters of the
            client's creds to at least that and stores the creds.
    """

    def __init__(self, keys: SignalKeyStore, count: Callable[[int], Awaitable[None]]) -> None:
        super().__init__(keys)
        self._count = count
        self._not_stored: set[int] = set()

    @property
    def first_not_stored(self) -> int | None:
        """The lowest id of a pre-key that the client has made and that is not stored for certain.

        None when there is none.
        """
        return min(self._not_stored, default=None)

    async def set(self, data: SignalDataSet) -> None:
        """Store values and delete ids whose value is None; see `TransactionalKeys.set`.

        With new pre-keys, the counters in creds are durable too when the ``set``, or the
        transaction around it, has ended.
        """
        self._not_stored.update(_new_pre_keys(data))
        await super().set(data)

    async def _commit(self, data: SignalDataSet) -> None:
        await super()._commit(data)
        made = _new_pre_keys(data)
        if made:
            highest = max(made)
            # Ids below that are skipped: those of a transaction that failed are not made again.
            self._not_stored = {key_id for key_id in self._not_stored if key_id > highest}
            await self._count(highest + 1)


class CredsSaver:
    """Stores the creds of a client whenever they have changed.

    Args:
        auth: the state that stores them.
        update: brings the dict it is given up to the client's creds in memory.
        keys: tells which pre-keys are not stored, so that creds do not count them yet.
    """

    def __init__(self, auth: AuthState, update: Callable[[Creds], None], keys: ClientKeys) -> None:
        self._auth = auth
        self._update = update
        self._keys = keys
        self._unsaved = False
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def save_soon(self) -> None:
        """Save in the background, for a client that does not wait; see `try_to_save`."""
        self._unsaved = True
        task = asyncio.get_running_loop().create_task(self._flush_or_log())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def try_to_save(self) -> None:
        """Save; a failure is logged, and made up for by the next save or by `flush`."""
        self._unsaved = True
        await self._flush_or_log()

    async def save(self) -> None:
        """Save, and return when the creds are durable.

        Raises:
            SupabaseAuthStateError: they could not be stored.
        """
        self._unsaved = True
        await self.flush()

    async def flush(self) -> None:
        """Return when every change so far is durable.

        Raises:
            SupabaseAuthStateError: they could not be stored.
        """
        async with self._turn:
            while self._unsaved:
                self._follow()
                self._unsaved = False
                try:
                    await self._auth.save_creds()
                except BaseException:
                    self._unsaved = True
                    raise

    def _follow(self) -> None:
        creds = self._auth.creds
        self._update(creds)
        limit = self._keys.first_not_stored
        if limit is not None:
            creds.update({name: min(creds[name], limit) for name in _COUNTERS if name in creds})

    async def _flush_or_log(self) -> None:
        try:
            await self.flush()
        except SupabaseAuthStateError as error:
            log.error("company %s: creds are not saved yet: %s", self._auth.company_id, error)


def _new_pre_keys(data: SignalDataSet) -> list[int]:
    """Return the ids of the pre-keys that are stored by this, not deleted."""
    pre_keys = data.get("pre-key", {})
    return [
        int(key_id)
        for key_id, value in pre_keys.items()
        if value is not None and str(key_id).isdecimal()
    ]
