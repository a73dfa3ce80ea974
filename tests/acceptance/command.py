"""The installed command, run as a person or a script would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("supabase-auth-state")
TIMEOUT = 120


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code.
        out: its standard output.
        err: its standard error.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON values on standard output, one to a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """Runs `supabase-auth-state` in a folder of its own, with the environment it is given."""

    def __init__(self, cwd: Path, environ: Mapping[str, str]) -> None:
        self.cwd = cwd
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("SUPABASE_")
        } | dict(environ)

    def __call__(self, *args: str | Path, **environ: str) -> Ended:
        """Run it to its end."""
        done = subprocess.run(
            [COMMAND, *args],
            check=False,
            cwd=self.cwd,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert "Traceback" not in done.stderr or "-vv" in args
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *args: str | Path) -> subprocess.Popen[str]:
        """Start it, and leave it running."""
        return subprocess.Popen(
            [COMMAND, *args],
            cwd=self.cwd,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
