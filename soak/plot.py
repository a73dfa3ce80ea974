"""The picture of a day. Needs matplotlib (`pip install -e .[bench]`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .figures import FIGURES, Sample


def draw(samples: Sequence[Sample], path: Path) -> None:
    """Draw every figure over the hours of the day into one SVG file."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "soak"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(6, 2, figsize=(9, 10), sharex=True)
    hours = [sample.hour for sample in samples]
    for axis, shown in zip(axes.flat, FIGURES, strict=True):
        axis.plot(hours, [shown.of(sample) for sample in samples], color="#1a7f5a", linewidth=1)
        axis.axvline(12, color="#9aa5b1", linewidth=0.8, linestyle="--")
        axis.set_title(shown.name, fontsize=9, loc="left")
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("hour of the day; from 12 on three processes", fontsize=8)
        axis.set_xticks(range(0, 25, 6))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
