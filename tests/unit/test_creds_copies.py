"""A folder whose creds.json is missing or damaged, beside copies of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from supabase_auth_state import FolderError, use_multi_file_auth_state
from supabase_auth_state.files.folder import read_folder
from tests.folders import set_age
from tests.values import BAILEYS

HOUR = 3600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small folder that Baileys wrote; its name has to be quoted in a shell."""
    return Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "it's auth"))


def keep_copy(folder: Path, name: str, *, age: float = 3 * HOUR + 60) -> Path:
    copy = Path(shutil.copy(folder / "creds.json", folder / name))
    set_age(copy, age)
    return copy


@pytest.mark.parametrize(
    "name",
    ["creds.json.bak", "creds.json.tmp", "creds.json.backup", "creds-backup.json", ".creds.json.x"],
)
@pytest.mark.parametrize("damage", [b"", b'{"noiseKey":', None], ids=["empty", "torn", "missing"])
def test_a_whole_copy_is_named_with_its_age_and_its_command(
    folder: Path, name: str, damage: bytes | None
) -> None:
    keep_copy(folder, name)
    creds = folder / "creds.json"
    good = creds.read_bytes()
    creds.unlink() if damage is None else creds.write_bytes(damage)

    contents = read_folder(folder)

    assert contents.creds is None  # nothing is used silently
    assert contents.leftovers == [name]
    told, _, command = contents.advice.partition(f". To use {name}: ")
    assert told == f"Beside it, {name} is 3 hours old and can be read as whole creds"
    subprocess.run(command, shell=True, check=True)  # noqa: S602 - the command is for a shell
    assert creds.read_bytes() == good
    assert read_folder(folder).creds is not None
    assert (folder / "creds.json.damaged").exists() is (damage is not None)


def test_a_copy_that_is_not_whole_is_named_and_not_recommended(folder: Path) -> None:
    for name, content in {
        "creds.json": b"",
        "creds.json.bak": b"",
        "creds.json.tmp": b'{"noiseKey":{}}',
    }.items():
        (folder / name).write_bytes(content)
        set_age(folder / name, 2 * HOUR + 60)
    advice = read_folder(folder).advice
    assert "creds.json.bak is 2 hours old and cannot be used (is empty)" in advice
    assert "creds.json.tmp is 2 hours old and cannot be used (noiseKey.private: is miss" in advice
    assert "cp -p" not in advice


def test_the_newest_whole_copy_is_recommended(folder: Path) -> None:
    keep_copy(folder, "creds.json.old", age=2 * 86400 + HOUR)
    keep_copy(folder, "creds.json.bak", age=HOUR + 60)
    (folder / "creds.json.tmp").write_bytes(b"{")
    (folder / "creds.json").unlink()
    advice = read_folder(folder).advice
    assert "creds.json.old is 2 days old" in advice
    assert "To use creds.json.bak: " in advice
    assert advice.index("creds.json.tmp") < advice.index("creds.json.bak is 1 hour old")


def test_a_copy_that_is_older_than_the_keys_is_recommended_with_a_warning(folder: Path) -> None:
    keep_copy(folder, "creds.json.bak")
    (folder / "creds.json").write_bytes(b"")
    shutil.copy(folder / "pre-key-3.json", folder / "pre-key-812.json")
    advice = read_folder(folder).advice
    assert "older than the keys" in advice
    assert "a pre-key 812" in advice


def test_without_copies_and_with_good_creds_there_is_no_advice(folder: Path) -> None:
    assert read_folder(folder).advice == ""
    keep_copy(folder, "creds.json.bak")
    assert read_folder(folder).advice == ""
    (folder / "creds.json.bak").unlink()
    (folder / "creds.json").unlink()
    assert read_folder(folder).advice == ""


def test_a_folder_or_a_link_of_that_name_is_no_copy(folder: Path) -> None:
    (folder / "creds.json").rename(folder / "elsewhere")
    (folder / "creds.json.bak").mkdir()
    (folder / "creds.json.tmp").symlink_to(folder / "elsewhere")
    assert read_folder(folder).advice == ""


@pytest.mark.parametrize("damage", [b"", b"{"])
async def test_opening_such_a_folder_names_the_copy(folder: Path, damage: bytes) -> None:
    keep_copy(folder, "creds.json.bak")
    (folder / "creds.json").write_bytes(damage)
    with pytest.raises(FolderError, match=r"Beside it, creds\.json\.bak is 3 hours old"):
        await use_multi_file_auth_state(folder)


async def test_a_folder_with_a_whole_copy_and_no_creds_is_not_opened_as_a_new_account(
    folder: Path,
) -> None:
    keep_copy(folder, "creds.json.bak")
    (folder / "creds.json").unlink()
    with pytest.raises(FolderError, match=r"To use creds\.json\.bak: "):
        await use_multi_file_auth_state(folder)
    (folder / "creds.json.bak").write_text("{")
    assert (await use_multi_file_auth_state(folder)).creds["registered"] is False
