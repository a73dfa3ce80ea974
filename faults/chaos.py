"""What happens to the servers of a stack: killed, frozen, cut off, slow, reading the schema."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg

from devstack import LocalStack

_PAUSE = (0.5, 3.0)
_LASTS = (0.2, 1.5)

_BEFORE_EACH_REQUEST = (
    "create or replace function chaos.before() returns void language plpgsql as $$ begin {}; end $$"
)
_PREPARE = f"""
create schema if not exists chaos;
grant usage on schema chaos to public;
{_BEFORE_EACH_REQUEST.format("null")};
grant execute on function chaos.before() to public;
alter role authenticator set pgrst.db_pre_request = 'chaos.before';
"""


class Chaos:
    """Disturbs the servers of a stack, one after the other, until it is stopped.

    Args:
        stack: a stack of its own.
        chance: decides what and when.

    Attributes:
        done: how often each thing has happened.
    """

    def __init__(self, stack: LocalStack, chance: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._stack = stack
        self._chance = chance

    async def run(self, seconds: float) -> None:
        """Disturb for so long; every server works when this returns."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        deeds: list[Callable[[], Awaitable[None]]] = [
            self.kill_postgrest, self.kill_postgres, self.stop_gateway, self.freeze_postgrest,
            self.reload_schema, self.lock_rows, self.cut_statements, self.end_connections,
            self.start_without_postgres, self.hide_functions, self.make_read_only, self.fail_over,
        ]  # fmt: skip
        while loop.time() < until:
            deed = self._chance.choice(deeds)
            await deed()
            self.done[deed.__name__.replace("_", " ")] += 1
            await asyncio.sleep(self._chance.uniform(*_PAUSE))

    async def prepare(self) -> None:
        """Let PostgREST call a function before each request, once in the life of a stack."""
        await self.execute(_PREPARE)
        await asyncio.to_thread(self._stack.reload_schema)

    async def kill_postgrest(self) -> None:
        """End PostgREST as a crash would, and start it again."""
        await asyncio.to_thread(self._stack.postgrest.kill)
        await self._a_while()
        await asyncio.to_thread(self._stack.postgrest.start)

    async def kill_postgres(self) -> None:
        """End PostgreSQL as a crash would, and start it again."""
        await asyncio.to_thread(self._stack.postgres.kill)
        await asyncio.to_thread(self._stack.postgres.start)

    async def start_without_postgres(self) -> None:
        """Let PostgREST start before PostgreSQL: it answers PGRST002 until it has the schema."""
        await asyncio.to_thread(self._stack.postgres.kill)
        await asyncio.to_thread(self._stack.postgrest.kill)
        await asyncio.to_thread(self._stack.postgrest.launch)
        await self._a_while()
        await asyncio.to_thread(self._stack.postgres.start)
        await asyncio.to_thread(self._stack.postgrest.wait_until_ready)

    async def hide_functions(self) -> None:
        """Take a function away for a while, as a schema cache that is out of date does: PGRST202.

        Only one that reads: a client takes a function that is missing for one that never was.
        """
        there, away = "fetch_whatsapp_keys(text,jsonb,text)", "hidden(text,jsonb,text)"
        await self.execute(f"alter function public.{there} rename to hidden")
        await self.reload_schema()
        await self._a_while()
        await self.execute(f"alter function public.{away} rename to fetch_whatsapp_keys")
        await self.reload_schema()

    async def make_read_only(self) -> None:
        """Let every transaction only read, as a database whose disk is full: 25006.

        Not by `default_transaction_read_only`: PostgREST begins each write with `read write`.
        """
        await self.execute(_BEFORE_EACH_REQUEST.format("set transaction read only"))
        try:
            await self._a_while()
        finally:
            await self.execute(_BEFORE_EACH_REQUEST.format("null"))

    async def fail_over(self) -> None:
        """Let PostgreSQL be a replica that only reads for a while, and then take over."""
        await asyncio.to_thread(self._stack.postgres.kill)
        (self._stack.postgres.data / "standby.signal").touch()
        await asyncio.to_thread(self._stack.postgres.start)
        await self._a_while()
        await self.execute("select pg_promote()")

    async def stop_gateway(self) -> None:
        """Refuse connections for a while."""
        await asyncio.to_thread(self._stack.gateway.stop)
        await self._a_while()
        await asyncio.to_thread(self._stack.gateway.start)

    async def freeze_postgrest(self) -> None:
        """Let PostgREST stand still, perhaps between a statement and its commit."""
        self._stack.postgrest.pause()
        await self._a_while()
        self._stack.postgrest.resume()

    async def reload_schema(self) -> None:
        """Let PostgREST look at the database anew."""
        await self.execute("notify pgrst, 'reload schema'")

    async def lock_rows(self) -> None:
        """Hold locks for a while, as a long transaction of maintenance does."""
        table = self._chance.choice(["whatsapp_keys", "whatsapp_leases", "whatsapp_auth"])
        # A statement of one transaction: the locks end with it, also when it is the one that
        # PostgreSQL ends because a request has locked the same rows in another order.
        with suppress(psycopg.errors.DeadlockDetected):
            await self.execute(
                f"with locked as (select 1 from public.{table} for update) "  # noqa: S608
                f"select count(*), pg_sleep({self._chance.uniform(*_LASTS):.2f}) from locked"
            )

    async def cut_statements(self) -> None:
        """Let statements time out almost at once, in connections that begin now."""
        await self.execute("alter role authenticator set statement_timeout = '2ms'")
        await self.end_connections()
        await self._a_while()
        await self.execute("alter role authenticator reset statement_timeout")
        await self.end_connections()

    async def end_connections(self) -> None:
        """End every connection to the database, as a failover does."""
        await self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'authenticator'"
        )

    async def execute(self, statement: str) -> None:
        """Run statements in the stack's database, as its superuser."""

        def run() -> None:
            with self._stack.cluster.superuser(self._stack.database) as connection:
                connection.execute(statement.encode())

        await asyncio.to_thread(run)

    async def _a_while(self) -> None:
        await asyncio.sleep(self._chance.uniform(*_LASTS))
