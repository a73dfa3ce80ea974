"""Real Baileys in Node: files on the local disk, and Baileys' own cache over them.

That is `useMultiFileAuthState` and `makeCacheableSignalKeyStore`. Node measures its own time, so
the pipe between the two processes is not in it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants.base import Chat
from benchmarks.sample import Document, Keys
from benchmarks.stats import Action

SCRIPT = Path(__file__).parents[1] / "node" / "baileys.mjs"
FILES, CACHED = "Baileys files", "Baileys files, cached"


class Node:
    """A Node process that holds auth states; one JSON command a line, one answer a line."""

    process: asyncio.subprocess.Process

    async def start(self) -> Node:
        """Start the process."""
        self.process = await asyncio.create_subprocess_exec(
            "node",
            str(SCRIPT),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        return self

    async def call(self, op: str, **arguments: Any) -> Any:
        """Give the result of one command.

        Raises:
            RuntimeError: it failed, with what JavaScript says.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError(f"Node, {op}: it has no pipes")
        stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
        await stdin.drain()
        answer = json.loads(await stdout.readline() or '{"error": "Node ended"}')
        if "error" in answer:
            raise RuntimeError(f"Node, {op}: {answer['error']}")
        return answer["result"]

    async def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.wait()


class NodeContestant:
    """One auth state of Baileys' own. Each kind of work is handed over before it is measured."""

    def __init__(self, name: str, node: Node) -> None:
        self.name = name
        self._node = node
        self._store = ""
        self._prepared = 0

    async def open(self, folder: Path) -> NodeContestant:
        """Open the folder as `useMultiFileAuthState` does."""
        self._store = f"{self.name} {folder.name}"
        await self._node.call(
            "open", store=self._store, folder=str(folder), cached=self.name == CACHED
        )
        return self

    def get(self, key_type: str, ids: Sequence[str]) -> Action:
        """One read."""
        return self._action(kind="get", variants=[{"type": key_type, "ids": list(ids)}])

    def set(self, variants: Sequence[Keys]) -> Action:
        """One write."""
        return self._action(kind="set", variants=list(variants))

    def gets_at_once(self, key_type: str, ids: Sequence[str]) -> Action:
        """Reads of one id each, all at the same time."""
        return self._chats([[[("get", key_type, [key_id])] for key_id in ids]])

    def sets_at_once(self, key_type: str, variants: Sequence[Mapping[str, Document]]) -> Action:
        """Writes of one value each, all at the same time."""
        return self._chats(
            [
                [[("set", {key_type: {key_id: value}})] for key_id, value in variant.items()]
                for variant in variants
            ]
        )

    def replay(self, variants: Sequence[Sequence[Chat]]) -> Action:
        """Chats at the same time, the steps of each in order."""
        return self._chats(variants)

    def cold_start(self, folder: Path, wanted: Mapping[str, Sequence[str]]) -> Action:
        """Open a folder anew and read keys of it."""
        return self._action(kind="cold-start", variants=[{"folder": str(folder), "wanted": wanted}])

    def _chats(self, variants: Sequence[Sequence[Chat]]) -> Action:
        return self._action(kind="chats", variants=variants)

    def _action(self, kind: str, variants: Sequence[Any]) -> Action:
        self._prepared += 1
        number, handed_over = self._prepared, False

        async def action() -> float:
            nonlocal handed_over
            if not handed_over:
                await self._node.call(
                    "prepare", store=self._store, number=number, kind=kind, variants=variants
                )
                handed_over = True
            seconds = await self._node.call("run", store=self._store, number=number)
            return float(seconds)

        return action
