from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from supabase_auth_state.cli.overview import StorageStats
from supabase_auth_state.cli.screen import Screen, laid_out
from supabase_auth_state.cli.tables import Page, Table, human_bytes, human_duration

COLOURS = {"TERM": "xterm-256color"}
ODD = ["a\x1b[2Jb", "c\nd", "[red]x[/red]", ":smile:", "会社会社会社", "e\u202ef"]


class Report(Page):
    """A line and a table."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def parts(self) -> Iterator[str | Table]:
        yield f"company {self.ids[0]!r} and {self.ids[0]}"
        rows = [(each, "812", "session") for each in self.ids]
        yield Table(("company", "keys", "of a long name"), rows, spare=("of a long name",))


def drawn(page: Page, *, width: int, environ: dict[str, str] | None = None) -> str:
    """What a terminal of this width is sent."""
    with io.StringIO() as file:
        Screen(file, terminal=True, width=width, _environ=environ or COLOURS).print(page)
        return file.getvalue()


def test_numbers_are_flush_right_and_text_is_flush_left() -> None:
    rows = [("session", "9"), ("pre-key", "812")]
    assert laid_out(Table(("type", "keys"), rows)) == (
        "type     keys\nsession     9\npre-key   812"
    )


def test_names_of_digits_are_flush_left() -> None:
    assert laid_out(Table(("company", "keys"), [("962302", "9")])) == (
        "company  keys\n962302      9"
    )


def test_wide_characters_take_two_columns() -> None:
    assert laid_out(Table(("company", "x"), [("会社", "a"), ("b", "c")])) == (
        "company  x\n会社     a\nb        c"
    )


def test_a_cell_cannot_command_the_terminal() -> None:
    assert laid_out(Table(("id",), [("a\x1b[2Jb\nc",)])) == "id\na?[2Jb?c"


def test_a_long_cell_is_cut() -> None:
    assert laid_out(Table(("id",), [("x" * 100,)])) == f"id\n{'x' * 59}…"


def test_a_pipe_gets_long_lines_whole_and_no_colour() -> None:
    lines = laid_out(Report("x" * 50, *ODD)).split("\n")
    assert lines[0] == f"company '{'x' * 50}' and {'x' * 50}"
    assert lines[1] == ""
    assert "\x1b" not in "".join(lines)
    assert len(lines) == 3 + 7


def test_a_terminal_shows_any_id_as_it_is_written_and_obeys_none() -> None:
    shown = drawn(Report(*ODD), width=100, environ={**COLOURS, "NO_COLOR": "1"})
    plain = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "\x1b" not in plain
    for odd in ("a?[2Jb", "c?d", "[red]x[/red]", ":smile:", "会社会社会社", "e?f"):
        assert any(line.startswith(f"{odd}  ") for line in plain.split("\n")), odd


@pytest.mark.parametrize(
    ("environ", "has_colour"),
    [
        (COLOURS, True),
        ({**COLOURS, "NO_COLOR": "1"}, False),
        ({**COLOURS, "NO_COLOR": ""}, True),
        # A pipe that was told to be coloured is a terminal to no test here: `terminal` says it.
        ({**COLOURS, "FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_the_head_of_a_table_has_a_colour_unless_there_are_to_be_none(
    environ: dict[str, str], has_colour: bool
) -> None:
    shown = drawn(Report("a"), width=80, environ=environ)
    assert ("\x1b[1;36mcompany" in shown) is has_colour
    assert "\x1b[1" in shown


def test_a_pipe_has_no_colour_whatever_the_environment_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert "\x1b" not in laid_out(Report("a"))


@pytest.mark.parametrize("width", [12, 20, 30, 40, 80])
def test_a_table_fits_and_no_number_is_cut(width: int) -> None:
    shown = drawn(Report("company-of-a-long-name", "会社" * 6), width=width)
    table = shown.split("\n\n")[1].replace("\x1b[1;36m", "").replace("\x1b[0m", "")
    lines = table.rstrip("\n").split("\n")
    assert len(lines) == 3
    for line in lines:
        assert sum(2 if char in "会社" else 1 for char in line) <= width
    assert all("812" in line for line in lines[1:])
    assert ("of a long name" in lines[0]) is (width >= 40)


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("error: no answer", "\x1b[1;31merror:\x1b[0m no"),
        ("FAIL grants: refused", "\x1b[1;31mFAIL\x1b[0m "),
        ("ok   url: https://a.example", "\x1b[32mok\x1b[0m   url"),
        ("?    outside: not tried", "\x1b[33m?\x1b[0m    out"),
        ("WARNING: it is slow", "\x1b[33mWARNING:\x1b[0m it"),
        ("an error: in the middle", "an error: in"),
    ],
)
def test_what_went_wrong_is_red_and_what_is_right_is_green(line: str, start: str) -> None:
    with io.StringIO() as file:
        Screen(file, terminal=True, width=80, _environ=COLOURS).print(line, soft_wrap=True)
        assert file.getvalue().startswith(start)


def test_a_long_line_is_left_to_the_terminal_so_that_it_can_be_copied() -> None:
    line = "`supabase-auth-state migrations install` " * 9
    with io.StringIO() as file:
        environ = {**COLOURS, "TERM": "dumb"}
        Screen(file, terminal=True, width=40, height=9, _environ=environ).print(
            line, soft_wrap=True
        )
        assert file.getvalue() == f"{line}\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (8_400_000, "8.4 MB"), (7.5e12, "7500.0 GB")],
)
def test_bytes_are_written_as_people_write_them(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (2e5, "2 d")]
)
def test_times_are_written_in_one_unit(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"expired": 9_999, "counted_at": 5.0}, "expired: 9999;"),
        ({"expired": 10_000, "counted_at": 5.0}, "expired: 10000 or more;"),
        ({"expired": 12_345}, "expired: 12345;"),
    ],
)
def test_statistics_say_where_the_database_stopped_counting(
    found: dict[str, Any], words: str
) -> None:
    stats = {
        "time": 20.0, "every_company_counted_at": None, "companies": 1, "rows": 7, "bytes": 700,
        "by_type": {}, "by_company": [], "tables": {}, "database_bytes": 50, **found,
    }  # fmt: skip
    shown = str(StorageStats(stats))
    assert words in shown
    assert ("counted 15 s ago; the first count is under way" in shown) is ("counted_at" in found)
