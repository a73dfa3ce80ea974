"""The single JSON file of `useSingleFileAuthState`, made of an auth folder of Baileys'."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from supabase_auth_state.files.names import parse_file_name

GROUPS = {
    "pre-key": "preKeys",
    "session": "sessions",
    "sender-key": "senderKeys",
    "app-state-sync-key": "appStateSyncKeys",
    "app-state-sync-version": "appStateVersions",
    "sender-key-memory": "senderKeyMemory",
}
"""`KEY_MAP` of Baileys 5.0, `src/Utils/use-single-file-auth-state.ts`."""


def single_file(folder: Path, groups: dict[str, str] = GROUPS) -> dict[str, Any]:
    """What Baileys 5 would hold in one file, of a folder of a later Baileys."""
    keys: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        ref = parse_file_name(path.name)
        if ref is not None:
            value = json.loads(path.read_text())
            if ref.key_type == "sender-key":
                value = states(value)
            keys.setdefault(groups[ref.key_type], {})[ref.key_id] = value
    return {"creds": json.loads((folder / "creds.json").read_text()), "keys": keys}


def states(sender_key: dict[str, str]) -> list[Any]:
    """The sender-key as Baileys 5 wrote it: what `SenderKeyRecord.serialize` gives."""

    def as_buffer(value: dict[str, Any]) -> dict[str, Any]:
        if value.get("type") != "Buffer":
            return value
        return {"type": "Buffer", "data": base64.b64encode(bytes(value["data"])).decode()}

    found: list[Any] = json.loads(base64.b64decode(sender_key["data"]), object_hook=as_buffer)
    return found


def write_single_file(path: Path, content: dict[str, Any]) -> Path:
    """Write it as Baileys did: indented by two."""
    path.write_text(json.dumps(content, indent=2))
    return path
