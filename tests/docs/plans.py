"""The table of docs/plans.md is computed by the function that the page shows."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.docs.blocks import ROOT

ROW = re.compile(r"^\| ([\d,]+) \| (\S+) GB \| (\S+) GB \| (\S+) GB \| (.*) \|$", re.MULTILINE)


def number(text: str) -> float:
    """Read a number with commas."""
    return float(text.replace(",", ""))


def cost(gigabytes: float, egress: float) -> float:
    """Return what Pro costs a month, without compute."""
    return 25 + max(0.0, gigabytes - 8) * 0.125 + max(0.0, egress - 250) * 0.09


def check_table(per_month: Callable[..., tuple[float, float]]) -> None:
    """Compare each row with what the function gives, to the digits that are shown."""
    rows = ROW.findall((ROOT / "docs/plans.md").read_text())
    assert len(rows) == 9
    for companies, *shown, plan in rows:
        gigabytes, egress = per_month(int(number(companies)), 300)
        _, longer = per_month(int(number(companies)), 300, lease_ttl=120)
        for text, value in zip(shown, (gigabytes, egress, longer), strict=True):
            digits = len(text.partition(".")[2])
            assert number(text) == round(value, digits), (companies, text, value)
        prices = [number(price) for price in re.findall(r"\$([\d,]+)", plan)]
        expected = [round(cost(gigabytes, egress)), round(cost(gigabytes, longer))]
        assert prices == expected[: len(prices)], (companies, prices, expected)
        assert bool(prices) != ("Free" in plan)
        assert ("Free" in plan) <= (min(egress, longer) < 5 and gigabytes < 0.44)
