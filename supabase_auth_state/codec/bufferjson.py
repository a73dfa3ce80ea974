"""Baileys' BufferJSON for any value: ``bytes`` and their one canonical JSON form. No I/O.

The canonical form is ``{"type":"Buffer","data":"<standard base64, padded>"}``. It is the only one
that is written, and the only one that is read here. Other forms, in rows of older clients, are read
by field in ``shapes``, never by what they look like.

Source: Baileys 7.0.0-rc14, ``src/Utils/generics.ts``, ``BufferJSON``. Its replacer writes the same
form. Its reviver also reads other forms, and decides by what a value looks like.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 200
"""How deep objects and lists may be nested; every JSON parser on the way accepts this depth."""

_LEAVES = frozenset({str, int, float, bool, type(None)})
_BYTES = frozenset({bytes, bytearray, memoryview})

# What every JSON parser on the way keeps as an integer: a signed or an unsigned 64-bit number.
_MIN_INT = -(2**63)
_MAX_INT = 2**64 - 1
# From here on JSONB prints a float without a fraction, and it would come back as an int.
_FLOATS_END = 1e16

_SURROGATE = re.compile("[\ud800-\udfff]")

_LOOKALIKE = (
    'has "type": "Buffer" without being bytes: it is a Buffer that was never revived, or would '
    "come back as one"
)
NOT_CANONICAL = 'has "type": "Buffer" but is not a Buffer in canonical form'
_TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep, or contains itself"


class Malformed(Exception):
    """A place in a value that cannot be read or written.

    It carries a reason and a place, never content, and does not leave this library: the callers of
    ``codec`` and ``files`` get a `CodecError` or a `FolderError`.

    Attributes:
        reason: what is wrong, as the predicate of a sentence about the place.
        path: names and indices from the innermost outwards; each level adds its own.
    """

    def __init__(self, reason: str, *path: str | int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = list(path)


def to_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return b2a_base64(data, newline=False).decode("ascii")


def from_base64(text: str | bytes) -> bytes | None:
    """Return the bytes that ``text`` is the standard, padded base64 of, or None.

    Only the text that ``to_base64`` would write is accepted. Python's own decoder also accepts
    other characters, which it skips, and bits after the last byte.
    """
    try:
        data = a2b_base64(text)
    except ValueError:
        return None
    again = b2a_base64(data, newline=False)
    same = again == text if isinstance(text, bytes) else again.decode("ascii") == text
    return data if same else None


def has_surrogates(text: str) -> bool:
    """Return True if ``text`` holds half a surrogate pair, which UTF-8 cannot hold."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def is_bytes(value: Any) -> bool:
    """Return True for bytes-like values; not for subclasses, which would come back as bytes."""
    return type(value) in _BYTES


def to_buffer(data: bytes) -> dict[str, str]:
    """Return the canonical form."""
    return {"type": "Buffer", "data": to_base64(data)}


def is_called_buffer(value: dict[Any, Any]) -> bool:
    """Return True for an object with ``"type": "Buffer"``, canonical or not."""
    kind = value.get("type")
    return type(kind) is str and kind == "Buffer"


def from_buffer(value: dict[str, Any]) -> bytes | None:
    """Return the bytes of a canonical form, in any key order, or None."""
    text = value.get("data")
    if type(text) is not str or len(value) != 2 or not is_called_buffer(value):
        return None
    return from_base64(text)


def revive(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a fresh copy of a JSON value with ``bytes`` for canonical Buffers.

    Raises:
        Malformed: an object with ``"type": "Buffer"`` is not canonical, or a number is too large.
    """
    kind = type(value)
    if kind is dict:
        if is_called_buffer(value):
            return _canonical(value)
        return _copy_of(value, depth, revive)
    if kind is list:
        return _copy_of(value, depth, revive)
    # The parser makes a float of an integer of more than 64 bits, too.
    if kind is float and not -_FLOATS_END < value < _FLOATS_END:
        raise Malformed("is a number that cannot be read exactly")
    return value


def _canonical(value: dict[str, Any]) -> bytes:
    data = from_buffer(value)
    if data is None:
        raise Malformed(NOT_CANONICAL)
    return data


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a fresh JSON value with canonical Buffers for bytes.

    Raises:
        Malformed: something in it would not come back from JSONB as it is.
    """
    kind = type(value)
    if kind is dict:
        check_object(value)
        return _copy_of(value, depth, plain)
    if kind is list:
        return _copy_of(value, depth, plain)
    if kind in _BYTES:
        return to_buffer(bytes(value))
    _check_leaf(value, kind)
    return value


def _copy_of(value: Any, depth: int, copy: Callable[[Any, int], Any]) -> Any:
    if not depth:
        raise Malformed(_TOO_DEEP)
    fresh = value.copy()
    place: str | int = ""
    try:
        for place, child in value.items() if type(value) is dict else enumerate(value):
            fresh[place] = copy(child, depth - 1)
    except Malformed as found:
        found.path.append(place)
        raise
    return fresh


def check_object(value: dict[Any, Any]) -> None:
    """Refuse names that JSONB cannot hold, and an object that would be read as a Buffer.

    Raises:
        Malformed: it is refused.
    """
    for name in value:
        if type(name) is not str or not name.isascii() or "\0" in name:
            _check_name(name)
    if is_called_buffer(value):
        raise Malformed(_LOOKALIKE)


def _check_name(name: Any) -> None:
    fault = _text_fault(name) if type(name) is str else "is not a str"
    if fault:
        raise Malformed(f"has a name that {fault}")


def _check_leaf(value: Any, kind: type) -> None:
    if kind is str:
        fault = _text_fault(value)
    elif kind is int:
        fault = "" if _MIN_INT <= value <= _MAX_INT else "is an int of more than 64 bits"
    elif kind is float:
        fault = _float_fault(value)
    elif kind in _LEAVES:
        fault = ""
    else:
        fault = f"is a {kind.__name__}, which would not come back from JSON as one"
    if fault:
        raise Malformed(fault)


def _text_fault(text: str) -> str:
    if "\0" in text:
        return "contains NUL, which JSONB cannot hold"
    if has_surrogates(text):
        return "contains half a surrogate pair, which is not text"
    return ""


def _float_fault(number: float) -> str:
    if not -_FLOATS_END < number < _FLOATS_END:
        return "is a float that JSONB cannot hold: not finite, or 1e16 and beyond"
    if number == 0 and str(number) == "-0.0":
        return "is the float -0.0, which JSONB stores as 0.0"
    return ""
