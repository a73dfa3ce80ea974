"""What the README shows is what happens."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from devstack import LocalStack, Stack
from devstack.migrations import run_cli
from supabase_auth_state.cli.main import build_parser
from tests.acceptance.command import Command
from tests.acceptance.conftest import Sample, command_for
from tests.docs.blocks import ROOT, blocks_of

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return [block.code for block in blocks_of("README.md") if block.language == language]


def commands() -> list[list[str]]:
    """The commands of the first example, without comments."""
    return [shlex.split(line, comments=True) for line in blocks("console")[1].splitlines()]


def example(
    number: int, stack: Stack, company_id: str, cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run a Python example as it stands, but for the company."""
    code = blocks("python")[number]
    assert '"962302"' in code
    program = cwd / "example.py"
    program.write_text(code.replace("962302", company_id))
    return subprocess.run(
        [sys.executable, program],
        env=os.environ | stack.env(),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def output(number: int, stack: Stack, company_id: str, cwd: Path) -> str:
    done = example(number, stack, company_id, cwd)
    assert done.stderr == ""
    return done.stdout


def test_the_first_commands_lead_from_an_empty_folder_to_a_company_that_can_be_read(
    fresh_stack: Callable[..., LocalStack], sample: Sample, tmp_path: Path
) -> None:
    project = fresh_stack()
    assert [command[:3] for command in commands()] == [
        ["pip", "install", "supabase-auth-state"],
        ["supabase", "init"],
        ["supabase", "link", "--project-ref"],
        ["supabase-auth-state", "migrations", "install"],
        ["supabase", "db", "push"],
        [
            "export",
            "SUPABASE_URL=https://<ref>.supabase.co",
            "SUPABASE_SERVICE_ROLE_KEY=sb_secret_…",
        ],
        ["supabase-auth-state", "import", "auth/962302"],
    ]
    _, init, _, copy, push, _, import_ = commands()
    sample("v7-small", "auth/962302")
    run = command_for(project, tmp_path)

    run_cli(*init[1:], workdir=tmp_path)
    assert run(*copy[1:]).code == 0
    # `link` stores for `--remote` which project it means, by way of Supabase's own servers.
    assert push[3:] == ["--remote", "--yes"]
    run_cli("db", "push", f"--remote={project.db_url}", "--yes", workdir=tmp_path)
    project.reload_schema()
    assert run(*import_[1:]).code == 0
    registration, found = output(0, project, "962302", tmp_path).splitlines()
    creds = json.loads((tmp_path / "auth" / "962302" / "creds.json").read_text())
    assert int(registration) == creds["registrationId"]
    assert ast.literal_eval(found) == []


def test_the_flags_of_the_first_commands_are_those_of_the_pinned_cli(tmp_path: Path) -> None:
    help_of = {
        command: run_cli(*command.split(), "--help", workdir=tmp_path)
        for command in ("init", "link", "db push")
    }
    assert "--project-ref" in help_of["link"]
    assert "--remote" in help_of["db push"]
    assert "--yes" in help_of["db push"]
    # Why `--remote` is there at all.
    assert "Local by default" in help_of["db push"]


def test_the_first_example_changes_nothing(
    stack: Stack, company_id: str, tmp_path: Path, run: Command, sample: Sample
) -> None:
    run("import", sample("v7-small"), "--company", company_id)
    output(0, stack, company_id, tmp_path)
    assert run("verify", "auth", "--company", company_id).code == 0
    mistyped = example(0, stack, f"{company_id}-mistyped", tmp_path)
    assert "CompanyNotFound: company" in mistyped.stderr


def test_the_second_example_connects_and_writes(
    stack: Stack, company_id: str, tmp_path: Path, db: psycopg.Connection[Any]
) -> None:
    assert output(1, stack, company_id, tmp_path) == ""
    rows = db.execute(
        "select key_type, key_id from whatsapp_keys where company_id = %s", [company_id]
    )
    assert rows.fetchall() == [("session", "15550100001.0")]


def test_a_process_that_is_started_again_under_its_name_has_its_lease_at_once(
    stack: Stack, company_id: str, tmp_path: Path, db: psycopg.Connection[Any]
) -> None:
    assert 'owner="worker-1"' in blocks("python")[1]
    # Its predecessor died with an hour left.
    db.execute("select acquire_whatsapp_lease(%s, 'worker-1', 3600)", [company_id])
    assert output(1, stack, company_id, tmp_path) == ""


def test_every_command_is_in_the_readme() -> None:
    (commands,) = (action.choices for action in build_parser()._actions if action.dest == "command")
    assert commands is not None
    assert [name for name in commands if f"`{name}`" not in README] == []


def test_every_file_that_the_readme_points_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 8
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (ROOT / link).exists()] == []
