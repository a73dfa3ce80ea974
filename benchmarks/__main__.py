"""`python -m benchmarks [--quick] [--only GROUP …] [--against CHECKOUT] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from pathlib import Path

from benchmarks import machine, plots, report
from benchmarks.bench import open_bench
from benchmarks.stats import Results
from benchmarks.workloads import (
    cleanup,
    coldstart,
    growth,
    imports,
    keyops,
    mix,
    network,
    storage,
    versions,
)

GROUPS = {
    "keys": keyops,
    "mix": mix,
    "coldstart": coldstart,
    "network": network,
    "import": imports,
    "growth": growth,
    "cleanup": cleanup,
    "storage": storage,
}
VERSIONS = "versions"
REPORT = Path(__file__).parent / "results" / "report.md"
OUT = Path(__file__).parents[1] / ".devstack" / "benchmarks"


def main() -> None:
    """Run the groups asked for, print the report and store it."""
    chosen = _parser().parse_args()
    groups = list(GROUPS) if chosen.only is None else chosen.only
    if chosen.against is not None and VERSIONS not in groups:
        groups.append(VERSIONS)
    results = asyncio.run(measure(groups, quick=chosen.quick, other=chosen.against))
    store(results, chosen.out)
    if not chosen.quick and set(GROUPS) <= set(groups):
        shutil.copy(chosen.out / REPORT.name, REPORT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure side by side."
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller tables")
    parser.add_argument(
        "--only",
        nargs="*",
        choices=list(GROUPS),
        metavar="GROUP",
        help=f"any of: {', '.join(GROUPS)}; none of them with --against is that alone",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="compare with another version too: a checkout of it after `make setup`",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for everything measured")
    return parser


async def measure(groups: list[str], *, quick: bool, other: Path | None = None) -> Results:
    """Run groups, each on a stack of its own."""
    results = Results()
    for group in groups:
        started = time.monotonic()
        far = group == "network"
        async with open_bench(group, results, quick=quick, far=far, other=other) as bench:
            await {**GROUPS, VERSIONS: versions}[group].run(bench)
        print(f"{group}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return results


def store(results: Results, out: Path) -> None:
    """Print the report, and write it with the numbers and the pictures into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    about = machine.about()
    text = report.markdown(results, about)
    (out / REPORT.name).write_text(text)
    (out / "results.json").write_text(
        json.dumps({"about": about, "results": results.as_json()}, indent=1) + "\n"
    )
    drawn = plots.draw(results, out)
    print(text)
    print(f"stored in {out}, with {len(drawn)} pictures", file=sys.stderr)


if __name__ == "__main__":
    main()
