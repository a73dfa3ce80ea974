"""Real Baileys, driven from Python: `run_node` for a script, `NodePeer` for a conversation."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

NODE_PROJECT = Path(__file__).parents[1] / "node"
MESSAGE_LIMIT = 2**26


class NodeError(Exception):
    """A command failed inside Node, with the name, message and code of the JavaScript error."""

    def __init__(self, name: str, message: str, code: str | None = None) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.code = code


def run_node(
    script: str | Path,
    *args: str | Path,
    stdin: Any = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Any:
    """Run a script of tests/node to its end and give the JSON that it printed, or None.

    Raises:
        NodeError: it ended with another status than 0; the message is what it wrote to stderr.
    """
    done = subprocess.run(
        ["node", str(NODE_PROJECT / script), *map(str, args)],
        check=False,
        input=None if stdin is None else json.dumps(stdin),
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise NodeError(f"exit status {done.returncode}", done.stderr.strip())
    return json.loads(done.stdout) if done.stdout.strip() else None


class NodePeer:
    """A running `peer.mjs`, which describes its commands at its top.

    One process can hold several parties. Use it as `async with NodePeer(env=...) as node`, then
    `await node.call("encrypt", party="alice", jid=..., text=...)`.
    """

    def __init__(self, env: Mapping[str, str] | None = None, timeout: float = 60) -> None:
        self.timeout = timeout
        self._env = dict(env or {})
        self.process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            "node",
            str(NODE_PROJECT / "peer.mjs"),
            env={**os.environ, **self._env},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MESSAGE_LIMIT,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()

    async def call(self, op: str, **arguments: Any) -> Any:
        """Give the result of one command.

        Raises:
            NodeError: the command failed, or the process ended.
        """
        exchange = self._exchange({"op": op, **arguments})
        return _result(await asyncio.wait_for(exchange, self.timeout))

    async def together(self, *commands: Mapping[str, Any]) -> list[Any]:
        """Run commands at the same time and give, for each, its result or the NodeError it met."""
        answers = await self.call("together", commands=list(commands))
        return [_result_or_error(answer) for answer in answers]

    async def kill(self) -> None:
        """End the process at once, as a crash would: nothing is closed, no lease is released."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def _exchange(self, command: Mapping[str, Any]) -> dict[str, Any]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(command).encode() + b"\n")
        await stdin.drain()
        line = await stdout.readline()
        if not line:
            raise NodeError("ended", await self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _last_words(self) -> str:
        assert self.process.stderr is not None
        words = await self.process.stderr.read()
        return f"exit status {await self.process.wait()}: {words.decode(errors='replace').strip()}"


def _result_or_error(answer: dict[str, Any]) -> Any:
    try:
        return _result(answer)
    except NodeError as error:
        return error


def _result(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        error = answer["error"]
        raise NodeError(error.get("name", "Error"), error.get("message", ""), error.get("code"))
    return answer["result"]
