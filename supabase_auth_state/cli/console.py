"""What a command prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from supabase_auth_state.errors import FolderError, SupabaseAuthStateError
from supabase_auth_state.transfer.progress import Progress, silent

from .signals import put_back_on_leaving
from .tables import Page

if TYPE_CHECKING:
    from rich.live import Live

    from .screen import Screen, View

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
_SHOW_CURSOR = b"\x1b[?25h"
_CLEAR_LINE = b"\r\x1b[2K"
_LEAVE_FULL_SCREEN = b"\x1b[?1049l"


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

    At a terminal rich draws, in colour unless ``NO_COLOR`` or ``TERM`` says otherwise. Elsewhere
    everything is plain text.

    Args:
        json: print results as JSON, one value to a line, for a program.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self._live: Live | None = None
        self._view: View | None = None
        self._screens: dict[TextIO, Screen] = {}
        for stream in (sys.stdout, sys.stderr):
            # An id or a path may hold what the terminal's encoding does not have.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    def result(self, report: Report, *, ok: bool = True) -> None:
        """Print a result.

        Raises:
            FolderError: it cannot be written, e.g. because the disk is full.
        """
        if self.json:
            self.document({"ok": ok, **report.as_json()})
        elif isinstance(report, Page) and is_terminal(sys.stdout):
            with _told(sys.stdout):
                self._screen(sys.stdout).print(report)
        else:
            self.text(str(report))

    def document(self, values: Mapping[str, Any]) -> None:
        """Print a JSON object on one line."""
        self._print(sys.stdout, json.dumps(values, ensure_ascii=True), highlight=False)

    def text(self, text: str) -> None:
        """Print text on standard output.

        Raises:
            FolderError: it cannot be written, e.g. because the disk is full.
        """
        self._print(sys.stdout, text)

    def say(self, words: str) -> None:
        """Print words that are not the result, on standard error.

        Where they cannot be written, they are lost: the command, its result and its exit code are
        not.
        """
        with suppress(FolderError, BrokenPipeError):
            if self._view is not None:
                self._view.say(words)
            else:
                self._print(sys.stderr, words)

    def declined(self, words: str) -> None:
        """Print that nothing was done because a person did not confirm it."""
        self.say(words)
        if self.json:
            self.document({"ok": False, "error": "NotConfirmed", "message": words})

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

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """Give what shows the progress under everything that is printed, until this is left.

        Nothing is shown unless standard error is a terminal that can be drawn on.

        Args:
            label: the text before every step.
        """
        if self._live is not None or not is_drawable(sys.stderr):
            yield silent
            return
        from .screen import Bar

        bar = Bar(self._screen(sys.stderr), label)
        with self._drawing(bar.display.live, sys.stderr, _CLEAR_LINE + _SHOW_CURSOR):
            yield bar

    @contextmanager
    def full_screen(self, foot: str) -> Iterator[View]:
        """Give what shows reports on the whole screen, until this is left.

        Args:
            foot: the last line.
        """
        from .screen import View

        view = View(self._screen(sys.stdout), foot)
        with self._drawing(view.display, sys.stdout, _LEAVE_FULL_SCREEN + _SHOW_CURSOR):
            self._view = view
            try:
                yield view
            finally:
                self._view = None

    async def ask(self, question: str) -> str | None:
        """Return what a person types at the terminal, or None where no person can be asked.

        Ctrl-C ends the wait at once. A progress is not drawn meanwhile.
        """
        import asyncio

        if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
            return None
        with self._not_drawing():
            self._print(sys.stderr, question, end=" ")
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

    async def confirm(self, question: str) -> bool | None:
        """Return whether a person says yes, or None where no person can be asked."""
        typed = await self.ask(f"{question} [y/N]")
        return None if typed is None else typed.lower() in {"y", "yes"}

    def _print(
        self, stream: TextIO | None, text: str, *, end: str = "\n", highlight: bool = True
    ) -> None:
        if stream is None or not is_terminal(stream):
            write(stream, f"{text}{end}")
            return
        with _told(stream):
            # The terminal breaks lines, so that commands and paths can be copied from it.
            self._screen(stream).print(text, end=end, highlight=highlight, soft_wrap=True)
            stream.flush()

    def _screen(self, stream: TextIO) -> Screen:
        """Return what draws on a terminal, without breaking what is drawn there already."""
        from .screen import Screen

        if self._live is not None and _are_one(stream, self._live.console.file):
            stream = self._live.console.file  # type: ignore[assignment]
        if stream not in self._screens:
            self._screens[stream] = Screen(stream, terminal=True)
        return self._screens[stream]

    @contextmanager
    def _drawing(self, live: Live, stream: TextIO, put_back: bytes) -> Iterator[None]:
        self._live = live
        try:
            with put_back_on_leaving(stream.fileno(), put_back), live:
                yield
        finally:
            self._live = None

    @contextmanager
    def _not_drawing(self) -> Iterator[None]:
        live, self._live = self._live, None
        if live is None:
            yield
            return
        live.stop()
        try:
            yield
        finally:
            live.start(refresh=True)
            self._live = live


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a person looks at a stream; a closed standard stream is None."""
    return stream is not None and stream.isatty()


def is_drawable(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal on which what was drawn can be drawn anew."""
    return is_terminal(stream) and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"}


def _are_one(one: TextIO, other: Any) -> bool:
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except OSError:
        return one is other


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


def discard_output(stream: TextIO | None = None) -> None:
    """Let what is still to be written to a stream vanish, also at exit.

    Args:
        stream: a standard stream; standard output when absent.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


def write(stream: TextIO | None, text: str) -> None:
    """Write to a standard stream; one that is closed takes everything.

    Raises:
        FolderError: it cannot be written, e.g. because the disk is full.
    """
    if stream is None:
        return
    with _told(stream):
        stream.write(text)
        stream.flush()


@contextmanager
def _told(stream: TextIO) -> Iterator[None]:
    """Make a failure to write to a stream an error of ours, and the last one.

    Raises:
        FolderError: it cannot be written, e.g. because the disk is full.
    """
    try:
        yield
    except BrokenPipeError:
        discard_output(stream)
        raise
    except OSError as error:
        reason = error.strerror
    else:
        return
    discard_output(stream)
    raise FolderError(f"the result cannot be written: {reason}")
