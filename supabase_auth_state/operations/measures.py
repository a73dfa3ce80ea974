"""The values that rules look at, from statistics. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supabase_auth_state.rest.activity import EVENTS, event_names

from .capacity import Plan, days_left
from .statistics import Day, Overview, PreKeyExtremes

_FAILURES = ("unavailable", "restricted", "denied", "schema_missing", "invalid_requests")
_FEWEST_REQUESTS = 20
_OVERDUE = 1e6
_MIN_GROWTH = 1 << 20

Measures = Mapping[str, float | None]
"""Values by name; None for what is unknown."""

MEASURES = frozenset(
    {
        "database_share", "days_to_limit", "growth_jump", "egress_share", "expired_rows",
        "cleanup_age_hours", "statistics_age_minutes", "acquisitions_per_company",
        "taken_over_last_hour", "companies_with_few_pre_keys", "companies_with_many_pre_keys",
        "error_rate", "unreachable", *EVENTS,
    }
)  # fmt: skip
"""What a rule may look at."""


def measure(
    overview: Overview, days: Sequence[Day], plan: Plan, pre_keys: PreKeyExtremes
) -> Measures:
    """Return every value.

    Args:
        overview: the statistics of now.
        days: those of the days before, oldest first.
        plan: the plan to measure against.
        pre_keys: companies with few and with many pre-keys.
    """
    now, size = overview["time"], overview["storage"]["database"]
    events = overview["events"]
    left = days_left(days, size, plan.database_bytes)
    requests = events.get("requests", 0)
    refreshed_at = overview["refreshed_at"]
    received = sum(found["received"] for found in overview["traffic"].values())
    return {
        **{name: float(events.get(name, 0)) for name in EVENTS},
        "database_share": size / plan.database_bytes,
        # Growth that is not seen is far away.
        "days_to_limit": None
        if left is None
        else (_OVERDUE if left.likely is None else left.likely),
        "growth_jump": _growth_jump(days, size),
        "egress_share": received / plan.egress_bytes,
        "expired_rows": float(overview["expired"]),
        "cleanup_age_hours": _cleanup_age(overview),
        "statistics_age_minutes": None if refreshed_at is None else (now - refreshed_at) / 60,
        "acquisitions_per_company": overview["leases"]["acquired_last_hour"]
        / max(overview["owned"], 1),
        "taken_over_last_hour": float(overview["leases"]["taken_over_last_hour"]),
        "companies_with_few_pre_keys": float(pre_keys["low"]["count"]),
        "companies_with_many_pre_keys": float(pre_keys["high"]["count"]),
        "error_rate": sum(events.get(name, 0) for name in _FAILURES) / requests
        if requests >= _FEWEST_REQUESTS
        else 0.0,
        "unreachable": 0.0,
    }


def measure_failure(error: Exception) -> Measures:
    """Return what is known when the statistics could not be read."""
    return {"unreachable": 1.0, **dict.fromkeys(event_names(error), 1.0)}


def _cleanup_age(overview: Overview) -> float | None:
    run = overview["cleanup"]
    if run is not None:
        return (overview["time"] - run["finished_at"]) / 3600
    # Where nothing expires no clean-up is needed.
    return _OVERDUE if overview["expired"] else None


def _growth_jump(days: Sequence[Day], size: float) -> float | None:
    """Return how many times the usual growth of a day today's growth is."""
    sizes = [float(day["storage"]["database"]) for day in days]
    if len(sizes) < 4:
        return None
    before = sizes[:-1]
    usual = max((before[-1] - before[0]) / (len(before) - 1), _MIN_GROWTH)
    return max(size - before[-1], 0.0) / usual
