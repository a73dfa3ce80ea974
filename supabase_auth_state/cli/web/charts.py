"""Charts as SVG, drawn on the server: numbers in, coordinates out. No I/O.

A chart is stretched to its place by the browser, and its words are beside it: words in a picture
that is stretched could not be read on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from supabase_auth_state.cli.tables import human_bytes, human_duration
from supabase_auth_state.operations.statistics import Day, LeaseRecord, TypeCount

WIDTH = 600
HEIGHT = 200
_STEPS = 4
_DAY = 86400.0
_MOST_BARS = 8
_MOST_LEASES = 12
_THINNEST = 0.6


@dataclass(frozen=True)
class LineChart:
    """A line through the days, with the plan's limit where that is in sight.

    Attributes:
        line: the points of the line, as SVG takes them.
        area: the same, down to the axis.
        dots: a place, a height and words for every day.
        grid: the heights of the lines behind, from the top.
        limit: the height of the plan's limit, or None when it is far above.
        heights: what the lines behind stand for, from the top.
        days: days along the axis, evenly.
        change: how much it has grown in all.
    """

    line: str
    area: str
    dots: Sequence[tuple[float, float, str]]
    grid: Sequence[float]
    limit: float | None
    heights: Sequence[str]
    days: Sequence[str]
    change: str


@dataclass(frozen=True)
class Bar:
    """A bar with its name before it and its figure behind it.

    Attributes:
        name: what it is about.
        x: where it begins, in hundredths of the width.
        width: how long it is, likewise.
        value: its figure.
        more: what is said beside it where there is room.
        look: its class in the style sheet.
        company_id: the company that the name leads to, or None.
    """

    name: str
    width: float
    value: str
    more: str = ""
    x: float = 0.0
    look: str = ""
    company_id: str | None = None


def growth_chart(days: Sequence[Day], limit: float) -> LineChart | None:
    """Return the size of the database by day, or None with less than two days."""
    if len(days) < 2:
        return None
    sizes = [float(day["storage"]["database"]) for day in days]
    start, end = days[0]["taken_at"], days[-1]["taken_at"]
    highest = max(sizes)
    in_sight = limit < highest * 3
    step = _step(max(highest, limit if in_sight else 0.0) / _STEPS)
    top = step * _STEPS
    places = [
        ((day["taken_at"] - start) / max(end - start, 1.0) * WIDTH, _height(size, top))
        for day, size in zip(days, sizes, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    # No day stands twice along the axis.
    parts = min(max(int((end - start) / _DAY), 1), 3)
    dates = [
        datetime.fromtimestamp(start + (end - start) * part / parts, timezone.utc)
        for part in range(parts + 1)
    ]
    change = sizes[-1] - sizes[0]
    return LineChart(
        line=line,
        area=f"{places[0][0]:.1f},{HEIGHT} {line} {places[-1][0]:.1f},{HEIGHT}",
        dots=[
            (round(x, 1), round(y, 1), f"{day['day']}: {human_bytes(size)}, {day['rows']} keys")
            for (x, y), day, size in zip(places, days, sizes, strict=True)
        ],
        grid=[round(HEIGHT * part / _STEPS, 1) for part in range(_STEPS + 1)],
        limit=round(_height(limit, top), 1) if in_sight else None,
        heights=[human_bytes(step * part) for part in range(_STEPS, -1, -1)],
        days=[f"{date:%b} {date.day}" for date in dates],
        change=f"{'+' if change >= 0 else '-'}{human_bytes(abs(change))} in "
        f"{human_duration(end - start)}",
    )


def _step(least: float) -> float:
    """Return the next number above that people count in: 1, 2, 2.5 or 5 with zeros behind."""
    scale = 10.0 ** math.floor(math.log10(max(least, 1.0)))
    fitting = [part * scale for part in (1.0, 2.0, 2.5, 5.0, 10.0) if part * scale >= least]
    return fitting[0]


def _height(value: float, top: float) -> float:
    return HEIGHT - value / top * HEIGHT


def largest_types(by_type: Mapping[str, TypeCount]) -> list[tuple[str, TypeCount]]:
    """Return the key types, the largest first."""
    return sorted(by_type.items(), key=lambda item: (-item[1]["bytes"], item[0]))


def type_bars(by_type: Mapping[str, TypeCount]) -> list[Bar]:
    """Return a bar for each key type, the largest first; the small ones are one bar."""
    ordered = largest_types(by_type)
    shown = [(name, found["bytes"], found["rows"]) for name, found in ordered[:_MOST_BARS]]
    rest = [found for _, found in ordered[_MOST_BARS:]]
    if rest:
        size, rows = sum(each["bytes"] for each in rest), sum(each["rows"] for each in rest)
        shown.append((f"{len(rest)} others", size, rows))
    largest = max((size for _, size, _ in shown), default=1) or 1
    return [
        Bar(
            name,
            _hundredths(size, largest),
            human_bytes(size),
            f"{rows:,} keys".replace(",", "\u202f"),
        )
        for name, size, rows in shown
    ]


def size_bars(companies: Iterable[tuple[str, float]]) -> list[Bar]:
    """Return a bar for each company, which leads to it."""
    sizes = list(companies)
    largest = max((size for _, size in sizes), default=1) or 1
    return [
        Bar(name, _hundredths(size, largest), human_bytes(size), company_id=name)
        for name, size in sizes
    ]


def lease_bars(
    leases: Sequence[LeaseRecord], now: float, *, until: float | None
) -> tuple[list[Bar], float]:
    """Return the last leases as bars along time, and when the time shown begins.

    Args:
        leases: of one company, latest first.
        now: the time at the right edge.
        until: when the lease of the present owner ends or has ended; None without one.
    """
    shown = list(leases)[:_MOST_LEASES]
    if not shown:
        return [], now
    begin = min(lease["acquired_at"] for lease in shown)
    span = max(now - begin, 1.0)
    bars = []
    for index, lease in enumerate(shown):
        ends = lease["released_at"]
        is_live = index == 0 and ends is None and until is not None and until > now
        if ends is None:
            # Never given back: until it ran out, or until the next owner took it.
            ends = shown[index - 1]["acquired_at"] if index else min(until or now, now)
        taken = lease["taken_from"] is not None
        width = max(100 * (ends - lease["acquired_at"]) / span, _THINNEST)
        x = min(100 * (lease["acquired_at"] - begin) / span, 100 - _THINNEST)
        bars.append(
            Bar(
                name=lease["owner"],
                x=round(x, 2),
                width=round(min(width, 100 - x), 2),
                value="now" if is_live else human_duration(ends - lease["acquired_at"]),
                more="taken over" if taken else "",
                look="taken" if taken else "",
            )
        )
    return bars, begin


def _hundredths(value: float, largest: float) -> float:
    return round(100 * value / largest, 1)
