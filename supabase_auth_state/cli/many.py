"""A command for many companies: a line for each, how far it has come, and one summary."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supabase_auth_state.errors import SupabaseAuthStateError, some_of
from supabase_auth_state.transfer.progress import Progress, silent

from .console import Console, Report, failure_as_json
from .exits import DIFFERENT, DONE, REFUSED

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from supabase_auth_state.transfer.many import ManyCompanies

CONCURRENCY = 4


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
    """Prints how each company ended, how far a command has come, and a summary at the end.

    Use it inside ``with``.

    Args:
        console: where to print.
        companies: how far it has come.
        what: what is done to a company, e.g. "imported".
    """

    def __init__(self, console: Console, companies: ManyCompanies, what: str) -> None:
        self._console = console
        self._companies = companies
        self._what = what
        self._counts = {DONE: 0, DIFFERENT: 0, REFUSED: 0}
        self._drawn = ExitStack()
        self._progress: Progress = silent

    def __enter__(self) -> Self:
        self._progress = self._drawn.enter_context(self._console.progress("companies"))
        self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drawn.close()
        self._sum_up()

    @property
    def code(self) -> int:
        """The exit code: 1 when a company failed, else 3 when one differs, else 0."""
        return next((code for code in (REFUSED, DIFFERENT) if self._counts[code]), DONE)

    def end(self, ended: Ended) -> None:
        """Print how a company ended: one line, and more only where something is wrong."""
        self._count(ended.code)
        if ended.code == DONE and not self._console.json:
            self._console.text(str(ended.report).partition("\n")[0])
        else:
            self._console.result(ended.report, ok=ended.code == DONE)

    def fail(self, company_id: str, error: SupabaseAuthStateError) -> None:
        """Print why the command failed for a company."""
        self._count(REFUSED)
        about = "" if repr(company_id) in str(error) else f"company {company_id!r}: "
        self._console.say(f"error: {about}{error}")
        if self._console.json:
            failure = {"company_id": company_id, **failure_as_json(error)}
            self._console.document({"ok": False, **failure})

    def _sum_up(self) -> None:
        if self._console.json:
            self._console.document({"ok": self._is_complete, "summary": self._as_json()})
        else:
            self._console.say("\n".join(self._summary()))

    @property
    def _is_complete(self) -> bool:
        left = self._companies.under_way or self._companies.waiting
        return self.code == DONE and not left

    def _count(self, code: int) -> None:
        self._counts[code if code in self._counts else REFUSED] += 1
        self._show()

    def _show(self) -> None:
        self._progress(self._what, self._companies.done, self._companies.total)

    def _as_json(self) -> dict[str, Any]:
        return {
            "companies": self._companies.total,
            "done": self._counts[DONE],
            "different": self._counts[DIFFERENT],
            "failed": self._counts[REFUSED],
            "under_way": list(self._companies.under_way),
            "not_begun": len(self._companies.waiting),
        }

    def _summary(self) -> Iterator[str]:
        done, different, failed = self._counts.values()
        parts = [f"{done} of {self._companies.total} companies {self._what}"]
        if different:
            parts.append(f"{different} not as they should be")
        parts.append(f"{failed} failed")
        yield ", ".join(parts)
        for what, companies in (
            ("under way and not finished", self._companies.under_way),
            ("not begun", self._companies.waiting),
        ):
            if companies:
                yield f"{what}: {len(companies)} ({some_of(companies)})"


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
    from supabase_auth_state.transfer.many import FATAL, CountedCompanies, work_through

    progress = CountedCompanies(waiting=list(companies))

    async def work_on(company_id: str) -> None:
        try:
            ended = await work(company_id)
        except FATAL:
            raise
        except SupabaseAuthStateError as error:
            progress.end(company_id)
            tally.fail(company_id, error)
        else:
            progress.end(company_id)
            tally.end(ended)

    with Tally(console, progress, what) as tally:
        await work_through(progress, work_on, concurrency=CONCURRENCY)
    return tally.code
