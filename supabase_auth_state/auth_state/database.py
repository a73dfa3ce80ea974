"""The auth state of one company: creds, keys, and who may write them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.codec import CREDS_REF, Sealing
from supabase_auth_state.codec.creds import init_auth_creds
from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.config.encryption import Encryption
from supabase_auth_state.errors import (
    CompanyMoved,
    CompanyNotFound,
    CompanyQuarantined,
    ConfigurationError,
    FamilyMismatch,
    UnfinishedImport,
)
from supabase_auth_state.files.folder import FolderKey, write_folder
from supabase_auth_state.leases.lease import Lease, acquire_lease, new_owner
from supabase_auth_state.leases.seals import sealing_for
from supabase_auth_state.leases.writer import Writer
from supabase_auth_state.rest.client import Rest, open_rest
from supabase_auth_state.rest.connection import Client, Place
from supabase_auth_state.rest.opening import Closing, Opening
from supabase_auth_state.store.journal import Head, Journal, JournalFile, replay
from supabase_auth_state.store.key_store import SupabaseKeyStore
from supabase_auth_state.types import Creds, KeyRef

log = logging.getLogger("supabase_auth_state")

NewCreds = Callable[[], Creds]
"""Makes the creds of a device that has never been linked."""


class AuthState(Closing):
    """What a WhatsApp client needs to go on as the same linked device.

    Attributes:
        company_id: the company.
        creds: Baileys' creds under its own names, ``bytes`` for Buffers. Change it in place, or
            replace it, and call `save_creds`.
        keys: the Signal keys: `get`, `set`, `clear`.
        lease: the ownership of the company, when it was opened with ``lease=True``. Its event
            ``lost`` is set when another process has taken over: close the connection to WhatsApp
            then.
        family: the client family whose bytes these are.
    """

    def __init__(
        self,
        company_id: str,
        creds: Creds,
        keys: SupabaseKeyStore,
        *,
        lease: Lease | None,
        family: str,
        owned_rest: Rest | None,
        journal: JournalFile | None = None,
    ) -> None:
        self.company_id = company_id
        self.creds = creds
        self.keys = keys
        self.lease = lease
        self.family = family
        self._owned_rest = owned_rest
        self._journal = journal
        self._place = Place()
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"AuthState({self.company_id!r}, family={self.family!r}, lease={self.lease!r})"

    async def save_creds(self) -> None:
        """Store `creds` as they are now, durably; call it on every ``creds.update``.

        Raises:
            CodecError: something in creds cannot be stored as it is.
            LeaseLost: this process no longer owns the company.
            StoreError: the database refused or did not answer.
        """
        await self.keys.save_creds(self.creds)

    async def warm(self) -> int:
        """Read what a connection will ask for in one request; see `SupabaseKeyStore.warm`."""
        return await self.keys.warm()

    async def save_remembered(self, folder: str | os.PathLike[str]) -> int:
        """Write what this owner has in memory into a new auth folder; the database is not asked.

        For a database that was set back (`StateRolledBack`): the folder has the creds as they are
        now, and the keys that were read or durably written under the lease and still fit into
        ``cache_bytes``; see docs/restored-database.md.

        Args:
            folder: must not exist, or be empty.

        Returns:
            How many keys were written.

        Raises:
            FolderError: the folder is not empty or cannot be written.
            CodecError: a value cannot be encoded.
        """
        keys = [FolderKey(KeyRef(*ref), value) for ref, value in self.keys.remembered().items()]
        await asyncio.to_thread(write_folder, folder, self.creds, keys)
        return len(keys)

    async def log_out(
        self, code: int = 401, reason: str = "logged out", noted_by: str | None = None
    ) -> None:
        """Move the company into quarantine, because WhatsApp has logged its device out.

        ``SessionPool`` does this after 401; call it where you connect without a pool. In one
        transaction creds and keys leave the tables, and nothing new is stored for the company, by
        any client, until a person decides: ``supabase-auth-state reinstate`` lets a new device be
        linked, ``restore`` brings back what was there, for 14 days. `close` it after that.

        Args:
            code: WhatsApp's status code.
            reason: its meaning, in a few words.
            noted_by: the name of this process; made when absent.

        Raises:
            LeaseLost: this process no longer owns the company; nothing was moved.
            StoreError: the database refused or did not answer.
        """
        await self.keys.log_out(code, reason, noted_by or new_owner())

    async def close(self) -> None:
        """Wait for the writes under way, release the lease, close what was opened for it.

        Giving up the wait, as by ``asyncio.wait_for``, cancels nothing: the closing goes on, and a
        second call waits for it. Does nothing in a process that was forked from the one that opened
        it, and does not wait for what another event loop has begun.
        """
        if not self._place.is_in_this_process():
            return
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            if self._place.is_here():
                await self.keys.settle()
        finally:
            if self._journal is not None:
                self._journal.close()
            try:
                if self.lease is not None:
                    await self.lease.release()
            finally:
                if self._owned_rest is not None:
                    await self._owned_rest.close()


def use_supabase_auth_state(
    company_id: str,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
    lease: bool = False,
    lease_ttl: float = 30.0,
    owner: str | None = None,
    create: bool = True,
    family: str = codec.BAILEYS,
    new_creds: NewCreds | None = None,
    cache_bytes: int = 64 << 20,
    journal: Journal | None = None,
    encryption: Encryption | None = None,
) -> Opening[AuthState]:
    """Open a company's auth state in Supabase; ``await`` it, or enter it with ``async with``.

    A company that certainly has neither creds nor keys gets fresh creds, stored only if they are
    still absent, so that two processes that start it at once end with one identity.

    The Python twin of Baileys' ``useMultiFileAuthState`` (7.0.0-rc14,
    ``src/Utils/use-multi-file-auth-state.ts``).

    Args:
        company_id: the account, 1 to 255 characters.
        client: a ``supabase.AsyncClient``, a ``postgrest.AsyncPostgrestClient`` or an `open_rest()`
            to share; you close it.
        settings: the project and its service key; from the environment or ``.env`` when absent.
        lease: own the company: no other process can write it until this state is closed. Use it for
            every process that connects to WhatsApp. With it, keys are also answered from memory.
        lease_ttl: seconds after which another process may take over from one that died; 1 to 86400.
        owner: a name that no other running process uses. A process that is started again under its
            name has its lease at once, without waiting for the time of the one that died.
        create: make the creds of a new device for a company that is not stored yet; with False, a
            mistyped company_id is an error instead.
        family: which clients understand the bytes; Baileys and WAeys are ``"baileys"``.
        new_creds: makes fresh creds; Baileys' ``initAuthCreds`` when absent.
        cache_bytes: how much to remember while the lease is held.
        journal: with a lease: where writes are kept, encrypted, while they wait for Supabase. What
            was waiting when a process ended is written by the next one that opens the company with
            the same journal, before it is opened.
        encryption: the keys that seal values, or a function that gives them, as in `Settings`;
            those of ``settings``, ``client`` or ``SUPABASE_AUTH_STATE_KEYS`` when absent.

    Raises:
        JournalError: another process has owned the company since, so what was waiting was put
            aside; or the journal is in use, damaged, or written with another key.
        ConfigurationError: the company_id, the URL or the key is not what it should be.
        LeaseHeld: another process owns the company.
        CompanyMoved: the company lives in another project now, or is on its way here.
        CompanyNotFound: the company is not stored, and ``create`` is False.
        CompanyQuarantined: WhatsApp has logged the company out, and it was neither reinstated nor
            restored since. No fresh creds are made.
        UnfinishedImport: the company has keys and no creds.
        FamilyMismatch: the rows belong to another kind of client.
        CodecError: the stored creds cannot be read for certain.
        SealedValueError: the stored creds are sealed, and no key here opens them.
        StoreError: the database refused or did not answer. It is never taken for "no creds".
    """
    check_company_id(company_id)
    if journal is not None and not lease:
        raise ConfigurationError("a journal needs lease=True: only an owner may write later")

    async def open_it() -> AuthState:
        rest = open_rest(settings, client=client, encryption=encryption)
        owned = rest if client is None else None
        held: Lease | None = None
        file: JournalFile | None = None
        try:
            if journal is not None:
                file = JournalFile(journal, company_id)
            writer = Writer(rest, company_id)
            others = await _others(rest, file, writer)
            if lease:
                held = await acquire_lease(
                    rest, company_id, ttl=lease_ttl, owner=owner, writer=writer
                )
            if file is not None and held is not None:
                await _replay(rest, file, held, others=others, family=family)
            fresh = _fresh(company_id, family, new_creds) if create else None
            creds = await _load_creds(rest, writer, family, fresh)
            keys = SupabaseKeyStore(
                rest, company_id, family=family, lease=held, writer=writer,
                cache_bytes=cache_bytes, journal=file,
            )  # fmt: skip
            return AuthState(
                company_id, creds, keys, lease=held, family=family, owned_rest=owned, journal=file
            )
        except BaseException:
            if file is not None:
                file.close()
            if held is not None:
                await held.release()
            if owned is not None:
                await owned.close()
            raise

    return Opening(open_it)


async def _others(rest: Rest, file: JournalFile | None, writer: Writer) -> bool:
    """Return whether others may have written the company since the journal was begun."""
    if file is None or file.head is None or not file.left:
        return False
    found = await _written(rest, file, file.head.writers, file.head.since)
    others = bool(found["others"]) or found.get("released") != file.head.released
    if not others:
        # Before the lease is asked for, which may be given though no answer comes.
        file.opens(writer.id)
    return others


async def _written(
    rest: Rest, file: JournalFile, writers: list[str], since: float
) -> Mapping[str, Any]:
    params = {"p_writers": writers, "p_since": since}
    found: Mapping[str, Any] = await rest.about(
        "whatsapp_written_by_others", file.company_id, params
    )
    return found


async def _replay(
    rest: Rest, file: JournalFile, lease: Lease, *, others: bool, family: str
) -> None:
    # Asked once more under the lease, under which no other process writes: acquiring it may have
    # let the database forget a writer of more than an hour ago, which the first answer knew.
    mine = lease.writer.id
    before = [mine] if file.head is None else [mine, *file.head.writers]
    since = 0.0 if file.head is None else file.head.since
    found = await _written(rest, file, before, since)
    keys = SupabaseKeyStore(rest, file.company_id, family=family, lease=lease)
    released = found.get("released")
    head = Head(file.company_id, mine, lease.token, float(found["time"]), released)
    others = others or found["others"] or (file.head is not None and file.head.released != released)
    written = await replay(file, head, others=others, write=keys.replay)
    if written:
        log.info("company %s: %d writes of the journal are stored", file.company_id, written)


async def _load_creds(
    rest: Rest, writer: Writer, family: str, fresh: Callable[[], Creds] | None
) -> Creds:
    company_id = writer.company_id
    sealing = await writer.sealing()
    found = await rest.ask("fetch_whatsapp_creds", company_id, {})
    if found.get("closed"):
        raise CompanyMoved(company_id, found["closed"])
    if found.get("logged_out") and found["creds"] is None:
        raise CompanyQuarantined.logged_out(company_id)
    if found["creds"] is None and not found["has_keys"]:
        if fresh is None:
            raise CompanyNotFound(company_id)
        writer.epoch = found["epoch"]
        encoded = sealing.seal(
            CREDS_REF, codec.encode_creds(fresh(), company_id=company_id, family=family)
        )
        # The row that is there counts, whichever process stored it.
        found = await writer.ask(
            "create_whatsapp_company", {"p_creds": encoded, "p_client_family": family}
        )
        if found["creds"] == encoded:
            log.info("company %s: new creds, for a device that is to be linked", company_id)
    if found["creds"] is None:
        raise UnfinishedImport(company_id)
    writer.epoch = found["epoch"]
    return _decoded(found, sealing, company_id, family)


async def read_creds(rest: Rest, company_id: str, family: str = codec.BAILEYS) -> Creds | None:
    """Return a company's creds, or None when it certainly has no row.

    They are read by a POST: Supabase's load balancer sends GETs to read replicas, which may be
    behind, and creds that go back hand out pre-key ids twice.

    Raises:
        FamilyMismatch: the row belongs to another kind of client.
        CodecError: the creds cannot be read for certain.
        StoreError: the database refused or did not answer.
    """
    found = await rest.ask("fetch_whatsapp_creds", company_id, {})
    if found["creds"] is None:
        return None
    return _decoded(found, await sealing_for(rest, company_id), company_id, family)


def _decoded(found: Mapping[str, Any], sealing: Sealing, company_id: str, family: str) -> Creds:
    if found["client_family"] != family:
        raise FamilyMismatch(company_id, stored=found["client_family"], wanted=family)
    creds = sealing.open(CREDS_REF, found["creds"])
    return codec.decode_creds(creds, company_id=company_id, family=family)


def _fresh(company_id: str, family: str, new_creds: NewCreds | None) -> NewCreds:
    if new_creds is not None:
        return new_creds
    if family == codec.BAILEYS:
        return init_auth_creds

    def refuse() -> Creds:
        raise ConfigurationError(
            f"company {company_id!r} has no row yet, and this library makes no creds of the family "
            f"{family!r}: pass new_creds="
        )

    return refuse
