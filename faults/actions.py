"""What can be done to a request: each function makes a fault for `Proxy.on`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from .proxy import Answer, Exchange, Fault, Landing


async def passed(exchange: Exchange) -> Answer | None:
    """Do nothing to it."""
    return await exchange.forward()


async def dropped(_exchange: Exchange) -> Answer | None:
    """Reset the connection before the request reaches the server."""
    return None


async def answer_lost(exchange: Exchange) -> Answer | None:
    """Let the server execute the request, and reset the connection instead of answering."""
    await exchange.forward()
    return None


def delayed(event: asyncio.Event) -> Fault:
    """Keep the request until the event is set, also when the client no longer waits for it."""

    async def delayed(exchange: Exchange) -> Answer | None:
        await event.wait()
        return await exchange.forward()

    return delayed


def answer_delayed(event: asyncio.Event) -> Fault:
    """Let the server execute the request, and keep the answer until the event is set."""

    async def answer_delayed(exchange: Exchange) -> Answer | None:
        answer = await exchange.forward()
        await event.wait()
        return answer

    return answer_delayed


def held(landing: Landing) -> Fault:
    """Reset the connection at once; the request reaches the server later."""

    async def held(exchange: Exchange) -> Answer | None:
        exchange.forward_later(landing)
        return None

    return held


def doubled(landing: Landing | None = None) -> Fault:
    """Send the request twice: at once, and again later, or twice at once when landing is None."""

    async def doubled(exchange: Exchange) -> Answer | None:
        answer = await exchange.forward()
        if landing is not None:
            exchange.forward_later(landing)
        else:
            await exchange.forward()
        return answer

    return doubled


def truncated(share: float = 0.5) -> Fault:
    """Let the server execute the request, and end the answer's body after a share of it.

    An empty body is announced as one of eight bytes, of which none comes.
    """

    async def truncated(exchange: Exchange) -> Answer | None:
        answer = await exchange.forward()
        body = answer.body or b"\0" * 8
        return replace(answer, body=body, cut=int(len(answer.body) * share))

    return truncated


def answered(
    status: int,
    body: bytes = b"",
    *,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
    forward: bool,
) -> Fault:
    """Answer in the server's place.

    Args:
        status: the status.
        body: the body.
        content_type: of the body.
        headers: further headers.
        forward: whether the server gets the request too.
    """

    async def answered(exchange: Exchange) -> Answer | None:
        if forward:
            await exchange.forward()
        return Answer(status, {"content-type": content_type, **(headers or {})}, body)

    return answered


def redirected(to: str, status: int = 302, *, once: bool = True) -> Fault:
    """Send the client to the same target under another address.

    Args:
        to: the address, without a path.
        status: 301, 302, 303, 307 or 308.
        once: let a request that comes back with ``redirected=1`` in its query pass.
    """

    async def redirected(exchange: Exchange) -> Answer | None:
        request = exchange.request
        if once and "redirected=1" in request.query:
            return await exchange.forward()
        query = f"{request.query}&redirected=1" if request.query else "redirected=1"
        return Answer(status, {"location": f"{to}{request.path}?{query}"})

    return redirected


def changed(change: Callable[[Answer], Answer]) -> Fault:
    """Let the server execute the request, and change its answer."""

    async def changed(exchange: Exchange) -> Answer | None:
        return change(await exchange.forward())

    return changed


class Swapped:
    """Gives two requests each other's answer; the first waits for the second."""

    def __init__(self) -> None:
        self._first: asyncio.Future[Answer] | None = None
        self._second: asyncio.Future[Answer] | None = None

    async def __call__(self, exchange: Exchange) -> Answer | None:
        """Take part in the swap."""
        answer = await exchange.forward()
        loop = asyncio.get_running_loop()
        if self._first is None or self._second is None:
            self._first, self._second = loop.create_future(), loop.create_future()
            self._first.set_result(answer)
            return await self._second
        if not self._second.done():
            self._second.set_result(answer)
        return await self._first


class Replayed:
    """Answers each request with the answer to an earlier one; the first is answered as it is."""

    def __init__(self) -> None:
        self._last: Answer | None = None

    async def __call__(self, exchange: Exchange) -> Answer | None:
        """Answer with the answer before, and keep this one."""
        answer = await exchange.forward()
        last, self._last = self._last, answer
        return answer if last is None else last


class Replica:
    """Answers GETs of tables from an old copy, as a read replica that is behind.

    Args:
        tables: the rows of each table, as they were.
    """

    def __init__(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self._tables = tables

    async def __call__(self, exchange: Exchange) -> Answer | None:
        """Answer from the copy."""
        request = exchange.request
        table = request.path.rpartition("/")[2]
        if request.method != "GET" or table not in self._tables:
            return await exchange.forward()
        rows = _selected(self._tables[table], dict(parse_qsl(request.query)))
        wants_one = "vnd.pgrst.object" in request.headers.get("accept", "")
        headers = {"content-type": "application/json; charset=utf-8", "content-range": "0-0/*"}
        if wants_one and len(rows) != 1:
            return Answer(406, headers, json.dumps(_NOT_ONE_ROW).encode())
        return Answer(200, headers, json.dumps(rows[0] if wants_one else rows).encode())


_NOT_ONE_ROW = {"code": "PGRST116", "message": "not one row", "details": None, "hint": None}


def _selected(
    rows: Sequence[Mapping[str, Any]], query: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    columns = query.get("select", "*").split(",")
    equal = {name: text[3:] for name, text in query.items() if text.startswith("eq.")}
    kept = [row for row in rows if all(str(row[name]) == text for name, text in equal.items())]
    if columns == ["*"]:
        return kept
    return [{name: row[name] for name in columns} for row in kept]
