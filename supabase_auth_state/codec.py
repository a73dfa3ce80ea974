"""Values of the auth state, between Python and the JSON that the tables hold. Pure.

Python has ``bytes`` where Baileys has a Buffer; the tables hold Baileys' BufferJSON,
``{"type":"Buffer","data":"<base64>"}``. Exactly that form is written. Read are also the forms that
older clients left behind, by key type, field and length and never by shape: what comes back is
right, or it is a ``CodecError``. For every value that ``encode`` accepts, decoding what JSONB makes
of it gives an equal value with equal types (``bytearray`` and ``memoryview`` come back as
``bytes``).

The rules for fields apply to the client family ``baileys`` (Node Baileys, WAeys). Rows of other
families hold canonical Buffers or nothing that is touched.

Every error names the company, the key type, the id and the place inside the value, never the value;
and none is chained to an error that holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from .bufferjson import Malformed, plain, plain_text, revive
from .errors import CodecError
from .legacy import unwrap
from .shapes import (
    CREDS,
    SHAPED_TYPES,
    Doubtful,
    Evidence,
    Shape,
    looks_encoded_twice,
    shape_of,
)
from .types import Creds, Value

__all__ = [
    "check",
    "check_creds",
    "decode",
    "decode_creds",
    "encode",
    "encode_creds",
    "encode_text",
    "looks_encoded_twice",
]

BAILEYS = "baileys"

T = TypeVar("T")


def encode(
    value: Value, *, company_id: str | None, key_type: str, key_id: str, family: str = BAILEYS
) -> Any:
    """Return the JSON value to store for ``value``, sharing nothing with it.

    Accepted are ``str``, ``bool``, ``int`` of 64 bits, finite ``float`` below 1e16, ``bytes``,
    ``bytearray``, ``memoryview``, and ``list`` and ``dict`` of these, with ``None`` inside; not
    their subclasses, nor tuples, since those would come back as something else. For Baileys' own
    key types the value must also be what ``decode`` gives back alike: a ``pre-key`` has ``private``
    and ``public`` bytes, an ``app-state-sync-key`` keeps ``keyData`` as base64 text, and so on.

    Raises:
        CodecError: the value, or something inside it, would not come back as it is; among others
            NUL or half a surrogate pair in text, a number that is not finite, an unknown object, an
            object that looks like a Buffer, a cycle, and ``None`` itself, which deletes and is no
            value.
    """
    shape = shape_of(key_type, key_id) if family == BAILEYS else None
    return _located(_write, value, shape, company_id=company_id, key_type=key_type, key_id=key_id)


def encode_text(
    value: Value, *, company_id: str | None, key_type: str, key_id: str, family: str = BAILEYS
) -> bytes:
    """Return the JSON text to store for ``value``; rules and errors are those of ``encode``.

    An object without bytes, which is what a Signal session is, is turned into text at once and
    looked through afterwards, in two thirds of the time.
    """
    if type(value) is dict and (family != BAILEYS or key_type not in SHAPED_TYPES):
        text = plain_text(value)
        if text is not None:
            return text
    return orjson.dumps(
        encode(value, company_id=company_id, key_type=key_type, key_id=key_id, family=family)
    )


def decode(
    stored: Any, *, company_id: str | None, key_type: str, key_id: str, family: str = BAILEYS
) -> Value:
    """Return the Python value of a stored JSON value, sharing nothing with it.

    At any depth a canonical Buffer is ``bytes``. In the fields where Baileys keeps bytes, damaged
    forms are read too, if the length or the beginning proves them right: arrays and index objects
    of byte values, Buffers inside Buffers, bare base64, and base64 that was encoded twice. A row
    that is a JSON string holding the record's JSON text is unwrapped. Canonical bytes of an
    unexpected length are returned as stored.

    Raises:
        CodecError: the value cannot be read for certain.
    """
    shape = shape_of(key_type, key_id) if family == BAILEYS else None
    return _located(_read, stored, shape, company_id=company_id, key_type=key_type, key_id=key_id)


def encode_creds(creds: Creds, *, company_id: str | None, family: str = BAILEYS) -> Any:
    """Return the JSON object to store for ``creds``; the rules are those of ``encode``.

    ``account`` keeps its four bare base64 strings, as Baileys has them; all other keys are
    ``bytes``.

    Raises:
        CodecError: the creds, or something inside them, would not come back as they are.
    """
    shape = CREDS if family == BAILEYS else None
    return _located(_write_creds, creds, shape, company_id=company_id, key_type="creds")


def decode_creds(stored: Any, *, company_id: str | None, family: str = BAILEYS) -> Creds:
    """Return the creds of a stored JSON value; the rules are those of ``decode``.

    Raises:
        CodecError: the creds cannot be read for certain, or are not an object.
    """
    shape = CREDS if family == BAILEYS else None
    return _located(_read_creds, stored, shape, company_id=company_id, key_type="creds")


def check(value: Value, *, company_id: str | None, key_type: str, key_id: str) -> None:
    """Refuse a decoded value that is not whole, as Baileys would have written it.

    ``decode`` gives back what was stored; this asks whether it can be used: every known byte field
    has its length, nothing essential is missing. A key type that Baileys does not have is not
    looked at.

    Raises:
        CodecError: the value is not what belongs under ``key_type``.
    """
    shape = shape_of(key_type, key_id)
    _located(_check, value, shape, company_id=company_id, key_type=key_type, key_id=key_id)


def check_creds(creds: Creds, *, company_id: str | None) -> None:
    """Refuse decoded creds that are not whole: key pairs, signed pre-key, lengths.

    Raises:
        CodecError: the creds cannot be used.
    """
    _located(_check, creds, CREDS, company_id=company_id, key_type="creds")


def _located(
    work: Callable[[Any, Shape | None], T],
    value: Any,
    shape: Shape | None,
    *,
    company_id: str | None,
    key_type: str,
    key_id: str | None = None,
) -> T:
    try:
        return work(value, shape)
    except Malformed as caught:
        found = caught
    # Raised here, so that no chain leads to frames and errors that hold the value.
    raise CodecError(
        found.reason,
        company_id=company_id,
        key_type=key_type,
        key_id=key_id,
        path=found.path[::-1],
    )


def _write(value: Any, shape: Shape | None) -> Any:
    if value is None:
        raise Malformed("is None, which deletes; it is not a value")
    return plain(value) if shape is None else shape.write(value)


def _read(stored: Any, shape: Shape | None) -> Any:
    if stored is None:
        raise Malformed("is JSON null, which is not a value")
    if shape is None:
        return revive(stored)
    try:
        return shape.read(stored, Evidence())
    except Doubtful as caught:
        doubt = caught
    evidence = Evidence(trusted=True)
    value = shape.read(stored, evidence)
    if not evidence.encoded_twice:
        raise doubt
    return value


def _write_creds(creds: Any, shape: Shape | None) -> Any:
    _refuse_other_than_dict(creds)
    return _write(creds, shape)


def _read_creds(stored: Any, shape: Shape | None) -> Creds:
    if shape is not None:
        stored = unwrap(stored, '{"')
    creds = _read(stored, shape)
    _refuse_other_than_dict(creds)
    return creds  # type: ignore[no-any-return]


def _refuse_other_than_dict(creds: Any) -> None:
    if type(creds) is not dict:
        raise Malformed(f"is a {type(creds).__name__} where an object belongs")


def _check(value: Any, shape: Shape | None) -> None:
    if shape is not None:
        shape.check(value)
