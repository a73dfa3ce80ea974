"""Commands are killed at some of their points; `make crashes` does so at all of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import Stack

PROJECT = Path(__file__).parents[2]
BROKEN = Path(__file__).with_name("broken_command.py")

# Those that are forked, by the line that tells where.
POINTS = re.compile(
    r"^\| (?P<command>[^|]+) \| (?P<points>\d+) \| (?P<killed>\d+) \|", re.MULTILINE
)


def run(stack: Stack, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv],
        check=False,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **stack.env(), "PYTHONPATH": str(PROJECT)},
        timeout=250,
    )


def test_after_a_crash_nothing_is_half_and_a_second_run_finishes(stack: Stack) -> None:
    done = run(stack, "-m", "faults.crashes", "--every", "9")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout
    killed = {found["command"]: int(found["killed"]) for found in POINTS.finditer(done.stdout)}
    assert len(killed) == 11
    assert sum(killed.values()) > 20


def test_a_command_that_writes_in_place_is_convicted(stack: Stack) -> None:
    done = run(stack, BROKEN)
    assert "half of a folder" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("every", ["0", "x"])
def test_a_wrong_distance_is_refused(stack: Stack, every: str) -> None:
    done = run(stack, "-m", "faults.crashes", "--every", every)
    assert done.returncode == 2
    assert "--every" in done.stderr
