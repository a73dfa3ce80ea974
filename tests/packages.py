"""Install the wheel and the sdist in clean environments: on every Python, with each extra alone.

    python -m tests.packages [3.14]

Each environment imports the package, reads the migrations, and has the real Supabase client. The
extras for work on this project are installed on this Python only. With a release, only that one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tomllib

from tests.matrix import Python, pythons

PROJECT = Path(__file__).resolve().parents[1]
NEEDS = {"waeys": (3, 11), "pyaileys": (3, 11)}
"""The first Python that what an extra brings can be had for."""
OURS = {"bench", "dev", "docs", "fuzz", "stack", "test"}
"""Extras for work on this project, which has one Python."""
FORMS = {"wheel": "*.whl", "sdist": "*.tar.gz"}
CHECK = """
import importlib.metadata, supabase, supabase_auth_state as ours
from supabase_auth_state.cli.migration_files import migration_files
assert hasattr(supabase, "create_client"), "the real client"
assert importlib.metadata.version("supabase-auth-state") == ours.__version__
assert len(migration_files()) >= 8
for name in ours.__all__: getattr(ours, name)
"""


def extras() -> list[str]:
    """Return the names of the extras in pyproject.toml."""
    found = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    return list(found["project"]["optional-dependencies"])


def build(where: Path) -> None:
    """Build the sdist, and the wheel from it."""
    run(sys.executable, "-m", "build", "--outdir", str(where), str(PROJECT))


def installations(python: Python) -> Iterator[tuple[str, str]]:
    """Yield what to install on a Python: the form, and an extra or ""."""
    yield from ((form, "") for form in FORMS)
    for extra in extras():
        here = python.program == Path(sys.executable)
        if here if extra in OURS else python.feature >= NEEDS.get(extra, ()):
            yield "wheel", extra


def check(python: Python, dist: Path, form: str, extra: str) -> str:
    """Install in a new environment, use it there, and return what was shown."""
    (package,) = dist.glob(FORMS[form])
    with tempfile.TemporaryDirectory(prefix="packages-") as folder:
        run(str(python.program), "-m", "venv", folder)
        program = str(Path(folder) / "bin" / "python")
        wanted = f"{package}[{extra}]" if extra else str(package)
        run(program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted)
        run(program, "-m", "pip", "check", "--disable-pip-version-check")
        run(program, "-c", CHECK, cwd=folder)
        if extra in {"waeys", "pyaileys"}:
            run(program, "-c", f"import supabase_auth_state.{extra}", cwd=folder)
        said = run(str(Path(folder) / "bin" / "supabase-auth-state"), "--version", cwd=folder)
        assert re.search(r"\d+\.\d+", said), said
    return f"Python {python}: {form}{f' [{extra}]' if extra else ''}"


def run(*command: str, cwd: str | Path = PROJECT) -> str:
    """Run a program, and fail with what it printed."""
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main(release: tuple[int, ...] | None = None) -> None:
    """Install everything everywhere, or on one release; a line for each."""
    with tempfile.TemporaryDirectory(prefix="dist-") as folder:
        dist = Path(folder)
        build(dist)
        wanted = [python for python in pythons() if release in {None, python.feature}]
        if not wanted:
            raise SystemExit(f"no Python {release} is here")
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            shown = [
                threads.submit(check, python, dist, form, extra)
                for python in wanted
                for form, extra in installations(python)
            ]
            for done in shown:
                print(done.result(), flush=True)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1].split("."))) if sys.argv[1:] else None)
