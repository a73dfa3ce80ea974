"""What the owner of a company remembers of its keys.

Right only while nobody else can write the company's rows, so a store uses it while it holds a live
lease and forgets everything when the lease is lost or has lapsed.
"""

from __future__ import annotations

import marshal
from collections import OrderedDict
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from typing import Any, TypeAlias

import orjson

from supabase_auth_state.errors import CodecError
from supabase_auth_state.types import Value

from .group_commit import Ref

ABSENT = object()
"""Remembered: there is no such row."""

_Load: TypeAlias = Callable[[bytes], Value] | None
_Entry: TypeAlias = tuple[Any, _Load, int, "float | None"]

Dropped: TypeAlias = dict[Ref, _Entry]
"""What was remembered of keys that are being written."""

_OVERHEAD = 200
_TOUCH_AFTER = 12 * 3600.0
_NEVER_EXPIRE = frozenset(
    {
        "pre-key", "session", "sender-key", "identity-key", "app-state-sync-key",
        "app-state-sync-version",
    }
)  # fmt: skip


class OwnerCache:
    """Values and absences by key, bounded by bytes, the least recently used going first.

    A value is kept serialised, so that every hit is a value of the caller's own: as JSON where that
    is enough, since orjson parses a session in less time than marshal loads it. Rows that may
    expire are forgotten after twelve hours: the database learns of a use from the read that
    follows, and keeps the row.

    Args:
        decode: makes the value of a key from its stored JSON.
        max_bytes: how much to hold.
        clock: seconds that never go back.
    """

    def __init__(
        self, decode: Callable[[Ref, bytes], Value], max_bytes: int, clock: Callable[[], float]
    ) -> None:
        self._decode = decode
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[Ref, _Entry] = OrderedDict()
        # What was written while reads are under way, in order; and how many reads are.
        self._sequence = 0
        self._written: dict[Ref, int] = {}
        self._cleared = 0
        self._reads = 0
        self._writing: list[Container[Ref]] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key_type: str, key_id: str) -> Value:
        """Return the value, `ABSENT`, or None when nothing is remembered."""
        ref = (key_type, key_id)
        entry = self._entries.get(ref)
        if entry is None:
            return None
        held, load, _, fresh_until = entry
        if fresh_until is not None and fresh_until < self._clock():
            return None
        self._entries.move_to_end(ref)
        if load is not None:
            return load(held)
        if type(held) is Stored:
            value = self._decode(ref, held.text)
            self._keep(ref, value, fresh_until)
            return value
        return held

    def values(self) -> Iterator[tuple[Ref, Value]]:
        """Give every value that is remembered, whatever its age; a damaged one is left out."""
        for ref, (held, load, _, _) in list(self._entries.items()):
            if held is ABSENT:
                continue
            if load is not None:
                yield ref, load(held)
                continue
            try:
                yield ref, self._decode(ref, held.text) if type(held) is Stored else held
            except CodecError:
                continue

    def put(self, ref: Ref, value: Value) -> None:
        """Remember what is in the database: a value, its JSON text as `Stored`, or `ABSENT`."""
        self._changed(ref)
        self._keep(ref, value, self._fresh_until(ref))

    def begin_write(self, refs: Collection[Ref] | None) -> Dropped:
        """Remember nothing of these keys, or, for None, of any, until `end_write`.

        While a write is under way the database may hold the old values or the new ones. What is
        remembered of one key would not fit what is read of another, and a read that was answered
        late would follow one that has seen the new value.

        Returns:
            What was remembered of them, for `put_back`.
        """
        if refs is None:
            dropped: Dropped = dict(self._entries)
            self.clear()
            self._writing.append(_EVERY_KEY)
            return dropped
        dropped = {}
        for ref in refs:
            self._changed(ref)
            entry = self._drop(ref)
            if entry is not None:
                dropped[ref] = entry
        self._writing.append(refs)
        return dropped

    def put_back(self, dropped: Dropped) -> None:
        """Remember what a write has dropped that certainly was not executed."""
        self._entries.update(dropped)
        self.bytes += sum(size for _, _, size, _ in dropped.values())

    def end_write(self, refs: Collection[Ref] | None) -> None:
        """Remember again what is read and written of these keys from here on.

        A read that is under way may have seen the values from before the write, which may have been
        executed although it failed.

        Args:
            refs: what `begin_write` was given.
        """
        if refs is None:
            self._writing.remove(_EVERY_KEY)
            self._sequence += 1
            self._cleared = self._sequence
            return
        self._writing.remove(refs)
        for ref in refs:
            self._changed(ref)

    def clear(self) -> None:
        """Remember nothing, and nothing of the reads under way."""
        self._entries.clear()
        self.bytes = 0
        self._sequence += 1
        self._cleared = self._sequence

    def begin_read(self) -> int:
        """Start watching for writes; hand the result to `end_read`, also when the read fails."""
        self._reads += 1
        return self._sequence

    def changed_since(self, began: int, refs: Iterable[Ref]) -> bool:
        """Return whether one of these keys was written since `begin_read` gave ``began``."""
        return self._cleared > began or any(self._written.get(ref, 0) > began for ref in refs)

    def end_read(self, began: int, found: dict[Ref, Value]) -> None:
        """Remember what a read found, but not of keys that were written since it began.

        Args:
            began: what `begin_read` returned.
            found: by key, what `put` takes.
        """
        if self._cleared <= began:
            for ref, value in found.items():
                if self._written.get(ref, 0) <= began and not self._is_written_now(ref):
                    self._keep(ref, value, self._fresh_until(ref))
        self._reads -= 1
        if not self._reads:
            self._written.clear()

    def _is_written_now(self, ref: Ref) -> bool:
        return any(ref in refs for refs in self._writing)

    def _keep(self, ref: Ref, value: Value, fresh_until: float | None) -> None:
        self._drop(ref)
        held, load = (value, None) if type(value) in _AS_IT_IS else _serialised(value)
        size = _OVERHEAD + len(ref[1]) + (0 if held is ABSENT else len(held))
        if size > self._max_bytes:
            return
        self._entries[ref] = (held, load, size, fresh_until)
        self.bytes += size
        while self.bytes > self._max_bytes:
            self.bytes -= self._entries.popitem(last=False)[1][2]

    def _drop(self, ref: Ref) -> _Entry | None:
        entry = self._entries.pop(ref, None)
        if entry is not None:
            self.bytes -= entry[2]
        return entry

    def _changed(self, ref: Ref) -> None:
        if self._reads:
            self._sequence += 1
            self._written[ref] = self._sequence

    def _fresh_until(self, ref: Ref) -> float | None:
        return None if ref[0] in _NEVER_EXPIRE else self._clock() + _TOUCH_AFTER


class Stored:
    """JSON text as it is in the table, decoded when it is first asked for."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __len__(self) -> int:
        return len(self.text)


class _EveryKey:
    def __contains__(self, ref: object) -> bool:
        return True


_EVERY_KEY = _EveryKey()


def _serialised(value: Value) -> tuple[bytes, _Load]:
    try:
        return orjson.dumps(value), orjson.loads
    except orjson.JSONEncodeError:
        return marshal.dumps(value), marshal.loads


_AS_IT_IS = frozenset({bytes, str, Stored, type(ABSENT)})
