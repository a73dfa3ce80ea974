"""What of an auth folder goes into the database, and why some folders do not."""

from __future__ import annotations

import time
from pathlib import Path

from supabase_auth_state.errors import FolderError, some_of
from supabase_auth_state.files.folder import FolderContents
from supabase_auth_state.files.names import CREDS_FILE
from supabase_auth_state.files.reading import kind_of
from supabase_auth_state.types import KeyRef

from .documents import folder_documents, unneeded_mappings
from .plan import Source


def source_of(contents: FolderContents) -> tuple[Source, int]:
    """Return what of a folder goes into the database, and how many lid-mappings do not.

    Rows of files that are left out, because they are old mappings or cannot be read, are spared.
    """
    files = folder_documents(contents)
    left_out = unneeded_mappings(files, now=time.time())
    kept = {ref: file for ref, file in files.items() if ref not in left_out}
    return Source(kept, left_out | broken_keys(contents)), len(left_out)


def broken_keys(contents: FolderContents) -> frozenset[KeyRef]:
    """Return the keys whose values cannot be read."""
    return frozenset(contents.broken)


def refuse_without_creds(contents: FolderContents, where: str) -> None:
    """Refuse what holds no creds, or none that can be read.

    Args:
        contents: what was read.
        where: the folder or the backup, for the message.

    Raises:
        FolderError: it is refused.
    """
    if contents.creds is None:
        reason = dict(contents.problems).get(CREDS_FILE, "is not there")
        raise FolderError(
            f"{where} cannot be imported: {CREDS_FILE} {reason}, and without it there is no linked "
            f"device. {contents.advice}".removesuffix(". "),
            problems=[(CREDS_FILE, reason)],
        )


def refuse_broken(contents: FolderContents, where: str) -> None:
    """Refuse what has files that are not understood.

    Args:
        contents: what was read.
        where: the folder or the backup, for the message.

    Raises:
        FolderError: it is refused.
    """
    if contents.problems:
        first = some_of((f"{name} {reason}" for name, reason in contents.problems), 1)
        raise FolderError(
            f"{where} cannot be imported as it is: {first}. Nothing was written; --skip-broken "
            "leaves such files out",
            problems=contents.problems,
        )


def refuse_wrong_path(path: Path) -> None:
    """Refuse a folder that is no auth folder and holds auth folders.

    Raises:
        FolderError: it is one; the message says what to do.
    """
    if kind_of(path / CREDS_FILE) is not None:
        return
    inside = sorted(found.parent.name for found in path.glob(f"*/{CREDS_FILE}"))
    if inside:
        raise FolderError(
            f"{path} is no auth folder, but holds some ({some_of(inside)}): --each imports every "
            "one of them as the company of its name; for one company, give its own folder"
        )
