"""`python -m benchmarks [--quick] [--only GROUP …] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from benchmarks import machine, plots, report
from benchmarks.bench import open_bench
from benchmarks.stats import Results
from benchmarks.workloads import cleanup, coldstart, growth, imports, keyops, mix, storage

GROUPS = {
    "keys": keyops,
    "mix": mix,
    "coldstart": coldstart,
    "import": imports,
    "growth": growth,
    "cleanup": cleanup,
    "storage": storage,
}
RESULTS = Path(__file__).parent / "results"
QUICK_RESULTS = Path(__file__).parents[1] / ".devstack" / "benchmarks"


def main() -> None:
    """Run the groups asked for, print the report and store it."""
    chosen = _parser().parse_args()
    out = chosen.out or (QUICK_RESULTS if chosen.quick else RESULTS)
    results = asyncio.run(measure(chosen.only, quick=chosen.quick))
    store(results, out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure side by side."
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller tables")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(GROUPS),
        default=list(GROUPS),
        metavar="GROUP",
        help=f"one or more of: {', '.join(GROUPS)}",
    )
    parser.add_argument("--out", type=Path, help="folder for the report; else benchmarks/results")
    return parser


async def measure(groups: list[str], *, quick: bool) -> Results:
    """Run groups, each on a stack of its own."""
    results = Results()
    for group in groups:
        started = time.monotonic()
        async with open_bench(results, quick=quick) as bench:
            await GROUPS[group].run(bench)
        print(f"{group}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return results


def store(results: Results, out: Path) -> None:
    """Print the report, and write it with the numbers and the pictures into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    about = machine.about()
    text = report.markdown(results, about)
    (out / "report.md").write_text(text)
    (out / "results.json").write_text(
        json.dumps({"about": about, "results": results.as_json()}, indent=1) + "\n"
    )
    drawn = plots.draw(results, out)
    print(text)
    print(f"stored in {out}, with {len(drawn)} pictures", file=sys.stderr)


if __name__ == "__main__":
    main()
