"""What a command says: results on standard output, words on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from supabase_auth_state.errors import SupabaseAuthStateError

if TYPE_CHECKING:
    from supabase_auth_state.transfer.progress import ProgressBar

# What errors carry for people and programs to act on; never a stored value.
_DETAILS = (
    "company_id", "key_type", "key_id", "owner", "expires_at", "newer", "extra", "returning",
    "other_device", "companies", "status", "code",
)  # fmt: skip
_LISTS = {
    "problems": ("file", "reason"),
    "differences": ("name", "reason"),
    "going_back": ("name", "change"),
}


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
        """Print text."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def say(self, words: str) -> None:
        """Tell a person something that is not the result."""
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()

    def failure(self, error: SupabaseAuthStateError) -> None:
        """Tell why a command failed, and tell it to a program too."""
        self.say(f"error: {error}")
        for kind in _LISTS:
            for name, reason in getattr(error, kind, ()):
                self.say(f"  {name}: {reason}")
        if self.json:
            self.document({"ok": False, **failure_as_json(error)})

    def progress(self, label: str) -> ProgressBar:
        """Return a progress bar, which nobody sees unless standard error is a terminal."""
        from supabase_auth_state.transfer.progress import ProgressBar

        return ProgressBar(sys.stderr, label)


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
