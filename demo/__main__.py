"""A folder that Baileys wrote goes into Supabase and comes back, and real Baileys goes on with it.

Runs on a local stack of its own, or on the project that SUPABASE_URL and its companions name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from devstack import open_stack

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "tests" / "fixtures" / "baileys" / "v7-337"
COMMAND = Path(sys.executable).with_name("supabase-auth-state")
COMPANY = ("--company", "demo")


class Demo:
    """Runs programs in a folder, and shows what was run and what it printed."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.environ = {**os.environ, **environ}

    def command(self, *args: str) -> None:
        """Run `supabase-auth-state`."""
        self._run("supabase-auth-state", COMMAND, *args)

    def python(self, script: Path) -> None:
        """Show a program, and run it."""
        code = script.read_text().split('"""\n', 1)[1].strip()
        print("\n" + "\n".join(f"    {line}".rstrip() for line in code.splitlines()))
        self._run("python", sys.executable, script)

    def node(self, script: Path, *args: str) -> None:
        """Run a program in Node."""
        self._run("node", "node", script, *args)

    def _run(self, shown: str, program: str | Path, *args: str | Path) -> None:
        words = [arg.name if isinstance(arg, Path) else arg for arg in args]
        print(f"\n$ {shown} {' '.join(words)}", flush=True)
        done = subprocess.run(
            [program, *args], cwd=self.folder, env=self.environ, check=False, timeout=300
        )
        if done.returncode:
            sys.exit(f"the demo ends here: exit code {done.returncode}")


def say(text: str) -> None:
    """Print what comes next."""
    print(f"\n== {text}", flush=True)


def show(demo: Demo) -> None:
    """Run the demo, step by step."""
    say("1. An auth folder of Baileys 7 goes into the database")
    demo.command("import", "auth", *COMPANY)
    demo.command("stats")
    say("2. A program reads it")
    demo.python(HERE / "read_keys.py")
    say("3. It comes back as a folder, with the same values")
    demo.command("export", "exported", *COMPANY)
    demo.command("verify", "exported", *COMPANY)
    say("4. Real Baileys opens that folder and goes on with it")
    demo.node(HERE / "baileys-check.mjs", "exported")


def main() -> None:
    """Start a stack, run the demo on it, and leave nothing behind."""
    say("0. A local Supabase: PostgreSQL 17, PostgREST, a gateway, and `supabase db push`")
    started = time.monotonic()
    with open_stack() as stack, tempfile.TemporaryDirectory() as folder:
        print(f"{stack.url}, ready after {time.monotonic() - started:.1f} s")
        auth = Path(shutil.copytree(SAMPLE, Path(folder, "auth"), copy_function=shutil.copyfile))
        # Younger than seven days and older than a moment: in a checkout, files have no age.
        changed = time.time() - 3600
        for path in auth.iterdir():
            os.utime(path, (changed, changed))
        show(Demo(Path(folder), stack.env()))
    print("\nBack and forth, and every conversation goes on.")


if __name__ == "__main__":
    main()
