"""Charts as SVG, drawn on the server: numbers in, coordinates out. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from supabase_auth_state.cli.tables import human_bytes
from supabase_auth_state.operations.statistics import Day, LeaseRecord, TypeCount

WIDTH = 640
HEIGHT = 180
_LEFT = 8
_TOP = 12
_BOTTOM = 24
_MOST_BARS = 8
_THINNEST = 3.0


@dataclass(frozen=True)
class LineChart:
    """A line through the days, with the plan's limit where that is in sight.

    Attributes:
        line: the points of the line, as SVG takes them.
        area: the same, down to the axis.
        dots: a place, a height and words for every day.
        limit: the height of the plan's limit, or None when it is far above.
        first: the first day.
        last: the last day.
        top: what the upper edge stands for.
    """

    line: str
    area: str
    dots: Sequence[tuple[float, float, str]]
    limit: float | None
    first: str
    last: str
    top: str


def growth_chart(days: Sequence[Day], limit: float) -> LineChart | None:
    """Return the size of the database by day, or None with less than two days."""
    if len(days) < 2:
        return None
    sizes = [float(day["storage"]["database"]) for day in days]
    start, end = days[0]["taken_at"], days[-1]["taken_at"]
    top = max(sizes) * 1.15
    if limit < max(sizes) * 3:
        top = max(top, limit * 1.05)
    places = [
        (
            _LEFT + (day["taken_at"] - start) / max(end - start, 1.0) * (WIDTH - 2 * _LEFT),
            _height(size, top),
        )
        for day, size in zip(days, sizes, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    floor = HEIGHT - _BOTTOM
    return LineChart(
        line=line,
        area=f"{places[0][0]:.1f},{floor} {line} {places[-1][0]:.1f},{floor}",
        dots=[
            (round(x, 1), round(y, 1), f"{day['day']}: {human_bytes(size)}, {day['rows']} keys")
            for (x, y), day, size in zip(places, days, sizes, strict=True)
        ],
        limit=round(_height(limit, top), 1) if limit <= top else None,
        first=days[0]["day"],
        last=days[-1]["day"],
        top=human_bytes(top),
    )


def _height(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - value / top * (HEIGHT - _BOTTOM - _TOP)


def type_bars(by_type: Mapping[str, TypeCount]) -> list[dict[str, Any]]:
    """Return a bar for each key type, the largest first; the small ones are one bar."""
    ordered = sorted(by_type.items(), key=lambda item: -item[1]["bytes"])
    shown = [(name, found["bytes"], found["rows"]) for name, found in ordered[:_MOST_BARS]]
    rest = ordered[_MOST_BARS:]
    if rest:
        size = sum(found["bytes"] for _, found in rest)
        shown.append((f"{len(rest)} others", size, sum(found["rows"] for _, found in rest)))
    largest = max((size for _, size, _ in shown), default=1) or 1
    return [
        {"name": name, "bytes": size, "rows": rows, "width": round(100 * size / largest, 1)}
        for name, size, rows in shown
    ]


def lease_bars(
    leases: Sequence[LeaseRecord], now: float, *, live: bool
) -> tuple[list[dict[str, Any]], str]:
    """Return the last leases as bars along time, and when the time shown begins."""
    shown = list(leases)[:20]
    if not shown:
        return [], ""
    begin = min(lease["acquired_at"] for lease in shown)
    span = max(now - begin, 1.0)
    bars = []
    for index, lease in enumerate(shown):
        ends = lease["released_at"]
        if ends is None:
            # Never given back: until now, or until the next owner took it.
            later = shown[index - 1]["acquired_at"] if index else now
            ends = now if index == 0 and live else later
        x = min((lease["acquired_at"] - begin) / span * WIDTH, WIDTH - _THINNEST)
        width = (ends - lease["acquired_at"]) / span * WIDTH
        bars.append(
            {
                "x": round(x, 1),
                "y": index * 14 + 2,
                "width": round(max(min(width, WIDTH - x), _THINNEST), 1),
                "owner": lease["owner"],
                "taken": lease["taken_from"] is not None,
                "live": index == 0 and live and lease["released_at"] is None,
            }
        )
    return bars, datetime.fromtimestamp(begin, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
