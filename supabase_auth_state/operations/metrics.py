"""Metrics for Prometheus, `/healthz` and `/readyz`. Needs the extra ``metrics``.

What this process does is read from `rest.activity` when it is scraped, so counting costs a write
nothing more. What the database holds is read at most every 15 seconds. No label names a company,
an id or an address, unless companies are asked for.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from supabase_auth_state.errors import ConfigurationError, SupabaseAuthStateError
from supabase_auth_state.leases.renewals import leases_held
from supabase_auth_state.rest.activity import ACTIVITY, BUCKETS, Activity
from supabase_auth_state.rest.client import Rest

from .statistics import Company, Overview, read_companies, read_overview, refresh

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

log = logging.getLogger("supabase_auth_state")

_PREFIX = "whatsapp_auth"
_FRESH_FOR = 15.0
_MOST_COMPANIES = 500


class Pool(Protocol):
    """A `SessionPool`, as far as metrics go."""

    def status(self) -> Mapping[str, str]:
        """Return the state of every company."""
        ...


class ProcessMetrics:
    """What this process does: requests, cache, group commit, leases, pool.

    A collector for ``prometheus_client``: ``registry.register(ProcessMetrics())``.

    Args:
        pools: the pools whose companies are counted by state.
        activity: whose counts; by default those of this process.
    """

    def __init__(self, *, pools: Sequence[Pool] = (), activity: Activity = ACTIVITY) -> None:
        self._pools = tuple(pools)
        self._activity = activity

    def collect(self) -> Iterator[Metric]:
        """Give the metrics of now."""
        yield from self._requests()
        found = self._activity
        events = _counter("events", "What was met: refusals, retries, lost leases …", ["event"])
        for name, count in sorted(found.events.items()):
            if name != "requests":
                events.add_metric([name], count)
        yield events
        cache = _counter("cache_lookups", "Keys asked for while the lease was held.", ["outcome"])
        cache.add_metric(["hit"], found.cache_hits)
        cache.add_metric(["miss"], found.cache_misses)
        yield cache
        caches = tuple(found.caches)
        yield _gauge("cache_bytes", "Bytes that caches hold.", sum(each.bytes for each in caches))
        yield _gauge("cache_keys", "Keys that caches hold.", sum(map(len, caches)))
        yield _counter("commits", "Group commits.", value=found.commits)
        yield _counter(
            "commits_joined", "Writes of callers that group commits joined.",
            value=found.commits_joined,
        )  # fmt: skip
        yield _gauge("leases_held", "Leases that this process renews.", leases_held())
        states: Counter[str] = Counter()
        for pool in self._pools:
            states.update(pool.status().values())
        pooled = _gauge("pool_companies", "Companies of the pool by state.", labels=["state"])
        for state, count in sorted(states.items()):
            pooled.add_metric([state], count)
        yield pooled

    def _requests(self) -> Iterator[Metric]:
        from prometheus_client.core import HistogramMetricFamily

        seconds = HistogramMetricFamily(
            f"{_PREFIX}_request_seconds", "Seconds of answered requests.", labels=["kind"]
        )
        sent = _counter("sent_bytes", "Bytes sent, with headers.", ["kind"])
        received = _counter("received_bytes", "Bytes received, with headers: egress.", ["kind"])
        for kind, traffic in sorted(self._activity.traffic.items()):
            buckets, below = [], 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), traffic.by_seconds, strict=True):
                below += count
                buckets.append((bound, below))
            seconds.add_metric([kind], buckets, traffic.seconds)
            sent.add_metric([kind], traffic.sent)
            received.add_metric([kind], traffic.received)
        yield from (seconds, sent, received)


class DatabaseMetrics:
    """What the database holds: companies, keys, storage, clean-up, alerts.

    A collector for ``prometheus_client``. A scrape gives what was read last, so it waits for
    nothing: `keep` reads it every 15 seconds in the event loop of the ``Rest``.

    Args:
        rest: where the database is.
        companies: whether the largest 500 companies are named, each with its rows and bytes.
        now: seconds that never go back, for tests.
    """

    def __init__(
        self, rest: Rest, *, companies: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._rest = rest
        self._companies = companies
        self._now = now
        self._overview: Overview | None = None
        self._largest: Sequence[Company] = ()
        self._read_at = -float("inf")

    @property
    def is_ready(self) -> bool:
        """Whether the database has answered within the last minute."""
        return self._now() - self._read_at < 60.0

    async def read(self) -> None:
        """Read what the next scrapes give.

        Raises:
            StoreError: the database refused or did not answer.
        """
        await refresh(self._rest)
        overview = await read_overview(self._rest)
        if self._companies:
            page = await read_companies(
                self._rest, sort="bytes", descending=True, limit=_MOST_COMPANIES
            )
            self._largest = page["companies"]
        self._overview, self._read_at = overview, self._now()

    async def keep(self) -> None:
        """Read again and again, until cancelled; what fails is logged."""
        while True:
            try:
                await self.read()
            except SupabaseAuthStateError as error:
                log.warning("metrics: the statistics cannot be read: %s", error)
            await asyncio.sleep(_FRESH_FOR)

    def collect(self) -> Iterator[Metric]:
        """Give what was read last; nothing of the database before the first read."""
        yield _gauge("up", "Whether the database has answered within a minute.", int(self.is_ready))
        overview = self._overview
        if overview is None:
            return
        yield _gauge("companies", "Companies with creds or keys.", overview["companies"])
        yield _gauge("companies_owned", "Companies with a live lease.", overview["owned"])
        rows = _gauge("keys", "Keys by type.", labels=["type"])
        size = _gauge("key_bytes", "Bytes of keys by type, without indexes.", labels=["type"])
        for name, count in sorted(overview["keys"]["by_type"].items()):
            rows.add_metric([name], count["rows"])
            size.add_metric([name], count["bytes"])
        yield from (rows, size)
        yield _gauge("creds_bytes", "Bytes of creds.", overview["creds_bytes"])
        yield _gauge("expired_keys", "Keys that may be deleted.", overview["expired"])
        yield from _storage(overview)
        for name, value in (
            ("commits_per_minute", overview["commits_per_minute"]),
            ("key_rows_per_minute", overview["key_rows_per_minute"]),
            ("statistics_refreshed_timestamp_seconds", overview["refreshed_at"]),
            ("statistics_recounted_timestamp_seconds", overview["recounted_at"]),
        ):
            if value is not None:
                yield _gauge(name, "See docs/operations.md.", value)
        cleanup = overview["cleanup"]
        if cleanup is not None:
            yield _gauge(
                "cleanup_finished_timestamp_seconds", "When the clean-up ended last.",
                cleanup["finished_at"],
            )  # fmt: skip
            yield _gauge("cleanup_deleted", "Rows that it deleted.", cleanup["deleted"])
            yield _gauge("cleanup_seconds", "How long it took.", cleanup["seconds"])
        leases = overview["leases"]
        yield _gauge("leases_acquired_last_hour", "Leases acquired.", leases["acquired_last_hour"])
        yield _gauge(
            "leases_taken_over_last_hour", "Leases of owners that had died.",
            leases["taken_over_last_hour"],
        )  # fmt: skip
        alerts = _gauge("alert_firing", "1 while a rule fires.", labels=["rule"])
        for rule, state in sorted(overview["alerts"].items()):
            alerts.add_metric([rule], int(state.get("phase") == "firing"))
        yield alerts
        if self._companies:
            yield from self._by_company()

    def _by_company(self) -> Iterator[Metric]:
        rows = _gauge("company_keys", "Keys of the largest companies.", labels=["company_id"])
        size = _gauge("company_key_bytes", "Bytes of these.", labels=["company_id"])
        for company in self._largest:
            rows.add_metric([company["company_id"]], company["rows"])
            size.add_metric([company["company_id"]], company["bytes"])
        yield from (rows, size)


def _storage(overview: Overview) -> Iterator[Metric]:
    storage = overview["storage"]
    on_disk = _gauge("storage_bytes", "Bytes on the disk.", labels=["table", "part"])
    dead = _gauge("dead_rows", "Rows that vacuum has not removed.", labels=["table"])
    for table in ("keys", "auth"):
        parts = storage[table]
        on_disk.add_metric([table, "heap"], parts["heap"])
        on_disk.add_metric([table, "toast"], parts["toast"])
        on_disk.add_metric([table, "indexes"], parts["indexes"])
        dead.add_metric([table], parts["dead_rows"])
    yield from (on_disk, dead)
    yield _gauge("database_bytes", "Bytes of the whole database.", storage["database"])


def _gauge(name: str, text: str, value: float | None = None, *, labels: Any = None) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value, labels=labels)


def _counter(name: str, text: str, labels: Any = None, *, value: float | None = None) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value, labels=labels)


class MetricsServer:
    """Serves ``/metrics``, ``/healthz`` and ``/readyz`` from a thread of its own.

    ``/healthz`` is 200 while the process runs and its event loop turns; ``/readyz`` is 200 while
    the database answers, else 503.

    Args:
        registry: what is served.
        database: what ``/readyz`` asks, or None: ready when healthy.
        host: the address to listen on.
        port: the port; 0 for any that is free.

    Attributes:
        port: the port that is listened on.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        database: DatabaseMetrics | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        from prometheus_client import make_wsgi_app

        self._metrics = make_wsgi_app(registry)
        self._database = database
        self._turned_at = time.monotonic()
        try:
            self._server = make_server(host, port, self._answer, WSGIServer, _Quiet)
        except OSError as error:
            problem = f"{host}:{port} cannot be listened on: {error.strerror}"
        else:
            problem = ""
        if problem:
            raise ConfigurationError(problem)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    async def keep(self) -> None:
        """Show that the event loop turns, until cancelled."""
        while True:
            self._turned_at = time.monotonic()
            await asyncio.sleep(1.0)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: Any, start: Any) -> Any:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            return self._metrics(environ, start)
        if path not in {"/healthz", "/readyz"}:
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there are /metrics, /healthz and /readyz\n"]
        good = time.monotonic() - self._turned_at < 30.0
        if path == "/readyz" and self._database is not None:
            good = good and self._database.is_ready
        start("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"ok\n" if good else b"not ready\n"]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
        """Log nothing: a scrape every few seconds is no news."""


async def serve_metrics(
    rest: Rest,
    stopping: asyncio.Event,
    *,
    host: str = "127.0.0.1",
    port: int = 9464,
    pools: Sequence[Pool] = (),
    companies: bool = False,
    on_port: Callable[[int], object] = lambda _: None,
) -> None:
    """Serve metrics of this process and of the database until told to stop.

    Args:
        rest: where the database is.
        stopping: ends it.
        host: the address to listen on. Whoever reaches it sees the metrics.
        port: the port; 0 for any that is free.
        pools: the pools whose companies are counted by state.
        companies: whether the largest companies are named.
        on_port: is told the port when it is listened on.

    Raises:
        ConfigurationError: the extra ``metrics`` is not installed, or the port is taken.
    """
    registry = new_registry()
    database = DatabaseMetrics(rest, companies=companies)
    registry.register(ProcessMetrics(pools=pools))
    registry.register(database)
    server = MetricsServer(registry, database, host=host, port=port)
    tasks = [asyncio.ensure_future(each.keep()) for each in (database, server)]
    try:
        on_port(server.port)
        await stopping.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(set(tasks))
        server.close()


def new_registry() -> CollectorRegistry:
    """Return an empty registry of ``prometheus_client``.

    Raises:
        ConfigurationError: the extra ``metrics`` is not installed.
    """
    try:
        from prometheus_client.registry import CollectorRegistry
    except ImportError:
        pass
    else:
        return CollectorRegistry()
    raise ConfigurationError("metrics need the extra: pip install 'supabase-auth-state[metrics]'")
