"""Tables for people at a terminal. No I/O."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_MAX_CELL = 60


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


def human_duration(seconds: float) -> str:
    """Return a length of time as people write it, in one unit."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def cut(line: str, width: int) -> str:
    """Return a line, without what does not fit into so many columns of a terminal."""
    if _width(line) <= width:
        return line
    kept, used = [], 1
    for char in line:
        used += _width(char)
        if used > width:
            break
        kept.append(char)
    return f"{''.join(kept)}…" if width > 0 else ""


def _fitting(cell: str) -> str:
    # An id may be any text, and a terminal obeys control characters.
    shown = "".join(char if char.isprintable() else "?" for char in cell)
    return shown if len(shown) <= _MAX_CELL else f"{shown[: _MAX_CELL - 1]}…"


def _padded(cell: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
