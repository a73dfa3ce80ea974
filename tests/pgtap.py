"""Run the pgTAP tests in `supabase/tests`, as `supabase test db` does in a user's project.

    python -m tests.pgtap

pgTAP is an extension in SQL alone, which Debian packages; psql runs the tests in a local stack.
Fails when a test does, when a file breaks off, and when no test was run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from devstack import LocalStack
from devstack.binaries import postgres_package

PROJECT = Path(__file__).resolve().parents[1]
TESTS = PROJECT / "supabase" / "tests"
KEPT = PROJECT / ".devstack" / "pgtap"
PACKAGE = "postgresql-15-pgtap"
INSIDE = "usr/share/postgresql/15/extension"


def install_pgtap(stack: LocalStack) -> None:
    """Make pgTAP an extension of a stack, from its Debian package."""
    if not (KEPT / INSIDE).exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        download = ["apt-get", "-qq", "download", PACKAGE]
        if subprocess.run(download, cwd=KEPT, check=False).returncode:
            # A new machine has no lists of packages yet.
            subprocess.run(["apt-get", "-qq", "update"], check=True)
            subprocess.run(download, cwd=KEPT, check=True)
        for package in KEPT.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, KEPT], check=True)
    extensions = postgres_package() / "native" / "share" / "postgresql" / "extension"
    for path in (KEPT / INSIDE).iterdir():
        shutil.copy(path, extensions)
    with stack.cluster.superuser("postgres") as admin:
        admin.execute("create extension pgtap with schema extensions")


def psql(db_url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", db_url, *options],
        capture_output=True,
        text=True,
        check=False,
    )


def outcome(tap: str) -> tuple[int, int]:
    """Count the tests that passed and that failed; one that was planned and not run has failed."""
    passed = len(re.findall(r"^ok \d+", tap, re.MULTILINE))
    failed = len(re.findall(r"^not ok \d+", tap, re.MULTILINE))
    planned = re.search(r"^1\.\.(\d+)$", tap, re.MULTILINE)
    unrun = 1 if planned is None else int(planned[1]) - passed - failed
    return passed, failed + abs(unrun)


def main() -> int:
    """Run every file, print what pgTAP says, and return the exit code."""
    passed = failed = 0
    with LocalStack.start() as stack:
        install_pgtap(stack)
        for path in sorted(TESTS.glob("*.sql")):
            found = psql(stack.db_url, "-v", "ON_ERROR_STOP=1", "-f", str(path))
            print(path.name, found.stdout, found.stderr, sep="\n", end="")
            counts = outcome(found.stdout)
            passed += counts[0]
            failed += counts[1] + (found.returncode != 0)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
