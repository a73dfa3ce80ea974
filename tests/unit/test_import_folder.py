"""What an import plans, and what it refuses without force."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from supabase_auth_state.transfer.company import Company
from supabase_auth_state.transfer.company_writer import BATCH_ROWS, Change, batches
from supabase_auth_state.transfer.documents import CREDS, Document
from supabase_auth_state.transfer.plan import Plan, Source, plan_import, refusal
from supabase_auth_state.types import KeyRef
from tests.values import buffer

FILE_TIME = 1_700_000_000.0
OLDER, NEWER = FILE_TIME - 60, FILE_TIME + 60
ONE, TWO = KeyRef("device-list", "1"), KeyRef("device-list", "2")
SESSION = KeyRef("session", "15550100001.0")
PAIR = {"private": buffer(bytes(32)), "public": buffer(bytes(32))}


def documents(values: dict[KeyRef, Any], time: float = FILE_TIME) -> dict[KeyRef, Document]:
    return {ref: Document(ref, value, time) for ref, value in values.items()}


def creds(next_pre_key: int = 31, identity: int = 1) -> dict[str, Any]:
    """Creds of a device that has made so many pre-keys."""
    return {
        "registrationId": 7,
        "signedIdentityKey": {
            "private": buffer(bytes(32)),
            "public": buffer(bytes([identity] * 32)),
        },
        "nextPreKeyId": next_pre_key,
        "firstUnuploadedPreKeyId": next_pre_key,
        "accountSyncCounter": 1,
    }


def session(*counters: int) -> dict[str, Any]:
    """A session whose chains received so many messages each."""
    chains = {
        b64encode(bytes([number])).decode(): {
            "chainKey": {"counter": counter, "key": "AA=="},
            "chainType": 2,
            "messageKeys": {},
        }
        for number, counter in enumerate(counters)
    }
    entry = {"_chains": chains, "indexInfo": {"closed": -1}}
    return {"_sessions": {"base": entry}, "version": "v1"}


def plan(
    files: dict[KeyRef, Any],
    rows: dict[KeyRef, Any],
    *,
    row_time: float = OLDER,
    spared: frozenset[KeyRef] = frozenset(),
) -> Plan:
    family = "baileys" if CREDS in rows else None
    company = Company("7", documents(rows, row_time), family, None)
    return plan_import(Source(documents(files), spared), company)


def test_what_the_database_does_not_have_is_added() -> None:
    found = plan({ONE: ["0"], TWO: ["1"]}, {ONE: ["0"]})
    assert [file.ref for file in found.added] == [TWO]
    assert found.unchanged == 1
    assert found.writes
    assert not found.needs_force


@pytest.mark.parametrize("row_time", [OLDER, NEWER])
def test_what_is_the_same_is_left_alone(row_time: float) -> None:
    found = plan({ONE: ["0"], CREDS: creds()}, {ONE: ["0"], CREDS: creds()}, row_time=row_time)
    assert found == Plan(unchanged=2)
    assert not found.writes


@pytest.mark.parametrize("row_time", [OLDER, FILE_TIME, NEWER])
def test_no_time_allows_to_replace_a_value_of_a_company_with_creds(row_time: float) -> None:
    found = plan({ONE: ["0"], CREDS: creds()}, {ONE: ["1"], CREDS: creds()}, row_time=row_time)
    assert [file.ref for file in found.replaced] == found.newer == [ONE]
    assert found.needs_force


def test_rows_of_an_import_that_broke_off_are_replaced_unless_they_are_newer() -> None:
    assert not plan({ONE: ["0"]}, {ONE: ["1"]}, row_time=OLDER).needs_force
    assert not plan({ONE: ["0"]}, {ONE: ["1"]}, row_time=FILE_TIME).needs_force
    assert plan({ONE: ["0"]}, {ONE: ["1"]}, row_time=NEWER).newer == [ONE]


def test_counters_do_not_go_back_even_in_an_import_that_broke_off() -> None:
    found = plan({SESSION: session(4)}, {SESSION: session(9)}, row_time=OLDER)
    assert found.newer == []
    assert found.going_back == [(SESSION, "5 messages back")]
    assert found.needs_force


def test_a_row_without_a_file_is_removed_only_by_force() -> None:
    found = plan({}, {ONE: ["1"]})
    assert found.removed == [ONE]
    assert found.needs_force
    assert not plan({}, {ONE: ["1"]}, spared=frozenset({ONE})).writes


def test_a_damaged_form_of_the_same_value_is_mended_without_force() -> None:
    ref = KeyRef("tctoken", "1@lid")
    file = {"token": {"type": "Buffer", "data": "AQID"}, "timestamp": "1"}
    row = {"token": {"type": "Buffer", "data": [1, 2, 3]}, "timestamp": "1"}
    found = plan({ref: file, CREDS: creds()}, {ref: row, CREDS: creds()}, row_time=NEWER)
    assert [file.ref for file in found.replaced] == [ref]
    assert not found.needs_force


def test_a_row_that_cannot_be_read_is_replaced_only_by_force() -> None:
    ref = KeyRef("pre-key", "1")
    found = plan({ref: PAIR, CREDS: creds()}, {ref: 7, CREDS: creds()})
    assert found.newer == [ref]


def test_a_used_pre_key_comes_back_only_by_force() -> None:
    used, unknown = KeyRef("pre-key", "30"), KeyRef("pre-key", "31")
    found = plan({used: PAIR, unknown: PAIR, CREDS: creds(31)}, {CREDS: creds(31)})
    assert [file.ref for file in found.added] == [used, unknown]
    assert found.returning == [used]
    assert found.needs_force
    assert found.losses() == (("pre-key 30", "used up or deleted"),)


def test_where_creds_do_not_count_any_pre_key_may_have_been_used() -> None:
    ref = KeyRef("pre-key", "5")
    assert plan({ref: PAIR}, {CREDS: "damaged"}, spared=frozenset({CREDS})).returning == [ref]
    odd = KeyRef("pre-key", "x")
    assert plan({odd: PAIR}, {CREDS: creds()}, spared=frozenset({CREDS})).returning == [odd]


def test_pre_keys_of_an_import_that_broke_off_are_added_like_any_other() -> None:
    assert not plan({KeyRef("pre-key", "5"): PAIR, CREDS: creds()}, {ONE: ["0"], TWO: ["0"]},
                    spared=frozenset({ONE, TWO})).needs_force  # fmt: skip


def test_creds_are_a_value_like_any_other() -> None:
    found = plan({CREDS: creds(32)}, {CREDS: creds(31)})
    assert found.newer == [CREDS]
    assert found.going_back == []


def test_another_device_is_told() -> None:
    found = plan({CREDS: creds(identity=1)}, {CREDS: creds(identity=2)})
    assert found.other_device


def test_the_refusal_says_what_would_be_lost() -> None:
    used = KeyRef("pre-key", "5")
    found = plan(
        {CREDS: creds(31), SESSION: session(4), used: PAIR},
        {CREDS: creds(61), SESSION: session(4, 2), TWO: ["0"]},
    )
    error = refusal(found, "7", otherwise="leave it")
    assert str(error) == (
        "company '7' is not overwritten: the database holds 2 other values, maybe newer ones "
        "(creds, session 15550100001.0), 1 that you do not bring (device-list 2); this would go "
        "back: creds: nextPreKeyId 61 to 31, firstUnuploadedPreKeyId 61 to 31, session "
        "15550100001.0: 1 ratchet turns back; 1 pre-keys would come back that were used up or "
        "deleted (pre-key 5). If what you bring is what counts, --force makes the database equal "
        "to it, after a backup; if the database is, leave it"
    )
    assert error.newer == ("creds", "session 15550100001.0")
    assert error.extra == ("device-list 2",)
    assert error.returning == ("pre-key 5",)
    assert dict(error.going_back) == {
        "creds": "nextPreKeyId 61 to 31, firstUnuploadedPreKeyId 61 to 31",
        "session 15550100001.0": "1 ratchet turns back",
    }


def test_batches_hold_a_hundred_rows_and_all_of_them_in_order() -> None:
    refs = [KeyRef("device-list", str(number)) for number in range(250)]
    found = list(batches(documents({ref: ["0"] for ref in refs}).values()))
    assert [len(batch) for batch in found] == [BATCH_ROWS, BATCH_ROWS, 50]
    assert [document.ref for batch in found for document in batch] == refs
    assert list(batches([])) == []


def test_batches_of_large_values_are_shorter() -> None:
    refs = [KeyRef("device-list", str(number)) for number in range(5)]
    found = list(batches(documents({ref: ["0" * 3_000_000] for ref in refs}).values()))
    assert [len(batch) for batch in found] == [1, 1, 1, 1, 1]


def test_a_change_keeps_creds_apart_from_keys_and_knows_their_times() -> None:
    change = Change.of(documents({ONE: ["0"], CREDS: {"a": 1}}).values(), [TWO])
    assert (change.keys, change.creds) == ({TWO: None, ONE: ["0"]}, {"a": 1})
    assert change.times == {ONE: FILE_TIME, CREDS: FILE_TIME}
    assert not Change()
