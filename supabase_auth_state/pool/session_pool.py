"""One session per company, however many callers ask and however many machines run.

A *session* here is one connection to WhatsApp. The user's factory makes it; the pool decides
when, and when not. It knows of no WhatsApp library: a session is any object, and how it ended is
a number.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supabase_auth_state.errors import (
    ConfigurationError,
    PoolClosed,
    PoolError,
    SupabaseAuthStateError,
)
from supabase_auth_state.rest.backoff import Timing
from supabase_auth_state.rest.connection import Place
from supabase_auth_state.rest.opening import AsyncOnly

from .company_connection import CompanyConnection, PoolOptions
from .ends import CompanyState, CompanyStatus, ConnectionEnd
from .pauses import SharedPauses
from .retries import Pauses
from .tasks import PoolTasks, finished

if TYPE_CHECKING:
    from typing_extensions import Self

    from supabase_auth_state.auth_state.database import AuthState
    from supabase_auth_state.rest.client import Rest
    from supabase_auth_state.rest.connection import Client

log = logging.getLogger("supabase_auth_state")

S = TypeVar("S")


class SessionPool(AsyncOnly, Generic[S]):
    """Keep at most one session per company, here and, by leases, on every machine.

    ::

        async def connect(company_id, auth):
            return await MyClient(auth.creds, auth.keys).connect()

        async with SessionPool(connect) as pool:
            session = await pool.get("962302")

    Not thread-safe: call it from the event loop in which it was used first. In another loop, or
    after a fork, every method raises ``ConfigurationError``.

    Args:
        factory: ``async def factory(company_id, auth)`` gives a session. It is cancelled when the
            company is closed, its lease is lost or ``create_within`` is over.
        client: the connections that all companies share, as for ``use_supabase_auth_state``; you
            close it. By default one is opened, and closed by ``close_all``.
        open_auth: ``async def open_auth(company_id)`` gives the ``AuthState``. By default
            ``use_supabase_auth_state(company_id, client=client, lease=True)``. With it and without
            ``client``, what the pool finds out about a company (401, 440) stays in this process.
        close_session: closes a session; may be async. By default the session's own ``aclose``,
            ``close``, ``end`` or ``disconnect``, the first it has. Given up after 30 seconds.
        on_end: ``on_end(company_id, end)`` is called with a `ConnectionEnd` whenever a connection
            has ended, or an attempt at one has failed, other than by ``close``; may be async.
        max_creating: how many companies begin to connect at the same time; the others wait. One
            that is still at it after ten seconds no longer counts.
        create_within: seconds after which an attempt has failed. The default is longer than
            WhatsApp shows the QR codes of one connection.
        idle_after: seconds without a ``get`` after which a session is closed. Default: never.
            Companies given to ``serve`` are kept.
        backoff_base: the first pause after a failure, in seconds; pauses double.
        backoff_cap: the longest pause after failures.
        yield_base: as ``backoff_base``, for a company that is left alone, e.g. after another
            connection replaced ours.
        yield_cap: the longest of those.
        timing: clock, sleep and chance, for tests.

    Raises:
        ConfigurationError: ``max_creating``, ``create_within`` or ``idle_after`` is not above 0.
    """

    def __init__(
        self,
        factory: Callable[[str, AuthState], Awaitable[S]],
        *,
        client: Client | Rest | None = None,
        open_auth: Callable[[str], Awaitable[AuthState]] | None = None,
        close_session: Callable[[S], object] | None = None,
        on_end: Callable[[str, ConnectionEnd], object] | None = None,
        max_creating: int = 20,
        create_within: float = 180.0,
        idle_after: float | None = None,
        backoff_base: float = 1.0,
        backoff_cap: float = 300.0,
        yield_base: float = 300.0,
        yield_cap: float = 21600.0,
        timing: Timing | None = None,
    ) -> None:
        _refuse_unless_positive(
            max_creating=max_creating, create_within=create_within, idle_after=idle_after
        )
        self._timing = timing or Timing()
        self._opener = _Opener(client)
        self._tasks = PoolTasks()
        self._options = PoolOptions(
            open_auth=open_auth or self._opener.open_auth,
            factory=factory,
            close_session=close_session,
            on_end=on_end,
            turns=asyncio.Semaphore(max_creating),
            create_within=create_within,
            retrying=Pauses(backoff_base, backoff_cap),
            yielding=Pauses(yield_base, yield_cap),
            timing=self._timing,
            tasks=self._tasks,
            pauses=self._opener.pauses() if open_auth is None or client is not None else None,
        )
        self._companies: dict[str, CompanyConnection[S]] = {}
        self._idle_after = idle_after
        self._evicting: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._served: frozenset[str] = frozenset()
        self._closing: asyncio.Task[None] | None = None
        self._place: Place | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close_all()

    async def get(self, company_id: str) -> S:
        """Return the company's session. The first caller has it made, the others wait for it.

        After a failure this waits until the pause is over, then tries again; give up earlier with
        ``asyncio.wait_for``. A caller that is cancelled leaves the attempt to the others, and a
        session that is made for no caller stays in the pool.

        Raises:
            LeaseHeld: another process owns the company. Not tried again before the next call.
            CompanyQuarantined: WhatsApp logged the company out, or refused it.
            SessionBackoff: the company is left alone, e.g. because another connection replaced
                ours; ``retry_after`` says for how long.
            PoolClosed: the pool is closed.
            PoolError: the company was closed while its session was being made; or the factory was
                cancelled from within, took longer than ``create_within``, or raised what is not an
                ``Exception``.
            ConfigurationError: the pool belongs to another event loop or process.
            Exception: whatever the factory raised, the same for every caller that waited.
        """
        return await self._company(company_id).get()

    def report(self, company_id: str, reason: object, *, session: S | None = None) -> None:
        """Say that a session has ended. Returns at once; call it from any handler.

        - 401, logged out: the company is quarantined: its rows too, for 14 days, and nothing new is
          stored for it (`AuthState.log_out`). 403, 406, banned: quarantined, and its rows stay.
        - 440, replaced by another connection; 402, banned for a time; 405 and 409, the client is
          outdated; 411, the phone is: the company is left alone for a long, growing pause.
        - 515, restart required: the factory is called again at once, with the same auth state.
          More than three in a row count as failures.
        - Anything else: the session is made anew after a growing pause, until that works, the
          company is closed, or another machine has taken it.

        In each case but 515 the lease is released. A report while the factory runs starts
        nothing: it decides what becomes of the session that is being made. A report about a
        session that is no longer the company's is ignored, which takes ``session``: a late report
        without it hits the next one.

        Args:
            company_id: the company.
            reason: the status code, or an error with one in ``status_code`` or ``statusCode``.
            session: the session it is about.

        Raises:
            ConfigurationError: the pool belongs to another event loop or process.
        """
        self._refuse_elsewhere()
        if company_id in self._companies:
            self._companies[company_id].report(reason, session)

    def reinstate(self, company_id: str) -> Awaitable[object]:
        """Let a quarantined or yielded company be opened again, and forget its failures.

        One that was logged out gets the creds of a new device then, unless it was restored first.

        Here it happens at once. ``await`` what it returns to know that it has happened in the
        database, for the pools of all machines; an attempt of this pool waits for that by itself.

        Raises:
            PoolClosed: the pool is closed.
            ConfigurationError: the pool belongs to another event loop or process.
            StoreError: on ``await``, when the database refused or did not answer.
        """
        if company_id not in self._companies and self._options.pauses is None:
            return finished()
        return self._company(company_id).reinstate()

    def status(self) -> dict[str, CompanyStatus]:
        """Return what each company is doing that the pool has seen."""
        return {name: company.status for name, company in self._companies.items()}

    def status_of(self, company_id: str) -> CompanyState:
        """Return what a company is doing, when it may be tried again, and how it ended last."""
        if company_id not in self._companies:
            return CompanyState("down", 0.0, None)
        return self._companies[company_id].state

    def serve(
        self, company_ids: Iterable[str], *, every: float = 30.0, at_most: int | None = None
    ) -> None:
        """Keep trying to own these companies, so that one is taken over when its owner dies.

        Returns at once. Call it again when the list changes; companies that are no longer in it
        stay up until they are closed. A company closed with ``close`` is left to others for ``2 *
        every`` seconds, which moves it to another machine that has room.

        Args:
            company_ids: the companies.
            every: seconds between two rounds of asking for those that are not ours.
            at_most: how many companies this pool has at the same time, those from ``get`` included.

        Raises:
            PoolClosed: the pool is closed.
            ConfigurationError: the pool belongs to another event loop or process, ``every`` is not
                above 0, or the companies are one text, whose characters would be taken for
                companies.
        """
        self._refuse_closed()
        _refuse_unless_positive(every=every)
        if isinstance(company_ids, (str, bytes)):
            raise ConfigurationError(
                "serve takes a list of companies, not one text: pool.serve(['962302'])"
            )
        self._served = frozenset(company_ids)
        if self._serving is not None:
            self._serving.cancel()
        self._serving = self._tasks.spawn(self._keep_serving, every, at_most)

    async def close(self, company_id: str) -> None:
        """Close the company's session and release its lease; a later ``get`` opens it again.

        Giving up the wait, as by ``asyncio.wait_for``, cancels nothing: the closing goes on.

        Raises:
            ConfigurationError: the pool belongs to another event loop or process.
        """
        self._refuse_elsewhere()
        if company_id in self._companies:
            await asyncio.shield(self._close(company_id))

    async def close_all(self) -> None:
        """Close every session, release every lease and end every task, for good.

        Giving up the wait cancels nothing: the closing goes on, and a second call waits for it.

        Raises:
            ConfigurationError: the pool belongs to another event loop or process.
        """
        self._refuse_elsewhere()
        if self._closing is None:
            # Not among the pool's tasks, for which it waits.
            self._closing = asyncio.get_running_loop().create_task(self._close_all())
        await asyncio.shield(self._closing)

    async def _close_all(self) -> None:
        for loop in (self._serving, self._evicting):
            if loop is not None:
                loop.cancel()
        error = PoolClosed("the pool is closed")
        for company in self._companies.values():
            company.close(error)
        await self._tasks.have_ended()
        await self._opener.close()

    def _close(self, company_id: str) -> asyncio.Task[None]:
        error = PoolError(f"company {company_id!r} was closed while its session was being made")
        return self._companies[company_id].close(error)

    def _company(self, company_id: str) -> CompanyConnection[S]:
        self._refuse_closed()
        # It stays for good: its lock is what keeps two sessions of a company apart.
        company = self._companies.get(company_id)
        if company is None:
            company = self._companies[company_id] = CompanyConnection(company_id, self._options)
        if self._idle_after is not None and self._evicting is None:
            self._evicting = self._tasks.spawn(self._keep_evicting, self._idle_after)
        return company

    def _refuse_closed(self) -> None:
        self._refuse_elsewhere()
        if self._closing is not None:
            raise PoolClosed("the pool is closed")

    def _refuse_elsewhere(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "a session pool is used in its event loop: from a thread, call "
                "loop.call_soon_threadsafe(pool.report, …)"
            ) from None
        if self._place is None:
            self._place = Place()
        self._place.refuse_elsewhere("the session pool")

    async def _keep_evicting(self, idle_after: float) -> None:
        while True:
            idle = [name for name in self._companies if self._idle(name) >= idle_after]
            for closing in [self._close(name) for name in idle]:
                await asyncio.wait({closing})
            longest = max(map(self._idle, self._companies), default=0.0)
            await self._timing.sleep(max(0.0, idle_after - longest))

    def _idle(self, company_id: str) -> float:
        used = self._companies[company_id].last_used
        return 0.0 if used is None or company_id in self._served else self._timing.now() - used

    async def _keep_serving(self, every: float, at_most: int | None) -> None:
        while True:
            next_round = self._tasks.spawn(
                self._timing.sleep, every * (0.75 + self._timing.random() / 4)
            )
            try:
                await self._look_at_pauses()
                await self._open_what_is_free(every, at_most, next_round)
                await asyncio.wait({next_round})
            finally:
                next_round.cancel()

    async def _open_what_is_free(
        self, every: float, at_most: int | None, next_round: asyncio.Task[None]
    ) -> None:
        # In random order, so that pools that start together do not all ask for the same ones.
        for company_id in sorted(self._served, key=lambda _: self._timing.random()):
            if not await self._has_room(at_most, next_round):
                break
            company = self._company(company_id)
            if company.ready and not self._left_to_others(company, every):
                company.open()

    async def _look_at_pauses(self) -> None:
        """Take note of companies that were reinstated elsewhere."""
        paused = [each for each in map(self._company, self._served) if each.pause_may_be_over]
        if not paused or self._options.pauses is None:
            return
        try:
            found = await self._options.pauses.find([each.company_id for each in paused])
        except SupabaseAuthStateError as error:
            log.warning("it is not known which companies were reinstated (%s)", error)
            return
        for company in paused:
            company.obey(found.get(company.company_id))

    async def _has_room(self, at_most: int | None, next_round: asyncio.Task[None]) -> bool:
        while at_most is not None and self._taken() >= at_most:
            attempts: list[asyncio.Future[Any]] = [
                each.attempt for each in self._companies.values() if each.attempt
            ]
            # An attempt may take long, and a company that is up may go meanwhile.
            if not attempts or next_round.done():
                return False
            await asyncio.wait([*attempts, next_round], return_when=asyncio.FIRST_COMPLETED)
        return True

    def _taken(self) -> int:
        return sum(company.status in ("up", "opening") for company in self._companies.values())

    def _left_to_others(self, company: CompanyConnection[S], every: float) -> bool:
        return company.closed_at is not None and self._timing.now() - company.closed_at < 2 * every


def _refuse_unless_positive(**options: float | None) -> None:
    for name, value in options.items():
        if value is not None and not value > 0:
            raise ConfigurationError(f"{name} must be above 0, and it is {value!r}")


class _Opener:
    """Opens auth states with leases, all on the same connections."""

    def __init__(self, client: Client | Rest | None) -> None:
        self._client = client
        self._rest: Rest | None = None

    def rest(self) -> Rest:
        """Return the connections, opened at the first call."""
        from supabase_auth_state.rest.client import open_rest

        if self._rest is None:
            self._rest = open_rest(client=self._client)
        return self._rest

    def pauses(self) -> SharedPauses:
        """Return what the pools of all machines know."""
        from supabase_auth_state.leases.lease import new_owner

        return SharedPauses(self.rest, new_owner())

    async def open_auth(self, company_id: str) -> AuthState:
        from supabase_auth_state.auth_state.database import use_supabase_auth_state

        return await use_supabase_auth_state(company_id, client=self.rest(), lease=True)

    async def close(self) -> None:
        if self._rest is not None and self._client is None:
            await self._rest.close()
