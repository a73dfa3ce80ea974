"""The single JSON file of Baileys' useSingleFileAuthState, read like a folder."""

from __future__ import annotations

import base64
import json
import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state.errors import FolderError
from supabase_auth_state.files.folder import FolderContents, read_folder
from supabase_auth_state.files.single_file import GROUPS as READ_GROUPS
from supabase_auth_state.files.single_file import read_single_file
from supabase_auth_state.files.source import read_source
from supabase_auth_state.types import KEY_TYPES, KeyRef
from tests.single_file import GROUPS, single_file, write_single_file
from tests.values import BAILEYS, array, indexed

FOLDER = BAILEYS / "v6-small"
SECRET = "c2VjcmV0IHNlY3JldA=="


@pytest.fixture
def content() -> dict[str, Any]:
    """The content of such a file."""
    return single_file(FOLDER)


def read(tmp_path: Path, content: Any) -> FolderContents:
    return read_single_file(write_single_file(tmp_path / "auth.json", content))


def documents(contents: FolderContents) -> dict[KeyRef, Any]:
    return {key.ref: key.document for key in contents.keys}


def test_it_gives_what_the_folder_gives_value_by_value(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    folder = read_folder(FOLDER)
    found = read(tmp_path, content)
    assert found.problems == []
    assert documents(found) == documents(folder)
    # Also byte for byte, inside the sender-keys too.
    assert {key.ref: key.value for key in found.keys} == {k.ref: k.value for k in folder.keys}
    assert (found.creds, found.creds_document) == (folder.creds, folder.creds_document)


def test_copies_of_the_function_that_use_the_types_as_groups_are_read(tmp_path: Path) -> None:
    groups = {key_type: key_type for key_type in KEY_TYPES}
    found = read(tmp_path, single_file(BAILEYS / "v7-337", groups))
    assert found.problems == []
    assert documents(found) == documents(read_folder(BAILEYS / "v7-337"))


def test_every_group_of_baileys_5_is_a_key_type() -> None:
    assert {name: READ_GROUPS[name] for name in GROUPS.values()} == {
        name: key_type for key_type, name in GROUPS.items()
    }
    assert set(READ_GROUPS.values()) == set(KEY_TYPES)


@pytest.mark.parametrize("form", [array, indexed])
def test_bytes_are_read_in_the_forms_of_writers_without_a_replacer(
    tmp_path: Path, content: dict[str, Any], form: Any
) -> None:
    def again(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("type") == "Buffer":
                return form(base64.b64decode(value["data"]))
            return {name: again(child) for name, child in value.items()}
        return [again(child) for child in value] if isinstance(value, list) else value

    found = read(tmp_path, again(content))
    assert found.problems == []
    assert documents(found) == documents(read_folder(FOLDER))
    assert found.creds == read_folder(FOLDER).creds


def test_every_key_has_the_time_of_the_file(tmp_path: Path, content: dict[str, Any]) -> None:
    file = write_single_file(tmp_path / "auth.json", content)
    os.utime(file, ns=(0, 1700000000_250000000))
    found = read_single_file(file)
    assert {key.mtime for key in found.keys} == {1700000000.25}
    assert found.creds_mtime == 1700000000.25
    assert found.raw == {"auth.json": file.read_bytes()}
    assert list(found.snapshot.entries) == ["auth.json"]


def test_deleted_keys_are_no_keys(tmp_path: Path, content: dict[str, Any]) -> None:
    content["keys"]["preKeys"]["1"] = None
    found = read(tmp_path, content)
    assert KeyRef("pre-key", "1") not in documents(found)
    assert found.problems == []


@pytest.mark.parametrize(
    ("group", "key_id", "value", "place"),
    [
        ("preKeys", "3", {"private": "AQ=="}, "keys.preKeys.3"),
        ("preKeys", "x", {}, "keys.preKeys.x"),
        ("sessions", "15550100001", {"_sessions": {}}, "keys.sessions.15550100001"),
        ("sessions", "1.0", {"version": "v1"}, "keys.sessions.1.0"),
        ("senderKeys", "1@g.us::1::0", [{"senderKeyId": 1}], "keys.senderKeys.1@g.us::1::0"),
        ("senderKeys", "1@g.us::1::0", [1], "keys.senderKeys.1@g.us::1::0"),
        ("senderKeys", "1@g.us::1::0", {"0": 300}, "keys.senderKeys.1@g.us::1::0"),
        ("undefined", "1", True, "keys.undefined"),
        ("ofTomorrow", "1", {}, "keys.ofTomorrow"),
    ],
)
def test_what_is_not_whole_is_a_problem_with_its_place(
    tmp_path: Path, content: dict[str, Any], group: str, key_id: str, value: Any, place: str
) -> None:
    content["keys"].setdefault(group, {})[key_id] = value
    found = read(tmp_path, content)
    assert [name for name, _ in found.problems] == [place]
    assert len(found.keys) >= len(read_folder(FOLDER).keys) - 1


def test_a_sender_key_with_half_a_character_is_a_problem_with_its_place(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    key_id, states = next(
        (i, each) for i, each in content["keys"]["senderKeys"].items() if type(each) is list
    )
    states[0]["senderKeyId"] = "\ud800"
    found = read(tmp_path, content)
    assert found.problems == [
        (f"keys.senderKeys.{key_id}", "contains half a surrogate pair, which is not text")
    ]


def test_keys_that_cannot_be_read_are_known_as_broken(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    content["keys"]["preKeys"]["3"] = {}
    assert read(tmp_path, content).broken == [KeyRef("pre-key", "3")]


def test_creds_that_are_not_whole_are_a_problem(tmp_path: Path, content: dict[str, Any]) -> None:
    del content["creds"]["noiseKey"]
    found = read(tmp_path, content)
    assert found.creds is None
    assert found.problems == [("creds.json", "noiseKey: is missing")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ('{"creds":{', "is not JSON"),
        ("[]", 'has no "creds"'),
        ('{"keys":{}}', 'has no "creds"'),
        ('{"creds":{}}', 'has no "keys"'),
        ('{"creds":{},"keys":[]}', 'has no "keys"'),
        ('{"creds":{},"keys":{},"pre-key1":{}}', "pre-key1: is not understood"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "auth.json"
    file.write_text(content)
    with pytest.raises(FolderError, match=reason):
        read_single_file(file)


def test_a_group_that_is_no_object_is_a_problem(tmp_path: Path, content: dict[str, Any]) -> None:
    content["keys"]["preKeys"] = [1]
    assert read(tmp_path, content).problems == [("keys.preKeys", "is not an object of keys by id")]


def test_it_is_what_read_source_reads_and_read_folder_refuses(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    file = write_single_file(tmp_path / "auth.json", content)
    assert documents(read_source(file)) == documents(read_folder(FOLDER))
    with pytest.raises(FolderError, match="is a file"):
        read_folder(file)


def test_nothing_of_the_file_is_in_an_error(tmp_path: Path, content: dict[str, Any]) -> None:
    file = tmp_path / "auth.json"
    for text in (f'{{"creds":"{SECRET}', json.dumps({"creds": SECRET, "keys": SECRET})):
        file.write_text(text)
        with pytest.raises(FolderError) as caught:
            read_single_file(file)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert SECRET not in str(caught.value.problems)
    content["keys"]["preKeys"]["3"] = {"private": SECRET, "public": [SECRET]}
    content["keys"]["senderKeys"]["1@g.us::1::0"] = [SECRET]
    assert SECRET not in str(read(tmp_path, content))
