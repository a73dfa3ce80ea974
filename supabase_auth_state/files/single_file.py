"""The single JSON file of ``useSingleFileAuthState``, which Baileys 4 and 5 had.

It is ``{"creds": {…}, "keys": {"preKeys": {"1": {…}}, "sessions": {…}, …}}``. Ids are as Baileys
passes them to ``get`` and ``set``, and a deleted key is null. A value is checked as strictly as one
of a folder, with two differences, because the writers are older: bytes may have any form that old
clients wrote, and a sender-key may be the list that it was in Baileys 5.

Source: Baileys 5.0, ``src/Utils/use-single-file-auth-state.ts``, ``KEY_MAP``. Programs that
copied that function for later versions use the names of the key types themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.codec import Malformed
from supabase_auth_state.errors import CodecError, FolderError, place
from supabase_auth_state.types import KEY_TYPES, KeyRef

from .folder import FolderContents, FolderKey, snapshot
from .names import CREDS_FILE, file_name, parse_file_name
from .reading import parse_document, reason_of

GROUPS = {
    "preKeys": "pre-key",
    "sessions": "session",
    "senderKeys": "sender-key",
    "appStateSyncKeys": "app-state-sync-key",
    "appStateVersions": "app-state-sync-version",
    "senderKeyMemory": "sender-key-memory",
    **{key_type: key_type for key_type in KEY_TYPES},
}
"""The key type of each group of keys, by the group's name in the file."""


def read_single_file(path: str | os.PathLike[str]) -> FolderContents:
    """Read a single JSON file of Baileys as if it were an auth folder.

    Every key has the time of the file. Names of ``problems`` are places in the file:
    ``keys.preKeys.1``.

    Raises:
        FolderError: the file cannot be read, is not strict JSON, or is not such a file.
    """
    file = Path(path)
    contents = FolderContents(snapshot(file))
    (facts,) = contents.snapshot.entries.values()
    try:
        contents.raw[file.name] = content = file.read_bytes()
        document = parse_document(content)
        creds, groups = _parts(document)
    except Malformed as exc:
        reason = reason_of(exc)
    except OSError as exc:
        raise FolderError(f"cannot read {file}: {exc.strerror}") from exc
    else:
        _add_creds(contents, creds, facts[2] / 10**9, str(file))
        for where, ref, value in _keys(contents, groups):
            _add_key(contents, where, ref, value, facts[2] / 10**9)
        return contents
    # Raised here, so that no exception in the chain holds what was read.
    raise FolderError(f"{file} cannot be read: it {reason}", problems=[(file.name, reason)])


def _parts(document: Any) -> tuple[Any, dict[str, Any]]:
    if type(document) is not dict or "creds" not in document:
        raise Malformed('has no "creds", as the single file of useSingleFileAuthState has')
    groups = document.get("keys")
    if type(groups) is not dict:
        raise Malformed('has no "keys", as the single file of useSingleFileAuthState has')
    unknown = sorted(document.keys() - {"creds", "keys"})
    if unknown:
        raise Malformed("is not understood: the file has only creds and keys", unknown[0])
    return document["creds"], groups


def _add_creds(contents: FolderContents, stored: Any, mtime: float, where: str) -> None:
    try:
        creds = codec.decode_creds(codec.with_storable_names(stored, where), company_id=None)
        codec.check_creds(creds, company_id=None)
        contents.creds_document = codec.encode_creds(creds, company_id=None)
        contents.creds, contents.creds_mtime = creds, mtime
    except CodecError as exc:
        contents.problems.append((CREDS_FILE, reason_of(exc)))


def _keys(contents: FolderContents, groups: dict[str, Any]) -> Iterator[tuple[str, KeyRef, Any]]:
    """Yield place, key and stored value of each key; what cannot be a key becomes a problem."""
    for name, group in groups.items():
        if type(group) is not dict:
            contents.problems.append((f"keys.{place([name])}", "is not an object of keys by id"))
        elif name not in GROUPS:
            contents.problems.append(
                (f"keys.{place([name])}", "is not a group of keys that Baileys has")
            )
        else:
            for key_id, value in group.items():
                # What `set` deletes stays in the file as null.
                if value is not None:
                    yield place(["keys", name, key_id]), KeyRef(GROUPS[name], key_id), value


def _add_key(contents: FolderContents, where: str, ref: KeyRef, stored: Any, mtime: float) -> None:
    if parse_file_name(file_name(*ref)) != ref:
        contents.problems.append((where, "has an id that Baileys does not make"))
        return
    try:
        if ref.key_type == "sender-key" and type(stored) is list:
            value: Any = codec.sender_key_of(stored)
        else:
            value = codec.decode(stored, company_id=None, **ref._asdict())
        codec.check(value, company_id=None, **ref._asdict())
        document = codec.encode(value, company_id=None, **ref._asdict())
        contents.keys.append(FolderKey(ref, value, mtime, document))
    except (Malformed, CodecError) as exc:
        contents.problems.append((where, reason_of(exc)))
        contents.broken.append(ref)
