"""The clean-up of expired rows: its time must follow the expired rows, not the table."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.bench import PORT, POSTGRES, Bench
from benchmarks.contestants.library import LIBRARY
from benchmarks.stats import Action, timed

_FILL = """
insert into whatsapp_keys (company_id, key_type, key_id, value, expires_at)
select '962302', 'lid-mapping', pair.key_id, to_jsonb(pair.target),
  now() + case when number < %(expired)s / 2 then interval '-1 hour' else interval '5 days' end
from generate_series(0, %(rows)s / 2 - 1) as number
cross join lateral (values
  ((15550000000 + number)::text, (200000000000000 + number)::text),
  ((200000000000000 + number)::text || '_reverse', (15550000000 + number)::text)
) as pair (key_id, target)
"""


@dataclass(frozen=True)
class Scenario:
    """A table of mappings whose contacts have no session, some of them expired."""

    rows: int
    expired: int

    @property
    def workload(self) -> str:
        """The workload's name."""
        return f"clean-up, {self.expired / self.rows:.0%} of {self.rows:,} rows expired"


SMALL, FEW, MANY = Scenario(20_000, 2_000), Scenario(200_000, 2_000), Scenario(200_000, 100_000)


async def run(bench: Bench) -> None:
    """Measure the group."""
    for scenario in (SMALL, FEW) if bench.quick else (SMALL, FEW, MANY):
        actions = {
            LIBRARY: _prepared(bench, scenario, timed(lambda: _library(bench))),
            PORT: _prepared(bench, scenario, timed(lambda: _port(bench))),
            POSTGRES: _prepared(bench, scenario, timed(lambda: _postgres(bench))),
        }
        await bench.measure(
            scenario.workload, actions, rounds=5, warmups=1,
            note="only this library keeps mappings in use, and both directions together",
        )  # fmt: skip


def _prepared(bench: Bench, scenario: Scenario, action: Action) -> Action:
    async def prepared() -> float:
        bench.db.execute("truncate whatsapp_keys")
        bench.db.execute(_FILL, {"rows": scenario.rows, "expired": scenario.expired})
        bench.db.execute("vacuum analyze whatsapp_keys")
        seconds = await action()
        left = bench.db.execute("select count(*) from whatsapp_keys").fetchone()
        if left != (scenario.rows - scenario.expired,):
            raise RuntimeError(f"{scenario.workload}: {left} rows are left")
        return seconds

    return prepared


async def _library(bench: Bench) -> None:
    while await bench.rest.rpc("cleanup_expired_whatsapp_keys", {}):
        pass


async def _port(bench: Bench) -> None:
    table = bench.supabase.table("whatsapp_keys")
    await table.delete(returning="minimal").lt("expires_at", "now").execute()  # type: ignore[arg-type]


async def _postgres(bench: Bench) -> None:
    async with bench.connections.one() as connection:
        await connection.execute("delete from whatsapp_keys where expires_at < now()")
