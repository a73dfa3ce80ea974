"""The dashboard's charts: numbers in, coordinates out."""

from __future__ import annotations

from typing import Any

import pytest

from supabase_auth_state.cli.web.charts import (
    HEIGHT,
    WIDTH,
    growth_chart,
    lease_bars,
    size_bars,
    type_bars,
)

DAY = 86400.0
NOW = 100 * DAY


def days(*megabytes: float) -> Any:
    return [
        {
            "day": f"1970-01-{number + 1:02}",
            "taken_at": number * DAY,
            "rows": 10,
            "storage": {"database": size * 1e6},
        }
        for number, size in enumerate(megabytes)
    ]


def test_the_size_of_the_database_is_drawn_between_axes_that_people_can_read() -> None:
    chart = growth_chart(days(4, 6, 8), limit=500e6)
    assert chart is not None
    assert chart.heights == ["8.0 MB", "6.0 MB", "4.0 MB", "2.0 MB", "0 B"]
    assert chart.grid == [0, 50, 100, 150, 200]
    assert [(x, y) for x, y, _ in chart.dots] == [(0, 100), (WIDTH / 2, 50), (WIDTH, 0)]
    assert chart.area.startswith(f"0.0,{HEIGHT} ")
    assert chart.area.endswith(f" {WIDTH}.0,{HEIGHT}")
    assert (chart.days[0], chart.days[-1]) == ("Jan 1", "Jan 3")
    assert chart.change == "+4.0 MB in 2 d"
    assert chart.limit is None


def test_the_limit_is_drawn_when_it_is_in_sight() -> None:
    chart = growth_chart(days(300, 200), limit=500e6)
    assert chart is not None
    assert chart.limit == 75
    assert chart.days == ["Jan 1", "Jan 2"]
    assert chart.heights[0] == "800.0 MB"
    assert chart.change == "-100.0 MB in 1 d"


@pytest.mark.parametrize("sizes", [(), (5,)])
def test_one_day_is_no_growth(sizes: tuple[float, ...]) -> None:
    assert growth_chart(days(*sizes), limit=1e9) is None


def test_an_empty_database_and_days_at_one_moment_are_drawn() -> None:
    found = days(0, 0)
    found[1]["taken_at"] = 0.0
    chart = growth_chart(found, limit=float("inf"))
    assert chart is not None
    assert "nan" not in chart.line + chart.area


def test_key_types_are_bars_and_the_small_ones_are_one() -> None:
    bars = type_bars({f"t{n:02}": {"rows": 1000, "bytes": n, "expired": 0} for n in range(1, 12)})
    assert [bar.name for bar in bars] == [f"t{n:02}" for n in range(11, 3, -1)] + ["3 others"]
    assert (bars[0].width, bars[-1].width) == (100.0, 54.5)
    assert bars[-1].more == "3\u202f000 keys"
    assert type_bars({}) == []
    assert type_bars({"session": {"rows": 0, "bytes": 0, "expired": 0}})[0].width == 0


def test_companies_are_bars_that_lead_to_them() -> None:
    bars = size_bars([("a", 200.0), ("b", 50.0)])
    assert [(bar.company_id, bar.width) for bar in bars] == [("a", 100), ("b", 25)]


def lease(begin: float, end: float | None, owner: str, taken_from: str | None = None) -> Any:
    return {
        "token": 1,
        "owner": owner,
        "acquired_at": begin,
        "released_at": end,
        "taken_from": taken_from,
    }


def test_leases_are_bars_along_time() -> None:
    leases = [
        lease(NOW - 20, None, "third", "second"),
        lease(NOW - 60, None, "second"),
        lease(NOW - 100, NOW - 80, "first"),
    ]
    bars, begin = lease_bars(leases, NOW, until=NOW + 30)
    assert begin == NOW - 100
    assert [(bar.name, bar.x, bar.width, bar.value) for bar in bars] == [
        ("third", 80, 20, "now"),
        # Never given back: until the next one took it.
        ("second", 40, 40, "40 s"),
        ("first", 0, 20, "20 s"),
    ]
    assert [bar.look for bar in bars] == ["taken", "", ""]


def test_a_lease_that_ran_out_ends_there() -> None:
    (bar,), _ = lease_bars([lease(NOW - 100, None, "dead")], NOW, until=NOW - 50)
    assert (bar.width, bar.value) == (50, "50 s")
    assert lease_bars([], NOW, until=None) == ([], NOW)


def test_a_moment_can_be_seen_and_no_bar_leaves_the_chart() -> None:
    leases = [lease(NOW, None, "now"), lease(NOW - 1e6, NOW - 1e6, "once")]
    for bar in lease_bars(leases, NOW, until=NOW + 9)[0]:
        assert bar.width > 0.5
        assert bar.x + bar.width <= 100
