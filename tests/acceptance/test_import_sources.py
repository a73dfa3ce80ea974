"""`import` of what is no clean auth folder, by the installed command."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.acceptance.command import Command
from tests.acceptance.conftest import Sample
from tests.folders import set_age
from tests.single_file import single_file, write_single_file
from tests.values import BAILEYS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The single file of useSingleFileAuthState, last changed an hour ago."""
    file = write_single_file(tmp_path / "auth_info.json", single_file(BAILEYS / "v6-small"))
    set_age(file, 3600)
    return file


def test_the_single_file_of_baileys_5_goes_into_the_database(
    run: Command, file: Path, company_id: str
) -> None:
    imported = run("import", file, "--company", company_id, "--json")
    assert (imported.code, imported.json["added"]) == (0, 30)
    assert run("verify", file, "--company", company_id).code == 0
    assert run("doctor", "--company", company_id).code == 0


def test_the_single_file_is_not_purged(run: Command, file: Path, company_id: str) -> None:
    assert run("import", file, "--company", company_id).code == 0
    refused = run("purge-files", file, "--company", company_id, "--yes", "--after-days", "0")
    assert refused.code == 1
    assert "is a file, and an auth folder is a folder" in refused.err
    assert file.exists()


def test_an_sqlite_file_is_named_with_what_to_do(
    run: Command, tmp_path: Path, company_id: str
) -> None:
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
    connection.close()
    refused = run("import", "store.db", "--company", company_id)
    assert refused.code == 1
    assert "SQLite database of whatsmeow" in refused.err
    assert "link the device anew" in refused.err


def test_a_copy_of_torn_creds_is_named_and_its_command_works(
    run: Command, sample: Sample, company_id: str
) -> None:
    folder = sample("v7-small")
    shutil.copy2(folder / "creds.json", folder / "creds.json.bak")
    (folder / "creds.json").write_text("{")
    refused = run("import", folder, "--company", company_id, "--skip-broken")
    assert refused.code == 1
    assert "creds.json.bak is 1 hour old and can be read as whole creds" in refused.err
    os.system(refused.err.partition("To use creds.json.bak: ")[2])  # noqa: S605 - a shell's command
    imported = run("import", folder, "--company", company_id, "--json")
    assert (imported.code, imported.json["added"]) == (0, 28)
    assert imported.json["leftovers"] == ["creds.json.bak", "creds.json.damaged"]


def test_names_that_are_not_utf_8_can_be_printed(
    run: Command, sample: Sample, company_id: str
) -> None:
    folder = sample("v7-small")
    (folder / os.fsdecode(b"creds.json.\xff")).write_text("{")
    for path in folder.iterdir():
        set_age(path, 3600)
    imported = run("import", folder, "--company", company_id)
    assert imported.code == 0
    assert "left out: copies or unfinished writes of Baileys' files: 1 (creds.json.\\udcff)" in (
        imported.out
    )
