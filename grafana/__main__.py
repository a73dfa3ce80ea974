"""`python -m grafana`: load every expression into a real Prometheus that scrapes a real process.

Takes `prometheus` and `promtool` of the PATH or of the folder that PROMETHEUS names; elsewhere, on
Debian and what is made of it, their package is unpacked into `.devstack/`, without being installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from devstack.local import LocalStack
from supabase_auth_state.auth_state.database import use_supabase_auth_state
from supabase_auth_state.config import Settings
from supabase_auth_state.operations.cleanup import run_cleanup
from supabase_auth_state.operations.metrics import serve_metrics
from supabase_auth_state.rest.client import using_rest

HERE = Path(__file__).parent
UNPACKED = HERE.parent / ".devstack" / "prometheus"
CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: whatsapp
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
MAY_BE_EMPTY = ("alert_firing", "events_total", "pool_companies", "_per_minute")
"""What a healthy process without a pool has no series of."""


def expressions() -> list[str]:
    """Return the expressions of the dashboard."""
    dashboard = json.loads((HERE / "dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def program(name: str) -> str:
    """Return the path of a program of Prometheus."""
    folders = [os.environ.get("PROMETHEUS", ""), os.defpath, str(UNPACKED / "usr" / "bin")]
    path = os.pathsep.join(filter(None, folders))
    found = shutil.which(name, path=path)
    if found is None and shutil.which("apt-get"):
        unpack()
        found = shutil.which(name, path=path)
    if found is None:
        sys.exit(f"{name} is missing: name the folder that has it in PROMETHEUS")
    return found


def unpack() -> None:
    """Unpack Debian's package: installed, it would start a server of its own."""
    UNPACKED.mkdir(parents=True, exist_ok=True)
    download = ["apt-get", "download", "-qq", "prometheus"]
    if subprocess.run(download, cwd=UNPACKED, check=False).returncode:
        sys.exit("apt-get cannot download the package prometheus: apt-get update first")
    (package,) = UNPACKED.glob("prometheus_*.deb")
    subprocess.run(["dpkg", "-x", package, UNPACKED], check=True)
    package.unlink()


async def check() -> int:
    """Return how many expressions are wrong, and print them."""
    with LocalStack.start(migrate=True) as stack, tempfile.TemporaryDirectory() as folder:
        settings = Settings(url=stack.url, key=stack.service_role_key)
        async with (
            using_rest(settings) as rest,
            use_supabase_auth_state("scraped", client=rest, lease=True) as auth,
        ):
            for number in range(20):
                await auth.keys.set({"session": {f"{number}.0": {"a": number}}})
                await auth.keys.get("session", [f"{number}.0"])
            await run_cleanup(rest)
            port, stopping = asyncio.get_running_loop().create_future(), asyncio.Event()
            serving = asyncio.ensure_future(
                serve_metrics(rest, stopping, port=0, on_port=port.set_result)
            )
            try:
                text = CONFIG.format(rules=HERE / "alerts.yaml", port=await port)
                (Path(folder) / "prometheus.yml").write_text(text)
                return await _ask(Path(folder))
            finally:
                stopping.set()
                await serving


async def _ask(folder: Path) -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
            await _scraped(client)
            wrong = [each for each in expressions() if not await _has_values(client, each)]
            rules = (await client.get("/rules")).json()["data"]["groups"][0]["rules"]
    finally:
        process.terminate()
        await process.wait()
    wrong += [rule["name"] for rule in rules if rule["health"] == "err"]
    for each in wrong:
        print(f"gives nothing: {each}")
    print(f"{len(expressions())} expressions and {len(rules)} rules, {len(wrong)} wrong")
    return len(wrong)


async def _scraped(client: httpx.AsyncClient) -> None:
    # Two scrapes make a rate, and the second refresh of the statistics a rate of writes.
    for _ in range(300):
        try:
            if await _has_values(client, "rate(whatsapp_auth_commits_total[1m])"):
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.2)
    sys.exit("Prometheus has scraped nothing within a minute")


async def _has_values(client: httpx.AsyncClient, expression: str) -> bool:
    answer: dict[str, Any] = (await client.get("/query", params={"query": expression})).json()
    if answer["status"] != "success":
        return False
    rare = any(name in expression for name in MAY_BE_EMPTY)
    return rare or bool(answer["data"]["result"])


if __name__ == "__main__":
    subprocess.run([program("promtool"), "check", "rules", HERE / "alerts.yaml"], check=True)
    sys.exit(asyncio.run(check()))
