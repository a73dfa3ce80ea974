"""The pages, and what their buttons do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import urlencode

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from supabase_auth_state.cli.leases import refuse_closed
from supabase_auth_state.cli.tables import human_bytes, human_duration
from supabase_auth_state.config import check_company_id
from supabase_auth_state.doctor.doctor import diagnose
from supabase_auth_state.errors import (
    ARRIVING,
    MOVED,
    CompanyNotFound,
    ConfigurationError,
    SchemaMissing,
    StoreError,
    StoreUnavailable,
    SupabaseAuthStateError,
    VersionNotRestorable,
)
from supabase_auth_state.operations import statistics
from supabase_auth_state.operations.alert_config import AlertConfig
from supabase_auth_state.operations.alert_states import AlertState
from supabase_auth_state.operations.capacity import WhatIf, capacity, plan_of
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.timestamps import seconds
from supabase_auth_state.transfer.delete import delete_company
from supabase_auth_state.transfer.history import read_history, restore_version

from .access import COOKIE, HEADERS, Access
from .asked import after_as_text, after_of, company_of, form_of, number_between, search_of, whole
from .charts import Bar, growth_chart, largest_types, lease_bars, size_bars, type_bars

log = logging.getLogger("supabase_auth_state")

_HERE = Path(__file__).parent
_PAGE = 100
_REFRESH_EVERY = 60.0
_ACTIONS = ("release", "quarantine", "restore")
_MAY_EXPIRE = ("lid-mapping", "device-list", "tctoken", "sender-key-memory")
_MOST_COMPANIES = 1_000_000
_DISK_GB = 8.0


@dataclass(frozen=True)
class Dashboard:
    """What the pages work with.

    Attributes:
        rest: where the database is, with time for what the buttons do.
        looking: the same, with the patience of a person who waits for a page.
        access: who may look.
        alerts: the rules and the plan.
        backup_dir: where a backup is written before a company goes into quarantine.
        project: how the pages name the project.
        every: seconds between two live refreshes of a page.
    """

    rest: Rest
    looking: Rest
    access: Access
    alerts: AlertConfig
    backup_dir: str
    project: str
    every: float = 5.0


def dashboard_app(dashboard: Dashboard) -> Starlette:
    """Return the dashboard as an ASGI application."""
    pages = _Pages(dashboard)
    routes = [
        Route("/", pages.overview),
        Route("/companies", pages.companies),
        Route("/company", pages.company),
        Route("/company/ask", pages.ask),
        Route("/company/do", pages.do, methods=["POST"]),
        Route("/workers", pages.workers),
        Route("/alerts", pages.alerts),
        Route("/capacity", pages.capacity),
        Route("/login", pages.login, methods=["GET", "POST"]),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]
    app = Starlette(
        routes=routes,
        lifespan=pages.refreshing,
        exception_handlers={
            SupabaseAuthStateError: pages.failure,
            HTTPException: pages.refusal,
            Exception: pages.defect,
        },
    )
    app.add_middleware(_Guard, access=dashboard.access)
    return app


class _Guard(BaseHTTPMiddleware):
    def __init__(self, app: Any, access: Access) -> None:
        super().__init__(app)
        self._access = access

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = self._refusal(request) or await call_next(request)
        response.headers.update(HEADERS)
        return response

    def _refusal(self, request: Request) -> Response | None:
        access = self._access
        if not access.host_is_ours(request.headers.get("host", "")):
            return Response("This host is not known: --allowed-host NAME adds it.", 421)
        if request.method not in {"GET", "HEAD"} and not access.origin_is_ours(request.headers):
            return Response("Only a page of this dashboard may ask for that.", 403)
        if not access.may_be_shown(request.headers):
            return Response("A page of another host may link here and embed nothing.", 403)
        is_open = request.url.path == "/login" or request.url.path.startswith("/static/")
        if not is_open and not access.is_admitted(request.cookies):
            return RedirectResponse("/login", 303)
        return None


class _Pages:
    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        self._rest = dashboard.rest
        self._looking = dashboard.looking
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            size=human_bytes,
            ago=human_duration,
            count=_count,
            moment=_moment,
            day=_day,
            query=urlencode,
            largest=_largest,
        )

    @contextlib.asynccontextmanager
    async def refreshing(self, _: Starlette) -> AsyncIterator[None]:
        """Have the statistics counted once a minute while the dashboard runs."""
        task = asyncio.ensure_future(self._keep_refreshing())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _keep_refreshing(self) -> None:
        while True:
            try:
                await statistics.refresh(self._looking)
            except SupabaseAuthStateError as error:
                # The pages say the same to the person who looks at them.
                log.info("dashboard: the statistics were not refreshed: %s", error)
            await asyncio.sleep(_REFRESH_EVERY)

    async def overview(self, _: Request) -> Response:
        """The whole at a glance."""
        found, days, runs = await asyncio.gather(
            statistics.read_overview(self._looking),
            statistics.read_growth(self._looking),
            statistics.read_cleanup_runs(self._looking),
        )
        plan = self._dashboard.alerts.plan
        return self._page(
            "overview.html",
            found=found,
            runs=runs,
            fits=capacity(found, days, plan),
            chart=growth_chart(days, plan.database_bytes),
            types=type_bars(found["keys"]["by_type"]),
            rules=self._standing_rules(found["alerts"]),
        )

    async def companies(self, request: Request) -> Response:
        """A page of companies."""
        asked = request.query_params
        sort = asked.get("sort", "company_id")
        if sort not in get_args(statistics.Sort):
            raise ConfigurationError("companies cannot be sorted by that")
        search = search_of(request)
        descending = asked.get("order") == "down"
        page = await statistics.read_companies(
            self._looking,
            search=search,
            sort=cast("statistics.Sort", sort),
            descending=descending,
            after=after_of(request, sort),
            limit=_PAGE,
        )
        return self._page(
            "companies.html",
            page=page,
            search=search,
            sort=sort,
            descending=descending,
            is_first="after" not in asked,
            after=None if page["after"] is None else after_as_text(page["after"]),
        )

    async def company(self, request: Request) -> Response:
        """One company."""
        company_id = company_of(request)
        found, history = await asyncio.gather(
            statistics.read_company(self._looking, company_id),
            read_history(company_id, client=self._looking),
        )
        if found is None and not history.versions:
            raise CompanyNotFound(company_id)
        report = None
        if "doctor" in request.query_params and found is not None:
            report = await diagnose(self._rest, company_id)
        leases: list[Bar] = []
        types: list[Bar] = []
        since = 0.0
        if found is not None:
            types = type_bars(found["by_type"])
            leases, since = lease_bars(found["leases"], found["time"], until=found["lease_until"])
        return self._page(
            "company.html",
            company_id=company_id,
            found=found,
            history=history,
            types=types,
            leases=leases,
            since=since,
            report=report,
            done=request.query_params.get("done"),
        )

    async def ask(self, request: Request) -> Response:
        """Ask before something is changed."""
        company_id = company_of(request)
        action = request.query_params.get("action")
        if action not in _ACTIONS:
            raise ConfigurationError("there is no such action")
        version = request.query_params.get("version", "")
        if action == "restore":
            version = str(whole(version))
        lease = await self._looking.about("whatsapp_lease_status", company_id)
        if action == "release":
            refuse_closed(lease)
        until = None if lease["owner"] is None else seconds(lease["expires_at"])
        return self._page(
            "ask.html",
            company_id=company_id,
            action=action,
            lease=lease,
            until=until,
            version=version,
        )

    async def do(self, request: Request) -> Response:
        """Change what was asked for."""
        form = await form_of(request)
        company_id = check_company_id(form.get("id", ""))
        action = done = form.get("action")
        if action == "release":
            token = whole(form.get("token", ""))
            refuse_closed(await self._rest.about("whatsapp_lease_status", company_id))
            # The lease that was shown, so that one acquired since is left alone.
            await self._rest.rpc(
                "release_whatsapp_lease", {"p_company_id": company_id, "p_token": token}
            )
            # Not by the result of the call: one that was sent again had nothing left to do.
            after = await self._rest.about("whatsapp_lease_status", company_id)
            if after["owner"] is not None:
                done = "changed"
        elif action == "quarantine":
            await delete_company(
                company_id, client=self._rest, backup_dir=self._dashboard.backup_dir
            )
        elif action == "restore":
            await restore_version(company_id, whole(form.get("version", "")), client=self._rest)
        else:
            raise ConfigurationError("there is no such action")
        return RedirectResponse(f"/company?{urlencode({'id': company_id, 'done': done})}", 303)

    async def workers(self, _: Request) -> Response:
        """Processes that own companies."""
        found, workers, leases = await asyncio.gather(
            statistics.read_overview(self._looking),
            statistics.read_workers(self._looking),
            statistics.read_leases(self._looking),
        )
        return self._page("workers.html", found=found, workers=workers, leases=leases)

    async def alerts(self, _: Request) -> Response:
        """Every rule and where it stands."""
        found = await statistics.read_overview(self._looking)
        return self._page("alerts.html", found=found, rules=self._standing_rules(found["alerts"]))

    async def capacity(self, request: Request) -> Response:
        """What fits, and what would change it."""
        asked = request.query_params
        found, days, page = await asyncio.gather(
            statistics.read_overview(self._looking),
            statistics.read_growth(self._looking),
            statistics.read_companies(self._looking, sort="bytes", descending=True, limit=5),
        )
        plan = self._dashboard.alerts.plan
        if asked.get("plan"):
            disk = number_between(asked.get("disk"), 1, 60_000, _DISK_GB)
            plan = plan_of(asked["plan"], disk_gb=disk)
        removed = number_between(asked.get("removed"), 0, 100, 0)
        change = WhatIf(_MAY_EXPIRE, removed / 100, encrypted="encrypted" in asked)
        fits = capacity(found, days, plan, largest=page["companies"], what_if={"then": change})
        fitting = fits.what_if.get("then")
        twice = max(found["companies"], 1) * 2
        wanted = int(number_between(asked.get("companies"), 0, _MOST_COMPANIES, twice))
        per_company = None
        if fitting:
            per_company = max(plan.database_bytes - fits.fixed_bytes, 0.0) / fitting
        return self._page(
            "capacity.html",
            found=found,
            fits=fits,
            fitting=fitting,
            wanted=wanted,
            most=min(max(1000, found["companies"] * 10), _MOST_COMPANIES),
            then=None if per_company is None else fits.fixed_bytes + wanted * per_company,
            removed=round(removed),
            encrypted=change.encrypted,
            types=type_bars(found["keys"]["by_type"]),
            largest=size_bars(fits.largest),
            disk=None if math.isinf(plan.database_bytes) else plan.database_bytes / 1e9,
        )

    async def login(self, request: Request) -> Response:
        """Take the token."""
        access = self._dashboard.access
        if access.is_admitted(request.cookies):
            return RedirectResponse("/", 303)
        if request.method == "GET":
            return self._page("login.html", wrong=False)
        form = await form_of(request)
        if not access.knows_token(form.get("token", "")):
            return self._page("login.html", 403, wrong=True)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            access.cookie(),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def failure(self, request: Request, error: Exception) -> Response:
        """Say why there is no page; our errors quote no stored value."""
        # A page that was only looked at can be asked for again.
        may_retry = request.method == "GET"
        if isinstance(error, SchemaMissing):
            return self._page("older.html", 503, error=error, again=may_retry)
        status = 400
        if isinstance(error, StoreUnavailable):
            status = 503
        elif isinstance(error, (CompanyNotFound, VersionNotRestorable)):
            status = 404
        elif isinstance(error, StoreError):
            status = 502
        elif not isinstance(error, ConfigurationError):
            status = 409
        again = may_retry and status == 503
        return self._page("error.html", status, error=error, again=again, may_retry=may_retry)

    async def refusal(self, _: Request, error: Exception) -> Response:
        """Say that there is no such page, or that it takes no such request."""
        code = error.status_code if isinstance(error, HTTPException) else 404
        headers = error.headers if isinstance(error, HTTPException) else None
        words = "There is no such page." if code == 404 else "This page takes no such request."
        page = self._page("error.html", code, error=words, again=False, may_retry=False)
        page.headers.update(headers or {})
        return page

    async def defect(self, _: Request, error: Exception) -> Response:
        """Say that this is a defect, and what kind of one; its text may quote what was stored."""
        words = f"This is a defect of the dashboard ({type(error).__name__}): please report it."
        page = self._page("error.html", 500, error=words, again=False, may_retry=False)
        # Such an answer does not pass the guard.
        page.headers.update(HEADERS)
        return page

    def _page(self, name: str, status: int = 200, **values: Any) -> Response:
        text = self._templates.get_template(name).render(
            **values,
            project=self._dashboard.project,
            every=self._dashboard.every,
            here=name.partition(".")[0],
            may_expire=_MAY_EXPIRE,
            marks=(ARRIVING, MOVED),
        )
        return HTMLResponse(text, status)

    def _standing_rules(self, states: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the rules with their shared states, those that fire first."""
        order = {"firing": 0, "pending": 1, "resolved": 2, "ok": 3}
        found = [
            {"rule": rule, "state": AlertState.of_json(states.get(rule.name, {}))}
            for rule in self._dashboard.alerts.rules
        ]
        return sorted(found, key=lambda each: order[each["state"].phase])


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\u202f")


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _day(seconds_since_1970: float) -> str:
    return datetime.fromtimestamp(seconds_since_1970, timezone.utc).strftime("%Y-%m-%d")


def _largest(
    by_type: Mapping[str, statistics.TypeCount],
) -> list[tuple[str, statistics.TypeCount]]:
    return largest_types(by_type)[:2]
