from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from supabase_auth_state.codec import (
    check,
    check_creds,
    decode_creds,
    encode_creds,
    looks_encoded_twice,
)
from supabase_auth_state.errors import CodecError
from tests.values import (
    BAILEYS,
    KEY_TYPES,
    array,
    auth_rows,
    buffer,
    indexed,
    read,
    rows,
    same,
    twice,
    write,
)

B32, B33, B64, B128 = bytes(range(32)), b"\5" + bytes(32), bytes(64), bytes(range(128))
SENDER_KEY = b'[{"senderKeyId":1}]'
KEY_DATA = base64.b64encode(B32).decode()


def test_canonical_buffers_are_bytes_at_any_depth_under_any_type_in_any_order() -> None:
    reversed_ = {"data": "AQI=", "type": "Buffer"}
    assert read({"a": [reversed_]}) == {"a": [b"\1\2"]}
    assert read({"a": [reversed_]}, "session") == {"a": [b"\1\2"]}
    for key_type in KEY_TYPES:
        assert read(reversed_, key_type) == b"\1\2"


OUTSIDE_A_BYTE_FIELD = [
    {"type": "Buffer", "data": [1, 2, 3]},
    {"type": "Buffer", "data": {"0": 1}},
    {"type": "Buffer", "data": {"type": "Buffer", "data": "AQID"}},
    {"type": "Buffer", "data": []},
    {"type": "Buffer", "data": {}},
    {"type": "Buffer", "data": None},
    {"type": "Buffer"},
    {"type": "Buffer", "value": "AQID"},
    {"type": "Buffer", "data": "AQID", "more": 1},
    {"type": "Buffer", "data": "not base64 !!"},
    {"type": "Buffer", "data": "AQI"},
    {"type": "Buffer", "data": "AQI=\n"},
    {"type": "Buffer", "data": "-_-_"},
    {"type": "Buffer", "data": "AR=="},
    {"type": "Buffer", "data": "AQ==AQ=="},
]


@pytest.mark.parametrize("stored", OUTSIDE_A_BYTE_FIELD, ids=str)
@pytest.mark.parametrize("family", ["baileys", "pyaileys"])
def test_what_is_nearly_a_buffer_is_never_returned_as_it_is(stored: Any, family: str) -> None:
    for key_type in ("session", "of-tomorrow", "device-list"):
        with pytest.raises(CodecError):
            read({"a": stored}, key_type, family=family)
    with pytest.raises(CodecError):
        decode_creds({"additionalData": stored}, company_id="c", family=family)


@pytest.mark.parametrize(
    "stored", [{"0": 1, "1": 2}, {"5511@x": 7}, {"length": 1, "0": 1}, [1, 2], "AQID", {}], ids=str
)
def test_shapes_that_only_look_like_bytes_stay_what_they_are(stored: Any) -> None:
    assert same(read({"a": stored}), {"a": stored})
    assert same(read({"a": stored}, "session"), {"a": stored})
    additional = {"additionalData": stored}
    assert same(decode_creds(additional, company_id="c"), additional)


# Every form that has been seen in the wild, in a field of 32 bytes.
READABLE = {
    "canonical": buffer(B32),
    "data first": dict(reversed(buffer(B32).items())),
    "array": array(B32),
    "index object inside": {"type": "Buffer", "data": indexed(B32)},
    "a Buffer inside a Buffer": {"type": "Buffer", "data": buffer(B32)},
    "an array inside a Buffer": {"type": "Buffer", "data": array(B32)},
    "an index object two levels down": {
        "type": "Buffer",
        "data": {"type": "Buffer", "data": indexed(B32)},
    },
    "old marker": {"buffer": True, "data": base64.b64encode(B32).decode()},
    "old marker with an array": {"buffer": True, "value": list(B32)},
    "value for data": {"type": "Buffer", "value": base64.b64encode(B32).decode()},
    "index object": indexed(B32),
    "index object out of order": dict(reversed(indexed(B32).items())),
    "bare array": list(B32),
    "bare base64": base64.b64encode(B32).decode(),
    "base64 twice": twice(B32),
    "array of base64": array(base64.b64encode(B32)),
    "index object of base64": indexed(base64.b64encode(B32)),
}
UNREADABLE = {
    "a hole": {k: v for k, v in indexed(B32 + b"\0").items() if k != "7"},
    "not from 0": {str(i + 1): n for i, n in enumerate(B32)},
    "a number too many": indexed(B32) | {"length": 32},
    "256": [*B32[1:], 256],
    "-1": array(B32[1:]) | {"data": [*B32[1:], -1]},
    "a fraction": [*B32[1:], 1.0],
    "text for a number": indexed(B32) | {"3": "3"},
    "a truth for a number": [*B32[1:], True],
    "null for a number": indexed(B32) | {"3": None},
    "leading zeros": {f"0{i}": n for i, n in enumerate(B32)},
    "too short": array(B32[1:]),
    "too short, base64": base64.b64encode(B32[1:]).decode(),
    "empty array": [],
    "empty object": {},
    "empty Buffer object": {"type": "Buffer", "data": {}},
    "empty Buffer array": {"type": "Buffer", "data": []},
    "no data": {"type": "Buffer"},
    "null data": {"type": "Buffer", "data": None},
    "more in it": buffer(B32) | {"more": 1},
    "three levels": {"type": "Buffer", "data": {"type": "Buffer", "data": buffer(B32)}},
    "not base64": {"type": "Buffer", "data": "not base64 !!"},
    "old marker, not set": {"buffer": False, "data": base64.b64encode(B32).decode()},
    "url-safe base64": {"type": "Buffer", "data": base64.urlsafe_b64encode(b"\xff" * 32).decode()},
    "[object Object]": "[object Object]",
    "empty text": "",
    "a number": 7,
    "null": None,
}


@pytest.mark.parametrize("stored", READABLE.values(), ids=READABLE)
def test_every_known_form_is_read_in_a_field_of_known_length(stored: Any) -> None:
    row = {"private": stored, "public": buffer(B32)}
    assert read(row, "pre-key") == {"private": B32, "public": B32}
    assert decode_creds({"noiseKey": row}, company_id="c")["noiseKey"]["private"] == B32


@pytest.mark.parametrize("stored", UNREADABLE.values(), ids=UNREADABLE)
def test_anything_else_is_an_error_in_a_field_of_known_length(stored: Any) -> None:
    row = {"private": stored, "public": buffer(B32)}
    with pytest.raises(CodecError) as caught:
        read(row, "pre-key")
    assert caught.value.path == ("private",)
    with pytest.raises(CodecError) as caught:
        decode_creds({"noiseKey": row}, company_id="c")
    assert caught.value.path == ("noiseKey", "private")


def test_canonical_bytes_of_another_length_are_what_somebody_stored() -> None:
    row = {"private": b"", "public": bytes(44), "more": b"AAAA"}
    assert read(write(row, "pre-key"), "pre-key") == row
    row = {"private": b"AAAA", "public": base64.b64encode(B33)}
    assert read(write(row, "pre-key"), "pre-key") == row
    assert read(buffer(b"abc"), "identity-key") == b"abc"
    assert read(buffer(b"abc"), "sender-key") == b"abc"


@pytest.mark.parametrize(
    "stored",
    [
        {},
        [],
        [1, 2],
        "[object Object]",
        "text",
        "[1]",
        "12",
        7,
        True,
        {"private": buffer(B32)},
        {"private": buffer(B32), "public": None},
    ],
    ids=str,
)
def test_a_pre_key_that_cannot_be_used_is_an_error(stored: Any) -> None:
    with pytest.raises(CodecError):
        read(stored, "pre-key")


def test_a_pre_key_keeps_what_else_is_in_it() -> None:
    row = {"private": buffer(B32), "public": buffer(B32), "more": {"0": 1}}
    assert read(row, "pre-key") == {"private": B32, "public": B32, "more": {"0": 1}}


@pytest.mark.parametrize(
    "stored",
    [
        buffer(B33),
        array(B33),
        indexed(B33),
        twice(B33),
        list(B33),
        base64.b64encode(B33).decode(),
        json.dumps(indexed(B33)),
        json.dumps(base64.b64encode(B33).decode()),
    ],
    ids=lambda stored: str(stored)[:20],
)
def test_every_form_of_an_identity_key_is_read(stored: Any) -> None:
    assert read(stored, "identity-key") == B33


@pytest.mark.parametrize("stored", [{}, [], "text", array(B32), indexed(B32), 7, "{}"], ids=str)
def test_an_identity_key_that_cannot_be_read_is_an_error(stored: Any) -> None:
    with pytest.raises(CodecError):
        read(stored, "identity-key")


@pytest.mark.parametrize("data", [SENDER_KEY, b"[]"])
@pytest.mark.parametrize(
    "form",
    [buffer, array, indexed, twice, list, lambda data: base64.b64encode(data).decode()],
    ids=["canonical", "array", "index object", "twice", "bare array", "bare base64"],
)
def test_every_form_of_a_sender_key_is_read(form: Any, data: bytes) -> None:
    assert read(form(data), "sender-key") == data


@pytest.mark.parametrize("stored", [{}, [], "[]", "text", array(b"{}"), array(b"")], ids=str)
def test_a_sender_key_that_does_not_begin_like_one_is_an_error(stored: Any) -> None:
    with pytest.raises(CodecError):
        read(stored, "sender-key")


@pytest.mark.parametrize(
    "form", [buffer, array, indexed, lambda data: {"type": "Buffer", "data": indexed(data)}]
)
def test_every_form_of_a_token_is_read(form: Any) -> None:
    assert read({"token": form(b"\xff\1")}, "tctoken") == {"token": b"\xff\1"}


@pytest.mark.parametrize("stored", [buffer(b""), array(b"")])
def test_an_empty_token_is_a_token(stored: Any) -> None:
    row = {"token": stored, "senderTimestamp": 7}
    assert read(row, "tctoken") == {"token": b"", "senderTimestamp": 7}


@pytest.mark.parametrize("stored", ["AQID", [1, 2], {}, {"type": "Buffer", "data": {}}, 7], ids=str)
def test_a_token_whose_form_proves_nothing_is_an_error(stored: Any) -> None:
    with pytest.raises(CodecError):
        read({"token": stored}, "tctoken")


def test_a_token_that_may_be_encoded_twice_is_reported_and_not_guessed() -> None:
    with pytest.raises(CodecError, match="base64 text encoded once more"):
        read({"token": twice(b"\1" * 11)}, "tctoken")
    with pytest.raises(CodecError, match="base64 text encoded once more"):
        write({"token": base64.b64encode(b"\1" * 12)}, "tctoken")
    assert read({"token": buffer(b"token123")}, "tctoken") == {"token": b"token123"}


def test_the_token_of_the_index_is_known_by_its_beginning() -> None:
    index = b'["200000000000100@lid"]'
    for form in (buffer, array, indexed, twice):
        assert read({"token": form(index)}, "tctoken", "__index") == {"token": index}
    with pytest.raises(CodecError):
        read({"token": array(b"no list")}, "tctoken", "__index")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b"token123", False),
        (b"AAAA", False),
        (b"AAA=", True),
        (b"A" * 16, True),
        (b"A" * 15, False),
        (b"-" * 16, False),
        (b"AB==", False),
    ],
)
def test_looks_encoded_twice_asks_for_strict_base64_that_is_padded_or_long(
    data: bytes, expected: bool
) -> None:
    assert looks_encoded_twice(data) is expected


def test_app_state_versions_are_read_in_every_field() -> None:
    row = {"version": 3, "hash": array(B128), "indexValueMap": {"a/+=": {"valueMac": indexed(B32)}}}
    expected = {"version": 3, "hash": B128, "indexValueMap": {"a/+=": {"valueMac": B32}}}
    assert read(row, "app-state-sync-version") == expected
    row["indexValueMap"]["a/+="]["valueMac"] = array(B33)  # type: ignore[index]
    with pytest.raises(CodecError) as caught:
        read(row, "app-state-sync-version")
    assert caught.value.path == ("indexValueMap", "a/+=", "valueMac")


@pytest.mark.parametrize(
    "stored",
    [
        KEY_DATA,
        buffer(B32),
        array(B32),
        indexed(B32),
        list(B32),
        twice(B32),
        base64.b64encode(KEY_DATA.encode()).decode(),
    ],
    ids=lambda stored: str(stored)[:20],
)
def test_key_data_goes_the_other_way_and_is_base64_text(stored: Any) -> None:
    row = {"keyData": stored, "timestamp": "1"}
    expected = {"keyData": KEY_DATA, "timestamp": "1"}
    assert read(row, "app-state-sync-key") == expected
    assert write(expected, "app-state-sync-key") == expected


@pytest.mark.parametrize("stored", ["no base64", "AQI", {}, array(B33), buffer(B33), 7], ids=str)
def test_key_data_that_cannot_be_read_is_an_error(stored: Any) -> None:
    with pytest.raises(CodecError):
        read({"keyData": stored}, "app-state-sync-key")


def test_key_data_as_bytes_is_refused_since_it_would_come_back_as_text() -> None:
    with pytest.raises(CodecError):
        write({"keyData": B32}, "app-state-sync-key")


@pytest.mark.parametrize(
    "key_type", ["session", "pre-key", "sender-key-memory", "device-list", "app-state-sync-version"]
)
def test_text_is_no_record_and_is_refused_both_ways(key_type: str) -> None:
    for text in ("text", "12", "null"):
        with pytest.raises(CodecError):
            read(text, key_type)
        with pytest.raises(CodecError):
            write(text, key_type)
    assert read("", key_type) == ""
    assert write("", key_type) == ""


@pytest.mark.parametrize("times", [1, 2, 3])
def test_json_inside_a_json_string_is_unwrapped(times: int) -> None:
    session: Any = {"_sessions": {}, "version": "v1"}
    stored = session
    for _ in range(times):
        stored = json.dumps(stored)
    assert read(stored, "session") == session
    with pytest.raises(CodecError):
        read(json.dumps(json.dumps(json.dumps(json.dumps(session)))), "session")


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '{"a":NaN}', '{"a":1e999}', "{", '["', "[" * 100_000], ids=str
)
def test_what_is_inside_a_string_is_parsed_strictly(text: str) -> None:
    with pytest.raises(CodecError):
        read(text, "session")


def test_a_lid_mapping_stays_a_string_of_digits() -> None:
    assert read("200000000000100", "lid-mapping") == "200000000000100"
    assert read('"200000000000100"', "lid-mapping") == "200000000000100"
    assert read(json.dumps('"200000000000100"'), "lid-mapping") == "200000000000100"
    for stored in (200000000000100, 1.5, '"2000'):
        with pytest.raises(CodecError):
            read(stored, "lid-mapping")


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_json_null_is_an_error(key_type: str) -> None:
    with pytest.raises(CodecError):
        read(None, key_type)


@pytest.mark.parametrize("stored", [None, [], "text", 7, "[]", buffer(b"a")], ids=str)
@pytest.mark.parametrize("family", ["baileys", "pyaileys"])
def test_creds_that_are_no_object_are_an_error(stored: Any, family: str) -> None:
    with pytest.raises(CodecError):
        decode_creds(stored, company_id="c", family=family)
    with pytest.raises(CodecError):
        encode_creds(stored, company_id="c", family=family)


def test_routing_info_is_decoded_again_only_when_its_neighbours_were_encoded_twice() -> None:
    pair = {"private": twice(B32), "public": twice(B32)}
    routing = b"\10\2\10\r\0\377\200"
    creds_ = {"routingInfo": twice(routing), "noiseKey": pair}
    assert decode_creds(creds_, company_id="c")["routingInfo"] == routing
    creds_["noiseKey"] = {"private": buffer(B32), "public": buffer(B32)}
    with pytest.raises(CodecError) as caught:
        decode_creds(creds_, company_id="c")
    assert caught.value.path == ("routingInfo",)


@pytest.mark.parametrize("name", ["routingInfo", "noiseKey", "account", "signalIdentities"])
def test_null_in_creds_means_absent(name: str) -> None:
    assert decode_creds({name: None}, company_id="c") == {name: None}


@pytest.mark.parametrize(
    "stored",
    [
        {"noiseKey": {}},
        {"noiseKey": "[object Object]"},
        {"signedPreKey": []},
        {"signalIdentities": {}},
        {"signalIdentities": [{"identifierKey": {}}]},
        {"account": {"details": "no base64"}},
        {"account": {"accountSignatureKey": {}}},
        {"routingInfo": {}},
        {"routingInfo": "AQID"},
    ],
    ids=str,
)
def test_damaged_fields_of_creds_are_an_error(stored: Any) -> None:
    with pytest.raises(CodecError):
        decode_creds(stored, company_id="c")


def test_fields_of_the_account_become_base64_text_again() -> None:
    account = {
        "accountSignatureKey": array(B32),
        "accountSignature": buffer(B64),
        "details": "AQI=",
    }
    expected = {
        "accountSignatureKey": KEY_DATA,
        "accountSignature": base64.b64encode(B64).decode(),
        "details": "AQI=",
    }
    assert decode_creds({"account": account}, company_id="c") == {"account": expected}


ROWS = rows()
CANONICAL = {
    (row["key_type"], row["key_id"]): row["value"] for row in ROWS if row["company_id"][-1] == "2"
}


def _row_id(row: dict[str, Any]) -> str:
    return f"{row['company_id'][-2:]}-{row['key_type']}-{row['key_id']}"


def _is_undecidable(row: dict[str, Any]) -> bool:
    # Encoded twice, of free length, alone in its record.
    return bool(row["company_id"][-1] == "6" and row["key_id"] == "200000000000100@lid")


REPAIRABLE = [r for r in ROWS if r["company_id"][-2:] < "10" and not _is_undecidable(r)]
BEYOND_REPAIR = [r for r in ROWS if r["company_id"][-2:] == "11" or _is_undecidable(r)]


@pytest.mark.parametrize("row", REPAIRABLE, ids=_row_id)
def test_a_damaged_row_is_read_as_the_value_that_baileys_wrote(row: dict[str, Any]) -> None:
    key_type, key_id = row["key_type"], row["key_id"]
    value = read(row["value"], key_type, key_id)
    assert write(value, key_type, key_id) == CANONICAL[key_type, key_id]
    check(value, company_id="c", key_type=key_type, key_id=key_id)


def test_the_canonical_rows_are_those_of_the_folder() -> None:
    folder = BAILEYS / "v7-small"
    documents = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert all(value in documents for value in CANONICAL.values())
    assert len(REPAIRABLE) == 9 * len(CANONICAL) - 1


@pytest.mark.parametrize("row", BEYOND_REPAIR, ids=_row_id)
def test_a_row_beyond_repair_is_an_error(row: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        read(row["value"], row["key_type"], row["key_id"])


@pytest.mark.parametrize("row", auth_rows(), ids=lambda row: row["company_id"][-2:])
def test_damaged_creds_are_read_as_baileys_wrote_them(row: dict[str, Any]) -> None:
    creds_ = decode_creds(row["creds"], company_id="c")
    document = json.loads((BAILEYS / "v7-small" / "creds.json").read_text())
    assert encode_creds(creds_, company_id="c") == document
    check_creds(creds_, company_id="c")
