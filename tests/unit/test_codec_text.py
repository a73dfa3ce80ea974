"""The quick way to JSON text and the careful one write the same, and refuse the same."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supabase_auth_state import CodecError, codec

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
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=5)


def outcome(key_type: str, value: Any, *, careful: bool) -> bytes | str:
    try:
        if careful:
            encoded = codec.encode(value, company_id="c", key_type=key_type, key_id="1")
            return orjson.dumps(encoded)
        return codec.encode_text(value, company_id="c", key_type=key_type, key_id="1")
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
        {1, 2}, object(), float("nan"), 1e16, -0.0, 2**64, nested(150), CYCLE,
        {"type": "Buffer", "data": "AQID"}, bytearray(b"x"), 1.5,
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
