"""Samples, what is said about them, and the loop that collects them fairly. No I/O of its own."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

Action: TypeAlias = Callable[[], Awaitable[float]]
"""Does one piece of work and returns the seconds it took."""


@dataclass(frozen=True)
class Result:
    """What one contestant needed for one workload.

    Attributes:
        workload: e.g. ``get 100``.
        contestant: e.g. ``floor``.
        samples: what was measured, one number a round; seconds unless `unit` says otherwise.
        unit: ``s``, ``rows/s``, ``messages/s``, ``kB``, ``MB``, ``requests`` or ``times``.
        note: what a reader must know about this number.
        group: the group of workloads, e.g. ``keys``.
    """

    workload: str
    contestant: str
    samples: tuple[float, ...]
    unit: str = "s"
    note: str = ""
    group: str = ""

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and third quartile; both the only sample when there is one."""
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return first, third


@dataclass
class Results:
    """Everything measured so far in this run."""

    items: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Keep one more."""
        self.items.append(result)

    def find(self, workload: str, contestant: str) -> Result | None:
        """Give the result of a contestant, None when it was not measured."""
        for result in self.items:
            if (result.workload, result.contestant) == (workload, contestant):
                return result
        return None

    def ratio(self, workload: str, contestant: str, other: str) -> float | None:
        """Give median(contestant) / median(other), None when either was not measured."""
        mine, theirs = self.find(workload, contestant), self.find(workload, other)
        if mine is None or theirs is None or not theirs.median:
            return None
        return mine.median / theirs.median

    def workloads(self, group: str) -> dict[str, list[Result]]:
        """Return the results of a group, by workload."""
        found: dict[str, list[Result]] = {}
        for result in self.items:
            if result.group == group:
                found.setdefault(result.workload, []).append(result)
        return found

    def as_json(self) -> list[dict[str, Any]]:
        """Give the results as JSON objects, with median and quartiles beside the samples."""
        return [
            {**asdict(result), "median": result.median, "quartiles": list(result.quartiles)}
            for result in self.items
        ]


def timed(work: Callable[[], Awaitable[object]]) -> Action:
    """Make an action of a coroutine function: the time from its call to its result."""

    async def action() -> float:
        started = time.perf_counter()
        await work()
        return time.perf_counter() - started

    return action


async def interleave(
    actions: Mapping[str, Action],
    *,
    rounds: int,
    warmups: int = 3,
    primed: bool = False,
    shuffle: random.Random | None = None,
) -> dict[str, tuple[float, ...]]:
    """Run every action once a round, in an order that changes, so that drift meets all alike.

    The garbage collector stays on, but nobody is measured while it goes through what the benchmark
    itself holds, or through what another contestant has left.

    Args:
        actions: by contestant.
        rounds: how many samples of each are kept.
        warmups: rounds before, whose samples are thrown away.
        primed: run each once more just before the run that counts, so that short work is not
            measured on processors and servers that have been idle, or busy for somebody else.
        shuffle: decides the order within a round.
    """
    order = list(actions)
    shuffle = shuffle or random.Random(1)
    samples: dict[str, list[float]] = {name: [] for name in order}
    gc.collect()
    gc.freeze()
    try:
        for number in range(-warmups, rounds):
            shuffle.shuffle(order)
            for name in order:
                gc.collect()
                if primed:
                    await actions[name]()
                seconds = await actions[name]()
                if number >= 0:
                    samples[name].append(seconds)
    finally:
        gc.unfreeze()
    return {name: tuple(values) for name, values in samples.items()}


def spread(samples: Sequence[float]) -> float:
    """Give the interquartile range as a share of the median."""
    result = Result("", "", tuple(samples))
    first, third = result.quartiles
    return (third - first) / result.median if result.median else 0.0
