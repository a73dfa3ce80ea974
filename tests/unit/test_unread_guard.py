from __future__ import annotations

from typing import Any

import pytest

from supabase_auth_state.store.unread_guard import drops_all_sessions


def record(*base_keys: str) -> dict[str, Any]:
    return {"_sessions": {key: {"registrationId": 1} for key in base_keys}, "version": "v1"}


@pytest.mark.parametrize(
    ("stored", "new"),
    [(record("a"), record("b")), (record("a", "b"), record("c", "d")), (record("a"), record())],
)
def test_a_record_that_shares_no_session_drops_all_sessions(stored: Any, new: Any) -> None:
    assert drops_all_sessions(stored, new)


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        (record("a"), record("a")),
        (record("a", "b"), record("b", "c")),
        (record(), record("a")),
        (b"protobuf", b"protobuf"),
        ({}, record("a")),
        (record("a"), {"not": "a record"}),
    ],
)
def test_an_update_and_what_cannot_be_compared_do_not(stored: Any, new: Any) -> None:
    assert not drops_all_sessions(stored, new)
