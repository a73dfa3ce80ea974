"""Everything that this project shows of a company, for `test_leaks` to look through."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx

from supabase_auth_state import Rest, SupabaseAuthStateError
from supabase_auth_state.cli.console import Console
from supabase_auth_state.cli.main import build_parser
from supabase_auth_state.cli.web.access import Access
from supabase_auth_state.cli.web.app import Dashboard, dashboard_app
from supabase_auth_state.operations.alert_config import AlertConfig, load_alert_config
from supabase_auth_state.operations.alerting import Alerts
from supabase_auth_state.operations.metrics import serve_metrics

ALERTS = """
[alerts]
company_ids = true

[rules.companies_with_few_pre_keys]
measure = "companies_with_few_pre_keys"
above = 0
for = "0s"

[receivers.hook]
type = "webhook"
url_env = "HOOK"
secret_env = "HOOK_SECRET"
"""


class Hook:
    """Takes every message of an alert."""

    name = "hook"

    def __init__(self) -> None:
        self.taken: list[str] = []

    async def send(self, message: Mapping[str, object], *, message_id: str, now: float) -> None:
        """Take a message."""
        self.taken.append(f"{message_id} {dict(message)}")


def alert_config(folder: Path) -> AlertConfig:
    """Rules of which one fires at once, and names companies."""
    path = folder / "alerts.toml"
    path.write_text(ALERTS)
    return load_alert_config(path, env={"HOOK": "http://127.0.0.1:9/hook", "HOOK_SECRET": "shared"})


async def alerts(rest: Rest, folder: Path) -> list[str]:
    """What the receivers of alerts are sent."""
    hook = Hook()
    watching = Alerts(rest, alert_config(folder), project="p.test", receivers=[hook])
    await watching.test()
    await watching.check()
    await watching.deliver()
    return hook.taken


async def pages(rest: Rest, company_id: str, folder: Path) -> dict[str, str]:
    """Every page of the dashboard, with its headers."""
    dashboard = Dashboard(
        rest, rest, Access(), alert_config(folder), str(folder / "kept"), "p.test"
    )
    paths = [
        "/", "/companies", f"/companies?search={company_id}", f"/company?id={company_id}",
        f"/company?id={company_id}&doctor=1", f"/company/ask?id={company_id}&action=quarantine",
        f"/company/ask?id={company_id}&action=restore&version=1", "/workers", "/alerts",
        "/capacity", "/login", "/company?id=none", "/company?id=%00", "/companies?sort=creds",
    ]  # fmt: skip
    transport = httpx.ASGITransport(dashboard_app(dashboard), raise_app_exceptions=False)
    shown = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        for path in paths:
            answer = await browser.get(path)
            shown[path] = f"{answer.status_code} {dict(answer.headers)} {answer.text}"
    return shown


async def metrics(rest: Rest) -> str:
    """What Prometheus scrapes, companies named."""
    stopping = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(
        serve_metrics(rest, stopping, port=0, companies=True, on_port=port.set_result)
    )
    found = ""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await port}") as scraping:
        while "whatsapp_auth_companies" not in found:
            found = (await scraping.get("/metrics")).text
            await asyncio.sleep(0.01)
        for path in ("/healthz", "/readyz", "/elsewhere"):
            found += (await scraping.get(path)).text
    stopping.set()
    await serving
    return found


async def commands(company_id: str, folder: Path, *, json: bool) -> list[SupabaseAuthStateError]:
    """Print what commands print; give the errors with which they end."""
    errors = []
    of_company = ["--company", company_id]
    for command in (
        ["stats"], ["history", *of_company], ["doctor"],
        ["doctor", *of_company], ["pre-keys", *of_company], ["capacity"], ["alerts", "check"],
        ["verify", str(folder / "auth"), *of_company], ["restore", *of_company, "--dry-run"],
        ["rekey", *of_company], ["reinstate", *of_company],
    ):  # fmt: skip
        args = build_parser().parse_args(command)
        try:
            await args.run(args, Console(json=json))
        except SupabaseAuthStateError as error:
            errors.append(error)
    return errors
