"""Numbers the writes of one opening of a company, so that none that is late changes anything."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from supabase_auth_state.codec import Sealing
from supabase_auth_state.errors import (
    CompanyQuarantined,
    LeaseLost,
    SealedValueError,
    StateRolledBack,
    SupabaseAuthStateError,
    WriteRefused,
)
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.connection import Place
from supabase_auth_state.rest.requests import Commit, names

from .seals import sealing_for

if TYPE_CHECKING:
    from .lease import Lease

T = TypeVar("T")

_SEALED = re.compile("whatsapp sealing: .* with the key ([A-Za-z0-9_-]{1,32})")

EPOCH_HEADER = "x-whatsapp-epoch"
"""The epoch in which a writer without a lease has opened the company; each owner begins another."""

STORED_HEADER = "x-whatsapp-stored"
"""The last number of this writer that is known to be stored; a restored database knows less."""

OPENS_HEADER = "x-whatsapp-opens"
"""The ids of the keys that this writer has; rows that are sealed with another one are kept."""


class Writer:
    """One opening of a company: every write goes through here, one at a time.

    The database executes a number once and refuses a lower one, so a copy of a request that was
    delayed on its way never lands over a later one.

    Args:
        rest: where the database is.
        company_id: the company.

    Attributes:
        company_id: the company.
        id: the writer's name, a uuid.
        lease: the lease under which to write, or None.
        epoch: without a lease, that of the company when it was opened. Once another process has
            owned the company, writes are refused.
        unknown: whether the outcome of the last write is unknown. `fence` makes it known.
        replaces_sealed: ids of keys with which rows are sealed that may be replaced though no key
            here opens them; all others that no key opens the database keeps.
    """

    def __init__(self, rest: Rest, company_id: str) -> None:
        self.company_id = company_id
        self.id = str(uuid.uuid4())
        self.lease: Lease | None = None
        self.epoch: int | None = None
        self.unknown = False
        self.replaces_sealed: tuple[str, ...] = ()
        self._rest = rest
        self._number = 0
        self._stored = 0
        self._place = Place()
        self._one_at_a_time = asyncio.Lock()
        self._sealing: Sealing | None = None

    async def sealing(self) -> Sealing:
        """Return what seals and opens the company's values, the same every time.

        Raises:
            ConfigurationError, StoreUnavailable: as `sealing_for`.
        """
        if self._sealing is None:
            self._sealing = await sealing_for(self._rest, self.company_id)
        return self._sealing

    def check_place(self) -> None:
        """Return if the company was opened here.

        Raises:
            ConfigurationError: the company was opened in another event loop, or before a fork.
        """
        self._place.refuse_elsewhere(f"company {self.company_id!r}")

    def check(self) -> None:
        """Return if the company may still be written from here.

        Raises:
            LeaseLost: the lease is lost or was released.
            StateRolledBack: it is lost because the database was set back to an earlier moment.
            ConfigurationError: as `check_place`.
        """
        self.check_place()
        if self.lease is not None:
            self.lease.check()

    async def upsert(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        on_conflict: str,
        content: bytes | None = None,
    ) -> None:
        """Store rows in one transaction; see `Rest.upsert`.

        Raises:
            LeaseLost: this process no longer owns the company.
            CompanyQuarantined: WhatsApp has logged the company out; nothing is stored for it.
            StateRolledBack: the database was set back to an earlier moment.
            StoreError: the database refused or did not answer.
        """
        await self._write(
            lambda commit: self._rest.upsert(
                table, rows, on_conflict=on_conflict, content=content, commit=commit
            )
        )

    async def rpc(self, function: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call a function that writes, and return its receipt, which names company and commit.

        Raises:
            LeaseLost, StateRolledBack, StoreError: as `upsert`.
        """
        return await self._write(lambda commit: self._receipt(function, params, commit))

    async def ask(self, function: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call a function that may write and repeats the request in its result; see `Rest.ask`.

        Raises:
            LeaseLost, StateRolledBack, StoreError: as `upsert`.
        """
        return await self._write(
            lambda commit: self._rest.ask(function, self.company_id, params, commit=commit)
        )

    async def fence(self) -> None:
        """Make the outcome of every earlier write final: none of them is executed after this.

        Returns at once when no outcome is unknown. Reads ask for it too, so nothing is read from a
        database that is known to be set back.

        Raises:
            StateRolledBack, StoreError: as `upsert`; the outcome stays unknown.
        """
        if self.lease is not None and self.lease.rolled_back:
            raise StateRolledBack(self.company_id)
        if not self.unknown:
            return
        async with self._one_at_a_time:
            if self.unknown:
                # A writer that is refused cannot have an earlier write executed either.
                with suppress(LeaseLost, WriteRefused):
                    await self._send(self._fencing)
                self.unknown = False

    async def _fencing(self, commit: Commit) -> None:
        await self._receipt("fence_whatsapp_writer", {}, commit)

    def next_commit(self, headers: Mapping[str, str] | None = None) -> Commit:
        """Return the place of a new request, behind all earlier ones."""
        self._number += 1
        return Commit(self.company_id, self.id, self._number, headers or {})

    @property
    def stored(self) -> int:
        """The last number that is known to be stored, 0 for none."""
        return self._stored

    def is_stored(self, commit: Commit) -> None:
        """Take note that a request was executed: a database that forgets it was set back."""
        self._stored = commit.number

    async def _receipt(
        self, function: str, params: Mapping[str, Any], commit: Commit
    ) -> Mapping[str, Any]:
        wanted = {"company_id": self.company_id, "commit": str(commit)}
        receipt: Mapping[str, Any] = await self._rest.rpc(
            function,
            {"p_company_id": self.company_id, **params},
            commit=commit,
            is_right=lambda found: names(found, wanted),
        )
        return receipt

    async def _write(self, send: Callable[[Commit], Awaitable[T]]) -> T:
        async with self._one_at_a_time:
            return await self._send(send)

    async def _send(self, send: Callable[[Commit], Awaitable[T]]) -> T:
        self.check()
        opens = (*(await self.sealing()).opens, *self.replaces_sealed)
        commit = self.next_commit(self._headers(opens))
        try:
            result = await send(commit)
        except WriteRefused as error:
            self.unknown = True
            refused = error
        except BaseException:
            # Whatever it is: the request may have left.
            self.unknown = True
            raise
        else:
            self.unknown = False
            self.is_stored(commit)
            return result
        meaning = self._meaning(refused)
        if isinstance(meaning, (CompanyQuarantined, SealedValueError)):
            # What it was refused for may pass: a copy that comes later would be executed.
            with suppress(SupabaseAuthStateError):
                await self._send(self._fencing)
        raise meaning

    def _headers(self, opens: Sequence[str]) -> Mapping[str, str]:
        keys = {OPENS_HEADER: ",".join(opens)} if opens else {}
        if self.lease is not None:
            known = {STORED_HEADER: str(self._stored)} if self._stored else {}
            return {**self.lease.headers, **known, **keys}
        return keys if self.epoch is None else {EPOCH_HEADER: str(self.epoch), **keys}

    def _meaning(self, refused: WriteRefused) -> Exception:
        text = str(refused)
        if "whatsapp restore:" in text:
            if self.lease is not None:
                self.lease.roll_back()
            return StateRolledBack(self.company_id)
        if "whatsapp logout:" in text:
            return CompanyQuarantined.logged_out(self.company_id)
        if sealed := _SEALED.search(text):
            return SealedValueError(sealed[1], missing=True, company_id=self.company_id)
        if "whatsapp lease:" in text and self.lease is not None:
            self.lease.lose()
            return LeaseLost(self.company_id, self.lease.token)
        return refused
