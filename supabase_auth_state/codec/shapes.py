"""Where Baileys keeps bytes, in the value of each key type and in creds. No I/O.

A shape reads a stored JSON value and repairs damaged bytes, by field and length, without guessing.
It writes a Python value, and refuses one that it would read back as another. And it checks that a
value is whole. Fields that a shape does not name are read and written by ``bufferjson``.

Source: Baileys 7.0.0-rc14 and 6.7.24, ``src/Types/Auth.ts`` and what their ``keys.set`` calls pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from .bufferjson import (
    NOT_CANONICAL,
    Malformed,
    check_object,
    from_base64,
    from_buffer,
    is_bytes,
    is_called_buffer,
    plain,
    revive,
    to_base64,
    to_buffer,
)
from .legacy import read_damaged, unwrap

_MIN_CERTAIN_TEXT = 16

_DOUBTFUL = (
    "looks like base64 text encoded once more, but any length is right here, so it may also be "
    "bytes that happen to look like that"
)
_READ_AS_ENCODED_TWICE = (
    "is the base64 text of what belongs here and would be read as encoded twice: pass the bytes "
    "themselves"
)


class Doubtful(Malformed):
    """Bytes of any length that may be encoded twice; another field of the record may decide it."""


@dataclass
class Evidence:
    """What the fields of one record show about the client that wrote it.

    Attributes:
        encoded_twice: a field of known length was found encoded twice.
        trusted: whether bytes of any length that look encoded twice are read as encoded twice.
    """

    encoded_twice: bool = False
    trusted: bool = False


def looks_encoded_twice(data: bytes) -> bool:
    """Return True if ``data`` is base64 text that binary data hardly ever is by chance.

    Strict standard base64, and either padded or at least 16 characters long: 16 random bytes are
    that once in 4 * 10^9 times. Short words such as ``b"token123"`` are not.
    """
    certain = data.endswith(b"=") or len(data) >= _MIN_CERTAIN_TEXT
    return certain and from_base64(data) is not None


class Shape(Protocol):
    """One place in a record."""

    def read(self, stored: Any, evidence: Evidence, /) -> Any:
        """Return the Python value of a stored JSON value."""
        ...

    def write(self, value: Any) -> Any:
        """Return the JSON value of a Python value, which ``read`` returns equal."""
        ...

    def check(self, value: Any) -> None:
        """Refuse a Python value that Baileys cannot have meant."""
        ...


class _Field(ABC):
    """Bytes in a known place."""

    @abstractmethod
    def settle(self, data: bytes, evidence: Evidence) -> bytes:
        """Return ``data``, or the bytes that it is the base64 text of if it was encoded twice."""

    @abstractmethod
    def repair(self, stored: Any) -> bytes | None:
        """Return the bytes of a stored value that is not canonical, or None if they are unsure."""

    @abstractmethod
    def check(self, value: Any) -> None:
        """Refuse a value that is not the bytes of this field."""

    def read(self, stored: Any, evidence: Evidence) -> bytes:
        data = from_buffer(stored) if type(stored) is dict else None
        if data is not None:
            # Canonical bytes of another length are returned too: a client stored them like that.
            return self.settle(data, evidence)
        data = self.repair(stored)
        if data is None:
            raise Malformed("is not bytes in a form that can be read for certain")
        data = self.settle(data, evidence)
        self.check(data)
        return data

    def write(self, value: Any) -> dict[str, str]:
        if not is_bytes(value):
            raise Malformed(f"is a {type(value).__name__} where bytes belong")
        data = bytes(value)
        self.refuse_encoded_twice(data)
        return to_buffer(data)

    def refuse_encoded_twice(self, data: bytes) -> None:
        """Refuse bytes that ``read`` would take for something else."""
        if self.settle(data, Evidence()) is not data:
            raise Malformed(_READ_AS_ENCODED_TWICE)


@dataclass(frozen=True)
class _Bytes(_Field):
    """Bytes of a known length, or with a known beginning, by which wrong bytes are noticed."""

    length: int | None = None
    start: bytes = b""

    def settle(self, data: bytes, evidence: Evidence) -> bytes:
        if self._fits(data):
            return data
        inner = from_base64(data)
        if inner is None or not self._fits(inner):
            return data
        evidence.encoded_twice = True
        return inner

    def repair(self, stored: Any) -> bytes | None:
        return read_damaged(stored)

    def check(self, value: Any) -> None:
        if type(value) is bytes and self._fits(value):
            return
        if self.length is not None:
            raise Malformed(f"is not {self.length} bytes")
        raise Malformed(f"is not bytes beginning with {self.start.decode()!r}")

    def _fits(self, data: bytes) -> bool:
        return data.startswith(self.start) and (self.length is None or len(data) == self.length)


@dataclass(frozen=True)
class _EmptyOr:
    """Bytes that may also be empty."""

    content: _Field

    def read(self, stored: Any, evidence: Evidence) -> bytes:
        return b"" if stored in _EMPTY_FORMS else self.content.read(stored, evidence)

    def write(self, value: Any) -> Any:
        return to_buffer(b"") if value == b"" else self.content.write(value)

    def check(self, value: Any) -> None:
        if value != b"":
            self.content.check(value)


# What Buffer.alloc(0) is in JSON, with and without the replacer.
_EMPTY_FORMS = ({"type": "Buffer", "data": ""}, {"type": "Buffer", "data": []})


@dataclass(frozen=True)
class _AnyBytes(_Field):
    """Bytes of any length; by themselves they do not show whether they were encoded twice."""

    def settle(self, data: bytes, evidence: Evidence) -> bytes:
        if not looks_encoded_twice(data):
            return data
        inner = from_base64(data) if evidence.trusted else None
        if inner is None:
            raise Doubtful(_DOUBTFUL)
        return inner

    def repair(self, stored: Any) -> bytes | None:
        # A text or a list may be another value, and there is no length to compare with.
        return read_damaged(stored) if type(stored) is dict else None

    def check(self, value: Any) -> None:
        if type(value) is not bytes:
            raise Malformed("is not bytes")


@dataclass(frozen=True)
class _Base64Text:
    """Bytes that Baileys keeps as a bare base64 string (a protobuf's ``toJSON``)."""

    content: _Field

    def read(self, stored: Any, evidence: Evidence) -> str:
        if type(stored) is not str:
            data = self.content.read(stored, evidence)
            self.content.check(data)
            return to_base64(data)
        return to_base64(self.content.settle(_decoded(stored), evidence))

    def write(self, value: Any) -> str:
        text = _text(value)
        self.content.refuse_encoded_twice(_decoded(text))
        return text

    def check(self, value: Any) -> None:
        self.content.check(_decoded(_text(value)))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Malformed(f"is a {type(value).__name__} where base64 text belongs")
    return value


def _decoded(text: str) -> bytes:
    data = from_base64(text)
    if data is None:
        raise Malformed("is not base64 text")
    return data


@dataclass(frozen=True)
class _Record:
    """An object with known fields; None and absent mean the same.

    Attributes:
        fields: shapes by name.
        others: the shape of every other name, or None to leave their values to ``bufferjson``.
        required: names without which the record cannot be used at all.
        whole: further names that Baileys always writes; only ``check`` demands them.
    """

    fields: Mapping[str, Shape] = field(default_factory=dict)
    others: Shape | None = None
    required: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()

    def read(self, stored: Any, evidence: Evidence) -> dict[str, Any]:
        return self._visit(stored, lambda shape, child: shape.read(child, evidence), revive)

    def write(self, value: Any) -> dict[str, Any]:
        if type(value) is dict:
            check_object(value)
        return self._visit(value, lambda shape, child: shape.write(child), plain)

    def check(self, value: Any) -> None:
        self._visit(value, lambda shape, child: shape.check(child), _leave)
        _demand(self.whole, value)

    def _visit(
        self, value: Any, visit: Callable[[Shape, Any], Any], rest: Callable[[Any], Any]
    ) -> dict[str, Any]:
        if type(value) is not dict:
            raise Malformed(f"is a {type(value).__name__} where an object belongs")
        if is_called_buffer(value):
            raise Malformed(NOT_CANONICAL)
        _demand(self.required, value)
        fresh = {}
        name = ""
        try:
            for name, child in value.items():
                shape = self.fields.get(name, self.others)
                fresh[name] = rest(child) if shape is None or child is None else visit(shape, child)
        except Malformed as found:
            found.path.append(name)
            raise
        return fresh


def _leave(_: Any) -> None:
    """Check nothing."""


def _demand(names: frozenset[str], value: dict[str, Any]) -> None:
    missing = [name for name in names if value.get(name) is None]
    if missing:
        raise Malformed("is missing", min(missing))


@dataclass(frozen=True)
class _Items:
    """A list of records."""

    shape: Shape

    def read(self, stored: Any, evidence: Evidence) -> list[Any]:
        return self._visit(stored, lambda child: self.shape.read(child, evidence))

    def write(self, value: Any) -> list[Any]:
        return self._visit(value, self.shape.write)

    def check(self, value: Any) -> None:
        self._visit(value, self.shape.check)

    @staticmethod
    def _visit(value: Any, visit: Callable[[Any], Any]) -> list[Any]:
        if type(value) is not list:
            raise Malformed(f"is a {type(value).__name__} where a list belongs")
        fresh = value.copy()
        index = 0
        try:
            for index, child in enumerate(value):
                fresh[index] = visit(child)
        except Malformed as found:
            found.path.append(index)
            raise
        return fresh


@dataclass(frozen=True)
class _Opaque:
    """An object or a list whose inside is stored as it is. Text is refused.

    Attributes:
        kind: what Baileys writes, for ``check``.
        whole: names that Baileys always writes, for ``check``.
    """

    kind: type
    whole: frozenset[str] = frozenset()

    def read(self, stored: Any, _: Evidence) -> Any:
        self._refuse_text(stored)
        return revive(stored)

    def write(self, value: Any) -> Any:
        self._refuse_text(value)
        return plain(value)

    def check(self, value: Any) -> None:
        if type(value) is not self.kind:
            raise Malformed(f"is a {type(value).__name__} where a {self.kind.__name__} belongs")
        if type(value) is dict:
            _demand(self.whole, value)

    @staticmethod
    def _refuse_text(value: Any) -> None:
        if type(value) is str:
            raise Malformed("is text where an object or a list belongs")


@dataclass(frozen=True)
class _Row:
    """The whole value of a row.

    ``""`` and canonical bytes are accepted under every type, since clients other than Baileys store
    raw bytes. A JSON string that holds the JSON text of the value is unwrapped.
    """

    shape: Shape

    @cached_property
    def _is_bytes(self) -> bool:
        return isinstance(self.shape, _Field)

    def read(self, stored: Any, evidence: Evidence) -> Any:
        if type(stored) is str:
            if not stored:
                return stored
            stored = unwrap(stored, '{["')
        data = from_buffer(stored) if type(stored) is dict and not self._is_bytes else None
        return self.shape.read(stored, evidence) if data is None else data

    def write(self, value: Any) -> Any:
        if type(value) is str and not value:
            return value
        if is_bytes(value) and not self._is_bytes:
            return to_buffer(bytes(value))
        return self.shape.write(value)

    def check(self, value: Any) -> None:
        self.shape.check(value)


@dataclass(frozen=True)
class _LidUser:
    """``lid-mapping``: a JSON string of digits, which must not be parsed again to a number."""

    def read(self, stored: Any, _: Evidence) -> Any:
        value = unwrap(stored, '"')
        self._refuse_number(value)
        return revive(value)

    def write(self, value: Any) -> Any:
        self._refuse_number(value)
        if type(value) is str and value.startswith('"'):
            raise Malformed("begins with a quotation mark and would be read as JSON text")
        return plain(value)

    def check(self, value: Any) -> None:
        if not (type(value) is str and value.isascii() and value.isdigit()):
            raise Malformed("is not a string of digits")

    @staticmethod
    def _refuse_number(value: Any) -> None:
        if type(value) in (int, float):
            raise Malformed("is a number where a string of digits belongs")


_PAIR = _Record(
    {"private": _Bytes(32), "public": _Bytes(32)}, required=frozenset({"private", "public"})
)

_ROWS: Mapping[str, _Row | _LidUser] = {
    "pre-key": _Row(_PAIR),
    "session": _Row(_Opaque(dict, whole=frozenset({"_sessions"}))),
    "sender-key": _Row(_Bytes(start=b"[")),
    "sender-key-memory": _Row(_Opaque(dict)),
    "app-state-sync-key": _Row(
        _Record({"keyData": _Base64Text(_Bytes(32))}, whole=frozenset({"keyData"}))
    ),
    "app-state-sync-version": _Row(
        _Record(
            {
                "hash": _Bytes(128),
                "indexValueMap": _Record(others=_Record({"valueMac": _Bytes(32)})),
            },
            whole=frozenset({"version", "hash"}),
        )
    ),
    "lid-mapping": _LidUser(),
    "device-list": _Row(_Opaque(list)),
    "tctoken": _Row(_Record({"token": _AnyBytes()}, whole=frozenset({"token"}))),
    "identity-key": _Row(_Bytes(33)),
}

# The id under which Baileys keeps the JSON array of all tracked jids, in the field `token`.
_TCTOKEN_INDEX = _Row(_Record({"token": _Bytes(start=b"[")}, whole=frozenset({"token"})))

SHAPED_TYPES = frozenset(
    key_type
    for key_type, row in _ROWS.items()
    if not (isinstance(row, _LidUser) or isinstance(row.shape, _Opaque))
)
"""The key types that hold bytes in known places. A dict or list of another type is stored as is."""

CREDS: Shape = _Record(
    {
        "noiseKey": _PAIR,
        "pairingEphemeralKeyPair": _PAIR,
        "signedIdentityKey": _PAIR,
        "signedPreKey": _Record(
            {"keyPair": _PAIR, "signature": _Bytes(64)},
            whole=frozenset({"keyPair", "signature", "keyId"}),
        ),
        "routingInfo": _AnyBytes(),
        "account": _Record(
            {
                "details": _Base64Text(_AnyBytes()),
                "accountSignatureKey": _Base64Text(_Bytes(32)),
                "accountSignature": _Base64Text(_Bytes(64)),
                "deviceSignature": _Base64Text(_Bytes(64)),
            }
        ),
        "signalIdentities": _Items(_Record({"identifierKey": _Bytes(33)})),
        # Written by 6.5 to 6.7.8 only, for mobile registration.
        "identityId": _AnyBytes(),
        "backupToken": _AnyBytes(),
    },
    whole=frozenset({"noiseKey", "signedIdentityKey", "signedPreKey"}),
)
"""The creds document."""


SENDER_KEY_STATES: Shape = _Items(
    _Record(
        {
            "senderChainKey": _Record({"seed": _Bytes(32)}, required=frozenset({"seed"})),
            # Only our own sender-key has a private key; in others it is empty or absent.
            "senderSigningKey": _Record(
                {"public": _Bytes(33), "private": _EmptyOr(_Bytes(32))},
                required=frozenset({"public"}),
            ),
            "senderMessageKeys": _Items(
                _Record({"seed": _Bytes(32)}, required=frozenset({"iteration", "seed"}))
            ),
        },
        required=frozenset({"senderKeyId", "senderChainKey", "senderSigningKey"}),
    )
)
"""The list whose JSON text a ``sender-key`` is; in Baileys 5 the value was the list itself."""


def shape_of(key_type: str, key_id: str) -> Shape | None:
    """Return the shape of a row's value, or None for a key type that Baileys does not have."""
    if key_type == "tctoken" and key_id == "__index":
        return _TCTOKEN_INDEX
    return _ROWS.get(key_type)
