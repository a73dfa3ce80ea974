"""Processes that fight for companies, and what is done to them meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from devstack import Stack
from tests.acceptance.fight.history import Ack, Write
from tests.acceptance.fight.line import Line

LEASE_TTL = 1
PROGRAM = Path(__file__).with_name("fighter.py")
_READY_WITHIN = _STOPS_WITHIN = 60.0


class Fighter:
    """One place in the arena: a process on a line of its own, begun again when it was killed."""

    def __init__(self, name: str, stack: Stack, folder: Path, companies: Sequence[str]) -> None:
        self.line = Line(stack.url)
        self._name = name
        self._stack = stack
        self._folder = folder
        self._companies = companies
        self._lives = 0
        self._process: asyncio.subprocess.Process

    async def begin(self) -> None:
        """Start the process."""
        self._lives += 1
        log = self._folder / f"{self._name}-{self._lives}.log"
        env = {**os.environ, **self._stack.env(), "SUPABASE_URL": self.line.url}
        with log.with_suffix(".err").open("wb") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, str(PROGRAM), str(log), str(LEASE_TTL), *self._companies,
                env=env, stdout=asyncio.subprocess.PIPE, stderr=stderr,
            )  # fmt: skip

    async def ready(self) -> None:
        """Wait until the process fights."""
        assert self._process.stdout is not None
        await asyncio.wait_for(self._process.stdout.readline(), _READY_WITHIN)

    async def end(self) -> int:
        """Tell the process to stop; return its exit status."""
        self._process.terminate()
        return await asyncio.wait_for(self._process.wait(), _STOPS_WITHIN)

    async def kill(self) -> None:
        """End the process whatever it is doing."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    # What may happen to it: each ends with the process at work again.

    async def be_killed(self) -> None:
        """Die without a word, and come back."""
        await self.kill()
        await asyncio.sleep(random.uniform(0, LEASE_TTL))
        await self.begin()
        await self.ready()

    async def be_frozen(self) -> None:
        """Stand still for longer than a lease, and go on as if nothing had been."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(random.uniform(LEASE_TTL + 0.5, LEASE_TTL + 2))
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def be_cut_off(self) -> None:
        """Lose every connection, for a moment or for longer than a lease."""
        self.line.cut()
        await asyncio.sleep(random.choice([0.1, random.uniform(LEASE_TTL, LEASE_TTL + 1.5)]))
        self.line.mend()

    async def be_delayed(self) -> None:
        """Have what was sent arrive late, perhaps when the sender is dead."""
        self.line.hold()
        await asyncio.sleep(random.uniform(0.2, LEASE_TTL + 1))
        if random.random() < 0.3:
            await self.kill()
            await asyncio.sleep(random.uniform(0, LEASE_TTL + 0.5))
            self.line.mend()
            await self.begin()
            await self.ready()
        self.line.mend()


class Arena:
    """All fighters.

    Attributes:
        blows: how often each thing has been done to a fighter.
    """

    def __init__(self, fighters: Sequence[Fighter], folder: Path) -> None:
        self.blows: Counter[str] = Counter()
        self._fighters = fighters
        self._folder = folder

    async def fight(self, rounds: int) -> None:
        """Do everything to every fighter so many times, in random order."""
        await asyncio.gather(*(self._torment(fighter, rounds) for fighter in self._fighters))

    async def stop(self) -> list[int]:
        """Tell every process to stop; return their exit statuses."""
        return list(await asyncio.gather(*(fighter.end() for fighter in self._fighters)))

    def acks(self) -> list[Ack]:
        """Return every write that was acknowledged to a fighter, dead or alive."""
        return [
            Ack(line["company"], Write(**line["ack"])) for line in self._lines() if "ack" in line
        ]

    def lost(self) -> int:
        """Count the writers that were told that they had lost their lease."""
        return sum("lost" in line for line in self._lines())

    def unexpected(self) -> list[str]:
        """Return what should not have happened to a fighter."""
        return [line["unexpected"] for line in self._lines() if "unexpected" in line]

    async def _torment(self, fighter: Fighter, rounds: int) -> None:
        blows = [
            fighter.be_killed, fighter.be_frozen, fighter.be_cut_off, fighter.be_delayed,
        ]  # fmt: skip
        for _ in range(rounds):
            for blow in random.sample(blows, len(blows)):
                await asyncio.sleep(random.uniform(0.3, 2))
                await blow()
                self.blows[blow.__name__] += 1

    def _lines(self) -> Iterable[dict[str, Any]]:
        for log in sorted(self._folder.glob("*.log")):
            # A process may have been killed in the middle of its last line.
            whole, _, _ = log.read_bytes().rpartition(b"\n")
            yield from map(json.loads, whole.splitlines())


@asynccontextmanager
async def arena(
    stack: Stack, folder: Path, *, fighters: int, companies: Sequence[str]
) -> AsyncIterator[Arena]:
    """Open an arena with every process begun; none is left when it ends."""
    async with AsyncExitStack() as opened:
        all_fighters = [
            Fighter(f"fighter-{number}", stack, folder, companies) for number in range(fighters)
        ]
        for fighter in all_fighters:
            await fighter.line.open()
            opened.push_async_callback(fighter.line.close)
            await fighter.begin()
            opened.push_async_callback(fighter.kill)
        await asyncio.gather(*(fighter.ready() for fighter in all_fighters))
        yield Arena(all_fighters, folder)
