from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supabase_auth_state.files import names as filenames
from supabase_auth_state.files.names import colliding, file_name, parse_file_name
from supabase_auth_state.types import KeyRef
from tests.values import BAILEYS

NAMES = [
    ("pre-key", "1", "pre-key-1.json"),
    ("pre-key", "16777215", "pre-key-16777215.json"),
    ("session", "15550100001.0", "session-15550100001.0.json"),
    ("session", "299999999999999_129.99", "session-299999999999999_129.99.json"),
    ("identity-key", "200000000000100_1.0", "identity-key-200000000000100_1.0.json"),
    (
        "sender-key",
        "120363000000000010@g.us::15550101000::0",
        "sender-key-120363000000000010@g.us--15550101000--0.json",
    ),
    (
        "sender-key",
        "15550100001-1600000000@g.us::200000000000100_1::12",
        "sender-key-15550100001-1600000000@g.us--200000000000100_1--12.json",
    ),
    (
        "sender-key",
        "status@broadcast::15550101000::0",
        "sender-key-status@broadcast--15550101000--0.json",
    ),
    (
        "sender-key-memory",
        "15550100001-1600000000@g.us",
        "sender-key-memory-15550100001-1600000000@g.us.json",
    ),
    ("app-state-sync-key", "AAAAAJxP", "app-state-sync-key-AAAAAJxP.json"),
    ("app-state-sync-key", "++++////", "app-state-sync-key-++++________.json"),
    ("app-state-sync-key", "AAEC//4=", "app-state-sync-key-AAEC____4=.json"),
    (
        "app-state-sync-version",
        "critical_unblock_low",
        "app-state-sync-version-critical_unblock_low.json",
    ),
    ("lid-mapping", "15550100001", "lid-mapping-15550100001.json"),
    ("lid-mapping", "200000000000100_reverse", "lid-mapping-200000000000100_reverse.json"),
    ("device-list", "15550100001", "device-list-15550100001.json"),
    ("tctoken", "__index", "tctoken-__index.json"),
    ("tctoken", "15550100001@s.whatsapp.net", "tctoken-15550100001@s.whatsapp.net.json"),
    ("tctoken", "200000000000100:12@lid", "tctoken-200000000000100-12@lid.json"),
]


@pytest.mark.parametrize(("key_type", "key_id", "name"), NAMES)
def test_names_are_those_of_baileys_and_lead_back(key_type: str, key_id: str, name: str) -> None:
    assert file_name(key_type, key_id) == name
    assert parse_file_name(name) == KeyRef(key_type, key_id)


@pytest.mark.parametrize(
    "name",
    [
        "creds.json",
        "pre-key-1.json\n",
        "pre-key-.json",
        "pre-key-1",
        "pre-key-1.json.tmp",
        "pre-key-\u0661.json",
        "pre-key--1.json",
        "Pre-key-1.json",
        "session-15550100001.json",
        "session-15550100001.0.0.json",
        "sender-key-120363000000000010@g.us.json",
        "sender-key-evil--group@g.us--15550101000--0.json",
        "sender-key-120363000000000010@g.us--15550101000--0--0.json",
        "sender-key-memory-120363000000000010@g.us--1--0.json",
        "app-state-sync-key-AAA_.json",
        "app-state-sync-key-AAAA===.json",
        "app-state-sync-version-Regular.json",
        "lid-mapping-15550100001_reverse_reverse.json",
        "tctoken-__index__.json",
        "of-tomorrow-1.json",
        "package.json",
        "",
    ],
)
def test_a_name_that_is_not_certain_is_no_key(name: str) -> None:
    assert parse_file_name(name) is None


def test_every_file_of_the_sample_folders_leads_to_a_key_and_back() -> None:
    files = [p.name for p in BAILEYS.glob("v*/*.json") if p.name != "creds.json"]
    assert len(files) == 27 + 335 + 29
    refs = [parse_file_name(name) for name in files]
    assert [file_name(*ref) for ref in refs if ref] == files


users = st.from_regex(r"[0-9]{1,15}(_[0-9]{1,3})?", fullmatch=True)
groups = st.from_regex(
    r"[0-9]{1,18}(-[0-9]{1,10})?@g\.us|(status|[0-9]{1,9})@broadcast", fullmatch=True
)
devices = st.integers(0, 99).map(str)
addresses = st.builds("{}.{}".format, users, devices)
REFS = st.one_of(
    st.builds(KeyRef, st.just("pre-key"), st.integers(1, 16777215).map(str)),
    st.builds(KeyRef, st.sampled_from(["session", "identity-key"]), addresses),
    st.builds(
        KeyRef, st.just("sender-key"), st.builds("{}::{}::{}".format, groups, users, devices)
    ),
    st.builds(KeyRef, st.just("sender-key-memory"), groups),
    st.builds(
        KeyRef,
        st.just("app-state-sync-key"),
        st.binary(min_size=1, max_size=20).map(lambda data: base64.b64encode(data).decode()),
    ),
)


@given(REFS)
def test_every_id_that_baileys_makes_leads_back(ref: KeyRef) -> None:
    assert parse_file_name(file_name(*ref)) == ref


@given(st.text(alphabet="-_:/.@=+09aZsender-keytctoken", max_size=40))
def test_a_parsed_name_is_always_the_name_of_its_key(rest: str) -> None:
    for name in (f"{rest}.json", f"tctoken-{rest}.json", f"app-state-sync-key-{rest}.json"):
        ref = parse_file_name(name)
        assert ref is None or file_name(*ref) == name


@pytest.mark.parametrize(
    ("name", "pattern", "invert"),
    [
        pytest.param("pre-key-1.json", r"pre-key-([0-9]+)\.json", str, id="two types fit"),
        pytest.param("more-a.json", r"more-([a-z])\.json", str.upper, id="the way back differs"),
    ],
)
def test_a_name_is_left_when_a_grammar_fits_but_nothing_is_certain(
    monkeypatch: pytest.MonkeyPatch, name: str, pattern: str, invert: Callable[[str], str]
) -> None:
    known = filenames._PATTERNS.get(name[:2], [])
    more = [*known, ("more", re.compile(pattern), invert)]
    monkeypatch.setitem(filenames._PATTERNS, name[:2], more)
    assert parse_file_name(name) is None
    assert parse_file_name("device-list-1.json") == KeyRef("device-list", "1")


def test_colliding_names_all_who_share_a_file() -> None:
    index, alias = KeyRef("tctoken", "__index"), KeyRef("tctoken", "/index")
    other = KeyRef("tctoken", "1@lid")
    assert colliding([index, other, alias, index]) == {"tctoken-__index.json": [index, alias]}
    assert colliding([index, other]) == {}
