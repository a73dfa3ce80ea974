"""PostgREST of one project, by the Supabase client's own builders."""

from __future__ import annotations

import asyncio
import copy
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from supabase_auth_state.config import Settings
from supabase_auth_state.config.encryption import Encryption, check_encryption, encryption_of

from . import backoff
from .answers import is_time, result_of, stored, with_receipt
from .clocks import clock
from .connection import Client, Connection, GivenConnection, OwnConnection
from .ledger import TELL, Ledger
from .requests import Builder, Commit, Request, Sender, names

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient

_A_MOMENT = 0.5
_REAL_TIME = backoff.Timing(now=clock)

Parse: TypeAlias = Callable[[bytes], Any]
"""Makes a result of an answer's text."""


class Rest:
    """PostgREST of one project, for any number of companies.

    Use `open_rest` to make one. Safe to share between tasks of one event loop; every
    ``use_supabase_auth_state(…, client=rest)`` then uses the same connections. A `Rest` of your
    settings may be used again in another event loop; one on a client of yours may not.

    Every method raises:
        StoreUnavailable: no usable answer within the time the settings allow.
        AccessDenied, SchemaMissing, ProjectRestricted, WriteRefused, InvalidRequest: the answer was
            no.
        ConfigurationError: what answers at the URL is not PostgREST, or the client belongs to
            another event loop.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float,
        give_up_after: float,
        timing: backoff.Timing = _REAL_TIME,
        encryption: Encryption | None = None,
    ) -> None:
        self.encryption = encryption
        self._connection = connection
        self._ledger = Ledger(self._tell)
        self._sender = Sender(
            connection,
            timeout=timeout,
            give_up_after=give_up_after,
            timing=timing,
            ledger=self._ledger,
        )
        self._timing = timing
        self._name = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._background: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Rest({self._connection.url!r})"

    def with_encryption(self, encryption: Encryption | None) -> Rest:
        """Return a `Rest` on the same connections whose companies are sealed with other keys."""
        other = copy.copy(self)
        other.encryption = encryption
        return other

    @property
    def url(self) -> str:
        """The project's URL."""
        return self._connection.url.removesuffix("/rest/v1")

    async def rpc(
        self,
        function: str,
        params: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        give_up_after: float | None = None,
        parse: Parse = orjson.loads,
        is_right: Callable[[Any], bool] = lambda _: True,
        commit: Commit | None = None,
        timed: bool = False,
        harmless_late: bool = False,
    ) -> Any:
        """Call a function with named parameters and return its result.

        It is a POST: Supabase's load balancer sends those to the primary database.

        Args:
            function: the function's name.
            params: its parameters, as JSON values.
            headers: further headers.
            give_up_after: seconds after which to give up, instead of the settings' own.
            parse: makes the result of the answer's text.
            is_right: whether a result is the answer to this call; what is not is no answer.
            commit: the place among a writer's requests.
            timed: whether it is a write without such a place; the database refuses it when it is
                late, and it is given up only then.
            harmless_late: whether a write that has failed may still be executed a moment later.
        """
        return await self._sender.send(
            Request(
                f"calling {function}",
                lambda postgrest: postgrest.rpc(function, dict(params)),
                result_of(parse, is_right),
                headers=headers or {},
                commit=commit,
                timed=timed,
                harmless_late=harmless_late,
            ),
            give_up_after,
        )

    async def do(
        self, function: str, params: Mapping[str, Any], *, commit: Commit, give_up_after: float
    ) -> None:
        """Call a function that writes and gives true or false; the receipt acknowledges it.

        No harm is done when a call that was given up is executed a moment later.

        Args:
            function: the function's name.
            params: its parameters, as JSON values.
            commit: the place among a writer's requests.
            give_up_after: seconds after which to give up.
        """
        await self._sender.send(
            Request(
                f"calling {function}",
                lambda postgrest: postgrest.rpc(function, dict(params)),
                with_receipt(result_of(orjson.loads, lambda found: isinstance(found, bool))),
                commit=commit,
                harmless_late=True,
            ),
            give_up_after,
        )

    async def ask(
        self,
        function: str,
        company_id: str,
        params: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        parse: Parse = orjson.loads,
        commit: Commit | None = None,
        timed: bool = False,
        harmless_late: bool = False,
    ) -> Mapping[str, Any]:
        """Call a function about a company that repeats company and request in its result.

        So no other answer can be taken for it: not a gateway's, not that to another request. What
        it says of the database's time is remembered.

        Args:
            function: the function's name.
            company_id: the company.
            params: further parameters, as JSON values.
            headers: further headers.
            parse: makes the result of the answer's text.
            commit: the place among a writer's requests.
            timed: see `rpc`.
            harmless_late: see `rpc`.
        """
        request = f"{self._name}-{next(self._numbers)}"

        wanted = {"company_id": company_id, "request": request}
        found: Mapping[str, Any] = await self.rpc(
            function,
            {"p_company_id": company_id, **params, "p_request": request},
            headers=headers,
            parse=parse,
            is_right=lambda found: names(found, wanted) and is_time(found.get("time")),
            commit=commit,
            timed=timed,
            harmless_late=harmless_late,
        )
        self.learn_time(found["time"])
        return found

    async def about(
        self,
        function: str,
        company_id: str,
        params: Mapping[str, Any] | None = None,
        *,
        parse: Parse = orjson.loads,
        timed: bool = False,
    ) -> Any:
        """Call a function about a company that names the company in its result.

        Args:
            function: the function's name.
            company_id: the company.
            params: further parameters, as JSON values.
            parse: makes the result of the answer's text.
            timed: see `rpc`.
        """
        return await self.rpc(
            function,
            {"p_company_id": company_id, **(params or {})},
            parse=parse,
            is_right=lambda found: names(found, {"company_id": company_id}),
            timed=timed,
        )

    async def upsert(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        on_conflict: str,
        commit: Commit,
        content: bytes | None = None,
    ) -> None:
        """Store rows that all have the same columns, in one transaction; a null value deletes.

        Args:
            table: the table's name.
            rows: the rows; the first one alone is enough where ``content`` is given.
            on_conflict: columns of the key, separated by commas.
            commit: the place among a writer's requests.
            content: all rows as JSON text, when they are encoded already.
        """
        from postgrest.types import ReturnMethod

        await self._sender.send(
            Request(
                f"writing {table}",
                lambda postgrest: postgrest.from_(table).upsert(
                    list(rows), on_conflict=on_conflict, returning=ReturnMethod.minimal
                ),
                with_receipt(stored),
                content=content,
                commit=commit,
            )
        )

    async def select(
        self, table: str, build: Callable[[AsyncPostgrestClient], Builder]
    ) -> list[dict[str, Any]]:
        """Read rows by a query that ``build`` makes with the client's builders.

        It is a GET, which Supabase's load balancer may send to a read replica: good for showing,
        not for deciding.

        Args:
            table: the table's name, for messages.
            build: makes the query, e.g.
                ``lambda client: client.from_(table).select("company_id")``.
        """
        rows: list[dict[str, Any]] = await self._sender.send(
            Request(
                f"reading {table}",
                build,
                result_of(orjson.loads, lambda found: isinstance(found, list)),
            )
        )
        return rows

    def deadline(self, seconds: float) -> str:
        """Return the database's time in so many seconds, as the header of a request has it."""
        return self._sender.deadline(self._timing.now() + seconds)

    def moment_of(self, time: float) -> float:
        """Return when it is this time, in seconds since 1970 of the database, by this clock."""
        return self._sender.database_clock.moment_of(time)

    def met(self, *events: str) -> None:
        """Count what happened, by names of `activity.EVENTS`."""
        self._sender.met(*events)

    async def _tell(self, params: Mapping[str, Any], give_up_after: float) -> object:
        # Gives nothing, which PostgREST answers with HTTP 204.
        return await self._sender.send(
            Request(
                f"calling {TELL}",
                lambda postgrest: postgrest.rpc(TELL, dict(params)),
                lambda answer: answer.status,
            ),
            give_up_after,
        )

    def learn_time(self, time: float) -> None:
        """Take the database's time, in seconds since 1970, from an answer that has just come."""
        self._sender.database_clock.learn(time)

    async def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what has to be done although the caller was cancelled, and wait for a moment.

        What takes longer goes on in the background, and `close` leaves the connections open for it.
        """
        await asyncio.wait({self.start(work)}, timeout=_A_MOMENT)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something in the background; `close` leaves the connections open for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """Close the connections if they were opened here."""
        self._ledger.stop()
        if self._background:
            await asyncio.wait(self._background, timeout=_A_MOMENT)
        if self._background:
            await self.in_background(self._close_later(set(self._background)))
        else:
            await self._connection.close()

    async def _close_later(self, tasks: set[asyncio.Task[None]]) -> None:
        try:
            await asyncio.wait(tasks)
        finally:
            # Also when the event loop ends before them.
            await self._connection.close()


def open_rest(
    settings: Settings | None = None,
    *,
    client: Client | Rest | None = None,
    encryption: Encryption | None = None,
    timing: backoff.Timing = _REAL_TIME,
) -> Rest:
    """Return a `Rest` on the settings given, on a client given, or on the environment's settings.

    Args:
        settings: the project and its key; read from the environment and ``.env`` when absent.
        client: a ``supabase.AsyncClient`` or ``postgrest.AsyncPostgrestClient`` of yours, which you
            close; or a `Rest`, which is returned as it is. Pass one to send by httpx's own
            transport, through a proxy or a tracer.
        encryption: the keys that seal values, as in `Settings`; those of the settings, or of
            ``SUPABASE_AUTH_STATE_KEYS``, when absent.
        timing: where time and chance come from, for tests.

    Raises:
        ConfigurationError: the settings are missing or wrong, or the client is a sync one.
    """
    if isinstance(client, Rest):
        return (
            client if encryption is None else client.with_encryption(check_encryption(encryption))
        )
    limits: Settings | type[Settings]
    if client is not None:
        connection: Connection = GivenConnection(client)
        limits = settings or Settings
    else:
        limits = settings = settings or Settings.from_env()
        connection = OwnConnection(settings)
    if encryption is None:
        encryption = encryption_of() if settings is None else settings.encryption
    return Rest(
        connection,
        timeout=limits.timeout,
        give_up_after=limits.give_up_after,
        timing=timing,
        encryption=check_encryption(encryption),
    )


@asynccontextmanager
async def using_rest(
    settings: Settings | None = None, *, client: Client | Rest | None = None
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
