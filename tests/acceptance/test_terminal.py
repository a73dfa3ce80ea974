"""What commands show at a terminal: colour, tables and progress, and none of it elsewhere."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import LocalStack
from tests.acceptance.command import Command, Screen
from tests.acceptance.conftest import Sample, command_for

COLOUR = re.compile(r"\x1b\[(?:\d+;)*[349][0-7](?:;\d+)*m")
IDS = ["[red]x", "会社" * 20, "a\x1b[2Jb", "plain"]


@pytest.fixture(scope="module")
def project(local_stack: LocalStack) -> Iterator[LocalStack]:
    """A project with four companies of odd names, for this module alone."""
    with local_stack.fresh(migrate=True) as stack:
        with psycopg.connect(stack.db_url, autocommit=True) as db:
            for name in IDS:
                db.execute(
                    "insert into whatsapp_keys (company_id, key_type, key_id, value)"
                    " select %s, 'tctoken', n::text, '{}' from generate_series(1, 1234) n",
                    [name],
                )
            db.execute("select recount_whatsapp_statistics()")
        yield stack


@pytest.fixture
def run(project: LocalStack, tmp_path: Path) -> Command:
    return command_for(project, tmp_path)


def shown(run: Command, *args: str, columns: int = 80, **environ: str) -> tuple[str, list[str]]:
    """Give what a terminal was sent, and the lines that it shows at the end."""
    with run.at_terminal(*args, columns=columns, **environ) as terminal:
        terminal.end()
    return terminal.seen, Screen(terminal.seen, columns=columns).text


def test_a_terminal_has_a_table_in_colour_and_any_id_is_shown_as_it_is(run: Command) -> None:
    sent, lines = shown(run, "stats", TERM="xterm-256color")
    assert "\x1b[1;36mcompany" in sent
    (head,) = (line for line in lines if line.startswith("company  "))
    rows = lines[lines.index(head) + 1 :]
    for name in ("[red]x", "plain", "a?[2Jb", "会社" * 10):
        (row,) = (line for line in rows if line.startswith(name))
        assert " 1234 " in row


@pytest.mark.parametrize(
    ("environ", "columns"),
    [
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, 80),
        ({"TERM": "dumb"}, 40),
    ],
)
def test_no_colour_where_none_is_wanted(
    environ: dict[str, str], columns: int, run: Command
) -> None:
    sent, lines = shown(run, "stats", columns=columns, **environ)
    assert not COLOUR.search(sent)
    assert any(line.startswith("[red]x") for line in lines)
    if environ["TERM"] == "dumb":
        assert "\x1b" not in sent
        assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("command", [("stats",), ("top", "--once")])
def test_a_line_of_a_table_is_a_line_of_the_terminal_and_no_number_is_cut(
    command: tuple[str, ...], run: Command
) -> None:
    sent, lines = shown(run, *command, columns=40, TERM="xterm-256color")
    printed = re.sub(r"\x1b\[[\d;]*m", "", sent.rpartition("\x1b[2K")[2]).split("\r\n")
    # The terminal has broken no line.
    assert [line.rstrip() for line in printed] == lines[-len(printed) :]
    rows = [line for line in printed if line.startswith(("[red]x", "会社", "plain"))]
    assert len(rows) == 3
    assert all(" 1234 " in row for row in rows)


def test_a_pipe_gets_plain_text_whatever_the_environment_asks_for(run: Command) -> None:
    wanted = {"TERM": "xterm-256color", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"}
    for command in ("stats", "top", "capacity", "doctor"):
        ended = run(command, **wanted)
        assert ended.code in {0, 3}
        assert "\x1b" not in ended.out + ended.err
        assert not any(line.endswith(" ") for line in ended.out.splitlines())
    row = next(line for line in run("stats").out.splitlines() if line.startswith("a?[2Jb"))
    assert row.split()[1] == "1234"


def test_a_failure_is_red_at_a_terminal_and_plain_in_a_pipe(run: Command) -> None:
    wrong = {"SUPABASE_SERVICE_ROLE_KEY": "eyJ.wrong.key", "TERM": "xterm-256color"}
    sent, _ = shown(run, "stats", **wrong)
    assert "\x1b[1;31merror:\x1b[0m " in sent
    assert run("stats", **wrong).err.startswith("error: ")


def test_the_doctor_is_green_where_all_is_well(run: Command) -> None:
    sent, lines = shown(run, "doctor", TERM="xterm-256color")
    assert "\x1b[32mok\x1b[0m   migrations:" in sent
    assert any(line.startswith("ok   migrations:") for line in lines)


@pytest.mark.parametrize("stopped", ["by a signal", "by a key"])
def test_top_leaves_the_terminal_as_it_was(stopped: str, run: Command, project: LocalStack) -> None:
    with run.at_terminal("top", "--every", "1s", columns=60, lines=12) as terminal:
        terminal.until("(?s)ends it.*ends it")
        if stopped == "by a signal":
            terminal.process.send_signal(signal.SIGINT)
        else:
            # The second signal ends it at once, whatever it is doing.
            os.kill(terminal.process.pid, signal.SIGINT)
            os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == 130
    before, _, rest = terminal.seen.partition("\x1b[?1049h")
    drawn, _, after = rest.rpartition("\x1b[?1049l")
    assert "?1049" not in before + after
    # The cursor is back, also that of the progress before.
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")
    (said,) = filter(None, Screen(before + after, columns=60).text)
    assert said.startswith("interrupted")
    # It is drawn over what was there: nothing is cleared, so nothing flickers.
    assert "\x1b[2J" not in drawn
    assert "\x1b[K" not in drawn
    assert "[red]x" in drawn


def test_a_notice_and_the_log_do_not_break_a_progress(
    run: Command, project: LocalStack, sample: Sample, db: psycopg.Connection[Any]
) -> None:
    folder = sample("v7-small")
    with psycopg.connect(project.db_url) as blocker:
        blocker.execute("set local whatsapp_auth.maintenance = 'on'")
        blocker.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value)"
            " values ('in-the-way', 'device-list', '15550100001', '{}')"
        )
        with run.at_terminal("import", folder, "--company", "in-the-way", "-v") as terminal:
            terminal.until(r"no answer yet: .*Waiting until \d\d:\d\d:\d\d")
            # The progress is drawn below it.
            terminal.until(r"(?s)Waiting until .*in-the-way: ")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.end() == 130
        blocker.rollback()
    lines = list(filter(None, Screen(terminal.seen, columns=80).text))
    assert not any(line.startswith("in-the-way: ") for line in lines)
    assert any(line.startswith("no answer yet: ") for line in lines)
    assert terminal.seen.count("\x1b[?25h") == terminal.seen.count("\x1b[?25l")
