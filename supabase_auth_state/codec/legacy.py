"""The ways in which rows of older clients hold records and bytes. No I/O.

Only for a key type and a field that is known to hold a record or bytes: in any other place, each of
these forms may be data that belongs there.
"""

from __future__ import annotations

from typing import Any

from .bufferjson import from_base64, from_buffer
from .json_text import parse_json

_MAX_WRAPPINGS = 3

_WRAPPER_KEYS = (
    # {"type":"Buffer","data":…}: JSON.stringify without the replacer, or twice over.
    frozenset({"type", "data"}),
    # Readers before Baileys 7.0.0-rc.4 also took these.
    frozenset({"type", "value"}),
    frozenset({"buffer", "data"}),
    frozenset({"buffer", "value"}),
)


def unwrap(stored: Any, openings: str) -> Any:
    """Return the value inside a JSON string that holds JSON text, however often it was wrapped.

    Args:
        stored: a JSON value; one that is not text is returned as it is.
        openings: the first characters that distinguish JSON text from the real value.

    Raises:
        Malformed: the text begins like JSON and is not.
    """
    for _ in range(_MAX_WRAPPINGS):
        if type(stored) is not str or not stored or stored[0] not in openings:
            break
        stored = parse_json(stored)
    return stored


def read_damaged(stored: Any) -> bytes | None:
    """Return the bytes of a form that is not canonical, or None.

    The forms are: base64 text; a list of ints from 0 to 255; an object with exactly the names
    ``"0"`` to ``"n-1"``; and an object like a Buffer that holds one of these, or a Buffer. An empty
    object is none of them: it is also what is left of bytes that were lost.
    """
    kind = type(stored)
    if kind is dict and _is_wrapper(stored):
        return _from_wrapped(stored["data"] if "data" in stored else stored["value"])
    return from_base64(stored) if kind is str else _from_numbers(stored)


def _is_wrapper(stored: dict[str, Any]) -> bool:
    if stored.keys() not in _WRAPPER_KEYS:
        return False
    return stored.get("type") == "Buffer" or stored.get("buffer") is True


def _from_wrapped(inner: Any) -> bytes | None:
    if type(inner) is str:
        return from_base64(inner)
    if type(inner) is not dict or not _is_wrapper(inner):
        return _from_numbers(inner)
    data = from_buffer(inner)
    return data if data is not None else _from_numbers(inner.get("data"))


def _from_numbers(stored: Any) -> bytes | None:
    if type(stored) is dict:
        stored = _in_order(stored)
    if type(stored) is not list or not all(type(number) is int for number in stored):
        return None
    return bytes(stored) if all(0 <= number <= 255 for number in stored) else None


def _in_order(indexed: dict[str, Any]) -> list[Any] | None:
    """Return the values of ``{"0":…,"1":…}`` by number; JSONB does not keep the order of names."""
    names = [str(index) for index in range(len(indexed))]
    if not names or indexed.keys() != set(names):
        return None
    return [indexed[name] for name in names]
