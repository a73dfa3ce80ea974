"""Sealed values: they open in their own row with their own key, and nowhere else."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from supabase_auth_state import CodecError, ConfigurationError, SealedValueError, Settings, codec
from supabase_auth_state.codec.sealing import CREDS_REF, SEALED, Sealing, is_sealed, sealed_with
from supabase_auth_state.config.encryption import PLAIN, parse_keys
from tests.sealing import K1, K2, OTHER_K1

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
refs = st.tuples(names.filter(bool), names)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)
SECRET = "MDEyMzQ1Njc4OWFiY2RlZg"
SESSION = {"_sessions": {"x": {"rootKey": SECRET}}, "version": "v1"}
REF = ("session", "15550100001.0")


def sealing(keys: str = K1, company_id: str = "962302") -> Sealing:
    return Sealing(company_id, parse_keys(keys))


def refuses(opening: Callable[[], Any], *, secrets: tuple[str, ...] = ()) -> SealedValueError:
    """See that it is refused, and that nothing in the chain of errors shows a secret."""
    with pytest.raises(SealedValueError) as caught:
        opening()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert not [secret for secret in secrets if secret in shown]
    return caught.value


@given(names.filter(bool), refs, values)
def test_what_is_sealed_comes_back_and_is_told_from_what_is_plain(
    company_id: str, ref: tuple[str, str], value: Any
) -> None:
    assume(not is_sealed(value))  # which no value of Baileys is, and no write lets pass
    seals = sealing(company_id=company_id)
    stored = seals.seal(ref, value)
    assert sealed_with(stored) == "k1"
    assert seals.open(ref, orjson.loads(orjson.dumps(stored))) == value


@given(refs, refs, names.filter(bool), names.filter(bool))
def test_a_row_that_was_moved_is_refused(
    ref: tuple[str, str], other: tuple[str, str], company_id: str, other_company: str
) -> None:
    assume(ref != other)
    stored = sealing(company_id=company_id).seal(ref, SESSION)
    refuses(lambda: sealing(company_id=company_id).open(other, stored), secrets=(SECRET,))
    if company_id != other_company:
        refuses(lambda: sealing(company_id=other_company).open(ref, stored), secrets=(SECRET,))
    creds = sealing(company_id=company_id).seal(CREDS_REF, SESSION)
    refuses(lambda: sealing(company_id=company_id).open(ref, creds), secrets=(SECRET,))


@given(st.data())
def test_a_bit_that_was_flipped_or_an_end_that_was_cut_off_is_refused(data: st.DataObject) -> None:
    stored = sealing().seal(REF, SESSION)
    box = bytearray(base64.b64decode(stored["box"]))
    if data.draw(st.booleans()):
        box[data.draw(st.integers(0, len(box) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del box[data.draw(st.integers(0, len(box) - 1)) :]
    changed = {**stored, "box": base64.b64encode(bytes(box)).decode()}
    refuses(lambda: sealing().open(REF, changed), secrets=(SECRET,))


@given(st.dictionaries(st.sampled_from(["v", "box", "device", SEALED]), values, min_size=1))
def test_an_envelope_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    stored = sealing().seal(REF, SESSION)
    assume({**stored, **change} != stored and change.get("device", "") != "")
    assume(change.get("device", 0) is not None or change.keys() != {"device"})
    refuses(lambda: sealing().open(REF, {**stored, **change}), secrets=(SECRET,))


def test_a_wrong_key_and_a_missing_key_are_told_apart() -> None:
    stored = sealing(K1).seal(REF, SESSION)
    secrets = (SECRET, K1.partition(":")[2], OTHER_K1.partition(":")[2])
    wrong = refuses(lambda: sealing(OTHER_K1).open(REF, stored), secrets=secrets)
    missing = refuses(lambda: sealing(K2).open(REF, stored), secrets=secrets)
    none = refuses(lambda: Sealing("962302").open(REF, stored), secrets=secrets)
    assert (wrong.missing, missing.missing, none.missing) == (False, True, True)
    assert missing.sealed_with == "k1"
    assert "k1" in str(missing)


def test_the_first_key_seals_and_all_open() -> None:
    old = sealing(K1).seal(REF, SESSION)
    both = sealing(f"{K2},{K1}")
    assert both.open(REF, old) == both.open(REF, both.seal(REF, SESSION)) == SESSION
    assert sealed_with(both.seal(REF, SESSION)) == "k2"
    only_reads = sealing(f"{PLAIN},{K1}")
    assert only_reads.seal(REF, SESSION) == SESSION
    assert only_reads.open(REF, old) == SESSION


def test_no_two_boxes_of_a_value_are_the_same() -> None:
    assert len({sealing().seal(REF, SESSION)["box"] for _ in range(100)}) == 100


def test_the_format_stays_as_it_is() -> None:
    """Sealed by examples/node with node:crypto; docs/encryption.md describes it."""
    stored = FROM_NODE
    assert sealing().open(REF, stored) == {"version": "v1"}


FROM_NODE = {
    "$sealed": "k1",
    "v": 1,
    "box": "9SFYpvZgmlEmvlgYk5evvJppuI73MsUeCRqhQAaSfXfPlqoyruoYezt0y9Sl8U5wMuG5Uvw0igQ=",
}


@pytest.mark.parametrize("key_type", ["session", "pre-key", "sender-key-memory", "mine"])
def test_the_codec_never_takes_a_sealed_value_for_a_value(key_type: str) -> None:
    stored = sealing().seal((key_type, "1"), SESSION)
    assert is_sealed(stored)
    refuses(lambda: codec.decode(stored, company_id="c", key_type=key_type, key_id="1"))
    refuses(lambda: codec.decode_own(stored, company_id="c", key_type=key_type, key_id="1"))
    refuses(lambda: codec.decode_creds(stored, company_id="c"))
    assert not codec.are_decoded([stored], key_type=key_type)


def test_a_plain_value_with_the_reserved_field_is_not_encoded() -> None:
    value = {SEALED: "k1", "anything": "else"}
    for key_type in ("session", "mine"):
        with pytest.raises(CodecError, match="only sealed values have"):
            codec.encode(value, company_id="c", key_type=key_type, key_id="1")
        with pytest.raises(CodecError, match="only sealed values have"):
            codec.encode_texts({(key_type, "1"): value}, company_id="c")
    inside = {"a": value}
    assert codec.encode(inside, company_id="c", key_type="mine", key_id="1") == inside


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k1",
        "k1:",
        "k1:AAAA",
        f"{K1},{OTHER_K1}",
        f"plain:{K1[3:]}",
        f"{K1},plain",
        "k 1:x",
        ",",
        7,
    ],
)
def test_what_is_no_list_of_keys_is_refused_without_showing_it(text: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_keys(text)
    assert K1[3:] not in str(caught.value)
    assert caught.value.__context__ is None


def test_settings_do_not_show_keys() -> None:
    env = {
        "SUPABASE_URL": "https://abc.supabase.co",
        "SUPABASE_SECRET_KEY": "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz",
        "SUPABASE_AUTH_STATE_KEYS": K1,
    }
    settings = Settings.from_env(env)
    assert settings.encryption == K1
    for shown in (repr(settings), repr(parse_keys(K1)), repr(sealing())):
        assert K1[3:] not in shown
        assert repr(bytes(range(32)))[2:-1] not in shown
