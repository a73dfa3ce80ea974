"""Commands for every company: a line for each, one summary, and an exit code."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import LocalStack
from tests.acceptance.command import Command, Ended, Screen
from tests.acceptance.conftest import Sample, command_for
from tests.folders import another_device
from tests.sealing import K1

DAMAGE = {"token": {"type": "Buffer", "data": list(b"[]")}}


@pytest.fixture
def project(fresh_stack: Callable[..., LocalStack]) -> LocalStack:
    """A project without companies."""
    return fresh_stack(migrate=True)


@pytest.fixture
def run(project: LocalStack, tmp_path: Path) -> Command:
    return command_for(project, tmp_path)


@pytest.fixture
def db(project: LocalStack) -> Any:
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        yield connection


def summary(ended: Ended) -> dict[str, Any]:
    found: dict[str, Any] = ended.lines[-1]["summary"]
    return found


def by_company(ended: Ended) -> dict[str, bool]:
    return {line["company_id"]: line["ok"] for line in ended.lines[:-1]}


def test_all_companies_go_into_the_database_and_come_back(
    run: Command, sample: Sample, tmp_path: Path, db: psycopg.Connection[Any]
) -> None:
    for number, name in enumerate("abc"):
        another_device(sample("v7-small", f"numbers/{name}"), number)
    (tmp_path / "numbers" / ".hidden").mkdir()
    imported = run("import", "numbers", "--each")
    assert imported.code == 0
    assert [line.partition(":")[0] for line in sorted(imported.out.splitlines())] == [
        f"company {name!r}" for name in ("a", "b", "c")
    ]
    assert imported.err == "3 of 3 companies imported, 0 failed\n"

    verified = run("verify", "numbers", "--all", "--json")
    assert (verified.code, by_company(verified)) == (0, dict.fromkeys("abc", True))
    examined = run("doctor", "--all", "--json")
    assert (examined.code, by_company(examined)) == (0, dict.fromkeys("abc", True))
    counted = run("pre-keys", "--all")
    assert (counted.code, len(counted.out.splitlines())) == (0, 3)
    exported = run("export", "out", "--all", "--json")
    assert (exported.code, by_company(exported)) == (0, dict.fromkeys("abc", True))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "c"]
    assert run("verify", "out", "--all").code == 0

    db.execute("update whatsapp_auth set created_at = now() - interval '8 days'")
    asked = run("purge-files", "numbers", "--all")
    assert (asked.code, "--yes removes the files" in asked.err) == (0, True)
    purged = run("purge-files", "numbers", "--all", "--yes", "--json")
    assert (purged.code, summary(purged)["done"]) == (0, 3)
    assert sorted(path.name for path in (tmp_path / "numbers").iterdir() if path.is_dir()) == [
        ".hidden"
    ]


def test_one_that_differs_or_fails_does_not_stop_the_others(
    run: Command, sample: Sample, tmp_path: Path, db: psycopg.Connection[Any]
) -> None:
    for number, name in enumerate("abc"):
        another_device(sample("v7-small", f"numbers/{name}"), number)
    (tmp_path / "numbers" / "b" / "creds.json").unlink()
    imported = run("import", "numbers", "--each", "--json")
    assert (imported.code, by_company(imported)) == (1, {"a": True, "b": False, "c": True})
    assert summary(imported) == {
        "companies": 3, "done": 2, "different": 0, "failed": 1, "under_way": [], "not_begun": 0,
    }  # fmt: skip

    # An unknown company is an error of its own; a company that differs is none.
    (tmp_path / "numbers" / "a" / "device-list-15550100001.json").unlink()
    verified = run("verify", "numbers", "--all", "--json")
    assert (verified.code, by_company(verified)) == (1, {"a": False, "b": False, "c": True})
    assert {line.get("error") for line in verified.lines[:-1]} == {None, "CompanyNotFound"}
    assert (summary(verified)["different"], summary(verified)["failed"]) == (1, 1)

    query = "update whatsapp_keys set value = %s where company_id = 'c' and key_id = '__index'"
    db.execute(query, [json.dumps(DAMAGE)])
    examined = run("doctor", "--all")
    assert examined.code == 3
    assert "company 'c' (baileys, 27 keys): damaged" in examined.out
    assert "1 of 2 companies without damage, 1 not as they should be, 0 failed" in examined.err
    assert "--fix repairs" in examined.err
    fixed = run("doctor", "--all", "--fix", "--json")
    assert (fixed.code, summary(fixed)["done"]) == (0, 2)
    # Those that are still needed stay.
    assert run("purge-files", "numbers", "--all", "--yes", "--json").code == 1
    assert (tmp_path / "numbers" / "c").exists()


def test_a_company_whose_name_no_folder_can_have_is_told_and_left_out(
    run: Command, sample: Sample, tmp_path: Path
) -> None:
    # The second is how an export names a folder that it moves aside, the third has 510 bytes.
    names = ["../a/b", "a.backup-20261127T101112Z-1f2e", "ß" * 255]
    for number, name in enumerate(names):
        folder = another_device(sample("v7-small", f"auth-{number}"), number)
        run("import", folder, "--company", name)
    exported = run("export", "out", "--all", "--json")
    assert (exported.code, by_company(exported)) == (1, dict.fromkeys(names, False))
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "a").exists()


def test_no_company_at_all_is_no_failure(run: Command, tmp_path: Path) -> None:
    (tmp_path / "numbers").mkdir()
    for command in (["doctor"], ["pre-keys"], ["export", "out"], ["verify", "numbers"]):
        ended = run(*command, "--all", "--json")
        assert (ended.code, summary(ended)["companies"]) == (0, 0)
    missing = run("verify", "missing", "--all")
    assert (missing.code, "cannot list" in missing.err) == (1, True)


def test_the_folder_of_one_company_is_not_taken_for_a_folder_of_none(
    run: Command, sample: Sample
) -> None:
    folder = sample("v7-small")
    for command in (["import", "--each"], ["verify", "--all"], ["purge-files", "--all"]):
        ended = run(*command, folder)
        assert (ended.code, "is an auth folder itself" in ended.err) == (1, True), command


def test_a_database_that_does_not_answer_stops_all(
    run: Command, project: LocalStack, sample: Sample
) -> None:
    sample("v7-small", "numbers/a")
    sample("v7-small", "numbers/b")
    for command in (["import", "numbers", "--each"], ["verify", "numbers", "--all"]):
        elsewhere = run(*command, "--json", SUPABASE_SCHEMA="elsewhere")
        assert (elsewhere.code, elsewhere.json["error"]) == (4, "SchemaMissing")
        wrong = run(*command, "--json", SUPABASE_URL=project.url.replace("http", "https"))
        assert (wrong.code, wrong.json["error"]) == (2, "ConfigurationError")


def test_a_company_that_is_not_stored_is_the_same_error_in_every_command(
    run: Command, sample: Sample
) -> None:
    folder = sample("v7-small")
    said = set()
    for command in (
        ["verify", folder], ["export", "out"], ["purge-files", folder], ["doctor"],
        ["doctor", "--fix"], ["pre-keys"], ["pre-keys", "--reap"], ["lease", "status"],
        ["lease", "release"], ["history"], ["restore", "--yes"], ["restore", "--version", "1"],
        ["reinstate"], ["settle"], ["delete", "--yes"], ["rekey"],
    ):  # fmt: skip
        ended = run(*command, "--company", "962302-mistyped", "--json", SUPABASE_AUTH_STATE_KEYS=K1)
        assert (ended.code, ended.json["error"]) == (1, "CompanyNotFound"), command
        said.add(ended.json["message"])
    assert len(said) == 1


def test_keep_without_reap_says_that_it_does_nothing(run: Command, sample: Sample) -> None:
    run("import", sample("v7-small"), "--company", "a")
    too_few = run("pre-keys", "--all", "--reap", "--keep", "5", "--json")
    assert (too_few.code, too_few.json["error"]) == (2, "ConfigurationError")
    ended = run("pre-keys", "--company", "a", "--keep", "5", "--json")
    assert (ended.code, ended.json["reaped"]) == (0, 0)
    assert ended.err == "--keep does nothing without --reap: nothing is deleted\n"


# At a terminal


def test_an_import_of_many_has_one_line_a_company_and_shows_how_far_it_has_come(
    run: Command, sample: Sample, tmp_path: Path
) -> None:
    names = [f"number-{number:02}" for number in range(12)]
    for number, name in enumerate(names):
        another_device(sample("v7-small", f"numbers/{name}"), number)
    with run.at_terminal("import", "numbers", "--each", columns=60) as terminal:
        assert terminal.end() == 0
    assert re.search(r"companies: imported .*\d+/12.*\d+ s left", terminal.seen)
    # What a person reads when it is over: the line that was drawn again and again is gone.
    lines = list(filter(None, Screen(terminal.seen, columns=60).text))
    told = [
        f"company {name!r}: 28 values added, 0 replaced, 0 removed, 0 unchanged" for name in names
    ]
    # The terminal breaks each of these lines after 60 columns.
    assert sorted("".join(pair) for pair in zip(lines[:-1:2], lines[1:-1:2], strict=True)) == told
    assert lines[-1] == "12 of 12 companies imported, 0 failed"


def test_ctrl_c_says_what_is_done_and_what_is_not(
    run: Command, project: LocalStack, sample: Sample, tmp_path: Path
) -> None:
    for number in range(9):
        another_device(sample("v7-small", f"numbers/{number}"), number)
    with psycopg.connect(project.db_url) as blocker:
        blocker.execute("set local whatsapp_auth.maintenance = 'on'")
        # The second one waits for this row, and so do those behind it.
        blocker.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value)"
            " values ('1', 'device-list', '15550100001', '{}')"
        )
        arguments = ("import", "numbers", "--each", "--concurrency", "1")
        with run.at_terminal(*arguments) as terminal:
            terminal.until("imported .*1/9")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.end() == 130
        blocker.rollback()
    assert "1 of 9 companies imported, 0 failed" in terminal.seen
    assert re.search(r"under way and not finished: 1 \(1\)", terminal.seen)
    assert "not begun: 7" in terminal.seen
    again = run("import", "numbers", "--each", "--json")
    assert (again.code, summary(again)["done"]) == (0, 9)


@pytest.mark.parametrize(("columns", "lines"), [(40, 10), (200, 50)])
def test_the_dashboard_fits_its_terminal(
    columns: int, lines: int, run: Command, db: psycopg.Connection[Any]
) -> None:
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value)"
        " select 'company-' || n, 'tctoken', '1', '{}' from generate_series(1, 60) n"
    )
    arguments = ("top", "--companies", "60")
    db.execute("select recount_whatsapp_statistics()")
    with run.at_terminal(*arguments, columns=columns, lines=lines) as terminal:
        terminal.until("Ctrl-C ends it")
        terminal.process.send_signal(signal.SIGINT)
        terminal.end()
    drawn = terminal.seen.partition("\x1b[?1049h")[2].partition("\x1b[?1049l")[0]
    screen = Screen(drawn, columns=columns).text
    assert len(screen) == lines
    assert screen[-1].startswith("every 5s; Ctrl-C ends it")
    # Two lines of sums, an empty one, the head, the count of the others, an empty one, this one.
    assert f"… and {60 - (lines - 7)} more" in screen
    with run.at_terminal(*arguments, "--once", columns=columns, lines=lines) as terminal:
        assert terminal.end() == 0
    printed = Screen(terminal.seen, columns=columns).text
    assert len([line for line in printed if line.startswith("company-")]) == 60
