"""This checkout beside another one: two versions in one run, each on its own migrations.

The same script drives both, each in a process of its own, on two databases of one PostgreSQL; first
on loopback, then over the network. What counts is the ratio within each round.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import sample
from benchmarks.bench import FAR, Bench, far_from
from benchmarks.companies import Companies
from benchmarks.contestants.checkout import OTHER, THIS, worker
from benchmarks.contestants.process import ProcessContestant
from benchmarks.stats import Action, interleave
from benchmarks.workloads import coldstart, keyops, mix
from devstack.binaries import PROJECT
from devstack.stack import Stack

RATIO = "this / other, in each round"
MIX, OWNERS_MIX = mix.AT_ONCE, f"{mix.AT_ONCE}, lease + cache"
ROUNDS = {
    MIX: 20,
    OWNERS_MIX: 20,
    keyops.GET_1: 100,
    keyops.GET_100: 100,
    keyops.SET_1: 100,
    keyops.SET_100: 60,
    keyops.GETS_AT_ONCE: 60,
    keyops.SETS_AT_ONCE: 60,
    coldstart.COLD_START: 40,
}


def workload(name: str, *, far: bool = False) -> str:
    """Return the name of a workload in this group."""
    return f"two versions: {name}{FAR if far else ''}"


async def run(bench: Bench) -> None:
    """Measure the group."""
    if bench.other is None:
        raise ValueError("name the other checkout")
    days = [mix.traffic(seed) for seed in range(2)]
    versions = {THIS: _Version(bench, PROJECT), OTHER: _Version(bench, bench.other)}
    for far in (False, True):
        sides = {name: await version.actions(days, far=far) for name, version in versions.items()}
        for name, rounds in ROUNDS.items():
            actions = {side: by_name[name] for side, by_name in sides.items()}
            await _measure(bench, name, actions, rounds, far=far)


class _Version:
    """A checkout, and a database on its migrations."""

    def __init__(self, bench: Bench, checkout: Path) -> None:
        self._checkout = checkout
        self._closing = bench.closing
        self._stack = bench.stack.fresh()
        self._closing.callback(self._stack.stop)
        self._stack.migrate(checkout)
        self._companies = Companies(self._stack)
        self._closing.callback(self._companies.close)

    async def actions(self, days: list[mix.Traffic], *, far: bool) -> dict[str, Action]:
        """Start a process, open companies of its own, and return its work by workload."""
        stack: Stack = self._stack
        if far:
            stack = await self._closing.enter_async_context(far_from(stack))
        process = await worker(self._checkout, stack.url, stack.service_role_key).start()
        self._closing.push_async_callback(process.close)

        async def opened(keys: sample.Keys, *, lease: bool = False) -> ProcessContestant:
            company_id = self._companies.new(keys)
            contestant = ProcessContestant(company_id, process, company_id)
            await contestant.open(lease=lease)
            return contestant

        variants = [sample.sessions(100, seed) for seed in range(4)]
        ids = list(variants[0])
        one = [{"session": {ids[0]: variant[ids[0]]}} for variant in variants]
        whole = sample.company(1)
        wanted = {key_type: list(values) for key_type, values in whole.items()}
        chats = [day.chats for day in days]
        store = await opened({"session": variants[0]})
        actions = {
            MIX: (await opened(days[0].stored)).replay(chats),
            OWNERS_MIX: (await opened(days[0].stored, lease=True)).replay(chats),
            keyops.GET_1: store.get("session", ids[:1]),
            keyops.GET_100: store.get("session", ids),
            keyops.SET_1: store.set(one),
            keyops.SET_100: store.set([{"session": variant} for variant in variants]),
            keyops.GETS_AT_ONCE: store.gets_at_once("session", ids),
            keyops.SETS_AT_ONCE: store.sets_at_once("session", variants),
            coldstart.COLD_START: (await opened(whole)).action("cold-start", [wanted]),
        }
        self._companies.settle()
        return actions


async def _measure(
    bench: Bench, name: str, actions: dict[str, Action], rounds: int, *, far: bool
) -> None:
    is_short = name not in {MIX, OWNERS_MIX}
    samples = await interleave(actions, rounds=bench.rounds(rounds), primed=is_short)
    kept = workload(name, far=far)
    for side, seconds in samples.items():
        bench.keep(kept, side, seconds)
    pairs = zip(samples[THIS], samples[OTHER], strict=True)
    bench.keep(kept, RATIO, [mine / theirs for mine, theirs in pairs], unit="times")
