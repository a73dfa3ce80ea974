"""Values for the codec: what a table may hold, and everything near the edges of it."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from supabase_auth_state.codec import decode, encode

BAILEYS = Path(__file__).parent / "fixtures" / "baileys"

KEY_TYPES = (
    "pre-key", "session", "sender-key", "sender-key-memory", "app-state-sync-key",
    "app-state-sync-version", "lid-mapping", "device-list", "tctoken", "identity-key",
    "of-tomorrow",
)  # fmt: skip

_TELLING_LENGTHS = (0, 1, 12, 31, 32, 33, 64, 128)


def rows() -> list[dict[str, Any]]:
    """The rows that older clients left behind."""
    return json.loads((BAILEYS / "legacy-jsonb" / "rows.json").read_text())  # type: ignore[no-any-return]


def auth_rows() -> list[dict[str, Any]]:
    """The creds that older clients left behind."""
    return json.loads((BAILEYS / "legacy-jsonb" / "auth_rows.json").read_text())  # type: ignore[no-any-return]


def buffer(data: bytes) -> dict[str, str]:
    """The canonical form, made without the code under test."""
    return {"type": "Buffer", "data": base64.b64encode(data).decode()}


def write(value: Any, key_type: str = "of-tomorrow", key_id: str = "1", **more: Any) -> Any:
    """Encode a value of company "c"."""
    return encode(value, company_id="c", key_type=key_type, key_id=key_id, **more)


def read(stored: Any, key_type: str = "of-tomorrow", key_id: str = "1", **more: Any) -> Any:
    """Decode a value of company "c"."""
    return decode(stored, company_id="c", key_type=key_type, key_id=key_id, **more)


def array(data: bytes) -> dict[str, Any]:
    """What `JSON.stringify` makes of a Buffer."""
    return {"type": "Buffer", "data": list(data)}


def indexed(data: bytes) -> dict[str, int]:
    """What `JSON.stringify` makes of a Uint8Array."""
    return {str(index): number for index, number in enumerate(data)}


def twice(data: bytes) -> dict[str, str]:
    """What BufferJSON makes of what it has already written."""
    return buffer(base64.b64encode(data))


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are equal and of equal types all the way down, even -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


def _encoded(data: bytes) -> bytes:
    return base64.b64encode(data)


raw_bytes = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(_TELLING_LENGTHS).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    st.just(b"[]"),
)
byte_values = st.one_of(raw_bytes, raw_bytes.map(_encoded), raw_bytes.map(_encoded).map(_encoded))
texts = st.one_of(
    st.text(max_size=12),
    byte_values.map(lambda data: _encoded(data).decode()),
    st.sampled_from(
        ["", "0", "12", '"12"', '{"a":1}', "[]", "[1]", "Buffer", "null", "\0", "\ud800"]
    ),
)
numbers = st.one_of(
    st.integers(-300, 300),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.sampled_from([1e15, 9999999999999998.0, 1e16, 1e22, 5e-324, 1e-7, 0.1, -0.0, 2.0**53]),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, texts, byte_values)
names = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["type", "data", "private", "public", "keyData", "hash", "token", "0", "1", "_sessions"]
    ),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)


def _record(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields, optional={"more": values})


_pairs = _record({"private": byte_values, "public": byte_values})
_base64 = byte_values.map(lambda data: _encoded(data).decode())
RECORDS: dict[str, st.SearchStrategy[Any]] = {
    "pre-key": _pairs,
    "session": _record({"_sessions": st.dictionaries(texts, values, max_size=3)}),
    "sender-key": byte_values,
    "sender-key-memory": st.dictionaries(texts, st.just(True), max_size=4),
    "app-state-sync-key": _record({"keyData": _base64}),
    "app-state-sync-version": _record(
        {
            "hash": byte_values,
            "indexValueMap": st.dictionaries(texts, _record({"valueMac": byte_values}), max_size=3),
        }
    ),
    "lid-mapping": texts,
    "device-list": st.lists(texts, max_size=3),
    "tctoken": _record({"token": byte_values}),
    "identity-key": byte_values,
}
typed_values = st.sampled_from(KEY_TYPES).flatmap(
    lambda key_type: st.tuples(
        st.just(key_type), st.one_of(RECORDS.get(key_type, values), byte_values, values)
    )
)
creds = st.fixed_dictionaries(
    {},
    optional={
        "noiseKey": _pairs,
        "signedPreKey": _record({"keyPair": _pairs, "signature": byte_values}),
        "routingInfo": byte_values,
        "backupToken": byte_values,
        "account": _record({"details": _base64, "accountSignatureKey": _base64}),
        "signalIdentities": st.lists(_record({"identifierKey": byte_values}), max_size=2),
        "additionalData": values,
        "me": values,
    },
)
