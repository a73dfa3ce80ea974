from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state import __version__, errors
from supabase_auth_state.cli import exits
from supabase_auth_state.cli.main import build_parser, main
from supabase_auth_state.cli.migrations import migration_files
from supabase_auth_state.errors import (
    AccessDenied,
    CodecError,
    ConfigurationError,
    DuplicateDevice,
    FamilyMismatch,
    FolderError,
    InvalidRequest,
    LeaseHeld,
    LeaseLost,
    NewerState,
    ProjectRestricted,
    SchemaMissing,
    StoreUnavailable,
    SupabaseAuthStateError,
    VerificationFailed,
    WriteRefused,
)

DOCS = Path(__file__).parents[2] / "docs" / "commands.md"
SLOW_TO_IMPORT = {"aiohttp", "asyncio", "httpx", "nacl", "orjson", "postgrest", "supabase"}

FAILURES: list[tuple[SupabaseAuthStateError, int]] = [
    (FolderError("torn", problems=[("a.json", "is empty")]), 1),
    (
        NewerState(
            "7",
            "newer",
            newer=["creds"],
            extra=["pre-key 1"],
            returning=["pre-key 2"],
            going_back=[("creds", "nextPreKeyId 3 to 2")],
            other_device=True,
        ),
        1,
    ),
    (DuplicateDevice("7", ["8", "9"]), 1),
    (FamilyMismatch("7", stored="pyaileys", wanted="baileys"), 1),
    (CodecError("is odd", company_id="7", key_type="session", key_id="1.0"), 1),
    (InvalidRequest("no", status=400), 1),
    (WriteRefused("no", status=409, code="PT409"), 1),
    (ConfigurationError("no key"), 2),
    (VerificationFailed("7", "differs", differences=[("creds", "is missing")]), 3),
    (StoreUnavailable("no answer"), 4),
    (AccessDenied("no", status=401), 4),
    (SchemaMissing("no", status=404), 4),
    (ProjectRestricted("no", status=402), 4),
    (LeaseHeld("7", owner="a bot", expires_at="2026-01-01T00:00:00Z"), 5),
    (LeaseLost("7", 3), 5),
]


def commands() -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(subparsers.choices)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make `verify` fail: `fail(error)`."""

    def arrange(error: BaseException) -> None:
        async def verify_folder(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr("supabase_auth_state.transfer.verify.verify_folder", verify_folder)

    return arrange


VERIFY = ["verify", "folder", "--company", "7"]


@pytest.mark.parametrize("name", commands())
def test_every_command_and_every_option_is_explained(name: str) -> None:
    parser = commands()[name]
    assert parser.description
    assert all(action.help for action in parser._actions)


@pytest.mark.parametrize("name", commands())
def test_every_command_and_every_option_is_in_the_docs(name: str) -> None:
    chapters = re.split(r"^## ", DOCS.read_text(), flags=re.MULTILINE)
    (chapter,) = (chapter for chapter in chapters if chapter.startswith(f"{name}\n"))
    assert f"supabase-auth-state {name}" in chapter
    for action in commands()[name]._actions:
        for option in action.option_strings[-1:]:
            assert option in ("--help", "--json", "--verbose") or option in chapter, option


def test_the_docs_have_the_exit_codes_of_the_help() -> None:
    in_help = re.findall(r"^  ([0-9])    (.+)$", exits.TABLE, flags=re.MULTILINE)
    in_docs = re.findall(r"^\| ([0-9]) \| (.+) \|$", DOCS.read_text(), flags=re.MULTILINE)
    assert [(code, words.replace("`", "")) for code, words in in_docs] == in_help
    assert [int(code) for code, _ in in_help] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("args", [["--help"], ["import", "--help"], ["--version"], ["nonsense"]])
def test_help_imports_nothing_that_takes_time(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "supabase_auth_state", *args],
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "argparse" in imported
    assert not imported & SLOW_TO_IMPORT


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"supabase-auth-state {__version__}\n"


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["frobnicate"],
        ["import", "folder"],
        ["import", "folder", "--company", "7", "--each"],
        ["import", "folder", "--company", ""],
        ["import", "folder", "--company", "a\nb"],
        ["import", "folder", "--each", "--concurrency", "0"],
        ["verify", "folder"],
        ["restore", "backup.tar.gz"],
        ["delete"],
        ["purge-files", "folder", "--company", "7", "--after-days", "-1"],
        ["purge-files", "folder", "--company", "7", "--after-days", "nan"],
        ["cleanup", "--every", "6h", "--schedule-in-database"],
        ["migrations", "apply"],
        ["stats", "--key", "secret"],
    ],
)
def test_wrong_usage_ends_with_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize(
    ("error", "code"), FAILURES, ids=[type(error).__name__ for error, _ in FAILURES]
)
def test_a_failure_is_a_line_and_an_exit_code(
    error: SupabaseAuthStateError, code: int, fail: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(error)
    assert main(VERIFY) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {error}\n")
    assert main([*VERIFY, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["error"] == type(error).__name__
    assert found["message"] == str(error)


def test_every_error_of_ours_has_an_exit_code_on_purpose() -> None:
    tested = {type(error) for error, _ in FAILURES}
    elsewhere = {
        errors.SupabaseAuthStateError, errors.StoreError, errors.LeaseError, errors.PoolError,
        errors.PoolClosed, errors.SessionBackoff, errors.CompanyQuarantined, errors.UnreadKeyError,
        errors.UnfinishedImport, errors.CompanyNotFound, errors.StateRolledBack,
    }  # fmt: skip
    all_of_them = {
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, SupabaseAuthStateError)
    }
    assert all_of_them == tested | elsewhere


def test_what_a_failure_is_about_is_there_for_programs(
    fail: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    details = []
    for error, _ in FAILURES:
        fail(error)
        main([*VERIFY, "--json"])
        found = json.loads(capsys.readouterr().out)
        details.append({name: found[name] for name in found if name not in ("ok", "message")})
    assert details == [
        {"error": "FolderError", "problems": [{"file": "a.json", "reason": "is empty"}]},
        {
            "error": "NewerState", "company_id": "7", "newer": ["creds"], "extra": ["pre-key 1"],
            "returning": ["pre-key 2"], "other_device": True,
            "going_back": [{"name": "creds", "change": "nextPreKeyId 3 to 2"}],
        },
        {"error": "DuplicateDevice", "company_id": "7", "companies": ["8", "9"]},
        {"error": "FamilyMismatch", "company_id": "7"},
        {"error": "CodecError", "company_id": "7", "key_type": "session", "key_id": "1.0"},
        {"error": "InvalidRequest", "status": 400},
        {"error": "WriteRefused", "status": 409, "code": "PT409"},
        {"error": "ConfigurationError"},
        {
            "error": "VerificationFailed", "company_id": "7",
            "differences": [{"name": "creds", "reason": "is missing"}],
        },
        {"error": "StoreUnavailable"},
        {"error": "AccessDenied", "status": 401},
        {"error": "SchemaMissing", "status": 404},
        {"error": "ProjectRestricted", "status": 402},
        {
            "error": "LeaseHeld", "company_id": "7", "owner": "a bot",
            "expires_at": "2026-01-01T00:00:00Z",
        },
        {"error": "LeaseLost", "company_id": "7"},
    ]  # fmt: skip


def test_a_mistake_of_ours_is_a_line_without_its_text(
    fail: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(KeyError("c2VjcmV0"))
    assert main(VERIFY) == 1
    assert capsys.readouterr().err == "error: unexpected KeyError; -vv shows where\n"
    assert main([*VERIFY, "-vv"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_verbosity_may_stand_before_or_behind_the_command(
    fail: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(FolderError("torn"))
    for args in (["-vv", *VERIFY], [*VERIFY, "-vv"]):
        assert main(args) == 1
        assert "Traceback" in capsys.readouterr().err
    assert main(["-v", *VERIFY]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_is_a_word(fail: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fail(KeyboardInterrupt())
    assert main(VERIFY) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_missing_setting_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["stats"]) == 2
    assert "SUPABASE_URL is not set" in capsys.readouterr().err


# Migrations


def test_migrations_are_listed_and_printed_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    files = migration_files()
    assert [path.name for path in files] == sorted(path.name for path in files)
    assert main(["migrations"]) == 0
    assert capsys.readouterr().out.splitlines() == [path.name for path in files]
    assert main(["migrations", "print"]) == 0
    assert capsys.readouterr().out == "".join(path.read_text() + "\n" for path in files)
    assert main(["migrations", "print", files[1].stem]) == 0
    assert capsys.readouterr().out == files[1].read_text() + "\n"
    assert main(["migrations", "print", "nothing"]) == 1


def test_migrations_are_copied_and_what_is_there_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["migrations", "copy"]) == 0
    copies = sorted((tmp_path / "supabase" / "migrations").iterdir())
    assert [copy.read_bytes() for copy in copies] == [
        path.read_bytes() for path in migration_files()
    ]
    capsys.readouterr()
    assert main(["migrations", "copy"]) == 0
    assert capsys.readouterr().out == ""

    copies[0].unlink()
    copies[1].write_text("-- mine")
    assert main(["migrations", "copy"]) == 1
    assert copies[1].name in capsys.readouterr().err
    assert copies[1].read_text() == "-- mine"
    assert not copies[0].exists()


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Take away the handlers that `main` adds to the library's logger."""
    import logging

    log = logging.getLogger("supabase_auth_state")
    handlers, level = list(log.handlers), log.level
    yield
    log.handlers[:] = handlers
    log.setLevel(level)
