from __future__ import annotations

import io

from supabase_auth_state.transfer.progress import ProgressBar


class Terminal(io.StringIO):
    """A stream somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_that_is_gone_at_the_end() -> None:
    screen = Terminal()
    with ProgressBar(screen, "962302") as progress:
        progress("reading", 0, 0)
        progress("writing", 100, 200)
        progress("writing", 200, 200)
    lines = [line.removesuffix("\x1b[K") for line in screen.getvalue().split("\r")]
    assert lines == [
        "",
        "962302: reading …",
        "962302: writing [###############...............] 100/200",
        "962302: writing [##############################] 200/200",
        "",
    ]


def test_a_bar_is_not_drawn_more_often_than_anybody_can_see() -> None:
    screen = Terminal()
    with ProgressBar(screen, "962302") as progress:
        for done in range(10_000):
            progress("writing", done, 10_000)
    assert screen.getvalue().count("\r") < 1000


def test_where_nobody_looks_nothing_is_drawn() -> None:
    stream = io.StringIO()
    with ProgressBar(stream, "962302") as progress:
        progress("writing", 1, 1)
    assert stream.getvalue() == ""
