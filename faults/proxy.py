"""An HTTP/1.1 proxy between client and gateway that does to each request what a rule says."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

if TYPE_CHECKING:
    from typing_extensions import Self

_LARGEST_BODY = 64 << 20
_LONGEST_LOG = 10_000
_MOST_LATE = 1000
_ANSWER_WITHIN = ClientTimeout(total=60)
# Of one connection only, or of a body whose length this proxy says itself.
_HOP_BY_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True)
class Request:
    """A request of a client.

    Attributes:
        number: 1 for the first request that came, 2 for the next.
        method: the method.
        path: the path, without the query.
        query: the query, as it came.
        headers: the headers; names in lower case.
        body: the body.
    """

    number: int
    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def target(self) -> str:
        """Path and query, as they came."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True)
class Answer:
    """What the client gets.

    Attributes:
        status: the status.
        headers: the headers.
        body: the body.
        cut: bytes of the body after which the connection is reset; None for all of it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    cut: int | None = None


class Landing:
    """The moment at which requests that are held reach the server."""

    def __init__(self) -> None:
        self._now = asyncio.Event()
        self._held: list[asyncio.Task[Answer | None]] = []

    async def land(self) -> list[Answer | None]:
        """Let what is held reach the server, and from now on at once.

        Returns:
            What the server answered to each; None when it did not answer.
        """
        self._now.set()
        return list(await asyncio.gather(*self._held))

    async def wait(self) -> None:
        """Wait for the moment."""
        await self._now.wait()

    def add(self, request: asyncio.Task[Answer | None]) -> None:
        """Add what waits for the moment, and then gives the server's answer."""
        self._held.append(request)


class Exchange:
    """One request under way, in the hands of a fault."""

    def __init__(self, proxy: Proxy, request: Request) -> None:
        self.request = request
        self._proxy = proxy

    async def forward(self) -> Answer:
        """Send the request to the server and return its answer.

        Raises:
            ConnectionResetError: the server did not answer.
        """
        return await self._proxy.forward(self.request)

    def forward_later(self, landing: Landing) -> None:
        """Send the request when it is time to land, whatever becomes of the client until then."""
        landing.add(self._proxy.forward_later(self.request, landing))


Matches: TypeAlias = Callable[[Request], bool]
"""Says whether a rule is about a request."""

Fault: TypeAlias = Callable[[Exchange], Awaitable["Answer | None"]]
"""Gives what the client gets; None resets its connection."""


@dataclass(frozen=True)
class Passed:
    """A line of the log: a request, and what the client got.

    Attributes:
        request: the request.
        fault: the name of the fault that it met, or None.
        status: the status of the answer, None when the connection was reset.
    """

    request: Request
    fault: str | None
    status: int | None


class Rule:
    """A fault for the requests that match.

    Attributes:
        met: the requests that met the fault.
    """

    def __init__(self, matches: Matches, fault: Fault, times: int | None) -> None:
        self.met: list[Request] = []
        self._matches = matches
        self._fault = fault
        self._left = times
        self._one_more = asyncio.Event()

    async def reached(self, count: int = 1) -> None:
        """Wait until so many requests have met the fault."""
        while len(self.met) < count:
            self._one_more.clear()
            await self._one_more.wait()

    def end(self) -> None:
        """Let later requests alone."""
        self._left = 0

    def take(self, request: Request) -> Fault | None:
        """Return the fault if it is for this request."""
        if self._left == 0 or not self._matches(request):
            return None
        if self._left is not None:
            self._left -= 1
        self.met.append(request)
        self._one_more.set()
        return self._fault


class Proxy:
    """Listens on a free loopback port while it is entered, and passes on to the server.

    The first rule that matches decides; a request without a rule passes.

    Args:
        upstream: the URL of the server.

    Attributes:
        url: the URL of this proxy.
        log: the requests that were answered or reset, the oldest first; the last 10,000.
    """

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.log: deque[Passed] = deque(maxlen=_LONGEST_LOG)
        self._upstream = upstream.rstrip("/")
        self._rules: list[Rule] = []
        self._late: set[asyncio.Task[Answer | None]] = set()
        self._requests = 0
        self._forwarding = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._session: ClientSession
        self._runner: web.AppRunner

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            connector=TCPConnector(limit=0),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            timeout=_ANSWER_WITHIN,
        )
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        late = list(self._late)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()

    def on(self, matches: Matches, fault: Fault, *, times: int | None = None) -> Rule:
        """Add a rule after those that are there.

        Args:
            matches: which requests it is about.
            fault: what is done to them.
            times: how many requests; without end when None.
        """
        rule = Rule(matches, fault, times)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """End every rule; what is held or delayed stays so."""
        for rule in self._rules:
            rule.end()
        self._rules.clear()

    async def quiet(self) -> None:
        """Wait until no request is at the server."""
        await self._quiet.wait()

    async def forward(self, request: Request) -> Answer:
        """See `Exchange.forward`."""
        self._forwarding += 1
        self._quiet.clear()
        try:
            return await self._forward(request)
        finally:
            self._forwarding -= 1
            if not self._forwarding:
                self._quiet.set()

    def forward_later(self, request: Request, landing: Landing) -> asyncio.Task[Answer | None]:
        """See `Exchange.forward_later`."""
        if len(self._late) >= _MOST_LATE:
            raise RuntimeError(f"more than {_MOST_LATE} requests are held")
        task = asyncio.get_running_loop().create_task(self._later(request, landing))
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task

    async def _later(self, request: Request, landing: Landing) -> Answer | None:
        await landing.wait()
        try:
            return await self.forward(request)
        except ConnectionResetError:
            return None

    async def _forward(self, request: Request) -> Answer:
        headers = {k: v for k, v in request.headers.items() if k not in _HOP_BY_HOP}
        url = self._upstream + request.target
        sent = self._session.request(
            request.method, url, headers=headers, data=request.body, allow_redirects=False
        )
        try:
            async with sent as got:
                body = await got.read()
        except (ClientError, OSError, asyncio.TimeoutError) as error:
            raise ConnectionResetError("the server did not answer") from error
        kept = {k: v for k, v in got.headers.items() if k.lower() not in _HOP_BY_HOP}
        return Answer(got.status, kept, body)

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        self._requests += 1
        try:
            body = await incoming.read()
        except ConnectionResetError:
            return web.Response(status=400)  # the client went while it sent the request
        raw_path, _, query = incoming.raw_path.partition("?")
        headers = {name.lower(): value for name, value in incoming.headers.items()}
        request = Request(self._requests, incoming.method, raw_path, query, headers, body)
        fault = self._fault_for(request)
        exchange = Exchange(self, request)
        try:
            answer = await (exchange.forward() if fault is None else fault(exchange))
        except ConnectionResetError:
            answer = None
        name = None if fault is None else getattr(fault, "__name__", type(fault).__name__)
        self.log.append(Passed(request, name, None if answer is None else answer.status))
        return await _respond(incoming, answer)

    def _fault_for(self, request: Request) -> Fault | None:
        for rule in self._rules:
            fault = rule.take(request)
            if fault is not None:
                return fault
        return None


async def _respond(incoming: web.Request, answer: Answer | None) -> web.StreamResponse:
    if answer is None:
        _reset(incoming)
        return web.Response(status=502)
    if answer.cut is None:
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    try:
        await response.prepare(incoming)
        await response.write(answer.body[: answer.cut])
    except ConnectionResetError:
        pass  # the client went first
    _reset(incoming)
    return response


def _reset(incoming: web.Request) -> None:
    if incoming.transport is not None:
        incoming.transport.abort()
