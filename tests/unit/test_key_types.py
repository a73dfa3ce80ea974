"""The key types have one home; every other list of them must agree with it."""

from __future__ import annotations

from supabase_auth_state.codec import shapes
from supabase_auth_state.files import names
from supabase_auth_state.store import owner_cache
from supabase_auth_state.types import KEY_TYPES
from tests import values

# What `whatsapp_key_may_expire` of the migrations lets expire.
MAY_EXPIRE = {"lid-mapping", "device-list", "tctoken", "sender-key-memory"}


def test_every_list_of_key_types_has_the_same() -> None:
    assert len(KEY_TYPES) == len(set(KEY_TYPES)) == 10
    assert set(shapes._ROWS) == set(KEY_TYPES)
    assert set(names._GRAMMAR) == set(KEY_TYPES)
    assert set(values.RECORDS) == set(KEY_TYPES)


def test_a_type_either_expires_or_is_remembered_for_good() -> None:
    assert set(KEY_TYPES) - MAY_EXPIRE == owner_cache._NEVER_EXPIRE


def test_the_types_with_bytes_are_those_that_have_fields_of_their_own() -> None:
    assert set(KEY_TYPES) - shapes.SHAPED_TYPES == {
        "session", "sender-key-memory", "lid-mapping", "device-list"
    }  # fmt: skip
