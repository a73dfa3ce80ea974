"""What the library relies on of the Supabase client's builders, whose `request` is not documented.

Held for the lowest and the newest version that pyproject.toml allows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LOWEST = "2.33.0"
CACHE = Path(__file__).parents[2] / ".devstack" / f"postgrest-{LOWEST}"

PROGRAM = """
import json
from importlib.metadata import version

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.types import ReturnMethod

headers = {"apikey": "k", "Authorization": "Bearer k"}
client = AsyncPostgrestClient(
    "http://project.test/rest/v1", schema="whatsapp", headers=headers,
    http_client=httpx.AsyncClient(),
)
row = {"company_id": "c", "value": None}
queries = {
    "upsert": client.from_("whatsapp_keys").upsert(
        [row], on_conflict="company_id,key_type,key_id", returning=ReturnMethod.minimal
    ),
    "rpc": client.rpc("f", {"p_company_id": "c", "p_keys": None}),
    "select": client.from_("whatsapp_auth").select("company_id").gt("company_id", "").limit(2),
}


def described(query):
    request = query.request
    assert request.session is client.session
    return {
        "method": str(getattr(request.http_method, "value", request.http_method)),
        "url": str(request.path),
        "params": dict(request.params.items()),
        "headers": dict(request.headers.items()),
        "json": request.json,
        "auth": request.auth,
    }


found = {name: described(query) for name, query in queries.items()}
print(json.dumps({"version": version("postgrest"), **found}))
"""


def built_by(python_path: Path | None) -> dict[str, Any]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        env["PYTHONPATH"] = str(python_path)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        check=True,
        capture_output=True,
        text=True,
        env=env,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def lowest() -> Path:
    """Install the lowest version into a folder of its own, once."""
    if not CACHE.exists():
        beside = CACHE.with_name(f"{CACHE.name}.{os.getpid()}")
        command = ["pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run(
            [sys.executable, "-m", *command, "--target", beside, f"postgrest=={LOWEST}"],
            check=True,
            timeout=120,
        )
        try:
            beside.rename(CACHE)
        except OSError:
            assert CACHE.exists(), "another worker was first"
    return CACHE


@pytest.mark.parametrize("which", ["installed", "lowest"])
def test_the_builders_make_the_requests_that_are_sent(which: str) -> None:
    found = built_by(lowest() if which == "lowest" else None)
    assert which == "installed" or found["version"] == LOWEST

    upsert, rpc, select = found["upsert"], found["rpc"], found["select"]
    assert (upsert["method"], upsert["url"]) == (
        "POST",
        "http://project.test/rest/v1/whatsapp_keys",
    )
    columns = set(upsert["params"].pop("columns").replace('"', "").split(","))
    assert columns == {"company_id", "value"}
    assert upsert["params"] == {"on_conflict": "company_id,key_type,key_id"}
    assert set(upsert["headers"]["prefer"].split(",")) == {
        "return=minimal",
        "resolution=merge-duplicates",
    }
    assert upsert["json"] == [{"company_id": "c", "value": None}]

    assert (rpc["method"], rpc["url"], rpc["params"]) == (
        "POST",
        "http://project.test/rest/v1/rpc/f",
        {},
    )
    assert rpc["json"] == {"p_company_id": "c", "p_keys": None}

    assert (select["method"], select["url"], select["json"]) == (
        "GET",
        "http://project.test/rest/v1/whatsapp_auth",
        None,
    )
    assert select["params"] == {"select": "company_id", "company_id": "gt.", "limit": "2"}

    for request in (upsert, rpc, select):
        assert request["auth"] is None
        assert request["headers"]["apikey"] == "k"
        assert request["headers"]["authorization"] == "Bearer k"
        assert "whatsapp" in {
            request["headers"].get("content-profile"),
            request["headers"].get("accept-profile"),
        }


def test_the_lowest_version_is_the_one_that_is_allowed() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'"postgrest>={LOWEST.removesuffix(".0")},<3"' in project
