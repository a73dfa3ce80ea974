"""The keys with which values are sealed before they leave the process."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from supabase_auth_state.errors import ConfigurationError

from .environment import environment

KEYS_VARIABLE = "SUPABASE_AUTH_STATE_KEYS"

PLAIN = "plain"
"""In place of the first key: what is written stays plain, and all keys still open."""

Encryption: TypeAlias = str | Callable[[str], "str | Awaitable[str]"]
"""Keys as `parse_keys` takes them, or what gives them for a company, e.g. from a KMS."""

_KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_HOW = (
    f"{KEYS_VARIABLE} is a list such as k2:<base64>,k1:<base64>; `openssl rand -base64 32` makes a "
    "key"
)


@dataclass(frozen=True)
class Keys:
    """Keys by their ids.

    Attributes:
        seals: the id of the key that seals what is written, or None to write it plain.
        by_id: 32 bytes for each id; all of them open.
    """

    seals: str | None = None
    by_id: Mapping[str, bytes] = field(default_factory=dict, repr=False)


NO_KEYS = Keys()


def parse_keys(text: object) -> Keys:
    """Return the keys of a list such as ``k2:<base64>,k1:<base64>``.

    The first key seals and all of them open. ``plain`` as the first entry seals nothing: give every
    process ``plain,k1:…`` before the first one gets ``k1:…``, so that all can read what it writes.

    Raises:
        ConfigurationError: it is no such list. The message has no part of a key.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"encryption must give text, not {type(text).__name__}: {_HOW}")
    entries = [entry.strip() for entry in text.split(",")]
    plain = entries[0] == PLAIN
    by_id: dict[str, bytes] = {}
    for number, entry in enumerate(entries[1:] if plain else entries, 2 if plain else 1):
        key_id, _, encoded = entry.partition(":")
        if key_id == PLAIN or not _KEY_ID.fullmatch(key_id):
            raise ConfigurationError(
                f"entry {number} has no id of letters, digits, _ and - before a colon: {_HOW}"
            )
        if key_id in by_id:
            raise ConfigurationError(f"two keys have the id {key_id}: {_HOW}")
        by_id[key_id] = _key(key_id, encoded)
    return Keys(None if plain else next(iter(by_id)), by_id)


def check_encryption(encryption: Encryption | None) -> Encryption | None:
    """Return keys, or what gives them, if they can be used.

    Raises:
        ConfigurationError: they are neither a list of keys nor something that can be called.
    """
    if encryption is not None and not callable(encryption):
        parse_keys(encryption)
    return encryption


def encryption_of(env: Mapping[str, str] | None = None) -> str | None:
    """Return what ``SUPABASE_AUTH_STATE_KEYS`` holds, or None when it is not set.

    Args:
        env: read this mapping instead of the environment and ``.env``.

    Raises:
        ConfigurationError: it is no list of keys.
    """
    values = environment() if env is None else env
    text = values.get(KEYS_VARIABLE, "").strip()
    if not text:
        return None
    parse_keys(text)
    return text


def _key(key_id: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    # Raised here, so that no exception in the chain holds what was read.
    if len(key) != _KEY_BYTES:
        raise ConfigurationError(
            f"the key {key_id} is not the base64 of {_KEY_BYTES} bytes: {_HOW}"
        )
    return key
