"""What the console does to a progress that is drawn, at a real terminal."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from supabase_auth_state.cli.console import Console
from supabase_auth_state.cli.tables import Page
from supabase_auth_state.cli.waiting import LogLines
from tests.acceptance.command import Screen


class Terminal:
    """A terminal that the standard streams are at; what it is sent is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = ""
        self._screen, terminal = os.openpty()
        self._streams = [os.fdopen(terminal, "w"), os.fdopen(os.dup(terminal))]
        self._changed = threading.Condition()
        monkeypatch.setattr("sys.stdout", self._streams[0])
        monkeypatch.setattr("sys.stderr", self._streams[0])
        monkeypatch.setattr("sys.stdin", self._streams[1])
        monkeypatch.setenv("TERM", "xterm")
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def until(self, words: str) -> None:
        """Wait until these words were sent."""
        with self._changed:
            assert self._changed.wait_for(lambda: words in self.seen, 30), self.seen

    def type(self, keys: str) -> None:
        """Type keys, the one that ends a line among them."""
        os.write(self._screen, keys.encode())

    def close(self) -> None:
        """End it; then `seen` is complete."""
        for stream in self._streams:
            stream.close()
        self._reader.join()
        os.close(self._screen)

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._screen, 65536)
            except OSError:
                # The last stream was closed.
                return
            with self._changed:
                self.seen += part.decode()
                self._changed.notify_all()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Terminal]]:
    """Open a terminal; not before the test, because pytest puts its own streams back then."""
    opened: list[Terminal] = []

    def open_terminal() -> Terminal:
        opened.append(Terminal(monkeypatch))
        return opened[0]

    yield open_terminal
    if opened[0]._reader.is_alive():
        opened[0].close()


def drawing_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if type(each).__name__ == "_RefreshThread"]


def lines_of(shown: Terminal) -> list[str]:
    """The lines that stay, but for empty ones."""
    return list(filter(None, Screen(shown.seen, columns=80).text))


async def test_a_progress_is_not_drawn_while_a_question_waits_for_its_answer(
    terminal: Callable[[], Terminal],
) -> None:
    shown = terminal()
    console = Console(json=False)
    with console.progress("7") as progress:
        progress("writing", 1, 2)
        (drawing,) = drawing_threads()
        asked = asyncio.ensure_future(console.ask("go on with [red]x? [y/N]"))
        await asyncio.to_thread(shown.until, "[y/N] ")
        # What draws the progress ten times a second is told to end before the question is asked.
        await asyncio.to_thread(drawing.join, 30)
        assert drawing_threads() == []
        shown.type("y\n")
        assert await asked == "y"
        progress("writing", 2, 2)
    shown.close()
    before, _, after = shown.seen.partition("go on with [red]x? [y/N] ")
    assert "7: writing" in before
    assert after.startswith("y\r\n")
    assert "2/2" in after
    assert lines_of(shown) == ["go on with [red]x? [y/N] y"]
    assert shown.seen.count("\x1b[?25h") == shown.seen.count("\x1b[?25l") == 2


def test_lines_stand_above_a_progress_and_the_result_goes_where_it_belongs(
    terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = terminal()
    result = io.StringIO()
    monkeypatch.setattr("sys.stdout", result)
    console = Console(json=False)
    log = logging.getLogger(f"{__name__}.lines")
    log.propagate = False
    log.setLevel(logging.DEBUG)
    log.addHandler(LogLines(console, logging.INFO))
    with console.progress("7") as progress:
        progress("writing", 1, 2)
        log.warning("it is slow")
        console.text("a result")
        log.debug("not told")
        console.say("words")
        # Only one progress is drawn at a time: that of all companies.
        with console.progress("8") as inner:
            inner("reading", 1, 2)
    shown.close()
    assert result.getvalue() == "a result\n"
    assert lines_of(shown) == ["WARNING: it is slow", "words"]
    assert "reading" not in shown.seen


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_draw_anew_shows_no_progress(
    term: str, terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = terminal()
    monkeypatch.setenv("TERM", term)
    console = Console(json=False)
    with console.progress("7") as progress:
        progress("writing", 1, 2)
        console.say("words")
    shown.close()
    assert shown.seen == "words\r\n"


class Height(Page):
    """A report that says how high it may be."""

    def __init__(self, word: str) -> None:
        self._word = word

    def __rich_console__(self, console: Any, options: Any) -> Iterator[str]:
        yield f"{self._word} in {options.height} lines"


def test_a_notice_stands_at_the_foot_of_a_full_screen_until_the_next_report(
    terminal: Callable[[], Terminal],
) -> None:
    shown = terminal()
    console = Console(json=False)
    with console.full_screen("Ctrl-C ends it") as view:
        view.show(Height("first"))
        console.say("no answer yet: \x1b[2J[red]x")
        view.show(Height("second"))
    shown.close()
    before, drawn, after = re.split(r"\x1b\[\?1049[hl]", shown.seen)
    assert (before, after) == ("", "")
    # A terminal of which no size is known has 80 columns and 25 lines.
    frames = [Screen(frame, columns=80).text for frame in drawn.split("\x1b[H") if "in 23" in frame]
    foot = "Ctrl-C ends it"
    assert [(frame[0], frame[-1]) for frame in frames] == [
        ("first in 23 lines", foot),
        ("first in 23 lines", "no answer yet: ?[2J[red]x"),
        ("second in 23 lines", foot),
    ]
    assert {len(frame) for frame in frames} == {25}
