"""Apply migrations with the Supabase CLI."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from devstack import binaries
from devstack.binaries import DevstackError

# Without these the CLI reports its use and looks for a newer version.
_OFFLINE = dict.fromkeys(
    ("DO_NOT_TRACK", "SUPABASE_NO_UPDATE_NOTIFIER", "SUPABASE_TELEMETRY_DISABLED"), "1"
)


def run_cli(*arguments: str, workdir: Path, timeout: float = 120.0) -> str:
    """Run the Supabase CLI in `workdir`, offline and with a home folder of its own.

    Returns:
        What it printed on standard output.

    Raises:
        DevstackError: It failed; with everything it printed.
    """
    with tempfile.TemporaryDirectory(prefix="supabase-home-") as home:
        done = subprocess.run(
            [str(binaries.supabase_cli()), *arguments, "--workdir", str(workdir), "--agent", "no"],
            env={"PATH": os.defpath, "HOME": home, "SUPABASE_HOME": home, **_OFFLINE},
            cwd=workdir,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    if done.returncode != 0:
        command = " ".join(arguments)
        raise DevstackError(f"supabase {command} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def push_migrations(db_url: str, workdir: Path) -> None:
    """Apply every migration of `workdir/supabase/migrations` that the database has not had yet."""
    run_cli("db", "push", f"--remote={db_url}", "--yes", workdir=workdir)
