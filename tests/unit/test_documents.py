from __future__ import annotations

import base64
from typing import Any

import pytest

from supabase_auth_state.transfer.documents import (
    CREDS,
    Device,
    Document,
    Match,
    device_in,
    device_of,
    file_of,
    is_newer,
    is_other_device,
    match,
    name_of,
    names,
    unneeded_mappings,
)
from supabase_auth_state.types import KeyRef

NOW = 1_800_000_000.0
DAY = 86_400.0
IDENTITY = KeyRef("identity-key", "15550100001.0")
BYTES = b"\5" + bytes(range(32))
CANONICAL = {"type": "Buffer", "data": base64.b64encode(BYTES).decode()}
AS_ARRAY = {"type": "Buffer", "data": list(BYTES)}


def document(ref: KeyRef, value: Any, time: float = NOW) -> Document:
    return Document(ref, value, time)


def mapping(key_id: str, target: str, days_old: float) -> Document:
    return document(KeyRef("lid-mapping", key_id), target, NOW - days_old * DAY)


def pair(pn: str, lid: str, days_old: float) -> list[Document]:
    return [mapping(pn, lid, days_old), mapping(f"{lid}_reverse", pn, days_old)]


def session(key_id: str) -> Document:
    return document(KeyRef("session", key_id), {"_sessions": {}, "version": "v1"}, 0.0)


def left_out(*files: Document) -> set[str]:
    found = unneeded_mappings({file.ref: file for file in files}, now=NOW)
    return {ref.key_id for ref in found}


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (CANONICAL, Match.SAME),
        (dict(reversed(CANONICAL.items())), Match.SAME),
        (AS_ARRAY, Match.SAME_VALUE),
        ({"type": "Buffer", "data": base64.b64encode(bytes(33)).decode()}, Match.DIFFERENT),
        ({"type": "Buffer", "data": [1, 2, 300]}, Match.UNREADABLE),
    ],
)
def test_a_row_is_compared_with_its_file_by_value_and_by_form(stored: Any, found: Match) -> None:
    assert match(document(IDENTITY, CANONICAL), document(IDENTITY, stored), "7") is found


@pytest.mark.parametrize(("one", "other"), [(True, 1), (1, 1.0), ("1", 1), (None, False)])
def test_values_that_python_takes_for_equal_are_told_apart(one: object, other: object) -> None:
    ref = KeyRef("of-tomorrow", "1")
    file, row = document(ref, {"value": one}), document(ref, {"value": other})
    assert match(file, row, "7") is Match.DIFFERENT


def test_a_document_does_not_show_its_value() -> None:
    assert CANONICAL["data"] not in repr(document(IDENTITY, CANONICAL))


def test_times_within_a_millisecond_are_the_same() -> None:
    assert not is_newer(document(IDENTITY, 1, NOW + 0.0009), document(IDENTITY, 1, NOW))
    assert is_newer(document(IDENTITY, 1, NOW + 0.002), document(IDENTITY, 1, NOW))


def test_names_are_for_people() -> None:
    refs = [CREDS, IDENTITY, KeyRef("pre-key", "7"), KeyRef("pre-key", "8")]
    assert name_of(CREDS) == "creds"
    assert names(refs) == "creds, identity-key 15550100001.0, pre-key 7 and 1 more"
    assert names(refs[:3]) == "creds, identity-key 15550100001.0, pre-key 7"
    assert file_of(CREDS) == "creds.json"
    assert file_of(KeyRef("sender-key", "1@g.us::2::3")) == "sender-key-1@g.us--2--3.json"


def test_another_identity_key_is_another_device() -> None:
    def creds(data: bytes) -> dict[KeyRef, Document]:
        encoded = {"type": "Buffer", "data": base64.b64encode(data).decode()}
        pair_of_keys = {"private": encoded, "public": encoded}
        return {CREDS: document(CREDS, {"registrationId": 7, "signedIdentityKey": pair_of_keys})}

    mine, other = creds(bytes(32)), creds(bytes(range(32)))
    assert is_other_device(mine, other, "7")
    assert not is_other_device(mine, mine, "7")
    assert not is_other_device(mine, {}, "7")
    assert not is_other_device(mine, {CREDS: document(CREDS, "no creds at all")}, "7")


def test_a_device_is_its_registration_id_and_its_identity_key() -> None:
    creds = {"registrationId": 7, "signedIdentityKey": {"public": b"1"}, "nextPreKeyId": 3}
    assert device_of(creds) == Device(7, b"1")
    assert device_of({**creds, "registrationId": None}) is None
    assert device_of({**creds, "signedIdentityKey": None}) is None
    assert device_in({CREDS: document(CREDS, "no creds at all")}, "7") is None
    assert device_in({}, "7") is None


def test_old_mappings_without_a_session_are_left_out_in_both_directions() -> None:
    assert left_out(*pair("111", "999", 8)) == {"111", "999_reverse"}


def test_mappings_of_the_last_seven_days_stay() -> None:
    assert left_out(*pair("111", "999", 6.9)) == set()


@pytest.mark.parametrize("session_id", ["999_1.0", "999.0", "111.0", "111_128.99", "999_129.99"])
def test_a_session_with_either_side_keeps_both_directions(session_id: str) -> None:
    assert left_out(*pair("111", "999", 400), session(session_id)) == set()


@pytest.mark.parametrize("session_id", ["1111.0", "11.0", "9990_1.0", "99_1.0"])
def test_a_session_of_a_similar_number_keeps_nothing(session_id: str) -> None:
    assert left_out(*pair("111", "999", 8), session(session_id)) == {"111", "999_reverse"}


def test_one_young_direction_keeps_the_other() -> None:
    assert left_out(mapping("111", "999", 400), mapping("999_reverse", "111", 1)) == set()


def test_a_direction_alone_is_judged_alone() -> None:
    files = [mapping("111", "999", 8), mapping("888_reverse", "222", 8), session("888_1.0")]
    assert left_out(*files) == {"111"}


def test_directions_that_disagree_are_two_mappings() -> None:
    files = [mapping("111", "999", 8), mapping("999_reverse", "333", 8), session("333.0")]
    assert left_out(*files) == {"111"}


def test_nothing_but_mappings_is_left_out() -> None:
    assert left_out(document(KeyRef("pre-key", "1"), {}, 0.0), session("111.0")) == set()
