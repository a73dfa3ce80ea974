"""When a company may be connected again. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from supabase_auth_state.errors import CompanyQuarantined, SessionBackoff
from supabase_auth_state.rest.backoff import Timing, delay

from .ends import End, Reaction

_RESTARTS_AT_ONCE = 3


@dataclass(frozen=True)
class Pauses:
    """Bounds of a growing pause, in seconds: the ceiling of the first one, and of every one."""

    base: float
    cap: float


class Retries:
    """Counts the failures of one company in a row, and holds what follows from the last one.

    Args:
        retrying: the pauses after ordinary failures.
        yielding: the pauses for which a company is left alone.
        timing: clock and chance.
    """

    def __init__(self, retrying: Pauses, yielding: Pauses, timing: Timing) -> None:
        self._retrying = retrying
        self._yielding = yielding
        self._timing = timing
        self._failures = 0
        self._restarts = 0
        self._due = 0.0
        self._stopped_by: End | None = None
        # Pauses of being left alone in a row, here and on other machines. The last one that the
        # database told of, and that one after which a connection has lasted.
        self._step = 0
        self._told = 0.0
        self._outlived = 0.0

    @property
    def wait(self) -> float:
        """Seconds until the next attempt is due; 0 when it is."""
        return max(0.0, self._due - self._timing.now())

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next attempt is due, or None in quarantine."""
        return None if self.stopped == "quarantined" else self.wait

    @property
    def step(self) -> int:
        """How many times in a row the company was left alone."""
        return self._step

    @property
    def stopped(self) -> Literal["quarantined", "yielded"] | None:
        """Whether the company is left alone, even when a caller asks for it."""
        if self._stopped_by is None:
            return None
        if self._stopped_by.reaction is Reaction.QUARANTINE:
            return "quarantined"
        return "yielded" if self.wait else None

    def refuse_if_stopped(self, company_id: str) -> None:
        """Return unless the company is left alone.

        Raises:
            CompanyQuarantined: until `reset`.
            SessionBackoff: for some time.
        """
        stopped, end = self.stopped, self._stopped_by
        if stopped is None or end is None:
            return
        until = "" if stopped == "quarantined" else f" for {self.wait:.0f} s"
        message = (
            f"company {company_id!r}: {end}. Nothing was deleted. The pool leaves the company alone"
            f"{until}: {end.advice}, then call pool.reinstate({company_id!r}) or run "
            f"`supabase-auth-state reinstate --company {company_id}`"
        )
        if stopped == "quarantined":
            raise CompanyQuarantined(message)
        raise SessionBackoff(message, retry_after=self.wait)

    def lasted(self, seconds: float) -> None:
        """Take note that a connection lasted so long: after a long one, pauses are short again."""
        if seconds >= self._retrying.cap:
            self._failures = self._restarts = self._step = 0
            self._outlived = self._told

    def count(self, end: End) -> Reaction:
        """Count the end of a connection, or of an attempt at one, and return what follows.

        WhatsApp may ask for a restart three times in a row; after that it counts as a failure.
        """
        if end.reaction is Reaction.RESTART and self._restarts < _RESTARTS_AT_ONCE:
            self._restarts += 1
            self._due = self._timing.now()
            return Reaction.RESTART
        reaction = Reaction.RETRY if end.reaction is Reaction.RESTART else end.reaction
        if reaction is Reaction.YIELD:
            bounds, attempt = self._yielding, self._step
            self._step += 1
        else:
            bounds, attempt = self._retrying, self._failures
            self._failures += 1
        pause = delay(attempt, base=bounds.base, cap=bounds.cap, random=self._timing.random)
        self._due = self._timing.now() + max(pause, end.pause)
        self._stopped_by = None if reaction is Reaction.RETRY else end
        return reaction

    def hold(self, end: End, seconds: float | None, *, step: int, at: float) -> None:
        """Leave the company alone, as another pool has found out.

        Args:
            end: what it has found out.
            seconds: for how long; None: until `reset`; 0: no longer, but the next pause is longer.
            step: how many times in a row the company was left alone.
            at: when it was noted. What a connection of this pool has outlived does not count.
        """
        self._told = at
        if at > self._outlived:
            self._step = max(self._step, step)
        if seconds == 0:
            if self.stopped is not None:
                self._stopped_by, self._due = None, self._timing.now()
            return
        self._stopped_by = end
        self._due = self._timing.now() + (seconds or 0.0)

    def reset(self) -> None:
        """Forget failures, quarantine and yielding."""
        self._stopped_by = None
        self._failures = self._restarts = self._step = 0
        self._outlived = self._told
        self._due = self._timing.now()
