"""Auth folders for tests: copies of what Baileys wrote, and their times."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from tests.values import BAILEYS


def sample_folder(name: str, where: Path, *, age: float = 3600) -> Path:
    """Copy a sample to ``where/auth``, last changed so many seconds ago."""
    folder = Path(shutil.copytree(BAILEYS / name, where / "auth"))
    for path in folder.iterdir():
        set_age(path, age)
    return folder


def copied(folder: Path, name: str, *, age: float = 10) -> Path:
    """Copy a folder as ``cp -r`` does: its files get new times."""
    copy = Path(shutil.copytree(folder, folder.with_name(name)))
    for path in copy.iterdir():
        set_age(path, age)
    return copy


def set_age(path: Path, seconds: float) -> None:
    """Set when a file was last changed: so many seconds ago, or in the future if negative."""
    changed = time.time_ns() - int(seconds * 10**9)
    os.utime(path, ns=(changed, changed))


def change_file(path: Path, **changed: Any) -> None:
    """Replace some members of the JSON object in a file; its time stays."""
    facts = path.stat()
    document = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def another_device(folder: Path, registration_id: int) -> Path:
    """Make a folder that of another linked device."""
    change_file(folder / "creds.json", registrationId=registration_id)
    return folder


def names_in(folder: Path) -> list[str]:
    """Give the names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
