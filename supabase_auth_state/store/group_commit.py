"""Group commit: writes that arrive while a commit is under way are joined into the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from supabase_auth_state.errors import InvalidRequest
from supabase_auth_state.rest.activity import ACTIVITY

Ref = tuple[str, str]
"""Type and id of a key: a `KeyRef` as a plain tuple, which is built faster."""


@dataclass(eq=False)
class Outcome:
    """How a write of keys ended, for the creds that may count them.

    Attributes:
        ended: whether it is known.
        error: what the write failed with, or None.
    """

    ended: bool = False
    error: BaseException | None = None

    def end(self, error: BaseException | None = None) -> None:
        """Take note of the first end; what is told later does not count."""
        if not self.ended:
            self.ended, self.error = True, error


@dataclass
class Change:
    """One caller's write: encoded JSON by key, where ``b"null"`` deletes, and perhaps creds.

    Attributes:
        keys: the values, by type and id.
        creds: the encoded creds, or None when they are not written.
        clear: delete every key of the company, instead of writing.
        counts: with creds, the writes of keys that they may count: those before them that had not
            ended when the creds were saved. When one of them fails, the creds fail with it.
        outcome: how this write ended.
    """

    keys: Mapping[Ref, bytes] = field(default_factory=dict)
    creds: bytes | None = None
    clear: bool = False
    counts: Collection[Outcome] = field(default=(), compare=False)
    outcome: Outcome = field(default_factory=Outcome, compare=False)

    @property
    def size(self) -> int:
        """Bytes that the change holds in memory and on its way, roughly."""
        return 64 + sum(len(value) + 64 for value in self.keys.values()) + len(self.creds or b"")


Send = Callable[[Change], Awaitable[None]]
"""Makes a change durable, all or nothing: a clear, or keys, or creds."""

Step = Callable[[Change], "Change | None"]
"""Gives the part of a change that belongs to one request, if it has such a part."""


class GroupCommit:
    """Writes changes one commit at a time, in call order, as many to a commit as have arrived.

    A commit that holds keys and creds is two requests, keys first: creds may be behind the keys
    that they count, never ahead. An await of `commit` returns when the caller's own data is
    durable. An error reaches the callers whose data was in the request, and those whose creds may
    count keys that were in it; when the database refuses a value, the changes that were joined with
    it are sent again one by one, so that it takes no neighbour down. A caller that is cancelled
    while it waits for its commit leaves the write to happen.

    Args:
        send: makes one change durable.
        max_pending: bytes that may wait; callers beyond that wait in line.
        max_commit: bytes that are joined into one commit; a single larger change goes alone.
    """

    def __init__(
        self, send: Send, *, max_pending: int = 32 << 20, max_commit: int = 4 << 20
    ) -> None:
        self._send = send
        self._max_pending = max_pending
        self._max_commit = max_commit
        self._queue: deque[_Waiting] = deque()
        self._door = asyncio.Lock()
        self._space = asyncio.Event()
        self._pending = 0
        self._arriving = 0
        self._working = self._beginning = False
        self._settled = asyncio.Event()

    async def commit(self, change: Change) -> None:
        """Make a change durable.

        Raises:
            StoreError, LeaseLost: what the commit failed with; a StoreUnavailable may have happened
                all the same, and a later commit of the same keys is never overtaken by it.
        """
        await (await self.enqueue(change))

    async def enqueue(self, change: Change) -> asyncio.Future[None]:
        """Give a change its place in the order, and return what is done when it is durable.

        Cancelling what is returned leaves the write to happen.
        """
        size = change.size
        self._arriving += 1
        try:
            await self._room(size)
            waiting = _Waiting(change, size)
            self._queue.append(waiting)
            if not self._working:
                self._begin()
        finally:
            self._arriving -= 1
            self._tell_settled()
        return waiting.durable

    async def settle(self) -> None:
        """Wait until everything that was queued is durable or has failed."""
        while self._working or self._arriving:
            self._settled.clear()
            await self._settled.wait()

    def _tell_settled(self) -> None:
        if not self._working and not self._arriving:
            self._settled.set()

    async def _room(self, size: int) -> None:
        # The lock is a line: whoever stands at its head waits for room, the others behind it in
        # order.
        async with self._door:
            while self._pending and self._pending + size > self._max_pending:
                self._space.clear()
                await self._space.wait()
            self._pending += size

    def _begin(self) -> None:
        self._working = self._beginning = True
        # The task is there at once, so that the end of the loop in this turn is its end as well.
        self._worker = asyncio.get_running_loop().create_task(self._work())
        self._beginning = False
        self._worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        if self._working and worker is self._worker:
            # It was cancelled before its first step.
            self._fail_all([], asyncio.CancelledError())
            self._working = False
            self._tell_settled()

    async def _work(self) -> None:
        group: list[_Waiting] = []
        try:
            if self._beginning:
                # What else arrives in this turn is joined, also where the loop's task factory lets
                # a task take its first step early.
                await asyncio.sleep(0)
            while self._queue:
                group = self._take()
                await self._write(group)
                self._leave(group)
        except BaseException as error:
            self._fail_all(group, error)
            raise
        finally:
            self._working = False
            self._tell_settled()

    def _fail_all(self, group: list[_Waiting], error: BaseException) -> None:
        group += self._queue
        self._queue.clear()
        for waiting in group:
            waiting.fail(error)
        self._leave(group)

    def _leave(self, group: list[_Waiting]) -> None:
        self._pending -= sum(waiting.size for waiting in group)
        self._space.set()

    def _take(self) -> list[_Waiting]:
        group = [self._queue.popleft()]
        size = group[0].size
        while (
            self._queue
            and not group[-1].change.clear
            and not self._queue[0].change.clear
            and size + self._queue[0].size <= self._max_commit
        ):
            size += self._queue[0].size
            group.append(self._queue.popleft())
        return group

    async def _write(self, group: list[_Waiting]) -> None:
        ACTIVITY.commits += 1
        ACTIVITY.commits_joined += len(group)
        try:
            for step, later in _STEPS:
                if step is _creds:
                    _fail_what_counts_failed_keys(group)
                await self._request([w for w in group if not w.failed and step(w.change)], step)
                for waiting in group:
                    if not any(after(waiting.change) for after in later):
                        waiting.succeed()
        except Exception as error:  # noqa: BLE001 - it reaches the callers
            for waiting in group:
                waiting.fail(error)

    async def _request(self, group: list[_Waiting], step: Step) -> None:
        parts = [part for waiting in group if (part := step(waiting.change)) is not None]
        if not parts:
            return
        try:
            await self._send(joined(parts))
        except InvalidRequest as error:
            if len(group) == 1:
                group[0].fail(error)
                return
        else:
            return
        for waiting in group:
            await self._request([waiting], step)


def _fail_what_counts_failed_keys(group: list[_Waiting]) -> None:
    for waiting in group:
        for keys in waiting.change.counts:
            if keys.error is not None:
                waiting.fail(keys.error)


def _clear(change: Change) -> Change | None:
    return change if change.clear else None


def _keys(change: Change) -> Change | None:
    return Change(keys=change.keys) if change.keys else None


def _creds(change: Change) -> Change | None:
    return Change(creds=change.creds) if change.creds is not None else None


_STEPS: tuple[tuple[Step, tuple[Step, ...]], ...] = (
    (_clear, (_keys, _creds)),
    (_keys, (_creds,)),
    (_creds, ()),
)


@dataclass
class _Waiting:
    change: Change
    size: int
    failed: bool = False
    durable: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def succeed(self) -> None:
        self.change.outcome.end()
        if not self.durable.done():
            self.durable.set_result(None)

    def fail(self, error: BaseException) -> None:
        self.failed = True
        self.change.outcome.end(error)
        if self.durable.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self.durable.cancel()
            return
        self.durable.set_exception(error)
        # When the caller was cancelled nobody asks for the error, and that is no mistake.
        self.durable.exception()


def joined(changes: list[Change]) -> Change:
    """Join changes in call order: the last value of a key wins, and the last creds."""
    if len(changes) == 1:
        return changes[0]
    keys: dict[Ref, bytes] = {}
    creds: bytes | None = None
    for change in changes:
        keys.update(change.keys)
        creds = change.creds if change.creds is not None else creds
    return Change(keys, creds)
