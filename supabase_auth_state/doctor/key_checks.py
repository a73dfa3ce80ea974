"""Each key row by itself: does it have its right name, can it be read, is it whole? Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from nacl.bindings import crypto_scalarmult_base

from supabase_auth_state import codec
from supabase_auth_state.codec.bufferjson import Malformed
from supabase_auth_state.codec.shapes import KNOWN_TYPES, Evidence, shape_of
from supabase_auth_state.errors import CodecError
from supabase_auth_state.files.names import KeyRef, file_name, parse_file_name
from supabase_auth_state.transfer.rows import RawKey
from supabase_auth_state.types import Value

from .damage import damaged_forms
from .findings import Chart, Code

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
        home: the key that it stands for.
        value: the Python value, None when there is a fault.
        canonical: the JSON value that belongs there, None when there is a fault.
        forms: the damaged forms that the row has, and what they are.
        fault: what is beyond repair, and its code.
    """

    ref: KeyRef
    home: KeyRef
    value: Value = field(default=None, repr=False)
    canonical: Any = field(default=None, repr=False)
    forms: dict[Code, str] = field(default_factory=dict)
    fault: tuple[Code, str] | None = None


def examine_keys(rows: Sequence[RawKey], chart: Chart) -> Rows:
    """Examine every row by itself, and return the keys as a repair leaves them."""
    by_home: defaultdict[KeyRef, list[_Reading]] = defaultdict(list)
    for reading in _read_all(rows):
        by_home[reading.home].append(reading)
    values: dict[KeyRef, Value] = {}
    for home, readings in by_home.items():
        own = next((reading for reading in readings if reading.ref == home), None)
        strays = [reading for reading in readings if reading is not own]
        if own is not None:
            _note_own(own, chart)
        keeper = own or _agreed(strays)
        for stray in strays:
            _note_stray(stray, keeper, chart)
        if keeper is not None and keeper.fault is None:
            values[home] = keeper.value
    return Rows(values, values.keys() | {row.ref for row in rows})


def right_name(ref: KeyRef) -> KeyRef:
    """Return the key that a row stands for: itself, unless its name is another's, mangled.

    A group's name comes from whoever wrote the message and may be any text, so a ``sender-key``
    with ``::`` in it is taken as it is.
    """
    if ref.key_type == "sender-key" and "::" in ref.key_id:
        return ref
    return parse_file_name(file_name(*ref)) or ref


def _read_all(rows: Iterable[RawKey]) -> list[_Reading]:
    readings = [(row, _read(row)) for row in rows]
    # A token may have any length, so only other rows can tell that this writer encoded twice.
    if not any("buffer-encoded-twice" in reading.forms for _, reading in readings):
        return [reading for _, reading in readings]
    return [reading if reading.fault is None else _read_again(row) for row, reading in readings]


def _read(row: RawKey) -> _Reading:
    home = right_name(row.ref)
    try:
        value = codec.decode(row.stored, company_id=None, **home._asdict())
    except CodecError as error:
        return _Reading(row.ref, home, fault=("unreadable", f"cannot be read: {told(error)}"))
    return _understood(row, home, value)


def _read_again(row: RawKey) -> _Reading:
    home = right_name(row.ref)
    shape = shape_of(*home)
    if shape is None:
        return _read(row)
    try:
        value = shape.read(row.stored, Evidence(trusted=True))
    except Malformed:
        return _read(row)
    return _understood(row, home, value)


def _understood(row: RawKey, home: KeyRef, value: Value) -> _Reading:
    """Tell what is wrong with a row that can be read, if anything is."""
    if shape_of(*home) is None:
        return _Reading(row.ref, home, value, row.stored)
    if home.key_type == "session" and type(value) is bytes:
        return _Reading(row.ref, home, fault=("other-family", "bytes, as other clients store it"))
    try:
        codec.check(value, company_id=None, **home._asdict())
        canonical = codec.encode(value, company_id=None, **home._asdict())
    except CodecError as error:
        return _Reading(row.ref, home, fault=("not-whole", f"not whole: {told(error)}"))
    if home.key_type == "pre-key" and not is_pair(value):
        return _Reading(row.ref, home, fault=("key-pair", MISMATCH))
    return _Reading(row.ref, home, value, canonical, damaged_forms(row.stored, canonical))


def is_pair(pair: dict[str, bytes]) -> bool:
    """Tell whether ``public`` is the X25519 public key of ``private``, 32 bytes each."""
    return crypto_scalarmult_base(pair["private"]) == pair["public"]


def told(error: CodecError) -> str:
    """Say what an error says, without the name of the row."""
    # Names inside a value are anybody's text, and a terminal obeys control characters.
    place = ".".join(repr(str(part))[1:-1] for part in error.path)
    return f"{place} {error.reason}".strip()


def _agreed(strays: Sequence[_Reading]) -> _Reading | None:
    """Return one of several rows that stand for the same key, if they hold the same value."""
    first = strays[0]
    same = all(stray.fault is None and stray.canonical == first.canonical for stray in strays)
    return first if same else None


def _note_own(own: _Reading, chart: Chart) -> None:
    ref = own.ref
    if own.fault is not None:
        code, what = own.fault
        chart.leave(code, ref, what, _REASONS[code])
    for code, what in own.forms.items():
        chart.repair(code, ref, what, FORM_REMEDY)
        chart.change.keys[ref] = own.canonical
    if ref.key_type in KNOWN_TYPES and parse_file_name(file_name(*ref)) != ref:
        chart.leave(
            "unknown-name",
            ref,
            "an id that Baileys does not make by itself",
            "it may be what a stranger named a group; it cannot be exported to a file",
            damage=False,
        )


def _note_stray(stray: _Reading, keeper: _Reading | None, chart: Chart) -> None:
    home = f"{stray.home.key_type} {stray.home.key_id!r}"
    what = f"stands for {home}"
    reason = _why_not_renamed(stray, keeper)
    if reason is not None:
        chart.leave("wrong-name", stray.ref, what, reason)
        return
    chart.repair("wrong-name", stray.ref, what, "a repair gives it that name")
    chart.change.keys[stray.ref] = None
    if keeper is not None and keeper.ref != stray.home:
        chart.change.keys[stray.home] = keeper.canonical


def _why_not_renamed(stray: _Reading, keeper: _Reading | None) -> str | None:
    if stray.fault is not None:
        return f"its value does not belong there ({stray.fault[1]})"
    if keeper is None:
        return "other rows stand for it too, with other values"
    if keeper.fault is not None:
        return "there is a row of the right name, which is beyond repair itself"
    if keeper.canonical != stray.canonical:
        return "there is a row of the right name with another value"
    return None
