"""Which counters go back when a value is replaced by another one. No I/O.

A ratchet that goes back makes messages unreadable, and a ``nextPreKeyId`` that goes back makes a
client hand out the same ids again. Times of files cannot tell: a copy of an old folder is new.

Source: Baileys 7.0.0-rc14, ``src/Utils/signal.ts`` (counters of creds) and
``src/Signal/Group/sender-key-state.ts``; libsignal 6.0.0, ``src/session_record.js`` and
``src/session_cipher.js`` (a step of the ratchet makes new chains; a chain counts its messages).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from supabase_auth_state.types import Value

_CREDS = (
    "nextPreKeyId", "firstUnuploadedPreKeyId", "accountSyncCounter", "lastAccountSyncTimestamp",
)  # fmt: skip
_RECEIVING = 2


def going_back(key_type: str, new: Value, old: Value) -> str:
    """Say which counters of a value go back when ``new`` takes the place of ``old``.

    Args:
        key_type: Baileys' key type, or ``"creds"``.
        new: the decoded value to store.
        old: the decoded value that is stored.

    Returns:
        For instance ``"nextPreKeyId 61 to 31"``, or an empty text when no counter is known to go
        back.
    """
    compare = _COMPARISONS.get(key_type)
    return "" if compare is None else ", ".join(compare(new, old))


def _creds(new: Value, old: Value) -> Iterator[str]:
    for name in _CREDS:
        yield from _number(name, _get(new, name), _get(old, name))
    yield from _number(
        "signedPreKey.keyId",
        _get(_get(new, "signedPreKey"), "keyId"),
        _get(_get(old, "signedPreKey"), "keyId"),
    )


def _app_state(new: Value, old: Value) -> Iterator[str]:
    yield from _number("version", _get(new, "version"), _get(old, "version"))


def _session(new: Value, old: Value) -> Iterator[str]:
    # By base key: sessions of two base keys are two sessions, whose counters say nothing of each
    # other.
    entries, stored = _mapping(_get(new, "_sessions")), _mapping(_get(old, "_sessions"))
    turns = messages = 0
    for base_key in entries.keys() & stored.keys():
        chains, stored_chains = _chains(entries[base_key]), _chains(stored[base_key])
        # Chains of messages received are never removed, so one that is missing came later.
        turns += len(_received(stored_chains) - _received(chains))
        for key in chains.keys() & stored_chains.keys():
            messages += max(stored_chains[key][1] - chains[key][1], 0)
    gone = sum(_is_open(stored[base_key]) for base_key in stored.keys() - entries.keys())
    if turns:
        yield f"{turns} ratchet turns back"
    if messages:
        yield f"{messages} messages back"
    if gone:
        yield f"{gone} open sessions gone"


def _is_open(entry: Any) -> bool:
    return bool(_get(_get(entry, "indexInfo"), "closed") == -1)


def _chains(entry: Any) -> dict[str, tuple[Any, int]]:
    """Return type and counter of each chain of a session that has both."""
    return {
        key: (chain.get("chainType"), counter)
        for key, chain in _mapping(_get(entry, "_chains")).items()
        if type(counter := _get(_get(chain, "chainKey"), "counter")) is int
    }


def _received(chains: Mapping[str, tuple[Any, int]]) -> set[str]:
    return {key for key, (chain_type, _) in chains.items() if chain_type == _RECEIVING}


def _sender_key(new: Value, old: Value) -> Iterator[str]:
    iterations, stored = _iterations(new), _iterations(old)
    for key_id in iterations.keys() & stored.keys():
        yield from _number("iteration", iterations[key_id], stored[key_id])


def _iterations(value: Value) -> dict[int, int]:
    """Return the iteration of each sender key in a record, by its id."""
    try:
        states = json.loads(value)
    except (TypeError, ValueError):
        return {}
    found = {}
    for state in states if isinstance(states, list) else ():
        key_id = _get(state, "senderKeyId")
        iteration = _get(_get(state, "senderChainKey"), "iteration")
        if type(key_id) is int and type(iteration) is int:
            found[key_id] = iteration
    return found


_COMPARISONS = {
    "creds": _creds,
    "session": _session,
    "sender-key": _sender_key,
    "app-state-sync-version": _app_state,
}


def _number(name: str, new: Any, old: Any) -> Iterator[str]:
    if type(new) is int and type(old) is int and new < old:
        yield f"{name} {old} to {new}"


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
