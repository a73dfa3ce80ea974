"""What is handed out: the wheel."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def build_wheel(out: Path, **environ: str) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    environment = {**os.environ, **environ}
    subprocess.run([*command, str(PROJECT)], check=True, capture_output=True, env=environment)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as it is built for a release."""
    return build_wheel(tmp_path_factory.mktemp("wheel"), SOURCE_DATE_EPOCH="1760000000")


@pytest.fixture(scope="module")
def wheel(built: Path) -> list[str]:
    """The names of the files in the wheel."""
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_two_builds_are_the_same_file(built: Path, tmp_path: Path) -> None:
    """Wherever and whenever it is built: another folder, umask, time zone and hash seed."""
    before = os.umask(0o077)
    try:
        again = build_wheel(
            tmp_path / "again",
            SOURCE_DATE_EPOCH="1760000000",
            TZ="Asia/Tokyo",
            PYTHONHASHSEED="7",
        )
    finally:
        os.umask(before)
    digests = [hashlib.sha256(each.read_bytes()).hexdigest() for each in (built, again)]
    assert digests[0] == digests[1]


def lines_with_hashes(lock: str) -> list[str]:
    """Return the locked packages, each with its version and hashes; fail if one has no hash."""
    text = (PROJECT / lock).read_text()
    found = re.findall(r"^[\w.-]+==(?:.* \\\n)+    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^\w", text, flags=re.MULTILINE))
    return found


def test_every_locked_version_has_a_hash_and_is_that_of_the_constraints() -> None:
    locked = lines_with_hashes("requirements.lock")
    versions = [re.findall(r"^([\w.-]+)==([\w.]+)", line)[0] for line in locked]
    constraints = dict(
        line.lower().replace("_", "-").split("==")
        for line in (PROJECT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    assert len(locked) > 50
    unlike = {name: version for name, version in versions if constraints.get(name) != version}
    assert {name for name in unlike if name in constraints} == set()


def test_what_the_demo_installs_is_a_part_of_what_is_locked() -> None:
    demo = lines_with_hashes("requirements-stack.lock")
    assert set(demo) <= set(lines_with_hashes("requirements.lock"))
    wanted = importlib.metadata.requires("supabase-auth-state") or []
    ours = {re.split(r"[^\w.-]", line)[0] for line in wanted if ";" not in line}
    assert ours <= {line.partition("==")[0] for line in demo}


def test_wheel_holds_our_package_and_nothing_else(wheel: list[str]) -> None:
    """A folder `supabase` above all would be written into the real client."""
    tops = {name.partition("/")[0] for name in wheel}

    assert {top.partition("-")[0] for top in tops} == {"supabase_auth_state"}
    assert len(tops) == 2  # the other one is its metadata


def test_wheel_holds_every_migration(wheel: list[str]) -> None:
    migrations = (PROJECT / "supabase" / "migrations").glob("*.sql")
    expected = [f"supabase_auth_state/migrations/{path.name}" for path in migrations]

    assert expected
    assert set(expected) <= set(wheel)


def test_wheel_says_that_it_is_typed(wheel: list[str]) -> None:
    assert "supabase_auth_state/py.typed" in wheel
