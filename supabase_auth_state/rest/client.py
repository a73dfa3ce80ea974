"""The one way to PostgREST: send a request, translate what comes back, try again when it helps.

Stands on the Supabase client: the HTTP session, base URL and auth headers are those of its
PostgREST client (supabase-py and postgrest-py 2.34). Its request builders are not used, because
they parse and validate every answer twice and retry only GET; here every request is idempotent, so
every request may be sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import orjson

from supabase_auth_state.config import Settings
from supabase_auth_state.errors import ConfigurationError, StoreError, StoreUnavailable

from . import backoff
from .responses import refusal
from .sending import Answer, Send, through

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient
    from supabase import AsyncClient

log = logging.getLogger("supabase_auth_state")

_JSON = {"content-type": "application/json", "accept": "application/json"}
_TEXT = {"content-type": "text/plain", "accept": "application/json"}
_PAUSE, _LONGEST_PAUSE = 0.1, 4.0
_CONNECTIONS = 32
_REAL_TIME = backoff.Timing()

Parse: TypeAlias = Callable[[bytes], Any]
"""Makes a result of an answer's text."""


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    what: str
    content: bytes | None = field(default=None, repr=False)
    parse: Parse = orjson.loads


class Rest:
    """PostgREST of one project, for any number of companies.

    Use `open_rest` to make one. Safe to share between tasks of one event loop; every
    ``use_supabase_auth_state(…, client=rest)`` then uses the same connections.

    Every method raises:
        StoreUnavailable: no usable answer within the time the settings allow.
        AccessDenied, SchemaMissing, ProjectRestricted, WriteRefused, InvalidRequest: the answer was
            no.
        ConfigurationError: what answers at the URL is not PostgREST.
    """

    def __init__(
        self,
        postgrest: AsyncPostgrestClient,
        *,
        timeout: float,
        give_up_after: float,
        owned: bool,
        timing: backoff.Timing = _REAL_TIME,
        send: Send | None = None,
    ) -> None:
        self._postgrest = postgrest
        self._session = postgrest.session
        self._send_it = send or through(self._session, timeout)
        self._base = str(postgrest.base_url).rstrip("/") + "/"
        self._headers = {
            "user-agent": self._session.headers.get("user-agent", "supabase-auth-state"),
            "accept-encoding": self._session.headers.get("accept-encoding", "gzip"),
            **{name.lower(): value for name, value in postgrest.headers.items()},
        }
        self._give_up_after = give_up_after
        self._owned = owned
        self._timing = timing

    def __repr__(self) -> str:
        return f"Rest({self._base!r})"

    async def rpc(
        self,
        function: str,
        params: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        give_up_after: float | None = None,
        parse: Parse = orjson.loads,
    ) -> Any:
        """Call a function with named parameters and return its result.

        Args:
            function: the function's name in the schema ``public``.
            params: its parameters, as JSON values.
            headers: further headers, e.g. those of a lease.
            give_up_after: seconds after which to give up, instead of the settings' own.
            parse: makes the result of the answer's text; raises ``orjson.JSONDecodeError`` if that
                is not JSON.
        """
        request = _Request(
            "POST", f"rpc/{function}", f"calling {function}", orjson.dumps(params), parse
        )
        return await self._send(request, {**_JSON, **(headers or {})}, give_up_after)

    async def rpc_text(
        self, function: str, body: bytes, *, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Call a function of one unnamed ``text`` parameter, which PostgREST passes on as it is."""
        request = _Request("POST", f"rpc/{function}", f"calling {function}", body)
        return await self._send(request, {**_TEXT, **(headers or {})})

    async def select(self, table: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Read rows; ``query`` is PostgREST's own, e.g. ``{"company_id": "eq.7"}``."""
        rows = await self._send(_Request("GET", _path(table, query), f"reading {table}"), _JSON)
        if not isinstance(rows, list):
            raise ConfigurationError(f"reading {table}: {self._base} did not answer with rows")
        return rows

    async def upsert(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        on_conflict: str,
        ignore_duplicates: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Store rows that all have the same columns, in one transaction.

        Args:
            table: the table's name.
            rows: the rows.
            on_conflict: columns of the key, separated by commas.
            ignore_duplicates: leave rows that are there already as they are.
            headers: further headers, e.g. those of a lease.

        Returns:
            With ``ignore_duplicates`` the rows that were inserted, else an empty list.
        """
        prefer = (
            "resolution=ignore-duplicates,return=representation"
            if ignore_duplicates
            else "resolution=merge-duplicates,return=minimal"
        )
        columns = ",".join(rows[0]) if rows else ""
        path = _path(table, {"on_conflict": on_conflict, "columns": columns})
        request = _Request("POST", path, f"writing {table}", orjson.dumps(rows))
        answer = await self._send(request, {**_JSON, "prefer": prefer, **(headers or {})})
        return answer if isinstance(answer, list) else []

    async def delete(
        self, table: str, query: Mapping[str, str], *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Delete the rows that ``query`` selects; it may not be empty."""
        if not query:
            raise ValueError("refusing to delete every row of a table")
        request = _Request("DELETE", _path(table, query), f"deleting from {table}")
        await self._send(request, {**_JSON, "prefer": "return=minimal", **(headers or {})})

    async def close(self) -> None:
        """Close the connections if they were opened here."""
        if self._owned:
            await self._postgrest.aclose()

    async def _send(
        self, request: _Request, headers: Mapping[str, str], give_up_after: float | None = None
    ) -> Any:
        now = self._timing.now
        deadline = now() + (self._give_up_after if give_up_after is None else give_up_after)
        attempt = 0
        while True:
            try:
                return await self._once(request, headers)
            except StoreUnavailable as error:
                failure = error
            pause = max(
                backoff.delay(attempt, base=_PAUSE, cap=_LONGEST_PAUSE, random=self._timing.random),
                failure.retry_after,
            )
            if now() + pause >= deadline:
                break
            attempt += 1
            log.info("%s; attempt %d in %.1f s", failure, attempt + 1, pause)
            await self._timing.sleep(pause)
        raise failure

    async def _once(self, request: _Request, headers: Mapping[str, str]) -> Any:
        what = request.what
        started = time.perf_counter()
        answer = await self._exchange(request, headers)
        status = answer.status
        log.debug("%s: HTTP %d in %.4f s", what, status, time.perf_counter() - started)
        success = 200 <= status < 300
        if success and not answer.content:
            if status == 204 or "return=minimal" in headers.get("prefer", ""):
                return None
            raise StoreUnavailable(f"{what}: the answer was empty", status=status)
        parsed, is_json = _parse(answer.content, request.parse if success else orjson.loads)
        if success and is_json:
            return parsed
        if success and "json" in answer.headers.get("content-type", ""):
            raise StoreUnavailable(f"{what}: the answer was cut off", status=status)
        if 200 <= status < 400:
            raise ConfigurationError(
                f"{what}: {self._base} does not speak PostgREST (HTTP {status}, not JSON); "
                "SUPABASE_URL must be the project's API URL, https://<ref>.supabase.co"
            )
        error = refusal(what, status, parsed)
        if isinstance(error, StoreUnavailable):
            error.retry_after = _retry_after(answer.headers.get("retry-after"))
        raise error

    async def _exchange(self, request: _Request, headers: Mapping[str, str]) -> Answer:
        what = request.what
        try:
            return await self._send_it(
                request.method,
                self._base + request.path,
                {**self._headers, **headers},
                request.content,
            )
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            problem: StoreError | ConfigurationError = ConfigurationError(f"{what}: {error}")
        except (httpx.TransportError, httpx.TooManyRedirects, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not self._session.is_closed:
                raise
            advice = (
                f"; is {self._base} the right address?"
                if isinstance(error, httpx.ConnectError)
                else ""
            )
            problem = StoreUnavailable(f"{what}: {type(error).__name__} {error}".rstrip() + advice)
        # Raised here, so that no exception in the chain holds the request and its headers.
        raise problem


def open_rest(
    settings: Settings | None = None,
    *,
    client: AsyncClient | AsyncPostgrestClient | Rest | None = None,
    timing: backoff.Timing = _REAL_TIME,
) -> Rest:
    """Return a `Rest` on the settings given, on a client given, or on the environment's settings.

    Args:
        settings: the project and its key; read from the environment and ``.env`` when absent.
        client: a ``supabase.AsyncClient`` or ``postgrest.AsyncPostgrestClient`` of yours, which you
            close; or a `Rest`, which is returned as it is.
        timing: where time and chance come from, for tests.

    Raises:
        ConfigurationError: the settings are missing or wrong, or the client is a sync one.
    """
    if isinstance(client, Rest):
        return client
    if client is not None:
        return _on_client(client, settings)
    settings = settings or Settings.from_env()
    postgrest, send = _connect(settings)
    return Rest(
        postgrest,
        send=send,
        timeout=settings.timeout,
        give_up_after=settings.give_up_after,
        owned=True,
        timing=timing,
    )


@asynccontextmanager
async def using_rest(
    settings: Settings | None = None,
    *,
    client: AsyncClient | AsyncPostgrestClient | Rest | None = None,
) -> AsyncIterator[Rest]:
    """Give what `open_rest` gives, and close it at the end unless it is the caller's own.

    Raises:
        ConfigurationError: as `open_rest`.
    """
    rest = open_rest(settings, client=client)
    try:
        yield rest
    finally:
        if client is None:
            await rest.close()


def _connect(settings: Settings) -> tuple[AsyncPostgrestClient, Send]:
    from postgrest import AsyncPostgrestClient

    from .transport import open_session

    url = f"{settings.url}/rest/v1"
    headers = {"apikey": settings.key, "Authorization": f"Bearer {settings.key}"}
    session, send = open_session(url, timeout=settings.timeout, connections=_CONNECTIONS)
    return AsyncPostgrestClient(url, headers=headers, http_client=session), send


def _on_client(client: AsyncClient | AsyncPostgrestClient, settings: Settings | None) -> Rest:
    from postgrest import AsyncPostgrestClient

    from supabase_auth_state.config import check_service_key

    postgrest = (
        client if isinstance(client, AsyncPostgrestClient) else getattr(client, "postgrest", None)
    )
    if not isinstance(postgrest, AsyncPostgrestClient):
        raise ConfigurationError(
            f"client is a {type(client).__name__}: pass a supabase.AsyncClient "
            "(await supabase.acreate_client(url, key)) or a postgrest.AsyncPostgrestClient"
        )
    key = next(
        (value for name, value in postgrest.headers.items() if name.lower() == "apikey"), None
    )
    if key:
        check_service_key(key)
    limits = settings or _Patience
    return Rest(postgrest, timeout=limits.timeout, give_up_after=limits.give_up_after, owned=False)


class _Patience:
    timeout: float = Settings.timeout
    give_up_after: float = Settings.give_up_after


def _path(table: str, query: Mapping[str, str]) -> str:
    return f"{table}?{httpx.QueryParams(dict(query))}"


def _parse(content: bytes, parse: Parse) -> tuple[Any, bool]:
    try:
        return parse(content), True
    except orjson.JSONDecodeError:
        return None, False


def _retry_after(value: str | None) -> float:
    try:
        return min(max(float(value or 0), 0.0), 60.0)
    except ValueError:
        return 0.0
