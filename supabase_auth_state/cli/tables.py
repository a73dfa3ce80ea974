"""Reports made of text and tables, for people. `screen` draws them; no I/O here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_MAX_CELL = 60
_LEAST_TEXT = 8
_GAP = 2


@dataclass(frozen=True)
class Table:
    """Rows under a head, in columns; columns of numbers are flush right.

    Attributes:
        head: the names of the columns.
        rows: the cells, of any text.
        spare: the columns that are left out, in this order, where a terminal is too narrow.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    spare: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table as Columns

        from .screen import cell, one_line

        rows = [[printable(each) for each in row] for row in self.rows]
        drawn = Columns(
            box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="table.head"
        )
        shown = self._fitting(rows, options.max_width)
        for number in shown:
            # A number is never cut: what is left of it would be another number.
            numeric = self._is_numeric(number)
            drawn.add_column(
                one_line(console, self.head[number], highlight=False),
                justify="right" if numeric else "left",
                no_wrap=numeric,
                max_width=_MAX_CELL,
            )
        for row in rows:
            drawn.add_row(*(cell(console, row[number]) for number in shown))
        yield drawn

    def _is_numeric(self, number: int) -> bool:
        # The first column names the row, also where names are digits.
        return number > 0 and all(row[number][:1].isdigit() for row in self.rows)

    def _fitting(self, rows: Sequence[Sequence[str]], width: int) -> Sequence[int]:
        """Return the numbers of the columns that fit."""
        from rich.cells import cell_len

        needed = {}
        for number, name in enumerate(self.head):
            longest = max(cell_len(text) for text in (name, *(row[number] for row in rows)))
            most = _MAX_CELL if self._is_numeric(number) else _LEAST_TEXT
            needed[number] = min(longest, most) + _GAP
        for name in self.spare:
            if sum(needed.values()) - _GAP <= width:
                break
            del needed[self.head.index(name)]
        return list(needed)


class Page:
    """A report of parts with an empty line between them; a subclass gives the parts."""

    def parts(self) -> Iterator[str | Table]:
        """Yield texts and tables."""
        raise NotImplementedError

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, part in enumerate(self.parts()):
            if number:
                yield ""
            yield part

    def __str__(self) -> str:
        from .screen import laid_out

        return laid_out(self)


def printable(text: str, *, kept: str = "") -> str:
    """Return a text of which a terminal obeys nothing: an id may be any text.

    Args:
        text: the text.
        kept: control characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in kept else "?" for char in text)


def human_bytes(count: float) -> str:
    """Return a number of bytes as people write it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def human_duration(seconds: float) -> str:
    """Return a length of time as people write it, in one unit."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"
