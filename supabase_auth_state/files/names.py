"""Baileys' file names: from a key's type and id, and back. No I/O.

Baileys writes ``<type>-<id>.json`` with every ``/`` replaced by ``__`` and every ``:`` by ``-``. In
general that cannot be undone. With one grammar for each key type it can, for every id that Baileys
makes by itself.

Source: Baileys 7.0.0-rc14, ``src/Utils/use-multi-file-auth-state.ts``, ``fixFileName``; the same
since 6.5.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TypeAlias

from supabase_auth_state.types import KeyRef

CREDS_FILE = "creds.json"

# In bytes. Most file systems take names of 255.
_ROOM_FOR_MORE = 200

_GROUP = r"(?:[0-9]+(?:-[0-9]+)?@g\.us|(?:status|[0-9]+)@broadcast)"
_USER = r"[0-9]+(?:_[0-9]+)?"


def _same(text: str) -> str:
    return text


def _with_slashes(text: str) -> str:
    return text.replace("__", "/")


def _with_sender(text: str) -> str:
    # There are exactly two, by the grammar below: the id of an old group has a single dash.
    return text.replace("--", "::")


def _with_device(text: str) -> str:
    return re.sub(r"^([0-9]+)-([0-9]+)@", r"\1:\2@", text)


# For each key type, the form of the id in a file name, and the function that gives the id of it.
_GRAMMAR: dict[str, tuple[str, Callable[[str], str]]] = {
    "pre-key": (r"[0-9]+", _same),
    "session": (rf"{_USER}\.[0-9]+", _same),
    "identity-key": (rf"{_USER}\.[0-9]+", _same),
    "sender-key": (rf"{_GROUP}--{_USER}--[0-9]+", _with_sender),
    "sender-key-memory": (_GROUP, _same),
    "app-state-sync-key": (r"(?:[A-Za-z0-9+]|__)+={0,2}", _with_slashes),
    "app-state-sync-version": (r"[a-z_]+", _same),
    "lid-mapping": (r"[0-9]+(?:_reverse)?", _same),
    "device-list": (r"[0-9]+", _same),
    "tctoken": (r"__index|[0-9]+(?:-[0-9]+)?@[a-z.]+", _with_device),
}
_Pattern: TypeAlias = tuple[str, re.Pattern[str], Callable[[str], str]]

# By their first two letters: 336 names take 0.6 ms instead of 1.8 ms.
_PATTERNS: defaultdict[str, list[_Pattern]] = defaultdict(list)
for _type, (_pattern, _invert) in _GRAMMAR.items():
    _expression = re.compile(rf"{_type}-({_pattern})\.json")
    _PATTERNS[_type[:2]].append((_type, _expression, _invert))


def file_name(key_type: str, key_id: str) -> str:
    """Return the name of the file in which Baileys keeps a key."""
    return f"{key_type}-{key_id}.json".replace("/", "__").replace(":", "-")


def parse_file_name(name: str) -> KeyRef | None:
    """Return the key that a file of this name holds, or None when that is not certain.

    Certain means: the name fits the grammar of exactly one key type, and that key's own file name
    is this name again. ``creds.json`` is not a key.
    """
    refs = [
        KeyRef(key_type, invert(match[1]))
        for key_type, pattern, invert in _PATTERNS.get(name[:2], ())
        if (match := pattern.fullmatch(name))
    ]
    if len(refs) != 1 or file_name(*refs[0]) != name:
        return None
    return refs[0]


def beginning_of(name: str) -> str:
    """Return a name, cut if it is so long that nothing could be added to it."""
    encoded = name.encode(errors="surrogateescape")
    if len(encoded) <= _ROOM_FOR_MORE:
        return name
    return encoded[:_ROOM_FOR_MORE].decode(errors="ignore")


def colliding(refs: Iterable[KeyRef]) -> dict[str, list[KeyRef]]:
    """Return the file names that more than one of ``refs`` would have, and which those are."""
    by_name: defaultdict[str, list[KeyRef]] = defaultdict(list)
    for ref in dict.fromkeys(refs):
        by_name[file_name(*ref)].append(ref)
    return {name: sharing for name, sharing in by_name.items() if len(sharing) > 1}
