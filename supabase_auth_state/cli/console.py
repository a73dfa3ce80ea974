"""What a command prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from supabase_auth_state.errors import FolderError, SupabaseAuthStateError

from .tables import cut

if TYPE_CHECKING:
    from supabase_auth_state.transfer.progress import ProgressBar

# What errors carry for people and programs to act on; never a stored value.
_DETAILS = (
    "company_id", "key_type", "key_id", "owner", "expires_at", "newer", "extra", "returning",
    "other_device", "companies", "status", "code", "project",
)  # fmt: skip
_LISTS = {
    "problems": ("file", "reason"),
    "differences": ("name", "reason"),
    "going_back": ("name", "change"),
}
_CLEAR_LINE = "\r\x1b[K"
_USUAL_SIZE = os.terminal_size((80, 24))


class Report(Protocol):
    """What a command found or did."""

    def as_json(self) -> Mapping[str, Any]:
        """Return it for a program."""
        ...

    def __str__(self) -> str:
        """Return it for a person."""
        ...


class Console:
    """The two streams of a command.

    Args:
        json: print results as JSON, one value to a line, for a program.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self._status = ""
        for stream in (sys.stdout, sys.stderr):
            # An id or a path may hold what the terminal's encoding does not have.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    def result(self, report: Report, *, ok: bool = True) -> None:
        """Print a result."""
        if self.json:
            self.document({"ok": ok, **report.as_json()})
        else:
            self.text(str(report))

    def document(self, values: Mapping[str, Any]) -> None:
        """Print a JSON object on one line."""
        self.text(json.dumps(values, ensure_ascii=True))

    def text(self, text: str) -> None:
        """Print text on standard output.

        Raises:
            FolderError: it cannot be written, e.g. because the disk is full.
        """
        self._without_status(sys.stdout, text)

    def say(self, words: str) -> None:
        """Print words that are not the result, on standard error."""
        self._without_status(sys.stderr, words)

    def status(self, line: str) -> None:
        """Show a line under everything that is printed, if standard error is a terminal.

        Args:
            line: the line, which replaces the one before; "" removes it.
        """
        if is_terminal(sys.stderr):
            self._status = line
            self._draw_status()

    def failure(self, error: SupabaseAuthStateError) -> None:
        """Print why a command failed, as JSON too where that is asked for."""
        self.say(f"error: {error}")
        for kind in _LISTS:
            for name, reason in getattr(error, kind, ()):
                self.say(f"  {name}: {reason}")
        if self.json:
            # Where standard output cannot be written, that may be the very error.
            with suppress(FolderError):
                self.document({"ok": False, **failure_as_json(error)})

    def progress(self, label: str) -> ProgressBar:
        """Return a progress bar, which draws nothing unless standard error is a terminal."""
        from supabase_auth_state.transfer.progress import ProgressBar

        return ProgressBar(sys.stderr, label)

    async def ask(self, question: str) -> str | None:
        """Return what a person types at the terminal, or None where no person can be asked.

        Ctrl-C ends the wait at once.
        """
        import asyncio

        if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
            return None
        sys.stderr.write(f"{question} ")
        sys.stderr.flush()
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(sys.stdin, ready.set)
        except NotImplementedError:  # Windows has no readers of terminals
            typed: str = await asyncio.to_thread(sys.stdin.readline)
            return typed.strip()
        try:
            await ready.wait()
        finally:
            loop.remove_reader(sys.stdin)
        return sys.stdin.readline().strip()

    def _without_status(self, stream: TextIO, text: str) -> None:
        # A progress bar may be there as well.
        if is_terminal(sys.stderr):
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()
        write(stream, f"{text}\n")
        if self._status:
            self._draw_status()

    def _draw_status(self) -> None:
        columns = terminal_size(sys.stderr).columns
        sys.stderr.write(f"{_CLEAR_LINE}{cut(self._status, columns - 1)}")
        sys.stderr.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a person looks at a stream; a closed standard stream is None."""
    return stream is not None and stream.isatty()


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Return columns and lines of the terminal that a stream goes to, or the usual 80 and 24."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except OSError:
        size = _USUAL_SIZE
    return size if size.columns and size.lines else _USUAL_SIZE


def failure_as_json(error: SupabaseAuthStateError) -> dict[str, Any]:
    """Return an error for a program: its class, its message, and what it is about."""
    found: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
    for name in _DETAILS:
        value = getattr(error, name, None)
        if value is not None:
            found[name] = list(value) if isinstance(value, tuple) else value
    for name, keys in _LISTS.items():
        if hasattr(error, name):
            found[name] = [dict(zip(keys, each, strict=True)) for each in getattr(error, name)]
    return found


def discard_output() -> None:
    """Let what is still to be written to standard output vanish, also at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write(stream: TextIO | None, text: str) -> None:
    """Write to a standard stream; one that is closed takes everything.

    Raises:
        FolderError: it cannot be written, e.g. because the disk is full.
    """
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror
    else:
        return
    discard_output()
    raise FolderError(f"the result cannot be written: {reason}")
