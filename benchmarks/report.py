"""The results as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from benchmarks.stats import Result, Results, spread
from benchmarks.targets import TARGETS, Target

LEGEND = """\
Medians; in brackets the width of the middle half over the median, where there was more than one
round."""


def markdown(results: Results, about: Mapping[str, str]) -> str:
    """Give the whole report: what was reached, then every workload, then where it ran."""
    parts = ["# Benchmark", "", *_targets(results), "", LEGEND, ""]
    for group in dict.fromkeys(result.group for result in results.items):
        parts += [*_group(results.workloads(group)), ""]
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


def read_report(text: str) -> Results:
    """Give what a report tells: of each workload and contestant the median and the spread."""
    return Results(list(_read_groups(text)))


def _read_groups(text: str) -> Iterator[Result]:
    contestants: list[str] = []
    for line in text.partition(LEGEND)[2].splitlines():
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| |"):
            contestants = cells
        elif line.startswith("| ") and not first.startswith("---"):
            for contestant, cell in zip(contestants, cells, strict=True):
                found = re.fullmatch(r"([\d.,]+) (\S+)(?: \((\d+)%\))?", cell)
                if found is not None:
                    yield _result(first, contestant, *found.groups())


def _result(workload: str, contestant: str, number: str, unit: str, width: str | None) -> Result:
    factor = {"µs": 1e-6, "ms": 1e-3}.get(unit, 1.0)
    median = float(number.replace(",", "")) * factor
    half = median * int(width or 0) / 100
    unit = "s" if unit in {"µs", "ms"} else unit
    # Three samples that have this median and these quartiles.
    return Result(workload, contestant, (median - half, median, median + half), unit)


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


def _group(workloads: Mapping[str, list[Result]]) -> Iterable[str]:
    items = [item for found in workloads.values() for item in found]
    contestants = list(dict.fromkeys(item.contestant for item in items))
    yield f"## {items[0].group}"
    yield ""
    yield f"| | {' | '.join(contestants)} |"
    yield f"| --- |{' --- |' * len(contestants)}"
    for workload, found in workloads.items():
        cells = {item.contestant: _cell(item) for item in found}
        yield f"| {workload} | {' | '.join(cells.get(name, '') for name in contestants)} |"
    for workload, found in workloads.items():
        for note, of in _notes(found).items():
            yield ""
            yield f"{', '.join([workload, *(of if len(of) < len(found) else [])])}: {note}."


def _cell(result: Result) -> str:
    median = quantity(result.median, result.unit)
    return f"{median} ({spread(result.samples):.0%})" if len(result.samples) > 1 else median


def _notes(results: Iterable[Result]) -> dict[str, list[str]]:
    """Return the contestants that a note is about, by note."""
    notes: dict[str, list[str]] = {}
    for result in results:
        if result.note:
            notes.setdefault(result.note, []).append(result.contestant)
    return notes


def _digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
