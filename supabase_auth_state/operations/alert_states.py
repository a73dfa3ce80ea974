"""When a rule fires and when it is over. Pure: time is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Phase = Literal["ok", "pending", "firing", "resolved"]
"""Where a rule stands; ``ok`` is a rule that has never fired."""

Notice = Literal["firing", "repeated", "resolved"]
"""What is told of a rule."""


@dataclass(frozen=True)
class Rule:
    """A threshold, and how long it has to be crossed.

    Attributes:
        name: its name in the file.
        title: what is told.
        measure: the value that is looked at, of `measures.MEASURES`.
        threshold: beyond this value the rule is broken.
        is_upper: whether values above the threshold break it, or values below.
        clear: from this value on it is kept again.
        hold: seconds for which it has to be broken before it fires.
        clear_hold: seconds for which it has to be kept before it is over.
        repeat: seconds after which one that goes on firing is told again.
        severity: ``warning`` or ``critical``.
        limit: the number of pre-keys that counts as few or as many, for the two rules about these.
    """

    name: str
    title: str
    measure: str
    threshold: float
    is_upper: bool
    clear: float
    hold: float
    clear_hold: float
    repeat: float
    severity: str
    limit: int = 0

    def is_broken(self, value: float) -> bool:
        """Return whether a value is beyond the threshold."""
        return value > self.threshold if self.is_upper else value < self.threshold

    def is_kept(self, value: float) -> bool:
        """Return whether a value is good enough for a rule that fires to be over."""
        return value <= self.clear if self.is_upper else value >= self.clear


@dataclass(frozen=True)
class AlertState:
    """Where a rule stands.

    Attributes:
        phase: where.
        since: since when it is in this phase, in seconds since 1970.
        fired_at: when it began to fire, or None.
        told_at: when it was told last, or None.
        kept_since: since when a rule that fires is kept again, or None.
        value: the value that was seen at the last change.
    """

    phase: Phase = "ok"
    since: float = 0.0
    fired_at: float | None = None
    told_at: float | None = None
    kept_since: float | None = None
    value: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @staticmethod
    def of_json(stored: Mapping[str, Any]) -> AlertState:
        """Return what `as_json` gave; what a later version has added is left out."""
        names = AlertState.__dataclass_fields__
        return AlertState(**{name: value for name, value in stored.items() if name in names})


def step(
    rule: Rule, state: AlertState, value: float | None, now: float
) -> tuple[AlertState, Notice | None]:
    """Return where a rule stands after a value was seen, and what to tell.

    A value between ``clear`` and the threshold changes nothing, so a value that swings around the
    threshold does not fire again and again. An unknown value changes nothing either.

    Args:
        rule: the rule.
        state: where it stood.
        value: what was measured, or None when it is unknown.
        now: the time, in seconds since 1970.
    """
    if value is None:
        return state, None
    if state.phase == "firing":
        return _while_firing(rule, state, value, now)
    if not rule.is_broken(value):
        return (_over(state, now), None) if state.phase == "pending" else (state, None)
    if state.phase != "pending":
        state = replace(state, phase="pending", since=now, value=value)
    if now - state.since < rule.hold:
        return state, None
    return AlertState("firing", now, fired_at=now, told_at=now, value=value), "firing"


def _while_firing(
    rule: Rule, state: AlertState, value: float, now: float
) -> tuple[AlertState, Notice | None]:
    if rule.is_kept(value):
        kept_since = now if state.kept_since is None else state.kept_since
        if now - kept_since >= rule.clear_hold:
            return replace(
                state, phase="resolved", since=now, kept_since=None, value=value
            ), "resolved"
        state = replace(state, kept_since=kept_since)
    elif state.kept_since is not None:
        state = replace(state, kept_since=None)
    if state.told_at is None or now - state.told_at >= rule.repeat:
        return replace(state, told_at=now, value=value), "repeated"
    return state, None


def _over(state: AlertState, now: float) -> AlertState:
    phase: Phase = "ok" if state.fired_at is None else "resolved"
    return replace(state, phase=phase, since=now)
