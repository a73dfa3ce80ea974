"""The vocabulary of Baileys' auth state, as Python types.

Mirrors Baileys 7.0.0-rc14, ``src/Types/Auth.ts``. Known key types are listed for the reader; an
unknown type is stored, not refused, because new ones arrive with Baileys' releases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, get_args, runtime_checkable

KeyType: TypeAlias = Literal[
    "pre-key",
    "session",
    "sender-key",
    "sender-key-memory",
    "app-state-sync-key",
    "app-state-sync-version",
    "lid-mapping",
    "device-list",
    "tctoken",
    "identity-key",
]

KEY_TYPES: tuple[str, ...] = get_args(KeyType)
"""The same names, in the same order, at run time."""


class KeyRef(NamedTuple):
    """One key of a company.

    Attributes:
        key_type: a `KeyType`, or the name of a type that Baileys does not have yet.
        key_id: the id within the type, as Baileys passes it to ``get`` and ``set``.
    """

    key_type: str
    key_id: str


Value: TypeAlias = Any
"""A JSON value that may hold ``bytes`` at any depth, where Baileys has a Buffer."""

Creds: TypeAlias = dict[str, Any]
"""Baileys' ``AuthenticationCreds`` under its own camelCase names, ``bytes`` for Buffers."""

SignalDataSet: TypeAlias = Mapping[str, Mapping[str, Any]]
"""``{key_type: {key_id: value}}``; a value of None deletes."""

ClientFamily: TypeAlias = Literal["baileys", "pyaileys", "waton"]
"""Which clients understand a company's bytes; ``baileys`` is Node Baileys and WAeys."""


@runtime_checkable
class SignalKeyStore(Protocol):
    """Baileys' ``SignalKeyStore``: what a WhatsApp client needs of a key store."""

    async def get(self, type: str, ids: Sequence[str]) -> dict[str, Any]:
        """Return ``{id: value}``; an id that is not stored is absent from the dict."""
        ...

    async def set(self, data: SignalDataSet) -> None:
        """Store every value and delete every id whose value is None, all or nothing."""
        ...

    async def clear(self) -> None:
        """Delete every key of the company; creds stay."""
        ...
