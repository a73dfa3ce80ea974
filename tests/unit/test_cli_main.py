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
from supabase_auth_state.errors import (
    AccessDenied,
    CodecError,
    CompanyNotFound,
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
    StateRolledBack,
    StoreUnavailable,
    SupabaseAuthStateError,
    UnfinishedImport,
    VerificationFailed,
    WriteRefused,
)
from supabase_auth_state.transfer.history import History, Version

DOCS = Path(__file__).parents[2] / "docs" / "commands.md"
SLOW_TO_IMPORT = {"aiohttp", "asyncio", "httpx", "nacl", "orjson", "postgrest", "rich", "supabase"}

VERSION = Version(1, "company", "delete", "baileys", True, 1, 1, 0.0, 0.0, None, True)

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
    (StateRolledBack("7"), 1),
    (CompanyNotFound("7"), 1),
    (UnfinishedImport("7"), 1),
    (ConfigurationError("no key"), 2),
    (VerificationFailed("7", "differs", differences=[("creds", "is missing")]), 3),
    (StoreUnavailable("no answer"), 4),
    (AccessDenied("no", status=401), 4),
    (SchemaMissing("no", status=404), 4),
    (ProjectRestricted("no", status=402), 4),
    (LeaseHeld("7", owner="a bot", expires_at="2026-01-01T00:00:00Z"), 5),
    (LeaseLost("7", 3), 5),
    (errors.CompanyMoved("7", "moved to https://b.example"), 5),
]


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: found
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, found in action.choices.items()
    }


def commands() -> dict[str, argparse.ArgumentParser]:
    return subcommands(build_parser())


def parsers(name: str) -> list[argparse.ArgumentParser]:
    """The parser of a command, and those of its subcommands."""
    command = commands()[name]
    return [command, *subcommands(command).values()]


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
    for parser in parsers(name):
        assert parser.description
        assert all(action.help for action in parser._actions)


@pytest.mark.parametrize("name", commands())
def test_every_command_and_every_option_is_in_the_docs(name: str) -> None:
    chapters = re.split(r"^## ", DOCS.read_text(), flags=re.MULTILINE)
    (chapter,) = (chapter for chapter in chapters if chapter.startswith(f"{name}\n"))
    assert f"supabase-auth-state {name}" in chapter
    for action in (action for parser in parsers(name) for action in parser._actions):
        for option in action.option_strings[-1:]:
            assert option in ("--help", "--json", "--verbose") or option in chapter, option
    for subcommand in subcommands(commands()[name]):
        assert f"supabase-auth-state {name} {subcommand}" in chapter


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


def test_what_is_printed_into_a_pipe_without_a_table_imports_no_rich() -> None:
    script = """
import sys
from supabase_auth_state.cli.console import Console
console = Console(json=False)
console.text("result")
console.say("words")
with console.progress("7") as progress:
    progress("writing", 1, 2)
assert "rich" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("result\n", "words\n")


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
        ["verify", "folder", "--company", "7", "--all"],
        ["lease"],
        ["lease", "status"],
        ["lease", "release", "--company", ""],
        ["pre-keys", "--all", "--keep", "9" * 10],
        ["restore", "backup.tar.gz"],
        ["delete"],
        ["purge-files", "folder", "--company", "7", "--after-days", "-1"],
        ["purge-files", "folder", "--company", "7", "--after-days", "nan"],
        ["purge-files", "folder", "--company", "7", "--after-days", "1e9"],
        ["cleanup", "--every", "6h", "--schedule-in-database"],
        ["migrations", "apply"],
        ["migrations", "copy", "--schema", "a-b"],
        ["stats", "--key", "secret"],
    ],
)
def test_wrong_usage_ends_with_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith("usage: ")
    assert said.out == ""

    with pytest.raises(SystemExit) as caught:
        main([*args, "--json"])
    assert caught.value.code == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["error"]) == (False, "UsageError")
    assert found["message"]


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
        errors.SealedValueError, errors.JournalError, errors.VersionNotRestorable,
        errors.CompanyMoved,
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
        {"error": "StateRolledBack", "company_id": "7", "status": 409, "code": "PT409"},
        {"error": "CompanyNotFound", "company_id": "7"},
        {"error": "UnfinishedImport", "company_id": "7"},
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
        {
            "error": "CompanyMoved", "company_id": "7", "owner": "moved to https://b.example",
            "project": "https://b.example",
        },
    ]  # fmt: skip


def test_a_mistake_of_ours_is_a_line_without_its_text(
    fail: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(KeyError("c2VjcmV0"))
    assert main(VERIFY) == 1
    assert capsys.readouterr().err == "error: unexpected KeyError; -vv shows where\n"
    assert main([*VERIFY, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["message"]) == (False, "unexpected KeyError; -vv shows where")
    assert main([*VERIFY, "-vv"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "in verify_folder" in said
    assert "c2VjcmV0" not in said


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


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Take away the handlers that `main` adds to the library's logger."""
    import logging

    log = logging.getLogger("supabase_auth_state")
    handlers, level = list(log.handlers), log.level
    yield
    log.handlers[:] = handlers
    log.setLevel(level)


@pytest.mark.parametrize("command", ["delete", "restore"])
def test_a_question_that_is_answered_with_no_is_told_as_json_too(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def no(*_: Any, **__: Any) -> bool:
        return False

    async def history(*_: Any, **__: Any) -> History:
        return History("7", None, (VERSION,))

    monkeypatch.setenv("SUPABASE_URL", "http://localhost:1")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_x")
    monkeypatch.setattr(f"supabase_auth_state.cli.{command}._confirmed", no)
    monkeypatch.setattr("supabase_auth_state.transfer.history.read_history", history)
    assert main([command, "--company", "7", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["error"]) == (False, "NotConfirmed")
