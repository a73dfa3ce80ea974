"""What has to be done for a company to hold what a folder or a backup holds. No I/O."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from supabase_auth_state import codec
from supabase_auth_state.errors import CodecError, NewerState, some_of
from supabase_auth_state.types import KeyRef

from .company import Company
from .counters import going_back
from .documents import (
    Document,
    Documents,
    Match,
    decoded,
    is_newer,
    is_other_device,
    match,
    name_of,
    names,
    pre_key_number,
    type_of,
)


@dataclass(frozen=True)
class Source:
    """What a company is to hold.

    Attributes:
        documents: the keys, in the order of type and id, and the creds.
        spared: keys that are not among them, and whose rows stay as they are.
        family: the client family of the documents.
        as_stored: whether sealed values are to stay sealed as they are, and plain ones plain,
            whichever keys are given here.
    """

    documents: Documents = field(repr=False)
    spared: AbstractSet[KeyRef] = frozenset()
    family: str = codec.BAILEYS
    as_stored: bool = False


@dataclass
class Plan:
    """What has to be done for the database to hold what the source holds.

    Attributes:
        added: values that the database does not have.
        replaced: values that the database has otherwise, be it in form only.
        removed: keys that only the database has.
        newer: keys of ``replaced`` whose row may be newer than what replaces it: in a company with
            creds every other value, else one that was changed later.
        going_back: of ``replaced``, the keys with counters that would go back, and which.
        returning: pre-keys of ``added`` that the database's creds have counted: they were used up
            or deleted.
        unchanged: how many values are the same.
        other_device: whether the database holds the creds of another linked device.
    """

    added: list[Document] = field(default_factory=list)
    replaced: list[Document] = field(default_factory=list)
    removed: list[KeyRef] = field(default_factory=list)
    newer: list[KeyRef] = field(default_factory=list)
    going_back: list[tuple[KeyRef, str]] = field(default_factory=list)
    returning: list[KeyRef] = field(default_factory=list)
    unchanged: int = 0
    other_device: bool = False

    @property
    def writes(self) -> bool:
        """Whether anything has to be written."""
        return bool(self.added or self.replaced or self.removed)

    @property
    def needs_force(self) -> bool:
        """Whether something would be lost that may be newer than the source."""
        return bool(
            self.newer or self.going_back or self.returning or self.removed or self.other_device
        )

    def losses(self) -> tuple[tuple[str, str], ...]:
        """Return name and counters of each value that would go back, and each returning pre-key."""
        back = [*self.going_back, *((ref, "used up or deleted") for ref in self.returning)]
        return tuple((name_of(ref), what) for ref, what in back)


def plan_import(source: Source, company: Company) -> Plan:
    """Compare what a company is to hold with its rows.

    Whether a row may be replaced is not decided by file times once the company has creds: the copy
    of an old folder is new, and clocks differ. Without creds, the rows are those of an import that
    was broken off, and a file that was changed after its row is the newer one.
    """
    files, rows = source.documents, company.documents
    plan = Plan(other_device=is_other_device(files, rows, company.company_id))
    next_id = _next_pre_key_id(company)
    for ref, file in files.items():
        row = rows.get(ref)
        if row is None:
            plan.added.append(file)
            if ref.key_type == "pre-key" and _returning(ref, company, next_id):
                plan.returning.append(ref)
            continue
        found = _match(file, row, company.company_id, source)
        if found is Match.SAME:
            plan.unchanged += 1
            continue
        plan.replaced.append(file)
        if found is not Match.SAME_VALUE:
            _note_replacement(plan, file, row, company, source.family)
    plan.removed = [ref for ref in rows if ref not in files and ref not in source.spared]
    return plan


def _match(file: Document, row: Document, company_id: str, source: Source) -> Match:
    if source.as_stored and file.stored_text == row.stored_text:
        # Whether or not a key here opens it.
        return Match.SAME
    found = match(file, row, company_id, source.family)
    return Match.SAME_VALUE if source.as_stored and found is Match.SAME else found


def refusal(plan: Plan, company_id: str, *, otherwise: str) -> NewerState:
    """Return the error that says what a plan would lose.

    Args:
        plan: a plan that needs force.
        company_id: the company.
        otherwise: what to do if the database is what counts, as the end of a sentence.
    """
    return NewerState(
        company_id,
        f"company {company_id!r} is not overwritten: {_would_lose(plan)}. If what you bring is "
        "what counts, --force makes the database equal to it, after a backup; if the database is, "
        f"{otherwise}",
        newer=[name_of(ref) for ref in plan.newer],
        extra=[name_of(ref) for ref in plan.removed],
        returning=[name_of(ref) for ref in plan.returning],
        going_back=[(name_of(ref), what) for ref, what in plan.going_back],
        other_device=plan.other_device,
    )


def _would_lose(plan: Plan) -> str:
    held = []
    if plan.other_device:
        held.append("the creds of another linked device")
    if plan.newer:
        held.append(f"{len(plan.newer)} other values, maybe newer ones ({names(plan.newer)})")
    if plan.removed:
        held.append(f"{len(plan.removed)} that you do not bring ({names(plan.removed)})")
    parts = [f"the database holds {', '.join(held)}"] if held else []
    if plan.going_back:
        counters = some_of(f"{name_of(ref)}: {what}" for ref, what in plan.going_back)
        parts.append(f"this would go back: {counters}")
    if plan.returning:
        parts.append(
            f"{len(plan.returning)} pre-keys would come back that were used up or deleted "
            f"({names(plan.returning)})"
        )
    return "; ".join(parts)


def _note_replacement(
    plan: Plan, file: Document, row: Document, company: Company, family: str
) -> None:
    if company.creds is not None or is_newer(row, file):
        plan.newer.append(file.ref)
    what = _going_back(file, row, company.company_id, family)
    if what:
        plan.going_back.append((file.ref, what))


def _going_back(file: Document, row: Document, company_id: str, family: str) -> str:
    try:
        new, old = (decoded(each, company_id, family) for each in (file, row))
    except CodecError:
        return ""
    return going_back(type_of(file.ref), new, old)


def _returning(ref: KeyRef, company: Company, next_id: int | None) -> bool:
    """Return whether a pre-key that has no row may have had one: the creds have counted it."""
    number = pre_key_number(ref.key_id)
    return company.creds is not None and (number is None or next_id is None or number < next_id)


def _next_pre_key_id(company: Company) -> int | None:
    if company.creds is None or company.family is None:
        return None
    try:
        found = decoded(company.creds, company.company_id, company.family).get("nextPreKeyId")
    except CodecError:
        return None
    return found if type(found) is int else None
