"""A company's values as JSON documents, from a folder and from the tables, and how they compare.

No I/O.
"""

from __future__ import annotations

import enum
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from supabase_auth_state import codec
from supabase_auth_state.codec import Sealing, is_sealed, sealed_with
from supabase_auth_state.errors import CodecError, SealedValueError, some_of
from supabase_auth_state.files.folder import FolderContents
from supabase_auth_state.files.names import CREDS_FILE, file_name
from supabase_auth_state.types import Creds, KeyRef, Value

CREDS = KeyRef("", "")
"""The place of the creds among the keys; no key has an empty type."""

MAPPING = "lid-mapping"
MAPPING_DAYS = 7.0

_REVERSE = "_reverse"
# File times are finer than those of the database.
_SAME_TIME = 0.001


@dataclass(frozen=True)
class Document:
    """One value as a file or a row holds it: JSON, and when it was last changed.

    Attributes:
        ref: type and id, or `CREDS`.
        json: the JSON value.
        time: when it was last changed, in seconds since 1970.
        sealed: the JSON value as the row holds it, when it is sealed. ``json`` is what is in it,
            or this same value when no key opens it.
    """

    ref: KeyRef
    json: Any = field(repr=False)
    time: float
    sealed: Any = field(default=None, repr=False)

    @property
    def text(self) -> bytes:
        """The JSON text with sorted names: the same for the same value."""
        return orjson.dumps(self.json, option=orjson.OPT_SORT_KEYS)

    @property
    def stored(self) -> Any:
        """The JSON value as the row holds it."""
        return self.json if self.sealed is None else self.sealed

    @property
    def stored_text(self) -> bytes:
        """The JSON text of that value, as `text`."""
        return orjson.dumps(self.stored, option=orjson.OPT_SORT_KEYS)


Documents = Mapping[KeyRef, Document]


def opened(ref: KeyRef, stored: Any, time: float, sealing: Sealing) -> Document:
    """Return the document of a row; a sealed one that does not open stays sealed."""
    if not is_sealed(stored):
        return Document(ref, stored, time)
    try:
        return Document(ref, sealing.open(ref, stored), time, stored)
    except SealedValueError:
        return Document(ref, stored, time, stored)


def refuse_sealed(documents: Iterable[Document], company_id: str) -> None:
    """Return if every document is open.

    Raises:
        SealedValueError: one is sealed, and no key here opens it.
    """
    for document in documents:
        if is_sealed(document.json):
            decoded(document, company_id)


def sealed_with_each(documents: Iterable[Document]) -> Counter[str]:
    """Return how many documents are stored sealed with each key."""
    return Counter(key for each in documents if (key := sealed_with(each.stored)) is not None)


class Match(enum.Enum):
    """What a row is to the file of the same key.

    Attributes:
        SAME: the same JSON.
        SAME_VALUE: the same value in a form that Baileys does not write.
        DIFFERENT: another value.
        UNREADABLE: nothing that can be read for certain.
    """

    SAME = enum.auto()
    SAME_VALUE = enum.auto()
    DIFFERENT = enum.auto()
    UNREADABLE = enum.auto()


def match(file: Document, row: Document, company_id: str, family: str = codec.BAILEYS) -> Match:
    """Compare a row with the file of the same key, value by value and type by type."""
    if row.text == file.text:
        return Match.SAME
    try:
        value = decoded(row, company_id, family)
        repaired = encoded(row.ref, value, row.time, company_id, family)
    except CodecError:
        return Match.UNREADABLE
    return Match.SAME_VALUE if repaired.text == file.text else Match.DIFFERENT


def decoded(document: Document, company_id: str, family: str = codec.BAILEYS) -> Value:
    """Return the Python value of a document.

    Raises:
        CodecError: it cannot be read for certain.
    """
    stored, ref = document.json, document.ref
    if ref == CREDS:
        return codec.decode_creds(stored, company_id=company_id, family=family)
    return codec.decode(stored, company_id=company_id, family=family, **ref._asdict())


def encoded(
    ref: KeyRef, value: Value, time: float, company_id: str, family: str = codec.BAILEYS
) -> Document:
    """Return the document of a Python value.

    Raises:
        CodecError: it cannot be stored as it is.
    """
    if ref == CREDS:
        creds = codec.encode_creds(value, company_id=company_id, family=family)
        return Document(ref, creds, time)
    stored = codec.encode(value, company_id=company_id, family=family, **ref._asdict())
    return Document(ref, stored, time)


def folder_documents(contents: FolderContents) -> dict[KeyRef, Document]:
    """Return what was understood of a folder, as documents in the order of type and id."""
    found = {
        key.ref: Document(key.ref, key.document, key.mtime or 0.0)
        for key in sorted(contents.keys, key=lambda key: key.ref)
    }
    if contents.creds is not None:
        found[CREDS] = Document(CREDS, contents.creds_document, contents.creds_mtime or 0.0)
    return found


def name_of(ref: KeyRef) -> str:
    """Return a key's name for people."""
    return "creds" if ref == CREDS else f"{ref.key_type} {ref.key_id}"


def type_of(ref: KeyRef) -> str:
    """Return Baileys' key type of a key, or ``"creds"``."""
    return "creds" if ref == CREDS else ref.key_type


def file_of(ref: KeyRef) -> str:
    """Return the name of a key's file."""
    return CREDS_FILE if ref == CREDS else file_name(*ref)


def pre_key_number(key_id: str) -> int | None:
    """Return the number that an id of the type ``pre-key`` is, or None when it is none."""
    return int(key_id) if re.fullmatch("[1-9][0-9]*", key_id) else None


def is_newer(one: Document, other: Document) -> bool:
    """Return whether a document was certainly changed later than another."""
    return one.time > other.time + _SAME_TIME


@dataclass(frozen=True)
class Device:
    """What makes a linked device one and the same, wherever its creds are.

    Attributes:
        registration_id: Baileys' ``registrationId``.
        identity: the public key of ``signedIdentityKey``.
    """

    registration_id: int
    identity: bytes


def device_of(creds: Creds) -> Device | None:
    """Return which linked device creds are, or None when they do not say."""
    number, pair = creds.get("registrationId"), creds.get("signedIdentityKey")
    identity = pair.get("public") if isinstance(pair, dict) else None
    if type(number) is not int or type(identity) is not bytes:
        return None
    return Device(number, identity)


def device_in(documents: Documents, company_id: str, family: str = codec.BAILEYS) -> Device | None:
    """Return which linked device documents are of, or None when their creds do not say."""
    if CREDS not in documents:
        return None
    try:
        return device_of(decoded(documents[CREDS], company_id, family))
    except CodecError:
        return None


def is_other_device(files: Documents, rows: Documents, company_id: str) -> bool:
    """Return whether the creds on both sides are certainly those of two linked devices."""
    file, row = device_in(files, company_id), device_in(rows, company_id)
    return file is not None and row is not None and file.identity != row.identity


def unneeded_mappings(files: Documents, *, now: float) -> set[KeyRef]:
    """Return the lid-mappings of a folder that are older than seven days and that no session needs.

    A mapping is two files, one for each direction; both are needed, or neither. It is needed while
    either direction is younger, or while there is a session with its LID or its phone number: the
    session is stored under the one and looked up by the other.
    """
    users = {_user(ref.key_id) for ref in files if ref.key_type == "session"}
    pairs: defaultdict[tuple[str, str], list[Document]] = defaultdict(list)
    for ref, document in files.items():
        if ref.key_type == MAPPING:
            pairs[_pair(document)].append(document)
    oldest = now - MAPPING_DAYS * 86400
    return {
        document.ref
        for pair, documents in pairs.items()
        if users.isdisjoint(pair) and all(document.time < oldest for document in documents)
        for document in documents
    }


def _user(session_id: str) -> str:
    # <user>.<device> or <user>_<domain>.<device>
    return re.split(r"[._]", session_id, maxsplit=1)[0]


def _pair(mapping: Document) -> tuple[str, str]:
    """Return phone number and LID of a mapping, whichever direction it is."""
    key_id, other = mapping.ref.key_id, str(mapping.json)
    if key_id.endswith(_REVERSE):
        return other, key_id.removesuffix(_REVERSE)
    return key_id, other


def names(refs: Iterable[KeyRef]) -> str:
    """Return the names of the first few keys, and how many more there are."""
    return some_of(map(name_of, refs))
