"""Everything a workload works with: the stack, the clients, and how much to do."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
from supabase import AsyncClient, acreate_client

from benchmarks import sample
from benchmarks.companies import Companies
from benchmarks.contestants.base import Contestant, StoreContestant
from benchmarks.contestants.floor import Floor, bare_client
from benchmarks.contestants.library import Library
from benchmarks.contestants.node import node, open_files
from benchmarks.contestants.port import Port
from benchmarks.contestants.postgres import Connections, Postgres
from benchmarks.contestants.process import Process
from benchmarks.network import ONE_WAY, open_network
from benchmarks.stats import Action, Result, Results, interleave
from devstack.local import LocalStack
from devstack.stack import Stack
from supabase_auth_state.codec import revive
from supabase_auth_state.config import Settings
from supabase_auth_state.files.names import file_name
from supabase_auth_state.rest.client import Rest, open_rest

PORT, POSTGRES = "supabase-py port", "PostgreSQL directly"
FAR = f", {ONE_WAY * 2000:.0f} ms away"
"""What is added to the name of a workload whose servers are behind a network."""

_FAR_ROUNDS = 3


@dataclass
class Bench:
    """A stack of its own for one workload group, and the clients on it.

    Attributes:
        group: the group's name.
        stack: the servers themselves.
        reached: the addresses at which the contestants reach them.
        companies: the companies in its database.
        other: a checkout of another version to compare with, if one was named.
        quick: whether fewer rounds and smaller tables are enough.
        closing: what to close when the group ends.
    """

    group: str
    stack: LocalStack
    reached: Stack
    companies: Companies
    http: httpx.AsyncClient
    supabase: AsyncClient
    rest: Rest
    node: Process
    connections: Connections
    folder: Path
    other: Path | None
    quick: bool
    results: Results
    closing: AsyncExitStack

    @property
    def db(self) -> psycopg.Connection[Any]:
        """A connection as the project's owner, without the network."""
        return self.companies.db

    @property
    def is_far(self) -> bool:
        """Whether there is a network between the contestants and the servers."""
        return self.reached is not self.stack

    def rounds(self, full: int) -> int:
        """Return how often to measure: `full`, or a part of it in a quick run or over a network."""
        part = (5 if self.quick else 1) * (_FAR_ROUNDS if self.is_far else 1)
        return max(3, full // part)

    def company(self, keys: sample.Keys | None = None) -> str:
        """Store a new company, by default the sample session, and return its id."""
        return self.companies.new(keys)

    def baileys_folder(self, keys: sample.Keys) -> Path:
        """Write an auth folder and give its path."""
        path = Path(tempfile.mkdtemp(dir=self.folder))
        (path / "creds.json").write_text(json.dumps(sample.creds()))
        for _, key_type, key_id, document in sample.rows("", keys):
            (path / file_name(key_type, key_id)).write_text(
                json.dumps(document, separators=(",", ":"))
            )
        return path

    async def contestants(
        self, keys: sample.Keys, *, leases: bool = False
    ) -> dict[str, Contestant]:
        """Give every key store, each on a company or folder of its own that holds `keys`.

        Baileys' files are on the local disk: over a network they are left out.
        """
        library = await Library.open(self.rest, self.company(keys))
        self.closing.push_async_callback(library.close)
        stores: list[Contestant] = [
            library,
            StoreContestant(PORT, Port(self.supabase, self.company(keys)), revive),
            StoreContestant(
                POSTGRES, Postgres(self.connections, self.company(keys)), lambda document: document
            ),
        ]
        if not self.is_far:
            stores += [
                await open_files(self.node, self.baileys_folder(keys), cached=cached)
                for cached in (False, True)
            ]
        self.companies.settle()
        if leases:
            owner = await Library.open(self.rest, self.company(keys), lease=True)
            self.closing.push_async_callback(owner.close)
            stores.insert(0, owner)
        return {store.name: store for store in stores}

    def floor(self, keys: sample.Keys) -> Floor:
        """Give the floor on a company of its own that holds `keys`."""
        return Floor(self.http, self.company(keys))

    async def measure(
        self,
        workload: str,
        actions: dict[str, Action],
        *,
        rounds: int,
        warmups: int = 3,
        primed: bool = False,
        messages: int | None = None,
        note: str = "",
    ) -> None:
        """Measure one workload, all contestants in turn, and keep the results.

        Args:
            workload: its name.
            actions: by contestant.
            rounds: how many samples of each are kept in a full run on loopback.
            warmups: rounds before.
            primed: see `interleave`.
            messages: how many messages one run replays; then messages/s are kept, not seconds.
            note: what a reader must know about all of them.
        """
        samples = await interleave(
            actions, rounds=self.rounds(rounds), warmups=warmups, primed=primed
        )
        for contestant, values in samples.items():
            if messages is None:
                self.keep(workload, contestant, values, note=note)
            else:
                rates = [messages / seconds for seconds in values]
                self.keep(workload, contestant, rates, unit="messages/s", note=note)

    def keep(
        self,
        workload: str,
        contestant: str,
        samples: Sequence[float],
        *,
        unit: str = "s",
        note: str = "",
    ) -> None:
        """Keep what was measured, and show that it was."""
        name = workload + (FAR if self.is_far else "")
        result = Result(name, contestant, tuple(samples), unit, note, self.group)
        self.results.add(result)
        print(f"{name}: {contestant}: {result.median:.4g} {unit}", file=sys.stderr)

    def extend(self, workload: str, contestant: str, sample: float, *, unit: str) -> None:
        """Keep one more sample of what was measured before."""
        before = self.results.find(workload, contestant)
        if before is not None:
            self.results.items.remove(before)
        samples = (*before.samples, sample) if before is not None else (sample,)
        self.keep(workload, contestant, samples, unit=unit)


@asynccontextmanager
async def open_bench(
    group: str, results: Results, *, quick: bool, far: bool = False, other: Path | None = None
) -> AsyncIterator[Bench]:
    """Start a durable stack and open every client on it; all of it ends with the block.

    Args:
        group: see `Bench`.
        results: where results are kept.
        quick: see `Bench`.
        far: put a network between the clients and the servers.
        other: see `Bench`.
    """
    async with AsyncExitStack() as closing:
        stack = closing.enter_context(LocalStack.start(durable=True))
        reached = await closing.enter_async_context(far_from(stack)) if far else stack
        companies = Companies(stack)
        closing.callback(companies.close)
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        closing.callback(shutil.rmtree, folder, ignore_errors=True)
        rest = open_rest(Settings(url=reached.url, key=reached.service_role_key, timeout=120))
        closing.push_async_callback(rest.close)
        http = await closing.enter_async_context(bare_client(reached))
        supabase = await acreate_client(reached.url, reached.service_role_key)
        closing.push_async_callback(supabase.postgrest.aclose)
        files = await node().start()
        closing.push_async_callback(files.close)
        connections = await Connections().open(reached.db_url)
        closing.push_async_callback(connections.close)
        yield Bench(
            group, stack, reached, companies, http, supabase, rest, files, connections, folder,
            other, quick, results, await closing.enter_async_context(AsyncExitStack()),
        )  # fmt: skip


@asynccontextmanager
async def far_from(stack: Stack) -> AsyncIterator[Stack]:
    """Give the addresses of a stack's API and database behind a network."""
    near = [httpx.URL(url).netloc.decode() for url in (stack.url, stack.db_url)]
    async with open_network(*near) as far:
        url, db_url = (
            address.replace(here, there)
            for address, here, there in zip((stack.url, stack.db_url), near, far, strict=True)
        )
        yield replace(stack, url=url, db_url=db_url)
