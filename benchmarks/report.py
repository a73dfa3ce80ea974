"""The results as Markdown and as numbers for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.contestants.library import LIBRARY, OWNER
from benchmarks.stats import Result, Results, spread
from benchmarks.targets import TARGETS, Target


def markdown(results: Results, about: Mapping[str, str]) -> str:
    """Give the whole report: what was reached, then every workload, then where it ran."""
    parts = ["# Benchmark", "", *_targets(results), ""]
    for workload in dict.fromkeys(result.workload for result in results.items):
        parts += [*_workload([item for item in results.items if item.workload == workload]), ""]
    parts += ["## Where", "", *(f"- {name}: {value}" for name, value in about.items()), ""]
    return "\n".join(parts)


def quantity(value: float, unit: str) -> str:
    """Give a number with its unit, seconds in whatever makes them readable."""
    if unit != "s":
        return f"{_digits(value)} {unit}".rstrip()
    for limit, factor, name in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if value < limit:
            return f"{_digits(value * factor)} {name}"
    return f"{_digits(value)} s"


def verdict(target: Target, results: Results) -> str:
    """Give ``reached``, ``not reached`` or ``not measured``."""
    return {True: "reached", False: "**not reached**", None: "not measured"}[
        target.reached(results)
    ]


def _targets(results: Results) -> Iterable[str]:
    yield "| figure | to reach | measured | |"
    yield "| --- | --- | --- | --- |"
    for target in TARGETS:
        value = target.measure(results)
        shown = "" if value is None else f"{_digits(value)} {target.unit}".rstrip()
        limit = f"{target.kind} {target.limit:g} {target.unit}".rstrip()
        yield f"| {target.text} | {limit} | {shown} | {verdict(target, results)} |"


def _workload(items: list[Result]) -> Iterable[str]:
    own = next(
        (item for name in (LIBRARY, OWNER) for item in items if item.contestant == name), items[0]
    )
    yield f"## {items[0].workload}"
    yield ""
    yield f"| | / {own.contestant} | median | middle half | spread | rounds |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for item in items:
        first, third = item.quartiles
        between = (
            f"{quantity(first, item.unit)} to {quantity(third, item.unit)}"
            if len(item.samples) > 1
            else ""
        )
        ratio = f"{item.median / own.median:.2f}" if own.median else ""
        yield (
            f"| {item.contestant} | {ratio} | {quantity(item.median, item.unit)} | {between} "
            f"| {spread(item.samples):.0%} | {len(item.samples)} |"
        )
    for note, names in _notes(items).items():
        yield ""
        yield f"{', '.join(names)}: {note}."


def _notes(items: Iterable[Result]) -> dict[str, list[str]]:
    notes: dict[str, list[str]] = {}
    for item in items:
        if item.note:
            notes.setdefault(item.note, []).append(item.contestant)
    return notes


def _digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
