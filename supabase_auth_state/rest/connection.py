"""The Supabase client: the caller's own, or one that is opened at the first request."""

from __future__ import annotations

import asyncio
import os
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from supabase_auth_state.config import Settings, check_service_key, proxy_of, ssl_context
from supabase_auth_state.errors import ConfigurationError

if TYPE_CHECKING:
    import aiohttp
    import httpx
    from postgrest import AsyncPostgrestClient
    from supabase import AsyncClient

Client: TypeAlias = "AsyncClient | AsyncPostgrestClient"
"""A client of the Supabase library that a caller may pass in."""

_CONNECTIONS = 32
_IDLE_SECONDS = 15.0
_READ_BUFFER = 1 << 20


class Connection(Protocol):
    """Where requests go."""

    url: str

    async def postgrest(self) -> AsyncPostgrestClient:
        """Return the client's PostgREST part, whose builders make the requests.

        Raises:
            ConfigurationError: the client belongs to another event loop or process.
        """
        ...

    async def close(self) -> None:
        """Close what was opened here."""
        ...


class Place:
    """The event loop and the process in which something was opened.

    Sockets, locks and tasks serve one event loop; after a fork two processes would share them.
    """

    def __init__(self) -> None:
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._process = os.getpid()

    def is_here(self) -> bool:
        """Return whether this is the same event loop in the same process."""
        return self.is_in_this_process() and self._loop() is asyncio.get_running_loop()

    def is_in_this_process(self) -> bool:
        """Return whether this process has not been forked since."""
        return self._process == os.getpid()

    def refuse_elsewhere(self, what: str) -> None:
        """Return if `is_here`.

        Args:
            what: what cannot be used elsewhere, for the message.

        Raises:
            ConfigurationError: it was opened in another event loop, or before a fork.
        """
        if not self.is_here():
            where = (
                "in another event loop"
                if self.is_in_this_process()
                else "before this process was forked"
            )
            raise ConfigurationError(f"{what} was opened {where}: open it again in this one")


class OwnConnection:
    """A ``supabase.AsyncClient`` made from settings, over HTTP/1.1 by ``httpx-aiohttp``.

    aiohttp takes half of the processor time that httpcore takes for a request. HTTP/2 is not used:
    one broken connection would fail every request on it at once (supabase-py issue 1064).

    It is opened at the first request, and opened anew when another event loop or a forked process
    makes one. Its connections are given up when it is dropped without `close`.
    """

    def __init__(self, settings: Settings) -> None:
        self.url = f"{settings.url}/rest/v1"
        self._settings = settings
        self._place: Place | None = None
        self._session: httpx.AsyncClient | None = None
        self._postgrest: AsyncPostgrestClient | None = None
        self._abandon: Callable[[], object] = _nothing
        self._closed = False

    async def postgrest(self) -> AsyncPostgrestClient:
        """Return the PostgREST part of the client; see `Connection`."""
        if self._postgrest is not None and self._place is not None and self._place.is_here():
            return self._postgrest
        if self._closed:
            raise ConfigurationError("the connection is closed: make a new one with open_rest()")
        return await self._open()

    async def _open(self) -> AsyncPostgrestClient:
        from supabase import AsyncClientOptions, acreate_client

        session = _open_session(self._settings)
        client = await acreate_client(
            self._settings.url,
            self._settings.key,
            options=AsyncClientOptions(
                httpx_client=session,
                schema=self._settings.schema,
                auto_refresh_token=False,
                persist_session=False,
            ),
        )
        if self._postgrest is None or self._place is None or not self._place.is_here():
            self._abandon()
            self._place, self._session = Place(), session
            self._postgrest = client.postgrest
            self._abandon = weakref.finalize(self, _abandon, session, self._place)
        return self._postgrest

    async def close(self) -> None:
        """Close the connections; the client cannot be used again."""
        self._closed = True
        session, self._session, self._postgrest = self._session, None, None
        if session is not None and self._place is not None and self._place.is_here():
            await session.aclose()
        self._abandon()


class GivenConnection:
    """A client that the caller made and closes.

    Args:
        client: a ``supabase.AsyncClient`` or ``postgrest.AsyncPostgrestClient``.

    Raises:
        ConfigurationError: it is neither, or its key is not a service key.
    """

    def __init__(self, client: Client) -> None:
        from postgrest import AsyncPostgrestClient

        postgrest = (
            client
            if isinstance(client, AsyncPostgrestClient)
            else getattr(client, "postgrest", None)
        )
        if not isinstance(postgrest, AsyncPostgrestClient):
            raise ConfigurationError(
                f"client is a {type(client).__name__}: pass a supabase.AsyncClient "
                "(await supabase.acreate_client(url, key)) or a postgrest.AsyncPostgrestClient"
            )
        key = postgrest.headers.get("apikey") or postgrest.headers.get("apiKey")
        if key:
            check_service_key(key)
        self.url = str(postgrest.base_url).rstrip("/")
        self._postgrest = postgrest
        self._place: Place | None = None

    async def postgrest(self) -> AsyncPostgrestClient:
        """Return the PostgREST part of the client; see `Connection`."""
        if self._place is None:
            self._place = Place()
        self._place.refuse_elsewhere("the Supabase client")
        return self._postgrest

    async def close(self) -> None:
        """Leave the client to the caller."""


def _open_session(settings: Settings) -> httpx.AsyncClient:
    import httpx

    # For http no authorities are loaded, which takes 20 ms.
    verify = ssl_context(settings) if settings.url.startswith("https:") else False
    proxy = proxy_of(settings.url)
    if proxy is not None:
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        # httpx would read every proxy variable, and fail on one that is not needed.
        return httpx.AsyncClient(
            timeout=settings.timeout, limits=limits, proxy=proxy, verify=verify, trust_env=False
        )
    from httpx_aiohttp import AiohttpTransport

    transport = AiohttpTransport(verify=verify)
    transport.client = lambda: _open_aiohttp(transport)
    return httpx.AsyncClient(timeout=settings.timeout, transport=transport)


def _nothing() -> None:
    pass


# Sessions of the process that this one was forked from. To close their connections, or to let them
# be collected, would take the sockets from its event loop.
_of_another_process: list[httpx.AsyncClient] = []


def _abandon(session: httpx.AsyncClient, place: Place) -> None:
    # The event loop of these connections has ended, or will not be waited for: they cannot be
    # closed in good order, and aiohttp would log an error about them.
    client: Any = getattr(session._transport, "client", None)  # noqa: SLF001 - httpx hides it
    connector: Any = getattr(client, "connector", None)
    if connector is None or connector.closed:
        return
    import aiohttp

    client.detach()
    if not place.is_in_this_process():
        _of_another_process.append(session)
        connector._closed = True  # noqa: SLF001 - or it closes them itself when this process ends
        return
    # The connector's own `close` is to be awaited, which takes a loop.
    with warnings.catch_warnings(), suppress(RuntimeError):
        warnings.simplefilter("ignore", DeprecationWarning)
        aiohttp.BaseConnector.close(connector)


def _open_aiohttp(transport: object) -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=_CONNECTIONS,
            keepalive_timeout=_IDLE_SECONDS,
            ssl=transport.ssl_context,  # type: ignore[attr-defined]
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_READ_BUFFER,
    )
