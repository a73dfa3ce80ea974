"""What may and what may not have happened to rows that several processes fought for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Write:
    """A value of a company's row, as its writer stored it.

    Attributes:
        n: one more than the value that the writer found or wrote before.
        token: the token of the lease that the writer believed to hold.
        writer: the process.
    """

    n: int
    token: int
    writer: str


@dataclass(frozen=True)
class Change:
    """A change of a company's row, in the order in which the database made them.

    Attributes:
        company: the company.
        header: the token that the request carried, None when it carried none.
        write: the new value, None when the row was deleted.
    """

    company: str
    header: int | None
    write: Write | None


@dataclass(frozen=True)
class Ack:
    """A write that its writer was told is durable."""

    company: str
    write: Write


def problems(
    changes: Sequence[Change], acks: Iterable[Ack], final: Mapping[str, Write]
) -> list[str]:
    """Name everything that one owner at a time, and no lost write, would not have led to.

    Args:
        changes: every change of every row, in order.
        acks: every acknowledged write.
        final: what each company's row holds in the end.
    """
    found = []
    companies = sorted({change.company for change in changes} | set(final))
    for company in companies:
        own = [change for change in changes if change.company == company]
        found += [f"{company}: {problem}" for problem in _of_one_row(own, final.get(company))]
    made = {(change.company, change.write) for change in changes}
    found += [
        f"{ack.company}: acknowledged, but never made: {ack.write}"
        for ack in acks
        if (ack.company, ack.write) not in made
    ]
    return found


def _of_one_row(changes: Sequence[Change], final: Write | None) -> list[str]:
    found = []
    last = Write(n=0, token=0, writer="nobody")
    writers: dict[int, str] = {}
    for change in changes:
        write = change.write
        if write is None:
            found.append(f"deleted after {last}")
            continue
        if change.header != write.token:
            found.append(f"written with the token {change.header} in the header: {write}")
        if write.token < last.token:
            found.append(f"an older token after a newer one: {write} after {last}")
        if writers.setdefault(write.token, write.writer) != write.writer:
            found.append(f"one token, two writers: {write} and {writers[write.token]}")
        # The same write again is a retry whose first answer was lost.
        if write.n != last.n + 1 and write != last:
            found.append(f"not one more than what was there: {write} after {last}")
        last = write
    if final != last:
        found.append(f"the row holds {final}, the last change was {last}")
    return found
