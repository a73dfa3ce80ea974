"""One stack, one dashboard and one Chromium for all tests of the pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

from devstack import LocalStack

from .world import fill, serving

PATIENCE = 15_000
"""Milliseconds: a machine may be busy."""
expect.set_options(timeout=PATIENCE)


@dataclass
class Seen:
    """What a page did beyond what it shows.

    Attributes:
        problems: errors on the console, exceptions, requests to other hosts.
        answers: how many answers came.
    """

    address: str
    problems: list[str] = field(default_factory=list)
    answers: int = 0

    def watch(self, page: Page) -> None:
        """Look at everything that a page loads and says."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("response", self._answer)

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(f"console: {message.text}")

    def _answer(self, response: Response) -> None:
        self.answers += 1
        if not response.url.startswith(f"{self.address}/"):
            self.problems.append(f"another host: {response.url}")


@pytest.fixture(scope="module")
def project(local_stack: LocalStack) -> Iterator[LocalStack]:
    """A project of its own with a thousand companies."""
    with local_stack.fresh(migrate=True) as stack:
        fill(stack)
        yield stack


@pytest.fixture(scope="module")
def address(project: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the dashboard is."""
    with serving(project, tmp_path_factory.mktemp("dashboard")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "apt-get install chromium"
    with sync_playwright() as playwright:
        # A container's root may not make the sandbox; every page here is ours.
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def look(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Open pages: ``look(color_scheme="dark")``. A problem that one has fails the test."""
    contexts = []
    seen = Seen(address)

    def make(**options: Any) -> Page:
        context = browser.new_context(base_url=address, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        seen.watch(page)
        return page

    make.seen = seen  # type: ignore[attr-defined]
    yield make
    for context in contexts:
        context.close()
    assert seen.problems == []
    assert seen.answers


@pytest.fixture
def project_db(project: LocalStack) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the project's database."""
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        yield connection


AXE = (Path(__file__).parents[1] / "node" / "node_modules" / "axe-core" / "axe.min.js").read_text
