"""Releases: one version, notes from the changelog, workflows that run the same commands."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import supabase_auth_state
from devstack.binaries import DevstackError
from devstack.release_notes import CHANGELOG, main, release_notes

PROJECT = Path(__file__).resolve().parents[2]
WORKFLOWS = PROJECT / ".github" / "workflows"
NODE = PROJECT / "tests" / "node" / "node_modules"


def test_the_version_stands_in_one_place() -> None:
    pyproject = (PROJECT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in pyproject
    assert re.search(r"^version = ", pyproject, re.MULTILINE) is None
    installed = importlib.metadata.version("supabase-auth-state")
    assert installed == supabase_auth_state.__version__


def test_the_notes_of_a_release_are_its_entry_in_the_changelog() -> None:
    notes = release_notes(CHANGELOG.read_text(), "0.3.0")
    assert notes.startswith("Apply the migrations")
    assert "### Fixed" in notes
    assert "\n## [" not in notes


@pytest.mark.parametrize(
    ("changelog", "why"),
    [("## [0.9.0] (unreleased)\n\ntext\n", "no date"), ("## [0.8.0] - 2026-01-01\n", "no entry")],
)
def test_a_release_without_a_dated_entry_has_no_notes(changelog: str, why: str) -> None:
    with pytest.raises(DevstackError, match=why):
        release_notes(changelog, "0.9.0")


def test_a_tag_of_another_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("99.0.0") == 1
    assert supabase_auth_state.__version__ in capsys.readouterr().err


def test_workflows_run_the_commands_that_developers_run() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    text = "".join(path.read_text() for path in WORKFLOWS.glob("*.yml"))
    called = set(re.findall(r"\bmake ([a-z]+)", re.sub(r"#.*", "", text)))
    assert {"test", "packages", "notes", "dist"} <= called
    assert called - {"test against it"} <= targets
    assert "- run: .ci/run" in text
    audit = (WORKFLOWS / "audit.yml").read_text()
    for line in ("- run: make audit", "- cron: ", "**/package-lock.json"):
        assert line in audit
    assert "supabase start" in text


def test_actions_are_pinned_by_commit_each_by_one() -> None:
    used = [
        match.groups()
        for path in sorted(WORKFLOWS.glob("*.yml"))
        for match in re.finditer(
            r"uses: (\S+)@(\S+)(?: # (v[\d.]+))?$", path.read_text(), re.MULTILINE
        )
    ]
    text = "".join(path.read_text() for path in WORKFLOWS.glob("*.yml"))
    assert len(used) == text.count("uses: ") > 8
    for name, commit, version in used:
        assert re.fullmatch("[0-9a-f]{40}", commit), f"{name}@{commit}"
        assert version is not None, name
    assert len({name for name, _, _ in used}) == len(set(used))


def test_hooks_of_pre_commit_are_the_linters_of_make_lint_and_download_nothing() -> None:
    config = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())
    (repo,) = config["repos"]
    assert repo["repo"] == "local"
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    hooks = {Path(hook["entry"].split()[0]).name for hook in repo["hooks"]}
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert hooks == {Path(line.split()[0]).name for line in recipe[1].splitlines()}


def test_publishing_is_trusted_attested_and_needs_no_secret() -> None:
    text = (WORKFLOWS / "release.yml").read_text()
    assert "id-token: write" in text
    assert "attest-build-provenance" in text
    assert "secrets." not in text
    assert "password:" not in text


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's Python, as files of a user's project."""
    folder = tmp_path_factory.mktemp("examples")
    found = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    assert len(found) >= 2
    for number, code in enumerate(found):
        (folder / f"example_{number}.py").write_text(code)
    (folder / "wrong.py").write_text(
        "import supabase_auth_state as s\ns.use_supabase_auth_state(company=1)\n"
    )
    return folder


def checked(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_users_of_mypy_strict_see_types(examples: Path) -> None:
    said = checked(sys.executable, "-m", "mypy", "--strict", ".", cwd=examples)
    assert {line.partition(":")[0] for line in said.splitlines() if ": error:" in line} == {
        "wrong.py"
    }, said


def test_users_of_pyright_see_types(examples: Path) -> None:
    program = NODE / ".bin" / "pyright"
    said = checked(str(program), "--pythonpath", sys.executable, ".", cwd=examples)
    wrong = {Path(found).name for found in re.findall(r"(\S+\.py):\d+:\d+ - error", said)}
    assert wrong == {"wrong.py"}, said
