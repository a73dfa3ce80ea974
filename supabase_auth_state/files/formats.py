"""WhatsApp state in other formats than an auth folder, by names and first bytes. No I/O.

Sources: Baileys 5.0, ``src/Utils/use-single-file-auth-state.ts``; whatsmeow,
``store/sqlstore/upgrades``; whatsapp-web.js, ``src/authStrategies`` (``LocalAuth`` keeps a profile
of Chromium in ``session`` or ``session-<clientId>``); the SQLite file format, "The Database
Header"; the MessagePack specification, "Formats".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

HEAD_BYTES = 65536
"""How much of a file is enough to recognise it."""


@dataclass(frozen=True)
class Format:
    """A format that is not an auth folder.

    Attributes:
        what: what it is, as the predicate of a sentence.
        instead: what its owner can do.
    """

    what: str
    instead: str


_LINK_ANEW = (
    "its sessions cannot be converted: link the device anew, with the client that is to use the "
    "database"
)

SINGLE_FILE = Format(
    "is the single JSON file of Baileys' useSingleFileAuthState",
    "give the file itself to `supabase-auth-state import`",
)
_SQLITE = Format(
    "is an SQLite database, in which whatsmeow, WAeys and other clients keep their state",
    _LINK_ANEW,
)
_WHATSMEOW = Format("is an SQLite database of whatsmeow (Go)", _LINK_ANEW)
_WATON = Format(
    "is an SQLite database of waton (Python)",
    "docs/waton.md shows how waton uses the database directly",
)
_MSGPACK = Format(
    "is MessagePack, a binary form of JSON that Baileys itself does not write",
    "read it with the program that wrote it, and save every value to a folder with "
    "useMultiFileAuthState of Baileys; that folder can be imported",
)
_CHROMIUM = Format(
    "is a browser profile, as whatsapp-web.js keeps one (LocalAuth)",
    "a browser's keys cannot be taken out of it: link a new device with Baileys, then remove the "
    "old one on the phone",
)
_ZIP = Format(
    "is a .zip file",
    "unpack it, and import the auth folder in it (a RemoteAuth .zip of whatsapp-web.js holds a "
    "browser profile, which cannot be imported)",
)
_GZIP = Format(
    "is a compressed file",
    "`supabase-auth-state restore` reads the backups of this library; unpack any other, and import "
    "the auth folder in it",
)
_CREDS = Format(
    "is the creds.json of an auth folder, without its keys", "give the folder that it is in"
)
_JSON = Format(
    "is a JSON file, but not that of Baileys' useSingleFileAuthState",
    'such a file begins with {"creds": and has the groups of keys under "keys"',
)

_MSGPACK_NAME = re.compile(r".+\.(?:bin|msgpack|msgpk|mpk)", re.IGNORECASE)
_TELLING_NAME = re.compile(
    rf"{_MSGPACK_NAME.pattern}|.+\.(?:db|db3|sqlite|sqlite3|json)", re.IGNORECASE
)
_SINGLE_FILE = re.compile(rb'\s*\{\s*"(?:creds|keys)"\s*:\s*\{')
_FORMATS_IN_FOLDERS = frozenset({SINGLE_FILE, _SQLITE, _WHATSMEOW, _WATON, _MSGPACK})
_SESSION_PROFILE = re.compile(r"session(?:-[^/]*)?/Default")
_PROFILE_FOLDERS = ("IndexedDB", "Local Storage", "Service Worker", "Session Storage")
_UTF8_BOM = b"\xef\xbb\xbf"


def format_of_file(name: str, head: bytes) -> Format | None:
    """Return which format a file has, or None.

    Args:
        name: the file's name.
        head: its first `HEAD_BYTES` bytes, or all of them if it has fewer.
    """
    head = head.removeprefix(_UTF8_BOM)
    if head.startswith(b"SQLite format 3\0"):
        return _sqlite(head)
    if head.startswith(b"PK\x03\x04"):
        return _ZIP
    if head.startswith(b"\x1f\x8b"):
        return _GZIP
    if _SINGLE_FILE.match(head):
        return SINGLE_FILE
    if head.lstrip().startswith(b"{"):
        return _CREDS if b'"noiseKey"' in head else _JSON
    if _MSGPACK_NAME.fullmatch(name) and _is_msgpack_map(head):
        return _MSGPACK
    return None


def _sqlite(head: bytes) -> Format:
    # The first page holds the schema, as the text of its CREATE statements.
    if b"whatsmeow_" in head:
        return _WHATSMEOW
    return _WATON if b"sender_keys" in head and b"prekeys" in head else _SQLITE


def _is_msgpack_map(head: bytes) -> bool:
    # A fixmap, map 16 or map 32, as which creds and keys are written.
    return len(head) > 1 and (0x80 <= head[0] <= 0x8F or head[0] in {0xDE, 0xDF})


def format_of_folder(
    names: Collection[str], heads: Mapping[str, bytes]
) -> tuple[str, Format] | None:
    """Return by which entry a folder without creds.json is recognised, and its format, or None.

    Args:
        names: the names in it, and those in its subfolders with a slash: ``Default/IndexedDB``.
        heads: the first `HEAD_BYTES` bytes of those of its files that `is_telling` is true of.
    """
    for name in sorted(names):
        if name.rpartition("/")[2] in _PROFILE_FOLDERS or _SESSION_PROFILE.fullmatch(name):
            return name, _CHROMIUM
    for name, head in sorted(heads.items()):
        found = format_of_file(name, head)
        if found in _FORMATS_IN_FOLDERS:
            return name, found
    return None


def is_telling(name: str) -> bool:
    """Return True for a file whose first bytes `format_of_folder` needs, by its name."""
    return _TELLING_NAME.fullmatch(name) is not None
