"""A short storm: the promises hold under random faults, and a store that breaks one is noticed."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import LocalStack
from faults.chaos import Chaos
from faults.storm import Report, epoch
from tests.length import LENGTH

SECONDS = 8.0
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def own_stack() -> Iterator[LocalStack]:
    """A stack whose servers may be killed."""
    with LocalStack.start() as started:
        asyncio.run(Chaos(started, random.Random()).prepare())
        yield started


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="supabase_auth_state")


@pytest.mark.parametrize("number", range(1, 1 + round(LENGTH)))
def test_the_promises_hold_while_requests_and_servers_fail(
    own_stack: LocalStack, number: int
) -> None:
    report = Report()
    asyncio.run(
        epoch(
            own_stack, report, seed=2026, number=number, seconds=SECONDS, companies=6, servers=True
        )
    )
    print("\n".join(report.lines()))
    assert report.violations == []
    assert report.total > 10
    assert report.outcomes["write: acknowledged"] > 10


def test_the_command_prints_what_it_did_and_ends_with_0_when_nothing_was_violated() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "faults", "--faults", "1", "--seed", "7"],
        check=False,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ faults$", done.stdout, re.MULTILINE)
    assert re.search(r"^0 violations$", done.stdout, re.MULTILINE)
    assert "seed 7" in done.stderr


def test_a_violation_is_reported_with_its_seed_and_trace() -> None:
    from faults.storm import Violated

    report = Report(violations=[Violated(7, 3, "storm-1", "the tables at 9 is not possible")])
    assert report.lines()[-3:] == [
        "1 violations", "seed 7, epoch 3, storm-1:", "the tables at 9 is not possible",
    ]  # fmt: skip
