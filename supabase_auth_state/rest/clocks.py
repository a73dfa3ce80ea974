"""This machine's clock, and what it tells of the database's. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

_BOOTTIME = hasattr(time, "CLOCK_BOOTTIME")


def clock() -> float:
    """Return seconds on a clock that never goes back and counts the time of a suspended machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if _BOOTTIME else time.monotonic()


class DatabaseClock:
    """The database's time, as far as its answers tell it.

    Until the first answer the time of this machine is taken for it. The database refuses a request
    that is late by its own clock and names the time, so that a wrong guess corrects itself.

    Args:
        now: this machine's clock, in seconds; it never goes back.
    """

    def __init__(self, now: Callable[[], float] = clock) -> None:
        self._now = now
        self._ahead = time.time() - now()

    def learn(self, time: float) -> None:
        """Take the time, in seconds since 1970, that an answer names which has just arrived."""
        self._ahead = time - self._now()

    def at(self, moment: float) -> float:
        """Return the database's time at a moment of this machine's clock, never too late a time.

        The answer that named the time was on its way for a while, so the database is ahead of this.
        """
        return moment + self._ahead

    def moment_of(self, time: float) -> float:
        """Return the moment of this machine's clock at which it is this time of the database."""
        return time - self._ahead
