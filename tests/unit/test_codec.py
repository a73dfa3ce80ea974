from __future__ import annotations

import base64
import enum
import json
import traceback
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supabase_auth_state.codec import check, check_creds, decode_creds, encode_creds
from supabase_auth_state.errors import CodecError
from tests.values import (
    KEY_TYPES,
    auth_rows,
    buffer,
    creds,
    read,
    same,
    typed_values,
    values,
    write,
)

B32, B33, B64, B128 = bytes(range(32)), b"\5" + bytes(32), bytes(64), bytes(range(128))
PAIR = {"private": B32, "public": B32[::-1]}
SENDER_KEY = b'[{"senderKeyId":1}]'
KEY_DATA = base64.b64encode(B32).decode()


def through_json(stored: Any) -> Any:
    return json.loads(json.dumps(stored))


@given(typed_values)
def test_every_value_that_is_accepted_comes_back_with_equal_types(pair: tuple[str, Any]) -> None:
    key_type, value = pair
    try:
        stored = write(value, key_type)
    except CodecError:
        return
    assert same(read(through_json(stored), key_type), value)


@given(creds)
def test_all_creds_that_are_accepted_come_back_with_equal_types(value: dict[str, Any]) -> None:
    try:
        stored = encode_creds(value, company_id="c")
    except CodecError:
        return
    assert same(decode_creds(through_json(stored), company_id="c"), value)


@given(values, st.sampled_from(["pyaileys", "waton"]), st.sampled_from(KEY_TYPES))
def test_other_families_get_back_what_is_accepted(value: Any, family: str, key_type: str) -> None:
    try:
        stored = write(value, key_type, family=family)
    except CodecError:
        return
    assert same(read(through_json(stored), key_type, family=family), value)


@given(typed_values)
def test_a_stored_value_is_read_or_refused_and_nothing_else(pair: tuple[str, Any]) -> None:
    key_type, value = pair
    stored = json.loads(json.dumps(value, default=buffer))
    try:
        decoded = read(stored, key_type)
    except CodecError:
        return
    assert _without_lookalikes(decoded)


def _without_lookalikes(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("type") != "Buffer" and all(map(_without_lookalikes, value.values()))
    return not isinstance(value, list) or all(map(_without_lookalikes, value))


@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256))])
def test_bytes_are_written_in_the_canonical_form_alone(data: bytes) -> None:
    assert write({"a": [data]}) == {"a": [buffer(data)]}


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_like_objects_come_back_as_bytes(kind: Any) -> None:
    assert same(read(write({"a": kind(b"\1\2")})), {"a": b"\1\2"})


@pytest.mark.parametrize("empty", [b"", "", 0, 0.0, False, [], {}])
def test_empty_values_are_values(empty: Any) -> None:
    assert same(read(write(empty)), empty)


def test_encoding_and_decoding_share_nothing_with_what_they_were_given() -> None:
    value: dict[str, Any] = {"a": [{"b": []}], "c": {}}
    stored = write(value)
    decoded = read(stored)
    stored["a"][0]["b"].append(1)
    decoded["c"]["d"] = 1
    assert value == {"a": [{"b": []}], "c": {}}
    assert decoded["a"] == [{"b": []}]


class Text(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


REFUSED = [
    pytest.param(None, id="None, which deletes"),
    pytest.param("a\0", id="NUL in text"),
    pytest.param({"a\0": 1}, id="NUL in a name"),
    pytest.param("\ud83d", id="half a surrogate pair in text"),
    pytest.param({"\udc00": 1}, id="half a surrogate pair in a name"),
    pytest.param({1: 1}, id="a name that is no text"),
    pytest.param({Text("a"): 1}, id="a name of a subclass"),
    pytest.param(float("nan"), id="NaN"),
    pytest.param(float("inf"), id="infinity"),
    pytest.param(-0.0, id="minus zero"),
    pytest.param(1e16, id="a float that JSONB gives back as an int"),
    pytest.param(-1.5e300, id="a large negative float"),
    pytest.param(2**64, id="an int beyond 64 bits"),
    pytest.param(-(2**63) - 1, id="a negative int beyond 64 bits"),
    pytest.param((1,), id="a tuple"),
    pytest.param({1}, id="a set"),
    pytest.param(object(), id="an unknown object"),
    pytest.param(Text("a"), id="a str subclass"),
    pytest.param(Colour.RED, id="an enum"),
    pytest.param(OrderedDict(a=1), id="a dict subclass"),
    pytest.param({"type": "Buffer"}, id="a Buffer without data"),
    pytest.param({"type": "Buffer", "data": [1]}, id="a Buffer that was never revived"),
    pytest.param(buffer(b"a"), id="a canonical Buffer"),
    pytest.param(buffer(b"a") | {"more": 1}, id="a Buffer with more in it"),
]


@pytest.mark.parametrize("value", REFUSED)
@pytest.mark.parametrize("family", ["baileys", "pyaileys"])
def test_what_would_not_come_back_is_refused_at_any_depth(value: Any, family: str) -> None:
    with pytest.raises(CodecError):
        write(value, family=family)
    if value is not None:
        with pytest.raises(CodecError) as caught:
            write({"a": [0, {"b": value}]}, family=family)
        assert caught.value.path == ("a", 1, "b")


@pytest.mark.parametrize("key_type", ["pre-key", "app-state-sync-version", "tctoken"])
@pytest.mark.parametrize(
    "more", [{"a\0": 1}, {"\ud83d": 1}, {1: 1}, {"type": "Buffer"}, {"a": float("nan")}], ids=repr
)
def test_what_would_not_come_back_is_refused_beside_known_fields(key_type: str, more: Any) -> None:
    with pytest.raises(CodecError):
        write(WHOLE[key_type] | more, key_type)


def test_bytes_that_would_be_read_as_encoded_twice_are_refused() -> None:
    for key_type, value in (
        ("pre-key", PAIR | {"private": base64.b64encode(B32)}),
        ("identity-key", base64.b64encode(B33)),
        ("sender-key", base64.b64encode(SENDER_KEY)),
        ("app-state-sync-key", {"keyData": base64.b64encode(KEY_DATA.encode()).decode()}),
    ):
        with pytest.raises(CodecError, match="encoded twice"):
            write(value, key_type)


@pytest.mark.parametrize("value", ['"200000000000100"', '"', 200000000000100, 1.5])
def test_a_lid_mapping_that_would_be_read_as_something_else_is_refused(value: Any) -> None:
    with pytest.raises(CodecError):
        write(value, "lid-mapping")


def test_the_largest_numbers_are_accepted() -> None:
    numbers = [2**64 - 1, -(2**63), 9999999999999998.0, 5e-324]
    assert same(read(through_json(write(numbers))), numbers)


def test_deep_nesting_is_accepted_up_to_a_limit_and_a_cycle_is_refused() -> None:
    deep: Any = []
    for _ in range(199):
        deep = [deep]
    assert read(through_json(write(deep))) == deep
    with pytest.raises(CodecError, match="levels deep"):
        write([deep])
    for too_deep in ([deep], {"a": deep}):
        with pytest.raises(CodecError, match="levels deep"):
            read(too_deep)
    cycle: dict[str, Any] = {}
    cycle["again"] = cycle
    with pytest.raises(CodecError, match="contains itself"):
        write(cycle)


def test_an_error_names_company_type_id_and_place() -> None:
    with pytest.raises(CodecError) as caught:
        write({"a": [{"b": "x\0"}]}, "session", "1.0")
    assert str(caught.value).startswith("company 'c', type 'session', id '1.0', at a.0.b: ")
    with pytest.raises(CodecError) as caught:
        encode_creds({"noiseKey": PAIR | {"private": "x"}}, company_id="c")
    assert str(caught.value).startswith("company 'c', type 'creds', at noiseKey.private: ")


SECRET = "c2VjcmV0LXNlY3JldA"


@pytest.mark.parametrize(
    ("key_type", "stored"),
    [
        ("pre-key", f'{{"private": "{SECRET}'),
        ("pre-key", f'{{"{SECRET}": 1, "{SECRET}": 2}}'),
        ("pre-key", {"private": SECRET, "public": SECRET}),
        ("identity-key", SECRET),
        ("tctoken", {"token": buffer(b"AAAA" + SECRET.encode() + b"==")}),
        ("app-state-sync-key", {"keyData": SECRET + "\0"}),
        ("of-tomorrow", {"type": "Buffer", "data": SECRET}),
        ("session", {"type": "Buffer", "data": [SECRET]}),
        ("lid-mapping", f'"{SECRET}'),
    ],
)
def test_neither_an_error_nor_what_it_is_chained_to_holds_the_value(
    key_type: str, stored: Any
) -> None:
    with pytest.raises(CodecError) as caught:
        read(stored, key_type)
    assert caught.value.__context__ is None
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_refused_value_is_not_in_the_error() -> None:
    for value in (f"{SECRET}\0", {f"{SECRET}\ud800": 1}, {SECRET.encode(): 1}):
        with pytest.raises(CodecError) as caught:
            write([value])
        assert caught.value.__context__ is None
        assert SECRET not in "".join(traceback.format_exception(caught.value))


WHOLE: dict[str, Any] = {
    "pre-key": PAIR,
    "session": {"_sessions": {}, "version": "v1"},
    "sender-key": SENDER_KEY,
    "sender-key-memory": {},
    "app-state-sync-key": {"keyData": KEY_DATA},
    "app-state-sync-version": {"version": 1, "hash": B128, "indexValueMap": {}},
    "lid-mapping": "200000000000100",
    "device-list": ["0"],
    "tctoken": {"token": b""},
    "identity-key": B33,
}
NOT_WHOLE = [
    ("pre-key", {"private": B33, "public": B32}),
    ("pre-key", B32),
    ("pre-key", ""),
    ("session", {"version": "v1"}),
    ("session", []),
    ("sender-key", b""),
    ("sender-key", b"{}"),
    ("sender-key-memory", []),
    ("app-state-sync-key", {"keyData": "AQI="}),
    ("app-state-sync-key", {}),
    ("app-state-sync-version", {"version": 1, "hash": B64}),
    ("app-state-sync-version", {"hash": B128}),
    (
        "app-state-sync-version",
        {"version": 1, "hash": B128, "indexValueMap": {"a": {"valueMac": B33}}},
    ),
    ("lid-mapping", "2 0"),
    ("lid-mapping", ""),
    ("lid-mapping", "\u0662"),
    ("device-list", {}),
    ("tctoken", {"timestamp": "1"}),
    ("tctoken", {"token": "AQ=="}),
    ("identity-key", B32),
]


@pytest.mark.parametrize("key_type", WHOLE)
def test_a_whole_value_passes_the_check(key_type: str) -> None:
    check(WHOLE[key_type], company_id="c", key_type=key_type, key_id="1")


@pytest.mark.parametrize(("key_type", "value"), NOT_WHOLE, ids=str)
def test_a_value_that_baileys_cannot_have_meant_fails_the_check(key_type: str, value: Any) -> None:
    with pytest.raises(CodecError):
        check(value, company_id="c", key_type=key_type, key_id="1")


@pytest.mark.parametrize("name", ["noiseKey", "signedIdentityKey", "signedPreKey"])
def test_creds_without_their_keys_fail_the_check(name: str) -> None:
    creds_ = decode_creds(auth_rows()[1]["creds"], company_id="c")
    del creds_[name]
    with pytest.raises(CodecError) as caught:
        check_creds(creds_, company_id="c")
    assert caught.value.path == (name,)
