"""Pictures of the results. Needs matplotlib (`pip install -e .[bench]`).

    python -m benchmarks.plots

draws those of the documentation anew, from the report that is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import quantity, read_report
from benchmarks.stats import Result, Results
from benchmarks.workloads import growth, keyops, mix

BARS = {
    "key-operations": (keyops.GET_1, keyops.GET_100, keyops.SET_1, keyops.SET_100),
    "at-once": (keyops.GETS_AT_ONCE, keyops.SETS_AT_ONCE),
    "message-mix": (mix.ONE_BY_ONE, mix.AT_ONCE),
    "growth": tuple(growth.workload(operation) for operation in growth.OPERATIONS),
}


REPORT = Path(__file__).parent / "results" / "report.md"
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw one picture for each group that was measured, and give the files."""
    import matplotlib as mpl

    mpl.use("svg")
    # Without these the same results would give other bytes on every run.
    mpl.rcParams["svg.hashsalt"] = "benchmarks"
    # Words stay words: smaller, and they can be searched for.
    mpl.rcParams["svg.fonttype"] = "none"
    drawn = []
    for name, workloads in BARS.items():
        groups = [
            [item for item in results.items if item.workload == workload] for workload in workloads
        ]
        if any(groups):
            drawn.append(_bars([group for group in groups if group], folder / f"{name}.svg"))
    return drawn


def _bars(groups: Sequence[Sequence[Result]], path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(groups), 1, figsize=(8, 0.6 + sum(0.3 * len(group) + 0.7 for group in groups)),
        squeeze=False, gridspec_kw={"height_ratios": [len(group) + 1 for group in groups]},
    )  # fmt: skip
    for axis, group in zip(axes[:, 0], groups, strict=True):
        names = [item.contestant for item in group]
        medians = [item.median for item in group]
        errors = [
            [max(0.0, item.median - item.quartiles[0]) for item in group],
            [max(0.0, item.quartiles[1] - item.median) for item in group],
        ]
        colours = ["#1a7f5a" if name.startswith("this library") else "#9aa5b1" for name in names]
        bars = axis.barh(names, medians, xerr=errors, color=colours, ecolor="#444444")
        axis.bar_label(
            bars, [quantity(item.median, item.unit) for item in group], padding=6, fontsize=8
        )
        axis.invert_yaxis()
        axis.margins(x=0.2)
        axis.set_title(group[0].workload, fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.xaxis.set_visible(False)
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


if __name__ == "__main__":
    for picture in draw(read_report(REPORT.read_text("utf-8")), PICTURES):
        print(picture)
