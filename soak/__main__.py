"""`make soak`: a day and a night of many companies in some minutes; prints what grew, and draws it.

One process owns all companies until noon. Then two more come, and every two hours of the simulated
day the companies change hands among the three. `--real-time` takes 24 hours for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from devstack import LocalStack
from devstack.binaries import PROJECT

from .figures import Sample, judge, table

WORKERS = ("one", "two", "three")
HANDOVERS = 6
"""In the second half of the day: the processes share the companies in another way each time."""

_SIZES = """
select json_build_object(
  'table', pg_table_size('public.whatsapp_keys'), 'index', pg_indexes_size('public.whatsapp_keys'),
  'rows', (select count(*) from public.whatsapp_keys),
  'writers', (select count(*) from public.whatsapp_writers),
  'dead', (select n_dead_tup from pg_stat_user_tables where relname = 'whatsapp_keys'),
  'connections', (select count(*) from pg_stat_activity where datname = current_database()))
"""


class Process:
    """One of the processes that own companies."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.last: dict[str, Any] = {}
        self.violations: list[str] = []
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str, stack: LocalStack, options: Mapping[str, float]) -> Process:
        """Start it; it owns nothing yet."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "soak.worker", name, json.dumps(options),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=stack.env(),
            cwd=PROJECT, limit=1 << 24,
        )  # fmt: skip
        return cls(name, process)

    async def own(self, companies: Mapping[str, int]) -> dict[str, int]:
        """Let it own these companies alone, and give the messages of those that it gave up."""
        await self._send(companies)
        released: dict[str, int] = (await self._answers.get())["released"]
        return released

    async def owning(self) -> None:
        """Wait until it has them all."""
        (await self._answers.get())["owning"]

    async def end(self) -> None:
        """Let it give everything back and end."""
        self._stdin.close()
        await self._process.wait()
        await self._reading

    async def _send(self, message: object) -> None:
        self._stdin.write(json.dumps(message).encode() + b"\n")
        await self._stdin.drain()

    async def _read(self) -> None:
        async for line in self._stdout:
            message = json.loads(line)
            if "sample" in message:
                self.last = message["sample"]
            elif "violation" in message:
                self.violations.append(message["violation"])
            else:
                await self._answers.put(message)
        await self._answers.put({})  # who still waits for an answer raises KeyError


class Soak:
    """The run: its processes, its companies and their messages.

    Attributes:
        samples: what was measured, in order.
        owners: the processes that have owned companies.
    """

    def __init__(self, stack: LocalStack, companies: int, options: Mapping[str, float]) -> None:
        self._stack = stack
        self._options = options
        self._messages = dict.fromkeys((str(962302 + number) for number in range(companies)), 0)
        self._processes: list[Process] = []
        self.samples: list[Sample] = []
        self.owners: set[str] = set()

    @property
    def messages(self) -> int:
        """How many messages were written to companies that their owners have handed over."""
        return sum(self._messages.values())

    @property
    def violations(self) -> list[str]:
        """What was not found as its last owner had stored it."""
        return [each for process in self._processes for each in process.violations]

    async def run(self) -> None:
        """Go through the day."""
        sampling = asyncio.create_task(self._sample())
        await self._begin(WORKERS[0])
        await self._share(1, 0)
        await self._until(12.0)
        for name in WORKERS[1:]:
            await self._begin(name)
        for turn in range(HANDOVERS):
            await self._share(len(WORKERS), turn)
            await self._until(12.0 + 12.0 * (turn + 1) / HANDOVERS)
        sampling.cancel()
        for process in self._processes:
            await process.end()

    async def _begin(self, name: str) -> None:
        self._processes.append(await Process.start(name, self._stack, self._options))

    async def _share(self, among: int, turn: int) -> None:
        """Share the companies: first all that is to be given up, then all that is to be taken."""
        shares: list[dict[str, int]] = [{} for _ in range(among)]
        for number, company in enumerate(self._messages):
            shares[(number + turn * (number % 2)) % among][company] = 0
        for kept in (self._kept(shares), shares):
            for process, share in zip(self._processes, kept, strict=True):
                wanted = {company: self._messages[company] for company in share}
                self._messages |= await process.own(wanted)
            for process, share in zip(self._processes, kept, strict=True):
                await process.owning()
                if share:
                    self.owners.add(process.name)
        self._shares = shares

    def _kept(self, shares: list[dict[str, int]]) -> list[dict[str, int]]:
        before = getattr(self, "_shares", [])
        before = [*before, *([{}] * (len(shares) - len(before)))]
        return [
            {company: 0 for company in was if company in will}
            for was, will in zip(before, shares, strict=True)
        ]

    async def _until(self, hour: float) -> None:
        begun, day = self._options["begun"], self._options["day"]
        await asyncio.sleep(begun + day * hour / 24 - time.time())

    async def _sample(self) -> None:
        every = max(1.0, self._options["day"] / 720)
        with psycopg.connect(self._stack.db_url, autocommit=True) as db:
            while True:
                await asyncio.sleep(every)
                ((sizes,),) = db.execute(_SIZES).fetchall()
                self.samples.append(
                    Sample(self._hour(), sizes, [each.last for each in self._processes])
                )

    def _hour(self) -> float:
        return 24 * (time.time() - self._options["begun"]) / self._options["day"]


def _hurry_autovacuum(stack: LocalStack) -> None:
    """Let it look every second and not every minute, which is hours of a day of some minutes."""
    with stack.cluster.superuser("postgres") as db:
        db.execute("alter system set autovacuum_naptime = '1s'")
        db.execute("select pg_reload_conf()")


def main() -> int:
    """Run, print the table, draw the picture; 1 when a figure grew or a company lost something."""
    chosen = _parser().parse_args()
    day = 86400.0 if chosen.real_time else 60.0 * chosen.minutes
    options = {"begun": time.time(), "day": day, "messages": chosen.messages}
    with LocalStack.start() as stack:
        if not chosen.real_time:
            _hurry_autovacuum(stack)
        soak = Soak(stack, chosen.companies, options)
        asyncio.run(soak.run())
    chosen.out.mkdir(parents=True, exist_ok=True)
    if not chosen.no_plot:
        from .plot import draw

        draw(soak.samples, chosen.out / "soak.svg")
    print("\n".join(table(soak.samples)))
    problems = [*judge(soak.samples), *soak.violations]
    print(
        "\n".join(problems)
        or "every figure is flat, and every owner found what the last one stored"
    )
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--companies", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=6.0, help="how long the day takes")
    parser.add_argument("--messages", type=float, default=150.0, help="of a company in the day")
    parser.add_argument("--real-time", action="store_true", help="a day of 24 hours")
    parser.add_argument("--no-plot", action="store_true", help="for where matplotlib is not there")
    parser.add_argument("--out", type=Path, default=PROJECT / ".devstack" / "soak")
    return parser


if __name__ == "__main__":
    sys.exit(main())
