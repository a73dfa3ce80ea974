"""What goes by requests, with a network between client and servers."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.workloads import coldstart, keyops, mix


async def run(bench: Bench) -> None:
    """Measure the group, on a bench that is far from its servers."""
    await keyops.run(bench)
    await mix.run(bench)
    await coldstart.run(bench)
