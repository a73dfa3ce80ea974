"""What holds for every unit test: it ends soon and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ENDS_WITHIN = 60
"""Seconds; the slowest takes three. What takes longer hangs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make a test that hangs a failure with a name."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(ENDS_WITHIN))


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    """Fail when a test leaves a socket behind."""
    before = open_sockets()
    yield
    assert open_sockets() <= before


@pytest.fixture(autouse=True)
async def no_task_is_left(no_socket_is_left: None) -> AsyncIterator[None]:
    """Fail when a test leaves a task behind."""
    yield
    assert asyncio.all_tasks() - {asyncio.current_task()} == set()


@pytest.fixture
def fresh_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Give a log in which no task that an earlier test has left will complain."""
    gc.collect()
    caplog.clear()
    return caplog


def open_sockets() -> set[str]:
    """Name the sockets that this process has open."""
    links = set()
    # Elsewhere than on Linux there is no such folder, and nothing to be seen.
    for descriptor in Path("/proc/self").glob("fd/*"):
        with suppress(FileNotFoundError):
            links.add(str(descriptor.readlink()))
    return {link for link in links if link.startswith("socket:")}
