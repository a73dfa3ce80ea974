"""After a failed read: is a session record about to be replaced by one that knows nothing of it?

Baileys takes every failure on the way to a session, of the session's own read or of the lid-mapping
read before it, for "no session", and then stores a record that holds the new session alone (Baileys
7.0.0-rc14, ``src/Signal/libsignal.ts``, ``loadSession``). When it was the mapping that could not be
read, the session's id was never asked for, so refusing unread ids is not enough.
"""

from __future__ import annotations

from typing import Any

from supabase_auth_state.types import Value

DOUBT_LASTS = 60.0
"""Seconds after a failed read for which sessions are compared; Baileys retries a commit for 30."""


def forgets(stored: Value, new: Value) -> bool:
    """Tell whether ``new`` shares no session with ``stored``, though ``stored`` has some.

    A record keeps its closed sessions beside the open one, so a healthy update always shares a base
    key. Only Baileys' JSON records can be compared; of other values nothing is said.
    """
    before, after = _base_keys(stored), _base_keys(new)
    return bool(before) and after is not None and before is not None and not before & after


def _base_keys(record: Any) -> set[str] | None:
    sessions = record.get("_sessions") if isinstance(record, dict) else None
    return set(sessions) if isinstance(sessions, dict) else None
