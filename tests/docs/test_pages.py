"""Every command and every snippet of the documentation does what its page says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

import supabase_auth_state.errors
from devstack import LocalStack, Stack
from supabase_auth_state.operations.alert_config import load_alert_config
from tests.acceptance.conftest import command_for
from tests.conftest import remove_companies
from tests.docs.blocks import OUTPUT, ROOT, Block, blocks_of, pages
from tests.docs.given import COMPANY, Given
from tests.docs.shell import Shell

ELSEWHERE = {
    "CHANGELOG.md": "what was",
    "examples/node/README.md": "tests/interop runs the file that it describes",
}
IN_ENGLISH = [
    page
    for page in pages()
    if page not in ELSEWHERE and not page.startswith("docs/ru/") and not page.endswith(".ru.md")
]
NOT_RUN = 8
LANGUAGES = {"python", "console", "sql", "js", "json", "toml", "yaml", "ini"}


class Page:
    """Runs the blocks of one page in order: what one defines, the next ones have."""

    def __init__(self, stack: Stack, company_id: str, cwd: Path) -> None:
        command = command_for(stack, cwd)
        self._stack, self._company_id, self._cwd = stack, company_id, cwd
        self._shell = Shell(command)
        self._names = {"__name__": "__main__", "given": Given(command, company_id)}
        self._loop = asyncio.new_event_loop()

    def run(self, block: Block) -> None:
        """Run a block."""
        self._python(block.setup, block)
        getattr(self, f"_{block.language}")(self._own(block.code), block)
        self._python(block.check, block)

    def close(self) -> None:
        """End what still runs."""
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _own(self, code: str) -> str:
        return code.replace(COMPANY, self._company_id)

    def _python(self, code: str, block: Block) -> None:
        allowed = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compiled = compile("\n" * block.line + self._own(code), block.page, "exec", flags=allowed)
        if compiled.co_flags & inspect.CO_COROUTINE:
            self._loop.run_until_complete(eval(compiled, self._names))  # noqa: S307
        else:
            exec(compiled, self._names)  # noqa: S102

    def _console(self, code: str, block: Block) -> None:
        assert self._shell.run(code) == block.exits

    def _sql(self, code: str, _block: Block) -> None:
        with psycopg.connect(self._stack.db_url) as connection:
            connection.execute(code.encode())
            connection.rollback()

    def _js(self, code: str, _block: Block) -> None:
        program = self._cwd / "block.mjs"
        program.write_text(code)
        subprocess.run(["node", "--check", program], check=True)

    def _yaml(self, code: str, _block: Block) -> None:
        self._names["documents"] = list(yaml.safe_load_all(code))

    def _json(self, code: str, _block: Block) -> None:
        self._names["document"] = json.loads(code)

    def _toml(self, code: str, _block: Block) -> None:
        path = self._cwd / "alerts.toml"
        path.write_text(code)
        names = re.findall(r'_env = "(\w+)"', code)
        load_alert_config(path, env=dict.fromkeys(names, "set"))

    def _ini(self, code: str, _block: Block) -> None:
        self._shell.run("".join(f"export {line}\n" for line in code.splitlines()))


@pytest.fixture(scope="module")
def project(stack: Stack) -> Iterator[Stack]:
    """A project without the companies of other tests: `doctor --all` examines every one."""
    if isinstance(stack, LocalStack):
        with stack.fresh(migrate=True) as fresh:
            yield fresh
    else:
        yield stack


@pytest.fixture
def page(
    project: Stack, company_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Page]:
    monkeypatch.chdir(tmp_path)
    for name, value in project.env().items():
        monkeypatch.setenv(name, value)
    opened = Page(project, company_id, tmp_path)
    yield opened
    opened.close()
    remove_companies(project, company_id)


def runs(name: str) -> bool:
    return any(block.language not in OUTPUT and not block.not_run for block in blocks_of(name))


@pytest.mark.parametrize("name", [name for name in IN_ENGLISH if runs(name)])
def test_the_blocks_of_a_page_run_in_their_order(name: str, page: Page) -> None:
    for block in blocks_of(name):
        if block.language not in OUTPUT and not block.not_run:
            print(block)  # what a failure is about
            page.run(block)


def test_every_block_is_run_or_says_why_not() -> None:
    found = [block for name in IN_ENGLISH for block in blocks_of(name)]
    unknown = [str(b) for b in found if b.language not in {*OUTPUT, *LANGUAGES} and not b.not_run]
    assert unknown == []
    reasons = {str(block): block.not_run for block in found if block.not_run}
    assert all(len(reason.split()) > 3 for reason in reasons.values()), reasons
    # A new one is a decision: first try to run it.
    assert len(reasons) == NOT_RUN, reasons
    assert sum(block.language in LANGUAGES for block in found) > 60


def test_output_hides_no_command() -> None:
    begin = ("supabase-auth-state ", "supabase ", "pip ", "$ ", "export ", "make ")
    shown = [
        str(block)
        for name in IN_ENGLISH
        for block in blocks_of(name)
        if block.language in OUTPUT
        for line in block.code.splitlines()
        if line.startswith(begin) and "[" not in line and "|" not in line
    ]
    assert [place for place in shown if not place.startswith("docs/commands.md")] == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("```console\nls\n```\n", ("console", "", 0)),
        ("<!-- not run: no cluster -->\n```console\nls\n```\n", ("console", "no cluster", 0)),
        ("<!-- setup: a\nb -->\n<!-- exits: 3 -->\n```sql\nls\n```\n", ("sql", "", 3)),
        ("1. x\n\n    ```python\n    a\n    ```\n", ("python", "", 0)),
    ],
)
def test_a_block_is_found_with_what_is_said_of_it(
    code: str, found: tuple[str, str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(code)
    (block,) = blocks_of("page.md")
    assert (block.language, block.not_run, block.exits) == found


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("console", "supabase-auth-state verify nothing --company 962302"),
        ("console", "supabase-auth-state no-such-command"),
        ("console", "supabase db push --no-such-flag"),
        ("console", "pip install supabase-auth-state[no-such-extra]"),
        ("console", "export NO_SUCH_SETTING=1"),
        ("console", "make no-such-target"),
        ("console", "kubectl apply -f x"),
        ("python", "await nothing()"),
        ("python", "from supabase_auth_state import no_such_name"),
        ("sql", "select * from whatsapp_no_such_table"),
        ("js", "const = 1"),
        ("yaml", "a: [1"),
    ],
)
def test_a_block_that_fails_is_noticed(language: str, code: str, page: Page) -> None:
    errors = (AssertionError, NameError, ImportError, psycopg.Error, yaml.YAMLError)
    with pytest.raises((*errors, subprocess.CalledProcessError)):
        page.run(Block("page.md", 1, language, code))


def test_the_reference_has_every_public_name() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md"))
    listed = re.findall(r"^::: supabase_auth_state\.(\w+)$", pages, re.MULTILINE)
    errors = {name for name in dir(supabase_auth_state.errors) if name[0].isupper()}
    assert sorted(listed) == sorted({*supabase_auth_state.__all__} - errors | {"errors"})
