"""How far a command has come, shown at a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Self

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many values are done, and of how many (0: not known)."""

_WIDTH = 30
_PAUSE = 0.05


def silent(step: str, done: int, total: int) -> None:
    """Ignore the progress."""


class ProgressBar:
    """One line that is drawn again and again and removed at the end.

    Nothing is drawn unless the stream is a terminal.

    Use it as a `Progress`, inside ``with``.

    Args:
        stream: where to draw.
        label: the text before every step.
    """

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream = stream
        self._label = label
        self._visible = stream.isatty()
        self._drawn = (float("-inf"), "")

    def __call__(self, step: str, done: int, total: int) -> None:
        """Draw the line, unless it was drawn a moment ago."""
        drawn_at, drawn_step = self._drawn
        if not self._visible:
            return
        if step == drawn_step and done < total and time.monotonic() - drawn_at < _PAUSE:
            return
        self._drawn = (time.monotonic(), step)
        self._draw(f"{self._label}: {step}{_bar(done, total) if total else ' …'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._visible:
            self._draw("")

    def _draw(self, line: str) -> None:
        self._stream.write(f"\r{line}\x1b[K")
        self._stream.flush()


def _bar(done: int, total: int) -> str:
    filled = _WIDTH * done // total
    return f" [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total}"
