"""`python -m faults [--faults N] [--seed S]`: many faults, and whether the promises held.

Ctrl-C or SIGTERM ends it after the epoch that is under way, with its report.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import secrets
import signal
import sys
import time

from devstack import LocalStack

from .chaos import Chaos
from .storm import Report, epoch

_SECONDS = 8.0
_COMPANIES = 9


def main() -> int:
    """Let epochs follow each other until there were enough faults; print what came of it."""
    chosen = _parser().parse_args()
    # What clients say of faults is what is wanted here.
    logging.getLogger("supabase_auth_state").setLevel(logging.CRITICAL)
    report = Report()
    try:
        asyncio.run(_run(report, chosen.faults, chosen.seed))
    finally:
        print("\n".join(report.lines()))
    return 1 if report.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=1500, help="how many at least")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1 << 31), help="repeat the run of this seed"
    )
    return parser


async def _run(report: Report, faults: int, seed: int) -> None:
    number, stopped = 0, asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, stopped.set)
    print(f"seed {seed}", file=sys.stderr)
    with LocalStack.start() as stack:
        await Chaos(stack, random.Random()).prepare()
        while report.total < faults and not stopped.is_set():
            number += 1
            started, known = time.monotonic(), len(report.violations)
            await epoch(
                stack, report, seed=seed, number=number, seconds=_SECONDS, companies=_COMPANIES,
                servers=True,
            )  # fmt: skip
            print(
                f"epoch {number}: {report.total} faults, {len(report.violations)} violations, "
                f"{time.monotonic() - started:.0f} s",
                file=sys.stderr,
            )
            for violated in report.violations[known:]:
                print(violated, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
