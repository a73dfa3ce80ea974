from __future__ import annotations

import pytest

from supabase_auth_state.cli.tables import human_bytes, table


def test_numbers_are_flush_right_and_text_is_flush_left() -> None:
    assert table(("type", "keys"), [("session", "9"), ("pre-key", "812")]) == (
        "type     keys\nsession     9\npre-key   812"
    )


def test_wide_characters_take_two_columns() -> None:
    assert table(("company", "x"), [("会社", "a"), ("b", "c")]) == (
        "company  x\n会社     a\nb        c"
    )


def test_a_cell_cannot_command_the_terminal() -> None:
    assert table(("id",), [("a\x1b[2Jb\nc",)]) == "id\na?[2Jb?c"


def test_a_long_cell_is_cut() -> None:
    assert table(("id",), [("x" * 100,)]) == f"id\n{'x' * 59}…"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (8_400_000, "8.4 MB"), (7.5e12, "7500.0 GB")],
)
def test_bytes_are_written_as_people_write_them(count: float, text: str) -> None:
    assert human_bytes(count) == text
