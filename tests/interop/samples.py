"""The sample folders that real Baileys wrote, for comparison key by key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

BAILEYS = Path(__file__).parents[1] / "fixtures" / "baileys"
SAMPLES = [
    pytest.param(BAILEYS / name, version, id=f"{name} in Baileys {version}")
    for name, version in (("v7-small", 7), ("v7-337", 7), ("v6-small", 6), ("v6-small", 7))
]

# Enough for the samples, whose names are known to be healthy.
_TYPES = (
    "sender-key-memory|sender-key|app-state-sync-key|app-state-sync-version|lid-mapping"
    "|identity-key|device-list|tctoken|pre-key|session"
)


def sample_keys(folder: Path) -> dict[str, dict[str, Any]]:
    """Give the documents of a folder without its creds, by type and id."""
    keys: dict[str, dict[str, Any]] = {}
    for file in folder.glob("*.json"):
        match = re.fullmatch(f"({_TYPES})-(.+)", file.stem)
        if match:
            keys.setdefault(match[1], {})[_id(*match.groups())] = json.loads(file.read_text())
    return keys


def _id(key_type: str, name: str) -> str:
    if key_type == "sender-key":
        return re.sub("--([^-]+)--([0-9]+)$", r"::\1::\2", name)
    return name.replace("__", "/") if key_type == "app-state-sync-key" else name
