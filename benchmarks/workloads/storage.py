"""Bytes a company takes after a week of rewriting: ours beside the plain schema, all included.

A week is played without waiting: sessions and sender-keys are rewritten with other random bytes, a
few contacts most of the time; pre-keys are used up and topped up; mappings are read. Autovacuum
comes when its own rule says so, but by our hand: played at full speed it would come late, and the
result would depend on the machine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from benchmarks import sample
from benchmarks.bench import Bench
from benchmarks.contestants.library import LIBRARY
from benchmarks.table import OUR_TABLE, PLAIN_TABLE, Table

FRESH, WEEK = "storage per company, fresh", "storage per company, after the week"
PLAIN = "plain schema"
COMPANIES, REWRITES = 40, 4000


async def run(bench: Bench) -> None:
    """Measure the group; `REWRITES` messages a company, a fifth of it in a quick run."""
    rewrites = REWRITES // 5 if bench.quick else REWRITES
    for contestant, name in ((PLAIN, PLAIN_TABLE), (LIBRARY, OUR_TABLE)):
        table = Table(bench.db, name)
        week = Week(table)
        table.vacuum()
        _keep(bench, FRESH, contestant, table)
        week.play(rewrites)
        _keep(bench, WEEK, contestant, table, f"{table.hot():.0f} % of the updates were HOT")


def _keep(bench: Bench, workload: str, contestant: str, table: Table, note: str = "") -> None:
    sizes = {part: size / 1000 / COMPANIES for part, size in table.bytes().items()}
    parts = ", ".join(f"{part} {size:.0f}" for part, size in sizes.items() if part != "total")
    text = "; ".join(filter(None, [parts, note]))
    bench.keep(workload, contestant, [sizes["total"]], unit="kB", note=text)


class Week:
    """The companies and what they do."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._chance = random.Random(1)
        self._state = {str(962302 + number): sample.company(number) for number in range(COMPANIES)}
        self._texts = _templates(self._state)
        self._next_pre_key = dict.fromkeys(self._state, 1000)
        for company_id, keys in self._state.items():
            table.put(company_id, keys)

    def play(self, rewrites: int) -> None:
        """Rewrite `rewrites` times a company; at the end every session has its first size."""
        companies = list(self._state)
        for turn in range(rewrites * COMPANIES):
            self._one(
                self._chance.choice(companies),
                grown=min(1.0, 0.6 + 0.5 * turn / rewrites / COMPANIES),
            )
            if turn % 50 == 0:
                self._table.vacuum_if_due()
        for company_id in companies:
            for key_id in self._state[company_id]["session"]:
                self._rewrite(company_id, "session", key_id, grown=1.0)
            self._table.vacuum_if_due()

    def _one(self, company_id: str, grown: float) -> None:
        what = self._chance.random()
        if what < 0.80:
            self._rewrite(company_id, "session", self._often(company_id, "session"), grown)
        elif what < 0.96:
            self._rewrite(company_id, "sender-key", self._often(company_id, "sender-key"), 1.0)
        elif what < 0.98:
            self._first_message(company_id)
        else:
            mappings = list(self._state[company_id]["lid-mapping"])
            self._table.touch(company_id, self._chance.sample(mappings, 4))

    def _often(self, company_id: str, key_type: str) -> str:
        ids = list(self._state[company_id][key_type])
        return self._chance.choices(ids, [1 / (rank + 1) for rank in range(len(ids))])[0]

    def _rewrite(self, company_id: str, key_type: str, key_id: str, grown: float) -> None:
        text = self._texts[(company_id, key_type, key_id)]
        if key_type == "session" and grown < 1:
            text = _younger(text, grown)
        document = sample.fresh(key_type, text, self._chance)
        self._table.put(company_id, {key_type: {key_id: document}})

    def _first_message(self, company_id: str) -> None:
        pre_keys = self._state[company_id]["pre-key"]
        used = self._chance.choice(list(pre_keys))
        text = json.dumps(pre_keys.pop(used))
        self._table.use_up(company_id, used)
        if len(pre_keys) <= 77:
            first = self._next_pre_key[company_id]
            self._next_pre_key[company_id] += 5
            new = {
                str(first + step): sample.fresh("pre-key", text, self._chance) for step in range(5)
            }
            pre_keys.update(new)
            self._table.put(company_id, {"pre-key": new})


def _templates(state: Mapping[str, sample.Keys]) -> dict[tuple[str, str, str], str]:
    return {
        (company_id, key_type, key_id): json.dumps(document, separators=(",", ":"))
        for company_id, keys in state.items()
        for key_type in ("session", "sender-key")
        for key_id, document in keys[key_type].items()
    }


def _younger(text: str, share: float) -> str:
    """Give a session as it was before it had all its entries and skipped message keys."""
    session = json.loads(text)
    entries = session["_sessions"]
    for entry in entries.values():
        for chain in entry["_chains"].values():
            _keep_first(chain["messageKeys"], share, least=0)
    _keep_first(entries, share, least=1)
    return json.dumps(session, separators=(",", ":"))


def _keep_first(items: dict[str, Any], share: float, least: int) -> None:
    for key in list(items)[max(least, round(len(items) * share)) :]:
        del items[key]
