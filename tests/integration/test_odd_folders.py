"""Folders, files and names that no client makes: each is told or copied, and harms no other."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from supabase_auth_state import (
    FolderError,
    Rest,
    SupabaseAuthStateError,
    export_folder,
    import_each,
    import_folder,
    purge_files,
    restore_backup,
    use_auth_state,
    verify_folder,
)
from supabase_auth_state.transfer.import_each import ImportOutcome
from tests.folders import another_device, names_in, sample_folder

LONG = 30.0
NOBODY = 65534


@pytest.fixture
def parent() -> Iterator[Path]:
    """A folder that every user may read and write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Be a user to whom modes of files apply."""
    before = os.geteuid()
    os.seteuid(before or NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def company_folder(parent: Path, name: str, number: int) -> Path:
    folder = sample_folder("v7-small", parent / f".{name}")
    another_device(folder, number)
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o755)
    return folder.rename(parent / name)


def stored(db: psycopg.Connection[Any], name: str) -> list[str]:
    """Return the companies with this in their name that have any row."""
    query = (
        "select company_id from whatsapp_keys where strpos(company_id, %s) > 0"
        " union select company_id from whatsapp_auth where strpos(company_id, %s) > 0 order by 1"
    )
    return [company for (company,) in db.execute(query, [name, name])]


def told(outcomes: list[ImportOutcome]) -> dict[str, str | None]:
    """Return by company what kept it from being imported."""
    return {
        each.company_id.rpartition("-")[2]: each.error and type(each.error).__name__
        for each in outcomes
    }


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444])
async def test_a_folder_that_this_user_may_not_read_keeps_no_other_from_its_import(
    rest: Rest, company_id: str, parent: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    company_folder(parent, f"{company_id}-a", 1)
    closed = company_folder(parent, f"{company_id}-b", 2)
    company_folder(parent, f"{company_id}-c", 3)
    closed.chmod(mode)
    outcomes: list[ImportOutcome] = []
    with ordinary_user():
        await import_each(parent, client=rest, on_outcome=outcomes.append)
        assert told(outcomes) == {"a": None, "b": "FolderError", "c": None}
        for work in (import_folder, verify_folder, purge_files):
            with pytest.raises(FolderError):
                await work(closed, f"{company_id}-b", client=rest)
            with pytest.raises(FolderError):
                await work(closed / "deeper", f"{company_id}-b", client=rest)
        # Baileys opens what it can read by name, whether or not the folder can be listed.
        for flag in ("true", "false") if mode != 0o111 else ():
            monkeypatch.setenv("USE_DATABASE_AUTH_STATE", flag)
            with pytest.raises(SupabaseAuthStateError):
                await use_auth_state(f"{company_id}-b", folder=closed, client=rest)
        with pytest.raises(FolderError):
            await export_folder(closed / "deeper", f"{company_id}-a", client=rest)
        with pytest.raises(FolderError):
            await import_folder(
                parent / f"{company_id}-c",
                f"{company_id}-c",
                client=rest,
                force=True,
                backup_dir=closed / "backups",
            )


async def test_a_pipe_in_the_place_of_a_file_holds_up_nothing(
    rest: Rest, company_id: str, parent: Path
) -> None:
    company_folder(parent, f"{company_id}-a", 1)
    (parent / f"{company_id}-b").mkdir()
    (parent / f"{company_id}-c").mkdir()
    pipes = [parent / f"{company_id}-b" / "creds.json", parent / f"{company_id}-c" / "state.db"]
    for pipe in pipes:
        os.mkfifo(pipe)
    outcomes: list[ImportOutcome] = []
    try:
        await asyncio.wait_for(import_each(parent, client=rest, on_outcome=outcomes.append), LONG)
    finally:
        for pipe in pipes:
            # What waits for the other end has it for a moment.
            os.close(os.open(pipe, os.O_RDWR))
    assert told(outcomes) == {"a": None, "b": "FolderError", "c": "FolderError"}
    for outcome in outcomes:
        if outcome.error is not None:
            assert "creds.json is not" in str(outcome.error)


@pytest.mark.parametrize("inside", [".", "backups", "media/backups"])
async def test_backups_are_not_put_into_the_folder_they_are_of(
    rest: Rest, db: psycopg.Connection[Any], company_id: str, tmp_path: Path, inside: str
) -> None:
    folder = sample_folder("v7-small", tmp_path)
    before = names_in(folder)
    with pytest.raises(FolderError, match="cannot be put into it"):
        await import_folder(folder, company_id, client=rest, backup_dir=folder / inside)
    assert stored(db, company_id) == []
    await import_folder(folder, company_id, client=rest)
    with pytest.raises(FolderError, match="cannot be put into it"):
        await purge_files(
            folder, company_id, client=rest, backup_dir=folder / inside, after_days=0, yes=True
        )
    assert names_in(folder) == before


async def test_a_folder_that_is_made_during_an_export_is_not_moved_aside_without_force(
    rest: Rest, company_id: str, tmp_path: Path
) -> None:
    await import_folder(sample_folder("v7-small", tmp_path), company_id, client=rest)
    out = tmp_path / "out"

    def another_process(step: str, _done: int, _total: int) -> None:
        if step == "writing":
            out.mkdir()
            (out / "creds.json").write_text("{}")

    with pytest.raises(FolderError, match="is not empty"):
        await export_folder(out, company_id, client=rest, progress=another_process)
    assert names_in(out) == ["creds.json"]
    assert [name for name in names_in(tmp_path) if not name.startswith("auth")] == ["out"]


NAMES = {
    "a line break": "auth\nb",
    "a leading dash": "-auth",
    "an accent in one character": "é",
    "an accent in two": "e\u0301",
    "a quote and a dollar": "'\"$(x)`",
    "the longest": "n" * 255,
    "the longest of other letters": "ß" * 127,
    "no UTF-8": os.fsdecode(b"\xff\xfe"),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_a_folder_goes_and_comes_back_whatever_it_is_called(
    rest: Rest, company_id: str, tmp_path: Path, name: str
) -> None:
    folder = sample_folder("v7-small", tmp_path).rename(tmp_path / name)
    report = await import_folder(folder, company_id, client=rest)
    assert report.backup is not None
    (tmp_path / "out").mkdir()
    await export_folder(tmp_path / "out" / name, company_id, client=rest)
    again = await export_folder(tmp_path / "out" / name, company_id, client=rest, force=True)
    assert again.moved_aside is not None
    assert again.moved_aside.exists()
    assert (await verify_folder(tmp_path / "out" / name, company_id, client=rest)).identical
    restored = await restore_backup(report.backup, company_id, client=rest)
    assert (restored.added, restored.replaced) == (0, 0)
    purged = await purge_files(folder, company_id, client=rest, after_days=0, yes=True)
    assert (purged.removed, purged.backup) == (True, report.backup)
