"""The doctor's rules, on rows in memory."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supabase_auth_state import codec
from supabase_auth_state.codec.creds import init_auth_creds
from supabase_auth_state.doctor.examination import examine
from supabase_auth_state.doctor.findings import CODES, DoctorReport, Finding, Findings
from supabase_auth_state.transfer.company import Company
from supabase_auth_state.types import KeyRef
from tests.companies import Documents, company, creds_of, documents, legacy, repaired, sample

DOCS = Path(__file__).parents[2] / "docs" / "doctor.md"

PN, LID = "15550101000", "200000000000100"
GROUP = "120363000000000010@g.us"
GONE = object()
PRE_KEY = KeyRef("pre-key", "3")


def found(findings: Findings, *codes: str) -> dict[tuple[str, str, str | None], bool]:
    """Give code, type and id of each finding (of these codes), and whether it can be repaired."""
    return {
        (finding.code, finding.key_type, finding.key_id): finding.repairable
        for finding in findings.in_order()
        if not codes or finding.code in codes
    }


def only(findings: Findings) -> Finding:
    """Give the one finding."""
    [finding] = findings.in_order()
    return finding


def about(findings: Findings, code: str) -> Finding:
    """Give the one finding of a code."""
    [finding] = [finding for finding in findings.in_order() if finding.code == code]
    return finding


def small(key_type: str, key_id: str) -> Any:
    """Give the document of v7-small under a key."""
    return documents(sample("v7-small"))[KeyRef(key_type, key_id)]


def with_keys(**changed: Documents) -> Company:
    """Give v7-small with some keys replaced, added, or ``GONE``."""
    rows = sample("v7-small")
    keys = documents(rows) | changed["keys"]
    return company({ref: doc for ref, doc in keys.items() if doc is not GONE}, creds_of(rows))


def with_creds(**changed: Any) -> Company:
    """Give v7-small with some fields of the creds replaced."""
    rows = sample("v7-small")
    return company(documents(rows), {**creds_of(rows), **changed})


def healed(rows: Company) -> Company:
    """Repair, and make sure that nothing is left that a second repair would change."""
    first = examine(rows)
    after = repaired(rows, first.change)
    second = examine(after)
    assert not second.change
    assert not any(finding.repairable for finding in second.in_order())
    assert {f for f in first.in_order() if not f.repairable} >= set(second.in_order())
    return after


# Whole companies.


@pytest.mark.parametrize("name", ["v7-small", "v7-337", "v6-small"])
def test_what_real_baileys_wrote_is_healthy(name: str) -> None:
    findings = examine(sample(name))
    assert findings.in_order() == ()
    assert not findings.change


FORMS = {
    1: {"buffer-int-array", "buffer-numeric-keys"},
    2: set(),
    3: {"buffer-numeric-keys"},
    4: {"json-text"},
    5: {"json-text", "buffer-int-array", "buffer-numeric-keys"},
    6: {"buffer-encoded-twice"},
    7: {"buffer-numeric-keys"},
    8: {"buffer-nested"},
    9: {"json-text"},
}


@pytest.mark.parametrize("number", FORMS)
def test_every_damaged_row_is_named_and_repaired_to_what_baileys_wrote(number: int) -> None:
    rows, right = legacy(number), sample("v7-small")
    findings = examine(rows)

    forms = [finding for finding in findings.in_order() if finding.code != "lid-reverse-missing"]
    damaged = {ref for ref, doc in documents(rows).items() if doc != documents(right)[ref]}
    assert {KeyRef(f.key_type, f.key_id) for f in forms if f.key_id is not None} == damaged
    assert {finding.code for finding in forms} == FORMS[number]
    assert ("creds" in {f.key_type for f in forms}) == (creds_of(rows) != creds_of(right))

    after = healed(rows)
    assert documents(after).items() <= documents(right).items()
    assert documents(rows).keys() <= documents(after).keys()
    assert creds_of(after) == creds_of(right)
    assert examine(after).in_order() == ()


def test_rows_under_mangled_names_get_their_own_names_back() -> None:
    rows = legacy(10)
    findings = examine(rows)
    assert found(findings, "wrong-name") == {("wrong-name", *ref): True for ref in documents(rows)}
    after = documents(healed(rows))
    assert after.items() <= documents(sample("v7-small")).items()
    assert len(after) == len(documents(rows))


def test_rows_beyond_repair_are_reported_and_left_alone() -> None:
    rows = legacy(11)
    findings = examine(rows)
    damaged = {
        (finding.key_type, finding.key_id)
        for finding in findings.in_order()
        if finding.code in {"unreadable", "not-whole"} and not finding.repairable
    }
    assert damaged == set(documents(rows))
    assert not findings.change


def test_nothing_that_is_said_holds_a_value() -> None:
    secrets = {text for number in range(1, 12) for text in long_texts(legacy(number))}
    assert len(secrets) > 500
    for number in range(1, 12):
        rows = legacy(number)
        findings = examine(rows)
        report = DoctorReport(rows.company_id, "baileys", len(rows.keys), findings.in_order())
        said = "\n".join([str(report), json.dumps(report.as_json()), repr(report), repr(rows)])
        said += repr(findings.change)
        for ref in documents(rows):
            said = said.replace(ref.key_id, "")
        assert [secret for secret in secrets if secret in said] == []


def long_texts(rows: Company) -> Iterator[str]:
    """Give everything secret in the rows: long strings, and runs of numbers."""
    creds = None if rows.creds is None else rows.creds.json
    text = json.dumps([*documents(rows).values(), creds])
    yield from re.findall(r"[A-Za-z0-9+/=]{16,}", text)
    yield from re.findall(r"(?:[0-9]+, ){4}", text)


def test_a_company_without_anything_is_reported() -> None:
    finding = only(examine(company({})))
    assert (finding.code, finding.key_type, finding.key_id) == ("creds-missing", "creds", None)
    assert finding.what == "missing, and so is every key"


# Forms.

PUBLIC = small("pre-key", "3")["public"]
PRIVATE = small("pre-key", "3")["private"]
BASE64 = PRIVATE["data"]
NUMBERS = list(b64decode(BASE64))
INDEXED = {str(index): number for index, number in enumerate(NUMBERS)}
TWICE = b64encode(BASE64.encode()).decode()


@pytest.mark.parametrize(
    ("private", "codes"),
    [
        (NUMBERS, {"buffer-int-array"}),
        ({"type": "Buffer", "data": NUMBERS}, {"buffer-int-array"}),
        (INDEXED, {"buffer-numeric-keys"}),
        ({"type": "Buffer", "data": INDEXED}, {"buffer-numeric-keys"}),
        ({"type": "Buffer", "data": PRIVATE}, {"buffer-nested"}),
        ({"type": "Buffer", "data": {"type": "Buffer", "data": NUMBERS}}, {"buffer-nested"}),
        ({"buffer": True, "data": BASE64}, {"buffer-legacy"}),
        ({"buffer": True, "value": NUMBERS}, {"buffer-legacy"}),
        ({"type": "Buffer", "value": BASE64}, {"buffer-legacy"}),
        (BASE64, {"buffer-bare-base64"}),
        ({"type": "Buffer", "data": TWICE}, {"buffer-encoded-twice"}),
        (list(BASE64.encode()), {"buffer-int-array", "buffer-encoded-twice"}),
        (TWICE, {"buffer-bare-base64", "buffer-encoded-twice"}),
    ],
    ids=lambda value: repr(sorted(value) if isinstance(value, set) else value),
)
def test_each_form_of_bytes_has_its_code(private: Any, codes: set[str]) -> None:
    rows = with_keys(keys={PRE_KEY: {"private": private, "public": PUBLIC}})
    assert found(examine(rows)) == {(code, *PRE_KEY): True for code in codes}
    assert documents(healed(rows))[PRE_KEY] == small(*PRE_KEY)


def test_bytes_where_baileys_keeps_base64_text_become_text_again() -> None:
    ref = KeyRef("app-state-sync-key", "++++////")
    right = small(*ref)
    rows = with_keys(keys={ref: {**right, "keyData": {"type": "Buffer", "data": right["keyData"]}}})
    assert found(examine(rows)) == {("buffer-for-text", *ref): True}
    assert documents(healed(rows))[ref] == right


def test_text_encoded_twice_is_told_from_bytes_encoded_twice() -> None:
    ref = KeyRef("app-state-sync-key", "++++////")
    right = small(*ref)
    twice = b64encode(right["keyData"].encode()).decode()
    rows = with_keys(keys={ref: {**right, "keyData": twice}})
    assert found(examine(rows)) == {("buffer-encoded-twice", *ref): True}
    assert documents(healed(rows))[ref] == right


def test_a_mapping_inside_a_json_string_stays_a_string_of_digits() -> None:
    ref = KeyRef("lid-mapping", PN)
    rows = with_keys(keys={ref: json.dumps(LID)})
    assert found(examine(rows)) == {("json-text", *ref): True}
    assert documents(healed(rows))[ref] == LID


TOKEN = KeyRef("tctoken", f"{LID}@lid")


def test_a_token_that_may_be_encoded_twice_is_left_alone_without_evidence() -> None:
    right = small(*TOKEN)
    token = {"type": "Buffer", "data": b64encode(right["token"]["data"].encode()).decode()}
    rows = with_keys(keys={TOKEN: {**right, "token": token}})
    assert found(examine(rows)) == {("unreadable", *TOKEN): False}
    healed(rows)


def test_a_token_encoded_twice_is_repaired_beside_rows_that_prove_such_a_writer() -> None:
    right = small(*TOKEN)
    token = {"type": "Buffer", "data": b64encode(right["token"]["data"].encode()).decode()}
    pre_key = {"private": {"type": "Buffer", "data": TWICE}, "public": PUBLIC}
    rows = with_keys(keys={TOKEN: {**right, "token": token}, PRE_KEY: pre_key})
    assert documents(healed(rows)) == documents(sample("v7-small"))


def test_a_token_of_other_bytes_stays_beside_rows_that_were_encoded_twice() -> None:
    pre_key = {"private": {"type": "Buffer", "data": TWICE}, "public": PUBLIC}
    rows = with_keys(keys={PRE_KEY: pre_key})
    assert documents(healed(rows)) == documents(sample("v7-small"))


@pytest.mark.parametrize(
    ("key_type", "stored", "code"),
    [
        ("session", {}, "not-whole"),
        ("session", "", "not-whole"),
        ("session", None, "unreadable"),
        ("session", "[object Object]", "unreadable"),
        ("session", {"type": "Buffer", "data": "CAE="}, "other-family"),
        ("identity-key", {"type": "Buffer", "data": "BQ=="}, "not-whole"),
        ("device-list", {"0": "0"}, "not-whole"),
        ("lid-mapping", 15550101000, "unreadable"),
        ("lid-mapping", "not digits", "not-whole"),
        ("sender-key", {"type": "Buffer", "data": "e30="}, "not-whole"),
        ("of-tomorrow", {"type": "Buffer", "data": [1]}, "unreadable"),
    ],
)
def test_what_cannot_be_used_is_reported(key_type: str, stored: Any, code: str) -> None:
    key_id = {"sender-key": f"{GROUP}::1::0", "session": "1.0", "identity-key": "1.0"}.get(
        key_type, "15550109999"
    )
    rows = with_keys(keys={KeyRef(key_type, key_id): stored})
    assert found(examine(rows)) == {(code, key_type, key_id): False}


@pytest.mark.parametrize("stored", [{"any": [1, "thing"]}, {"0": 1, "1": 2}, [1, 2], "text", 7])
def test_a_type_of_tomorrow_is_nobodys_business(stored: Any) -> None:
    assert (
        examine(with_keys(keys={KeyRef("of-tomorrow", "any/id: at all"): stored})).in_order() == ()
    )


def test_a_pre_key_whose_halves_do_not_belong_together_is_reported() -> None:
    rows = with_keys(
        keys={PRE_KEY: {"private": PRIVATE, "public": small("pre-key", "4")["public"]}}
    )
    assert found(examine(rows)) == {("key-pair", *PRE_KEY): False}


# Names.


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (("sender-key", f"{GROUP}--{LID}_1--0"), ("sender-key", f"{GROUP}::{LID}_1::0")),
        (("sender", f"key-{GROUP}::{LID}_1::0"), ("sender-key", f"{GROUP}::{LID}_1::0")),
        (("sender-key", f"memory-{GROUP}"), ("sender-key-memory", GROUP)),
        (("pre", "key-3"), ("pre-key", "3")),
        (("app", "state-sync-key-AAEC____4="), ("app-state-sync-key", "AAEC//4=")),
        (("app-state-sync-key", "AAEC____4="), ("app-state-sync-key", "AAEC//4=")),
        (
            ("app-state-sync", "version-critical_block"),
            ("app-state-sync-version", "critical_block"),
        ),
        (("lid", f"mapping-{LID}_reverse"), ("lid-mapping", f"{LID}_reverse")),
        (("device", f"list-{PN}"), ("device-list", PN)),
        (("identity", "key-200000000008019_1.11"), ("identity-key", "200000000008019_1.11")),
        (("tctoken", "/index"), ("tctoken", "__index")),
    ],
)
def test_a_row_under_a_wrong_name_gets_the_right_one(
    wrong: tuple[str, str], right: tuple[str, str]
) -> None:
    stored = small(*right)
    rows = with_keys(keys={KeyRef(*right): GONE, KeyRef(*wrong): stored})
    assert ("wrong-name", *wrong) in found(examine(rows), "wrong-name")
    assert documents(healed(rows)) == documents(sample("v7-small"))


def test_a_row_with_wrong_name_and_wrong_form_gets_both_right() -> None:
    stray = KeyRef("pre", "key-3")
    stored = {"private": NUMBERS, "public": PUBLIC}
    rows = with_keys(keys={PRE_KEY: GONE, stray: stored})
    assert documents(healed(rows)) == documents(sample("v7-small"))


@pytest.mark.parametrize("private", [PRIVATE, NUMBERS])
def test_a_row_under_a_wrong_name_goes_when_the_right_row_holds_the_same(private: Any) -> None:
    stray = KeyRef("pre", "key-3")
    rows = with_keys(keys={stray: {"private": private, "public": PUBLIC}})
    assert found(examine(rows)) == {("wrong-name", *stray): True}
    assert documents(healed(rows)) == documents(sample("v7-small"))


STRAY = KeyRef("pre", "key-3")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({STRAY: small("pre-key", "4")}, "there is a row of the right name with another value"),
        ({PRE_KEY: GONE, STRAY: []}, "its value does not belong there"),
        ({PRE_KEY: "[object Object]", STRAY: small("pre-key", "3")}, "beyond repair itself"),
    ],
)
def test_a_row_under_a_wrong_name_is_left_alone_when_in_doubt(keys: Documents, reason: str) -> None:
    rows = with_keys(keys=keys)
    finding = about(examine(rows), "wrong-name")
    assert not finding.repairable
    assert reason in finding.remedy
    assert documents(healed(rows)) == documents(rows)


def test_rows_that_claim_one_name_with_different_values_are_left_alone() -> None:
    ref = KeyRef("app-state-sync-key", "AAEC//4=")
    rows = with_keys(
        keys={
            ref: GONE,
            KeyRef("app-state-sync-key", "AAEC____4="): small(*ref),
            KeyRef("app", "state-sync-key-AAEC____4="): small("app-state-sync-key", "++++////"),
        }
    )
    assert list(found(examine(rows)).values()) == [False, False]
    assert documents(healed(rows)) == documents(rows)


@pytest.mark.parametrize(
    "ref",
    [
        ("sender-key", f"15550100001:1600000000@g.us::{LID}_1::0"),
        ("sender-key", f"any / text::{LID}_1::0"),
        ("sender-key", f"{GROUP}::x--1_1--0::{LID}_1::0"),
        ("pre-key", "seven"),
    ],
)
def test_an_odd_name_is_worth_knowing_and_no_more(ref: tuple[str, str]) -> None:
    stored = small("sender-key", f"{GROUP}::{LID}_1::0")
    rows = with_keys(keys={KeyRef(*ref): stored if ref[0] == "sender-key" else small(*PRE_KEY)})
    finding = only(examine(rows))
    assert (finding.code, finding.repairable, finding.damage) == ("unknown-name", False, False)


# Creds.


def test_creds_that_cannot_be_read_are_left_alone() -> None:
    rows = with_creds(noiseKey={"private": PRIVATE, "public": {"type": "Buffer", "data": [300]}})
    finding = only(examine(rows))
    assert (finding.code, finding.key_type, finding.repairable) == ("unreadable", "creds", False)


def test_creds_that_are_not_whole_are_left_alone() -> None:
    finding = only(examine(with_creds(signedIdentityKey=None)))
    assert (finding.code, finding.key_type, finding.repairable) == ("not-whole", "creds", False)


@pytest.mark.parametrize("name", ["noiseKey", "pairingEphemeralKeyPair"])
def test_a_pair_of_creds_that_does_not_belong_together_is_reported(name: str) -> None:
    finding = only(examine(with_creds(**{name: {"private": PRIVATE, "public": fresh_public()}})))
    assert (finding.code, finding.repairable) == ("key-pair", False)
    assert finding.what.startswith(name)


def fresh_public() -> Any:
    creds = codec.encode_creds(init_auth_creds(), company_id=None)
    return creds["noiseKey"]["public"]


def test_creds_that_fail_their_own_signature_are_reported() -> None:
    fresh = codec.encode_creds(init_auth_creds(), company_id=None)
    findings = examine(with_creds(signedPreKey=fresh["signedPreKey"]))
    assert found(findings) == {("creds-signature", "creds", None): False}


def test_creds_of_two_pairings_are_told_by_the_account() -> None:
    fresh = codec.encode_creds(init_auth_creds(), company_id=None)
    findings = examine(with_creds(**{n: fresh[n] for n in ("signedIdentityKey", "signedPreKey")}))
    assert [finding.code for finding in findings.in_order()] == ["account-signature"] * 2
    assert not findings.change


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("registrationId", 16384),
        ("registrationId", "206"),
        ("nextPreKeyId", 0),
        ("nextPreKeyId", 6.5),
        ("firstUnuploadedPreKeyId", 7),
        ("firstUnuploadedPreKeyId", None),
    ],
)
def test_numbers_that_cannot_be_right_are_reported(field: str, number: Any) -> None:
    finding = about(examine(with_creds(**{field: number})), "creds-number")
    assert finding.what.startswith(field)
    assert not finding.repairable


def test_an_adv_secret_that_is_no_base64_text_is_reported() -> None:
    assert about(examine(with_creds(advSecretKey="AAAA")), "adv-secret").repairable is False


def test_fresh_creds_are_healthy() -> None:
    rows = company({}, codec.encode_creds(init_auth_creds(), company_id=None))
    assert examine(rows).in_order() == ()


def test_a_missing_app_state_key_is_reported() -> None:
    rows = with_keys(keys={KeyRef("app-state-sync-key", "++++////"): GONE})
    assert found(examine(rows)) == {("app-state-key-missing", "creds", None): False}


# Pre-keys.


def test_creds_count_on_from_the_highest_pre_key() -> None:
    rows = with_creds(nextPreKeyId=4, firstUnuploadedPreKeyId=4)
    findings = examine(rows)
    assert found(findings) == {
        ("pre-key-unknown", "pre-key", key_id): True for key_id in ("4", "5")
    }
    assert creds_of(healed(rows)) == creds_of(sample("v7-small"))


def test_counting_on_and_a_better_form_of_creds_are_one_change() -> None:
    rows = with_creds(nextPreKeyId=4, firstUnuploadedPreKeyId=4)
    wrapped = company(documents(rows), json.dumps(creds_of(rows)))
    assert creds_of(healed(wrapped)) == creds_of(sample("v7-small"))


def test_a_damaged_pre_key_does_not_move_the_counters() -> None:
    rows = with_keys(keys={KeyRef("pre-key", "9008"): "[object Object]"})
    assert found(examine(rows)) == {("unreadable", "pre-key", "9008"): False}


def test_counters_never_leave_the_range_of_ids() -> None:
    rows = with_keys(keys={KeyRef("pre-key", "16777215"): small("pre-key", "3")})
    assert found(examine(rows)) == {("pre-key-unknown", "pre-key", "16777215"): False}


def test_a_missing_newest_pre_key_is_worth_knowing() -> None:
    finding = only(examine(with_keys(keys={KeyRef("pre-key", "5"): GONE})))
    assert (finding.code, finding.key_id) == ("pre-key-newest-missing", "5")
    assert not finding.damage


# Sender keys.

OWN = f"{GROUP}::900000000000001_1::7"


def test_a_memory_without_our_sender_key_is_reported() -> None:
    rows = with_keys(keys={KeyRef("sender-key", OWN): GONE})
    assert found(examine(rows)) == {("sender-key-missing", "sender-key-memory", GROUP): False}


@pytest.mark.parametrize(
    "keys",
    [
        {KeyRef("sender-key", OWN): GONE, KeyRef("sender-key-memory", GROUP): {}},
        {KeyRef("sender-key-memory", GROUP): GONE},
    ],
)
def test_our_sender_key_needs_no_memory_and_an_empty_memory_no_key(keys: Documents) -> None:
    assert examine(with_keys(keys=keys)).in_order() == ()


def test_our_sender_key_may_be_under_the_phone_number() -> None:
    by_number = KeyRef("sender-key", f"{GROUP}::15550100001::7")
    rows = with_keys(keys={KeyRef("sender-key", OWN): GONE, by_number: small("sender-key", OWN)})
    assert examine(rows).in_order() == ()


# LID mappings.


def mappings(**pairs: str) -> Company:
    """Give a company that holds mappings only: ``mappings(p1="2", r2="1")`` is 1 -> 2 and back."""
    keys = {
        KeyRef("lid-mapping", key[1:] + ("_reverse" if key[0] == "r" else "")): other
        for key, other in pairs.items()
    }
    return company(keys, codec.encode_creds(init_auth_creds(), company_id=None))


@pytest.mark.parametrize("kept", ["p", "r"])
def test_half_a_mapping_gets_its_other_half(kept: str) -> None:
    whole = mappings(p1="2", r2="1")
    half = mappings(p1="2") if kept == "p" else mappings(r2="1")
    code = "lid-reverse-missing" if kept == "p" else "lid-forward-missing"
    assert [(f.code, f.repairable) for f in examine(half).in_order()] == [(code, True)]
    assert documents(healed(half)) == documents(whole)


@pytest.mark.parametrize(
    "rows", [mappings(p1="2", p3="2"), mappings(r2="1", r4="1")], ids=["one LID", "one number"]
)
def test_half_a_mapping_that_two_claim_is_left_alone(rows: Company) -> None:
    assert [finding.repairable for finding in examine(rows).in_order()] == [False, False]
    assert documents(healed(rows)) == documents(rows)


def test_a_forward_row_is_not_added_beside_another_of_the_same_lid() -> None:
    findings = examine(mappings(r2="1", p3="2"))
    assert about(findings, "lid-forward-missing").repairable is False
    assert not findings.change


def test_half_a_mapping_whose_other_half_is_unreadable_is_left_alone() -> None:
    rows = mappings(p1="2")
    broken = company({**documents(rows), KeyRef("lid-mapping", "2_reverse"): 1}, creds_of(rows))
    assert found(examine(broken)) == {("unreadable", "lid-mapping", "2_reverse"): False}


def test_the_old_row_of_a_contact_that_changed_its_number_is_no_damage() -> None:
    finding = only(examine(mappings(p1="2", p3="2", r2="3")))
    assert (finding.code, finding.key_id, finding.damage) == ("lid-disagrees", "1", False)


def test_the_old_row_of_a_contact_that_changed_its_lid_is_no_damage() -> None:
    finding = only(examine(mappings(p1="4", r4="1", r2="1")))
    assert (finding.code, finding.key_id, finding.damage) == ("lid-disagrees", "2_reverse", False)


def test_rows_of_a_pair_that_contradict_each_other_are_left_alone() -> None:
    findings = examine(mappings(p1="2", r2="3", p3="4", r4="5"))
    assert found(findings) == {
        ("lid-disagrees", "lid-mapping", "1"): False,
        ("lid-disagrees", "lid-mapping", "2_reverse"): False,
        ("lid-disagrees", "lid-mapping", "3"): False,
        ("lid-forward-missing", "lid-mapping", "4_reverse"): False,
    }
    assert all(finding.damage for finding in findings.in_order())
    assert not findings.change


# Sessions.

SESSION = small("session", f"{LID}_1.0")
[ENTRY] = SESSION["_sessions"].values()
THEIRS = {"type": "Buffer", "data": ENTRY["indexInfo"]["remoteIdentityKey"]}
OTHERS = small("identity-key", "200000000008019_1.0")


def addresses(*, mapped: bool = True, **keys: Any) -> Company:
    """Give v7-small with sessions and identities of its mapped contact: ``s_pn``, ``i_lid``…"""
    places = {"pn": f"{PN}.0", "lid": f"{LID}_1.0", "hosted": f"{PN}_128.99"}
    places |= {"hostedlid": f"{LID}_129.99"}
    changed: Documents = {KeyRef("session", f"{LID}_1.0"): GONE}
    for name, stored in keys.items():
        kind, place = name.split("_")
        changed[KeyRef("session" if kind == "s" else "identity-key", places[place])] = stored
    if not mapped:
        changed |= {KeyRef("lid-mapping", key): GONE for key in (PN, f"{LID}_reverse")}
    return with_keys(keys=changed)


def closed(record: Any) -> Any:
    copy = json.loads(json.dumps(record))
    for entry in copy["_sessions"].values():
        entry["indexInfo"]["closed"] = 1763700000000
    return copy


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"s_pn": SESSION}, {"s_lid": SESSION}),
        ({"s_pn": json.dumps(SESSION)}, {"s_lid": SESSION}),
        ({"s_hosted": SESSION}, {"s_hostedlid": SESSION}),
        ({"s_pn": SESSION, "i_pn": THEIRS}, {"s_lid": SESSION, "i_lid": THEIRS}),
        ({"s_pn": SESSION, "i_lid": THEIRS}, {"s_lid": SESSION, "i_lid": THEIRS}),
        (
            {"s_pn": SESSION, "i_pn": THEIRS, "i_lid": THEIRS},
            {"s_lid": SESSION, "i_pn": THEIRS, "i_lid": THEIRS},
        ),
    ],
    ids=["alone", "in JSON text", "hosted", "with identity", "identity known", "both identities"],
)
def test_a_session_at_a_mapped_phone_number_moves_to_the_lid(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    rows = addresses(**before)
    assert about(examine(rows), "session-at-phone-number").repairable
    assert documents(healed(rows)) == documents(addresses(**after))


def test_a_session_moves_along_a_mapping_that_is_completed() -> None:
    whole = addresses(s_pn=SESSION)
    half = documents(whole)
    del half[KeyRef("lid-mapping", f"{LID}_reverse")]
    assert documents(healed(company(half, creds_of(whole)))) == documents(addresses(s_lid=SESSION))


@pytest.mark.parametrize(
    ("keys", "reason", "damage"),
    [
        ({"s_pn": SESSION, "s_lid": SESSION}, "the LID has a session too", False),
        ({"s_pn": SESSION, "s_lid": "[object Object]"}, "the LID has a session too", False),
        ({"s_pn": closed(SESSION)}, "it is closed", False),
        ({"s_pn": {"_sessions": {}, "version": "v1"}}, "it is closed", False),
        ({"s_pn": {"_sessions": [1], "version": "v1"}}, "it is closed", False),
        ({"s_pn": SESSION, "i_lid": OTHERS}, "identity key has changed", True),
        ({"s_pn": SESSION, "i_pn": OTHERS}, "identity key has changed", True),
        ({"s_pn": SESSION, "i_lid": "[object Object]"}, "identity key has changed", True),
    ],
)
def test_a_session_stays_where_moving_it_would_be_a_guess(
    keys: dict[str, Any], reason: str, damage: bool
) -> None:
    rows = addresses(**keys)
    finding = about(examine(rows), "session-at-phone-number")
    assert not finding.repairable
    assert reason in finding.remedy
    assert finding.damage == damage
    assert documents(healed(rows)) == documents(rows)


def test_a_session_of_two_identities_stays_where_it_is() -> None:
    second = json.loads(json.dumps(ENTRY))
    second["indexInfo"]["remoteIdentityKey"] = OTHERS["data"]
    rows = addresses(s_pn={**SESSION, "_sessions": {**SESSION["_sessions"], "second": second}})
    finding = about(examine(rows), "session-at-phone-number")
    assert (finding.repairable, finding.damage) == (False, True)
    assert "more than one identity key" in finding.remedy


def test_a_session_stays_where_the_mapping_is_in_doubt() -> None:
    rows = addresses(s_pn=SESSION)
    keys = {**documents(rows), KeyRef("lid-mapping", f"{LID}_reverse"): "15550109999"}
    keys[KeyRef("lid-mapping", "15550109999")] = LID
    finding = about(examine(company(keys, creds_of(rows))), "session-at-phone-number")
    assert not finding.repairable


def test_a_session_at_a_phone_number_without_a_lid_is_where_it_belongs() -> None:
    assert examine(addresses(mapped=False, s_pn=SESSION)).in_order() == ()


# Client families.


def test_sessions_of_another_client_are_reported() -> None:
    session = KeyRef("session", f"{LID}_1.0")
    rows = with_keys(keys={session: {"type": "Buffer", "data": "CAE="}})
    assert found(examine(rows)) == {("other-family", *session): False}


def test_rows_of_another_family_are_only_asked_whether_they_can_be_read() -> None:
    keys = {
        KeyRef("session", "1.0"): {"type": "Buffer", "data": "CAE="},
        KeyRef("session", "2.0"): SESSION,
        KeyRef("sender-key", "any--name--0"): {"type": "Buffer", "data": [1]},
        KeyRef("pre-key", "9001"): {"0": 1},
    }
    findings = examine(company(keys, {"nextPreKeyId": 1}, family="pyaileys"))
    assert found(findings) == {
        ("other-family", "session", "2.0"): False,
        ("unreadable", "sender-key", "any--name--0"): False,
    }
    assert not findings.change


# The report.


def test_names_inside_a_value_cannot_speak_to_the_terminal() -> None:
    broken = {"\x1b[2J": {"type": "Buffer", "data": [1]}}
    rows = with_keys(keys={KeyRef("of-tomorrow", "\x1b[2J"): broken})
    findings = examine(rows)
    assert "\x1b" not in str(DoctorReport("962302", "baileys", 28, findings.in_order()))
    assert "cannot be read" in only(findings).what


def test_a_report_names_a_few_rows_of_each_kind_and_counts_the_others() -> None:
    keys = {
        KeyRef("pre-key", str(number)): {"private": NUMBERS, "public": PUBLIC}
        for number in range(11, 20)
    }
    creds = creds_of(with_creds(nextPreKeyId=20, firstUnuploadedPreKeyId=20))
    rows = company(documents(sample("v7-small")) | keys, creds)
    text = str(DoctorReport("962302", "baileys", 36, examine(rows).in_order()))
    assert text.splitlines()[:2] == [
        "company '962302' (baileys, 36 keys): damaged",
        "can be repaired: 9",
    ]
    assert "pre-key '11': bytes as an array of numbers (1 field)" in text
    assert text.endswith("… and 4 more")


def test_a_report_is_damaged_only_by_damage() -> None:
    note = DoctorReport(
        "1", "baileys", 3, examine(with_keys(keys={KeyRef("pre-key", "5"): GONE})).in_order()
    )
    assert not note.damaged
    assert "healthy, with something worth knowing" in str(note)
    assert DoctorReport("1", "baileys", 3, examine(company({})).in_order()).damaged


def test_a_report_is_json() -> None:
    findings = examine(legacy(11))
    report = DoctorReport(
        "1", None, 12, findings.in_order(), backup=Path("backup.tar.gz"), in_use_by="host/1"
    )
    told = json.loads(json.dumps(report.as_json()))
    assert told["backup"] == "backup.tar.gz"
    assert told["in_use_by"] == "host/1"
    assert {finding["code"] for finding in told["findings"]} <= set(CODES)
    assert told["findings"][0].keys() == {
        "code", "key_type", "key_id", "what", "repairable", "remedy", "damage",
    }  # fmt: skip


def test_the_documented_report_is_the_real_one() -> None:
    rows = legacy(1)
    report = DoctorReport("962302", "baileys", len(rows.keys), examine(rows).in_order())
    assert f"```\n{report}\n```" in DOCS.read_text()


def test_every_code_is_explained() -> None:
    section = DOCS.read_text().split("## What it finds")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` ", section, flags=re.MULTILINE) == list(CODES)


# Anything that may happen to rows.

KEYS = sorted(documents(sample("v7-small")))
DAMAGES = ("text", "arrays", "lost", "gone")


def damaged_by(kind: str, stored: Any) -> Any:
    if kind == "text":
        return json.dumps(stored)
    if kind == "arrays":
        return json.loads(json.dumps(stored), object_hook=_with_array)
    return "[object Object]"


def _with_array(value: dict[str, Any]) -> Any:
    if value.get("type") != "Buffer":
        return value
    return {"type": "Buffer", "data": list(b64decode(value["data"]))}


@given(
    damage=st.dictionaries(
        st.sampled_from(KEYS), st.sampled_from(["text", "arrays", "lost", "gone"])
    ),
    counter=st.integers(1, 9),
)
def test_a_repair_leaves_nothing_to_repair_and_no_other_value(
    damage: dict[KeyRef, str], counter: int
) -> None:
    right = documents(sample("v7-small"))
    keys = {
        ref: damaged_by(damage[ref], stored) if ref in damage else stored
        for ref, stored in right.items()
        if damage.get(ref) != "gone"
    }
    creds = creds_of(with_creds(nextPreKeyId=counter, firstUnuploadedPreKeyId=counter))
    after = documents(healed(company(keys, creds)))
    lost = {ref for ref, kind in damage.items() if kind == "lost"}
    assert all(after[ref] == right[ref] for ref in after if ref not in lost)
    assert all(after[ref] == keys[ref] for ref in lost)
