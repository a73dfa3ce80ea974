"""SIGINT and SIGTERM end the installed command, whatever the server or a file does meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from devstack import LocalStack
from tests.acceptance.command import Command
from tests.acceptance.conftest import Sample, command_for
from tests.acceptance.test_commands import row_in_the_way, until, waits_for

signals = pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=["SIGINT", "SIGTERM"],
)


@contextmanager
def started(run: Command, *args: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A command that does not outlive the test, even when it ignores signals."""
    with run.start(*args) as process:
        try:
            yield process
        finally:
            process.kill()


@signals
def test_a_command_ends_that_waits_for_its_settings(
    number: signal.Signals, code: int, word: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / ".env")
    # Opening it takes until the command has opened it too.
    with started(Command(tmp_path, {}), "stats") as process, (tmp_path / ".env").open("w"):
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert err.startswith(word)


@signals
def test_a_command_ends_that_waits_for_an_answer(
    number: signal.Signals, code: int, word: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        environ = {"SUPABASE_URL": url, "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_1"}
        with started(Command(tmp_path, environ), "stats") as process:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(1)
                process.send_signal(number)
                out, err = process.communicate()
    assert (process.returncode, out, err) == (code, "", f"{word}\n")


@signals
def test_a_command_ends_that_cannot_give_back_its_company(
    number: signal.Signals,
    code: int,
    word: str,
    fresh_stack: Callable[..., LocalStack],
    sample: Sample,
    tmp_path: Path,
) -> None:
    project = fresh_stack(migrate=True)
    folder = sample("v7-small")
    with (
        psycopg.connect(project.db_url, autocommit=True) as db,
        row_in_the_way(project, "962302", "device-list", "15550100001") as blocker,
        started(command_for(project, tmp_path), "import", folder, "--company", "962302") as process,
    ):
        until(lambda: waits_for(db, blocker))
        project.gateway.pause()
        process.send_signal(number)
        out, err = process.communicate()
        project.gateway.resume()
    assert (process.returncode, out) == (code, "")
    assert err == f"{word}; a lease that was not given back ends by itself\n"
