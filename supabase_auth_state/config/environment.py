"""The environment of the process, and the `.env` file under it."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Mapping
from pathlib import Path

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Environment(dict[str, str]):
    """Variables by name.

    Attributes:
        unread: why a `.env` file that exists was not read, or "".
    """

    unread: str = ""


def environment() -> Environment:
    """Return the variables of the process over those of the nearest `.env` file.

    The file is searched for in the working directory and above. One that cannot be read is no error
    here: `Environment.unread` says what is wrong, for the error about a variable that is missing.
    """
    from dotenv import dotenv_values, find_dotenv

    found = Environment()
    try:
        path = find_dotenv(usecwd=True)
    except OSError:
        # The working directory was deleted.
        path = ""
    if path:
        text, found.unread = _read(Path(path))
        file_values = dotenv_values(stream=io.StringIO(text))
        found.update({name: value for name, value in file_values.items() if value})
    found.update(os.environ)
    return found


def first_of(values: Mapping[str, str], *names: str) -> str | None:
    """Return the value of the first of these variables that is set, or None."""
    return next((values[name] for name in names if values.get(name, "").strip()), None)


def _read(path: Path) -> tuple[str, str]:
    """Return the text of a `.env` file, and "" or why it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return "", f"{path} cannot be read: {error.strerror}"
    if content.startswith(_UTF16) or b"\0" in content:
        return "", (
            f"{path} is written in UTF-16, as `>` of Windows PowerShell does: save it as UTF-8"
        )
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return "", f"{path} is not written in UTF-8: save it as UTF-8"
