"""A display name that no database can hold must not stop creds; everything else must."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state.codec import decode_creds, encode_creds, with_storable_names
from supabase_auth_state.codec.display_names import FIELDS
from supabase_auth_state.errors import CodecError
from supabase_auth_state.files.folder import read_folder
from supabase_auth_state.files.multi_file import use_multi_file_auth_state
from tests.values import BAILEYS

ME = {"id": "15550100001:7@s.whatsapp.net", "lid": "200000000000100:7@lid"}
BAD = [("A\ud83d", "A\ufffd"), ("\udc00\ud800", "\ufffd\ufffd"), ("a\0b", "a\ufffdb")]


def creds(**me: Any) -> dict[str, Any]:
    stored = json.loads((BAILEYS / "v7-small" / "creds.json").read_text())
    return {**decode_creds(stored, company_id="c"), "me": {**ME, **me}}


@pytest.mark.parametrize("family", ["baileys", "pyaileys"])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("name", "stored"), BAD)
def test_a_bad_display_name_is_stored_with_the_replacement_character(
    family: str, field: str, name: str, stored: str
) -> None:
    value = creds(**{field: name})
    before = copy.deepcopy(value)
    encoded = encode_creds(value, company_id="c", family=family)
    assert encoded["me"] == {**ME, field: stored}
    assert value == before  # the client keeps its own name
    assert {name: encoded[name] for name in encoded if name != "me"} == {
        name: child
        for name, child in encode_creds(creds(), company_id="c", family=family).items()
        if name != "me"
    }


@pytest.mark.parametrize("name", ["Ada", "Ä🦊", "\ufffd", ""])
def test_any_other_name_is_stored_as_it_is(name: str) -> None:
    value = creds(name=name)
    assert with_storable_names(value, "x") is value
    assert encode_creds(value, company_id="c")["me"]["name"] == name


@pytest.mark.parametrize("bad", ["A\ud83d", "a\0b"])
@pytest.mark.parametrize(
    "place",
    [
        lambda bad: {"me": {**ME, "id": bad}},
        lambda bad: {"me": {**ME, "lid": bad}},
        lambda bad: {"me": {**ME, "status": bad}},
        lambda bad: {"me": {**ME, "more": {"name": bad}}},
        lambda bad: {"me": {**ME, bad: "x"}},
        lambda bad: {"me": bad},
        lambda bad: {"name": bad},
        lambda bad: {"platform": bad},
        lambda bad: {"additionalData": {"me": {"name": bad}}},
        lambda bad: {"processedHistoryMessages": [{"key": {"id": bad}}]},
    ],
)
def test_such_a_character_is_refused_in_any_other_place(place: Any, bad: str) -> None:
    with pytest.raises(CodecError):
        encode_creds({**creds(), **place(bad)}, company_id="c")


@pytest.mark.parametrize("value", [None, 1, [], {}, {"me": None}, {"me": []}, {"me": {"name": 1}}])
def test_what_has_no_display_name_is_left_alone(value: Any) -> None:
    assert with_storable_names(value, "x") is value


def test_it_is_said_once_for_a_company_and_without_the_name(
    fresh_log: pytest.LogCaptureFixture,
) -> None:
    for _ in range(3):
        encode_creds(creds(name="secret\ud83d"), company_id="said once")
    encode_creds(creds(name="secret\ud83d"), company_id="said too")
    said = [record.getMessage() for record in fresh_log.records]
    assert [record.levelno for record in fresh_log.records] == [logging.WARNING] * 2
    assert "company 'said once'" in said[0]
    assert "company 'said too'" in said[1]
    assert "secret" not in fresh_log.text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An auth folder of an account with half an emoji in its name, as Node writes it."""
    folder = Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "auth"))
    stored = json.loads((folder / "creds.json").read_text())
    stored["me"]["name"] = "A\ud83d"
    (folder / "creds.json").write_text(json.dumps(stored, separators=(",", ":")))
    assert "\\ud83d" in (folder / "creds.json").read_text()
    return folder


def test_a_folder_with_such_a_name_is_read(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    contents = read_folder(folder)
    assert contents.problems == []
    assert contents.creds is not None
    assert contents.creds["me"]["name"] == contents.creds_document["me"]["name"] == "A\ufffd"
    assert str(folder) in caplog.text


async def test_a_folder_with_such_a_name_is_opened_and_saved(folder: Path) -> None:
    auth = await use_multi_file_auth_state(folder)
    auth.creds["nextPreKeyId"] += 5
    await auth.save_creds()
    saved = (await use_multi_file_auth_state(folder)).creds
    assert saved["me"]["name"] == "A\ufffd"
    assert saved["nextPreKeyId"] == auth.creds["nextPreKeyId"]
