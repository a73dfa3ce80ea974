"""What a request asks for, checked. No I/O but reading a form."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request

from supabase_auth_state.config import check_company_id
from supabase_auth_state.errors import ConfigurationError

_MOST_FORM_BYTES = 4096
_LARGEST = 2**63


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form that was sent.

    Raises:
        ConfigurationError: it is longer than any of ours, or no text.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_FORM_BYTES:
            raise ConfigurationError("that form is too long")
    try:
        return {name: values[-1] for name, values in parse_qs(body.decode()).items()}
    except UnicodeDecodeError:
        raise ConfigurationError("that form is not text in UTF-8") from None


def company_of(request: Request) -> str:
    """Return the company that the address names.

    Raises:
        ConfigurationError: it is no company_id.
    """
    return check_company_id(request.query_params.get("id", ""))


def search_of(request: Request) -> str:
    """Return how the companies begin that are looked for."""
    text = request.query_params.get("search", "").strip()[:255]
    # No company_id has any, and the database takes no NUL.
    return "".join(char for char in text if char >= " ")


def after_of(request: Request, sort: str) -> list[Any] | None:
    """Return the last row of the page before, of the text that `after_as_text` gave.

    Raises:
        ConfigurationError: it is none, or that of another order.
    """
    import orjson

    text = request.query_params.get("after")
    if text is None:
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], str):
        raise ConfigurationError("that is not a page")
    is_right = isinstance(found[0], str) if sort == "company_id" else _fits(found[0], whole=sort)
    if not is_right or any(isinstance(each, str) and "\0" in each for each in found):
        raise ConfigurationError("that is not a page")
    return found


def _fits(value: object, *, whole: str) -> bool:
    if whole == "last_write":
        # Until the year 9999, as the database's times may be.
        return isinstance(value, (int, float)) and abs(value) < 253e9
    return isinstance(value, int) and abs(value) < _LARGEST


def after_as_text(after: object) -> str:
    """Return the last row of a page as the address of the next page has it."""
    import orjson

    return orjson.dumps(after).decode()


def whole(text: str) -> int:
    """Return a whole number.

    Raises:
        ConfigurationError: it is none.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ConfigurationError("that is not a number")
    return int(text)


def number_between(text: str | None, low: float, high: float, otherwise: float) -> float:
    """Return a number, moved to the nearest that is allowed; ``otherwise`` for what is none."""
    try:
        found = float(text) if text else math.nan
    except ValueError:
        found = math.nan
    return otherwise if math.isnan(found) else min(max(found, low), high)
