"""A process that owns some of the companies and lets their clients chat.

    python -m soak.worker NAME OPTIONS

OPTIONS is JSON: `begun` (unix time), `day` (seconds that a day takes) and `messages` (how many a
company has in the day). The project is that of the environment. Each line of input is a JSON object
`{company: messages so far}`: what this process is to own from then on. Lines of output are
`{"sample": …}` once a second, `{"released": {company: messages}}` after each line of input, and
`{"violation": …}` when a company does not hold what its last owner stored.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from soak.traffic import Client, rate
from supabase_auth_state import AuthState, SessionPool, open_rest, start_automatic_cleanup
from supabase_auth_state.codec import revive
from supabase_auth_state.rest.activity import ACTIVITY

COUNTER = "15550000000.0"
"""The session in which the messages of a company are counted."""


class Connection:
    """A company's client, which chats until it is closed."""

    def __init__(self, company_id: str, auth: AuthState, options: Mapping[str, float]) -> None:
        self.company_id = company_id
        self.messages = 0
        self._auth = auth
        self._options = options
        self._client = Client(int(company_id))
        self._chat: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def open(self, expected: int) -> None:
        """Look what the last owner left, and go on from there."""
        found = await self._auth.keys.get("session", [COUNTER])
        self.messages = found[COUNTER]["n"] if found else 0
        if self.messages != expected:
            say({"violation": f"{self.company_id}: {self.messages} of {expected} messages"})
        upto = self._auth.creds["nextPreKeyId"]
        ids = [str(number) for number in range(max(1, upto - 300), upto)]
        unused = sorted(map(int, await self._auth.keys.get("pre-key", ids)))
        await self._do(self._client.begin(unused, upto))
        self._chat = asyncio.create_task(self._chatting())

    async def close(self) -> None:
        """End after the message that is under way."""
        self._ending.set()
        if self._chat is not None:
            await self._chat

    async def _chatting(self) -> None:
        chance = self._client.chance
        while True:
            hour = 24 * (time.time() - self._options["begun"]) / self._options["day"]
            pause = self._options["day"] / self._options["messages"] / 2 / rate(hour)
            if await self._ends_within(chance.expovariate(1 / pause)):
                return
            await self._do([*self._client.message()])
            counted = {"session": {COUNTER: {"n": self.messages + 1}}}
            await self._auth.keys.set(counted)
            self.messages += 1

    async def _ends_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._ending.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    async def _do(self, steps: list[Any]) -> None:
        for step in steps:
            if step[0] == "get":
                await self._auth.keys.get(step[1], step[2])
            else:
                data = {
                    kind: {name: None if value is None else revive(value)
                           for name, value in values.items()}
                    for kind, values in step[1].items()
                }  # fmt: skip
                await self._auth.keys.set(data)
        if self._client.next_pre_key != self._auth.creds["nextPreKeyId"]:
            self._auth.creds["nextPreKeyId"] = self._client.next_pre_key
            await self._auth.save_creds()


class Worker:
    """The process's pool, and what of it can be measured."""

    def __init__(self, name: str, options: Mapping[str, float]) -> None:
        self._name = name
        self._options = options
        self._own: dict[str, int] = {}
        self._open: dict[str, Connection] = {}

    async def run(self) -> None:
        """Serve until the input ends."""
        rest = open_rest()
        async with (
            SessionPool(self._connect, client=rest) as pool,
            start_automatic_cleanup(max(1.0, self._options["day"] / 24), client=rest),
        ):
            sampling = asyncio.create_task(self._sample())
            while line := await asyncio.to_thread(sys.stdin.readline):
                await self._take(pool, json.loads(line))
            sampling.cancel()
            await self._take(pool, {})
        await rest.close()

    async def _take(self, pool: SessionPool[Connection], own: dict[str, int]) -> None:
        self._own = own
        given_up = [company for company in self._open if company not in own]
        await asyncio.gather(*map(pool.close, given_up))
        say({"released": {company: self._open.pop(company).messages for company in given_up}})
        await asyncio.gather(*(pool.get(company) for company in own))
        say({"owning": len(own)})

    async def _connect(self, company_id: str, auth: AuthState) -> Connection:
        connection = Connection(company_id, auth, self._options)
        await connection.open(self._own[company_id])
        self._open[company_id] = connection
        return connection

    async def _sample(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(1)
            say({"sample": {
                **_of_the_process(),
                "tasks": len(asyncio.all_tasks()),
                "late": time.perf_counter() - began - 1,
                "received": sum(each.received for each in ACTIVITY.traffic.values()),
                "messages": sum(each.messages for each in self._open.values()),
                "companies": len(self._open),
            }})  # fmt: skip


def _of_the_process() -> dict[str, int]:
    links = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the folder's own, which is closed by now
            links.add(str(descriptor.readlink()))
    sockets = sum(link.startswith("socket:") for link in links)
    return {
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
        "files": len(links) - sockets,
        "sockets": sockets,
    }


def say(message: object) -> None:
    """Print one line of JSON."""
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    asyncio.run(Worker(sys.argv[1], json.loads(sys.argv[2])).run())
