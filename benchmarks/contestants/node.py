"""Real Baileys in Node: files on the local disk, and Baileys' own cache over them.

That is `useMultiFileAuthState` and `makeCacheableSignalKeyStore`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.contestants.process import Process, ProcessContestant
from benchmarks.stats import Action

SCRIPT = Path(__file__).parents[1] / "node" / "baileys.mjs"
FILES, CACHED = "Baileys files", "Baileys files, cached"


def node() -> Process:
    """Return a process of Node that holds auth states of Baileys; it is not started yet."""
    return Process("node", str(SCRIPT))


async def open_files(node: Process, folder: Path, *, cached: bool = False) -> ProcessContestant:
    """Open the folder as `useMultiFileAuthState` does, behind Baileys' cache or not."""
    name = CACHED if cached else FILES
    contestant = ProcessContestant(name, node, f"{name} {folder.name}")
    await contestant.open(folder=str(folder), cached=cached)
    return contestant


def cold_start(
    files: ProcessContestant, folder: Path, wanted: Mapping[str, Sequence[str]]
) -> Action:
    """Open a folder anew and read keys of it."""
    return files.action("cold-start", [{"folder": str(folder), "wanted": wanted}])
