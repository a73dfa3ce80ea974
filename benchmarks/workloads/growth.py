"""Reads and writes while the tables grow: 100, 1,000 and 10,000 companies of 335 keys.

Each size is a database of its own in one PostgreSQL, so that the sizes can be measured in turn.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import psycopg

from benchmarks import sample
from benchmarks.bench import Bench
from benchmarks.contestants.base import KeyStore
from benchmarks.contestants.library import Library
from benchmarks.stats import Action, timed
from devstack.local import LocalStack
from supabase_auth_state.codec import revive
from supabase_auth_state.config import Settings
from supabase_auth_state.rest.client import open_rest

SIZES = (100, 1_000, 10_000)
OPEN = 30
OPERATIONS = ("get 1", "get 100", "set 1", "set 100")
TAKEN = {"session": 49, "identity-key": 38, "device-list": 13}
"""How many keys of each type make the hundred."""

_FILL_AUTH = """
insert into whatsapp_auth (company_id, creds)
select number::text, %s::jsonb from generate_series(%s::int, %s::int) as number
"""
_FILL_KEYS = """
insert into whatsapp_keys (company_id, key_type, key_id, value)
select number::text, t.key_type, t.key_id, t.value
from generate_series(%s::int, %s::int) as number
cross join unnest(%s::text[], %s::text[], %s::jsonb[]) as t (key_type, key_id, value)
"""


async def run(bench: Bench) -> None:
    """Measure the group."""
    sizes = SIZES[:2] if bench.quick else SIZES
    keys = sample.company(7)
    places = {size: await _grown(bench, size, keys) for size in sizes}
    for operation in OPERATIONS:
        actions = {name(size): _action(operation, stores, keys) for size, stores in places.items()}
        await bench.measure(workload(operation), actions, rounds=60, primed=True)


def workload(operation: str) -> str:
    """Give the workload's name."""
    return f"{operation}, tables growing"


def name(size: int) -> str:
    """Give the name of a size among the contestants."""
    return f"{size:,} companies"


async def _grown(bench: Bench, size: int, keys: sample.Keys) -> list[KeyStore]:
    stack = bench.stack.fresh(migrate=True)
    bench.closing.callback(stack.stop)
    await asyncio.to_thread(fill, stack, size, keys)
    rest = open_rest(Settings(url=stack.url, key=stack.service_role_key))
    bench.closing.push_async_callback(rest.close)
    chosen = random.Random(size).sample(range(size), OPEN)
    opened = [await Library.open(rest, str(number)) for number in chosen]
    return [library.keys for library in opened]


def fill(stack: LocalStack, size: int, keys: sample.Keys) -> None:
    """Write `size` companies, 100 in a transaction, and leave the tables vacuumed."""
    from json import dumps

    _, types, ids, documents = zip(*sample.rows("", keys), strict=True)
    values = [dumps(document) for document in documents]
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        for start in range(0, size, 100):
            end = min(start + 100, size) - 1
            db.execute(_FILL_AUTH, (dumps(sample.creds()), start, end))
            db.execute(_FILL_KEYS, (start, end, list(types), list(ids), values))
        db.execute("vacuum analyze whatsapp_keys")
        db.execute("vacuum analyze whatsapp_auth")


def _action(operation: str, stores: list[KeyStore], keys: sample.Keys) -> Action:
    chance = random.Random(operation)
    count = int(operation.split()[1])
    wanted = {key_type: list(keys[key_type])[:most] for key_type, most in TAKEN.items()}
    if count == 1:
        wanted = {"session": wanted["session"][:1]}
    data = {
        key_type: {key_id: revive(keys[key_type][key_id]) for key_id in ids}
        for key_type, ids in wanted.items()
    }

    async def read(store: KeyStore) -> None:
        await asyncio.gather(*(store.get(key_type, ids) for key_type, ids in wanted.items()))

    async def write(store: KeyStore) -> None:
        await store.set(data)

    work: Callable[[KeyStore], Awaitable[None]] = read if operation.startswith("get") else write
    return timed(lambda: work(chance.choice(stores)))
