"""The targets of `make fuzz` hold for some hundred inputs, and a target can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz import targets
from fuzz.__main__ import _NAMES
from fuzz.targets import SECRET, TARGETS, Broken
from supabase_auth_state.rest.answers import Answer
from tests.values import BAILEYS

FILES = [path.read_bytes() for path in sorted(Path(BAILEYS, "v7-small").iterdir())]
INPUTS = (
    st.binary(max_size=200)
    | st.sampled_from(FILES)
    | st.text(st.characters(codec="utf-8"), max_size=60).map(str.encode)
)


def test_every_target_is_fuzzed() -> None:
    assert set(_NAMES) == TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=30)
@given(data=INPUTS)
@example(data=b"\x00w:1:nan\n")
@example(data=b"\x00w:1:inf\n")
@example(data=b"\x00w:1:-1\n")
@example(data=b"\x00w:1:1e99\n")
@example(
    data=b'\x0a\n{"code":"PT408","message":"whatsapp deadline: it is over; the time is 1.2.3"}'
)
@example(data=b'\x00["' + SECRET.encode() + b'"]')
@example(data=b"")
def test_a_target_holds_for_any_input(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_a_target_fails_when_a_clock_is_set_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answer, "late_at", float("inf"))
    with pytest.raises(Broken, match="clock"):
        targets.answer(b"\x00\n")


def test_a_target_fails_when_an_error_quotes_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "parse_document", _quoting)
    with pytest.raises(Broken, match="quotes"):
        targets.document(SECRET.encode())


def _quoting(data: bytes) -> None:
    raise targets.FolderError(data.decode())
