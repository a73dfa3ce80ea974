"""Which counters go back when a value is replaced."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supabase_auth_state.transfer.counters import going_back
from tests.companies import creds_of, documents, sample

SENDING, RECEIVING = 1, 2


def entry(chains: dict[str, tuple[int, int]], *, closed: int = -1) -> dict[str, Any]:
    """A session with chains of these types and counters."""
    return {
        "_chains": {
            key: {"chainKey": {"counter": counter}, "chainType": kind, "messageKeys": {}}
            for key, (kind, counter) in chains.items()
        },
        "indexInfo": {"closed": closed},
    }


def record(**entries: Any) -> dict[str, Any]:
    return {"_sessions": entries, "version": "v1"}


def sender_key(**iterations: int) -> bytes:
    states = [
        {"senderKeyId": int(key_id[1:]), "senderChainKey": {"iteration": iteration}}
        for key_id, iteration in iterations.items()
    ]
    return json.dumps(states).encode()


@pytest.mark.parametrize(
    "name",
    ["nextPreKeyId", "firstUnuploadedPreKeyId", "accountSyncCounter", "lastAccountSyncTimestamp"],
)
def test_counters_of_creds(name: str) -> None:
    assert going_back("creds", {name: 31}, {name: 61}) == f"{name} 61 to 31"
    assert going_back("creds", {name: 61}, {name: 31}) == ""
    assert going_back("creds", {}, {name: 31}) == going_back("creds", {name: 31}, {}) == ""


def test_the_number_of_the_signed_pre_key() -> None:
    old, new = ({"signedPreKey": {"keyId": number}} for number in (2, 1))
    assert going_back("creds", new, old) == "signedPreKey.keyId 2 to 1"


def test_messages_of_the_same_chain() -> None:
    old = record(base=entry({"a": (RECEIVING, 5), "b": (SENDING, 2)}))
    new = record(base=entry({"a": (RECEIVING, 3), "b": (SENDING, 1)}))
    assert going_back("session", new, old) == "3 messages back"
    assert going_back("session", old, new) == ""


def test_turns_of_the_ratchet() -> None:
    old = record(base=entry({"a": (RECEIVING, 0), "b": (RECEIVING, 0), "d": (SENDING, -1)}))
    new = record(base=entry({"a": (RECEIVING, 0), "c": (SENDING, 4)}))
    assert going_back("session", new, old) == "1 ratchet turns back"
    # The chain of what was sent before the turn is gone from the newer record, as it should be.
    assert going_back("session", old, new) == ""


def test_a_newer_open_session_would_be_gone() -> None:
    old = record(base=entry({}), other=entry({}))
    assert going_back("session", record(base=entry({})), old) == "1 open sessions gone"


def test_closed_sessions_go_one_day_by_themselves() -> None:
    old = record(base=entry({}), other=entry({}, closed=1_800_000_000_000))
    assert going_back("session", record(base=entry({})), old) == ""


def test_sender_keys_by_their_id() -> None:
    assert going_back("sender-key", sender_key(k7=3), sender_key(k7=5)) == "iteration 5 to 3"
    assert going_back("sender-key", sender_key(k7=5), sender_key(k7=3)) == ""
    assert going_back("sender-key", sender_key(k8=1), sender_key(k7=5)) == ""


def test_the_version_of_app_state() -> None:
    assert going_back("app-state-sync-version", {"version": 5}, {"version": 7}) == "version 7 to 5"


@pytest.mark.parametrize("key_type", ["pre-key", "lid-mapping", "device-list", "of-tomorrow"])
def test_other_values_have_no_counters(key_type: str) -> None:
    assert going_back(key_type, {"version": 1}, {"version": 2}) == ""


def test_nothing_goes_back_from_a_value_to_itself() -> None:
    company = sample("v7-337")
    assert going_back("creds", creds_of(company), creds_of(company)) == ""
    for (key_type, _), value in documents(company).items():
        assert going_back(key_type, value, value) == ""


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["_sessions", "_chains", "chainKey", "counter", "chainType", "indexInfo", "version"]
            ),
            inner,
            max_size=3,
        )
    ),
)


@given(
    key_type=st.sampled_from(["creds", "session", "sender-key", "app-state-sync-version"]),
    new=anything,
    old=anything,
)
def test_no_value_is_too_odd_to_be_compared(key_type: str, new: Any, old: Any) -> None:
    assert isinstance(going_back(key_type, new, old), str)
