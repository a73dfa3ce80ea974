from __future__ import annotations

import io
import json
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from supabase_auth_state.errors import FolderError
from supabase_auth_state.files.folder import read_folder
from supabase_auth_state.files.names import KeyRef
from supabase_auth_state.transfer.backups import back_up_company, back_up_folder, find_backup
from supabase_auth_state.transfer.company import Company
from supabase_auth_state.transfer.documents import CREDS, Document, folder_documents
from tests.values import BAILEYS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small folder that Baileys wrote."""
    return Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "auth"))


def unpacked(backup: Path, where: Path) -> Path:
    with tarfile.open(backup) as archive:
        archive.extractall(where, filter="data")
    (root,) = where.iterdir()
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_backup_unpacks_to_the_folder(folder: Path, tmp_path: Path) -> None:
    (folder / ".hidden").write_bytes(b"\0")
    (folder / "torn.json").write_bytes(b"")
    backup = back_up_folder(folder)
    assert backup.parent == folder.parent
    assert backup.name.startswith("auth.backup-")
    root = unpacked(backup, tmp_path / "unpacked")
    assert root.name == "auth"
    assert contents(root) == contents(folder)
    creds, original = root / "creds.json", folder / "creds.json"
    assert int(creds.stat().st_mtime) == int(original.stat().st_mtime)


def test_what_lies_deeper_is_backed_up_too(folder: Path, tmp_path: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_bytes(b"1")
    root = unpacked(back_up_folder(folder), tmp_path / "unpacked")
    assert (root / "deep" / "er" / "file").read_bytes() == b"1"


def test_only_the_owner_may_read_a_backup(folder: Path, tmp_path: Path) -> None:
    backup = back_up_folder(folder, tmp_path / "backups" / "here")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(backup.parent.stat().st_mode) == 0o700


def test_a_backup_of_the_same_content_is_used_again(folder: Path) -> None:
    first = back_up_folder(folder)
    assert back_up_folder(folder) == first
    (folder / "creds.json").write_bytes(b"{}")
    second = back_up_folder(folder)
    assert second != first
    assert first.exists()
    assert find_backup(folder) == second


@pytest.mark.parametrize("name", ["a*[b]?", "with space", "привет"])
def test_a_backup_is_found_whatever_the_folder_is_called(folder: Path, name: str) -> None:
    folder = folder.rename(folder.with_name(name))
    assert find_backup(folder) is None
    assert back_up_folder(folder) == find_backup(folder)


def test_a_torn_backup_is_none(folder: Path) -> None:
    backup = back_up_folder(folder)
    whole = backup.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        backup.write_bytes(whole[:length])
        assert find_backup(folder) is None, length
    backup.write_bytes(whole[:-200] + bytes(100) + whole[-100:])
    assert find_backup(folder) is None


def test_a_backup_that_cannot_be_written_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"cannot write a backup to .*file"):
        back_up_folder(folder, tmp_path / "file")


def test_a_company_is_backed_up_as_a_folder_that_reads_the_same(
    folder: Path, tmp_path: Path
) -> None:
    documents = folder_documents(read_folder(folder))
    backup = back_up_company(Company("7", documents, 0.0), tmp_path, "auth")
    assert backup.name.startswith("auth.database-")
    found = read_folder(unpacked(backup, tmp_path / "unpacked"))
    assert found.problems == []
    again = folder_documents(found)
    assert {ref: row.text for ref, row in again.items()} == {
        ref: row.text for ref, row in documents.items()
    }


def test_rows_that_cannot_be_files_are_kept_as_they_are_stored(tmp_path: Path) -> None:
    rows = {
        KeyRef("pre-key", "1"): {"private": "damaged"},
        KeyRef("sender-key-memory", "1:2@g.us"): {},
        KeyRef("sender-key-memory", "1-2@g.us"): {},
        CREDS: ["no creds"],
    }
    documents = {ref: Document(ref, value, 7.0) for ref, value in rows.items()}
    backup = back_up_company(Company("7", documents, None), tmp_path, "auth")
    with tarfile.open(backup) as archive:
        (name,) = archive.getnames()
        file = archive.extractfile(name)
        assert file is not None
        kept = json.load(io.TextIOWrapper(file))
    assert name == "auth/.rows-that-are-no-files.json"
    assert kept == [[*ref, value, 7.0] for ref, value in rows.items()]
