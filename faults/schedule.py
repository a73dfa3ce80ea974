"""Schedules: what clients of one company do, and what is done to their requests meanwhile."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from devstack import Stack
from supabase_auth_state import Settings, open_rest

from . import actions
from .proxy import Answer, Exchange, Fault, Landing, Matches, Proxy
from .recorder import KEYS, Client, History, PythonClient, Recorded
from .requests import calls, is_any, is_fence, is_lease, is_read, is_write
from .tables import execute, sealing_of, stored

CLIENTS = 3
"""How many clients a schedule has; the first opens the company before the first step."""

PATIENCE = 0.5
"""Seconds after which a client gives a request up, unless a schedule is played with another."""

# How long a step waits for what it started before the next one is made.
_A_MOMENT = 0.02

ABOUT: dict[str, Matches] = {
    "any request": is_any,
    "a write": is_write,
    "a read": is_read,
    "a lease request": is_lease,
    "an acquire": calls("acquire"),
    "a release": calls("release"),
    "a fence": is_fence,
}
"""What a fault can be about."""


@dataclass(frozen=True)
class Do:
    """A client calls something and may go on before it has ended."""

    client: int
    what: str
    keys: tuple[str, ...] = KEYS[:1]


@dataclass(frozen=True)
class Disturb:
    """The next requests of a client meet a fault; all of them until `Calm` when times is None."""

    client: int
    about: str
    fault: str
    times: int | None = 1


@dataclass(frozen=True)
class Calm:
    """No later request of a client meets a fault; what is delayed goes on."""

    client: int


@dataclass(frozen=True)
class Release:
    """The first of a client's requests that are delayed goes on."""

    client: int


@dataclass(frozen=True)
class Land:
    """What is held of a client's requests reaches the server now."""

    client: int


@dataclass(frozen=True)
class Finish:
    """Everything that a client has called ends."""

    client: int


@dataclass(frozen=True)
class Enter:
    """A client opens the company, unless it has it open."""

    client: int
    lease: bool


@dataclass(frozen=True)
class Leave:
    """A client closes the company."""

    client: int


@dataclass(frozen=True)
class Crash:
    """A client's process is gone, with what it was doing; its lease runs out."""

    client: int


@dataclass(frozen=True)
class Cancel:
    """The caller of a client's last call gives up waiting."""

    client: int


Step: TypeAlias = "Do | Disturb | Calm | Release | Land | Finish | Enter | Leave | Crash | Cancel"

_PAGE = b"<html>please wait</html>"


def _page(status: int, *, forward: bool) -> Fault:
    return actions.answered(status, _PAGE, content_type="text/html", forward=forward)


def _json(status: int, body: bytes, *, forward: bool) -> Fault:
    return actions.answered(status, body, forward=forward)


def _refused_and_held(landing: Landing) -> Fault:
    async def refused_and_held(exchange: Exchange) -> Answer | None:
        exchange.forward_later(landing)
        return Answer(403, {"content-type": "text/html"}, _PAGE)

    return refused_and_held


@dataclass
class _Seat:
    """A client's process and its line to the server."""

    proxy: Proxy
    recorded: Recorded
    landing: Landing = field(default_factory=Landing)
    delays: list[asyncio.Event] = field(default_factory=list)
    tasks: list[asyncio.Task[object]] = field(default_factory=list)
    disturbed: int = 0
    gone: bool = False

    def delay(self) -> asyncio.Event:
        """Return what is set by `Release` or `Calm`."""
        self.delays.append(asyncio.Event())
        return self.delays[-1]

    def start(self, call: Coroutine[Any, Any, object]) -> None:
        """Begin a call."""
        self.tasks = [task for task in self.tasks if not task.done()]
        self.tasks.append(asyncio.get_running_loop().create_task(call))

    def release(self) -> None:
        """Let the first delay end."""
        if self.delays:
            self.delays.pop(0).set()

    def calm(self) -> None:
        """End every fault and every delay; a process that is gone sends nothing all the same."""
        self.proxy.clear()
        if self.gone:
            self.proxy.on(is_any, actions.dropped)
        while self.delays:
            self.release()

    async def land(self) -> None:
        """Let what is held reach the server."""
        landing, self.landing = self.landing, Landing()
        await landing.land()

    async def finish(self) -> None:
        """Wait until every call has ended, also those whose callers gave up."""
        if self.tasks:
            await asyncio.wait(self.tasks)
        if self.recorded.auth is not None:
            await self.recorded.auth.keys.settle()

    def fault(self, name: str) -> Fault:
        """Return a fault by its name in `FAULTS`; it counts the requests that it meets."""
        fault = FAULTS[name](self)

        async def counted(exchange: Exchange) -> Answer | None:
            self.disturbed += 1
            return await fault(exchange)

        return counted


FAULTS: dict[str, Callable[[_Seat], Fault]] = {
    "dropped": lambda _: actions.dropped,
    "answer lost": lambda _: actions.answer_lost,
    "held": lambda seat: actions.held(seat.landing),
    "doubled": lambda seat: actions.doubled(seat.landing),
    "doubled at once": lambda _: actions.doubled(),
    "delayed": lambda seat: actions.delayed(seat.delay()),
    "answer delayed": lambda seat: actions.answer_delayed(seat.delay()),
    "truncated": lambda _: actions.truncated(),
    "answers swapped": lambda _: actions.Swapped(),
    "answers repeated": lambda _: actions.Replayed(),
    "redirected": lambda seat: actions.redirected(seat.proxy.url),
    "page, not sent": lambda _: _page(200, forward=False),
    "page, sent": lambda _: _page(200, forward=True),
    "page 404, sent": lambda _: _page(404, forward=True),
    "page 403, held": lambda seat: _refused_and_held(seat.landing),
    "page 502, sent": lambda _: _page(502, forward=True),
    "null, not sent": lambda _: _json(200, b"null", forward=False),
    "empty list, not sent": lambda _: _json(200, b"[]", forward=False),
    "empty object, not sent": lambda _: _json(200, b"{}", forward=False),
    "empty 201, not sent": lambda _: _json(201, b"", forward=False),
    "empty 204, not sent": lambda _: _json(204, b"", forward=False),
    "busy": lambda _: _json(503, b'{"message": "busy"}', forward=False),
    "too many": lambda _: _json(429, b'{"message": "slow down"}', forward=False),
}
"""What can be done to a request."""


MakeClient: TypeAlias = "Callable[[Settings], AbstractAsyncContextManager[Client]]"
"""Makes a client that is closed at the end of a schedule."""


@asynccontextmanager
async def python_client(settings: Settings) -> AsyncIterator[Client]:
    """Give a client of this process."""
    rest = open_rest(settings)
    yield PythonClient(rest)
    await rest.close()


class _Play:
    """One company, its clients, and everything that is recorded of them."""

    def __init__(
        self,
        stack: Stack,
        opened: AsyncExitStack,
        patience: float,
        make: MakeClient,
        encryption: str | None,
    ) -> None:
        self._stack = stack
        self._encryption = encryption
        self._patience = patience
        self._make = make
        self._opened = opened
        self._history = History(f"schedule-{uuid.uuid4().hex}")
        self._seats: dict[int, _Seat] = {}
        self._entered: list[Recorded] = []

    async def step(self, step: Step) -> None:
        """Make one step."""
        seat = self._seats.get(step.client) or await self._sit(step.client)
        await self._made(seat, step)
        if seat.tasks and not isinstance(step, Disturb):
            await asyncio.wait(seat.tasks, timeout=_A_MOMENT)

    async def _made(self, seat: _Seat, step: Step) -> None:
        match step:
            case Do() | Enter() | Leave():
                self._begin(seat, step)
            case Disturb():
                seat.proxy.on(ABOUT[step.about], seat.fault(step.fault), times=step.times)
            case Calm():
                seat.calm()
            case Release():
                seat.release()
            case Land():
                await seat.land()
            case Finish():
                await seat.finish()
            case Crash():
                await self._crash(step.client, seat)
            case Cancel() if seat.tasks:
                seat.tasks[-1].cancel()

    async def end(self) -> str | None:
        """Let everything end, compare what clients read with the tables; say what is wrong."""
        for seat in self._seats.values():
            seat.calm()
        for seat in self._seats.values():
            await seat.finish()
        await self._read_all()
        for seat in self._seats.values():
            await seat.land()
        self._history.end_what_is_left()
        await self._observe()
        await self._read_all()
        for seat in self._seats.values():
            await seat.recorded.close()
        await self._observe()
        self._history.settle_limits(self._entered)
        return self._history.wrong()

    async def _sit(self, client: int) -> _Seat:
        proxy = await self._opened.enter_async_context(Proxy(self._stack.url))
        key, patience = self._stack.service_role_key, self._patience
        settings = Settings(
            proxy.url, key, timeout=patience, give_up_after=patience / 2,
            encryption=self._encryption,
        )  # fmt: skip
        client_of_it = await self._opened.enter_async_context(self._make(settings))
        name = f"client {client}.{len(self._entered)}"
        recorded = Recorded(self._history, name, client_of_it, lambda: seat.disturbed)
        seat = self._seats[client] = _Seat(proxy, recorded)
        self._entered.append(recorded)
        return seat

    def _begin(self, seat: _Seat, step: Do | Enter | Leave) -> None:
        recorded = seat.recorded
        if isinstance(step, Leave):
            seat.start(recorded.close())
        elif isinstance(step, Enter):
            if recorded.auth is None and all(task.done() for task in seat.tasks):
                seat.start(recorded.open(lease=step.lease))
        elif recorded.auth is not None:
            for call in self._calls(recorded, step.what, step.keys):
                seat.start(call)

    def _calls(
        self, recorded: Recorded, what: str, keys: Sequence[str]
    ) -> list[Coroutine[Any, Any, object]]:
        calls: dict[str, Callable[[], list[Coroutine[Any, Any, object]]]] = {
            "set": lambda: [recorded.set(keys)],
            "delete": lambda: [recorded.set(keys, delete=True)],
            "clear": lambda: [recorded.clear()],
            "get": lambda: [recorded.get(keys)],
            "save creds": lambda: [recorded.save_creds()],
            "set and save creds": lambda: [recorded.set(keys), recorded.save_creds()],
            "set twice": lambda: [recorded.set(keys), recorded.set(keys)],
        }
        return calls[what]()

    async def _crash(self, client: int, seat: _Seat) -> None:
        seat.gone = True
        seat.calm()
        seat.recorded.crash()
        for task in seat.tasks:
            task.cancel()
        if seat.tasks:
            await asyncio.wait(seat.tasks)
        # Its place is free for another process; what is held of its requests stays held.
        del self._seats[client]
        self._seats[CLIENTS + len(self._seats)] = seat
        await execute(
            self._stack,
            "update whatsapp_leases set expires_at = clock_timestamp() - interval '1 second' "
            "where company_id = %s and owner is not null and token = %s",
            [self._history.company_id, seat.recorded.token],
        )

    async def _read_all(self) -> None:
        for seat in self._seats.values():
            if seat.recorded.auth is not None:
                await seat.recorded.get(KEYS)

    async def _observe(self) -> None:
        for seat in self._seats.values():
            await seat.proxy.quiet()
        company_id = self._history.company_id
        sealing = sealing_of(company_id, self._encryption)
        self._history.observe(await stored(self._stack, company_id, sealing))


async def play(
    stack: Stack,
    steps: Sequence[Step],
    *,
    lease: bool,
    patience: float = PATIENCE,
    make: MakeClient = python_client,
    encryption: str | None = None,
) -> str | None:
    """Play a schedule in a company of its own; say what is wrong with what came of it, or None.

    Args:
        stack: where.
        steps: what is done, in order.
        lease: whether the first client opens the company with a lease.
        patience: seconds after which a client gives a request up.
        make: makes the clients.
        encryption: the keys that seal values, or None.
    """
    async with AsyncExitStack() as opened:
        one = _Play(stack, opened, patience, make, encryption)
        await one.step(Enter(0, lease))
        await one.step(Finish(0))
        for step in steps:
            await one.step(step)
        return await one.end()
