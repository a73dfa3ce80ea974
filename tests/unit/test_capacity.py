"""How many companies fit, and when the plan is full."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supabase_auth_state import ConfigurationError
from supabase_auth_state.operations.capacity import (
    WhatIf,
    capacity,
    days_left,
    plan_of,
    stored_after,
)
from supabase_auth_state.operations.measures import MEASURES, measure, measure_failure

MB = 10**6
DAY = 86400.0


def overview(**changes: Any) -> Any:
    """Give 100 companies that take 2 MB each on the disk, in a database of 250 MB."""
    table = {"heap": 150 * MB, "toast": 10 * MB, "indexes": 30 * MB, "live_rows": 1, "dead_rows": 0}
    auth = {"heap": 10 * MB, "toast": 0, "indexes": 0, "live_rows": 1, "dead_rows": 0}
    types = {
        "session": {"rows": 50_000, "bytes": 80 * MB, "expired": 0},
        "device-list": {"rows": 10_000, "bytes": 15 * MB, "expired": 0},
    }
    return {
        "time": 100 * DAY,
        "refreshed_at": 100 * DAY - 60,
        "recounted_at": 99 * DAY,
        "companies": 100,
        "owned": 50,
        "keys": {"rows": 60_000, "bytes": 95 * MB, "by_type": types},
        "creds_bytes": 5 * MB,
        "expired": 0,
        "oldest_expired": None,
        "storage": {"keys": table, "auth": auth, "other_tables": MB, "database": 250 * MB},
        "commits_per_minute": 1.0,
        "key_rows_per_minute": 1.0,
        "leases": {"acquired_last_hour": 100, "taken_over_last_hour": 1},
        "cleanup": None,
        "traffic": {"a": {"requests": 1, "sent": 5, "received": 2 * 10**9}},
        "events": {},
        "alerts": {},
        **changes,
    }


def days(*sizes: float) -> Any:
    return [
        {"taken_at": number * DAY, "storage": {"database": size}}
        for number, size in enumerate(sizes)
    ]


def test_what_fits_is_the_room_over_what_a_company_takes_on_the_disk() -> None:
    found = capacity(overview(), [], plan_of("free"))
    assert found.bytes_per_company == 2 * MB
    assert found.overhead == 2.0
    assert found.fixed_bytes == 50 * MB
    assert found.companies_that_fit == 225
    assert found.used_share == 0.5
    assert found.egress_share == 0.4
    assert capacity(overview(), [], plan_of("pro")).companies_that_fit == 3975
    assert capacity(overview(), [], plan_of("custom", disk_gb=16)).companies_that_fit == 7975


def test_a_change_is_calculated_with_the_measured_overhead() -> None:
    found = capacity(overview(), [], plan_of("free"))
    # Half of 15 MB less: 92.5 MB stored, 185 MB on the disk.
    assert found.what_if["half of device-list expired"] == int(450 / 1.85)
    assert found.what_if["values encrypted"] < 225
    assert stored_after(overview(), WhatIf()) == 100 * MB


def test_an_empty_database_says_nothing_of_companies() -> None:
    nothing = overview(companies=0, keys={"rows": 0, "bytes": 0, "by_type": {}}, creds_bytes=0)
    found = capacity(nothing, [], plan_of("free"))
    assert (found.companies_that_fit, found.bytes_per_company, dict(found.what_if)) == (
        None,
        None,
        {},
    )


def test_it_is_json_whatever_the_plan() -> None:
    for plan in (plan_of("free"), plan_of("custom", disk_gb=2)):
        found = capacity(overview(), days(1, 2, 3), plan)
        json.dumps(found.as_json(), allow_nan=False)


@pytest.mark.parametrize(("name", "disk"), [("gold", None), ("custom", None), ("pro", 0.0)])
def test_a_plan_that_is_none_is_refused(name: str, disk: float | None) -> None:
    with pytest.raises(ConfigurationError):
        plan_of(name, disk_gb=disk)


def test_a_straight_line_reaches_the_limit_for_certain() -> None:
    found = days_left(days(0, 10, 20, 30), now=30, limit=100)
    assert found is not None
    assert found.likely == pytest.approx(7)
    assert found.earliest == pytest.approx(7)
    assert found.latest == pytest.approx(7)


def test_growth_that_varies_gives_a_span_and_none_gives_never() -> None:
    found = days_left(days(0, 30, 20, 50, 40), now=40, limit=100)
    assert found is not None
    assert found.likely is not None
    assert found.earliest is not None
    assert found.earliest < found.likely < (found.latest or 1e9)
    steady = days_left(days(5, 5, 5), now=5, limit=100)
    assert steady is not None
    assert (steady.likely, steady.latest) == (None, None)


def test_two_days_are_too_few_and_a_full_plan_has_none_left() -> None:
    assert days_left(days(1, 2), now=2, limit=9) is None
    full = days_left(days(1, 2, 3), now=12, limit=9)
    assert full is not None
    assert full.likely == 0


@given(st.lists(st.floats(0, 1e12), min_size=3, max_size=90), st.floats(1, 1e12))
def test_whatever_growth_was_the_span_holds_the_likely_day(
    sizes: list[float], limit: float
) -> None:
    found = days_left(days(*sizes), now=sizes[-1], limit=limit)
    assert found is not None
    if found.likely is not None:
        assert found.earliest is not None
        assert found.earliest <= found.likely
        assert found.latest is None or found.latest >= found.likely


# measures


def measured(**changes: Any) -> Any:
    none = {"count": 0, "companies": []}
    history = days(*(200 * MB + n * 2 * MB for n in range(10)))
    return measure(overview(**changes), history, plan_of("free"), {"low": none, "high": none})


def test_every_measure_that_a_rule_may_name_is_there() -> None:
    assert set(measured()) == MEASURES


def test_measures_are_what_they_say() -> None:
    found = measured(events={"requests": 100, "unavailable": 7, "http_402": 1})
    assert found["database_share"] == 0.5
    assert found["acquisitions_per_company"] == 2.0
    assert found["error_rate"] == 0.07
    assert found["http_402"] == 1.0
    assert found["statistics_age_minutes"] == 1.0
    assert found["days_to_limit"] == pytest.approx(125)
    # 218 MB yesterday, 250 MB now, and 2 MB a day before.
    assert found["growth_jump"] == pytest.approx((250 - 216) / 2)
    assert found["cleanup_age_hours"] is None
    assert measured(expired=1)["cleanup_age_hours"] > 1000


def test_few_requests_make_no_rate() -> None:
    assert measured(events={"requests": 3, "unavailable": 3})["error_rate"] == 0.0


def test_a_failure_is_known_by_its_names() -> None:
    from supabase_auth_state.rest.responses import refusal

    assert measure_failure(refusal("x", 402, None)) == {
        "unreachable": 1.0,
        "restricted": 1.0,
        "http_402": 1.0,
    }
