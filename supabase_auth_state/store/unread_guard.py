"""No write over a row that could not be read.

Baileys takes every failure on the way to a session, of the session's own read or of the lid-mapping
read before it, for "no session", and then stores a record that holds the new session alone (Baileys
7.0.0-rc14, ``src/Signal/libsignal.ts``, ``loadSession``). When it was the mapping that could not be
read, the session's id was never asked for, so refusing unread ids is not enough: for a minute after
any failed read, sessions are compared with what is stored. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from supabase_auth_state.errors import UnreadKeyError
from supabase_auth_state.types import Value

from .group_commit import Ref

COMPARE_SECONDS = 60.0
"""Seconds after a failed read for which sessions are compared; Baileys retries a commit for 30."""


class UnreadGuard:
    """Remembers which keys of a company could not be read.

    Args:
        company_id: the company, for messages.
        now: seconds on a clock that never goes back.
    """

    def __init__(self, company_id: str, now: Callable[[], float]) -> None:
        self._company_id = company_id
        self._now = now
        self._unread: set[Ref] = set()
        self._compare_until = 0.0

    @property
    def compares_sessions(self) -> bool:
        """Whether a read failed a short while ago."""
        return self._now() < self._compare_until

    def read_failed(self, refs: Iterable[Ref]) -> None:
        """Refuse writes of these keys from here on."""
        self._unread.update(refs)
        self._compare_until = self._now() + COMPARE_SECONDS

    def was_read(self, refs: Iterable[Ref]) -> None:
        """Allow writes of these keys again."""
        if self._unread:
            self._unread.difference_update(refs)

    def was_cleared(self) -> None:
        """Allow writes of all keys again: none is stored."""
        self._unread.clear()

    def check(self, refs: Collection[Ref]) -> None:
        """Return if all of these keys may be written.

        Raises:
            UnreadKeyError: the last read of one of them failed.
        """
        self.refuse(self._unread.intersection(refs))

    def refuse(self, refs: Collection[Ref]) -> None:
        """Refuse to write these keys, if there are any.

        Raises:
            UnreadKeyError: there are.
        """
        if refs:
            raise UnreadKeyError(self._company_id, sorted(refs))


def drops_all_sessions(stored: Value, new: Value) -> bool:
    """Return whether ``new`` has none of the sessions in ``stored``, though ``stored`` has some.

    A record keeps its closed sessions beside the open one, so a healthy update always shares a base
    key. Only Baileys' JSON records can be compared; of other values nothing is said.
    """
    before, after = _base_keys(stored), _base_keys(new)
    return bool(before) and after is not None and before is not None and not before & after


def _base_keys(record: Any) -> set[str] | None:
    sessions = record.get("_sessions") if isinstance(record, dict) else None
    return set(sessions) if isinstance(sessions, dict) else None
