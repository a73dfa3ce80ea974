"""Doing something to many companies, a few at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from supabase_auth_state.errors import (
    AccessDenied,
    ProjectRestricted,
    SchemaMissing,
    StoreUnavailable,
)

FATAL = (AccessDenied, ProjectRestricted, SchemaMissing, StoreUnavailable)
"""Errors with which the work on the next company would fail too."""


@dataclass
class ManyCompanies:
    """How far the work on many companies has come. It changes while the work goes on.

    Attributes:
        under_way: companies on which the work has begun and not ended.
        waiting: companies on which it has not begun.
    """

    under_way: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic, repr=False)

    @property
    def done(self) -> int:
        """On how many companies the work has ended."""
        raise NotImplementedError

    @property
    def total(self) -> int:
        """How many companies there are."""
        return self.done + len(self.under_way) + len(self.waiting)

    @property
    def per_second(self) -> float:
        """How many companies were done in a second, on average; 0 before the first is."""
        seconds = time.monotonic() - self._began
        return self.done / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at this rate, or None before the first company is done."""
        rate = self.per_second
        return (self.total - self.done) / rate if rate else None

    def begin(self) -> str:
        """Note that the work on the next company begins, and return the company."""
        company_id = self.waiting.pop(0)
        self.under_way.append(company_id)
        return company_id


@dataclass
class CountedCompanies(ManyCompanies):
    """Many companies of which those that are done are counted.

    Attributes:
        ended: on how many companies the work has ended.
    """

    ended: int = 0

    @property
    def done(self) -> int:
        """On how many companies the work has ended."""
        return self.ended

    def end(self, company_id: str) -> None:
        """Note that the work on a company has ended."""
        self.under_way.remove(company_id)
        self.ended += 1


async def work_through(
    companies: ManyCompanies, work: Callable[[str], Awaitable[None]], *, concurrency: int
) -> None:
    """Work on every waiting company, a few at a time.

    Args:
        companies: the companies; they are taken from those that wait.
        work: works on one of them, and notes that it has ended. What it raises ends all of it.
        concurrency: how many at a time.
    """

    async def worker() -> None:
        while companies.waiting:
            await work(companies.begin())

    count = min(concurrency, len(companies.waiting))
    await all_of([asyncio.ensure_future(worker()) for _ in range(count)])


async def all_of(workers: Sequence[asyncio.Future[None]]) -> None:
    """Wait for all workers; if one fails or the caller is cancelled, end the others first."""
    try:
        await asyncio.gather(*workers)
    except asyncio.CancelledError:
        # They are cancelled already. A second time, and they would not give their leases back.
        await asyncio.wait(workers)
        raise
    except BaseException:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        raise
