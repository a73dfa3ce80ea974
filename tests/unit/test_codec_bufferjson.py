"""The quick ways to and from JSON text and the careful ones agree, and refuse the same."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supabase_auth_state import CodecError, codec
from supabase_auth_state.codec import is_revived
from tests.values import KEY_TYPES, same, values

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary(max_size=20)
    | st.sampled_from(["Buffer", "\0", "\\u0000", "\ud800", '"Buffer"'])
)
NAMES = st.text(max_size=5) | st.sampled_from(["type", "data", "\0", "_sessions"])
ANY_VALUE = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)
)
DOCUMENTS = st.dictionaries(NAMES, ANY_VALUE, max_size=5)


def outcome(key_type: str, value: Any, *, careful: bool) -> bytes | str:
    try:
        if careful:
            encoded = codec.encode(value, company_id="c", key_type=key_type, key_id="1")
            return orjson.dumps(encoded)
        ref = (key_type, "1")
        return codec.encode_texts({ref: value}, company_id="c")[ref]
    except CodecError as error:
        return str(error)


@given(st.sampled_from(["session", "device-list", "pre-key", "of the future"]), DOCUMENTS)
def test_both_ways_agree(key_type: str, value: dict[str, Any]) -> None:
    quick = outcome(key_type, value, careful=False)
    assert quick == outcome(key_type, value, careful=True)


class Word(str):
    __slots__ = ()


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": [value]}
    return value


CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE


@pytest.mark.parametrize(
    "inner",
    [
        (1, 2), Word("x"), Colour.RED, Point(1), uuid.UUID(int=1), dt.date(2026, 1, 1),
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), {1: "a"}, {Word("x"): 1}, {None: 1},
        {1, 2}, pytest.param(object(), id="object()"), float("nan"), 1e16, -0.0, 2**64,
        nested(150), CYCLE, {"type": "Buffer", "data": "AQID"}, bytearray(b"x"), 1.5,
    ],
    ids=repr,
)  # fmt: skip
def test_what_only_one_of_them_could_write_is_told_alike(inner: Any) -> None:
    value = {"deep": [{"inside": inner}]}
    assert outcome("session", value, careful=False) == outcome("session", value, careful=True)


@pytest.mark.parametrize("depth", [98, 99, 100, 101])
def test_both_stop_at_the_same_depth(depth: int) -> None:
    value = nested(depth)
    assert outcome("session", value, careful=False) == outcome("session", value, careful=True)


def decoded(stored: Any, key_type: str, *, quickly: bool) -> Any:
    names = {"company_id": "c", "key_type": key_type, "key_id": "1"}
    try:
        if not quickly:
            return codec.decode(stored, **names)
        revived = is_revived(orjson.dumps(stored))
        return codec.decode_own(stored, revived=revived, **names)
    except CodecError as error:
        return str(error)


@given(st.sampled_from(KEY_TYPES), values)
@example("session", {"deep": [{"type": "Buffer", "data": "AQID"}]})
@example("session", {"type": "Buffer", "data": "not base64"})
@example("session", {"large": 10**16})
@example("session", {"large": 1e16})
@example("session", {"small": 1e-16})
@example("device-list", [2**64])
def test_what_is_handed_over_is_read_as_what_is_not(key_type: str, value: Any) -> None:
    try:
        stored = orjson.loads(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return
    quick = decoded(copy.deepcopy(stored), key_type, quickly=True)
    assert same(quick, decoded(stored, key_type, quickly=False))


def test_what_is_handed_over_is_not_copied() -> None:
    stored = {"_sessions": {"a": {"counter": 1}}}
    assert decoded(stored, "session", quickly=True) is stored


def test_a_set_of_many_names_the_one_that_is_wrong() -> None:
    values = {("session", str(n)): {"n": n} for n in range(10)}
    values["session", "5"] = {"inside": (1, 2)}  # type: ignore[dict-item]
    with pytest.raises(CodecError, match=r"session.*5"):
        codec.encode_texts(values, company_id="c")


def test_texts_come_in_the_order_of_their_values() -> None:
    values = {("session", "1"): {"a": 1}, ("identity-key", "1"): b"\5" * 33, ("session", "2"): {}}
    texts = codec.encode_texts(values, company_id="c")
    assert list(texts) == list(values)
    assert texts["session", "1"] == b'{"a":1}'
