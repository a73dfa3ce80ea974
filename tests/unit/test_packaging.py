"""What is handed out: the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in the wheel."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*build, str(PROJECT)], check=True, capture_output=True)
    (built,) = out.iterdir()
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


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
