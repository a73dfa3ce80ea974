"""A signal ends a command within a second, whatever the command is doing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from supabase_auth_state.cli.signals import heed_signals

# Longer than any test may take: what ends sooner was ended by the signal.
FOREVER = 10**6

PROGRAM = f"""
import asyncio, signal, sys, time
from supabase_auth_state.cli.signals import heed_signals, run, stop_request

FOREVER = {FOREVER}

def say(word):
    print(word, flush=True)

async def waits():
    say("ready")
    await asyncio.sleep(FOREVER)

waits_in_the_background = waits

async def holds_the_thread_of_the_loop():
    say("ready")
    time.sleep(FOREVER)

async def waits_for_another_thread():
    await asyncio.to_thread(lambda: (say("ready"), time.sleep(FOREVER)))

async def goes_on():
    say("ready")
    while True:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            say("asked")

async def gives_back_for_ever():
    try:
        await waits()
    finally:
        await asyncio.sleep(FOREVER)

async def gives_back():
    try:
        await waits()
    finally:
        await asyncio.sleep(0.01)
        say("given back")

async def fails_to_give_back():
    try:
        await waits()
    finally:
        raise ValueError("what it held was gone")

async def is_done_all_the_same():
    try:
        await waits()
    except asyncio.CancelledError:
        return 3

async def runs_until_stopped():
    with stop_request() as asked:
        say("ready")
        await asked.wait()
    say("stopped")
    return 0

async def stops_for_ever():
    with stop_request() as asked:
        say("ready")
        await asked.wait()
    await asyncio.sleep(FOREVER)

if sys.argv[1] == "waits_in_the_background":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
with heed_signals(within=float(sys.argv[2])):
    if sys.argv[1] == "is_not_running_yet":
        say("ready")
        time.sleep(FOREVER)
    code = run(globals()[sys.argv[1]]())
sys.exit(code)
"""

signals = pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=["SIGINT", "SIGTERM"],
)


@contextmanager
def program(what: str, *, within: float) -> Iterator[subprocess.Popen[str]]:
    """A program that is in the middle of a command."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, what, str(within)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """How the program ended: its exit code and what it has said."""
    out, err = process.communicate()
    return process.returncode, out, err


@signals
@pytest.mark.parametrize("what", ["is_not_running_yet", "waits", "fails_to_give_back"])
def test_a_command_that_heeds_the_signal_ends_with_its_code(
    what: str, number: signal.Signals, code: int, word: str
) -> None:
    with program(what, within=FOREVER) as process:
        process.send_signal(number)
        assert end_of(process) == (code, "", f"{word}\n")


@signals
@pytest.mark.parametrize(
    "what",
    [
        "holds_the_thread_of_the_loop",
        "waits_for_another_thread",
        "goes_on",
        "gives_back_for_ever",
        "stops_for_ever",
    ],
)
def test_a_command_that_does_not_heed_it_is_ended(
    what: str, number: signal.Signals, code: int, word: str
) -> None:
    with program(what, within=0.5) as process:
        process.send_signal(number)
        ended, _, err = end_of(process)
    assert ended == code
    assert err == f"{word}; a lease that was not given back ends by itself\n"


@signals
def test_what_a_command_holds_is_given_back(number: signal.Signals, code: int, word: str) -> None:
    with program("gives_back", within=FOREVER) as process:
        process.send_signal(number)
        assert end_of(process) == (code, "given back\n", f"{word}\n")


@signals
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_command_at_once(
    first: signal.Signals, number: signal.Signals, code: int, word: str
) -> None:
    with program("goes_on", within=FOREVER) as process:
        process.send_signal(first)
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        assert end_of(process) == (
            code, "", f"{word}; a lease that was not given back ends by itself\n"
        )  # fmt: skip


@signals
def test_a_command_that_was_done_when_it_was_asked_says_so(
    number: signal.Signals, code: int, word: str
) -> None:
    with program("is_done_all_the_same", within=FOREVER) as process:
        process.send_signal(number)
        assert end_of(process) == (3, "", "")


@signals
def test_a_command_that_runs_until_it_is_stopped_ends_well(
    number: signal.Signals, code: int, word: str
) -> None:
    with program("runs_until_stopped", within=FOREVER) as process:
        process.send_signal(number)
        assert end_of(process) == (0, "stopped\n", "")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    with program("waits_in_the_background", within=FOREVER) as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert end_of(process) == (143, "", "terminated\n")


def test_afterwards_signals_and_threads_are_as_they_were() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers], threading.active_count()
    with heed_signals():
        assert signal.getsignal(signal.SIGTERM) is not before[0][1]
    assert ([signal.getsignal(number) for number in numbers], threading.active_count()) == before
    assert signal.set_wakeup_fd(-1) == -1
