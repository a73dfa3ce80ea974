"""Two versions of this library side by side: each in a process of the Python of its checkout."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contestants.process import Process

SCRIPT = Path(__file__).parents[1] / "worker.py"
THIS, OTHER = "this checkout", "the other checkout"


def worker(checkout: Path, url: str, key: str) -> Process:
    """Return a process that drives the library as it is installed in a checkout's `.venv`.

    Args:
        checkout: the folder, after `make setup`.
        url: the API of the project that it works on.
        key: the project's service key.
    """
    # -I: neither this folder nor the working directory may hide what is installed there.
    return Process(str(checkout / ".venv" / "bin" / "python"), "-I", str(SCRIPT), url, key)
