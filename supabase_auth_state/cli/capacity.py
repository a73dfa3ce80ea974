"""``capacity``: how many companies fit the plan, and when it is full."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .console import Console
from .exits import DONE
from .parsing import Commands, add_command, positive
from .tables import Page, Table, human_bytes

if TYPE_CHECKING:
    from supabase_auth_state.operations.capacity import Capacity, DaysLeft


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "capacity",
        run_capacity,
        summary="how many companies fit the plan, when it is full, what takes the space",
        description="""\
Measured bytes per company, with indexes, dead rows and unused space; how many such companies fit;
when the limit is reached at today's growth; the biggest users of space; what a shorter time to live
or encryption would change; and the egress of the last 30 days as our own processes count it, which
is an estimate beside Supabase's own figure.""",
    )
    parser.add_argument(
        "--plan", choices=("free", "pro", "custom"), default="free", help="the plan (default: free)"
    )
    parser.add_argument("--disk-gb", metavar="GB", type=float, help="the disk of pro or custom")
    parser.add_argument(
        "--largest", metavar="N", type=positive, default=5, help="how many companies to name"
    )


async def run_capacity(args: argparse.Namespace, console: Console) -> int:
    """Print what fits."""
    from supabase_auth_state.operations import statistics
    from supabase_auth_state.operations.capacity import capacity, plan_of
    from supabase_auth_state.rest.client import using_rest

    plan = plan_of(args.plan, disk_gb=args.disk_gb)
    async with using_rest() as rest:
        await statistics.refresh(rest)
        overview = await statistics.read_overview(rest)
        days = await statistics.read_growth(rest)
        page = await statistics.read_companies(
            rest, sort="bytes", descending=True, limit=args.largest
        )
    found = capacity(overview, days, plan, largest=page["companies"])
    console.result(_Capacity(found, whole=overview["recounted_at"] is not None))
    return DONE


class _Capacity(Page):
    """What fits, for printing."""

    def __init__(self, found: Capacity, *, whole: bool) -> None:
        self._found = found
        self._whole = whole

    def as_json(self) -> dict[str, Any]:
        return {**self._found.as_json(), "every_company_counted": self._whole}

    def parts(self) -> Iterator[str | Table]:
        found = self._found
        lines = [
            f"plan {found.plan.name}: {human_bytes(found.database_bytes)} of "
            f"{human_bytes(found.plan.database_bytes)} used ({found.used_share:.0%}); above it "
            + ("writes are refused" if found.plan.read_only else "more disk is paid for"),
        ]
        if found.bytes_per_company is not None and found.companies_that_fit is not None:
            lines.append(
                f"companies: {found.companies}, each {human_bytes(found.bytes_per_company)} on the "
                f"disk ({found.overhead:.2f} times what is stored); {found.companies_that_fit} fit"
            )
        lines.append(f"limit: {_when(found.days_left)}")
        lines.append(
            f"egress of 30 days, an estimate: {human_bytes(found.egress_bytes)} "
            f"({found.egress_share:.1%} of the plan's allowance)"
        )
        if not self._whole:
            lines.append("the first count is under way: these are counts of a part")
        yield "\n".join(lines)
        rows = [(name, human_bytes(size)) for name, size in found.by_type.items()]
        rows += [(name, human_bytes(size)) for name, size in found.largest]
        if rows:
            yield Table(("type or company", "stored"), rows)
        changes = [(name, str(count)) for name, count in found.what_if.items()]
        if changes:
            yield Table(("if", "companies fit"), changes)


def _when(left: DaysLeft | None) -> str:
    if left is None:
        return "growth is not known yet: that takes three days of statistics"
    if left.likely is None:
        return f"not within ten years at the growth of the last {left.days_measured} days"
    earliest = f"{left.earliest:.0f}" if left.earliest is not None else "?"
    latest = f"{left.latest:.0f}" if left.latest is not None else "never"
    return (
        f"in {left.likely:.0f} days (between {earliest} and {latest}) at "
        f"{left.per_day / 1e6:.1f} MB a day"
    )
