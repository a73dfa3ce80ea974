"""One company's keys and creds in Supabase."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakSet

import orjson

from supabase_auth_state import codec
from supabase_auth_state.codec import CREDS_REF, Sealing, is_revived, is_sealed
from supabase_auth_state.errors import (
    CodecError,
    SealedValueError,
    StateRolledBack,
    StoreUnavailable,
)
from supabase_auth_state.leases.lease import Lease
from supabase_auth_state.leases.writer import Writer
from supabase_auth_state.rest.activity import ACTIVITY
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.clocks import clock
from supabase_auth_state.types import Creds, SignalDataSet, SignalKeyStore, Value

from .group_commit import Change, GroupCommit, Outcome, Ref
from .joined_reads import JoinedReads
from .journal import JournaledCommit, JournalFile
from .owner_cache import ABSENT, OwnerCache, Stored
from .unread_guard import UnreadGuard, drops_all_sessions

KEYS_TABLE, KEYS_KEY = "whatsapp_keys", "company_id,key_type,key_id"
"""The table of keys, and the columns that a row is found by."""

AUTH_TABLE, AUTH_KEY = "whatsapp_auth", "company_id"
"""The table of creds, and the column that a row is found by."""

# PostgREST passes this media type on as it is, or answers with plain JSON if it does not know it.
_KEYS = {"accept": "application/vnd.whatsapp-keys+json, application/json;q=0.9"}
_MOST_KEY_BYTES = 2500
_DELETED = b"null"
_STR = frozenset({str})
_NO_SESSIONS: Mapping[str, Value] = {}


class SupabaseKeyStore:
    """Baileys' ``SignalKeyStore`` on the table ``whatsapp_keys``, for one company.

    Reads of one event-loop turn are one request; writes that arrive while a commit is under way are
    joined into the next. With a lease, what was read and what was durably written is answered from
    memory.

    Mirrors the contract of Baileys 7.0.0-rc14, ``src/Types/Auth.ts``, ``SignalKeyStore``.

    Args:
        rest: where the database is.
        company_id: the company.
        family: the client family, which decides how stored bytes are read.
        lease: the lease under which to write, if any.
        writer: numbers the writes of a company that was opened without a lease.
        cache_bytes: how much to remember while the lease is held.
        journal: keeps writes while they wait.
    """

    def __init__(
        self,
        rest: Rest,
        company_id: str,
        *,
        family: str = codec.BAILEYS,
        lease: Lease | None = None,
        writer: Writer | None = None,
        cache_bytes: int = 64 << 20,
        journal: JournalFile | None = None,
    ) -> None:
        self._rest = rest
        self._company_id = company_id
        self._family = family
        self._lease = lease
        self._lapses = 0 if lease is None else lease.lapses
        self._writer = lease.writer if lease is not None else writer or Writer(rest, company_id)
        self._reads = JoinedReads(self._fetch)
        commits = GroupCommit(self._send)
        self._writes = commits if journal is None else JournaledCommit(commits, journal)
        self._cache = OwnerCache(self._decode_text, cache_bytes, clock)
        self._guard = UnreadGuard(company_id, clock)
        ACTIVITY.caches.add(self._cache)
        self._keys_under_way: WeakSet[Outcome] = WeakSet()
        self._comparing = asyncio.Lock()
        self._in_line = 0

    def __repr__(self) -> str:
        return f"SupabaseKeyStore({self._company_id!r})"

    async def get(self, type: str, ids: Sequence[str]) -> dict[str, Value]:
        """Return ``{id: value}``; an id that is not stored is absent. Values are the caller's own.

        After an error none of these ids can be written until a later `get` of it has succeeded.

        Args:
            type: the key type, e.g. ``"session"``.
            ids: any number of ids, of any characters.

        Raises:
            CodecError: a stored value cannot be read for certain.
            SealedValueError: a stored value is sealed, and no key here opens it.
            StoreError: the database refused or did not answer.
        """
        wanted = _checked_ids(type, ids)
        if not self._remembers():
            return await self._read(type, wanted)
        found: dict[str, Value] = {}
        missing = []
        for key_id in wanted:
            try:
                value = self._cache.get(type, key_id)
            except CodecError:
                # A damaged row that was only warmed: the read below says so, and guards it.
                value = None
            if value is None:
                missing.append(key_id)
            elif value is not ABSENT:
                found[key_id] = value
        ACTIVITY.cache_hits += len(wanted) - len(missing)
        ACTIVITY.cache_misses += len(missing)
        if not missing:
            self._guard.was_read((type, key_id) for key_id in wanted)
            return found
        if len(missing) == len(wanted):
            return await self._read(type, missing)
        return await self._read_the_rest(type, wanted, missing, found)

    async def _read_the_rest(
        self, key_type: str, wanted: list[str], missing: list[str], found: dict[str, Value]
    ) -> dict[str, Value]:
        began = self._cache.begin_read()
        try:
            found |= await self._read(key_type, missing)
            remembered = set(wanted).difference(missing)
            changed = self._cache.changed_since(began, ((key_type, i) for i in remembered))
        except Exception:
            # The caller was given none of them, also of those that are remembered.
            self._guard.read_failed((key_type, key_id) for key_id in wanted)
            raise
        finally:
            self._cache.end_read(began, {})
        if changed:
            # What was remembered is older than what was read now: all is read at one moment.
            return await self._read(key_type, wanted)
        self._guard.was_read((key_type, key_id) for key_id in wanted)
        return {key_id: found[key_id] for key_id in wanted if key_id in found}

    async def set(self, data: SignalDataSet) -> None:
        """Store values and delete those that are None: all or nothing, durable when this returns.

        Args:
            data: ``{type: {id: value}}``; any number of types and ids.

        Raises:
            CodecError: a value or an id cannot be stored as it is.
            SealedValueError: a row is sealed with a key that is not given here; it stays as it is.
            UnreadKeyError: the last read of one of these ids failed; or a read of another id failed
                within the last minute, and a session would be replaced by one that knows nothing of
                it.
            LeaseLost: this process no longer owns the company.
            StateRolledBack: the database was set back to an earlier moment.
            StoreError: the database refused (nothing is stored) or did not answer (it may be; a
                retry of the same data is safe). Once this is raised, nothing of it is stored any
                more that was not stored before.
        """
        keys = self._encode(data)
        self._guard.check(keys)
        if keys:
            await self._commit(Change(keys), data.get("session") or {})

    async def clear(self) -> None:
        """Delete every key of the company, in order with the writes before and after; creds stay.

        Raises:
            LeaseLost, StoreError: as `set`.
        """
        await self._commit(Change(clear=True))
        self._guard.was_cleared()

    async def save_creds(self, creds: Creds) -> None:
        """Store creds as they are now, after the keys that are waiting to be written.

        Raises:
            CodecError, LeaseLost, StoreError: as `set`.
        """
        encoded = codec.encode_creds(creds, company_id=self._company_id, family=self._family)
        counts = [keys for keys in self._keys_under_way if not keys.ended]
        await self._commit(Change(creds=orjson.dumps(encoded), counts=counts))

    async def replay(self, change: Change) -> None:
        """Write a change of an earlier process's journal, before anything else.

        Raises:
            LeaseLost, StoreError: as `set`.
        """
        steps = [Change(clear=True)] if change.clear else []
        steps += [Change(keys=change.keys)] if change.keys else []
        steps += [Change(creds=change.creds)] if change.creds is not None else []
        for step in steps:
            await self._send(step)

    async def warm(self) -> int:
        """Read the rows changed last, up to about 8 MB, in one request, to answer from memory.

        Returns:
            How many values are remembered now that were read; 0 without a live lease.

        Raises:
            StoreError: the database refused or did not answer.
        """
        if not self._remembers():
            return 0
        await self._writer.fence()
        began = self._cache.begin_read()
        hot: dict[Ref, Value] = {}
        try:
            sealing = await self._writer.sealing()
            hot = dict(_stored((await self._ask(None))["keys"], sealing))
        finally:
            self._cache.end_read(began, hot)
        return len(hot)

    def remembered(self) -> dict[Ref, Value]:
        """Return the values that are in memory, by type and id; the database is not asked.

        Those that were read or durably written under the lease, as far as ``cache_bytes`` goes:
        also after the lease is lost. See `AuthState.save_remembered`.
        """
        return dict(self._cache.values())

    async def log_out(self, code: int, reason: str, noted_by: str) -> None:
        """Move the company into quarantine; see `AuthState.log_out`."""
        await self.settle()
        self._cache.begin_write(None)
        try:
            await self._writer.rpc(
                "log_out_whatsapp_company",
                {"p_code": code, "p_reason": reason, "p_noted_by": noted_by},
            )
        finally:
            self._cache.end_write(None)

    async def settle(self) -> None:
        """Wait until every read and write that was begun has ended."""
        async with self._comparing:
            pass  # a line, too: every write that is compared with what is stored has its place now
        await self._writes.settle()
        await self._reads.settle()

    async def _compare(self, sessions: Mapping[str, Value]) -> None:
        written = {key_id: value for key_id, value in sessions.items() if value is not None}
        stored = await self.get("session", list(written)) if written else {}
        self._guard.refuse(
            [("session", i) for i in stored if drops_all_sessions(stored[i], written[i])]
        )

    def _remembers(self) -> bool:
        lease = self._lease
        if lease is None or not lease.holds():
            return False
        # Another process may write once it was forked: its writes are not remembered here.
        self._writer.check_place()
        if self._lapses != lease.lapses:
            self._lapses = lease.lapses
            self._cache.clear()
        return True

    async def _read(self, key_type: str, ids: Sequence[str]) -> dict[str, Value]:
        self._writer.check_place()
        room = _room_for_id(self._company_id, key_type)
        wanted = ids if _all_fit(ids, room) else [key_id for key_id in ids if _fits(key_id, room)]
        try:
            found = await self._reads.get(key_type, wanted)
            _raise_first(found.values())
        except Exception:
            self._guard.read_failed((key_type, key_id) for key_id in wanted)
            raise
        self._guard.was_read((key_type, key_id) for key_id in wanted)
        return found

    async def _fetch(self, wanted: dict[str, list[str]]) -> dict[str, dict[str, Value]]:
        """Read values; one that cannot be read for certain is its error."""
        # After a write whose outcome is unknown: what is read now could be changed by it later.
        await self._writer.fence()
        began = self._cache.begin_read()
        remembered: dict[Ref, Value] = {}
        try:
            sealing = await self._writer.sealing()
            answer = await self._ask(wanted)
            found = {
                key_type: self._decoded(key_type, by_id, sealing, answer["revived"])
                for key_type, by_id in answer["keys"].items()
            }
            if self._remembers():
                remembered = dict(_remembered(wanted, found))
        finally:
            self._cache.end_read(began, remembered)
        return found

    async def _ask(self, wanted: Mapping[str, Sequence[str]] | None) -> Mapping[str, Any]:
        return await self._rest.ask(
            "fetch_whatsapp_keys",
            self._company_id,
            {"p_keys": wanted},
            headers=_KEYS,
            parse=_parse_keys,
        )

    def _decoded(
        self, key_type: str, stored: dict[str, Any], sealing: Sealing, revived: bool
    ) -> dict[str, Value]:
        if revived and codec.are_decoded(stored.values(), key_type=key_type, family=self._family):
            return stored
        found: dict[str, Value] = {}
        for key_id, value in stored.items():
            try:
                if is_sealed(value):
                    text = sealing.open_text((key_type, key_id), value)
                    found[key_id] = self._decode_text((key_type, key_id), text)
                else:
                    found[key_id] = self._decode(key_type, key_id, value, revived=revived)
            except CodecError as error:
                found[key_id] = error
                self._rest.met("damaged_rows")
        return found

    async def _commit(self, change: Change, sessions: Mapping[str, Value] = _NO_SESSIONS) -> None:
        self._writer.check()
        if change.keys:
            self._keys_under_way.add(change.outcome)
        try:
            if self._in_line or (sessions and self._guard.compares_sessions):
                durable = await self._compare_and_enqueue(change, sessions)
            else:
                durable = await self._writes.enqueue(change)
        except BaseException as error:
            change.outcome.end(error if isinstance(error, Exception) else self._given_up())
            raise
        await durable

    def _given_up(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"company {self._company_id!r}: these creds may count keys whose writing was cancelled"
        )

    async def _compare_and_enqueue(
        self, change: Change, sessions: Mapping[str, Value]
    ) -> asyncio.Future[None]:
        # While one write is compared, later writes wait behind it: none may overtake it.
        self._in_line += 1
        try:
            async with self._comparing:
                await self._compare(sessions)
                return await self._writes.enqueue(change)
        finally:
            self._in_line -= 1

    async def _send(self, change: Change) -> None:
        lapses, refs = self._lapses_now(), None if change.clear else change.keys
        dropped = self._cache.begin_write(refs)
        try:
            await self._write(change)
        except StateRolledBack:
            # What the database had acknowledged before is what `remembered` is asked for then.
            self._cache.put_back(dropped)
            raise
        finally:
            # When it failed, in whatever way, the request may have left: nothing is remembered.
            self._cache.end_write(refs)
        # When the lease ran out meanwhile, another client may have written these keys since.
        if self._remembers() and lapses == self._lapses_now():
            self._remember(change)

    def _lapses_now(self) -> int:
        return 0 if self._lease is None else self._lease.lapses

    async def _write(self, change: Change) -> None:
        sealing = await self._writer.sealing()
        if change.clear:
            await self._writer.rpc("clear_whatsapp_keys", {})
        elif change.creds is not None:
            row = {
                "company_id": self._company_id,
                "creds": orjson.Fragment(sealing.seal_text(CREDS_REF, change.creds)),
                "client_family": self._family,
            }
            await self._writer.upsert(
                AUTH_TABLE, [row], on_conflict=AUTH_KEY, content=orjson.dumps([row])
            )
        else:
            sealed = {
                ref: text if text == _DELETED else sealing.seal_text(ref, text)
                for ref, text in change.keys.items()
            }
            rows = key_rows(self._company_id, sealed)
            await self._writer.upsert(
                KEYS_TABLE, rows[:1], on_conflict=KEYS_KEY, content=orjson.dumps(rows)
            )

    def _remember(self, change: Change) -> None:
        for ref, stored in change.keys.items():
            self._cache.put(ref, ABSENT if stored == _DELETED else Stored(stored))

    def _encode(self, data: SignalDataSet) -> dict[Ref, bytes]:
        values: dict[Ref, Value] = {}
        for key_type, by_id in _checked_data(data):
            _check_keys(self._company_id, key_type, by_id)
            for key_id, value in by_id.items():
                values[key_type, key_id] = value
        texts = codec.encode_texts(
            {ref: value for ref, value in values.items() if value is not None},
            company_id=self._company_id,
            family=self._family,
        )
        return {ref: texts.get(ref, _DELETED) for ref in values}

    def _decode(self, key_type: str, key_id: str, stored: Any, *, revived: bool = False) -> Value:
        return codec.decode_own(
            stored,
            company_id=self._company_id,
            key_type=key_type,
            key_id=key_id,
            family=self._family,
            revived=revived,
        )

    def _decode_text(self, ref: Ref, stored: bytes) -> Value:
        return self._decode(*ref, orjson.loads(stored))


def _check_keys(company_id: str, key_type: str, ids: Collection[str]) -> None:
    """Refuse a type or id that no row can have.

    Raises:
        CodecError: it is empty where it may not be, not text, too long for an index, or holds NUL
            or half a surrogate pair.
    """
    room = _room_for_id(company_id, key_type)
    if _all_fit(ids, room):
        return
    for key_id in ids:
        if not _fits(key_id, room):
            raise CodecError(
                "type and id must be text without NUL or unpaired surrogates, and with the "
                f"company_id no longer than {_MOST_KEY_BYTES} bytes",
                company_id=company_id,
                key_type=_shown(key_type),
                key_id=_shown(key_id),
            )


@lru_cache(maxsize=4096)
def _room_for_id(company_id: str, key_type: str) -> int:
    """Return how many bytes an id may have, -1 if there cannot be any row."""
    if not 0 < len(key_type) <= 255 or "\0" in key_type:
        return -1
    try:
        return max(_MOST_KEY_BYTES - len(company_id.encode()) - len(key_type.encode()), -1)
    except UnicodeEncodeError:
        return -1


def _all_fit(ids: Collection[str], room: int) -> bool:
    """Tell, for ids of letters that are one byte each, whether `_fits` says so of all of them."""
    text = "".join(ids)
    return text.isascii() and "\0" not in text and max(map(len, ids), default=0) <= room


def _fits(key_id: str, room: int) -> bool:
    if "\0" in key_id:
        return False
    try:
        return len(key_id if key_id.isascii() else key_id.encode()) <= room
    except UnicodeEncodeError:
        return False


def key_rows(company_id: str, keys: Mapping[Ref, bytes]) -> list[dict[str, Any]]:
    """Return the rows of an upsert, in the one order in which every writer locks them.

    Args:
        company_id: the company.
        keys: JSON text by type and id; ``null`` deletes the row.
    """
    return [
        {
            "company_id": company_id,
            "key_type": key_type,
            "key_id": key_id,
            "value": orjson.Fragment(text),
        }
        for (key_type, key_id), text in sorted(keys.items())
    ]


def _parse_keys(content: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads(content)
    if not all(type(by_id) is dict for by_id in answer["keys"].values()):
        raise TypeError
    answer["revived"] = is_revived(content, postgres=True)
    return answer


def _raise_first(values: Iterable[Value]) -> None:
    # An error among the values is of the row; no value of JSON is one.
    for value in values:
        if isinstance(value, CodecError):
            raise value


def _stored(
    answer: Mapping[str, Mapping[str, Any]], sealing: Sealing
) -> Iterator[tuple[Ref, Stored]]:
    for key_type, by_id in answer.items():
        for key_id, stored in by_id.items():
            try:
                ref = (key_type, key_id)
                text = sealing.open_text(ref, stored) if is_sealed(stored) else orjson.dumps(stored)
            except (orjson.JSONEncodeError, SealedValueError):
                # Nested too deeply, so not a value of ours, or not to be opened: no reason not to
                # start. A read says so.
                continue
            yield (key_type, key_id), Stored(text)


def _remembered(
    wanted: Mapping[str, Iterable[str]], found: Mapping[str, Mapping[str, Value]]
) -> Iterator[tuple[Ref, Value]]:
    for key_type, ids in wanted.items():
        values = found.get(key_type, {})
        for key_id in ids:
            value = values.get(key_id, ABSENT)
            if not isinstance(value, CodecError):
                yield (key_type, key_id), value


def _shown(name: str) -> str:
    return ascii(name[:80])[1:-1]


def _checked_ids(key_type: object, ids: object) -> list[str]:
    if not isinstance(key_type, str):
        raise TypeError(f"a key type is a string, not {type(key_type).__name__}")
    if type(ids) is list and len(ids) == 1 and type(ids[0]) is str:
        return [ids[0]]  # which is what most reads ask for
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise TypeError(f"ids is a list of strings, not {type(ids).__name__}")
    wanted = list(dict.fromkeys(ids))
    _check_names(key_type, wanted)
    return wanted


def _checked_data(data: object) -> Iterable[tuple[str, Mapping[str, Value]]]:
    if not isinstance(data, Mapping):
        raise TypeError(f"set takes {{type: {{id: value}}}}, not {type(data).__name__}")
    for key_type, by_id in data.items():
        if not isinstance(key_type, str):
            raise TypeError(f"a key type is a string, not {type(key_type).__name__}")
        if by_id is None:
            continue
        if not isinstance(by_id, Mapping):
            raise TypeError(f"{key_type} takes {{id: value}}, not {type(by_id).__name__}")
        _check_names(key_type, by_id)
        yield key_type, by_id


def _check_names(key_type: str, ids: Iterable[object]) -> None:
    if _STR.issuperset(map(type, ids)):
        return
    for key_id in ids:
        if not isinstance(key_id, str):
            raise TypeError(f"an id of {key_type} is a string, not {type(key_id).__name__}")


_: type[SignalKeyStore] = SupabaseKeyStore
