"""Paths, streams and encodings that no command can use: each is told in the command's own words."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.command import COMMAND, Command, Ended
from tests.acceptance.conftest import Sample

FULL = Path("/dev/full")
NO_UTF8 = {
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}


def told(ended: Ended, code: int = 1) -> str:
    """What was said, which is no word of another library's exception."""
    assert ended.code == code, ended.err
    assert ended.err.startswith("error: ")
    assert "unexpected" not in ended.err
    return ended.err


@pytest.fixture
def odd_paths(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    return {
        "a file": tmp_path / "file",
        "a path through a file": tmp_path / "file" / "auth",
        "a symbolic link to itself": tmp_path / "loop",
        "a fifo": tmp_path / "fifo",
        "a name that is too long": tmp_path / ("n" * 300),
        "a device": Path("/dev/null"),
        "a user that is not there": Path("~nobody-of-this-name/auth"),
    }


KINDS = [
    "a file", "a path through a file", "a symbolic link to itself", "a fifo",
    "a name that is too long", "a device", "a user that is not there",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_that_is_no_folder_is_told(
    kind: str, run: Command, odd_paths: dict[str, Path], company_id: str
) -> None:
    path = odd_paths[kind]
    told(run("import", path, "--company", company_id))
    told(run("purge-files", path, "--company", company_id))
    told(run("verify", path, "--all"))


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_a_path_that_cannot_be_written_is_told(
    kind: str, run: Command, odd_paths: dict[str, Path], sample: Sample, company_id: str
) -> None:
    folder, path = sample("v7-small"), odd_paths[kind]
    told(run("import", folder, "--company", company_id, "--backup-dir", path))
    assert run("import", folder, "--company", company_id).code == 0
    told(run("export", path / "auth", "--company", company_id))
    if kind != "a path through a file":
        told(run("migrations", "copy", path))


def test_a_name_in_another_encoding_is_printed_escaped(
    run: Command, sample: Sample, company_id: str
) -> None:
    name = os.fsdecode(b"auth-\xff")
    folder = sample("v7-small", name)
    company = f"{company_id}-ü☃"
    imported = run("import", folder, "--company", company)
    assert imported.code == 0
    assert "auth-\\udcff" in imported.out
    for command in (["verify", folder], ["doctor"], ["pre-keys"], ["lease", "status"]):
        ended = run.anew(*command, "--company", company, PYTHONIOENCODING="ascii")
        assert (ended.code, ended.err) == (0, "")
        assert f"company '{company_id}-\\xfc\\u2603'" in ended.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats"],
        ["stats", "--json"],
        ["migrations", "print"],
        ["verify", "missing", "--all", "--json"],
    ],
)
def test_a_disk_that_is_full_is_told(arguments: list[str], run: Command) -> None:
    with FULL.open("wb") as stdout:
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=run.cwd,
            env=run.environ,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    told(Ended(done.returncode, "", done.stderr))


@pytest.mark.parametrize("kind", ["a full disk", "a reader that has gone"])
def test_words_that_cannot_be_said_change_neither_result_nor_exit_code(
    kind: str, run: Command
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with FULL.open("wb") as full, os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [COMMAND, "lease", "status", "--company", "962302", "--json"],
            cwd=run.cwd,
            env=run.environ | {"SUPABASE_URL": "no URL"},
            stdout=subprocess.PIPE,
            stderr=full if kind == "a full disk" else gone,
            text=True,
            check=False,
        )
    assert (done.returncode, json.loads(done.stdout)["error"]) == (2, "ConfigurationError")


@pytest.mark.parametrize(
    ("streams", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("<&-", 0)]
)
def test_streams_that_are_closed_are_no_failure(streams: str, code: int, run: Command) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" stats --companies 1 {streams}', COMMAND],
        cwd=run.cwd,
        env=run.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")


def test_more_workers_than_companies_cost_nothing(run: Command, tmp_path: Path) -> None:
    (tmp_path / "numbers").mkdir()
    ended = run("import", "numbers", "--each", "--concurrency", "999999999")
    assert (ended.code, ended.err) == (0, "0 of 0 companies imported, 0 failed\n")
