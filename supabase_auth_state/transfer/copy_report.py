"""What the reports of an import and of a restore have in common. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supabase_auth_state.errors import some_of

from .plan import Plan


@dataclass(frozen=True, kw_only=True)
class CopyReport:
    """What was copied into a company, or would be. Creds count as one value.

    Attributes:
        company_id: the company.
        dry_run: whether nothing was written.
        added: values that the database did not have.
        replaced: values that the database had otherwise, or in a damaged form.
        removed: values that only the database had; more than 0 only with ``force``.
        unchanged: values that were there already.
        going_back: name of each value that goes back, and what of it; only with ``force``.
        skipped: name and reason of each file that was not understood, with ``skip_broken``.
        ignored: names of files and folders that hold no value of Baileys'.
        leftovers: names of copies of Baileys' files, and of writes that were not finished.
        database_backup: the copy of the rows as they were, if any was replaced or removed.
    """

    company_id: str
    dry_run: bool
    added: int
    replaced: int
    removed: int
    unchanged: int
    going_back: tuple[tuple[str, str], ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    database_backup: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "company_id": self.company_id,
            "dry_run": self.dry_run,
            "added": self.added,
            "replaced": self.replaced,
            "removed": self.removed,
            "unchanged": self.unchanged,
            "going_back": [{"name": name, "change": what} for name, what in self.going_back],
            "skipped": [{"file": name, "reason": reason} for name, reason in self.skipped],
            "ignored": list(self.ignored),
            "leftovers": list(self.leftovers),
            "database_backup": None if self.database_backup is None else str(self.database_backup),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        counts = f"{self.added} values added, {self.replaced} replaced, {self.removed} removed, "
        if self.dry_run:
            yield f"company {self.company_id!r}: would have {counts}{self.unchanged} unchanged"
        else:
            yield f"company {self.company_id!r}: {counts}{self.unchanged} unchanged"
            yield "read back: every value is the same on both sides"
        for name, what in self.going_back:
            yield f"{'would go' if self.dry_run else 'went'} back: {name}: {what}"
        for name, reason in self.skipped:
            yield f"skipped: {name} {reason}"
        if self.leftovers:
            yield (
                "left out: copies or unfinished writes of Baileys' files: "
                f"{len(self.leftovers)} ({some_of(self.leftovers)})"
            )
        if self.ignored:
            yield f"left out: files or folders that are not Baileys': {len(self.ignored)}"
        if self.database_backup is not None:
            yield f"backup of what the database held: {self.database_backup}"


def counts(plan: Plan) -> dict[str, Any]:
    """Return the fields of a `CopyReport` that a plan gives."""
    return {
        "added": len(plan.added),
        "replaced": len(plan.replaced),
        "removed": len(plan.removed),
        "unchanged": plan.unchanged,
        "going_back": plan.losses(),
    }
