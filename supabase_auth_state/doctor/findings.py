"""What the doctor says about a company's rows: names of rows, never their values. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from supabase_auth_state.transfer.company_writer import Change
from supabase_auth_state.transfer.documents import CREDS
from supabase_auth_state.transfer.rekey import counts_by_key
from supabase_auth_state.types import KeyRef

Code: TypeAlias = Literal[
    # One row, by itself.
    "buffer-int-array",
    "buffer-numeric-keys",
    "buffer-encoded-twice",
    "buffer-nested",
    "buffer-legacy",
    "buffer-bare-base64",
    "buffer-for-text",
    "json-text",
    "wrong-name",
    "unknown-name",
    "unreadable",
    "not-whole",
    "key-pair",
    "other-family",
    # Creds.
    "creds-missing",
    "creds-number",
    "creds-signature",
    "account-signature",
    "adv-secret",
    # Rows that have to agree.
    "lid-reverse-missing",
    "lid-forward-missing",
    "lid-disagrees",
    "session-at-phone-number",
    "pre-key-unknown",
    "pre-key-newest-missing",
    "sender-key-missing",
    "app-state-key-missing",
    # Sealed values.
    "sealed",
    # Other companies.
    "same-device",
]
"""Every kind of finding; ``docs/doctor.md`` explains each."""

CODES: tuple[str, ...] = get_args(Code)

_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing, about one row.

    Attributes:
        code: what kind of thing.
        key_type: Baileys' key type, or ``"creds"``.
        key_id: the id within the type, or None for creds.
        what: what is wrong.
        repairable: a repair puts it right without guessing.
        remedy: what a repair does; when there is none, why the row is left alone.
        damage: False for what clients leave behind themselves and live with.
    """

    code: Code
    key_type: str
    key_id: str | None
    what: str
    repairable: bool
    remedy: str
    damage: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the finding as a JSON object."""
        return dict(vars(self))

    def __str__(self) -> str:
        row = self.key_type if self.key_id is None else f"{self.key_type} {self.key_id!r}"
        return f"{row}: {self.what}"


@dataclass(frozen=True)
class DoctorReport:
    """What was found in a company's rows, and what was put right.

    Attributes:
        company_id: the company.
        family: its recorded client family, or None without creds.
        keys: how many key rows it has.
        findings: what is there now.
        repaired: what was there before the repair and is gone.
        backup: where the rows are kept as they were before the repair, when anything was changed.
        in_use_by: the owner of the company while it was read, if there was one.
        rolled_back_at: when an owner found that the database had been set back to an earlier moment
            (ISO 8601), until that is settled; see docs/restored-database.md.
        sealed_with: how many rows are sealed with which key, creds among them; "" is plain.
    """

    company_id: str
    family: str | None
    keys: int
    findings: tuple[Finding, ...]
    repaired: tuple[Finding, ...] = ()
    backup: Path | None = None
    in_use_by: str | None = None
    rolled_back_at: str | None = None
    sealed_with: Mapping[str, int] = field(default_factory=dict)

    @property
    def damaged(self) -> bool:
        """Whether anything is wrong that a client does not cope with by itself."""
        return self.rolled_back_at is not None or any(f.damage for f in self.findings)

    @property
    def repairable(self) -> tuple[Finding, ...]:
        """The findings that a repair would put right."""
        return tuple(finding for finding in self.findings if finding.repairable)

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "company_id": self.company_id,
            "family": self.family,
            "keys": self.keys,
            "in_use_by": self.in_use_by,
            "rolled_back_at": self.rolled_back_at,
            "sealed_with": dict(self.sealed_with),
            "damaged": self.damaged,
            "findings": [finding.as_json() for finding in self.findings],
            "repaired": [finding.as_json() for finding in self.repaired],
            "backup": None if self.backup is None else str(self.backup),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        family = self.family or "no creds"
        yield f"company {self.company_id!r} ({family}, {self.keys} keys): {self._verdict()}"
        if self.in_use_by is not None:
            yield f"in use by {self.in_use_by!r}: what it changed meanwhile may seem not to agree"
        if self.rolled_back_at is not None:
            yield (
                f"set back: at {self.rolled_back_at} an owner knew of writes that the database has "
                "lost, as after restoring a backup; docs/restored-database.md says what to do, and "
                "`supabase-auth-state settle` ends this report then"
            )
        if any(self.sealed_with):
            yield f"rows: {counts_by_key(self.sealed_with)}"
        yield from _section("repaired", self.repaired)
        yield from _section("can be repaired", self.repairable)
        alone = [finding for finding in self.findings if not finding.repairable]
        yield from _section("left alone", [finding for finding in alone if finding.damage])
        yield from _section("worth knowing", [finding for finding in alone if not finding.damage])
        if self.backup is not None:
            yield f"the rows as they were: {self.backup}"

    def _verdict(self) -> str:
        if self.rolled_back_at is not None:
            return "set back to an earlier moment"
        if not self.findings:
            return "nothing left to repair" if self.repaired else "healthy"
        return "damaged" if self.damaged else "healthy, with something worth knowing"


def _section(title: str, findings: Sequence[Finding]) -> Iterator[str]:
    if findings:
        yield f"{title}: {len(findings)}"
    for (code, remedy), same in groupby(findings, key=lambda f: (f.code, f.remedy)):
        yield f"  {code} ({remedy})"
        yield from _folded(list(same))


def _folded(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings[:_SHOWN]:
        yield f"    {finding}"
    if len(findings) > _SHOWN:
        yield f"    … and {len(findings) - _SHOWN} more"


def _order(finding: Finding) -> tuple[int, str, str, str]:
    code = CODES.index(finding.code)
    return code, finding.remedy, finding.key_type, finding.key_id or ""


class Findings:
    """Collects what is found in a company, and what a repair would write.

    Attributes:
        change: what a repair would write.
    """

    def __init__(self) -> None:
        self.change = Change()
        self._findings: list[Finding] = []

    def in_order(self) -> tuple[Finding, ...]:
        """Return the findings by kind, then by row."""
        return tuple(sorted(self._findings, key=_order))

    def add_repairable(
        self, code: Code, ref: KeyRef, what: str, remedy: str, *, damage: bool = True
    ) -> None:
        """Add something that a repair puts right; the caller plans the ``change``.

        Args:
            code: what kind of thing.
            ref: the row, or `CREDS`.
            what: what is wrong.
            remedy: what a repair does.
            damage: False for what clients leave behind themselves and live with.
        """
        self._add(code, ref, what, remedy, repairable=True, damage=damage)

    def add_unrepairable(
        self, code: Code, ref: KeyRef, what: str, reason: str, *, damage: bool = True
    ) -> None:
        """Add something that is left alone.

        Args:
            code: what kind of thing.
            ref: the row, or `CREDS`.
            what: what is wrong.
            reason: why it is left alone.
            damage: False for what clients leave behind themselves and live with.
        """
        self._add(code, ref, what, reason, repairable=False, damage=damage)

    def _add(
        self, code: Code, ref: KeyRef, what: str, remedy: str, *, repairable: bool, damage: bool
    ) -> None:
        key_type, key_id = ("creds", None) if ref == CREDS else ref
        self._findings.append(Finding(code, key_type, key_id, what, repairable, remedy, damage))
