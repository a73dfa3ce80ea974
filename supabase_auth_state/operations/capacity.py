"""How many companies fit, when the plan is full, and what would change it. No I/O.

The plans' limits are those of Supabase's documentation of 2026 (billing-on-supabase, database-size,
manage-your-usage/egress).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from supabase_auth_state.errors import ConfigurationError

from .statistics import Company, Day, Overview

GB = 10**9
_DAY = 86400.0
_FEWEST_DAYS = 3
_MOST_DAYS_AHEAD = 3650.0
# AES-GCM's nonce and tag with a key's name, and base64: what encrypting one value adds.
_ENCRYPTION_PER_VALUE = 64
_ENCRYPTION_FACTOR = 4 / 3


@dataclass(frozen=True)
class Plan:
    """What a plan allows.

    Attributes:
        name: ``free``, ``pro`` or ``custom``.
        database_bytes: how large the database may be before writes are refused, or before more has
            to be paid for.
        egress_bytes: uncached egress of a month that is included, of all projects together.
        read_only: whether writes are refused above the limit; if not, more disk is paid for.
    """

    name: str
    database_bytes: float
    egress_bytes: float
    read_only: bool


def plan_of(name: str, *, disk_gb: float | None = None) -> Plan:
    """Return a plan.

    Args:
        name: ``free``; ``pro``, with 8 GB of disk unless more is named; or ``custom``.
        disk_gb: the size of the disk, for ``pro`` and ``custom``.

    Raises:
        ConfigurationError: there is no such plan, or ``custom`` without a disk.
    """
    if disk_gb is not None and not 0 < disk_gb < 1e6:
        raise ConfigurationError(f"a disk of {disk_gb} GB: give its size in GB, e.g. 16")
    if name == "free":
        return Plan("free", 0.5 * GB, 5 * GB, read_only=True)
    if name == "pro":
        return Plan("pro", (disk_gb or 8) * GB, 250 * GB, read_only=False)
    if name == "custom":
        if disk_gb is None:
            raise ConfigurationError("the plan custom needs --disk-gb: the size of the disk")
        return Plan("custom", disk_gb * GB, math.inf, read_only=False)
    raise ConfigurationError(f"there is no plan {name!r}: use free, pro or custom")


@dataclass(frozen=True)
class WhatIf:
    """A change to calculate with.

    Attributes:
        without_types: key types whose rows a shorter time to live would remove.
        removed_share: which share of their rows.
        encrypted: whether values are encrypted at rest.
    """

    without_types: Sequence[str] = ()
    removed_share: float = 1.0
    encrypted: bool = False


@dataclass(frozen=True)
class DaysLeft:
    """When a limit is reached at today's growth.

    Attributes:
        likely: days, or None when nothing grows.
        earliest: days if growth is at the upper end of what was seen.
        latest: days if it is at the lower end, or None when that end does not grow.
        per_day: bytes a day.
        days_measured: over how many days growth was measured.
    """

    likely: float | None
    earliest: float | None
    latest: float | None
    per_day: float
    days_measured: int


@dataclass(frozen=True)
class Capacity:
    """What fits into a plan.

    Attributes:
        plan: the plan.
        companies: companies there are.
        database_bytes: the database's size now.
        used_share: of what the plan allows.
        bytes_per_company: on the disk, with indexes, dead rows and unused space.
        overhead: how many bytes on the disk a stored byte takes.
        fixed_bytes: what the database takes without companies.
        companies_that_fit: how many companies of this size fit.
        days_left: when the limit is reached, or None when growth is not known yet: that takes three
            days.
        egress_bytes: received by our processes in the last 30 days: an estimate.
        egress_share: of the plan's allowance, which all projects of the organization share.
        by_type: bytes by key type, largest first.
        largest: the largest companies and their bytes.
        what_if: companies that fit, by the name of a change.
    """

    plan: Plan
    companies: int
    database_bytes: int
    used_share: float
    bytes_per_company: float | None
    overhead: float
    fixed_bytes: float
    companies_that_fit: int | None
    days_left: DaysLeft | None
    egress_bytes: int
    egress_share: float
    by_type: Mapping[str, int]
    largest: Sequence[tuple[str, int]]
    what_if: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values; an allowance without an end is null."""
        found = asdict(self)
        if math.isinf(self.plan.egress_bytes):
            found["plan"]["egress_bytes"] = None
        return found


def capacity(
    overview: Overview,
    days: Sequence[Day],
    plan: Plan,
    *,
    largest: Sequence[Company] = (),
    what_if: Mapping[str, WhatIf] | None = None,
) -> Capacity:
    """Return what fits into a plan, from what was measured.

    Args:
        overview: the statistics of now.
        days: those of the days before, oldest first.
        plan: the plan.
        largest: the largest companies, for the report.
        what_if: changes by name; by default the usual ones.
    """
    storage = overview["storage"]
    ours = sum(
        storage[table][part] for table in ("keys", "auth") for part in ("heap", "toast", "indexes")
    )
    stored = overview["keys"]["bytes"] + overview["creds_bytes"]
    companies = overview["companies"]
    fixed = max(storage["database"] - ours, 0)
    overhead = ours / stored if stored else 1.0
    room = max(plan.database_bytes - fixed, 0)
    changes = usual_changes(overview) if what_if is None else what_if
    per_company = ours / companies if companies else None
    return Capacity(
        plan=plan,
        companies=companies,
        database_bytes=storage["database"],
        used_share=storage["database"] / plan.database_bytes,
        bytes_per_company=per_company,
        overhead=overhead,
        fixed_bytes=fixed,
        companies_that_fit=int(room / per_company) if per_company else None,
        days_left=days_left(days, storage["database"], plan.database_bytes),
        egress_bytes=sum(found["received"] for found in overview["traffic"].values()),
        egress_share=sum(found["received"] for found in overview["traffic"].values())
        / plan.egress_bytes,
        by_type=dict(
            sorted(
                ((name, count["bytes"]) for name, count in overview["keys"]["by_type"].items()),
                key=lambda item: -item[1],
            )
        ),
        largest=[(company["company_id"], company["bytes"]) for company in largest],
        what_if={
            name: int(room / (changed * overhead / companies))
            for name, change in changes.items()
            if companies and (changed := stored_after(overview, change)) > 0
        },
    )


def usual_changes(overview: Overview) -> Mapping[str, WhatIf]:
    """Return changes that are worth a look: types that may expire, and encryption."""
    may_expire = [
        name
        for name in ("lid-mapping", "device-list", "tctoken", "sender-key-memory")
        if name in overview["keys"]["by_type"]
    ]
    return {
        **{f"half of {name} expired": WhatIf((name,), 0.5) for name in may_expire},
        "values encrypted": WhatIf(encrypted=True),
    }


def stored_after(overview: Overview, change: WhatIf) -> float:
    """Return how many bytes would be stored after a change."""
    rows, size = 0.0, 0.0
    for name, count in overview["keys"]["by_type"].items():
        left = 1 - change.removed_share if name in change.without_types else 1.0
        rows += count["rows"] * left
        size += count["bytes"] * left
    size += overview["creds_bytes"]
    if change.encrypted:
        size = size * _ENCRYPTION_FACTOR + (rows + overview["companies"]) * _ENCRYPTION_PER_VALUE
    return size


def days_left(days: Sequence[Day], now: float, limit: float) -> DaysLeft | None:
    """Return when the database is as large as the limit, by the straight line through the days.

    The uncertainty is twice the standard error of the line's slope.

    Args:
        days: the statistics of days, oldest first.
        now: the size now, in bytes.
        limit: the limit, in bytes.
    """
    points = [(day["taken_at"] / _DAY, float(day["storage"]["database"])) for day in days]
    if len(points) < _FEWEST_DAYS:
        return None
    slope, error = _line(points)
    left = max(limit - now, 0.0)
    return DaysLeft(
        likely=_until(left, slope),
        earliest=_until(left, slope + 2 * error),
        latest=_until(left, slope - 2 * error),
        per_day=slope,
        days_measured=len(points),
    )


def _until(left: float, per_day: float) -> float | None:
    if left <= 0:
        return 0.0
    if per_day <= 0 or left / per_day > _MOST_DAYS_AHEAD:
        return None
    return left / per_day


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope of the least squares line, and its standard error."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0, 0.0
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residuals = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return slope, math.sqrt(residuals / (count - 2) / spread) if count > 2 else 0.0
