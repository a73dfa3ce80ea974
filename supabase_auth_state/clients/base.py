"""What the adapters for Python WhatsApp clients share."""

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

_log = logging.getLogger(__name__)


def require_family(auth: AuthState, family: ClientFamily) -> None:
    """Refuse a company whose rows another kind of client wrote.

    Raises:
        FamilyMismatch: naming both families.
    """
    if auth.family != family:
        raise FamilyMismatch(auth.company_id, stored=auth.family, wanted=family)


class CredsSaver:
    """Keeps the stored creds up to the live ones of a client.

    Args:
        auth: the state that stores them.
        follow: brings the dict it is given up to the client's live creds.
    """

    def __init__(self, auth: AuthState, follow: Callable[[Creds], None]) -> None:
        self._auth = auth
        self._follow = follow
        self._unsaved = False
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def save_soon(self) -> None:
        """Save in the background, for a client that does not wait; see :meth:`try_to_save`."""
        self._unsaved = True
        task = asyncio.get_running_loop().create_task(self._flush_or_log())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def try_to_save(self) -> None:
        """Save; a failure is logged and made up for by the next save or by :meth:`flush`."""
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
                self._follow(self._auth.creds)
                self._unsaved = False
                try:
                    await self._auth.save_creds()
                except BaseException:
                    self._unsaved = True
                    raise

    async def _flush_or_log(self) -> None:
        try:
            await self.flush()
        except SupabaseAuthStateError as error:
            _log.error("company %s: creds are not saved yet: %s", self._auth.company_id, error)


class ClientKeys(TransactionalKeys):
    """A transactional key store that counts new pre-keys before it stores them.

    A client uploads pre-keys right after storing them and saves its counters at some other time.
    Counters that come too late make it mint the same ids again and overwrite private keys whose
    public half the server hands out.

    Args:
        keys: the store underneath.
        reserve: makes the counters durable, given the first id that is free afterwards.
    """

    def __init__(self, keys: SignalKeyStore, reserve: Callable[[int], Awaitable[None]]) -> None:
        super().__init__(keys)
        self._reserve = reserve

    async def set(self, data: SignalDataSet) -> None:
        """Store values and delete ids whose value is None; see :class:`TransactionalKeys`."""
        pre_keys = data.get("pre-key", {})
        minted = [int(key_id) for key_id, value in pre_keys.items() if value is not None]
        if minted:
            await self._reserve(max(minted) + 1)
        await super().set(data)
