"""What rich draws: a terminal's lines, progress and full screen, and the layout for a pipe.

Only what draws imports this module, because rich takes time to import.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.highlighter import RegexHighlighter
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text
from rich.theme import Theme

from .tables import Page, Table, human_duration, printable

_THEME = Theme(
    {
        "table.head": "bold cyan",
        "word.wrong": "bold red",
        "word.warning": "yellow",
        "word.right": "green",
        "word.command": "bold",
        "word.id": "cyan",
        "bar.pulse": "cyan",
    }
)
_NO_LIMIT = 1_000_000
_BAR = 30
# What is left of a task is estimated by all of it: one company may take minutes.
_WHOLE_TASK = 86_400.0


class _Words(RegexHighlighter):
    """Colours the words that say how something went, and what is to be typed."""

    base_style = "word."
    highlights = [  # noqa: RUF012 - as rich declares it
        r"(?m)^(?P<wrong>error:|ERROR:|CRITICAL:|FAIL\b)",
        r"(?m)^(?P<warning>warning:|WARNING:|\?(?= {3}))",
        r"(?m)^(?P<right>ok\b)",
        r"(?P<command>`[^`\n]+`)",
        r"company (?P<id>'[^'\n]*')",
    ]


class _States(RegexHighlighter):
    """Colours a cell that is one of these words."""

    base_style = "word."
    highlights = [  # noqa: RUF012 - as rich declares it
        r"^(?P<wrong>firing|set back)$",
        r"^(?P<warning>pending|unknown)$",
        r"^(?P<right>ok|delivered)$",
    ]


class Screen(Console):
    """A terminal, or the layout for a pipe. It obeys ``NO_COLOR``, ``TERM`` and its width.

    No text that it is given commands the terminal, and none is markup.

    Args:
        file: where it writes.
        terminal: whether that is a terminal.
        options: what else rich's console takes.
    """

    def __init__(self, file: TextIO, *, terminal: bool, **options: Any) -> None:
        super().__init__(
            file=file,
            force_terminal=terminal,
            markup=False,
            emoji=False,
            highlighter=_Words(),
            theme=_THEME,
            **options,
        )
        if self.is_dumb_terminal:
            # rich asks such a terminal for no size.
            with suppress(OSError):
                columns, lines = os.get_terminal_size(file.fileno())
                # A terminal of which nothing is known says 0.
                self.size = (columns or self.width, lines or self.height)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text of which the terminal obeys nothing."""
        return super().render_str(printable(text, kept="\n\t"), **options)


def laid_out(page: Page | Table) -> str:
    """Return a report as plain text, as wide as it has to be."""
    with io.StringIO() as file:
        Screen(file, terminal=False, width=_NO_LIMIT, color_system=None).print(page)
        lines = file.getvalue().split("\n")
    return "\n".join(line.rstrip() for line in lines).rstrip("\n")


def cell(console: Console, text: str) -> Text:
    """Return a cell of a table, on one line."""
    return one_line(console, text, highlight=True, highlighter=_States())


def one_line(console: Console, text: str, **options: Any) -> Text:
    """Return a text of which what does not fit on one line is cut."""
    found = console.render_str(text, overflow="ellipsis", **options)
    found.no_wrap = True
    return found


class Bar:
    """A line that shows how far a command has come; it is gone at the end.

    It is a `transfer.progress.Progress`.

    Args:
        screen: where to draw it.
        label: the text before every step.
    """

    def __init__(self, screen: Screen, label: str) -> None:
        self._label = label
        one_line = Column(no_wrap=True, overflow="ellipsis")
        self.display = Progress(
            TextColumn("{task.description}", markup=False, table_column=one_line),
            BarColumn(bar_width=_BAR),
            _Count(table_column=Column(no_wrap=True)),
            _TimeLeft(table_column=Column(no_wrap=True)),
            console=screen,
            transient=True,
            # What is printed meanwhile is given to `screen` by the one who prints.
            redirect_stdout=False,
            redirect_stderr=False,
            speed_estimate_period=_WHOLE_TASK,
        )
        self._step = ""
        self._task = self.display.add_task(printable(label), total=None)

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show the step, and how much of it is done; a total of 0 is not known."""
        is_new = step != self._step
        if is_new:
            self._step = step
            self.display.reset(self._task, description=printable(f"{self._label}: {step}"))
        # Each step is seen, and its end, also of one that takes no time.
        self.display.update(
            self._task, completed=done, total=total or None, refresh=is_new or done == total > 0
        )


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.total is not None:
            return Text(f"{task.completed:.0f}/{task.total:.0f}", style="progress.percentage")
        return Text(f"{task.completed:.0f}" if task.completed else "")


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = task.time_remaining if task.total is not None else None
        return Text("" if left is None else f"{human_duration(left)} left", style="cyan")


class View:
    """A report on the whole screen, drawn anew without flicker; what was there before comes back.

    Args:
        screen: where to draw it.
        foot: the last line.
    """

    def __init__(self, screen: Screen, foot: str) -> None:
        self.note = ""
        self._foot = foot
        self._page: Page | None = None
        self.display = Live(
            get_renderable=lambda: self,
            console=screen,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def show(self, page: Page) -> None:
        """Show a report instead of the one before, and no note."""
        self._page, self.note = page, ""
        self.display.refresh()

    def say(self, words: str) -> None:
        """Show a note until the next report."""
        self.note = words
        self.display.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or options.max_height
        if self._page is not None:
            room = options.update_height(max(height - 2, 1))
            lines = console.render_lines(self._page, room, pad=False)
            for line in lines[: max(height - 2, 1)]:
                yield from line
                yield Segment.line()
        yield Segment.line()
        yield one_line(console, printable(self.note or self._foot))
