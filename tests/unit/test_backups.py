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
from supabase_auth_state.transfer.backups import (
    ROWS_FILE,
    back_up_company,
    back_up_folder,
    find_backup,
    read_backup,
)
from supabase_auth_state.transfer.company import Company
from supabase_auth_state.transfer.documents import CREDS, Document, folder_documents
from supabase_auth_state.types import KeyRef
from tests.values import BAILEYS, array, buffer


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


def company(documents: dict[KeyRef, Document], family: str | None = "baileys") -> Company:
    return Company("7", documents, family, 0.0)


def test_a_company_is_backed_up_as_a_folder_that_reads_the_same(
    folder: Path, tmp_path: Path
) -> None:
    documents = folder_documents(read_folder(folder))
    backup = back_up_company(company(documents), tmp_path, "auth")
    assert backup.name.startswith("auth.database-")
    found = read_folder(unpacked(backup, tmp_path / "unpacked"))
    assert found.problems == []
    again = folder_documents(found)
    assert {ref: row.text for ref, row in again.items()} == {
        ref: row.text for ref, row in documents.items()
    }
    kept = read_backup(backup)
    assert kept.rows == {}
    assert {name: content for name, (content, _) in kept.files.items()} == contents(folder)


ROWS = {
    KeyRef("pre-key", "1"): {"private": "damaged"},
    KeyRef("sender-key-memory", "1-2@g.us"): {},
    KeyRef("sender-key-memory", "1:2@g.us"): {},
    CREDS: ["no creds"],
}
DOCUMENTS = {ref: Document(ref, value, 7.25) for ref, value in ROWS.items()}


def test_rows_that_are_no_files_are_kept_as_they_are_stored(tmp_path: Path) -> None:
    backup = back_up_company(company(DOCUMENTS), tmp_path)
    with tarfile.open(backup) as archive:
        (name,) = archive.getnames()
        file = archive.extractfile(name)
        assert file is not None
        kept = json.load(io.TextIOWrapper(file))
    assert name == f"7/{ROWS_FILE}"
    assert kept == {
        "company_id": "7",
        "client_family": "baileys",
        "keys": [[*ref, value, 7.25] for ref, value in ROWS.items() if ref != CREDS],
        "creds": [ROWS[CREDS], 7.25],
    }
    assert read_backup(backup).rows == DOCUMENTS


def test_a_damaged_row_that_can_be_read_is_a_file_and_is_kept_as_it_is_stored_too(
    tmp_path: Path,
) -> None:
    ref = KeyRef("identity-key", "15550100001.0")
    data = b"\5" + bytes(range(32))
    backup = back_up_company(company({ref: Document(ref, array(data), 7.0)}), tmp_path)
    kept = read_backup(backup)
    file, changed = kept.files["identity-key-15550100001.0.json"]
    assert (json.loads(file), changed) == (buffer(data), 7.0)
    assert kept.rows == {ref: Document(ref, array(data), 7.0)}


def test_rows_of_another_client_are_kept_as_they_are_stored(tmp_path: Path) -> None:
    ref = KeyRef("session", "1.0")
    rows = {ref: Document(ref, {"any": "thing"}, 7.0), CREDS: Document(CREDS, {"a": 1}, 7.0)}
    kept = read_backup(back_up_company(company(rows, "pyaileys"), tmp_path))
    assert (kept.family, kept.rows, kept.files) == ("pyaileys", rows, {})


@pytest.mark.parametrize("company_id", ["../../etc", ".", "..", ".hidden", "a/b", "%" * 200, "ä"])
def test_a_backup_of_a_company_of_any_name_is_in_the_folder(
    company_id: str, tmp_path: Path
) -> None:
    backup = back_up_company(Company(company_id, DOCUMENTS, "baileys", 0.0), tmp_path)
    assert list(tmp_path.iterdir()) == [backup]
    assert not backup.name.startswith(".")
    root = unpacked(backup, tmp_path / "unpacked")
    assert (root / ROWS_FILE).exists()
    assert read_backup(backup).rows == DOCUMENTS


def test_two_backups_of_a_moment_have_two_names(tmp_path: Path) -> None:
    written = {back_up_company(company(DOCUMENTS), tmp_path) for _ in range(5)}
    assert len(written) == 5
    assert set(tmp_path.iterdir()) == written


@pytest.mark.parametrize(
    "rows",
    [b"", b"[]", b"{", b'{"keys": 7}', b'{"keys": [[1]]}', b'{"creds": [1]}', b'{"creds": "x"}'],
)
def test_a_backup_whose_rows_are_damaged_is_refused(
    rows: bytes, folder: Path, tmp_path: Path
) -> None:
    (folder / ROWS_FILE).write_bytes(rows)
    with pytest.raises(FolderError, match="is not what a backup has there") as caught:
        read_backup(back_up_folder(folder))
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_what_is_no_backup_is_refused(folder: Path, tmp_path: Path) -> None:
    backup = back_up_folder(folder)
    backup.write_bytes(backup.read_bytes()[:-9])
    for path in (backup, folder, tmp_path / "missing.tar.gz"):
        with pytest.raises(FolderError, match="cannot be read as a backup"):
            read_backup(path)


def test_what_is_no_backup_is_told_what_it_is(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="No such file"):
        read_backup(tmp_path / "missing")
    with pytest.raises(FolderError, match="Is a directory"):
        read_backup(folder)
    archive = tmp_path / "links.tar.gz"
    with tarfile.open(archive, "w:gz") as links:
        link = tarfile.TarInfo("auth/creds.json")
        link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
        links.addfile(link)
    with pytest.raises(FolderError, match=r"is no \.tar\.gz"):
        read_backup(archive)
