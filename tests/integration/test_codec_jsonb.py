"""The codec's promise against the real JSONB: what is accepted comes back, types and all."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

from supabase_auth_state.codec import decode, decode_creds, encode, encode_creds
from supabase_auth_state.errors import CodecError
from tests.values import creds, same, typed_values

EXAMPLES = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def through_jsonb(db: psycopg.Connection[Any], stored: Any) -> Any:
    row = db.execute("select %s::jsonb::text", [json.dumps(stored)]).fetchone()
    assert row is not None
    return json.loads(row[0])


@EXAMPLES
@given(typed_values)
def test_accepted_values_survive_jsonb(db: psycopg.Connection[Any], pair: tuple[str, Any]) -> None:
    key_type, value = pair
    try:
        stored = encode(value, company_id="c", key_type=key_type, key_id="1")
    except CodecError:
        return
    back = decode(through_jsonb(db, stored), company_id="c", key_type=key_type, key_id="1")
    assert same(back, value)


@EXAMPLES
@given(creds)
def test_accepted_creds_survive_jsonb(db: psycopg.Connection[Any], value: dict[str, Any]) -> None:
    try:
        stored = encode_creds(value, company_id="c")
    except CodecError:
        return
    assert same(decode_creds(through_jsonb(db, stored), company_id="c"), value)


@pytest.mark.parametrize(
    "value",
    [
        2**64 - 1,
        -(2**63),
        9999999999999998.0,
        5e-324,
        0.1 + 0.2,
        5.0,
        0.0,
        1e-7,
        "\u2028\x01\x7f\U0001f6cd\ufe0f",
        {"": {"\U0001f6cd": ""}},
    ],
    ids=repr,
)
def test_values_at_the_edges_survive_jsonb(db: psycopg.Connection[Any], value: Any) -> None:
    stored = encode(value, company_id="c", key_type="of-tomorrow", key_id="1")
    back = decode(through_jsonb(db, stored), company_id="c", key_type="of-tomorrow", key_id="1")
    assert same(back, value)


def test_deep_values_survive_jsonb(db: psycopg.Connection[Any]) -> None:
    value: Any = b"deep"
    for _ in range(200):
        value = [value]
    stored = encode(value, company_id="c", key_type="of-tomorrow", key_id="1")
    back = decode(through_jsonb(db, stored), company_id="c", key_type="of-tomorrow", key_id="1")
    assert back == value


@pytest.mark.parametrize("document", ['"\\u0000"', '{"\\u0000": 1}', '"\\ud83d"'])
def test_jsonb_refuses_what_the_codec_refuses_for_its_sake(
    db: psycopg.Connection[Any], document: str
) -> None:
    with pytest.raises(psycopg.DataError):
        db.execute("select %s::jsonb", [document])
    with pytest.raises(CodecError):
        encode(json.loads(document), company_id="c", key_type="of-tomorrow", key_id="1")


@pytest.mark.parametrize(("number", "becomes"), [(-0.0, 0.0), (1e16, 10**16), (1e22, 10**22)])
def test_jsonb_changes_the_numbers_that_the_codec_refuses(
    db: psycopg.Connection[Any], number: float, becomes: float
) -> None:
    assert same(through_jsonb(db, number), becomes)
    with pytest.raises(CodecError):
        encode(number, company_id="c", key_type="of-tomorrow", key_id="1")
