"""Which damaged forms a stored value has, compared with the right form. No I/O.

What the right form is has been settled before, by field and length (``shapes``); here the
difference only gets a name.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from supabase_auth_state.codec import from_buffer, parse_json, read_damaged

from .findings import Code

_NAMES: dict[Code, str] = {
    "buffer-int-array": "bytes as an array of numbers",
    "buffer-numeric-keys": "bytes as an object with numeric keys",
    "buffer-encoded-twice": "bytes in base64 encoded twice",
    "buffer-nested": "a Buffer inside a Buffer",
    "buffer-legacy": "bytes in a form of old clients",
    "buffer-bare-base64": "bytes as bare base64 text",
    "buffer-for-text": "a Buffer where base64 text belongs",
}


def damaged_forms(stored: Any, canonical: Any) -> dict[Code, str]:
    """Name the damaged forms in a stored JSON value, given the right JSON value.

    Returns:
        For each form, what is wrong.
    """
    found: Counter[Code] = Counter()
    _compare(stored, canonical, found)
    return {code: _described(code, count) for code, count in found.items()}


def _described(code: Code, count: int) -> str:
    if code == "json-text":
        return "JSON text inside a JSON string"
    return f"{_NAMES[code]} ({count} field{'s' if count > 1 else ''})"


def _compare(stored: Any, canonical: Any, found: Counter[Code]) -> None:
    if stored == canonical:
        return
    if _is_json_text(stored, canonical):
        found["json-text"] = 1
        _compare(parse_json(stored), canonical, found)
    elif type(canonical) is str:
        _compare_text(stored, found)
    elif type(canonical) is dict and from_buffer(canonical) is not None:
        _compare_buffer(stored, canonical, found)
    elif type(canonical) is dict:
        for name, child in canonical.items():
            _compare(stored[name], child, found)
    else:
        for one, other in zip(stored, canonical, strict=True):
            _compare(one, other, found)


def _is_json_text(stored: Any, canonical: Any) -> bool:
    if type(stored) is not str:
        return False
    # Base64 text begins with none of these.
    return stored.startswith('"') if type(canonical) is str else stored[:1] in {"{", "[", '"'}


def _compare_text(stored: Any, found: Counter[Code]) -> None:
    found["buffer-encoded-twice" if type(stored) is str else "buffer-for-text"] += 1


def _compare_buffer(stored: Any, canonical: dict[str, Any], found: Counter[Code]) -> None:
    data = from_buffer(stored) if type(stored) is dict else None
    if data is None:
        found[_form_of(stored)] += 1
        data = read_damaged(stored)
    if data != from_buffer(canonical):
        found["buffer-encoded-twice"] += 1


def _form_of(stored: Any) -> Code:
    if type(stored) is str:
        return "buffer-bare-base64"
    if type(stored) is list:
        return "buffer-int-array"
    if stored.get("type") == "Buffer" and "data" in stored:
        return _form_of_data(stored["data"])
    return "buffer-legacy" if "type" in stored or "buffer" in stored else "buffer-numeric-keys"


def _form_of_data(data: Any) -> Code:
    if type(data) is dict:
        return "buffer-nested" if "type" in data or "buffer" in data else "buffer-numeric-keys"
    return "buffer-int-array"
