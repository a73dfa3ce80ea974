"""`make fuzz`: let atheris make inputs for each target, in a process each, and count them.

`--seconds N` for each target, `--only answer settings` for some. What was found is stored in
`.devstack/fuzz/` and fails the run. Needs atheris (`pip install -e .[fuzz]`), which is there for
Linux and for CPython 3.11 to 3.13.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

FOUND = Path(__file__).parents[1] / ".devstack" / "fuzz"
SEEDS = Path(__file__).parents[1] / "tests" / "fixtures" / "baileys" / "v7-small"
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_NAMES = (
    "document", "stored-value", "file-name", "single-file", "answer", "settings", "arguments",
    "journal",
)  # fmt: skip


def main() -> int:
    """Fuzz each target, print a line each, and return 1 when something did not hold."""
    chosen = _parser().parse_args()
    if chosen.target:
        _fuzz(chosen.target, chosen.seconds)
    broken = 0
    for name in chosen.only:
        folder = FOUND / name
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fuzz", "--target", name, "--seconds", str(chosen.seconds)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        runs = _DONE.search(done.stderr)
        if done.returncode != 0 or runs is None:
            broken += 1
            print(f"{name}: FAILED\n{done.stderr[-3000:]}", flush=True)
        else:
            print(f"{name}: {int(runs[1]):,} inputs in {runs[2]} s, nothing found", flush=True)
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", nargs="+", default=_NAMES, choices=_NAMES, metavar="TARGET")
    parser.add_argument("--target", choices=_NAMES, help=argparse.SUPPRESS)
    return parser


def _fuzz(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["supabase_auth_state"]):
        from fuzz.targets import TARGETS
    folder = FOUND / name
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=4096"]
    atheris.Setup(
        ["fuzz", *limits, f"-artifact_prefix={folder}/", str(folder), str(SEEDS)], TARGETS[name]
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
