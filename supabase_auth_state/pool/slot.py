"""One company's place in a session pool: one session at most, one task that opens or closes it.

::

    down ──get──▶ opening ──▶ up ──515──▶ opening at once, with the same auth state
     ▲               │         ├──401──▶ quarantined, until reinstated
     │            failure      ├──440──▶ yielded, until a long pause is over
     └── a pause ◀───┘         ├──any other end, lease lost──▶ opening after a pause
                               └──close──▶ down

What callers wait for is one future. The task behind it holds the one lock, and it belongs to the
pool, so a caller that is cancelled leaves the others alone.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from supabase_auth_state.errors import (
    CompanyQuarantined,
    LeaseHeld,
    PoolError,
    SessionBackoff,
    SupabaseAuthStateError,
)
from supabase_auth_state.rest.backoff import Timing, delay

if TYPE_CHECKING:
    from supabase_auth_state.auth_state.database import AuthState

log = logging.getLogger("supabase_auth_state")

S = TypeVar("S")
T = TypeVar("T")

CompanyStatus = Literal["up", "opening", "down", "quarantined", "yielded"]

_RESTARTS_AT_ONCE = 3
_CLOSE_WITHIN = 30.0
_CLOSERS = ("aclose", "close", "end", "disconnect")


class Ending(Enum):
    """What the end of a session means for its company."""

    LOGGED_OUT = "logged out"
    REPLACED = "replaced by another connection"
    RESTART = "asked to restart"
    LOST = "lost"


_ENDINGS = {401: Ending.LOGGED_OUT, 440: Ending.REPLACED, 515: Ending.RESTART}


def ending_of(reason: object) -> Ending:
    """Read a reason: a status code, or an error with one in ``status_code`` or ``statusCode``.

    Source: Baileys 7.0.0-rc14, ``src/Types/index.ts``, ``DisconnectReason``.
    """
    if not isinstance(reason, int):
        reason = getattr(reason, "status_code", getattr(reason, "statusCode", None))
    return _ENDINGS.get(reason, Ending.LOST) if isinstance(reason, int) else Ending.LOST


@dataclass(frozen=True)
class Pauses:
    """Bounds of a growing pause, in seconds: the ceiling of the first one, and of every one."""

    base: float
    cap: float


class Spawn(Protocol):
    """Starts a task that the pool waits for before it is closed."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> asyncio.Task[T]:
        """Start it."""
        ...


@dataclass(frozen=True)
class Shared(Generic[S]):
    """What the slots of one pool have in common."""

    open_auth: Callable[[str], Awaitable[AuthState]]
    factory: Callable[[str, AuthState], Awaitable[S]]
    close_session: Callable[[S], object] | None
    creating: asyncio.Semaphore
    backoff: Pauses
    yielding: Pauses
    timing: Timing
    spawn: Spawn


@dataclass
class _Up(Generic[S]):
    session: S
    since: float
    last_used: float


class Slot(Generic[S]):
    """One company's place in a pool.

    Attributes:
        company_id: the company.
        opening: what callers wait for while a session is being made, else None.
        closed_at: when it was closed last, on the pool's clock, or None.
    """

    def __init__(self, company_id: str, shared: Shared[S]) -> None:
        self.company_id = company_id
        self.opening: asyncio.Future[S] | None = None
        self.closed_at: float | None = None
        self._shared = shared
        self._now = shared.timing.now
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._up: _Up[S] | None = None
        self._auth: AuthState | None = None
        self._lost: asyncio.Task[Any] | None = None
        self._making = False
        self._early: tuple[Ending, object] | None = None
        # Closers of what is no longer handed out. Emptied before anything new is opened.
        self._leaving: list[Callable[[], Awaitable[object]]] = []
        # True from the first success until somebody ends it: the pool then brings the session back.
        self._wanted = False
        self._stopped: Literal["quarantined", "yielded"] | None = None
        self._failures = 0
        self._restarts = 0
        self._due = 0.0

    # What callers see

    @property
    def status(self) -> CompanyStatus:
        """Return what the company is doing now."""
        if self._up is not None:
            return "up"
        if self.opening is not None:
            return "opening"
        if self._stopped == "yielded" and self._now() >= self._due:
            return "down"
        return self._stopped or "down"

    @property
    def last_used(self) -> float | None:
        """When the session was asked for last, or None without a session."""
        return None if self._up is None else self._up.last_used

    @property
    def ready(self) -> bool:
        """Whether an attempt could begin at once."""
        return self.status == "down" and self._now() >= self._due

    async def get(self) -> S:
        """Return the session; join the attempt that is under way, or begin one."""
        if self._up is not None:
            self._up.last_used = self._now()
            return self._up.session
        self._refuse()
        return await asyncio.shield(self.open())

    def _refuse(self) -> None:
        if self.status == "quarantined":
            raise CompanyQuarantined(
                f"company {self.company_id!r} was logged out by WhatsApp (401); nothing was "
                f"deleted: link the device again, then call pool.reinstate({self.company_id!r})"
            )
        if self.status == "yielded":
            wait = self._due - self._now()
            raise SessionBackoff(
                f"company {self.company_id!r} was replaced by another connection (440) and is left "
                f"to it for {wait:.0f} s: stop that connection, then call "
                f"pool.reinstate({self.company_id!r})",
                retry_after=wait,
            )

    def open(self) -> asyncio.Future[S]:
        """Return the future of the attempt under way, begun now if there was none."""
        if self.opening is None:
            self.opening = asyncio.get_running_loop().create_future()
            self.opening.add_done_callback(_retrieve)
            self._task = self._shared.spawn(self._run(self.opening))
        return self.opening

    def report(self, reason: object, session: object = None) -> None:
        """Take note of how the session ended."""
        ending = ending_of(reason)
        if self._up is not None:
            if session is None or session is self._up.session:
                self._end(self._up, ending)
        elif self._making and self._early is None:
            self._early = (ending, session)

    def reinstate(self) -> None:
        """Forget failures, quarantine and yielding."""
        self._stopped = None
        self._failures = self._restarts = 0
        self._due = self._now()

    async def close(self, error: PoolError) -> None:
        """Close the session and release the company; who waits for a session gets ``error``."""
        self.closed_at = self._now()
        self._wanted = False
        if self._task is not None:
            self._task.cancel()
        if self.opening is not None:
            self.opening.set_exception(error)
            self.opening = None
        self._retire()
        await asyncio.shield(self._shared.spawn(self._clear()))

    # Opening

    async def _run(self, opening: asyncio.Future[S]) -> None:
        async with self._lock:
            while not opening.done():
                try:
                    session = await self._attempt()
                except asyncio.CancelledError:
                    self._retire()
                    raise
                except Exception as error:  # noqa: BLE001 - a factory may raise anything
                    await self._fail(opening, error)
                else:
                    self._succeed(opening, session)
        if self._wanted and self._up is None:
            self.open()

    async def _attempt(self) -> S:
        self._early = None
        await self._close_leaving()
        if self._due > self._now():
            await self._shared.timing.sleep(self._due - self._now())
        async with self._shared.creating:
            return await self._make(await self._authenticate())

    async def _authenticate(self) -> AuthState:
        if self._auth is not None:
            _check_lease(self._auth)
            return self._auth
        opening = self._shared.spawn(_awaited(self._shared.open_auth(self.company_id)))
        try:
            # A lease that was asked for is ours a moment later: it is waited for, then released.
            await _settled(opening)
        finally:
            if _has_result(opening):
                self._adopt(opening.result())
        return self._outcome(opening)

    def _adopt(self, auth: AuthState) -> None:
        self._auth = auth
        if auth.lease is not None:
            self._lost = self._shared.spawn(auth.lease.lost.wait())
            self._lost.add_done_callback(self._lease_lost)

    async def _make(self, auth: AuthState) -> S:
        making = self._shared.spawn(_awaited(self._shared.factory(self.company_id, auth)))
        self._making = True
        try:
            lost = set() if self._lost is None else {self._lost}
            await asyncio.wait({making, *lost}, return_when=asyncio.FIRST_COMPLETED)
            return self._accept(auth, making)
        except BaseException:
            await self._abandon(making)
            raise
        finally:
            self._making = False

    def _accept(self, auth: AuthState, making: asyncio.Task[S]) -> S:
        _check_lease(auth)
        session = self._outcome(making)
        if self._early is not None and (self._early[1] is None or self._early[1] is session):
            raise PoolError(
                f"company {self.company_id!r}: the session ended while it was being made "
                f"({self._early[0].value})"
            )
        return session

    async def _abandon(self, making: asyncio.Task[S]) -> None:
        making.cancel()
        try:
            await _settled(making)
        finally:
            if _has_result(making):
                self._leaving.append(partial(self._close_session, making.result()))

    def _outcome(self, task: asyncio.Task[T]) -> T:
        if task.cancelled():
            raise PoolError(f"company {self.company_id!r}: the factory was cancelled from within")
        return task.result()

    def _succeed(self, opening: asyncio.Future[S], session: S) -> None:
        now = self._now()
        self._up = _Up(session, since=now, last_used=now)
        self._wanted = True
        self.opening = None
        opening.set_result(session)
        log.info("company %s: session up", self.company_id)

    async def _fail(self, opening: asyncio.Future[S], error: Exception) -> None:
        if isinstance(error, LeaseHeld):
            self._wanted = False
            log.info("company %s: owned by %s", self.company_id, error.owner)
        elif self._judge(self._early[0] if self._early else Ending.LOST, error) is Ending.RESTART:
            return
        self._retire()
        await self._close_leaving()
        self.opening = None
        opening.set_exception(error)

    # Ending

    def _lease_lost(self, lost: asyncio.Task[Any]) -> None:
        if not lost.cancelled() and self._up is not None:
            self._end(self._up, Ending.LOST)

    def _end(self, up: _Up[S], ending: Ending) -> None:
        if self._now() - up.since >= self._shared.backoff.cap:
            self._failures = self._restarts = 0
        self._retire_session()
        if self._judge(ending) is not Ending.RESTART:
            self._retire()
        if self._wanted:
            self.open()
        else:
            self._shared.spawn(self._clear())

    def _judge(self, ending: Ending, error: Exception | None = None) -> Ending:
        """Decide when the next attempt is due, and whether there will be one by itself."""
        if ending is Ending.RESTART and self._restarts < _RESTARTS_AT_ONCE:
            self._restarts += 1
            self._due = self._now()
            log.info("company %s: restarting at once", self.company_id)
            return ending
        bounds = self._shared.yielding if ending is Ending.REPLACED else self._shared.backoff
        pause = delay(
            self._failures, base=bounds.base, cap=bounds.cap, random=self._shared.timing.random
        )
        self._due = self._now() + pause
        self._failures += 1
        self._stopped = _STOPS.get(ending)
        self._wanted = self._wanted and self._stopped is None
        log.warning(
            "company %s: no session (%s), %s",
            self.company_id,
            ending.value if error is None else _told(error),
            self._stopped or f"next attempt not before {pause:.1f} s from now",
        )
        return Ending.LOST

    def _retire(self) -> None:
        """Stop handing out what there is; the next holder of the lock closes it."""
        self._retire_session()
        if self._auth is not None:
            self._leaving.append(self._auth.close)
            self._auth = None
        if self._lost is not None:
            self._lost.cancel()
            self._lost = None

    def _retire_session(self) -> None:
        if self._up is not None:
            self._leaving.append(partial(self._close_session, self._up.session))
            self._up = None

    async def _clear(self) -> None:
        async with self._lock:
            await self._close_leaving()

    async def _close_leaving(self) -> None:
        while self._leaving:
            await _settled(self._shared.spawn(self._close_one(self._leaving.pop(0))))

    async def _close_one(self, close: Callable[[], Awaitable[object]]) -> None:
        try:
            await close()
        except Exception as error:  # noqa: BLE001 - what is left has to be closed too
            log.error("company %s: closing failed (%s)", self.company_id, _told(error))

    async def _close_session(self, session: S) -> None:
        close = self._shared.close_session or _own_closer
        closing = close(session)
        if inspect.isawaitable(closing):
            await asyncio.wait_for(closing, _CLOSE_WITHIN)


_STOPS: dict[Ending, Literal["quarantined", "yielded"]] = {
    Ending.LOGGED_OUT: "quarantined",
    Ending.REPLACED: "yielded",
}


def _own_closer(session: object) -> object:
    for name in _CLOSERS:
        close = getattr(session, name, None)
        if callable(close):
            return close()
    log.warning(
        "a session of type %s has none of %s and stays open: give SessionPool a close_session",
        type(session).__name__,
        ", ".join(_CLOSERS),
    )
    return None


def _check_lease(auth: AuthState) -> None:
    if auth.lease is not None:
        auth.lease.check()


def _told(error: Exception) -> str:
    """Name an error. Only our own messages are known to hold no secret."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, SupabaseAuthStateError) else name


def _retrieve(opening: asyncio.Future[Any]) -> None:
    # Whoever asked may be gone; asyncio would complain about an exception nobody took.
    if not opening.cancelled():
        opening.exception()


def _has_result(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _settled(task: asyncio.Task[Any]) -> None:
    """Wait for the task to end, and pass a cancellation of the waiter on only then."""
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
