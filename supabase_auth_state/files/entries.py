"""What an entry of an auth folder is, by its name. No I/O.

Baileys itself only looks at ``creds.json`` and ``<type>-<id>.json``. Other programs leave files and
folders beside them: hosts that copy creds, writers that were interrupted, editors, file managers,
programs that synchronise folders. None of those is a key; but where one holds a value of Baileys',
its name is reported, so that nothing is left out silently.
"""

from __future__ import annotations

import enum
import re

from .names import CREDS_FILE, parse_file_name


class Entry(enum.Enum):
    """What an entry of an auth folder is.

    Attributes:
        VALUE: ``creds.json``, or the file of a key.
        LEFTOVER: a copy of such a file, or a write that was not finished.
        OTHER: a file or folder that holds no value of Baileys'.
        UNKNOWN: it may hold one, so it is reported as a problem.
    """

    VALUE = enum.auto()
    LEFTOVER = enum.auto()
    OTHER = enum.auto()
    UNKNOWN = enum.auto()


# `.<token>-<number>.tmp` is what `atomic.replace` writes.
_UNFINISHED = re.compile(r"\.[0-9a-f]{8}-[0-9]+\.tmp")
# `session-1.0.json.tmp`, `.session-1.0.json.Xa3f9Q` (rsync), `.syncthing.session-1.0.json.tmp`,
# `session-1.0.json.3735928559` (write-file-atomic), `session-1.0.json~`.
_BESIDE = re.compile(r"(?P<before>\.syncthing\.|~syncthing~|[.#]?)(?P<name>.+?\.json)(?P<after>.*)")
# What words a copy of creds.json has in its name: `creds.backup.json`, `Copy of creds.json`,
# `creds (1).json`, `creds_20261127T120000Z.json`. A conflict of two synchronised machines is not
# among them: which of the two is right, only a person can decide.
_COPY_WORDS = frozenset(
    {
        "backup", "back", "bak", "copy", "good", "last", "latest", "of", "old", "orig", "original",
        "prev", "previous", "safe", "save", "saved", "t", "temp", "tmp", "z",
    }
)  # fmt: skip
_WORD = re.compile("[a-z]+|[0-9]+")

# Of editors, office programs and macOS. What else they leave is hidden or does not end in .json.
_NOT_A_VALUE = re.compile(r"\._.*|~\$.*|\.~lock\..*#|\..*\.sw[a-p]")
_FOLDERS = frozenset(
    {
        "lost+found", "@eadir", "#recycle", "$recycle.bin", "system volume information",
        "__macosx",
        # Where hosts of Baileys put what they send and receive.
        "media", "images", "photos", "pictures", "videos", "audio", "voice", "documents",
        "stickers", "thumbnails", "avatars", "attachments", "downloads", "uploads", "logs", "tmp",
        "temp", "cache",
    }
)  # fmt: skip


def entry_of_file(name: str) -> Entry:
    """Return what a file of an auth folder is."""
    if name == CREDS_FILE or parse_file_name(name) is not None:
        return Entry.VALUE
    if _NOT_A_VALUE.fullmatch(name):
        return Entry.OTHER
    if is_creds_copy(name) or _UNFINISHED.fullmatch(name) or value_beside(name) is not None:
        return Entry.LEFTOVER
    if name.startswith(".") or not name.endswith(".json"):
        return Entry.OTHER
    return Entry.UNKNOWN


def entry_of_folder(name: str) -> Entry:
    """Return what a folder inside an auth folder is: `Entry.OTHER` or `Entry.UNKNOWN`."""
    known = name.startswith(".") or name.lower() in _FOLDERS
    return Entry.OTHER if known else Entry.UNKNOWN


def value_beside(name: str) -> str | None:
    """Return the file of which a name shows a copy or an unfinished write, or None."""
    found = _BESIDE.fullmatch(name)
    if found is None or not (found["before"] or found["after"]):
        return None
    value = found["name"]
    return value if value == CREDS_FILE or parse_file_name(value) is not None else None


def is_creds_copy(name: str) -> bool:
    """Return True if a name shows a copy of ``creds.json``, or an unfinished write of it."""
    if name == CREDS_FILE or _NOT_A_VALUE.fullmatch(name):
        return False
    words = set(_WORD.findall(name.lower())) - {"json"}
    others = {word for word in words - {"creds"} if not word.isdigit()}
    return value_beside(name) == CREDS_FILE or (
        "creds" in words and len(words) > 1 and others <= _COPY_WORDS
    )
