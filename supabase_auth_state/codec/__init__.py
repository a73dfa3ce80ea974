"""Values of the auth state, between Python and the JSON that the tables hold. No I/O.

Python has ``bytes`` where Baileys has a Buffer. The tables hold Baileys' BufferJSON,
``{"type":"Buffer","data":"<base64>"}``, and only that form is written. Forms that older clients
left in rows are read too, by key type, field and length, never by what a value looks like. The
result is the right value, or a ``CodecError``. For every value that ``encode`` accepts, decoding
what JSONB makes of it gives an equal value with equal types (``bytearray`` and ``memoryview`` come
back as ``bytes``).

The rules for fields apply to the client family ``baileys`` (Node Baileys, WAeys). In rows of other
families, only canonical Buffers are bytes and everything else is stored as it is.

Every error names the company, the key type, the id and the place inside the value, never the value.
No error is chained to one that holds the value.

Other rooms import from here, and from ``codec.creds``; the modules inside are for each other:

    bufferjson     bytes in any value
    shapes         bytes of each key type, and of creds
    sender_key_states  the sender-key as Baileys 5 wrote it
    legacy         forms of older clients
    json_text      strict JSON text
    fast_path      scans that spare most values the walk through every object
    display_names  names in creds that no database can hold
    sealing        values sealed with a key
    creds, xeddsa  a new device's creds, and their signature
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import orjson

from supabase_auth_state.errors import CodecError
from supabase_auth_state.types import Creds, Value

from .bufferjson import (
    Malformed,
    from_base64,
    from_buffer,
    has_surrogates,
    plain,
    revive,
    to_base64,
)
from .display_names import with_storable_names
from .fast_path import is_revived, plain_texts
from .json_text import dump_json, parse_json
from .legacy import read_damaged, unwrap
from .sealing import CREDS_REF, SEALED, Sealing, is_sealed, sealed_value_error, sealed_with
from .sender_key_states import sender_key_of
from .shapes import CREDS, SHAPED_TYPES, Doubtful, Evidence, Shape, looks_encoded_twice, shape_of

__all__ = [
    "BAILEYS",
    "CREDS_REF",
    "Evidence",
    "Malformed",
    "Sealing",
    "are_decoded",
    "check",
    "check_creds",
    "decode",
    "decode_creds",
    "decode_own",
    "dump_json",
    "encode",
    "encode_creds",
    "encode_texts",
    "from_base64",
    "from_buffer",
    "has_surrogates",
    "is_revived",
    "is_sealed",
    "looks_encoded_twice",
    "parse_json",
    "plain",
    "read_damaged",
    "revive",
    "sealed_with",
    "sender_key_of",
    "shape_of",
    "to_base64",
    "with_storable_names",
]

BAILEYS = "baileys"

_NODES = frozenset({dict, list})

T = TypeVar("T")


def encode(
    value: Value, *, company_id: str | None, key_type: str, key_id: str, family: str = BAILEYS
) -> Any:
    """Return the JSON value to store for ``value``, sharing nothing with it.

    Accepted are ``str``, ``bool``, ``int`` of 64 bits, finite ``float`` below 1e16, ``bytes``,
    ``bytearray``, ``memoryview``, and ``list`` and ``dict`` of these, with ``None`` inside; not
    their subclasses, nor tuples, since those would come back as something else. For Baileys' own
    key types the value must also be one that ``decode`` returns equal: a ``pre-key`` has
    ``private`` and ``public`` bytes, an ``app-state-sync-key`` keeps ``keyData`` as base64 text,
    and so on.

    Raises:
        CodecError: the value, or something inside it, would not come back as it is; among others
            NUL or half a surrogate pair in text, a number that is not finite, an unknown object, an
            object that looks like a Buffer, a cycle, and ``None`` itself, which deletes and is no
            value.
    """
    shape = shape_of(key_type, key_id) if family == BAILEYS else None
    return _located(_write, value, shape, company_id=company_id, key_type=key_type, key_id=key_id)


def encode_texts(
    values: Mapping[tuple[str, str], Value], *, company_id: str | None, family: str = BAILEYS
) -> dict[tuple[str, str], bytes]:
    """Return the JSON texts to store for values by type and id; rules and errors of ``encode``.

    Objects of key types without bytes, such as sessions, are made into texts all at once
    (``fast_path.plain_texts``), which takes half the time.
    """
    simple = {
        ref: value
        for ref, value in values.items()
        if type(value) is dict and _has_no_shape(ref[0], family) and SEALED not in value
    }
    texts = dict(zip(simple, plain_texts(list(simple.values())) or (), strict=False))
    if len(texts) == len(values):
        return texts
    return {
        ref: texts.get(ref)
        or orjson.dumps(
            encode(value, company_id=company_id, key_type=ref[0], key_id=ref[1], family=family)
        )
        for ref, value in values.items()
    }


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
        SealedValueError: it is sealed: `Sealing` opens it first.
    """
    if is_sealed(stored):
        raise sealed_value_error(stored, company_id, key_type, key_id)
    shape = shape_of(key_type, key_id) if family == BAILEYS else None
    return _located(_read, stored, shape, company_id=company_id, key_type=key_type, key_id=key_id)


def decode_own(
    stored: Any,
    *,
    company_id: str | None,
    key_type: str,
    key_id: str,
    family: str = BAILEYS,
    revived: bool = False,
) -> Value:
    """Return what ``decode`` does, of a stored value that the caller hands over.

    The result may be the stored value itself, changed or not: copying a Signal session takes four
    times as long as parsing it.

    Args:
        stored: the stored JSON value.
        company_id: for errors.
        key_type: the row's key type.
        key_id: the row's id.
        family: the client family.
        revived: whether ``is_revived`` is known to be true of the text that ``stored`` comes from.

    Raises:
        CodecError: the value cannot be read for certain.
    """
    if (
        type(stored) in _NODES
        and not is_sealed(stored)
        and _has_no_shape(key_type, family)
        and (revived or _is_revived(stored))
    ):
        return stored
    return decode(stored, company_id=company_id, key_type=key_type, key_id=key_id, family=family)


def are_decoded(stored: Collection[Any], *, key_type: str, family: str = BAILEYS) -> bool:
    """Return True if stored values of one key type are certainly their own decoding.

    Args:
        stored: the values of a JSON text for which ``is_revived`` is true.
        key_type: the rows' key type.
        family: the client family.
    """
    return (
        _has_no_shape(key_type, family)
        and _NODES.issuperset(map(type, stored))
        and not any(map(is_sealed, stored))
    )


def _is_revived(stored: Any) -> bool:
    try:
        return is_revived(orjson.dumps(stored))
    except orjson.JSONEncodeError:
        return False


def encode_creds(creds: Creds, *, company_id: str | None, family: str = BAILEYS) -> Any:
    """Return the JSON object to store for ``creds``; the rules are those of ``encode``.

    ``account`` keeps its four bare base64 strings, as Baileys has them; all other keys are
    ``bytes``. In display names, NUL and half surrogate pairs become U+FFFD (``display_names``).

    Raises:
        CodecError: the creds, or something inside them, would not come back as they are.
    """
    shape = CREDS if family == BAILEYS else None
    creds = with_storable_names(creds, f"company {company_id!r}" if company_id else "creds")
    return _located(_write_creds, creds, shape, company_id=company_id, key_type="creds")


def decode_creds(stored: Any, *, company_id: str | None, family: str = BAILEYS) -> Creds:
    """Return the creds of a stored JSON value; the rules are those of ``decode``.

    Raises:
        CodecError: the creds cannot be read for certain, or are not an object.
        SealedValueError: they are sealed: `Sealing` opens them first.
    """
    if is_sealed(stored):
        raise sealed_value_error(stored, company_id, "", "")
    shape = CREDS if family == BAILEYS else None
    return _located(_read_creds, stored, shape, company_id=company_id, key_type="creds")


def check(value: Value, *, company_id: str | None, key_type: str, key_id: str) -> None:
    """Refuse a decoded value that is not whole, as Baileys would have written it.

    ``decode`` returns what was stored; this checks that it can be used: every known byte field has
    its length, and nothing that Baileys needs is missing. A key type that Baileys does not have is
    not checked.

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


def _has_no_shape(key_type: str, family: str) -> bool:
    return family != BAILEYS or key_type not in SHAPED_TYPES


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
    if is_sealed(value):
        raise Malformed(f"has a field {SEALED!r}, which only sealed values have")
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
