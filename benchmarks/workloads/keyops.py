"""Reads and writes of 1 and of 100 keys, in turn and all at once, and reads from memory."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence

from benchmarks import sample
from benchmarks.bench import Bench
from benchmarks.contestants.base import Contestant
from benchmarks.contestants.floor import BulkUpsert
from benchmarks.contestants.library import OWNER, Library
from benchmarks.contestants.node import CACHED, FILES, open_files
from benchmarks.sample import Document
from benchmarks.stats import Action

GET_1, GET_100, SET_1, SET_100 = "get 1", "get 100", "set 1", "set 100"
GETS_AT_ONCE, SETS_AT_ONCE = "100 concurrent gets of 1", "100 concurrent sets of 1"
CACHED_BYTES, CACHED_SESSION = "get 1, cached, bytes", "get 1, cached, session"
IDENTITY = "15550200000.0"
REPEATS = 200


async def run(bench: Bench) -> None:
    """Measure the group."""
    variants = [sample.sessions(100, seed) for seed in range(4)]
    ids = list(variants[0])
    keys = {"session": variants[0], "identity-key": {IDENTITY: _identity()}}
    stores = await bench.contestants(keys)
    sealed = await Library.open_sealed(bench.rest, bench.company(keys))
    bench.closing.push_async_callback(sealed.close)
    stores[sealed.name] = sealed
    floor, upsert = bench.floor(keys), BulkUpsert(bench.http, bench.company(keys))
    one = [{"session": {ids[0]: variant[ids[0]]}} for variant in variants]
    hundred = [{"session": variant} for variant in variants]
    # A read through a cache that holds the key is measured below, under its own name.
    cold = {name: store for name, store in stores.items() if name != CACHED}

    def gets(wanted: Sequence[str]) -> dict[str, Action]:
        return {floor.name: floor.get("session", wanted)} | {
            name: store.get("session", wanted) for name, store in cold.items()
        }

    def sets(data: Sequence[sample.Keys]) -> dict[str, Action]:
        return {writer.name: writer.set(data) for writer in (floor, upsert)} | {
            name: store.set(data) for name, store in stores.items()
        }

    await bench.measure(GET_1, gets(ids[:1]), rounds=100, primed=True)
    await bench.measure(GET_100, gets(ids), rounds=100, primed=True)
    await bench.measure(SET_1, sets(one), rounds=100, primed=True)
    bench.companies.settle()
    await bench.measure(SET_100, sets(hundred), rounds=60, primed=True)
    bench.companies.settle()
    await _at_once(bench, cold, stores, ids, variants)
    if not bench.is_far:
        await _cached(bench, keys, ids[0])


async def _at_once(
    bench: Bench,
    cold: Mapping[str, Contestant],
    stores: Mapping[str, Contestant],
    ids: Sequence[str],
    variants: Sequence[Mapping[str, Document]],
) -> None:
    gets = {name: store.gets_at_once("session", ids) for name, store in cold.items()}
    sets = {name: store.sets_at_once("session", variants) for name, store in stores.items()}
    await bench.measure(GETS_AT_ONCE, gets, rounds=30, primed=True)
    await bench.measure(SETS_AT_ONCE, sets, rounds=30, primed=True)


async def _cached(bench: Bench, keys: sample.Keys, session_id: str) -> None:
    owner = await Library.open(bench.rest, bench.company(keys), lease=True)
    bench.closing.push_async_callback(owner.close)
    folder = bench.baileys_folder(keys)
    files = await open_files(bench.node, folder)
    cached = await open_files(bench.node, folder, cached=True)
    for workload, key_type, key_id in (
        (CACHED_BYTES, "identity-key", IDENTITY),
        (CACHED_SESSION, "session", session_id),
    ):
        actions = {
            OWNER: _repeated(owner, key_type, key_id),
            FILES: files.get(key_type, [key_id]),
            CACHED: cached.get(key_type, [key_id]),
        }
        await bench.measure(
            workload,
            actions,
            rounds=50,
            note="a file is read each time; the others answer from memory",
        )


def _repeated(owner: Library, key_type: str, key_id: str) -> Action:
    async def action() -> float:
        started = time.perf_counter()
        for _ in itertools.repeat(None, REPEATS):
            await owner.keys.get(key_type, [key_id])
        return (time.perf_counter() - started) / REPEATS

    return action


def _identity() -> Document:
    return {"type": "Buffer", "data": "BQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"}
