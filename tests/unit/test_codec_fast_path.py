"""Each fast scan equals its slow twin, or says that it is not certain."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supabase_auth_state.codec import Malformed, parse_json
from supabase_auth_state.codec.bufferjson import plain, revive
from supabase_auth_state.codec.fast_path import (
    NOT_CERTAIN,
    is_revived,
    parse_compact,
    plain_texts,
)
from tests.values import BAILEYS, same, values

NEAR_EDGES = st.sampled_from(
    [
        0.1, 1.5, 9e15, 1e16, 1.5e300, 1e-7, -0.0, float("nan"), 2**53, 2**63, 2**64, -(2**63) - 1,
        9999999999999999, 10**15, "Buffer", "\0", "\ud800", '"type":"Buffer"', "1234567890123456",
        {"type": "Buffer", "data": "AQID"}, {"type": "Buffer"}, b"x", bytearray(b"x"), (1,), {1: 2},
    ]
)  # fmt: skip
ANY_VALUE = st.recursive(
    values | NEAR_EDGES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.just("type"), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=3) | st.just("type"), ANY_VALUE, max_size=3)


@given(st.lists(OBJECTS, max_size=3))
@example([{"a": {"b": [{"c": 1.0}]}}])
@example([{}, {"type": "Buffer"}])
def test_plain_texts_equals_plain(objects: list[dict[str, Any]]) -> None:
    fast = plain_texts(objects)
    if fast is not None:
        assert fast == [orjson.dumps(plain(value)) for value in objects]


def as_json(value: Any) -> bytes | None:
    try:
        return orjson.dumps(value)
    except (TypeError, RecursionError):
        return None


@given(st.lists(ANY_VALUE, max_size=2) | OBJECTS, st.booleans())
@example([1e16], False)
@example({"a": [1e22]}, False)
@example({"a": 12345678901234567890123}, True)
@example({"a": -(2.0**60)}, True)
@example({"type": "Buffer", "data": ""}, True)
def test_is_revived_equals_revive(value: Any, postgres: bool) -> None:
    text = as_json(value)
    if postgres and text is not None:
        # PostgreSQL gives no number an exponent, and puts spaces behind colons and commas.
        text = json.dumps(without_exponents(json.loads(text)), ensure_ascii=False).encode()
    if text is not None and is_revived(text, postgres=postgres):
        stored = orjson.loads(text)
        assert same(revive(stored), stored)


def without_exponents(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_exponents(child) for name, child in value.items()}
    if isinstance(value, list):
        return [without_exponents(child) for child in value]
    if isinstance(value, float) and abs(value) >= 1e16:
        return int(value)
    return 0.5 if isinstance(value, float) and 0 < abs(value) < 1e-4 else value


def strictly(text: str) -> Any:
    """What `parse_json` says without its fast scan, or the reason that it gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("supabase_auth_state.codec.json_text.parse_compact", lambda _: NOT_CERTAIN)
        try:
            return parse_json(text)
        except Malformed as error:
            return error


@given(
    ANY_VALUE.map(lambda value: (as_json(value) or b"[1e999]").decode())
    | st.text(alphabet='{}[]":,.-+eE0123456789 \\utrnfalsb\ud83d', max_size=30)
    | st.sampled_from(['{"a":1,"a":1}', "[NaN]", "[1e999]", "[-0]", '["\\ud83d"]', "\ufeff1"])
)
@example("-0.0")
@example("123456789012345678901234567890")
def test_parse_compact_equals_parse_json(text: str) -> None:
    fast = parse_compact(text)
    if fast is not NOT_CERTAIN:
        assert same(fast, strictly(text))


def test_the_scans_are_certain_of_what_baileys_writes() -> None:
    sessions = [json.loads(p.read_text()) for p in (BAILEYS / "v7-337").glob("session-*.json")]
    assert len(sessions) == 49
    assert plain_texts(sessions) == [orjson.dumps(session) for session in sessions]
    assert is_revived(orjson.dumps(sessions))
    for path in (BAILEYS / "v7-337").iterdir():
        assert parse_compact(path.read_text()) is not NOT_CERTAIN


def test_numbers_that_postgres_prints_without_an_exponent_are_found() -> None:
    for number in (1e16, 1.7976931348623157e308, 2.0**80):
        assert not is_revived(f'{{"a": {int(number)}}}'.encode(), postgres=True)
        assert not is_revived(orjson.dumps({"a": number}))
        assert math.isfinite(number)
