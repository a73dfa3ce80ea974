"""The import of 100 and of 1,000 folders, beside bare upserts of the same rows, four at a time.

The import also takes a lease, backs up every folder, checks every file, keeps the files' times and
reads everything back; the bare upserts do nothing but write rows that are in memory already.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

import orjson

from benchmarks import sample
from benchmarks.bench import Bench
from benchmarks.contestants.floor import upsert, upsert_body
from benchmarks.contestants.library import LIBRARY
from supabase_auth_state.transfer.import_each import CONCURRENCY, ImportOutcome, import_each

BARE = "bare bulk upserts"
_ANY_COMPANY = "962302000000000"
_HOUR = 3600.0


def workload(companies: int) -> str:
    """Give the workload's name."""
    return f"import of {companies:,} companies"


def memory(companies: int) -> str:
    """Give the name of the workload's memory."""
    return f"{workload(companies)}, peak memory"


async def run(bench: Bench) -> None:
    """Measure the group."""
    keys = sample.company(1)
    folder = bench.baileys_folder(keys)
    # An import refuses a folder that somebody may be writing to.
    for path in folder.iterdir():
        os.utime(path, (time.time() - _HOUR,) * 2)
    await _round(bench, folder, keys, 20, keep=False)
    for _ in range(3):
        await _round(bench, folder, keys, 100)
    if not bench.quick:
        await _round(bench, folder, keys, 1000)


async def _round(
    bench: Bench, folder: Path, keys: sample.Keys, companies: int, *, keep: bool = True
) -> None:
    bench.db.execute("truncate whatsapp_keys, whatsapp_auth")
    parent = await asyncio.to_thread(_many, folder, companies)
    seconds, peak = await _watched(lambda: _import(bench, parent))
    shutil.rmtree(parent)
    bench.db.execute("truncate whatsapp_keys, whatsapp_auth")
    bare, _ = await _watched(lambda: _upserts(bench, keys, companies))
    if keep:
        rows = companies * (1 + sum(map(len, keys.values())))
        bench.extend(workload(companies), LIBRARY, rows / seconds, unit="rows/s")
        bench.extend(workload(companies), BARE, rows / bare, unit="rows/s")
        bench.extend(memory(companies), LIBRARY, peak / 1e6, unit="MB")


def _many(folder: Path, companies: int) -> Path:
    """Make a folder of folders, each of a device of its own.

    The files are hard links but for the creds, so that they cost no disk.
    """
    parent = folder.with_name(f"{folder.name}-many")
    creds = orjson.loads((folder / "creds.json").read_bytes())
    changed = (folder / "creds.json").stat().st_mtime
    for number in range(companies):
        target = parent / str(962302 + number)
        target.mkdir(parents=True)
        for path in folder.iterdir():
            if path.name != "creds.json":
                os.link(path, target / path.name)
        own = target / "creds.json"
        own.write_bytes(orjson.dumps({**creds, "registrationId": number}))
        os.utime(own, (changed, changed))
    return parent


async def _import(bench: Bench, parent: Path) -> None:
    def check(outcome: ImportOutcome) -> None:
        if outcome.error is not None:
            raise outcome.error

    await import_each(parent, client=bench.rest, on_outcome=check)


async def _upserts(bench: Bench, keys: sample.Keys, companies: int) -> None:
    body = upsert_body(_ANY_COMPANY, keys)
    creds = orjson.dumps([{"company_id": _ANY_COMPANY, "creds": sample.creds()}])
    numbers = iter(range(companies))

    async def work() -> None:
        for number in numbers:
            company_id = str(962302 + number).encode()
            await upsert(bench.http, body.replace(_ANY_COMPANY.encode(), company_id))
            answer = await bench.http.post(
                "whatsapp_auth?columns=company_id,creds",
                content=creds.replace(_ANY_COMPANY.encode(), company_id),
                headers={"prefer": "resolution=merge-duplicates,return=minimal"},
            )
            answer.raise_for_status()

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


async def _watched(work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Give the seconds that `work` took and the most bytes this process had meanwhile."""
    seen = [_resident()]
    watching = asyncio.create_task(_watch(seen))
    started = time.perf_counter()
    await work()
    seconds = time.perf_counter() - started
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    return seconds, max(seen)


async def _watch(seen: list[float]) -> None:
    while True:
        seen.append(_resident())
        await asyncio.sleep(0.05)


def _resident() -> float:
    pages: Iterable[str] = Path("/proc/self/statm").read_text().split()
    return float(list(pages)[1]) * os.sysconf("SC_PAGE_SIZE")
