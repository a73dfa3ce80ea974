from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from supabase_auth_state.errors import FolderError
from supabase_auth_state.transfer.quiet import read_quiet_folder, refuse_if_changed
from tests.values import BAILEYS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small folder, last changed in 2023."""
    copy = Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "auth"))
    for path in copy.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return copy


class Watch:
    """A sleep that takes no time; `do` happens while it sleeps."""

    def __init__(self, do: object = None) -> None:
        self.do = do
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        if callable(self.do):
            self.do()


async def test_an_old_folder_is_read_at_once(folder: Path) -> None:
    watch = Watch()
    contents = await read_quiet_folder(folder, sleep=watch)
    assert watch.slept == []
    assert len(contents.keys) == 27


async def test_a_young_folder_is_looked_at_again_when_it_has_been_quiet(folder: Path) -> None:
    (folder / "creds.json").touch()
    watch = Watch()
    contents = await read_quiet_folder(folder, quiet_for=5, sleep=watch)
    (slept,) = watch.slept
    assert 0 < slept <= 5
    assert contents.creds is not None


async def test_a_file_from_the_future_does_not_make_it_wait_longer(folder: Path) -> None:
    os.utime(folder / "creds.json", (time.time() + 9999,) * 2)
    watch = Watch()
    await read_quiet_folder(folder, quiet_for=5, sleep=watch)
    assert watch.slept == [5]


@pytest.mark.parametrize("change", ["written", "made", "removed", "rewritten at the same size"])
async def test_a_folder_that_changes_meanwhile_is_in_use(folder: Path, change: str) -> None:
    creds = folder / "creds.json"
    creds.touch()
    changes = {
        "written": lambda: creds.write_bytes(b"{}"),
        "made": (folder / "pre-key-9.json").touch,
        "removed": (folder / "device-list-15550100001.json").unlink,
        "rewritten at the same size": lambda: creds.write_bytes(creds.read_bytes()),
    }
    with pytest.raises(FolderError, match="is in use") as caught:
        await read_quiet_folder(folder, sleep=Watch(changes[change]))
    assert len(caught.value.problems) == 1


async def test_a_change_is_seen_later_too(folder: Path) -> None:
    contents = await read_quiet_folder(folder, quiet_for=0)
    await refuse_if_changed(folder, contents.snapshot)
    for name in ("a", "b", "c", "d"):
        (folder / f"{name}.json").touch()
    with pytest.raises(FolderError, match=r"a\.json, b\.json, c\.json and 1 more changed"):
        await refuse_if_changed(folder, contents.snapshot)


async def test_what_is_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="cannot list"):
        await read_quiet_folder(tmp_path / "missing")
