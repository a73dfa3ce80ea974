"""Which outcomes of a company's reads and writes are possible. Pure: a history in, violations out.

Every operation that was acknowledged took effect at one moment between its call and its end; one
whose outcome is unknown did so too or never; one that was refused never. A history is right if the
operations can be put in such an order that every read gives what the writes before it left. The
search is Wing and Gong's, with the order of Lowe's "just in time linearization" ("Testing for
linearizability", 2017): an operation is put in its place when the end of another one asks for it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

CREDS = "creds"
"""The key of a company's creds among those of its values."""

Value: TypeAlias = "str | int"
Values: TypeAlias = "Mapping[str, Value | None]"
"""Values by key; None: nothing is stored."""

_State: TypeAlias = "frozenset[tuple[str, Value]]"


class Outcome(enum.Enum):
    """How an operation ended for its caller."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Write:
    """Stores values and deletes those that are None, all at once."""

    values: Values


@dataclass(frozen=True)
class Clear:
    """Deletes every value but the creds."""


@dataclass(frozen=True)
class Create:
    """Stores fresh creds if nothing is stored at all."""

    fresh: Value


@dataclass(frozen=True)
class Read:
    """Gives values, all of one moment."""

    found: Values


Effect: TypeAlias = "Write | Clear | Create | Read"


@dataclass(frozen=True)
class Operation:
    """One call of a client, about one company.

    Attributes:
        name: what violations call it, unique in its history.
        effect: what it does.
        started: its place among all starts and ends.
        ended: likewise; None while it runs or when its client is gone: it may still take effect.
        outcome: how it ended.
        token: the token of the lease under which it was made, if any.
        before_token: without a lease, the token of an owner after which it may not take effect.
        after: names of operations without which it may not take effect.
    """

    name: str
    effect: Effect
    started: int
    ended: int | None
    outcome: Outcome
    token: int | None = None
    before_token: int | None = None
    after: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Violation:
    """Something that could not happen if the promises hold.

    Attributes:
        operation: the operation that has no place in any order.
        possible: what each key that it is about could hold, or ``()`` when that is not the reason.
    """

    operation: Operation
    possible: tuple[tuple[str, tuple[Value | None, ...]], ...]

    def __str__(self) -> str:
        said = f"{self.operation.name} {_described(self.operation)} is not possible"
        values = (f"{key} can be {' or '.join(map(str, could))}" for key, could in self.possible)
        return "; ".join((said, *values))


def violation(history: Iterable[Operation]) -> Violation | None:
    """Return the first operation of a company that has no place in any order, or None."""
    search = _Search(history)
    return search.run()


@dataclass(frozen=True)
class _World:
    """One way in which everything may have happened so far.

    Attributes:
        state: what is stored.
        done: the open operations that have taken effect.
        happened: those that others may not take effect without.
        token: the highest token under which anything has taken effect.
    """

    state: _State = frozenset()
    done: frozenset[str] = frozenset()
    happened: frozenset[str] = frozenset()
    token: int = 0


@dataclass
class _Search:
    """A pass over the starts and ends of a history, with all the worlds that are possible."""

    history: Iterable[Operation]
    worlds: set[_World] = field(default_factory=lambda: {_World()})
    running: dict[str, Operation] = field(default_factory=dict)

    def run(self) -> Violation | None:
        operations = list(self.history)
        self.asked_for = frozenset(name for each in operations for name in each.after)
        for operation, is_start in _events(operations):
            if is_start:
                self._start(operation)
            elif not self._end(operation):
                return Violation(operation, self._possible(operation))
        return None

    def _start(self, operation: Operation) -> None:
        if operation.outcome is Outcome.REFUSED:
            return
        self.running[operation.name] = operation
        self.worlds = {self._with_reads(world) for world in self.worlds}

    def _end(self, operation: Operation) -> bool:
        if operation.outcome is Outcome.REFUSED:
            return True
        self.before = self._reachable()
        done = {world for world in self.before if operation.name in world.done}
        if operation.outcome is Outcome.ACKNOWLEDGED:
            worlds = done
        else:
            worlds = done | {world for world in self.worlds if operation.name not in world.done}
        del self.running[operation.name]
        self.worlds = {replace(w, done=w.done - {operation.name}) for w in worlds}
        return bool(self.worlds)

    def _reachable(self) -> set[_World]:
        """Let running operations take effect, in every order, as many as there are."""
        found = set(self.worlds)
        edge = list(found)
        while edge:
            world = edge.pop()
            for operation in self.running.values():
                if operation.name in world.done or isinstance(operation.effect, Read):
                    continue
                after = self._with(world, operation)
                if after is not None and after not in found:
                    found.add(after)
                    edge.append(after)
        return found

    def _with(self, world: _World, operation: Operation) -> _World | None:
        if not operation.after <= world.happened:
            return None
        if operation.token is not None and operation.token < world.token:
            return None
        if operation.before_token is not None and operation.before_token <= world.token:
            return None
        return self._with_reads(
            _World(
                _changed(world.state, operation.effect),
                world.done | {operation.name},
                world.happened | (self.asked_for & {operation.name}),
                max(world.token, operation.token or 0),
            )
        )

    def _with_reads(self, world: _World) -> _World:
        """Let every running read that fits take effect: that never stands in the way of others."""
        state = dict(world.state)
        fitting = {
            name
            for name, operation in self.running.items()
            if isinstance(operation.effect, Read)
            and all(state.get(key) == value for key, value in operation.effect.found.items())
        }
        return replace(world, done=world.done | fitting)

    def _possible(self, operation: Operation) -> tuple[tuple[str, tuple[Value | None, ...]], ...]:
        if not isinstance(operation.effect, Read):
            return ()
        states = [dict(world.state) for world in self.before]
        return tuple(
            (key, tuple(sorted({state.get(key) for state in states}, key=str)))
            for key in operation.effect.found
        )


def _events(operations: Iterable[Operation]) -> list[tuple[Operation, bool]]:
    events = [(operation.started, operation, True) for operation in operations]
    events += [(each.ended, each, False) for _, each, _ in events.copy() if each.ended is not None]
    return [(operation, start) for _, operation, start in sorted(events, key=lambda it: it[0])]


def _changed(state: _State, effect: Effect) -> _State:
    if isinstance(effect, Write):
        kept = {key: value for key, value in state if key not in effect.values}
        stored = {key: value for key, value in effect.values.items() if value is not None}
        return frozenset({**kept, **stored}.items())
    if isinstance(effect, Clear):
        return frozenset((key, value) for key, value in state if key == CREDS)
    if isinstance(effect, Create):
        return state or frozenset({(CREDS, effect.fresh)})
    return state


def _described(operation: Operation) -> str:
    return f"({operation.effect}, {operation.outcome.value})"
