"""What the README shows is what happens."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from devstack import Stack
from supabase_auth_state.cli.main import build_parser

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_example_runs_as_it_stands(stack: Stack, company_id: str, tmp_path: Path) -> None:
    (code,) = blocks("python")
    assert '"962302"' in code
    program = tmp_path / "example.py"
    program.write_text(code.replace("962302", company_id))
    done = subprocess.run(
        [sys.executable, program],
        env=stack.env(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    registration, found = done.stdout.splitlines()
    assert 0 <= int(registration) < 2**14
    assert ast.literal_eval(found) == {"15550100001.0": {"_sessions": {}, "version": "v1"}}


def test_every_command_is_in_the_readme() -> None:
    (commands,) = (action.choices for action in build_parser()._actions if action.dest == "command")
    assert commands is not None
    assert [name for name in commands if f"`{name}`" not in README] == []


def test_every_file_that_the_readme_points_to_is_there() -> None:
    root = Path(__file__).parents[2]
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 8
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (root / link).exists()] == []
