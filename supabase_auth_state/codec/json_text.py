"""JSON text: read strictly, written as Node writes it. No I/O."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from .bufferjson import Malformed
from .fast_path import NOT_CERTAIN, parse_compact


def parse_json(text: str) -> Any:
    """Parse one JSON document, order kept.

    Raises:
        Malformed: it is not JSON, a name occurs twice in an object, a number is not finite, or it
            is nested too deeply.
    """
    document = parse_compact(text)
    if document is not NOT_CERTAIN:
        return document
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_not_finite,
            parse_float=_finite,
        )
    except Malformed as found:
        reason = found.reason
    except RecursionError:
        reason = "is JSON nested too deeply"
    except ValueError:
        reason = "is not JSON"
    # Raised here, not above: json's own error carries the whole document.
    raise Malformed(reason)


def dump_json(value: Any) -> str:
    """Return what Node's ``JSON.stringify`` gives: compact, nothing escaped that need not be."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Malformed("is JSON with the same name twice in one object")
    return value


def _not_finite(_: str) -> NoReturn:
    raise Malformed("is JSON with a number that is not finite")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        _not_finite(text)
    return number
