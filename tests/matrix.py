"""Run the unit tests on every Python that is here, and on every event loop.

    python -m tests.matrix [--prepare] [--all]

Pythons are looked for in PATH and among those of pyenv. Each but this one gets an environment in
`.devstack/matrix`; `--prepare` makes these and runs nothing. Without `--all` it is this one and the
newest, and only the newest runs what needs no event loop, because CI has a quarter of an hour.
Fails when a test does, and when fewer than two Pythons are here.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = PROJECT / ".devstack" / "matrix"

OLDEST = (3, 10)
CONSTRAINED = (3, 11)
"""From here on the versions of constraints.txt can be had; older Pythons get what suits them."""
EAGER = (3, 12)
"""From here on asyncio has eager tasks."""
FEWEST = 2

PROBE = "import ensurepip, sys, venv; print(*sys.version_info[:3], sys.executable)"


@dataclass(frozen=True, order=True)
class Python:
    """An interpreter."""

    version: tuple[int, int, int]
    program: Path

    def __str__(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def feature(self) -> tuple[int, int]:
        """The release without its last number, as (3, 12)."""
        return self.version[:2]

    def loop(self, *, newest: bool) -> str:
        """Return the event loop to run its tests on: another one than `make test` on this one."""
        if newest and self.feature >= EAGER:
            return "eager"
        return "uvloop" if self.program == Path(sys.executable) else "asyncio"


def pythons() -> list[Python]:
    """Return the newest interpreter of each release, this process's own for its release."""
    newest: dict[tuple[int, int], Python] = {}
    for python in sorted(filter(None, map(probe, candidates()))):
        newest[python.feature] = python
    newest[sys.version_info[:2]] = Python(sys.version_info[:3], Path(sys.executable))
    return [newest[feature] for feature in sorted(newest) if feature >= OLDEST]


def candidates() -> Iterator[Path]:
    """Yield programs that may be interpreters."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path(folder) for folder in os.get_exec_path()]
    folders += [folder / "bin" for folder in (pyenv / "versions").glob("*")]
    for folder in folders:
        for program in folder.glob("python3.*"):
            if re.fullmatch(r"python3\.\d+", program.name):
                yield program


def probe(program: Path) -> Python | None:
    """Return the interpreter that a program is; None when it cannot make environments."""
    done = subprocess.run([program, "-I", "-c", PROBE], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        return None
    *version, executable = done.stdout.split(maxsplit=3)
    major, minor, micro = map(int, version)
    return Python((major, minor, micro), Path(executable.strip()))


def environment(python: Python) -> Path:
    """Return the interpreter of an environment with the package and what its tests need.

    Raises:
        CalledProcessError: it cannot be made.
    """
    if python.program == Path(sys.executable):
        return python.program
    folder = ENVIRONMENTS / str(python)
    program = folder / "bin" / "python"
    installed = folder / ".installed"
    if not installed.exists() or installed.read_text() != fingerprint():
        subprocess.run(
            [python.program, "-m", "venv", "--clear", "--without-pip", folder], check=True
        )
        constraints = ["-c", "constraints.txt"] if python.feature >= CONSTRAINED else []
        pip = [sys.executable, "-m", "pip", "--python", program, "--disable-pip-version-check"]
        install = ["install", "--quiet", "--no-compile", *constraints, "-e", ".[test,dashboard]"]
        subprocess.run([*pip, *install], check=True, cwd=PROJECT)
        installed.write_text(fingerprint())
    return program


def fingerprint() -> str:
    """Name what is to be installed."""
    wanted = [(PROJECT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join(wanted)).hexdigest()[:12]


def passes(python: Python, *, newest: bool, whole: bool) -> bool:
    """Run the unit tests, `whole` or those that need an event loop; return whether they pass."""
    loop = python.loop(newest=newest)
    say(f"Python {python}, {loop}: {python.program}")
    tests = ["pytest", "-n", "auto", "-q", "--loops", loop, "tests/unit"]
    if not whole:
        tests.append("--only-async")
    try:
        subprocess.run([environment(python), "-m", *tests], check=True, cwd=PROJECT)
    except subprocess.CalledProcessError as error:
        say(f"FAILED: {error}")
        return False
    return True


def say(words: str) -> None:
    """Print words that stand out between the lines of pytest."""
    print(f"=== {words}", flush=True)


def main() -> int:
    """Run all, and return the exit code."""
    found = pythons()
    every = "--all" in sys.argv
    if not every:
        mine = [python for python in found if python.program == Path(sys.executable)]
        found = sorted({*mine, found[-1]})
    if "--prepare" in sys.argv:
        for python in found:
            environment(python)
        return 0
    failed = [
        python
        for python in found
        if not passes(python, newest=python == found[-1], whole=every or python == found[-1])
    ]
    say(f"unit tests have run on Python {', '.join(map(str, found))}")
    if failed:
        say(f"they FAILED on {', '.join(map(str, failed))}")
    if len(found) < FEWEST:
        say(f"FAILED: {FEWEST} Pythons are needed; install another one, with pyenv for example")
    return bool(failed) or len(found) < FEWEST


if __name__ == "__main__":
    sys.exit(main())
