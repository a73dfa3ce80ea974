"""What a command tells of the log: warnings, and what it waits for when an answer is late."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .console import Console

PATIENCE = 2.0
"""Seconds without an answer after which a notice is printed."""


class LogLines(logging.Handler):
    """Prints what the library logs, beside what a command draws.

    Args:
        console: where to print.
        level: from which level.
    """

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        try:
            self._console.say(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)


class WaitingNotice(logging.Handler):
    """Prints what a command waits for, and until when, once an answer is two seconds late.

    `rest.requests` logs three kinds of events about a request, distinguished by the record's
    attribute ``request``: "sent", "answered" and "retried".

    Args:
        console: where to print.
        give_up_after: seconds after which a request is given up.
    """

    def __init__(self, console: Console, *, give_up_after: float) -> None:
        super().__init__(logging.DEBUG)
        self._console = console
        self._give_up_after = give_up_after
        self._timer: asyncio.TimerHandle | None = None
        self._reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of an event."""
        event = getattr(record, "request", None)
        if event == "sent" and self._timer is None:
            self._reason = record.getMessage()
            until = datetime.now(timezone.utc) + timedelta(seconds=self._give_up_after)
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._tell, until)
        elif event == "retried":
            self._reason = str(record.args[0]) if isinstance(record.args, tuple) else ""
        elif event == "answered":
            self._stop()

    def _tell(self, until: datetime) -> None:
        self._console.say(
            f"no answer yet: {self._reason}. Waiting until {until.astimezone():%H:%M:%S}"
        )

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
