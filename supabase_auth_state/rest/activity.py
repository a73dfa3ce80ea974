"""What this process has asked of the database and met there: counts, and nothing of any value."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sized
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakSet

from supabase_auth_state.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidRequest,
    ProjectRestricted,
    SchemaMissing,
    StoreUnavailable,
    SupabaseAuthStateError,
    WriteRefused,
)

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the classes into which the seconds of a request fall."""

EVENTS = (
    "requests", "retries", "given_up", "unavailable", "timeouts", "http_401", "http_402",
    "http_540", "http_544", "read_only", "restricted", "denied", "grants_missing", "schema_missing",
    "invalid_requests", "write_refused", "state_rolled_back", "damaged_rows", "lease_lost",
    "lease_lapsed", "renewals_unanswered",
)  # fmt: skip
"""What is told to the database, for the alerts of all processes."""

_KINDS: tuple[tuple[type[SupabaseAuthStateError], str], ...] = (
    (ProjectRestricted, "restricted"),
    (AccessDenied, "denied"),
    (SchemaMissing, "schema_missing"),
    (InvalidRequest, "invalid_requests"),
    (WriteRefused, "write_refused"),
    (StoreUnavailable, "unavailable"),
    (ConfigurationError, "unavailable"),
)
_STATUS = {401: "http_401", 402: "http_402", 540: "http_540", 544: "http_544"}
_CODES = {"42501": "grants_missing", "25006": "read_only", "57014": "timeouts"}


@dataclass
class Traffic:
    """Requests of one kind.

    Attributes:
        requests: how many were answered.
        sent: bytes of their headers and bodies.
        received: bytes of the answers.
        seconds: how long they took together.
        by_seconds: how many took at most as long as each of `BUCKETS`, and longer than the one
            before; the last number is for those that took longer than all.
    """

    requests: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    by_seconds: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))


class Cache(Sized, Protocol):
    """What a cache of keys tells of itself.

    Attributes:
        bytes: what it holds in memory.
    """

    bytes: int


class Activity:
    """Counts of a process, which only grow.

    Attributes:
        traffic: requests by kind, as ``"writing whatsapp_keys"``. A kind names a function or table
            of ours, so there are few.
        events: what was met, by name: those of `EVENTS`.
        cache_hits: keys that were answered from memory.
        cache_misses: keys that were not, though the lease was held.
        commits: group commits.
        commits_joined: writes of callers that went with them.
        caches: the caches that are in use.
    """

    def __init__(self) -> None:
        self.traffic: dict[str, Traffic] = {}
        self.events: Counter[str] = Counter()
        self.cache_hits = 0
        self.cache_misses = 0
        self.commits = 0
        self.commits_joined = 0
        self.caches: WeakSet[Cache] = WeakSet()

    def answered(self, kind: str, sent: int, received: int, seconds: float) -> None:
        """Count a request that was answered, whatever the answer was."""
        found = self.traffic.get(kind)
        if found is None:
            found = self.traffic[kind] = Traffic()
        found.requests += 1
        found.sent += sent
        found.received += received
        found.seconds += seconds
        found.by_seconds[bisect_left(BUCKETS, seconds)] += 1
        self.events["requests"] += 1


def event_names(error: BaseException) -> list[str]:
    """Return the names, of `EVENTS`, of what has failed a request."""
    names = [name for kind, name in _KINDS if isinstance(error, kind)][:1]
    status, code = getattr(error, "status", None), getattr(error, "code", None)
    if status in _STATUS:
        names.append(_STATUS[status])
    if code in _CODES:
        names.append(_CODES[code])
    elif "no answer in time" in str(error):
        names.append("timeouts")
    if isinstance(error, WriteRefused) and "whatsapp restore:" in str(error):
        names.append("state_rolled_back")
    return names


def headers_size(headers: Iterable[tuple[Sized, Sized]]) -> int:
    """Return how many bytes headers take on their way; pass them as they are iterated fastest."""
    return sum(len(name) + len(value) + 4 for name, value in headers)


ACTIVITY = Activity()
"""That of this process. Threads may lose a count to each other."""
