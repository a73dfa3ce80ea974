"""Metrics as Prometheus scrapes them, and what is made of them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack import Stack
from supabase_auth_state import (
    CodecError,
    Rest,
    Settings,
    StoreError,
    open_rest,
    use_supabase_auth_state,
)
from supabase_auth_state.operations.metrics import serve_metrics
from supabase_auth_state.rest.activity import Activity, event_names
from supabase_auth_state.rest.responses import refusal

GRAFANA = Path(__file__).parents[2] / "grafana"
NAME = re.compile(r"\bwhatsapp_auth_[a-z_]+\b")
LABEL = re.compile(r"[a-z_]+(?==)")


class Pool:
    def status(self) -> dict[str, str]:
        return {"secret-company": "up", "another": "up", "third": "quarantined"}


class Scraped:
    """A server of metrics."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(f"{self.url}{path}")

    async def ready(self) -> None:
        """Wait until the database has answered."""
        while (await self.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.02)


@pytest.fixture
async def rest(stack: Stack) -> AsyncIterator[Rest]:
    found = open_rest(Settings(url=stack.url, key=stack.service_role_key))
    yield found
    await found.close()


async def serving(rest: Rest, **options: Any) -> tuple[Scraped, asyncio.Task[None], asyncio.Event]:
    port, stopping = asyncio.get_running_loop().create_future(), asyncio.Event()
    task = asyncio.ensure_future(
        serve_metrics(rest, stopping, port=0, on_port=port.set_result, **options)
    )
    return Scraped(await port), task, stopping


async def use(rest: Rest, company_id: str, db: Any) -> None:
    """Do a bit of everything that is counted."""
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as auth:
        await auth.keys.set({"session": {"a": {"b": "c"}}})
        await auth.keys.get("session", ["a"])
        await auth.keys.get("session", ["missing"])
        db.execute("set whatsapp_auth.maintenance = 'on'")
        db.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value) "
            'values (%s, \'session\', \'damaged\', \'{"type": "Buffer", "data": "*"}\')',
            [company_id],
        )
        with pytest.raises(CodecError):
            await auth.keys.get("session", ["damaged"])


async def test_everything_is_exposed_without_the_name_of_a_company(
    stack: Stack, rest: Rest, company_id: str, db: Any
) -> None:
    scraped, task, stopping = await serving(rest, pools=[Pool()])
    try:
        await use(rest, company_id, db)
        await scraped.ready()
        text = (await scraped.get("/metrics")).text
        health = await scraped.get("/healthz")
        nothing = await scraped.get("/elsewhere")
    finally:
        stopping.set()
        await task
    assert (health.status_code, nothing.status_code) == (200, 404)
    for line in (
        'whatsapp_auth_request_seconds_count{kind="writing whatsapp_keys"}',
        'whatsapp_auth_events_total{event="damaged_rows"}',
        'whatsapp_auth_pool_companies{state="up"} 2.0',
        "whatsapp_auth_up 1.0",
    ):
        assert line in text
    for secret in (company_id, "secret-company", '"damaged"', stack.service_role_key, "127.0.0.1"):
        assert secret not in text
    assert_expressions_fit(text)


def assert_expressions_fit(text: str) -> None:
    """Compare the names in the dashboard and the rules with those that are exposed."""
    exposed = set(NAME.findall(text)) | {
        # Only after a clean-up, and a second refresh.
        "whatsapp_auth_cleanup_finished_timestamp_seconds",
        "whatsapp_auth_commits_per_minute",
        "whatsapp_auth_key_rows_per_minute",
    }
    dashboard = json.loads((GRAFANA / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += re.findall(r"expr: (.*)", (GRAFANA / "alerts.yaml").read_text())
    assert len(expressions) > 30
    for expression in expressions:
        assert NAME.findall(expression)
        assert set(NAME.findall(expression)) <= exposed, expression


async def test_companies_are_named_when_asked_for(rest: Rest, company_id: str, db: Any) -> None:
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as auth:
        await auth.keys.set({"session": {"a": {"b": "c"}}})
        await rest.rpc("refresh_whatsapp_statistics", {"p_every": 0})
    scraped, task, stopping = await serving(rest, companies=True)
    try:
        await scraped.ready()
        text = (await scraped.get("/metrics")).text
    finally:
        stopping.set()
        await task
    assert "whatsapp_auth_company_keys{company_id=" in text


async def test_without_the_database_it_is_healthy_and_not_ready(unused_tcp_port: int) -> None:
    settings = Settings(
        url=f"http://127.0.0.1:{unused_tcp_port}", key="sb_secret_" + "x" * 31, give_up_after=0.1
    )
    away = open_rest(settings)
    scraped, task, stopping = await serving(away)
    try:
        answers = [await scraped.get(path) for path in ("/healthz", "/readyz", "/metrics")]
    finally:
        stopping.set()
        await task
        await away.close()
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert "whatsapp_auth_up 0.0" in answers[2].text


@pytest.mark.parametrize(
    ("status", "code", "names"),
    [
        (401, "PGRST301", {"denied", "http_401"}),
        (403, "42501", {"denied", "grants_missing"}),
        (402, None, {"restricted", "http_402"}),
        (540, None, {"restricted", "http_540"}),
        (544, None, {"unavailable", "http_544"}),
        (400, "25006", {"restricted", "read_only"}),
        (500, "57014", {"unavailable", "timeouts"}),
        (404, "PGRST202", {"schema_missing"}),
        (400, "22023", {"invalid_requests"}),
    ],
)
def test_what_refuses_a_request_has_its_names(
    status: int, code: str | None, names: set[str]
) -> None:
    error: StoreError = refusal("x", status, {"code": code, "message": "m"})
    assert set(event_names(error)) == names


def test_seconds_fall_into_their_classes() -> None:
    activity = Activity()
    for seconds in (0.001, 0.005, 0.006, 11.0):
        activity.answered("k", 1, 2, seconds)
    found = activity.traffic["k"]
    assert (found.requests, found.sent, found.received) == (4, 4, 8)
    assert (found.by_seconds[0], found.by_seconds[1], found.by_seconds[-1]) == (2, 1, 1)


async def test_a_request_is_a_span_that_tells_nothing(
    stack: Stack, rest: Rest, company_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr("supabase_auth_state.rest.tracing._tracer", lambda: tracer)
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as auth:
        await auth.keys.set({"session": {"a": {"b": "c"}}})
    with pytest.raises(StoreError):
        await rest.rpc("not_there", {"p_secret": company_id})
    spans = exporter.get_finished_spans()
    assert "writing whatsapp_keys" in [span.name for span in spans]
    failed = [span for span in spans if span.name == "calling not_there"]
    assert [span.status.description for span in failed] == ["SchemaMissing"]
    assert company_id not in "".join(span.to_json() for span in spans)
