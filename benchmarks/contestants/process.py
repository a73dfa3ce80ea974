"""A contestant in a process of its own, which measures its own time: the pipe is not in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contestants.base import Chat
from benchmarks.sample import Document, Keys
from benchmarks.stats import Action


class Process:
    """A process that holds stores; one JSON command a line, one answer a line.

    Args:
        argv: the program and its arguments.
    """

    process: asyncio.subprocess.Process

    def __init__(self, *argv: str) -> None:
        self._argv = argv

    async def start(self) -> Process:
        """Start the process."""
        self.process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        return self

    async def call(self, op: str, **arguments: Any) -> Any:
        """Return the result of one command.

        Raises:
            RuntimeError: it failed, with what the process says.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError(f"{self._argv[0]}, {op}: it has no pipes")
        stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
        await stdin.drain()
        answer = json.loads(await stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            raise RuntimeError(f"{self._argv[0]}, {op}: {answer['error']}")
        return answer["result"]

    async def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.wait()


class ProcessContestant:
    """One store of a process. Each kind of work is handed over before it is measured.

    Args:
        name: what it is called in the tables.
        process: where the store is.
        store: what the store is called in the process.
    """

    def __init__(self, name: str, process: Process, store: str) -> None:
        self.name = name
        self._process = process
        self._store = store
        self._prepared = 0

    async def open(self, **options: Any) -> None:
        """Open the store.

        Args:
            options: what the process needs to know to open it.
        """
        await self._process.call("open", store=self._store, **options)

    def get(self, key_type: str, ids: Sequence[str]) -> Action:
        """One read."""
        return self.action("get", [{"type": key_type, "ids": list(ids)}])

    def set(self, variants: Sequence[Keys]) -> Action:
        """One write."""
        return self.action("set", variants)

    def gets_at_once(self, key_type: str, ids: Sequence[str]) -> Action:
        """Reads of one id each, all at the same time."""
        return self.replay([[[("get", key_type, [key_id])] for key_id in ids]])

    def sets_at_once(self, key_type: str, variants: Sequence[Mapping[str, Document]]) -> Action:
        """Writes of one value each, all at the same time."""
        return self.replay(
            [
                [[("set", {key_type: {key_id: value}})] for key_id, value in variant.items()]
                for variant in variants
            ]
        )

    def replay(self, variants: Sequence[Sequence[Chat]]) -> Action:
        """Chats at the same time, the steps of each in order."""
        return self.action("chats", variants)

    def action(self, kind: str, variants: Sequence[Any]) -> Action:
        """Work of a kind that the process knows.

        Args:
            kind: which.
            variants: data of each run; they take turns.
        """
        self._prepared += 1
        number, handed_over = self._prepared, False

        async def action() -> float:
            nonlocal handed_over
            if not handed_over:
                await self._process.call(
                    "prepare", store=self._store, number=number, kind=kind, variants=variants
                )
                handed_over = True
            return float(await self._process.call("run", store=self._store, number=number))

        return action
