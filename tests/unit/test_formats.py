"""State in another format than an auth folder is recognised, and the message says what to do."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import zipfile
from pathlib import Path

import pytest

from supabase_auth_state.errors import FolderError
from supabase_auth_state.files.formats import format_of_file, format_of_folder
from supabase_auth_state.files.source import read_source
from tests.values import BAILEYS


def refusal(path: Path) -> str:
    with pytest.raises(FolderError) as caught:
        read_source(path)
    return str(caught.value)


def sqlite_file(path: Path, *statements: str) -> Path:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize(
    ("statements", "program"),
    [
        (["CREATE TABLE whatsmeow_device (jid TEXT)"], "database of whatsmeow"),
        (["CREATE TABLE prekeys (id)", "CREATE TABLE sender_keys (id)"], "database of waton"),
        (["CREATE TABLE keys (id)"], "in which whatsmeow, WAeys and other clients"),
    ],
)
def test_an_sqlite_file_is_named_alone_and_inside_a_folder(
    tmp_path: Path, statements: list[str], program: str
) -> None:
    (tmp_path / "auth").mkdir()
    file = sqlite_file(tmp_path / "auth" / "wa.db", *statements)
    for path in (file, tmp_path / "auth"):
        message = refusal(path)
        assert program in message
        assert "link the device anew" in message or "docs/waton.md" in message


@pytest.mark.parametrize("head", [b"\x83\xa5creds\x81", b"\xde\x00\x10\xa8noiseKey", b"\xdf\0\0\0"])
def test_messagepack_is_named_alone_and_inside_a_folder(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "auth").mkdir()
    file = tmp_path / "auth" / "creds.bin"
    file.write_bytes(head)
    for path in (file, tmp_path / "auth"):
        assert "MessagePack" in refusal(path)


@pytest.mark.parametrize(
    "names",
    [
        ["Default/IndexedDB/x.log"],
        ["session-alice/Default/Preferences"],
        ["session/Default/Preferences"],
        ["IndexedDB/x.log", "Local Storage/x"],
        ["IndexedDB/x.log"],
    ],
    ids=[".wwebjs session", ".wwebjs_auth", "one session", "Default", "IndexedDB alone"],
)
def test_a_browser_profile_is_named(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        path = tmp_path / "profile" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")
    message = refusal(tmp_path / "profile")
    assert "whatsapp-web.js" in message
    assert "link a new device with Baileys" in message


def test_packed_files_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "RemoteAuth-alice.zip", "w") as archive:
        archive.writestr("Default/x", "x")
    assert "is a .zip file: unpack it" in refusal(tmp_path / "RemoteAuth-alice.zip")
    (tmp_path / "auth.tar.gz").write_bytes(gzip.compress(b"x"))
    assert "supabase-auth-state restore" in refusal(tmp_path / "auth.tar.gz")


def test_creds_json_alone_is_named_with_its_folder() -> None:
    message = refusal(BAILEYS / "v7-small" / "creds.json")
    assert "is the creds.json of an auth folder, without its keys" in message
    assert f"this one is in {BAILEYS / 'v7-small'}" in message


@pytest.mark.parametrize("content", [b'{"name":"x"}', b"hello", b"", b"\x83"])
def test_any_other_file_is_told_what_an_auth_folder_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert "An auth folder is the folder that Baileys' useMultiFileAuthState" in refusal(
        tmp_path / "x.json"
    )


def test_a_single_file_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text(json.dumps({"creds": {}, "keys": {}}))
    message = refusal(tmp_path)
    assert "session.json in it is the single JSON file of Baileys' useSingleFile" in message
    assert "give the file itself" in message


def test_a_host_s_database_beside_keys_says_nothing_about_the_keys(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "auth"))
    sqlite_file(folder / "store.db", "CREATE TABLE messages (id)")
    assert read_source(folder).creds is not None
    (folder / "creds.json").unlink()
    contents = read_source(folder)
    assert contents.creds is None
    assert len(contents.keys) == 27


@pytest.mark.parametrize("path", ["missing", "empty"])
def test_nothing_is_recognised_in_nothing(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    if path == "empty":
        assert read_source(tmp_path / path).creds is None
    else:
        assert "No such file" in refusal(tmp_path / path)


def test_the_classifier_needs_names_and_first_bytes_only() -> None:
    assert format_of_file("x", b"") is None
    assert format_of_folder([], {}) is None
    assert format_of_folder(["creds.bin"], {"creds.bin": b""}) is None
    found = format_of_folder(["a.db", "b"], {"a.db": b"SQLite format 3\0"})
    assert found is not None
    assert found[0] == "a.db"
