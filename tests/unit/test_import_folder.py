from __future__ import annotations

from typing import Any

from supabase_auth_state.files.names import KeyRef
from supabase_auth_state.transfer.company import BATCH_ROWS, Company, batches
from supabase_auth_state.transfer.documents import CREDS, Document
from supabase_auth_state.transfer.import_folder import Plan, plan_import

FILE_TIME = 1_700_000_000.0
ONE, TWO = KeyRef("device-list", "1"), KeyRef("device-list", "2")


def documents(values: dict[KeyRef, Any], time: float = FILE_TIME) -> dict[KeyRef, Document]:
    return {ref: Document(ref, value, time) for ref, value in values.items()}


def plan(
    files: dict[KeyRef, Any],
    rows: dict[KeyRef, Any],
    *,
    row_time: float = FILE_TIME - 60,
    spared: frozenset[KeyRef] = frozenset(),
) -> Plan:
    company = Company("7", documents(rows, row_time), None)
    return plan_import(documents(files), company, spared=spared)


def test_what_the_database_does_not_have_is_added() -> None:
    found = plan({ONE: ["0"], TWO: ["1"]}, {ONE: ["0"]})
    assert [file.ref for file in found.added] == [TWO]
    assert found.unchanged == 1
    assert found.writes
    assert not found.needs_force


def test_what_is_the_same_is_left_alone() -> None:
    found = plan({ONE: ["0"]}, {ONE: ["0"]}, row_time=FILE_TIME + 60)
    assert found == Plan(unchanged=1)
    assert not found.writes


def test_an_older_row_is_replaced() -> None:
    found = plan({ONE: ["0"]}, {ONE: ["1"]})
    assert [file.ref for file in found.replaced] == [ONE]
    assert not found.needs_force


def test_a_newer_row_is_replaced_only_by_force() -> None:
    assert plan({ONE: ["0"]}, {ONE: ["1"]}, row_time=FILE_TIME + 60).newer == [ONE]
    assert plan({ONE: ["0"]}, {ONE: ["1"]}, row_time=FILE_TIME).needs_force


def test_a_row_without_a_file_is_removed_only_by_force() -> None:
    found = plan({}, {ONE: ["1"]})
    assert found.removed == [ONE]
    assert found.needs_force
    assert not plan({}, {ONE: ["1"]}, spared=frozenset({ONE})).writes


def test_a_newer_row_in_a_damaged_form_of_the_same_value_is_mended_without_force() -> None:
    ref = KeyRef("tctoken", "1@lid")
    file = {"token": {"type": "Buffer", "data": "AQID"}, "timestamp": "1"}
    row = {"token": {"type": "Buffer", "data": [1, 2, 3]}, "timestamp": "1"}
    found = plan({ref: file}, {ref: row}, row_time=FILE_TIME + 60)
    assert [file.ref for file in found.replaced] == [ref]
    assert not found.needs_force


def test_a_newer_row_that_cannot_be_read_is_replaced_only_by_force() -> None:
    ref = KeyRef("pre-key", "1")
    buffer = {"type": "Buffer", "data": "A" * 43 + "="}
    found = plan({ref: {"private": buffer, "public": buffer}}, {ref: 7}, row_time=FILE_TIME + 60)
    assert found.newer == [ref]


def test_batches_hold_a_hundred_rows_and_all_of_them_in_order() -> None:
    refs = [KeyRef("device-list", str(number)) for number in range(250)]
    found = list(batches(documents({ref: ["0"] for ref in refs}).values()))
    assert [len(batch.documents) for batch in found] == [BATCH_ROWS, BATCH_ROWS, 50]
    assert [document.ref for batch in found for document in batch.documents] == refs
    assert [text for batch in found for text in batch.texts] == [b'["0"]'] * 250
    assert list(batches([])) == []


def test_batches_of_large_values_are_shorter() -> None:
    refs = [KeyRef("device-list", str(number)) for number in range(5)]
    found = list(batches(documents({ref: ["0" * 3_000_000] for ref in refs}).values()))
    assert [len(batch.documents) for batch in found] == [1, 1, 1, 1, 1]


def test_creds_are_a_value_like_any_other() -> None:
    found = plan({CREDS: {"registrationId": 2}}, {CREDS: {"registrationId": 1}}, row_time=FILE_TIME)
    assert found.newer == [CREDS]
