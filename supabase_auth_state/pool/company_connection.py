"""One company's connection to WhatsApp: none or one at a time, opened and closed under one lock.

::

    down ──get──▶ opening ──▶ up ──515──▶ opening at once, with the same auth state
     ▲               │         ├──401, 403, 406, restored database──▶ quarantined, until reinstated
     │            failure      ├──402, 405, 409, 411, 440──▶ yielded, until a long pause is over
     └── a pause ◀───┘         ├──any other end, lease lost──▶ opening after a pause
                               └──close──▶ down

`ends` says what each code means, `retries` when the next attempt is due. Callers wait for one
future, the attempt. The task that works for it belongs to the pool, so a caller that is cancelled
takes nothing away from the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supabase_auth_state.errors import (
    CompanyQuarantined,
    LeaseHeld,
    PoolError,
    SessionBackoff,
    SupabaseAuthStateError,
)
from supabase_auth_state.rest.backoff import Timing

from .ends import (
    LOGGED_OUT,
    ROLLED_BACK,
    CompanyState,
    CompanyStatus,
    ConnectionEnd,
    End,
    Reaction,
    describe,
    end_of,
    end_of_error,
)
from .pauses import Pause, SharedPauses
from .retries import Pauses, Retries
from .tasks import ClosingQueue, PoolTasks, UserCode, finished

if TYPE_CHECKING:
    from supabase_auth_state.auth_state.database import AuthState

log = logging.getLogger("supabase_auth_state")

S = TypeVar("S")

_TURN_LASTS = 10.0
_END_WITHIN = 30.0
_RELEASE_WITHIN = 120.0
_NOTE_WITHIN = 60.0
_CLOSING_METHODS = ("aclose", "close", "end", "disconnect")

_CONSEQUENCES = {
    Reaction.RESTART: "connecting again at once",
    Reaction.RETRY: "next attempt not before {:.1f} s from now",
    Reaction.YIELD: "left alone for {:.1f} s",
    Reaction.QUARANTINE: "quarantined until it is reinstated",
}
_LEASE_LOST = End(None, "the lease was lost", Reaction.RETRY)


@dataclass(frozen=True)
class PoolOptions(Generic[S]):
    """What the connections of one pool have in common.

    Attributes:
        open_auth, factory, close_session, on_end: the functions of the pool's user.
        turns: limits how many companies begin at the same time.
        create_within: seconds after which an attempt has failed.
        retrying, yielding: bounds of the pauses.
        timing: clock, sleep and chance.
        tasks: the pool's tasks.
        pauses: what the pools of all machines know, or None when this pool is for itself.
    """

    open_auth: Callable[[str], Awaitable[AuthState]]
    factory: Callable[[str, AuthState], Awaitable[S]]
    close_session: Callable[[S], object] | None
    on_end: Callable[[str, ConnectionEnd], object] | None
    turns: asyncio.Semaphore
    create_within: float
    retrying: Pauses
    yielding: Pauses
    timing: Timing
    tasks: PoolTasks
    pauses: SharedPauses | None = None


@dataclass
class _Current(Generic[S]):
    """The session that callers get."""

    session: S
    since: float
    last_used: float


class CompanyConnection(Generic[S]):
    """A company in a pool: opens its connection, hands it out, closes it.

    Attributes:
        company_id: the company.
        attempt: what callers wait for while a connection is being made, else None.
        closed_at: when it was closed last, on the pool's clock, or None.
    """

    def __init__(self, company_id: str, options: PoolOptions[S]) -> None:
        self.company_id = company_id
        self.attempt: asyncio.Future[S] | None = None
        self.closed_at: float | None = None
        self._options = options
        self._tasks = options.tasks
        self._now = options.timing.now
        self._code = UserCode(company_id, options.tasks, options.timing.sleep)
        # Held by the one task that opens or closes something.
        self._lock = asyncio.Lock()
        self._opening: asyncio.Task[None] | None = None
        self._current: _Current[S] | None = None
        self._auth: AuthState | None = None
        self._lease_watch: asyncio.Task[Any] | None = None
        # What is no longer handed out. It is closed before anything new is opened.
        self._to_close = ClosingQueue(self._code, options.tasks)
        # Reports that came while the factory ran: the end, and the session it is about.
        self._factory_runs = False
        self._early_reports: list[tuple[End, object]] = []
        self._ended_session: object = None
        # From the first success until the user, a code or another owner ends it, the pool connects
        # again by itself.
        self._keep_up = False
        self._retries = Retries(options.retrying, options.yielding, options.timing)
        self._last_end: ConnectionEnd | None = None
        # Whether the database has the pause, so that one that is not there any more is over.
        self._pause_is_noted = False
        # Done when the last pause that was found out here is noted, or could not be.
        self._noting: asyncio.Future[None] = finished()
        self._reinstating: asyncio.Task[Any] | None = None
        self._closed_by: PoolError | None = None

    # What callers see

    @property
    def status(self) -> CompanyStatus:
        """What the company is doing now."""
        if self._current is not None:
            return "up"
        if self.attempt is not None:
            return "opening"
        return self._retries.stopped or "down"

    @property
    def state(self) -> CompanyState:
        """What the company is doing now, and how its last connection ended."""
        return CompanyState(self.status, self._retries.retry_after, self._last_end)

    @property
    def last_used(self) -> float | None:
        """When the session was asked for last, or None without a session."""
        return None if self._current is None else self._current.last_used

    @property
    def pause_may_be_over(self) -> bool:
        """Whether the company is left alone as the database says, which may say otherwise now."""
        return self._retries.stopped is not None and self._pause_is_noted

    def obey(self, pause: Pause | None) -> None:
        """Leave the company alone as the database says, or no longer."""
        if pause is not None:
            self._retries.hold(pause.end, pause.seconds, step=pause.step, at=pause.at)
            self._pause_is_noted = self._retries.stopped is not None
        elif self.pause_may_be_over:
            self._retries.reset()
            self._pause_is_noted = False

    @property
    def ready(self) -> bool:
        """Whether an attempt could begin at once."""
        return self.status == "down" and self._retries.wait == 0

    async def get(self) -> S:
        """Return the session; join the attempt that is under way, or begin one."""
        if self._current is not None:
            self._current.last_used = self._now()
            return self._current.session
        if self.attempt is None and self.pause_may_be_over:
            await self._look_unless_closed()
        if self._current is not None:
            return self._current.session
        if self.attempt is None:
            self._retries.refuse_if_stopped(self.company_id)
        attempt = self.open()
        await asyncio.wait({attempt})
        return attempt.result()

    def open(self) -> asyncio.Future[S]:
        """Return the attempt under way, begun now if there was none."""
        if self.attempt is None:
            self.attempt = asyncio.get_running_loop().create_future()
            self.attempt.add_done_callback(_retrieve)
            self._opening = self._tasks.spawn(self._open, self.attempt)
            self._opening.add_done_callback(partial(self._answer, self.attempt))
        return self.attempt

    def report(self, reason: object, session: object = None) -> None:
        """Take note of how the session ended."""
        if self._current is not None:
            if session is None or session is self._current.session:
                self._end(end_of(reason))
        elif self._factory_runs and (session is None or session is not self._ended_session):
            self._early_reports.append((end_of(reason), session))

    def reinstate(self) -> asyncio.Future[Any]:
        """Forget failures, quarantine and yielding, here at once and then in the database."""
        self._retries.reset()
        self._pause_is_noted = False
        if self._options.pauses is None:
            return finished()
        if not self._noting.done():
            self._tasks.spawn(self._clear)
        self._reinstating = self._tasks.spawn(self._reinstate, self._options.pauses, self._noting)
        self._reinstating.add_done_callback(self._log_reinstated)
        return self._reinstating

    async def _reinstate(self, pauses: SharedPauses, noting: asyncio.Future[None]) -> Pause | None:
        # What was found out before is noted after the session is closed, which may take long.
        await asyncio.wait({noting})
        return await pauses.reinstate(self.company_id)

    def _log_reinstated(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning(
                "company %s: not reinstated in the database (%s)", self.company_id, describe(error)
            )

    def close(self, error: PoolError) -> asyncio.Task[None]:
        """Hand out nothing from now on, and answer those who wait for a session with ``error``.

        Returns:
            The task that closes the session and gives the company back.
        """
        self.closed_at = self._now()
        self._closed_by = error
        self._keep_up = False
        if self._opening is not None:
            self._opening.cancel()
        if self.attempt is not None:
            self._fail(self.attempt, error)
        self._let_go_session()
        return self._tasks.spawn(self._close_down)

    # Opening

    async def _open(self, attempt: asyncio.Future[S]) -> None:
        async with self._lock:
            while not attempt.done():
                try:
                    session = await self._connect()
                except Exception as error:  # noqa: BLE001 - a factory may raise anything
                    await self._failed(attempt, error)
                else:
                    self._succeeded(attempt, session)
        if self._keep_up and self._current is None:
            self.open()

    def _answer(self, attempt: asyncio.Future[S], opening: asyncio.Task[None]) -> None:
        """Fail an attempt whose task has ended without an answer, as when all tasks are cancelled.

        `close` cancels the task too, but answers first.
        """
        if not attempt.done():
            self._let_go()
            how = "was cancelled" if opening.cancelled() else "failed"
            message = f"company {self.company_id!r}: the pool's own task {how}"
            self._fail(attempt, PoolError(message))

    async def _connect(self) -> S:
        self._early_reports = []
        await self._to_close.close_all()
        if self._retries.wait:
            await self._options.timing.sleep(self._retries.wait)
        # Before it is in the database, an auth state that was logged out does not open.
        await self._has_reinstated()
        async with self._turn() as time_over:
            auth = await self._own_auth(time_over)
            return await self._call_factory(auth, time_over)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[asyncio.Task[None]]:
        """Take a turn among the companies that begin, and give a task that ends when time is over.

        A company whose factory takes long, or hangs, holds its turn for ten seconds at most.
        """
        await self._options.turns.acquire()
        held = [self._options.turns]

        def give_up_turn() -> None:
            if held:
                held.pop().release()

        time_over = self._tasks.spawn(self._measure, give_up_turn)
        try:
            yield time_over
        finally:
            time_over.cancel()
            give_up_turn()

    async def _measure(self, give_up_turn: Callable[[], None]) -> None:
        sleep, within = self._options.timing.sleep, self._options.create_within
        turn = min(_TURN_LASTS, within)
        await sleep(turn)
        give_up_turn()
        await sleep(within - turn)

    async def _own_auth(self, time_over: asyncio.Task[None]) -> AuthState:
        """Return the auth state, opened now unless a restart has kept it."""
        if self._auth is not None:
            _check_lease(self._auth)
            return self._auth
        what, within = "open_auth", self._options.create_within
        opening = self._code.start(self._options.open_auth, self.company_id)
        try:
            await asyncio.wait({opening, time_over}, return_when=asyncio.FIRST_COMPLETED)
            self._auth = self._code.result_of(opening, what, within=within)
        except CompanyQuarantined:
            # It was logged out, and the database knows by which machine, if that is asked.
            await self._look_at_pause()
            if self._options.pauses is None:
                self._retries.hold(end_of(LOGGED_OUT), None, step=0, at=0.0)
            self._retries.refuse_if_stopped(self.company_id)
            raise
        except BaseException:
            # Not cancelled at once: a lease that was asked for is acquired, then released.
            self._to_close.add_result_of(opening, what, _END_WITHIN, self._close_auth)
            raise
        if self._auth.lease is not None:
            self._lease_watch = self._tasks.spawn(self._auth.lease.lost.wait)
            self._lease_watch.add_done_callback(self._lease_lost)
        # After the lease was acquired: the owner before has noted what it knows before it released.
        await self._look_at_pause()
        self._retries.refuse_if_stopped(self.company_id)
        return self._auth

    async def _look_unless_closed(self) -> None:
        """Look at the pause for a caller, who opens nothing if the company is closed meanwhile."""
        closed_by = self._closed_by
        looking = self._tasks.spawn(self._look_at_pause)
        await asyncio.wait({looking})
        if self._closed_by is not None and self._closed_by is not closed_by:
            raise self._closed_by
        looking.result()

    async def _has_reinstated(self) -> None:
        """Wait until the database has, or has refused, every reinstatement."""
        while (reinstating := self._reinstating) is not None:
            await asyncio.wait({reinstating})
            if self._reinstating is reinstating:
                self._reinstating = None

    async def _look_at_pause(self) -> None:
        if self._options.pauses is None:
            return
        await self._has_reinstated()
        found = await self._options.pauses.find([self.company_id])
        self.obey(found.get(self.company_id))

    async def _note_pause(self, pauses: SharedPauses, pause: Pause, auth: AuthState | None) -> None:
        await self._code.call("noting the pause", _NOTE_WITHIN, self._note, pauses, pause, auth)

    async def _note(self, pauses: SharedPauses, pause: Pause, auth: AuthState | None) -> None:
        if auth is None or not await self._log_out(pauses, pause.end, auth):
            await pauses.note(self.company_id, pause)
        self._pause_is_noted = self._retries.stopped is not None

    async def _log_out(self, pauses: SharedPauses, end: End, auth: AuthState) -> bool:
        """Move what the company has into quarantine; return False if that could not be done."""
        try:
            await pauses.log_out(auth, end)
        except SupabaseAuthStateError as error:
            log.warning(
                "company %s: not moved into quarantine (%s)", self.company_id, describe(error)
            )
            return False
        return True

    async def _call_factory(self, auth: AuthState, time_over: asyncio.Task[None]) -> S:
        what, within = "the factory", self._options.create_within
        self._factory_runs = True
        making = self._code.start(self._options.factory, self.company_id, auth)
        watch = set() if self._lease_watch is None else {self._lease_watch}
        try:
            await asyncio.wait({making, time_over, *watch}, return_when=asyncio.FIRST_COMPLETED)
            _check_lease(auth)
            session = self._code.result_of(making, what, within=within)
            self._refuse_if_ended(session)
        except BaseException:
            making.cancel()
            self._to_close.add_result_of(making, what, _END_WITHIN, self._close_session)
            raise
        finally:
            self._factory_runs = False
        return session

    def _refuse_if_ended(self, session: S) -> None:
        self._early_reports = [
            (end, about) for end, about in self._early_reports if about is None or about is session
        ]
        if self._early_reports:
            raise PoolError(
                f"company {self.company_id!r}: the session ended while it was being made "
                f"({self._early_reports[0][0]})"
            )

    def _succeeded(self, attempt: asyncio.Future[S], session: S) -> None:
        now = self._now()
        self._current = _Current(session, since=now, last_used=now)
        self._keep_up = True
        self._ended_session = self.attempt = None
        attempt.set_result(session)
        log.info("company %s: session up", self.company_id)

    async def _failed(self, attempt: asyncio.Future[S], error: Exception) -> None:
        if isinstance(error, LeaseHeld):
            self._keep_up = False
            log.info("company %s: owned by %s", self.company_id, error.owner)
        elif isinstance(error, (CompanyQuarantined, SessionBackoff)) and self._retries.stopped:
            self._keep_up = False
            log.warning("company %s: left alone, as the database says", self.company_id)
        else:
            end = self._early_reports[0][0] if self._early_reports else end_of_error(error)
            if self._react(end) is Reaction.RESTART:
                return
        self._let_go()
        await self._to_close.close_all()
        self._fail(attempt, error)

    def _fail(self, attempt: asyncio.Future[S], error: Exception) -> None:
        if self.attempt is attempt:
            self._ended_session = self.attempt = None
        if not attempt.done():
            attempt.set_exception(error)

    # The end of a connection

    def _lease_lost(self, watch: asyncio.Task[Any]) -> None:
        if watch is self._lease_watch and not watch.cancelled():
            rolled_back = self._auth is not None and _is_rolled_back(self._auth)
            self._end(ROLLED_BACK if rolled_back else _LEASE_LOST)

    def _end(self, end: End) -> None:
        """Let the connection go, if there is one, and begin what follows its end."""
        if self._current is None:
            return
        self._retries.lasted(self._now() - self._current.since)
        self._ended_session = self._current.session
        self._let_go_session()
        if self._react(end) is not Reaction.RESTART:
            self._let_go()
        if self._keep_up:
            self.open()
        else:
            self._ended_session = None
            self._tasks.spawn(self._clear)

    def _react(self, end: End) -> Reaction:
        """Count an end, tell of it, and return what follows."""
        reaction = self._retries.count(end)
        stopped = self._retries.stopped
        self._keep_up = self._keep_up and stopped is None
        self._pause_is_noted = False
        if stopped is not None and self._options.pauses is not None:
            # Before the lease is given back: who acquires it then knows.
            pause = Pause(end, self._retries.retry_after, self._retries.step)
            logged_out = self._auth if end.code == LOGGED_OUT else None
            self._noting = self._to_close.add(
                partial(self._note_pause, self._options.pauses, auth=logged_out), pause
            )
        opening = self._keep_up or reaction is Reaction.RESTART
        self._last_end = ConnectionEnd(
            end.code,
            end.reason,
            stopped or ("opening" if opening else "down"),
            self._retries.retry_after,
            datetime.now(timezone.utc),
        )
        log.log(
            logging.INFO if reaction is Reaction.RESTART else logging.WARNING,
            "company %s: no session (%s), %s",
            self.company_id,
            end,
            _CONSEQUENCES[reaction].format(self._retries.wait),
        )
        if self._options.on_end is not None:
            self._tasks.spawn(
                self._code.call,
                "on_end",
                _END_WITHIN,
                self._options.on_end,
                self.company_id,
                self._last_end,
            )
        return reaction

    # Closing

    def _let_go(self) -> None:
        """Hand out nothing any more; the next holder of the lock closes it."""
        self._let_go_session()
        if self._auth is not None:
            self._to_close.add(self._close_auth, self._auth)
            self._auth = None
        if self._lease_watch is not None:
            self._lease_watch.cancel()
            self._lease_watch = None

    def _let_go_session(self) -> None:
        if self._current is not None:
            self._to_close.add(self._close_session, self._current.session)
            self._current = None

    async def _close_down(self) -> None:
        async with self._lock:
            # An attempt that was cancelled has queued by now what its factory makes: it is closed
            # before the company is given back.
            self._let_go()
            await self._to_close.close_all()

    async def _clear(self) -> None:
        async with self._lock:
            await self._to_close.close_all()

    async def _close_session(self, session: S) -> None:
        close = self._options.close_session or _close_by_own_method
        await self._code.call("closing the session", _END_WITHIN, close, session)

    async def _close_auth(self, auth: AuthState) -> None:
        await self._code.call("closing the auth state", _RELEASE_WITHIN, auth.close)


def _close_by_own_method(session: object) -> object:
    for name in _CLOSING_METHODS:
        close = getattr(session, name, None)
        if callable(close):
            return close()
    log.warning(
        "a session of type %s has none of %s and stays open: give SessionPool a close_session",
        type(session).__name__,
        ", ".join(_CLOSING_METHODS),
    )
    return None


def _is_rolled_back(auth: AuthState) -> bool:
    return auth.lease is not None and auth.lease.rolled_back


def _check_lease(auth: AuthState) -> None:
    if auth.lease is not None:
        auth.lease.check()


def _retrieve(attempt: asyncio.Future[Any]) -> None:
    # Every caller may be gone; asyncio logs an error that no one has asked for.
    if not attempt.cancelled():
        attempt.exception()
