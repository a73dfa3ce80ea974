"""Send one request of the Supabase client, and send it again while that can help."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import orjson

from supabase_auth_state.errors import (
    AccessDenied,
    ConfigurationError,
    ProjectRestricted,
    SchemaMissing,
    StoreError,
    StoreUnavailable,
)

from . import backoff
from .activity import ACTIVITY, event_names, headers_size
from .answers import Answer, NoReceipt, NotTheAnswer, result_of
from .clocks import DatabaseClock
from .failures import translated
from .ledger import Ledger
from .responses import refusal
from .tracing import traced

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient

    from .connection import Connection

log = logging.getLogger("supabase_auth_state")

SENT, ANSWERED, RETRIED = ({"request": event} for event in ("sent", "answered", "retried"))
"""Attributes of log records, by which a handler knows what a request waits for."""

COMMIT_HEADER = "x-whatsapp-commit"
"""The request header that gives a request its place among those of its writer."""

DEADLINE_HEADER = "x-whatsapp-deadline"
"""The request header after whose time, in seconds since 1970, the database refuses the request."""

KNOWS_HEADERS = {"x-whatsapp-knows": "sealed"}
"""Says that this client knows sealed values; the database gives them to no other one."""

_PAUSE, _LONGEST_PAUSE = 0.1, 4.0
_LONGEST_RETRY_AFTER = 60.0
# aiohttp warns that larger bodies hold up the event loop, so they are sent in parts.
_PART = 1 << 19

_PASSING = (StoreUnavailable, ProjectRestricted, SchemaMissing, AccessDenied)
_CODE = re.compile(r"[0-9A-Z]{5}|PGRST[0-9A-Z]{3}")

T = TypeVar("T")


class Builder(Protocol):
    """What the builders of the Supabase client have in common (postgrest 2.33 to 2.34).

    Attributes:
        request: method, path, params, headers, json, auth and session of the request.
    """

    request: Any


@dataclass(frozen=True)
class Commit:
    """The place of a request among those of its writer.

    Attributes:
        company_id: the company that is written.
        writer: the writer, a uuid.
        number: the request's number; a retry keeps it.
        headers: what else the database asks of a write: the lease, or the epoch.
    """

    company_id: str
    writer: str
    number: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.writer}:{self.number}"


@dataclass(frozen=True)
class Request(Generic[T]):
    """One request, which may be sent several times.

    Attributes:
        what: what is attempted, for messages; no values.
        build: makes the request with the client's builders.
        read: makes the result of an answer; raises `NotTheAnswer` or `NoReceipt`.
        content: the body as JSON text, where the builder's own encoding is too slow: it takes a
            third of the processor time of an upsert of 100 rows.
        headers: further headers.
        commit: the place among the writer's requests, for a write.
        timed: whether it is a write without a place, which the database refuses when it is late.
        harmless_late: whether nobody is harmed when a copy of the write lands late.
    """

    what: str
    build: Callable[[AsyncPostgrestClient], Builder]
    read: Callable[[Answer], T]
    content: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    commit: Commit | None = None
    timed: bool = False
    harmless_late: bool = False


class Sender:
    """The one place that sends.

    Args:
        connection: where to.
        timeout: seconds to wait for each step of an answer.
        give_up_after: seconds after which a request that keeps failing is given up.
        timing: clock, sleep and chance.

        ledger: counts what is sent and received.

    Attributes:
        database_clock: the database's time, learned from every answer.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float,
        give_up_after: float,
        timing: backoff.Timing,
        ledger: Ledger,
    ) -> None:
        self.database_clock = DatabaseClock(timing.now)
        self._connection = connection
        self._timeout = timeout
        self._give_up_after = give_up_after
        self._timing = timing
        self._ledger = ledger
        # Set by the first answer of PostgREST: what fails later is a fault that passes, not a
        # wrong address.
        self._reached = False

    async def send(self, request: Request[T], give_up_after: float | None = None) -> T:
        """Send a request until it is answered.

        A write is given up only when the time is over after which the database refuses every copy
        of it: once this has raised, none of them changes anything any more.

        Args:
            request: the request.
            give_up_after: seconds, instead of the settings' own.

        Raises:
            StoreUnavailable: there was no answer of PostgREST to this request.
            StoreError: the answer was no.
            ConfigurationError: the address is wrong, for all that can be told. A write has not left
                then.
        """
        now = self._timing.now
        if give_up_after is None:
            last_retry = now() + self._give_up_after
            # The first attempt has the time of one answer, however little patience there is.
            deadline = max(last_retry, now() + self._timeout)
        else:
            last_retry = deadline = now() + give_up_after
        with traced(request.what):
            return await self._until_answered(request, last_retry, deadline)

    async def _until_answered(self, request: Request[T], last_retry: float, deadline: float) -> T:
        now = self._timing.now
        attempt = 0
        failure: StoreError
        while True:
            try:
                return await self._attempt(request, deadline)
            except StoreUnavailable as error:
                failure, retry_after = error, error.retry_after
            except StoreError as error:
                failure = error
                break
            except ConfigurationError as error:
                if attempt == 0 or request.commit is None:
                    raise
                failure = StoreUnavailable(str(error))
                break
            pause = max(
                backoff.delay(attempt, base=_PAUSE, cap=_LONGEST_PAUSE, random=self._timing.random),
                retry_after,
            )
            if now() + pause >= last_retry:
                break
            attempt += 1
            self.met("retries")
            log.info("%s; attempt %d in %.1f s", failure, attempt + 1, pause, extra=RETRIED)
            await self._timing.sleep(pause)
        # Certain is a refusal of the only copy by PostgREST itself, whose refusals have a code, and
        # that any other copy would meet. A moment later a database may write again, a server know
        # the schema, a key be valid.
        passing = isinstance(failure, _PASSING)
        certain = attempt == 0 and not passing and _CODE.fullmatch(failure.code or "")
        if isinstance(failure, StoreUnavailable):
            self.met("given_up")
        writes = request.commit is not None or request.timed
        if writes and not certain and not request.harmless_late:
            # Copies of this write may still be on their way.
            await self._timing.sleep(max(deadline - now(), 0.0))
        raise failure

    def met(self, *events: str) -> None:
        """Count what happened, by names of `activity.EVENTS`."""
        ACTIVITY.events.update(events)
        self._ledger.met(events)

    async def _attempt(self, request: Request[T], deadline: float) -> T:
        try:
            return await self._answer(request, deadline)
        except (StoreError, ConfigurationError) as error:
            self.met(*event_names(error))
            raise

    async def _answer(self, request: Request[T], deadline: float) -> T:
        started = time.perf_counter()
        answer = await self._exchange(request, deadline)
        log.debug(
            "%s: HTTP %d in %.4f s",
            request.what,
            answer.status,
            time.perf_counter() - started,
            extra=ANSWERED,
        )
        if 200 <= answer.status < 300:
            return await self._result(request, answer, deadline)
        self._refuse_another_server(request, answer)
        self._reached = self._reached or answer.is_postgrests
        if answer.late_at is not None:
            self.database_clock.learn(answer.late_at)
        error = refusal(request.what, answer.status, answer.json)
        if isinstance(error, StoreUnavailable):
            error.retry_after = _retry_after(answer.headers.get("retry-after"))
        elif answer.is_foreign:
            error = StoreUnavailable(
                f"{request.what}: HTTP {answer.status} from another server than PostgREST",
                status=answer.status,
            )
        raise error

    async def _result(self, request: Request[T], answer: Answer, deadline: float) -> T:
        try:
            result = request.read(answer)
            self._check_receipt(request, answer)
        except NoReceipt:
            await self._confirm(request, deadline)
            return cast("T", None)  # what is asked for a receipt gives no result
        except NotTheAnswer as error:
            reason = str(error)
        else:
            self._reached = True
            return result
        self._refuse_another_server(request, answer)
        raise StoreUnavailable(f"{request.what}: {reason}", status=answer.status)

    def _check_receipt(self, request: Request[Any], answer: Answer) -> None:
        receipt = answer.receipt
        if request.commit is None or receipt is None:
            return
        if receipt.commit != str(request.commit):
            raise NotTheAnswer("what came acknowledges another request")
        if receipt.time is not None:
            self.database_clock.learn(receipt.time)

    async def _confirm(self, request: Request[T], deadline: float) -> None:
        # A server that does not pass the receipt on is asked for the number that it has stored.
        commit = request.commit
        assert commit is not None  # noqa: S101 - only an upsert with a number is read for a receipt
        wanted = {"company_id": commit.company_id, "writer": commit.writer}
        last: Mapping[str, Any] = await self._attempt(
            Request(
                f"confirming {request.what}",
                lambda postgrest: postgrest.rpc(
                    "whatsapp_last_commit",
                    {f"p_{name}": value for name, value in wanted.items()},
                ),
                result_of(orjson.loads, lambda found: names(found, wanted)),
            ),
            deadline,
        )
        if last["number"] != commit.number:
            raise StoreUnavailable(f"{request.what}: the database did not execute it")

    def _refuse_another_server(self, request: Request[Any], answer: Answer) -> None:
        may_have_written = request.commit is not None and not request.harmless_late
        if not self._reached and not may_have_written and answer.is_foreign:
            raise ConfigurationError(
                f"{request.what}: {self._connection.url} does not speak PostgREST (HTTP "
                f"{answer.status}, not JSON); SUPABASE_URL must be the project's API URL, "
                "https://<ref>.supabase.co"
            )

    async def _exchange(self, request: Request[Any], deadline: float) -> Answer:
        postgrest = await self._connection.postgrest()
        headers = {**KNOWS_HEADERS, **request.headers}
        if request.commit is not None:
            headers |= request.commit.headers
            headers[COMMIT_HEADER] = str(request.commit)
        if request.commit is not None or request.timed:
            headers[DEADLINE_HEADER] = self.deadline(deadline)
        built = request.build(postgrest).request
        left = max(deadline - self._timing.now(), 0.001)
        log.debug("%s: asking %s", request.what, self._connection.url, extra=SENT)
        try:
            # The time for the whole: httpx-aiohttp waits for ever for a server that stops reading.
            return await _within(left, self._send(request.what, built, headers, request.content))
        except Exception as error:  # noqa: BLE001 - no exception of a library reaches a caller
            problem = translated(error, request.what, self._connection.url, reached=self._reached)
        # Raised here, so that no exception in the chain holds the request and its headers.
        raise problem

    def deadline(self, moment: float) -> str:
        """Return the value of `DEADLINE_HEADER` for a moment of this machine's clock."""
        return f"{self.database_clock.at(moment):.3f}"

    async def _send(
        self, what: str, built: Any, headers: Mapping[str, str], content: bytes | None
    ) -> Answer:
        # Not by the builder's own `send`: it follows redirects where the caller's session does, and
        # a POST or DELETE that is redirected becomes a GET.
        if content is None and built.json is not None:
            content = orjson.dumps(built.json)
        all_headers = dict(built.headers.items())
        auth = built.auth
        if auth is None and "authorization" not in all_headers:
            auth = built.session.auth
        all_headers |= {"content-type": "application/json", **headers}
        body: bytes | AsyncIterator[bytes] | None = content
        if content is not None and len(content) > _PART:
            all_headers["content-length"] = str(len(content))
            body = _parts(content)
        started = time.perf_counter()
        response = await built.session.request(
            built.http_method,
            str(built.path),
            params=built.params or None,
            headers=all_headers,
            content=body,
            auth=auth,
            timeout=self._timeout,
            follow_redirects=False,
        )
        self._count(
            what,
            len(content or b"") + headers_size(all_headers.items()),
            response.num_bytes_downloaded + headers_size(response.headers.raw),
            time.perf_counter() - started,
        )
        return Answer(response.status_code, response.headers, response.content)

    def _count(self, what: str, sent: int, received: int, seconds: float) -> None:
        ACTIVITY.answered(what, sent, received, seconds)
        self._ledger.answered(what, sent, received)
        self._ledger.tick()


def names(found: object, wanted: Mapping[str, object]) -> bool:
    """Return whether an answer is an object that names what was asked for."""
    return isinstance(found, dict) and wanted.items() <= found.items()


async def _parts(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PART):
        yield content[start : start + _PART]


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    if sys.version_info >= (3, 11):
        async with asyncio.timeout(seconds):
            return await work
    return await asyncio.wait_for(work, seconds)


def _retry_after(value: str | None) -> float:
    try:
        return min(max(float(value or 0), 0.0), _LONGEST_RETRY_AFTER)
    except ValueError:
        return 0.0
