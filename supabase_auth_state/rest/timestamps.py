"""Times, as the database writes and reads them. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone


def timestamp(time: float) -> str:
    """Return a time in seconds since 1970 as the database takes it."""
    return datetime.fromtimestamp(time, timezone.utc).isoformat()


def time_of(found: object) -> float | None:
    """Return a time of an answer in seconds since 1970, or None when it is none."""
    try:
        return seconds(found) if isinstance(found, str) else None
    except (ValueError, OverflowError):
        return None


def seconds(text: str) -> float:
    """Return a time of the database in seconds since 1970."""
    # Python 3.10 reads only three or six digits, and the database leaves out zeros at the end.
    padded = re.sub(r"\.(\d+)", lambda digits: f".{digits[1]:0<6}", text)
    return datetime.fromisoformat(padded).timestamp()
