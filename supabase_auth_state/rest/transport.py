"""HTTP/1.1 by aiohttp, below httpx: a request costs the processor half of what httpcore takes.

The session stays that of the Supabase client; only what carries its bytes is another one. Source of
the interface: httpx 0.28, ``httpx/_transports/base.py``.
"""

from __future__ import annotations

import asyncio
import io
import warnings
import weakref
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import FunctionType
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpcore
import httpx
from yarl import URL

from .sending import Answer, Send, through

_BUFFER = 1 << 20
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# aiohttp does not count the time that a request is written, so a server that stops reading is found
# out by the time of the whole.
_WHOLE = 4
_GENUINE = frozenset(
    {"httpcore._async.connection_pool", "httpx._client", "httpx._transports.default"}
)

_UNDONE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx's requests on aiohttp's connections, one request under way on each.

    Whatever stands in for httpcore or httpx's own transport at the moment, as respx does in a test
    and tracing does in production, is asked instead.

    Args:
        connections: how many may be open.
    """

    def __init__(self, *, connections: int) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._plain: httpx.AsyncHTTPTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request of httpx; see `send`."""
        if is_stood_in_for():
            if self._plain is None:
                self._plain = httpx.AsyncHTTPTransport(limits=_limits(self._connections))
            return await self._plain.handle_async_request(request)
        answer = await self.send(
            request.method,
            str(request.url),
            request.headers.multi_items(),
            await request.aread(),
            limits_of(request.extensions.get("timeout") or {}),
        )
        # As it came, but for what `send` has undone already.
        headers = [(n, v) for n, v in answer.headers.items() if n.lower() not in _UNDONE]
        return httpx.Response(
            answer.status, headers=headers, content=answer.content, request=request
        )

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        content: bytes | None,
        limits: aiohttp.ClientTimeout,
    ) -> Answer:
        """Send a request and read the whole answer.

        Args:
            method: the method.
            url: the URL, encoded.
            headers: the headers.
            content: the body.
            limits: what `limits_of` gives.

        Raises:
            httpx.TransportError: there is no whole answer. It names no header and quotes nothing
                that came, nor does any error in its chain.
        """
        try:
            session = self._connected(url)
            answer = await session.request(
                method,
                _url(url),
                headers=headers,
                data=_body(content),
                timeout=limits,
                allow_redirects=False,
            )
            body = await answer.read()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            problem = _translated(error)
        else:
            if "content-encoding" in answer.headers:
                body = _unpacked(answer, body)
            return Answer(answer.status, answer.headers, body)
        raise problem

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
        if self._plain is not None:
            await self._plain.aclose()

    def _connected(self, url: str) -> aiohttp.ClientSession:
        if self._session is None:
            # The authorities that httpx trusts, whose loading takes its time.
            trusted = httpx.create_ssl_context() if url.startswith("https:") else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=trusted),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_AUTOMATIC,
                auto_decompress=False,
                read_bufsize=_BUFFER,
            )
            weakref.finalize(self, _let_go, self._session)
        return self._session


def _let_go(session: aiohttp.ClientSession) -> None:
    # aiohttp complains of a session that nobody closed; httpx, whose place this takes, does not.
    connector = session.connector
    session.detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if connector is not None:
            aiohttp.BaseConnector.close(connector)


def open_session(url: str, *, timeout: float, connections: int) -> tuple[httpx.AsyncClient, Send]:
    """Open a session for one base URL; through a proxy of the environment, if one is named there.

    Args:
        url: the base URL.
        timeout: seconds to wait for each step of a request.
        connections: how many may be open; a request waits for its turn.

    Returns:
        The session, and how to send on its connections.
    """
    # No HTTP/2: a stale multiplexed connection fails every request on it at once (supabase-py issue
    # 1064).
    if _has_proxy(url):
        session = httpx.AsyncClient(base_url=url, timeout=timeout, limits=_limits(connections))
        return session, through(session, timeout)
    transport = AiohttpTransport(connections=connections)
    session = httpx.AsyncClient(base_url=url, timeout=timeout, transport=transport)
    otherwise = through(session, timeout)
    limits = limits_of(httpx.Timeout(timeout).as_dict())

    async def send(
        method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> Answer:
        if session.is_closed or is_stood_in_for():
            return await otherwise(method, url, headers, content)
        return await transport.send(method, url, headers, content, limits)

    return session, send


def _limits(connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=connections, max_keepalive_connections=connections)


def _has_proxy(url: str) -> bool:
    parts, proxies = urlsplit(url), getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    return bool(named) and not proxy_bypass(parts.netloc)


def is_stood_in_for() -> bool:
    """Tell whether somebody has put a function of theirs in the place of one that sends."""
    return any(
        type(sends) is not FunctionType or sends.__globals__["__name__"] not in _GENUINE
        for sends in (
            httpcore.AsyncConnectionPool.handle_async_request,
            httpx.AsyncHTTPTransport.handle_async_request,
            httpx.AsyncClient.send,
        )
    )


@lru_cache(maxsize=256)
def _url(url: str) -> URL:
    return URL(url, encoded=True)


def _body(content: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp sends bytes at once, and warns that the loop stands still when they are many.
    return content or None if content is None or len(content) <= _BUFFER else io.BytesIO(content)


def limits_of(timeout: Mapping[str, float | None]) -> aiohttp.ClientTimeout:
    """Return what aiohttp takes for the seconds that httpx gives each step of a request.

    Args:
        timeout: by httpx's names, of which ``pool``, ``connect`` and ``read`` are used.
    """
    read = timeout.get("read")
    return aiohttp.ClientTimeout(
        total=None if read is None else _WHOLE * read,
        connect=timeout.get("pool"),
        sock_connect=timeout.get("connect"),
        sock_read=read,
    )


def _unpacked(answer: aiohttp.ClientResponse, body: bytes) -> bytes:
    # By httpx, which knows every form that it asks for.
    packed = httpx.Response(200, headers=answer.raw_headers, stream=httpx.ByteStream(body))
    return packed.read()


def _translated(error: Exception) -> httpx.TransportError:
    # What came may be quoted in the text of an error that is not about connecting.
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx.ConnectTimeout("")
    if isinstance(error, aiohttp.ClientConnectorError):
        return httpx.ConnectError(str(error))
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return httpx.UnsupportedProtocol("the URL is not one of HTTP")
    if isinstance(error, asyncio.TimeoutError):
        return httpx.ReadTimeout("")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return httpx.RemoteProtocolError("server disconnected")
    return httpx.ReadError(type(error).__name__)
