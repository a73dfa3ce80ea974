from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state.codec import check_creds
from supabase_auth_state.codec.creds import verify_signed_pre_key
from supabase_auth_state.errors import CodecError, FolderError, UnreadKeyError
from supabase_auth_state.files import atomic as files
from supabase_auth_state.files.folder import read_folder
from supabase_auth_state.files.multi_file import use_multi_file_auth_state
from supabase_auth_state.types import SignalKeyStore
from tests.values import BAILEYS

PAIR = {"private": bytes(range(32)), "public": bytes(32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small folder that Baileys wrote."""
    return Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "auth"))


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


async def test_a_new_folder_gets_creds_that_exist_in_memory_until_they_are_saved(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "new" / "auth"
    auth = await use_multi_file_auth_state(folder)
    check_creds(auth.creds, company_id=None)
    assert verify_signed_pre_key(auth.creds)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert texts(folder) == {}
    await auth.save_creds()
    assert stat.S_IMODE((folder / "creds.json").stat().st_mode) == 0o600
    assert (await use_multi_file_auth_state(folder)).creds == auth.creds


@pytest.mark.parametrize("name", ["v7-small", "v7-337", "v6-small"])
async def test_names_and_content_are_those_of_baileys_byte_for_byte(
    name: str, tmp_path: Path
) -> None:
    refs = [key.ref for key in read_folder(BAILEYS / name).keys]
    old = await use_multi_file_auth_state(BAILEYS / name)
    async with use_multi_file_auth_state(tmp_path / "auth") as new:
        for key_type in {ref.key_type for ref in refs}:
            ids = [ref.key_id for ref in refs if ref.key_type == key_type]
            await new.keys.set({key_type: await old.keys.get(key_type, ids)})
        new.creds = old.creds
        await new.save_creds()
    assert texts(tmp_path / "auth") == texts(BAILEYS / name)


async def test_get_gives_what_is_there_and_set_with_none_removes(folder: Path) -> None:
    auth = await use_multi_file_auth_state(folder)
    found = await auth.keys.get("lid-mapping", ["15550100001", "nobody", "15550100001"])
    assert found == {"15550100001": "900000000000001"}
    await auth.keys.set(
        {"lid-mapping": {"15550100001": None, "nobody": None}, "pre-key": {"9": PAIR}}
    )
    assert await auth.keys.get("lid-mapping", ["15550100001"]) == {}
    assert await auth.keys.get("pre-key", ["9"]) == {"9": PAIR}
    assert json.loads((folder / "pre-key-9.json").read_text())["private"]["type"] == "Buffer"


async def test_nothing_is_a_set(tmp_path: Path) -> None:
    auth = await use_multi_file_auth_state(tmp_path)
    await auth.keys.set({})
    await auth.keys.set({"session": {}})
    assert texts(tmp_path) == {}


async def test_only_none_deletes(tmp_path: Path) -> None:
    auth = await use_multi_file_auth_state(tmp_path)
    empty = {"a": "", "b": [], "c": {}, "d": 0, "e": False, "f": b""}
    await auth.keys.set({"of-tomorrow": empty})
    assert await auth.keys.get("of-tomorrow", list(empty)) == empty


async def test_values_are_the_callers_own(folder: Path) -> None:
    auth = await use_multi_file_auth_state(folder)
    first = await auth.keys.get("device-list", ["15550100001"])
    first["15550100001"].append("99")
    assert await auth.keys.get("device-list", ["15550100001"]) == {"15550100001": ["7"]}


async def test_ids_of_any_characters_are_kept(tmp_path: Path) -> None:
    auth = await use_multi_file_auth_state(tmp_path)
    ids = ["a,b", "(a)", 'a"b', "a\\b", "100%", "a b", "\U0001f6cd", "..", "a/b", "*?<>|", "\n"]
    await auth.keys.set({"session": {key_id: {"_sessions": {}} for key_id in ids}})
    assert list(await auth.keys.get("session", ids)) == ids
    assert len(texts(tmp_path)) == len(ids)


@pytest.mark.parametrize(
    "content", [b"", b'{"noiseKey":', b"null", b"[]", b"\xff", b'{"noiseKey":{}}']
)
async def test_creds_that_cannot_be_read_are_never_replaced_by_fresh_ones(
    folder: Path, content: bytes
) -> None:
    (folder / "creds.json").write_bytes(content)
    with pytest.raises(FolderError, match=r"creds\.json"):
        await use_multi_file_auth_state(folder)
    assert (folder / "creds.json").read_bytes() == content


async def test_a_creds_file_that_cannot_be_opened_is_an_error(folder: Path) -> None:
    (folder / "creds.json").unlink()
    (folder / "creds.json").mkdir()
    with pytest.raises(FolderError, match=r"creds\.json"):
        await use_multi_file_auth_state(folder)


async def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "auth").touch()
    with pytest.raises(FolderError, match="not a folder"):
        await use_multi_file_auth_state(tmp_path / "auth")


async def test_keys_without_creds_start_a_new_account_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "creds.json").unlink()
    with caplog.at_level(logging.WARNING):
        auth = await use_multi_file_auth_state(folder)
    assert "me" not in auth.creds
    assert "no creds.json" in caplog.text


async def test_a_torn_file_is_an_error_and_cannot_be_written_until_it_has_been_read(
    folder: Path,
) -> None:
    path = folder / "session-200000000000100_1.0.json"
    whole = path.read_text()
    path.write_text(whole[:100])
    auth = await use_multi_file_auth_state(folder, company_id="962302")
    torn = "200000000000100_1.0"
    for _ in range(2):
        with pytest.raises(FolderError) as caught:
            await auth.keys.get("session", ["200000000008019_1.0", torn])
        assert caught.value.problems == ((path.name, "is not JSON"),)
    for value in ({"_sessions": {}}, None):
        with pytest.raises(UnreadKeyError, match="962302"):
            await auth.keys.set({"session": {torn: value}, "pre-key": {"9": PAIR}})
    assert path.read_text() == whole[:100]
    assert not (folder / "pre-key-9.json").exists()
    await auth.keys.set({"session": {"200000000008019_1.0": {"_sessions": {}}}})

    path.write_text(whole)
    assert await auth.keys.get("session", [torn]) == {torn: json.loads(whole)}
    await auth.keys.set({"session": {torn: None}})
    assert not path.exists()


async def test_a_file_that_cannot_be_opened_is_an_error(folder: Path) -> None:
    (folder / "pre-key-9.json").mkdir()
    auth = await use_multi_file_auth_state(folder)
    with pytest.raises(FolderError, match="is not a regular file"):
        await auth.keys.get("pre-key", ["9"])


async def test_a_file_removed_by_hand_is_absent_and_may_be_written(folder: Path) -> None:
    (folder / "pre-key-3.json").write_text("")
    auth = await use_multi_file_auth_state(folder)
    with pytest.raises(FolderError):
        await auth.keys.get("pre-key", ["3"])
    (folder / "pre-key-3.json").unlink()
    assert await auth.keys.get("pre-key", ["3"]) == {}
    await auth.keys.set({"pre-key": {"3": PAIR}})
    assert await auth.keys.get("pre-key", ["3"]) == {"3": PAIR}


async def test_a_value_that_cannot_be_encoded_stops_the_whole_set(folder: Path) -> None:
    auth = await use_multi_file_auth_state(folder)
    before = texts(folder)
    with pytest.raises(CodecError):
        await auth.keys.set({"pre-key": {"3": None, "9": PAIR}, "session": {"1.0": {"a": "\0"}}})
    auth.creds["me"] = {"id": "\ud83d"}
    with pytest.raises(CodecError):
        await auth.save_creds()
    assert texts(folder) == before


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("tctoken", "__index"), ("tctoken", "/index")),
        (("session", "a:b"), ("session", "a-b")),
        (("sender-key", "g@g.us::1::2"), ("sender-key", "g@g.us--1--2")),
        (("sender-key", "memory-1@g.us"), ("sender-key-memory", "1@g.us")),
    ],
)
async def test_an_id_that_shares_the_file_of_another_is_refused_and_reads_as_absent(
    tmp_path: Path, first: tuple[str, str], second: tuple[str, str]
) -> None:
    if first[0] != second[0]:
        first, second = second, first
    values: dict[str, Any] = {
        "tctoken": {"token": b""}, "session": {}, "sender-key": b"[]", "sender-key-memory": {},
    }  # fmt: skip
    auth = await use_multi_file_auth_state(tmp_path)
    await auth.keys.set({first[0]: {first[1]: values[first[0]]}})
    with pytest.raises(FolderError, match="no file of its own"):
        await auth.keys.set({second[0]: {second[1]: values[second[0]]}})
    assert await auth.keys.get(second[0], [second[1]]) == {}
    await auth.keys.set({second[0]: {second[1]: None}})
    assert await auth.keys.get(first[0], [first[1]]) == {first[1]: values[first[0]]}


async def test_two_ids_that_share_a_file_are_refused_together(tmp_path: Path) -> None:
    auth = await use_multi_file_auth_state(tmp_path)
    with pytest.raises(FolderError, match="no file of its own"):
        await auth.keys.set({"of-tomorrow": {"a:b": 1, "a-b": 2}})
    assert texts(tmp_path) == {}
    await auth.keys.set({"of-tomorrow": {"a-b": 2}})


@pytest.mark.parametrize("key_id", ["a\0b", "\ud83d", "x" * 300], ids=["NUL", "surrogate", "long"])
async def test_an_id_that_no_file_can_have_is_absent_and_refused(
    tmp_path: Path, key_id: str
) -> None:
    auth = await use_multi_file_auth_state(tmp_path)
    assert await auth.keys.get("session", [key_id]) == {}
    await auth.keys.set({"session": {key_id: None}})
    with pytest.raises(FolderError):
        await auth.keys.set({"session": {key_id: {"_sessions": {}}}})
    assert texts(tmp_path) == {}


async def test_a_full_disk_is_an_error_and_leaves_the_old_content(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = await use_multi_file_auth_state(folder)
    before = texts(folder)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FolderError, match="No space left on device"):
        await auth.keys.set({"pre-key": {"3": PAIR, "9": PAIR}})
    with pytest.raises(FolderError, match="No space left on device"):
        await auth.save_creds()
    assert texts(folder) == before


async def test_new_content_is_on_disk_before_it_takes_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = await use_multi_file_auth_state(folder)
    before = (folder / "pre-key-3.json").read_text()
    seen: list[tuple[str, bool]] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        replaced = (folder / "pre-key-3.json").read_text() != before
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, replaced))
        real(descriptor)

    monkeypatch.setattr("os.fsync", watched)
    await auth.keys.set({"pre-key": {"3": PAIR, "9": PAIR}})
    assert [replaced for _, replaced in seen] == [False, False, True]
    assert [Path(name).suffix for name, _ in seen] == [".tmp", ".tmp", ""]


async def test_clear_removes_keys_and_nothing_else(folder: Path) -> None:
    auth = await use_multi_file_auth_state(folder)
    await auth.keys.set({"of-tomorrow": {"1": 1}, "session": {"no address": {"_sessions": {}}}})
    for name in ("package.json", "notes-1.json", "pre-key-3.json.bak", ".keep"):
        (folder / name).write_text("{}")
    await auth.keys.clear()
    assert texts(folder).keys() == {
        "creds.json", "package.json", "notes-1.json", "pre-key-3.json.bak", ".keep",
    }  # fmt: skip


async def test_clear_lets_ids_be_written_whose_files_could_not_be_read(folder: Path) -> None:
    (folder / "pre-key-3.json").write_text("")
    auth = await use_multi_file_auth_state(folder)
    with pytest.raises(FolderError):
        await auth.keys.get("pre-key", ["3"])
    await auth.keys.clear()
    await auth.keys.set({"pre-key": {"3": PAIR}})


async def test_calls_take_effect_in_their_order_whichever_object_they_are_made_on(
    tmp_path: Path,
) -> None:
    one = await use_multi_file_auth_state(tmp_path)
    other = await use_multi_file_auth_state(tmp_path / "." / "")
    await asyncio.gather(
        *(one.keys.set({"of-tomorrow": {"1": number}}) for number in range(20)),
        *(other.keys.set({"of-tomorrow": {"2": number}}) for number in range(20)),
    )
    assert await one.keys.get("of-tomorrow", ["1", "2"]) == {"1": 19, "2": 19}


async def test_a_call_after_a_cancelled_one_waits_until_that_has_left_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = await use_multi_file_auth_state(tmp_path)
    on_disk, go_on = threading.Event(), threading.Event()
    real = files.replace

    def slow(*args: Any) -> None:
        if "slow" in args[1]["of-tomorrow-1.json"]:
            on_disk.set()
            go_on.wait(30)
        real(*args)

    monkeypatch.setattr("supabase_auth_state.files.multi_file.replace", slow)
    cancelled = asyncio.create_task(auth.keys.set({"of-tomorrow": {"1": "slow"}}))
    await asyncio.to_thread(on_disk.wait, 30)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    quick = asyncio.create_task(auth.keys.set({"of-tomorrow": {"1": "quick"}}))
    await asyncio.sleep(0)
    go_on.set()
    await quick
    assert await auth.keys.get("of-tomorrow", ["1"]) == {"1": "quick"}


async def test_the_state_stands_where_a_state_in_the_database_does(folder: Path) -> None:
    async with use_multi_file_auth_state(folder, company_id="962302") as auth:
        assert isinstance(auth.keys, SignalKeyStore)
        assert (auth.company_id, auth.lease, auth.family) == ("962302", None, "baileys")
        assert await auth.warm() == 0
        assert auth.creds["advSecretKey"] not in repr(auth) + repr(auth.keys)
        with pytest.raises(CodecError, match="962302"):
            await auth.keys.set({"pre-key": {"1": {}}})
    async with auth as again:
        assert again is auth
    await auth.close()
