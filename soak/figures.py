"""What was measured during the day, and whether it grew. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Sample:
    """One moment.

    Attributes:
        hour: of the simulated day.
        database: sizes and counts of the database.
        processes: the last figures of each process that owns companies; empty before its first.
    """

    hour: float
    database: Mapping[str, int]
    processes: Sequence[Mapping[str, float]]

    def total(self, name: str) -> float:
        """Give a figure of the processes, summed up."""
        return sum(process.get(name, 0) for process in self.processes)

    def mean(self, name: str) -> float:
        """Give a figure of one process, on average."""
        return self.total(name) / max(1, len(self.processes))


@dataclass(frozen=True)
class Figure:
    """Something that is not to grow.

    Attributes:
        name: what it is, with its unit.
        of: takes it from a sample.
        most: how many times its median in the first quarter of a phase it may be in the last; None
            when that is not judged.
        limit: what it may be at most, whatever it was before; None for no such limit.
        fills: whether the first phase fills it with new chats, so that only the last is judged.
    """

    name: str
    of: Callable[[Sample], float]
    most: float | None = None
    limit: float | None = None
    fills: bool = False


def _of(name: str, scale: float = 1.0) -> Callable[[Sample], float]:
    return lambda sample: sample.total(name) / scale


def _in_database(name: str, scale: float = 1.0) -> Callable[[Sample], float]:
    return lambda sample: sample.database[name] / scale


def _a_row(name: str) -> Callable[[Sample], float]:
    return lambda sample: sample.database[name] / max(1, sample.database["rows"])


FIGURES = (
    Figure("memory, MB", _of("memory", 1e6), 1.2),
    Figure("open files", _of("files"), 1.2),
    # As many as there were requests at once, up to the connections that a client makes.
    Figure("sockets of each", lambda sample: sample.mean("sockets"), limit=40),
    Figure("tasks", _of("tasks"), 1.2),
    Figure("connections to PostgreSQL", _in_database("connections"), 1.5),
    # A new chat leaves rows that stay, and its session grows with the first turns.
    Figure("rows", _in_database("rows"), 1.2, fills=True),
    Figure("table, bytes a row", _a_row("table"), 1.2, fills=True),
    Figure("indexes, bytes a row", _a_row("index"), 1.2, fills=True),
    Figure("table, MB", _in_database("table", 1e6)),
    # One for each opening of the last hour by the clock, which is many days of a quick run.
    Figure("rows of whatsapp_writers", _in_database("writers")),
    # What autovacuum has not come to yet: it goes up and down.
    Figure("dead rows", _in_database("dead")),
    # What the processes have received since they began: it is what Supabase counts as egress.
    Figure("received, MB", _of("received", 1e6)),
)
"""What is told, and what is judged. `most` leaves room for what docs/reliability.md explains."""

PHASES = {"one process": (4.0, 12.0), "three processes": (14.0, 24.0)}
"""From hour to hour: the first hours fill the owners' memory."""


def judge(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield what grew more than it may."""
    for phase, figure, before, after in _ends(samples):
        most = None if figure.fills and phase == "one process" else figure.most
        if most is not None and after > most * before:
            yield f"{phase}: {figure.name} grew from {before:.1f} to {after:.1f}"
        if figure.limit is not None and after > figure.limit:
            yield f"{phase}: {figure.name} grew to {after:.1f}, more than {figure.limit:.0f}"


def table(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield the lines of a table: each figure in the first and the last quarter of each phase."""
    yield "| phase | figure | first quarter | last quarter |"
    yield "| --- | --- | ---: | ---: |"
    for phase, figure, before, after in _ends(samples):
        yield f"| {phase} | {figure.name} | {before:,.1f} | {after:,.1f} |"
    last = samples[-1]
    yield (
        f"\n{last.total('messages'):,.0f} messages of {last.total('companies'):,.0f} companies; "
        f"{last.total('received') / 1e6:.1f} MB received from Supabase; a loop was late by at most "
        f"{max(max((p.get('late', 0) for p in s.processes), default=0) for s in samples):.2f} s"
    )


def _ends(samples: Sequence[Sample]) -> Iterator[tuple[str, Figure, float, float]]:
    for phase, (begin, end) in PHASES.items():
        within = [each for each in samples if begin <= each.hour < end]
        quarter = max(1, len(within) // 4)
        for figure in FIGURES:
            first, last = within[:quarter], within[-quarter:]
            yield phase, figure, median(map(figure.of, first)), median(map(figure.of, last))
