"""Clients in Node, by examples/node, whose calls are recorded like those of this library."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from supabase_auth_state import (
    CodecError,
    LeaseLost,
    StateRolledBack,
    StoreError,
    StoreUnavailable,
    WriteRefused,
)

if TYPE_CHECKING:
    from typing_extensions import Self

_SCRIPT = Path(__file__).with_name("node_writer.mjs")
_LONGEST_LINE = 2**24


class NodeProcess:
    """A running `node_writer.mjs`, for any number of companies; use it in ``async with``."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            "node",
            str(_SCRIPT),
            env={"PATH": os.environ.get("PATH", os.defpath)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    def number(self) -> int:
        """Return a number that nothing in this process has yet."""
        return next(self._ids)

    def call(self, op: str, company_id: str, **arguments: Any) -> asyncio.Future[Any]:
        """Send a command now and return what its result will be.

        Raises:
            SupabaseAuthStateError: what a call of this library would have raised; by the future.
        """
        number = self.number()
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the process has no stdin")
        stdin.write(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
        future.add_done_callback(lambda _: self._waiting.pop(number, None))
        return _translated(future, company_id)

    async def _read(self) -> None:
        stdout = self._process.stdout
        if stdout is None:
            raise RuntimeError("the process has no stdout")
        while line := await stdout.readline():
            answer = json.loads(line)
            waiting = self._waiting.get(answer["id"])
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
        code = await self._process.wait()
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(RuntimeError(f"the process in Node ended with {code}"))


def _translated(answer: asyncio.Future[Any], company_id: str) -> asyncio.Future[Any]:
    async def translate() -> Any:
        found = await answer
        if "error" in found:
            raise _error(company_id, found["error"])
        return found["result"]

    return asyncio.ensure_future(translate())


def _error(company_id: str, error: Mapping[str, Any]) -> Exception:
    """Return the error of this library that means the same."""
    code, message = error.get("code"), str(error.get("message"))
    if code in {"DAMAGED", "UNREAD", "FAMILY_MISMATCH", "NOT_FOUND", "UNFINISHED_IMPORT"}:
        return CodecError(f"{code}: {message}")
    if code == "REFUSED" and not error.get("certain"):
        # What refuses the second attempt says nothing of the first one.
        return StoreError(message)
    if code in {"REFUSED", "LEASE_HELD", "CLOSED"}:
        return WriteRefused(message)
    if code == "LEASE_LOST":
        return LeaseLost(company_id, 0)
    if code == "ROLLED_BACK":
        return StateRolledBack(company_id)
    if code == "UNAVAILABLE":
        return StoreUnavailable(message)
    return RuntimeError(f"{error.get('name')}: {message}")


@dataclass(frozen=True)
class NodeLease:
    """The lease of an auth state in Node: its token."""

    token: int


class NodeKeys:
    """The keys of an auth state in Node."""

    def __init__(self, process: NodeProcess, company_id: str, auth: int) -> None:
        self._process = process
        self._company_id = company_id
        self._auth = auth

    async def get(self, key_type: str, ids: Sequence[str]) -> dict[str, Any]:
        """Read values, as `AuthState.keys.get`."""
        found: dict[str, Any] = await self._call("get", type=key_type, ids=list(ids))
        return found

    async def set(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Write values, as `AuthState.keys.set`."""
        await self._call("set", data=data)

    async def clear(self) -> None:
        """Delete every key, as `AuthState.keys.clear`."""
        await self._call("clear")

    def _call(self, op: str, **arguments: Any) -> asyncio.Future[Any]:
        return self._process.call(op, self._company_id, auth=self._auth, **arguments)


class NodeAuth:
    """An auth state that is open in Node, as far as `Recorded` uses one.

    Attributes:
        creds: nextPreKeyId, which `save_creds` stores.
        keys: its keys.
        lease: its lease, or None.
    """

    def __init__(
        self, process: NodeProcess, company_id: str, auth: int, opened: Mapping[str, Any]
    ) -> None:
        self.creds = {"nextPreKeyId": opened["creds"]}
        self.keys = NodeKeys(process, company_id, auth)
        self.lease = None if opened["token"] is None else NodeLease(opened["token"])
        self._process = process
        self._company_id = company_id
        self._auth = auth

    async def save_creds(self) -> None:
        """Store the creds."""
        tag = self.creds["nextPreKeyId"]
        await self._process.call("save", self._company_id, auth=self._auth, tag=tag)

    async def close(self) -> None:
        """Close the company."""
        await self._process.call("close", self._company_id, auth=self._auth)


class NodeClient:
    """Opens companies by examples/node; see `Client`.

    Args:
        process: where.
        url: what it takes for the project's URL.
        key: the project's service key.
        patience: seconds to wait for an answer; a request is given up after half of them.
        encryption: the keys that seal values, or None.
    """

    elsewhere = True

    def __init__(
        self,
        process: NodeProcess,
        url: str,
        key: str,
        patience: float,
        encryption: str | None = None,
    ) -> None:
        self._process = process
        self._url = url
        self._key = key
        self._patience = patience
        self._encryption = encryption

    def fresh(self, tag: int) -> int:
        """Return the tag itself; see `Client`."""
        return tag

    async def open(self, company_id: str, *, lease: bool, lease_ttl: float, tag: int) -> NodeAuth:
        """Open a company; see `Client`."""
        auth = self._process.number()
        opened = await self._process.call(
            "open", company_id, auth=auth, url=self._url, key=self._key, company=company_id,
            lease=lease, leaseTtl=lease_ttl, patience=self._patience, tag=tag,
            encryption=self._encryption,
        )  # fmt: skip
        return NodeAuth(self._process, company_id, auth, opened)
