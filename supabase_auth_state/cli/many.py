"""Doing one thing to many companies: a line for each, how far it has come, and one summary."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from supabase_auth_state.errors import (
    AccessDenied,
    ProjectRestricted,
    SchemaMissing,
    StoreUnavailable,
    SupabaseAuthStateError,
)

from .console import Console, Report, failure_as_json
from .exits import DIFFERENT, DONE, REFUSED
from .tables import human_duration

CONCURRENCY = 4

# With these, the next company would fail too.
_FATAL = (AccessDenied, ProjectRestricted, SchemaMissing, StoreUnavailable)
_NAMED = 3


@dataclass(frozen=True)
class Ended:
    """How a command ended for one company.

    Attributes:
        report: what it found or did.
        code: its exit code.
    """

    report: Report
    code: int = DONE


Work = Callable[[str], Awaitable[Ended]]
"""Does a command for one company."""


class Tally:
    """Counts companies, shows at a terminal how far a command has come, and sums up.

    Args:
        console: where to print.
        what: what is done to a company, e.g. "imported".
    """

    def __init__(self, console: Console, what: str) -> None:
        self.total = 0
        self.counts = {DONE: 0, DIFFERENT: 0, REFUSED: 0}
        self.under_way: list[str] = []
        self._console = console
        self._what = what
        self._began = time.monotonic()

    @property
    def code(self) -> int:
        """The exit code: 1 when a company failed, else 3 when one differs, else 0."""
        return next((code for code in (REFUSED, DIFFERENT) if self.counts[code]), DONE)

    def begin(self, company_id: str) -> None:
        """Note that the work on a company begins."""
        self.under_way.append(company_id)
        self._console.status(self._progress())

    def end(self, company_id: str, ended: Ended) -> None:
        """Note how a company ended, and print it: one line, and more only where more is wrong."""
        self._count(company_id, ended.code)
        if ended.code == DONE and not self._console.json:
            self._console.text(str(ended.report).partition("\n")[0])
        else:
            self._console.result(ended.report, ok=ended.code == DONE)

    def fail(self, company_id: str, error: SupabaseAuthStateError) -> None:
        """Note that the command failed for a company, and print why."""
        self._count(company_id, REFUSED)
        about = "" if repr(company_id) in str(error) else f"company {company_id!r}: "
        self._console.say(f"error: {about}{error}")
        if self._console.json:
            failure = {"company_id": company_id, **failure_as_json(error)}
            self._console.document({"ok": False, **failure})

    def sum_up(self) -> None:
        """Print how many companies ended how, and what is not done."""
        self._console.status("")
        if self._console.json:
            self._console.document({"ok": self.code == DONE, "summary": self._as_json()})
        else:
            self._console.say("\n".join(self._summary()))

    def _count(self, company_id: str, code: int) -> None:
        if company_id in self.under_way:
            self.under_way.remove(company_id)
        self.counts[code if code in self.counts else REFUSED] += 1
        self._console.status(self._progress())

    @property
    def _ended(self) -> int:
        return sum(self.counts.values())

    def _progress(self) -> str:
        ended = self._ended
        line = f"{ended} of {self.total} companies {self._what}"
        seconds = time.monotonic() - self._began
        if not ended or seconds <= 0:
            return line
        left = (self.total - ended) * seconds / ended
        return f"{line}, {ended / seconds:.1f} a second, {human_duration(left)} left"

    def _as_json(self) -> dict[str, Any]:
        return {
            "companies": self.total,
            "done": self.counts[DONE],
            "different": self.counts[DIFFERENT],
            "failed": self.counts[REFUSED],
            "under_way": list(self.under_way),
            "not_begun": self.total - self._ended - len(self.under_way),
        }

    def _summary(self) -> Iterator[str]:
        found = self._as_json()
        parts = [f"{found['done']} of {self.total} companies {self._what}"]
        if found["different"]:
            parts.append(f"{found['different']} not as they should be")
        parts.append(f"{found['failed']} failed")
        yield ", ".join(parts)
        if self.under_way:
            more = len(self.under_way) - _NAMED
            names = ", ".join(self.under_way[:_NAMED]) + (f" and {more} more" if more > 0 else "")
            yield f"under way and not finished: {len(self.under_way)} ({names})"
        if found["not_begun"]:
            yield f"not begun: {found['not_begun']}"


async def for_each(companies: Sequence[str], work: Work, console: Console, *, what: str) -> int:
    """Do a command for many companies, a few at a time, and return the exit code.

    An error about one company does not stop the others.

    Args:
        companies: the companies.
        work: does the command for one of them.
        console: where to print.
        what: what is done to a company, for the summary, e.g. "examined".

    Raises:
        AccessDenied, ProjectRestricted, SchemaMissing, StoreUnavailable: the database does not
            work, so the rest was not tried.
    """
    import asyncio

    tally = Tally(console, what)
    tally.total = len(companies)
    waiting = iter(companies)

    async def worker() -> None:
        for company_id in waiting:
            tally.begin(company_id)
            try:
                ended = await work(company_id)
            except _FATAL:
                raise
            except SupabaseAuthStateError as error:
                tally.fail(company_id, error)
            else:
                tally.end(company_id, ended)

    workers = [asyncio.ensure_future(worker()) for _ in range(min(CONCURRENCY, len(companies)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for each in workers:
            each.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        tally.sum_up()
    return tally.code
