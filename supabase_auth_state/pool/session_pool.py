"""One session per company, however many callers ask and however many machines run.

A *session* here is one connection to WhatsApp. The user's factory makes it; the pool decides
when, and when not. It knows of no WhatsApp library: a session is any object, and how it ended is
a number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supabase_auth_state.errors import PoolClosed, PoolError
from supabase_auth_state.rest.backoff import Timing

from .slot import CompanyStatus, Pauses, Shared, Slot

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient
    from supabase import AsyncClient
    from typing_extensions import Self

    from supabase_auth_state.auth_state.database import AuthState
    from supabase_auth_state.rest.client import Rest

S = TypeVar("S")
T = TypeVar("T")


class SessionPool(Generic[S]):
    """Keep at most one session per company, here and, by leases, on every machine.

    ::

        async def connect(company_id, auth):
            return await MyClient(auth.creds, auth.keys).connect()

        async with SessionPool(connect) as pool:
            session = await pool.get("962302")

    Not thread-safe: call it from the event loop it was made for.

    Args:
        factory: ``async def factory(company_id, auth)`` gives a session. It may take as long as it
            needs, and is cancelled when the company is closed or its lease is lost meanwhile.
        client: the connections that all companies share, as for ``use_supabase_auth_state``; you
            close it. By default one is opened, and closed by ``close_all``.
        open_auth: ``async def open_auth(company_id)`` gives the ``AuthState``. By default
            ``use_supabase_auth_state(company_id, client=client, lease=True)``.
        close_session: closes a session; may be async. By default the session's own ``aclose``,
            ``close``, ``end`` or ``disconnect``, the first it has. Given up after 30 seconds.
        max_creating: how many companies are being opened at the same time; the others wait.
        idle_after: seconds without a ``get`` after which a session is closed. Default: never.
            Companies given to ``serve`` are kept.
        backoff_base, backoff_cap: bounds of the growing pause after a failure, in seconds.
        yield_base, yield_cap: the same after another connection replaced ours.
        timing: clock, sleep and chance, for tests.
    """

    def __init__(
        self,
        factory: Callable[[str, AuthState], Awaitable[S]],
        *,
        client: AsyncClient | AsyncPostgrestClient | Rest | None = None,
        open_auth: Callable[[str], Awaitable[AuthState]] | None = None,
        close_session: Callable[[S], object] | None = None,
        max_creating: int = 20,
        idle_after: float | None = None,
        backoff_base: float = 1.0,
        backoff_cap: float = 300.0,
        yield_base: float = 300.0,
        yield_cap: float = 21600.0,
        timing: Timing | None = None,
    ) -> None:
        self._timing = timing or Timing()
        self._opener = _Opener(client)
        self._shared = Shared(
            open_auth=open_auth or self._opener.open_auth,
            factory=factory,
            close_session=close_session,
            creating=asyncio.Semaphore(max_creating),
            backoff=Pauses(backoff_base, backoff_cap),
            yielding=Pauses(yield_base, yield_cap),
            timing=self._timing,
            spawn=self._spawn,
        )
        self._slots: dict[str, Slot[S]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle_after = idle_after
        self._evicting: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._served: frozenset[str] = frozenset()
        self._closed = False

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
        session that nobody waits for any more stays in the pool.

        Raises:
            LeaseHeld: another process owns the company. Not tried again before the next call.
            CompanyQuarantined: WhatsApp logged the company out.
            SessionBackoff: another connection replaced ours; ``retry_after`` says for how long
                the company is left to it.
            PoolClosed: the pool is closed.
            PoolError: the company was closed while its session was being made.
            Exception: whatever the factory raised, the same for everybody who waited.
        """
        return await self._slot(company_id).get()

    def report(self, company_id: str, reason: object, *, session: S | None = None) -> None:
        """Say that a session has ended. Returns at once; call it from any handler.

        - 401, logged out: the company is quarantined. Nothing is deleted.
        - 440, replaced by another connection: the company is left alone for a long, growing pause.
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
        """
        if company_id in self._slots:
            self._slots[company_id].report(reason, session)

    def reinstate(self, company_id: str) -> None:
        """Let a quarantined or yielded company be opened again, and forget its failures."""
        if company_id in self._slots:
            self._slots[company_id].reinstate()

    def status(self) -> dict[str, CompanyStatus]:
        """Return what each company is doing that the pool has seen."""
        return {company_id: slot.status for company_id, slot in self._slots.items()}

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
        """
        if self._closed:
            raise PoolClosed("the pool is closed")
        self._served = frozenset(company_ids)
        if self._serving is not None:
            self._serving.cancel()
        self._serving = self._spawn(self._keep_serving(every, at_most))

    async def close(self, company_id: str) -> None:
        """Close the company's session and release its lease; a later ``get`` opens it again."""
        if company_id in self._slots:
            error = PoolError(f"company {company_id!r} was closed while its session was being made")
            await self._slots[company_id].close(error)

    async def close_all(self) -> None:
        """Close every session, release every lease and end every task, for good."""
        self._closed = True
        for loop in (self._serving, self._evicting):
            if loop is not None:
                loop.cancel()
        error = PoolClosed("the pool is closed")
        await asyncio.gather(*(slot.close(error) for slot in self._slots.values()))
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._opener.close()

    def _slot(self, company_id: str) -> Slot[S]:
        if self._closed:
            raise PoolClosed("the pool is closed")
        if self._idle_after is not None and self._evicting is None:
            self._evicting = self._spawn(self._keep_evicting(self._idle_after))
        # A slot stays for good: its lock is what keeps two sessions of a company apart.
        return self._slots.setdefault(company_id, Slot(company_id, self._shared))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep_evicting(self, idle_after: float) -> None:
        while True:
            for company_id in list(self._slots):
                if self._idle(company_id) >= idle_after:
                    await self.close(company_id)
            longest = max(map(self._idle, self._slots))
            await self._timing.sleep(max(0.0, idle_after - longest))

    def _idle(self, company_id: str) -> float:
        used = self._slots[company_id].last_used
        return 0.0 if used is None or company_id in self._served else self._timing.now() - used

    async def _keep_serving(self, every: float, at_most: int | None) -> None:
        while True:
            # In random order, so that pools that start together do not all ask for the same ones.
            for company_id in sorted(self._served, key=lambda _: self._timing.random()):
                if not await self._has_room(at_most):
                    break
                slot = self._slot(company_id)
                if slot.ready and not self._left_to_others(slot, every):
                    slot.open()
            await self._timing.sleep(every * (0.75 + self._timing.random() / 4))

    async def _has_room(self, at_most: int | None) -> bool:
        while at_most is not None and self._taken() >= at_most:
            openings = [slot.opening for slot in self._slots.values() if slot.opening is not None]
            if not openings:
                return False
            await asyncio.wait(openings, return_when=asyncio.FIRST_COMPLETED)
        return True

    def _taken(self) -> int:
        return sum(slot.status in ("up", "opening") for slot in self._slots.values())

    def _left_to_others(self, slot: Slot[S], every: float) -> bool:
        return slot.closed_at is not None and self._timing.now() - slot.closed_at < 2 * every


class _Opener:
    """Opens auth states with leases, all on the same connections."""

    def __init__(self, client: AsyncClient | AsyncPostgrestClient | Rest | None) -> None:
        self._client = client
        self._rest: Rest | None = None

    async def open_auth(self, company_id: str) -> AuthState:
        from supabase_auth_state.auth_state.database import use_supabase_auth_state
        from supabase_auth_state.rest.client import open_rest

        if self._rest is None:
            self._rest = open_rest(client=self._client)
        return await use_supabase_auth_state(company_id, client=self._rest, lease=True)

    async def close(self) -> None:
        if self._rest is not None and self._client is None:
            await self._rest.close()
