"""Each key row by itself: does it have its right name, can it be read, is it whole? No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from nacl.bindings import crypto_scalarmult_base

from supabase_auth_state import codec
from supabase_auth_state.codec import Evidence, Malformed, shape_of
from supabase_auth_state.errors import CodecError
from supabase_auth_state.files.names import file_name, parse_file_name
from supabase_auth_state.transfer.documents import Document
from supabase_auth_state.types import KEY_TYPES, KeyRef, Value

from .damage import damaged_forms
from .findings import Code, Findings

FORM_REMEDY = "a repair stores the same value as Baileys writes it"

_REASONS: dict[Code, str] = {
    "unreadable": "what belongs there cannot be known",
    "not-whole": "what belongs there cannot be known",
    "key-pair": "which of both is wrong cannot be known",
    "other-family": "first find out which client the company belongs to",
}


MISMATCH = "the public key is not the one of the private key"
"""What ``key-pair`` findings say."""


@dataclass(frozen=True)
class Rows:
    """A company's keys as a repair of each single row leaves them.

    Attributes:
        values: what can be read, by key.
        present: every key that has a row, readable or not.
    """

    values: Mapping[KeyRef, Value] = field(repr=False)
    present: AbstractSet[KeyRef]

    def of(self, key_type: str) -> dict[str, Value]:
        """Return the readable values of a type, by id."""
        return {ref.key_id: value for ref, value in self.values.items() if ref.key_type == key_type}


@dataclass(frozen=True)
class _Reading:
    """A row as it was understood.

    Attributes:
        ref: the row.
        canonical_ref: the key that it should be stored under.
        value: the Python value, None when there is a fault.
        canonical: the JSON value that belongs there, None when there is a fault.
        forms: the damaged forms that the row has, and what they are.
        fault: what is beyond repair, and its code.
    """

    ref: KeyRef
    canonical_ref: KeyRef
    value: Value = field(default=None, repr=False)
    canonical: Any = field(default=None, repr=False)
    forms: dict[Code, str] = field(default_factory=dict)
    fault: tuple[Code, str] | None = None


def examine_keys(rows: Sequence[Document], findings: Findings) -> Rows:
    """Examine every row by itself, and return the keys as a repair leaves them."""
    by_ref: defaultdict[KeyRef, list[_Reading]] = defaultdict(list)
    for reading in _read_all(rows):
        by_ref[reading.canonical_ref].append(reading)
    values: dict[KeyRef, Value] = {}
    for ref, readings in by_ref.items():
        named_right = next((reading for reading in readings if reading.ref == ref), None)
        misnamed = [reading for reading in readings if reading is not named_right]
        if named_right is not None:
            _note_faults(named_right, findings)
        kept = named_right or _agreed(misnamed)
        for reading in misnamed:
            _note_wrong_name(reading, kept, findings)
        if kept is not None and kept.fault is None:
            values[ref] = kept.value
    return Rows(values, values.keys() | {row.ref for row in rows})


def canonical_ref(ref: KeyRef) -> KeyRef:
    """Return the key that a row should be stored under, with Baileys' file-name escaping undone.

    A group's name comes from the sender of the message and may be any text, so a ``sender-key``
    with ``::`` in it is taken as it is.
    """
    if ref.key_type == "sender-key" and "::" in ref.key_id:
        return ref
    return parse_file_name(file_name(*ref)) or ref


def _read_all(rows: Iterable[Document]) -> list[_Reading]:
    readings = [(row, _read(row)) for row in rows]
    # A token may have any length, so only other rows prove that this writer encoded twice.
    if not any("buffer-encoded-twice" in reading.forms for _, reading in readings):
        return [reading for _, reading in readings]
    return [reading if reading.fault is None else _read_again(row) for row, reading in readings]


def _read(row: Document) -> _Reading:
    ref = canonical_ref(row.ref)
    try:
        value = codec.decode(row.json, company_id=None, **ref._asdict())
    except CodecError as error:
        return _Reading(row.ref, ref, fault=("unreadable", f"cannot be read: {describe(error)}"))
    return _understood(row, ref, value)


def _read_again(row: Document) -> _Reading:
    ref = canonical_ref(row.ref)
    shape = shape_of(*ref)
    if shape is None:
        return _read(row)
    try:
        value = shape.read(row.json, Evidence(trusted=True))
    except Malformed:
        return _read(row)
    return _understood(row, ref, value)


def _understood(row: Document, ref: KeyRef, value: Value) -> _Reading:
    """Return what is wrong with a row that can be read, if anything is."""
    if shape_of(*ref) is None:
        return _Reading(row.ref, ref, value, row.json)
    if ref.key_type == "session" and type(value) is bytes:
        return _Reading(row.ref, ref, fault=("other-family", "bytes, as other clients store it"))
    try:
        codec.check(value, company_id=None, **ref._asdict())
        canonical = codec.encode(value, company_id=None, **ref._asdict())
    except CodecError as error:
        return _Reading(row.ref, ref, fault=("not-whole", f"not whole: {describe(error)}"))
    if ref.key_type == "pre-key" and not is_pair(value):
        return _Reading(row.ref, ref, fault=("key-pair", MISMATCH))
    return _Reading(row.ref, ref, value, canonical, damaged_forms(row.json, canonical))


def is_pair(pair: dict[str, bytes]) -> bool:
    """Return whether ``public`` is the X25519 public key of ``private``, 32 bytes each."""
    return crypto_scalarmult_base(pair["private"]) == pair["public"]


def describe(error: CodecError) -> str:
    """Return what an error says, without the name of the row."""
    # Names inside a value may be any text, and a terminal obeys control characters.
    place = ".".join(repr(str(part))[1:-1] for part in error.path)
    return f"{place} {error.reason}".strip()


def _agreed(misnamed: Sequence[_Reading]) -> _Reading | None:
    """Return one of several rows that belong under the same key, if they hold the same value."""
    first = misnamed[0]
    same = all(each.fault is None and each.canonical == first.canonical for each in misnamed)
    return first if same else None


def _note_faults(reading: _Reading, findings: Findings) -> None:
    ref = reading.ref
    if reading.fault is not None:
        code, what = reading.fault
        findings.add_unrepairable(code, ref, what, _REASONS[code])
    for code, what in reading.forms.items():
        findings.add_repairable(code, ref, what, FORM_REMEDY)
        findings.change.keys[ref] = reading.canonical
    if ref.key_type in KEY_TYPES and parse_file_name(file_name(*ref)) != ref:
        findings.add_unrepairable(
            "unknown-name",
            ref,
            "an id that Baileys does not make by itself",
            "it may be what a stranger named a group; it cannot be exported to a file",
            damage=False,
        )


def _note_wrong_name(reading: _Reading, kept: _Reading | None, findings: Findings) -> None:
    ref = reading.canonical_ref
    what = f"belongs under {ref.key_type} {ref.key_id!r}"
    reason = _why_not_renamed(reading, kept)
    if reason is not None:
        findings.add_unrepairable("wrong-name", reading.ref, what, reason)
        return
    findings.add_repairable("wrong-name", reading.ref, what, "a repair gives it that name")
    findings.change.keys[reading.ref] = None
    if kept is not None and kept.ref != ref:
        findings.change.keys[ref] = kept.canonical


def _why_not_renamed(reading: _Reading, kept: _Reading | None) -> str | None:
    if reading.fault is not None:
        return f"its value does not belong there ({reading.fault[1]})"
    if kept is None:
        return "other rows belong there too, with other values"
    if kept.fault is not None:
        return "there is a row of the right name, which is beyond repair itself"
    if kept.canonical != reading.canonical:
        return "there is a row of the right name with another value"
    return None
