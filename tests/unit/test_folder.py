from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state.errors import CodecError, FolderError
from supabase_auth_state.files import atomic as files
from supabase_auth_state.files.folder import FolderKey, read_folder, snapshot, write_folder
from supabase_auth_state.types import KeyRef
from tests.values import BAILEYS

SAMPLES = ["v7-small", "v7-337", "v6-small"]
SECRET = "c2VjcmV0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small folder that Baileys wrote."""
    return Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "auth"))


def problems_of(folder: Path) -> dict[str, str]:
    return dict(read_folder(folder).problems)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(("name", "keys"), [("v7-small", 27), ("v7-337", 335), ("v6-small", 29)])
def test_a_folder_of_baileys_is_read_whole(name: str, keys: int) -> None:
    contents = read_folder(BAILEYS / name)
    assert contents.creds is not None
    assert len(contents.keys) == keys
    assert contents.problems == []
    assert contents.ignored == []


def test_keys_come_with_their_ids_their_values_and_their_times(folder: Path) -> None:
    name = "app-state-sync-key-++++________.json"
    os.utime(folder / name, ns=(0, 1700000000_250000000))
    os.utime(folder / "creds.json", ns=(0, 1600000000_500000000))
    contents = read_folder(folder)
    found = {key.ref: key for key in contents.keys}
    key = found[KeyRef("app-state-sync-key", "++++////")]
    assert key.mtime == 1700000000.25
    assert key.value == json.loads((folder / name).read_text())
    assert contents.creds_mtime == 1600000000.5
    assert found[KeyRef("tctoken", "__index")].value == {"token": b'["200000000000100@lid"]'}


def test_a_missing_creds_file_is_no_problem_and_a_torn_one_is(folder: Path) -> None:
    (folder / "creds.json").unlink()
    contents = read_folder(folder)
    assert (contents.creds, contents.problems) == (None, [])
    (folder / "creds.json").write_text('{"noiseKey":')
    contents = read_folder(folder)
    assert contents.creds is None
    assert contents.problems == [("creds.json", "is not JSON")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"private":{"type":"Buffer","da',
        b"null",
        b"\xff\xfe",
        b'\xef\xbb\xbf{"a":1}',
        b'{"private":1,"private":2}',
        b'{"private":NaN}',
        b"1e999",
        b'{"a":"\\ud83d"}',
        b"{}",
        b"[]",
        b'"text"',
    ],
    ids=repr,
)
def test_a_file_that_is_not_what_baileys_writes_is_a_problem(folder: Path, content: bytes) -> None:
    (folder / "pre-key-3.json").write_bytes(content)
    assert list(problems_of(folder)) == ["pre-key-3.json"]
    assert len(read_folder(folder).keys) == 26


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("session-1.0.json", '{"_sessions":{},"version":"\\u0000"}'),
        ("session-1.0.json", '{"_sessions":{},"version":"\\udc00"}'),
        ("session-1.0.json", '{"_sessions":{},"version":1e22}'),
        ("session-1.0.json", '{"_sessions":{},"version":123456789012345678901234567890}'),
        ("session-1.0.json", '{"version":"v1"}'),
        ("session-1.0.json", '"{\\"_sessions\\":{}}"'),
        ("identity-key-1.0.json", '{"type":"Buffer","data":"AQID"}'),
        ("identity-key-1.0.json", json.dumps({str(i): 5 for i in range(33)})),
        ("lid-mapping-1.json", "200000000000100"),
        ("device-list-1.json", "{}"),
        ("sender-key-1@g.us--1--0.json", '{"type":"Buffer","data":"e30="}'),
        ("tctoken-1@lid.json", '{"token":[1,2]}'),
    ],
)
def test_a_value_that_is_not_whole_under_its_type_is_a_problem(
    folder: Path, name: str, content: str
) -> None:
    (folder / name).write_text(content)
    assert list(problems_of(folder)) == [name]


def test_a_value_under_the_name_of_another_type_is_a_problem(folder: Path) -> None:
    (folder / "pre-key-3.json").rename(folder / "session-3.0.json")
    assert list(problems_of(folder)) == ["session-3.0.json"]


@pytest.mark.parametrize(
    "name",
    ["pre-key-x.json", "notes.json", "sender-key-evil@g.us--1--0.json", "tctoken-a-b@lid.json"],
)
def test_a_name_that_is_no_key_is_a_problem(folder: Path, name: str) -> None:
    shutil.copy(folder / "pre-key-3.json", folder / name)
    assert list(problems_of(folder)) == [name]


def test_folders_links_and_pipes_are_problems_and_are_not_opened(folder: Path) -> None:
    (folder / "session-1.0.json").mkdir()
    (folder / "keys").mkdir()
    (folder / "pre-key-9.json").symlink_to(folder / "pre-key-3.json")
    os.mkfifo(folder / "pre-key-10.json")
    assert set(problems_of(folder)) == {
        "session-1.0.json",
        "keys",
        "pre-key-9.json",
        "pre-key-10.json",
    }


def test_what_baileys_does_not_look_at_is_named_and_left_alone(folder: Path) -> None:
    for name in ("lost+found", "media", ".stversions"):
        (folder / name).mkdir()
        (folder / name / "photo.jpg").write_bytes(b"x")
    (folder / ".stversions" / "pre-key-1.json").write_text("{}")
    for name in (".DS_Store", "Thumbs.db", ".creds.json.tmp", "creds.json.bak"):
        (folder / name).write_text("{")
    (folder / "session-15550100001.0.json.tmp").write_text("{")
    contents = read_folder(folder)
    others = [".DS_Store", ".stversions", "Thumbs.db", "lost+found", "media"]
    assert contents.ignored == others
    assert contents.leftovers == [
        ".creds.json.tmp", "creds.json.bak", "session-15550100001.0.json.tmp"
    ]  # fmt: skip
    assert contents.problems == []


@pytest.mark.parametrize("inside", ["creds.json", "deep/er/session-15550100001.0.json"])
def test_a_media_folder_with_files_of_baileys_in_it_is_a_problem(folder: Path, inside: str) -> None:
    path = folder / "media" / inside
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert list(problems_of(folder)) == ["media"]


def test_a_media_folder_may_be_a_link_and_any_other_link_may_not(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("media", "keys"):
        (folder / name).symlink_to(tmp_path / "elsewhere")
    assert list(problems_of(folder)) == ["keys"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("creds.json", json.dumps, "is JSON text inside a JSON string: it was encoded twice"),
        ("pre-key-3.json", json.dumps, "is JSON text inside a JSON string: it was encoded twice"),
        ("lid-mapping-15550101000.json", json.dumps, "is JSON text inside a JSON string"),
        ("creds.json", lambda text: text.encode("utf-16"), "is UTF-16 text"),
        ("creds.json", lambda text: bytes(len(text)), "holds only zero bytes"),
    ],
)
def test_the_true_reason_is_given(
    folder: Path, name: str, content: Callable[[str], str | bytes], reason: str
) -> None:
    path = folder / name
    made = content(path.read_text())
    path.write_bytes(made if isinstance(made, bytes) else made.encode())
    assert problems_of(folder)[name].startswith(reason)


def test_a_byte_order_mark_of_utf_8_is_read_over(folder: Path) -> None:
    whole = read_folder(folder)
    for path in folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    marked = read_folder(folder)
    assert marked.problems == []
    assert (marked.creds, [key.value for key in marked.keys]) == (
        whole.creds,
        [key.value for key in whole.keys],
    )


def test_a_file_that_vanishes_while_the_folder_is_read_is_a_problem(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(folder: Path, name: str, size: int) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("supabase_auth_state.files.folder.read_content", vanish)
    contents = read_folder(folder)
    assert len(contents.problems) == 28
    assert contents.creds is None


def test_neither_problems_nor_repr_show_what_is_in_the_files(folder: Path) -> None:
    (folder / "pre-key-3.json").write_text(f'{{"private":"{SECRET}","public":"{SECRET}"}}')
    (folder / "pre-key-4.json").write_text(f'{{"{SECRET}')
    contents = read_folder(folder)
    assert len(contents.problems) == 2
    assert SECRET not in str(contents.problems)
    shown = repr(contents)
    assert contents.creds is not None
    assert contents.creds["advSecretKey"] not in shown
    assert "_sessions" not in shown
    assert "b'" not in shown


@pytest.mark.parametrize("path", ["missing", "a-file"])
def test_what_is_no_folder_is_an_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "a-file").write_text("{}")
    with pytest.raises(FolderError, match=path):
        read_folder(tmp_path / path)


def test_a_snapshot_tells_what_came_went_and_changed(folder: Path) -> None:
    before = snapshot(folder)
    assert snapshot(folder).changed_since(before) == []
    (folder / "pre-key-3.json").unlink()
    (folder / "pre-key-9.json").write_text("{}")
    files.replace(folder, {"pre-key-4.json": (folder / "pre-key-4.json").read_text()})
    changed = snapshot(folder).changed_since(before)
    assert changed == ["pre-key-3.json", "pre-key-4.json", "pre-key-9.json"]


def test_a_rewrite_in_place_of_the_same_size_is_a_change(folder: Path) -> None:
    path = folder / "pre-key-3.json"
    before = read_folder(folder).snapshot
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert snapshot(folder).changed_since(before) == ["pre-key-3.json"]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_folder_is_written_back_byte_for_byte(name: str, tmp_path: Path) -> None:
    contents = read_folder(BAILEYS / name)
    assert contents.creds is not None
    write_folder(tmp_path / "out", contents.creds, contents.keys)
    assert texts(tmp_path / "out") == texts(BAILEYS / name)


def test_times_are_kept_and_nobody_else_may_read(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    os.utime(folder / "pre-key-3.json", ns=(0, 1700000000_250000000))
    contents = read_folder(folder)
    assert contents.creds is not None
    write_folder(out, contents.creds, contents.keys, creds_mtime=1600000000.5)
    assert (out / "pre-key-3.json").stat().st_mtime == 1700000000.25
    assert (out / "creds.json").stat().st_mtime == 1600000000.5
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}


def test_an_empty_folder_may_be_written_and_any_other_may_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", {}, [])
    assert texts(tmp_path / "empty") == {"creds.json": "{}"}
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".keep").touch()
    (tmp_path / "file").touch()
    for name, reason in (("empty", "not empty"), ("hidden", "not empty"), ("file", "is a file")):
        with pytest.raises(FolderError, match=reason):
            write_folder(tmp_path / name, {}, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "hidden"]


@pytest.mark.parametrize(
    "refs",
    [
        [("tctoken", "__index"), ("tctoken", "/index")],
        [("of-tomorrow", "a:b"), ("of-tomorrow", "a-b")],
        [("session", "no address")],
        [("of-tomorrow", "1")],
        [("tctoken", "/index")],
        [("sender-key", "evil::1::2::3")],
    ],
)
def test_ids_that_a_folder_cannot_tell_apart_are_refused(
    tmp_path: Path, refs: list[tuple[str, str]]
) -> None:
    keys = [FolderKey(KeyRef(*ref), {"token": b""}) for ref in refs]
    with pytest.raises(FolderError) as caught:
        write_folder(tmp_path / "out", {}, keys)
    assert caught.value.problems
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_could_not_be_finished_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = FolderKey(KeyRef("pre-key", "1"), b"1"), FolderKey(KeyRef("pre-key", "2"), {})
    with pytest.raises(CodecError):
        write_folder(tmp_path / "out", {}, [good, bad])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FolderError, match="No space left on device"):
        write_folder(tmp_path / "out", {}, [good])
    assert list(tmp_path.iterdir()) == []


def test_names_that_the_file_system_does_not_tell_apart_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.write_new

    def on_a_file_system_without_case(path: Path, text: str, **more: Any) -> None:
        real(path.with_name(path.name.lower()), text, **more)

    monkeypatch.setattr("supabase_auth_state.files.folder.write_new", on_a_file_system_without_case)
    value = {"keyData": "AQ=="}
    keys = [FolderKey(KeyRef("app-state-sync-key", key_id), value) for key_id in ("AAAA", "aaaa")]
    with pytest.raises(FolderError, match="case"):
        write_folder(tmp_path / "out", {}, keys)


def test_everything_is_on_disk_before_the_folder_appears(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    synced: list[tuple[str, bool]] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, out.exists()))
        real(descriptor)

    monkeypatch.setattr("os.fsync", watched)
    contents = read_folder(folder)
    assert contents.creds is not None
    write_folder(out, contents.creds, contents.keys)
    assert {name for name, _ in synced} >= texts(folder).keys()
    assert [appeared for _, appeared in synced] == [False] * (len(synced) - 1) + [True]
