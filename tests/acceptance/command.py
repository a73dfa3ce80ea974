"""The installed command, run as a person or a script would run it."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import re
import runpy
import select
import struct
import subprocess
import sys
import tempfile
import termios
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("supabase-auth-state")
TIMEOUT = 120
# What the terminal of the tests is like says nothing of the one that a command is given.
_OF_A_TERMINAL = {"NO_COLOR", "FORCE_COLOR"}

# To import the client takes five times as long as most commands take.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["supabase", "httpx_aiohttp", *(f"supabase_auth_state.{room}" for room in (
        "cli.main", "rest.client", "doctor.doctor", "transfer.import_folder", "operations.cleanup",
    ))]
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code.
        out: its standard output.
        err: its standard error.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON values on standard output, one to a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def ended(args: Sequence[str | Path], code: int, out: str, err: str) -> Ended:
    """Give how a command ended, which is never with a traceback that was not asked for."""
    assert "Traceback" not in err or "-vv" in args
    return Ended(code, out, err)


def run_in_fork(
    argv: list[str], cwd: Path, environ: Mapping[str, str], out: Path, err: Path
) -> None:
    """Become the command: its arguments, folder, environment and streams, then its script."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for number, path in enumerate([os.devnull, out, err]):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


class Screen:
    """What a terminal of so many columns shows after it was sent all this.

    It knows what rich sends: text, colours, and codes that move the cursor or clear a line.

    Attributes:
        text: the lines without spaces at their end.
    """

    _PART = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n])")

    def __init__(self, sent: str, *, columns: int) -> None:
        self._rows: list[list[str]] = [[]]
        self._row = self._column = 0
        assert not self._PART.sub("", sent)
        for number, code, back, down, char in self._PART.findall(sent):
            if code:
                self._obey(number, code)
            elif back:
                self._column = 0
            elif down:
                self._move(self._row + 1)
            else:
                self._put(char, columns)

    @property
    def text(self) -> list[str]:
        """The lines that are shown, without spaces at their end."""
        return ["".join(row).rstrip() for row in self._rows]

    def _obey(self, number: str, code: str) -> None:
        if code == "A":
            self._row -= int(number or 1)
            assert self._row >= 0
        elif code == "K":
            assert number == "2"
            self._rows[self._row] = []
        elif code == "H":
            self._row = self._column = 0
        else:
            assert code == "m" or number in {"?25", "?1049"}, (number, code)

    def _move(self, row: int) -> None:
        self._row = row
        while len(self._rows) <= row:
            self._rows.append([])

    def _put(self, char: str, columns: int) -> None:
        width = 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if self._column + width > columns:
            self._column = 0
            self._move(self._row + 1)
        row = self._rows[self._row]
        row += [" "] * (self._column + width - len(row))
        row[self._column : self._column + width] = [char, *[""] * (width - 1)]
        self._column += width


class Terminal:
    """What a command shows at a terminal, and what a person types there."""

    def __init__(self, process: subprocess.Popen[bytes], shown: FileIO) -> None:
        self.process = process
        self.seen = ""
        self._shown = shown

    def until(self, pattern: str) -> re.Match[str]:
        """Read until what was shown matches, and give the match."""
        while True:
            found = re.search(pattern, self.seen)
            if found:
                return found
            assert self._read(), f"{pattern!r} was never shown, but {self.seen!r}"

    def end(self) -> int:
        """Read to the end, and give the exit code."""
        while self._read():
            pass
        return self.process.wait(TIMEOUT)

    def type(self, keys: str) -> None:
        """Type keys, the one that ends a line among them."""
        self._shown.write(keys.encode())

    def _read(self) -> bool:
        ready, _, _ = select.select([self._shown], [], [], TIMEOUT)
        assert ready, f"nothing more was shown than {self.seen!r}"
        try:
            part = self._shown.read(65536) or b""
        except OSError:
            # The last process has closed the terminal.
            return False
        self.seen += part.decode()
        return bool(part)


class Command:
    """Runs `supabase-auth-state` in a folder of its own, with the environment it is given."""

    def __init__(self, cwd: Path, environ: Mapping[str, str]) -> None:
        self.cwd = cwd
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in _OF_A_TERMINAL
            and not name.startswith(("SUPABASE_", "SSL_CERT_"))
            and not name.lower().endswith("_proxy")
        }
        self.environ = {**kept, "TERM": "xterm", **environ}

    def __call__(self, *args: str | Path, **environ: str) -> Ended:
        """Run it to its end, in a fork of a process that has imported the client already."""
        with tempfile.TemporaryDirectory() as outputs:
            out, err = Path(outputs, "out"), Path(outputs, "err")
            argv = [str(COMMAND), *map(str, args)]
            process = FORKS.Process(
                target=run_in_fork, args=(argv, self.cwd, self.environ | environ, out, err)
            )
            process.start()
            process.join(TIMEOUT)
            if process.exitcode is None:
                process.kill()
                raise subprocess.TimeoutExpired(argv, TIMEOUT)
            return ended(args, process.exitcode, out.read_text(), err.read_text())

    def anew(self, *args: str | Path, **environ: str) -> Ended:
        """Run it to its end as a shell does, where the start of Python itself matters."""
        done = subprocess.run(
            [COMMAND, *args],
            check=False,
            cwd=self.cwd,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        return ended(args, done.returncode, done.stdout, done.stderr)

    @contextmanager
    def at_terminal(
        self, *args: str | Path, columns: int = 80, lines: int = 24, **environ: str
    ) -> Iterator[Terminal]:
        """Run it at a terminal, as a person sees it; it is killed at the end if it still runs."""
        screen, terminal = os.openpty()
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with os.fdopen(screen, "r+b", 0) as shown:
            with os.fdopen(terminal, "r+b", 0) as streams:
                process = subprocess.Popen(
                    [COMMAND, *args],
                    cwd=self.cwd,
                    env=self.environ | environ,
                    stdin=streams,
                    stdout=streams,
                    stderr=streams,
                )
            try:
                yield Terminal(process, shown)
            finally:
                process.kill()
                process.wait(TIMEOUT)

    def start(self, *args: str | Path) -> subprocess.Popen[str]:
        """Start it, and leave it running."""
        return subprocess.Popen(
            [COMMAND, *args],
            cwd=self.cwd,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
