"""How far a transfer has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many values are done, and of how many (0: not known)."""


def silent(step: str, done: int, total: int) -> None:
    """Ignore the progress."""
