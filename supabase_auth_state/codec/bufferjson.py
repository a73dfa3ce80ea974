"""Baileys' BufferJSON for any value: ``bytes`` and their one canonical JSON form. Pure.

The canonical form is ``{"type":"Buffer","data":"<standard base64, padded>"}``; it is the only one
that is written, and the only one that is read here. What else is found in old rows is read by
field, in ``shapes``, never by shape.

Source: Baileys 7.0.0-rc14, ``src/Utils/generics.ts``, ``BufferJSON``. Its replacer writes the same
form; its reviver is laxer and guesses by shape.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import orjson

MAX_DEPTH = 200
"""Objects and lists inside each other; every JSON parser on the way accepts this many."""

_SURE_LEAVES = frozenset({str, int, bool, type(None)})
_NODES = frozenset({dict, list})
_SURE = _SURE_LEAVES | _NODES
_LEAVES = _SURE_LEAVES | {float}
_only_leaves = _SURE_LEAVES.issuperset
_BYTES = frozenset({bytes, bytearray, memoryview})

# What every JSON parser on the way keeps as an integer: a signed or an unsigned 64-bit number.
_SMALLEST_INT = -(2**63)
_LARGEST_INT = 2**64 - 1
# From here on JSONB prints a float without a fraction, and it would come back as an int.
_FLOATS_END = 1e16

_BUFFER = b'"Buffer"'
# As orjson writes it, which is quicker to find.
_IS_BUFFER = b'"type":"Buffer"'
# For a look at the numbers of a JSON text: every digit is 0, what may stand before a number is a
# colon, a point is an e. Numbers of 16 digits and floats of one digit before the point or the
# exponent, which is how the largest are written, are then two strings to search for; what else
# they are found in only costs time.
_OUTLINES = bytes.maketrans(b"123456789,[-.", b"000000000:::e")
_LONG, _POWER = b"0" * 16, b":0e"

_SURROGATE = re.compile("[\ud800-\udfff]")

_LOOKALIKE = (
    'has "type": "Buffer" without being bytes: it is a Buffer that was never revived, or would '
    "come back as one"
)
NOT_CANONICAL = 'has "type": "Buffer" but is not a Buffer in canonical form'
_TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep, or contains itself"


class Malformed(Exception):
    """Something in a value that cannot be read or written.

    Carries a reason and a place, never content. While it travels up, each level adds its own name.

    Attributes:
        reason: what is wrong, as the predicate of a sentence about the place.
        path: names and indices from the innermost outwards.
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

    Only the text that ``to_base64`` would write is accepted; Python's own decoder skips what it
    does not know and ignores loose bits.
    """
    try:
        data = a2b_base64(text)
    except ValueError:
        return None
    again = b2a_base64(data, newline=False)
    same = again == text if isinstance(text, bytes) else again.decode("ascii") == text
    return data if same else None


def has_surrogates(text: str) -> bool:
    """Tell whether ``text`` holds half a surrogate pair, which no encoding of text can hold."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def is_bytes(value: Any) -> bool:
    """Tell whether ``value`` is bytes-like; subclasses are not, they would come back as bytes."""
    return type(value) in _BYTES


def to_buffer(data: bytes) -> dict[str, str]:
    """Return the canonical form."""
    return {"type": "Buffer", "data": to_base64(data)}


def from_buffer(value: dict[str, Any]) -> bytes | None:
    """Return the bytes of a canonical form, in any key order, or None."""
    text = value.get("data")
    if type(text) is not str or len(value) != 2 or value.get("type") != "Buffer":
        return None
    return from_base64(text)


def is_revived(text: bytes, *, postgres: bool = False) -> bool:
    """Tell whether ``revive`` certainly leaves alone what this JSON text parses to.

    Many times quicker than ``revive``, which decides when the answer is no.

    Args:
        text: as orjson writes it, or PostgreSQL a ``jsonb``: without escaped letters.
        postgres: it is PostgreSQL's, which gives no number an exponent.
    """
    if _BUFFER in text:
        return False
    outlines = text.translate(_OUTLINES)
    return _LONG not in outlines and (postgres or _POWER not in outlines)


def is_plain(text: bytes) -> bool:
    """Tell whether also ``plain`` certainly leaves alone what this JSON text of orjson's parses to.

    The text must come from JSON, and so hold nothing that JSON has no name for.
    """
    return (
        is_revived(text)
        and b"\\u" not in text
        and b"-0.0" not in text
        and text.count(b"{") + text.count(b"[") <= MAX_DEPTH
    )


def revive(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a fresh copy of a JSON value with ``bytes`` for canonical Buffers.

    Raises:
        Malformed: an object with ``"type": "Buffer"`` is not canonical, or a number is too large.
    """
    kind = type(value)
    if kind is dict:
        return _revive_object(value, depth)
    if kind is float and not -_FLOATS_END < value < _FLOATS_END:
        # The parser makes a float of an integer of more than 64 bits, too.
        raise Malformed("is a number that cannot be read exactly")
    return _revive_list(value, depth) if kind is list else value


# The four walkers below look at leaves in the loop itself and find the place of a fault only when
# there is one: a Signal session is a hundred small objects, and it is read and written with every
# message.


def _revive_object(value: dict[str, Any], depth: int) -> Any:
    if "type" in value and value["type"] == "Buffer":
        return _canonical(value)
    if not depth:
        raise Malformed(_TOO_DEEP)
    fresh = value.copy()
    if _only_leaves(map(type, value.values())):
        return fresh
    name = ""
    try:
        for name, child in value.items():
            if type(child) not in _SURE_LEAVES:
                fresh[name] = revive(child, depth - 1)
    except Malformed as found:
        found.path.append(name)
        raise
    return fresh


def _revive_list(value: list[Any], depth: int) -> list[Any]:
    if not depth:
        raise Malformed(_TOO_DEEP)
    fresh = value.copy()
    index = 0
    try:
        for index, child in enumerate(value):
            if type(child) not in _SURE_LEAVES:
                fresh[index] = revive(child, depth - 1)
    except Malformed as found:
        found.path.append(index)
        raise
    return fresh


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
        return _plain_object(value, depth)
    if kind is list:
        return _plain_list(value, depth)
    if kind in _BYTES:
        return to_buffer(bytes(value))
    _check_leaf(value, kind)
    return value


def plain_texts(values: Sequence[dict[Any, Any]]) -> list[bytes] | None:
    """Return the JSON texts of ``plain`` of each, or None when only ``plain`` itself can tell.

    orjson refuses what is no JSON, half surrogate pairs, larger ints and other names than str; what
    it would accept and ``plain`` would not is looked for in the texts and among the types.
    """
    try:
        texts = [orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_SUBCLASS) for value in values]
    except (TypeError, RecursionError):
        return None
    if any(b"\\u0000" in text or _IS_BUFFER in text for text in texts):
        return None
    # Level by level through all of them at once, so that the loops run in C.
    inside: Iterable[Iterable[Any]] = map(dict.values, values)
    for _ in range(MAX_DEPTH):
        children = list(chain.from_iterable(inside))
        kinds = set(map(type, children))
        if kinds <= _SURE_LEAVES:
            return texts
        if not kinds <= _SURE:
            return None
        if list in kinds:
            nodes = [child for child in children if type(child) in _NODES]
            inside = [node.values() if type(node) is dict else node for node in nodes]
        else:
            inside = map(dict.values, [child for child in children if type(child) is dict])
    return None


def _plain_object(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    check_object(value)
    if not depth:
        raise Malformed(_TOO_DEEP)
    fresh = value.copy()
    name = ""
    try:
        for name, child in value.items():
            kind = type(child)
            if kind is str:
                if child.isascii() and "\0" not in child:
                    continue
            elif kind is int and _SMALLEST_INT <= child <= _LARGEST_INT:
                continue
            fresh[name] = plain(child, depth - 1)
    except Malformed as found:
        found.path.append(name)
        raise
    return fresh


def _plain_list(value: list[Any], depth: int) -> list[Any]:
    if not depth:
        raise Malformed(_TOO_DEEP)
    fresh = value.copy()
    index = 0
    try:
        for index, child in enumerate(value):
            fresh[index] = plain(child, depth - 1)
    except Malformed as found:
        found.path.append(index)
        raise
    return fresh


def check_object(value: dict[Any, Any]) -> None:
    """Refuse names that JSONB cannot hold, and an object that would be read as a Buffer."""
    for name in value:
        if type(name) is not str or not name.isascii() or "\0" in name:
            _check_name(name)
    if "type" in value and value["type"] == "Buffer":
        raise Malformed(_LOOKALIKE)


def _check_name(name: Any) -> None:
    fault = _text_fault(name) if type(name) is str else "is not a str"
    if fault:
        raise Malformed(f"has a name that {fault}")


def _check_leaf(value: Any, kind: type) -> None:
    if kind is str:
        fault = _text_fault(value)
    elif kind is int:
        fault = "" if _SMALLEST_INT <= value <= _LARGEST_INT else "is an int of more than 64 bits"
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
