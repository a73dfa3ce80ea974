"""HTTP/1.1 by aiohttp, below httpx: a request costs the processor half of what httpcore takes.

The session stays that of the Supabase client; only what carries its bytes is another one. Source of
the interface: httpx 0.28, ``httpx/_transports/base.py``.
"""

from __future__ import annotations

import asyncio
import io
import warnings
import weakref
from collections.abc import Awaitable, Callable
from functools import lru_cache
from types import FunctionType
from typing import TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpcore
import httpx
from yarl import URL

Send: TypeAlias = Callable[[httpx.Request], Awaitable[httpx.Response]]

_BUFFER = 1 << 20
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# aiohttp does not count the time that a request is written, so a server that stops reading is found
# out by the time of the whole.
_WHOLE = 4
_GENUINE = frozenset({"httpcore._async.connection_pool", "httpx._transports.default"})


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
        """Send a request and read the whole answer.

        Raises:
            httpx.TransportError: there is no whole answer. It names no header and quotes nothing
                that came, nor does any error in its chain.
        """
        if _is_stood_in_for():
            if self._plain is None:
                self._plain = httpx.AsyncHTTPTransport(limits=_limits(self._connections))
            return await self._plain.handle_async_request(request)
        try:
            return await self._exchange(request)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            problem = _translated(error)
        raise problem

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
        if self._plain is not None:
            await self._plain.aclose()

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        answer = await self._connected().request(
            request.method,
            _url(str(request.url)),
            headers=request.headers.multi_items(),
            data=_body(await request.aread()),
            timeout=_timeout(request),
            allow_redirects=False,
        )
        headers, body = answer.raw_headers, await answer.read()
        if any(name.lower() == b"content-encoding" for name, _ in headers):
            # Only a stream is decoded by httpx.
            packed = httpx.ByteStream(body)
            return httpx.Response(answer.status, headers=headers, stream=packed, request=request)
        return httpx.Response(answer.status, headers=headers, content=body, request=request)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, ssl=httpx.create_ssl_context()
                ),
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


def open_session(
    url: str, *, timeout: float, connections: int
) -> tuple[httpx.AsyncClient, Send | None]:
    """Open a session for one base URL; through a proxy of the environment, if one is named there.

    Args:
        url: the base URL.
        timeout: seconds to wait for each step of a request.
        connections: how many may be open; a request waits for its turn.

    Returns:
        The session, and how to send on its connections without what it does besides.
    """
    # No HTTP/2: a stale multiplexed connection fails every request on it at once (supabase-py issue
    # 1064).
    if _has_proxy(url):
        limits = _limits(connections)
        return httpx.AsyncClient(base_url=url, timeout=timeout, limits=limits), None
    transport = AiohttpTransport(connections=connections)
    session = httpx.AsyncClient(base_url=url, timeout=timeout, transport=transport)
    return session, transport.handle_async_request


def _limits(connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=connections, max_keepalive_connections=connections)


def _has_proxy(url: str) -> bool:
    parts, proxies = urlsplit(url), getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    return bool(named) and not proxy_bypass(parts.netloc)


def _is_stood_in_for() -> bool:
    return any(
        type(sends) is not FunctionType or sends.__globals__["__name__"] not in _GENUINE
        for sends in (
            httpcore.AsyncConnectionPool.handle_async_request,
            httpx.AsyncHTTPTransport.handle_async_request,
        )
    )


@lru_cache(maxsize=256)
def _url(url: str) -> URL:
    return URL(url, encoded=True)


def _body(content: bytes) -> bytes | io.BytesIO | None:
    # aiohttp sends bytes at once, and warns that the loop stands still when they are many.
    return content or None if len(content) <= _BUFFER else io.BytesIO(content)


def _timeout(request: httpx.Request) -> aiohttp.ClientTimeout:
    limits = request.extensions.get("timeout") or {}
    read = limits.get("read")
    return aiohttp.ClientTimeout(
        total=None if read is None else _WHOLE * read,
        connect=limits.get("pool"),
        sock_connect=limits.get("connect"),
        sock_read=read,
    )


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
