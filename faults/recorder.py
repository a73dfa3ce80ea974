"""Clients whose calls are recorded as operations for the checker."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from supabase_auth_state import (
    AuthState,
    CodecError,
    InvalidRequest,
    LeaseHeld,
    LeaseLost,
    Rest,
    SealedValueError,
    StateRolledBack,
    SupabaseAuthStateError,
    UnreadKeyError,
    WriteRefused,
    init_auth_creds,
    use_supabase_auth_state,
)

from .checker import (
    CREDS,
    Clear,
    Create,
    Effect,
    Operation,
    Outcome,
    Read,
    Value,
    Write,
    violation,
)


class Client(Protocol):
    """How a client opens companies, in this process or in another.

    Attributes:
        elsewhere: whether it is another process, of which this one learns later: a call that it
            has refused may still seem to be under way when the next one begins.
    """

    elsewhere: bool

    def fresh(self, tag: int) -> int:
        """Return the nextPreKeyId of the creds that it would make for a new company."""
        ...

    async def open(self, company_id: str, *, lease: bool, lease_ttl: float, tag: int) -> Any:
        """Open a company, as `use_supabase_auth_state` does, with fresh creds of this tag."""
        ...


class PythonClient:
    """Opens companies by this library.

    Args:
        rest: how it reaches the database.
    """

    elsewhere = False

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def fresh(self, tag: int) -> int:
        """Return the tag itself; see `Client`."""
        return tag

    async def open(self, company_id: str, *, lease: bool, lease_ttl: float, tag: int) -> AuthState:
        """Open a company; see `Client`."""
        return await use_supabase_auth_state(
            company_id,
            client=self._rest,
            lease=lease,
            lease_ttl=lease_ttl,
            new_creds=lambda: {**init_auth_creds(), "nextPreKeyId": tag},
        )


KEYS = ("session 15550100001.0", "session 15550100002.0", "sender-key-memory 120363@g.us")
"""The keys that recorded clients write: type and id."""

_REFUSED = (CodecError, InvalidRequest, LeaseHeld, UnreadKeyError)
# What the last attempt met says nothing of the attempts before it.
_REFUSED_IF_UNDISTURBED = (LeaseLost, WriteRefused)


@dataclass
class Owner:
    """A time for which a client owned the company.

    Attributes:
        token: the token of its lease.
        since: when the opening began, as a place in the history.
        until: when it closed, was crashed or was expired; None while it goes on.
    """

    token: int
    since: int
    until: int | None = None


@dataclass
class History:
    """Everything that was done to one company.

    Attributes:
        company_id: the company.
        operations: by name, in the order in which they began.
        owners: who owned it when.
        problems: what is wrong whatever the order of the operations: exceptions that no caller
            should see.
        told: the error that an operation ended in, by its name.
    """

    company_id: str
    operations: dict[str, Operation] = field(default_factory=dict)
    owners: list[Owner] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    _places: Any = field(default_factory=lambda: itertools.count(1))
    _names: Any = field(default_factory=lambda: itertools.count(1))

    def now(self) -> int:
        """Return the next place."""
        return int(next(self._places))

    def tag(self) -> int:
        """Return a number that no value has yet."""
        return int(next(self._names))

    def start(self, name: str, effect: Effect, **more: Any) -> None:
        """Record that an operation begins."""
        self.operations[name] = Operation(name, effect, self.now(), None, Outcome.UNKNOWN, **more)

    def end(self, name: str, outcome: Outcome, effect: Effect | None = None) -> None:
        """Record how an operation ended, and what it gave if that is known only now."""
        operation = self.operations[name]
        self.operations[name] = replace(
            operation, ended=self.now(), outcome=outcome, effect=effect or operation.effect
        )

    def forget(self, name: str) -> None:
        """Leave out a read that gave nothing."""
        del self.operations[name]

    def observe(self, stored: Mapping[str, Value | None]) -> None:
        """Record what the tables hold now, while no request is under way."""
        name = f"the tables at {self.now()}"
        self.start(name, Read(stored))
        self.end(name, Outcome.ACKNOWLEDGED)

    def end_what_is_left(self) -> None:
        """Record that nothing of what was begun can take effect any more."""
        self.end_unknown(list(self.operations))

    def end_unknown(self, names: Iterable[str]) -> None:
        """Record that these can take effect no more, if they have not ended."""
        for name in names:
            if name in self.operations and self.operations[name].ended is None:
                self.end(name, Outcome.UNKNOWN)

    def wrong(self) -> str | None:
        """Say what is wrong, with everything that was done; None if nothing is."""
        found = violation(self.operations.values())
        if found is None and not self.problems:
            return None
        shown = sorted(self.operations.values(), key=lambda each: each.started)
        trace = [
            f"  {o.started}-{o.ended} {o.name}: {o.effect} {o.outcome.value} "
            f"{self.told.get(o.name, '')}".rstrip()
            for o in shown
        ]
        return "\n".join([*([] if found is None else [str(found)]), *self.problems, *trace])

    def limit(self, opened_from: int, opened_until: int) -> int | None:
        """Return the token of the first owner that a client without a lease may not write after.

        That is one that was an owner while the client opened the company, or became one later.
        """
        tokens = [
            owner.token
            for owner in self.owners
            if owner.since > opened_until
            or ((owner.until is None or owner.until > opened_until) and owner.since < opened_from)
        ]
        return min(tokens, default=None)

    def settle_limits(self, writers: Iterable[Recorded]) -> None:
        """Give every write without a lease the owner before whom it must have happened."""
        for writer in writers:
            for name in writer.unleased:
                operation = self.operations[name]
                limit = self.limit(writer.opened_from, writer.opened_until)
                self.operations[name] = replace(operation, before_token=limit)
            if writer.elsewhere:
                self._settle_order(writer.creds_saved)

    def _settle_order(self, names: Iterable[str]) -> None:
        """Let these operations not wait for those that were refused."""
        for name in names:
            operation = self.operations[name]
            after = {
                each
                for each in operation.after
                if self.operations[each].outcome is not Outcome.REFUSED
            }
            self.operations[name] = replace(operation, after=frozenset(after))


class Recorded:
    """One opening of a company by one client, whose calls are recorded.

    Args:
        history: what is recorded into.
        name: the client's name.
        client: how it opens the company.
        disturbances: gives how many requests of the client were disturbed so far.
    """

    def __init__(
        self,
        history: History,
        name: str,
        client: Client,
        disturbances: Callable[[], int],
    ) -> None:
        self.auth: Any = None
        self.elsewhere = client.elsewhere
        self.unleased: list[str] = []
        self.creds_saved: list[str] = []
        self.opened_from = self.opened_until = 0
        self._history = history
        self._name = name
        self._client = client
        self._disturbances = disturbances
        self._owner: Owner | None = None
        self._setting: set[str] = set()

    @property
    def token(self) -> int:
        """The token of the last lease that it had, 0 when it had none."""
        return 0 if self._owner is None else self._owner.token

    def unended(self) -> list[str]:
        """The names of its operations that have not ended."""
        operations = self._history.operations.values()
        mine = (each for each in operations if each.name.startswith(f"{self._name} "))
        return [each.name for each in mine if each.ended is None]

    async def open(self, *, lease: bool, lease_ttl: float = 600) -> bool:
        """Open the company; return whether that worked."""
        tag = self._history.tag()
        name = f"{self._name} opens ({tag})"
        self._history.start(name, Create(self._client.fresh(tag)))
        # What a creation answers is read a moment after it, or a later one when it is sent again.
        given = f"{name}, what it is given"
        self._history.start(given, Read({}))
        self.opened_from = self._history.operations[name].started

        opening = self._client.open(
            self._history.company_id, lease=lease, lease_ttl=lease_ttl, tag=tag
        )
        outcome, auth = await self._attempt(name, opening)
        if auth is None:
            self._history.forget(given)
            self._history.end(name, outcome)
            return False
        self._history.end(given, outcome, Read({CREDS: auth.creds["nextPreKeyId"]}))
        if auth.lease is not None:
            operation = self._history.operations[name]
            self._history.operations[name] = replace(operation, token=auth.lease.token)
            self._owner = Owner(auth.lease.token, operation.started)
            self._history.owners.append(self._owner)
            self._history.end(name, outcome)
        else:
            # Nothing was to be created unless the company was new.
            self._history.end(name, Outcome.UNKNOWN)
        self.opened_until = self._history.now()
        self.auth = auth
        return True

    async def set(self, keys: Sequence[str], *, delete: bool = False) -> None:
        """Write keys, or delete them, in one call."""
        tag = f"{self._history.tag()}"
        values: dict[str, Value | None] = dict.fromkeys(keys, None if delete else tag)
        data: dict[str, dict[str, Any]] = {}
        for key in keys:
            key_type, _, key_id = key.partition(" ")
            data.setdefault(key_type, {})[key_id] = None if delete else encoded(key_type, tag)
        name = f"{self._name} sets ({tag})"
        self._setting.add(name)
        try:
            await self._write(name, Write(values), lambda auth: auth.keys.set(data))
        finally:
            self._setting.discard(name)

    async def clear(self) -> None:
        """Delete every key."""
        name = f"{self._name} clears ({self._history.tag()})"
        await self._write(name, Clear(), lambda auth: auth.keys.clear())

    async def save_creds(self) -> None:
        """Store creds that can be told from all others."""
        tag = self._history.tag()

        async def save(auth: Any) -> None:
            auth.creds["nextPreKeyId"] = tag
            await auth.save_creds()

        name = f"{self._name} saves creds ({tag})"
        after = frozenset(self._setting)
        self.creds_saved.append(name)
        await self._write(name, Write({CREDS: tag}), save, after=after)

    async def get(self, keys: Sequence[str]) -> None:
        """Read keys, all of one type in one call."""
        by_type: dict[str, list[str]] = {}
        for key in keys:
            key_type, _, key_id = key.partition(" ")
            by_type.setdefault(key_type, []).append(key_id)
        for key_type, ids in by_type.items():
            name = f"{self._name} reads ({self._history.tag()})"
            wanted: dict[str, Value | None] = {f"{key_type} {key_id}": None for key_id in ids}
            self._history.start(name, Read(wanted))
            outcome, found = await self._attempt(name, self._opened().keys.get(key_type, ids))
            if found is None:
                self._history.forget(name)
                continue
            told = {f"{key_type} {key_id}": decoded(key_type, v) for key_id, v in found.items()}
            self._history.end(name, outcome, Read({**wanted, **told}))

    async def close(self) -> None:
        """Close the company, as at the end of a process that ends well."""
        auth = self.crash()
        if auth is not None:
            await self._attempt(f"{self._name} closes", auth.close())

    def crash(self) -> Any:
        """Leave everything as it is; what was sent may still take effect."""
        if self._owner is not None and self._owner.until is None:
            self._owner.until = self._history.now()
        auth, self.auth = self.auth, None
        return auth

    async def _write(
        self, name: str, effect: Effect, call: Callable[[Any], Awaitable[None]], **more: Any
    ) -> None:
        auth = self._opened()
        token = None if auth.lease is None else auth.lease.token
        self._history.start(name, effect, token=token, **more)
        if token is None:
            self.unleased.append(name)
        outcome, _ = await self._attempt(name, call(auth))
        self._history.end(name, outcome)

    async def _attempt(self, name: str, call: Awaitable[Any]) -> tuple[Outcome, Any]:
        before = self._disturbances()
        try:
            return Outcome.ACKNOWLEDGED, await call
        except Exception as error:  # noqa: BLE001 - what no caller may see is a problem
            self._history.told[name] = f"{type(error).__name__}: {error}"
            return self._ended(name, error, disturbed=self._disturbances() != before), None

    def _ended(self, name: str, error: Exception, *, disturbed: bool) -> Outcome:
        if isinstance(error, (SealedValueError, StateRolledBack)):
            self._history.problems.append(f"{name}: {error}")
        elif isinstance(error, _REFUSED) or (
            isinstance(error, _REFUSED_IF_UNDISTURBED) and not disturbed
        ):
            return Outcome.REFUSED
        elif not isinstance(error, SupabaseAuthStateError):
            self._history.problems.append(f"{name}: {type(error).__module__}.{error!r}")
        return Outcome.UNKNOWN

    def _opened(self) -> Any:
        if self.auth is None:
            raise RuntimeError(f"{self._name} is not open")
        return self.auth


def encoded(key_type: str, tag: str) -> dict[str, Any]:
    """Return a value of a key type that shows a tag."""
    if key_type == "session":
        return {"_sessions": {"base": {}}, "version": tag}
    return {tag: True}


def decoded(key_type: str, value: Mapping[str, Any]) -> str:
    """Return the tag that a value shows."""
    return str(value["version"]) if key_type == "session" else next(iter(value))


async def cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait({task})
