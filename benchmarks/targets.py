"""What the benchmark has to reach, as ratios within one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from benchmarks.bench import PORT
from benchmarks.contestants.library import LIBRARY, OWNER
from benchmarks.contestants.node import FILES
from benchmarks.stats import Results
from benchmarks.workloads import (
    cleanup,
    coldstart,
    growth,
    imports,
    keyops,
    mix,
    storage,
    versions,
)

Measure: TypeAlias = Callable[[Results], "float | None"]


@dataclass(frozen=True)
class Target:
    """One figure to reach.

    Attributes:
        text: what is compared.
        limit: the figure.
        kind: whether the figure may be at most or must be at least the limit.
        measure: takes it from the results; None when the workload was not run.
        unit: ``times``, or what the figure is in.
    """

    text: str
    limit: float
    kind: Literal["at most", "at least"]
    measure: Measure
    unit: str = "times"

    def reached(self, results: Results) -> bool | None:
        """Tell whether it is reached, None when it was not measured."""
        value = self.measure(results)
        if value is None:
            return None
        return value <= self.limit if self.kind == "at most" else value >= self.limit


def _slower(workload: str, mine: str, theirs: str) -> Measure:
    return lambda results: results.ratio(workload, mine, theirs)


def _faster(workload: str, mine: str, theirs: str) -> Measure:
    return lambda results: results.ratio(workload, theirs, mine)


def _median(workload: str, contestant: str, scale: float = 1.0) -> Measure:
    def measure(results: Results) -> float | None:
        result = results.find(workload, contestant)
        return None if result is None else result.median * scale

    return measure


def _slower_over(workload: str, other: str) -> Measure:
    def measure(results: Results) -> float | None:
        large, small = results.find(workload, LIBRARY), results.find(other, LIBRARY)
        return None if large is None or small is None else large.median / small.median

    return measure


def _growth(operation: str) -> Target:
    smallest, largest = growth.name(growth.SIZES[0]), growth.name(growth.SIZES[-1])
    measure = _slower(growth.workload(operation), largest, smallest)
    return Target(f"{operation} at 10,000 companies / at 100", 1.2, "at most", measure)


def _per_row(results: Results) -> float | None:
    few, many = (results.find(item.workload, LIBRARY) for item in (cleanup.FEW, cleanup.MANY))
    if few is None or many is None:
        return None
    return (many.median / cleanup.MANY.expired) / (few.median / cleanup.FEW.expired)


KEYS = (
    Target("get 1, cold / floor", 1.6, "at most", _slower(keyops.GET_1, LIBRARY, "floor")),
    Target("get 100, cold / floor", 1.3, "at most", _slower(keyops.GET_100, LIBRARY, "floor")),
    Target("set 1 / floor", 1.6, "at most", _slower(keyops.SET_1, LIBRARY, "floor")),
    Target("set 100 / floor", 1.3, "at most", _slower(keyops.SET_100, LIBRARY, "floor")),
    Target(
        "100 concurrent gets of 1: port / ours", 25, "at least",
        _faster(keyops.GETS_AT_ONCE, LIBRARY, PORT),
    ),
    Target(
        "100 concurrent sets of 1: port / ours", 15, "at least",
        _faster(keyops.SETS_AT_ONCE, LIBRARY, PORT),
    ),
    Target(
        "get 1, cached, bytes: Baileys files / ours", 100, "at least",
        _faster(keyops.CACHED_BYTES, OWNER, FILES),
    ),
    Target(
        "get 1, cached, session: Baileys files / ours", 100, "at least",
        _faster(keyops.CACHED_SESSION, OWNER, FILES),
    ),
    Target("get 1, cached, bytes", 5, "at most", _median(keyops.CACHED_BYTES, OWNER, 1e6), "µs"),
    Target(
        "get 1, cached, session", 30, "at most",
        _median(keyops.CACHED_SESSION, OWNER, 1e6), "µs",
    ),
)  # fmt: skip

SESSIONS = (
    Target(
        "64 chats at once, messages/s: ours / port", 20, "at least",
        _slower(mix.AT_ONCE, OWNER, PORT),
    ),
    Target(
        "64 chats at once, messages/s: ours / Baileys files", 1, "at least",
        _slower(mix.AT_ONCE, OWNER, FILES),
    ),
    Target(
        "64 chats at once, 20 ms away, lease + cache: time / of the other checkout", 1.03,
        "at most", _median(versions.workload(versions.OWNERS_MIX, far=True), versions.RATIO),
    ),
    Target(
        "64 chats at once, 20 ms away: time / of the other checkout", 1.03, "at most",
        _median(versions.workload(versions.MIX, far=True), versions.RATIO),
    ),
    Target("cold start / floor", 1.3, "at most", _slower(coldstart.COLD_START, LIBRARY, "floor")),
    Target("cold start", 2, "at most", _median(coldstart.REQUESTS, LIBRARY), "requests"),
    Target(
        "import of 1,000 companies, rows/s: ours / bare upserts", 0.8, "at least",
        _slower(imports.workload(1000), LIBRARY, imports.BARE),
    ),
    Target(
        "import, peak memory: 1,000 companies / 100", 1.2, "at most",
        _slower_over(imports.memory(1000), imports.memory(100)),
    ),
)  # fmt: skip

TABLES = (
    Target("storage after the week", 150, "at most", _median(storage.WEEK, LIBRARY), "kB"),
    *map(_growth, growth.OPERATIONS),
    Target("clean-up per row: 50 % expired / 1 %", 1.2, "at most", _per_row),
    Target(
        "clean-up of 2,000 rows: of 200,000 / of 20,000",
        1.2,
        "at most",
        _slower_over(cleanup.FEW.workload, cleanup.SMALL.workload),
    ),
)

TARGETS = KEYS + SESSIONS + TABLES
