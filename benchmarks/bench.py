"""Everything a workload works with: the stack, the clients, and how much to do."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psycopg
from supabase import AsyncClient, acreate_client

from benchmarks import sample
from benchmarks.contestants.base import Contestant, StoreContestant
from benchmarks.contestants.floor import AiohttpFloor, Floor, bare_client, bare_session
from benchmarks.contestants.library import Library
from benchmarks.contestants.node import CACHED, FILES, Node, NodeContestant
from benchmarks.contestants.port import Port
from benchmarks.contestants.postgres import Connections, Postgres
from benchmarks.stats import Action, Result, Results, interleave
from devstack.local import LocalStack
from supabase_auth_state.codec import revive
from supabase_auth_state.config import Settings
from supabase_auth_state.files.names import file_name
from supabase_auth_state.rest.client import Rest, open_rest

PORT, POSTGRES = "supabase-py port", "PostgreSQL directly"


@dataclass
class Bench:
    """A stack of its own for one workload group, and the clients on it."""

    stack: LocalStack
    db: psycopg.Connection[Any]
    http: httpx.AsyncClient
    session: aiohttp.ClientSession
    supabase: AsyncClient
    rest: Rest
    node: Node
    connections: Connections
    folder: Path
    quick: bool
    results: Results
    closing: AsyncExitStack
    companies: int = field(default=0)

    def rounds(self, full: int) -> int:
        """Give how often to measure: `full`, or a fifth of it in a quick run, at least 3."""
        return max(3, full // 5) if self.quick else full

    def company(self, keys: sample.Keys | None = None) -> str:
        """Store a new company, by default the sample session, and give its id."""
        self.companies += 1
        company_id = str(962301 + self.companies)
        self.store(company_id, sample.company(self.companies) if keys is None else keys)
        return company_id

    def store(self, company_id: str, keys: sample.Keys) -> None:
        """Write creds and keys of a company straight into the tables."""
        state = {"company_id": company_id, "creds": sample.creds(), "keys": keys}
        self.db.execute("select commit_whatsapp_state(%s)", (json.dumps(state),))

    def settle(self) -> None:
        """Leave the tables as autovacuum does, which is off so that it meets nobody alone."""
        self.db.execute("vacuum analyze whatsapp_auth")
        self.db.execute("vacuum analyze whatsapp_keys")
        with self.stack.cluster.superuser(self.stack.database) as admin:
            admin.execute("checkpoint")

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
        """Give every key store, each on a company or folder of its own that holds `keys`."""
        library = await Library.open(self.rest, self.company(keys))
        stores: list[Contestant] = [
            library,
            StoreContestant(PORT, Port(self.supabase, self.company(keys)), revive),
            StoreContestant(
                POSTGRES, Postgres(self.connections, self.company(keys)), lambda document: document
            ),
            await NodeContestant(FILES, self.node).open(self.baileys_folder(keys)),
            await NodeContestant(CACHED, self.node).open(self.baileys_folder(keys)),
        ]
        self.closing.push_async_callback(library.close)
        self.settle()
        if leases:
            owner = await Library.open(self.rest, self.company(keys), lease=True)
            self.closing.push_async_callback(owner.close)
            stores.insert(0, owner)
        return {store.name: store for store in stores}

    def floor(self, keys: sample.Keys) -> Floor:
        """Give the floor on a company of its own that holds `keys`."""
        return Floor(self.http, self.company(keys))

    def aiohttp_floor(self, keys: sample.Keys) -> AiohttpFloor:
        """Give the same by aiohttp."""
        return AiohttpFloor(self.session, self.company(keys))

    async def measure(
        self,
        workload: str,
        actions: dict[str, Action],
        *,
        rounds: int,
        warmups: int = 3,
        primed: bool = False,
        note: str = "",
    ) -> None:
        """Measure one workload, all contestants in turn, and keep the results."""
        samples = await interleave(
            actions, rounds=self.rounds(rounds), warmups=warmups, primed=primed
        )
        for contestant, values in samples.items():
            self.keep(workload, contestant, values, note=note)

    def keep(
        self,
        workload: str,
        contestant: str,
        samples: Sequence[float],
        *,
        unit: str = "s",
        note: str = "",
    ) -> None:
        """Keep what was measured."""
        self.results.add(Result(workload, contestant, tuple(samples), unit, note))

    def extend(self, workload: str, contestant: str, sample: float, *, unit: str) -> None:
        """Keep one more sample of what was measured before."""
        before = self.results.find(workload, contestant)
        if before is not None:
            self.results.items.remove(before)
        samples = (*before.samples, sample) if before is not None else (sample,)
        self.keep(workload, contestant, samples, unit=unit)


@asynccontextmanager
async def open_bench(results: Results, *, quick: bool) -> AsyncIterator[Bench]:
    """Start a durable stack and open every client on it; all of it ends with the block."""
    async with AsyncExitStack() as closing:
        stack = closing.enter_context(LocalStack.start(durable=True))
        db = closing.enter_context(psycopg.connect(stack.db_url, autocommit=True))
        for table in ("whatsapp_auth", "whatsapp_keys"):
            db.execute(f"alter table {table} set (autovacuum_enabled = off)")
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        closing.callback(shutil.rmtree, folder, ignore_errors=True)
        rest = open_rest(Settings(url=stack.url, key=stack.service_role_key, timeout=120))
        closing.push_async_callback(rest.close)
        http = await closing.enter_async_context(bare_client(stack))
        session = await closing.enter_async_context(bare_session(stack))
        supabase = await acreate_client(stack.url, stack.service_role_key)
        closing.push_async_callback(supabase.postgrest.aclose)
        node = await Node().start()
        closing.push_async_callback(node.close)
        connections = await Connections().open(stack.db_url)
        closing.push_async_callback(connections.close)
        yield Bench(
            stack, db, http, session, supabase, rest, node, connections, folder, quick, results,
            await closing.enter_async_context(AsyncExitStack()),
        )  # fmt: skip
