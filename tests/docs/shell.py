"""Runs the lines of a `console` block."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import tomllib

from devstack.migrations import run_cli
from supabase_auth_state.config import Settings
from tests.acceptance.command import Command
from tests.docs.blocks import ROOT

PLACEHOLDER = re.compile(r"<[\w ]+>|…")
OF_THE_SYSTEM = {"cat", "cp", "ls", "mkdir", "mv", "rm", "tar"}


class Shell:
    """A shell of one page: its folder and its exported variables last from block to block."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._exported: dict[str, str] = {}

    def run(self, code: str) -> int:
        """Run all lines, each of which has to succeed but the last; return that one's code."""
        lines = [line.removeprefix("$ ") for line in code.replace("\\\n", " ").splitlines()]
        commands = [words for line in lines if (words := shlex.split(line, comments=True))]
        codes = [self._run(words) for words in commands]
        assert not any(codes[:-1]), list(zip(commands, codes, strict=True))
        return codes[-1]

    def _run(self, words: list[str]) -> int:
        environ = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environ[name] = value
        match words:
            case ["supabase-auth-state", *args]:
                done = self._command(*args, **(self._exported | environ))
                print(done.out, done.err)
                return done.code
            case ["export", *settings]:
                self._export(settings)
            case ["supabase", *args]:
                flags_are_known(args)
            case ["pip", "install", *packages]:
                assert all(is_ours(package) for package in packages)
            case ["make", target, *_]:
                assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
            case [program, *_] if program in OF_THE_SYSTEM:
                return subprocess.run(words, cwd=self._command.cwd, check=False).returncode
            case _:
                raise AssertionError(f"there is no way to run {shlex.join(words)}: say why")
        return 0

    def _export(self, settings: list[str]) -> None:
        for setting in settings:
            name, _, value = setting.partition("=")
            assert re.search(rf"\b{name}\b", known_variables()), f"{name} is no setting of ours"
            if not PLACEHOLDER.search(value):
                self._exported[name] = value


def flags_are_known(args: list[str]) -> None:
    """Check a command of the Supabase CLI, whose projects are elsewhere, against the pinned CLI."""
    words = [word for word in args if not word.startswith("-")]
    described = cli_help(tuple(words[: 2 if words[0] in {"db", "migration"} else 1]))
    for flag in (word.partition("=")[0] for word in args if word.startswith("--")):
        assert flag in described, f"the Supabase CLI has no {flag} in {words}"


@cache
def cli_help(words: tuple[str, ...]) -> str:
    """Return what the pinned Supabase CLI says about a command."""
    return run_cli(*words, "--help", workdir=Path.cwd())


@cache
def known_variables() -> str:
    """Return the texts that name all settings."""
    pages = (ROOT / "docs/commands.md", ROOT / ".env.example", ROOT / "docs/encryption.md")
    return "".join(page.read_text() for page in pages if page.exists()) + str(Settings.__doc__)


def is_ours(package: str) -> bool:
    """Whether a requirement is this package, with extras that it has."""
    found = re.fullmatch(r"supabase-auth-state(?:\[([\w,]+)\])?", package)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    return bool(found) and set((found[1] or "").split(",")) - {""} <= extras
