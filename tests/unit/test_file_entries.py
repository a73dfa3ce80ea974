"""What an entry of an auth folder is, by its name."""

from __future__ import annotations

import pytest

from supabase_auth_state.files.entries import Entry, entry_of_file, entry_of_folder, is_creds_copy

CREDS_COPIES = [
    "creds.json.bak", "creds.json.backup", "creds.json.backup.1712345678", "creds.json.tmp",
    "creds.json.temp", "creds.json.old", "creds.json~", "creds.json.1", "creds.json.3735928559",
    "creds.json.damaged", ".creds.json.tmp", ".creds.json.Xa3f9Q", "#creds.json#",
    ".syncthing.creds.json.tmp", "creds.json.sb-1f2e-abc", "creds.backup.json",
    "creds-backup.json", "creds_old.json", "creds (1).json", "creds - Copy.json",
    "Copy of creds.json", "backup-creds.json", "creds_20261127T120000Z.json",
]  # fmt: skip

KEY_LEFTOVERS = [
    "session-15550100001.0.json.tmp", "session-15550100001.0.json~",
    ".session-15550100001.0.json.Xa3f9Q", ".syncthing.pre-key-3.json.tmp",
    "pre-key-3.json.3735928559", "app-state-sync-key-++++________.json.bak",
    # What this library itself leaves when it is killed while it writes.
    ".0123abcd-0.tmp",
]  # fmt: skip

OTHERS = [
    ".DS_Store", "Thumbs.db", "desktop.ini", ".dropbox", ".stignore", ".nfs000000000c0ffee",
    "._session-15550100001.0.json", "._creds.json", ".creds.json.swp", "~$creds.json",
    ".~lock.creds.json#", ".~lock.notes.ods#", "notes.txt", "notes.txt~", "baileys_store.db",
    "qr.png", "x.sb-1f2e-abc", "session-x.json.tmp",
]  # fmt: skip

UNKNOWN = [
    "notes.json", "package.json", "oauth_creds.json", "pre-key-3 (1).json",
    "creds.sync-conflict-20261127-120000-ABCDEFG.json",
    "creds (conflicted copy 2026-11-27).json",
    "session-15550100001.0.sync-conflict-20261127-120000-ABCDEFG.json",
]  # fmt: skip


@pytest.mark.parametrize("name", CREDS_COPIES)
def test_copies_of_creds_are_leftovers(name: str) -> None:
    assert entry_of_file(name) is Entry.LEFTOVER
    assert is_creds_copy(name)


@pytest.mark.parametrize("name", KEY_LEFTOVERS)
def test_unfinished_writes_of_keys_are_leftovers(name: str) -> None:
    assert entry_of_file(name) is Entry.LEFTOVER
    assert not is_creds_copy(name)


@pytest.mark.parametrize("name", OTHERS)
def test_what_other_programs_leave_holds_no_value(name: str) -> None:
    assert entry_of_file(name) is Entry.OTHER
    assert not is_creds_copy(name)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_may_be_a_value_is_unknown(name: str) -> None:
    assert entry_of_file(name) is Entry.UNKNOWN
    assert not is_creds_copy(name)


@pytest.mark.parametrize("name", ["creds.json", "pre-key-3.json", "tctoken-__index.json"])
def test_the_files_of_baileys_are_values(name: str) -> None:
    assert entry_of_file(name) is Entry.VALUE
    assert not is_creds_copy(name)


@pytest.mark.parametrize(
    "name",
    ["lost+found", "@eaDir", "__MACOSX", ".stfolder", ".stversions", ".git", "$RECYCLE.BIN",
     "#recycle", "media", "Media", "downloads"],
)  # fmt: skip
def test_folders_of_other_programs_and_of_media_are_known(name: str) -> None:
    assert entry_of_folder(name) is Entry.OTHER


@pytest.mark.parametrize("name", ["keys", "backup", "old", "962302", "session-1.0.json"])
def test_any_other_folder_is_unknown(name: str) -> None:
    assert entry_of_folder(name) is Entry.UNKNOWN
