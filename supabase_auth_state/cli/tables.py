"""Tables for people at a terminal. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_LARGEST_CELL = 60


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under a head, in columns; columns of numbers are flush right."""
    cells = [[_fitting(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    numeric = [all(row[i][:1].isdigit() for row in cells[1:]) for i in range(len(head))]
    lines = (
        "  ".join(
            _padded(cell, width, right=right)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def human_bytes(count: float) -> str:
    """Return a number of bytes as people write it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def _fitting(cell: str) -> str:
    # Ids are anybody's text; a terminal obeys control characters.
    shown = "".join(char if char.isprintable() else "?" for char in cell)
    return shown if len(shown) <= _LARGEST_CELL else f"{shown[: _LARGEST_CELL - 1]}…"


def _padded(cell: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
