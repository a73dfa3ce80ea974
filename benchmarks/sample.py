"""The sample session as documents, and made-up companies of the same shape and size."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from supabase_auth_state.files.names import parse_file_name

FOLDER = Path(__file__).parents[1] / "tests" / "fixtures" / "baileys" / "v7-337"

Document: TypeAlias = Any
"""A value as Baileys writes it into a file: JSON, Buffers as ``{"type": "Buffer", "data": …}``."""

Keys: TypeAlias = dict[str, dict[str, Document]]
"""``{key_type: {key_id: document}}``"""

_BASE64 = re.compile(r'"([A-Za-z0-9+/]{43,}={0,2})"')
_BYTES = re.compile(r"\[(\d+(?:,\d+){15,})\]")
_NUMBER = re.compile(r"\d{11,15}")
_PLAIN = ("lid-mapping", "device-list", "sender-key-memory")


@cache
def creds() -> Document:
    """Give the creds of the sample session."""
    return json.loads((FOLDER / "creds.json").read_text())


@cache
def texts() -> dict[tuple[str, str], str]:
    """Give the 335 keys of the sample session as compact JSON, by type and id."""
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        ref = parse_file_name(path.name)
        if ref is not None and path.name != "creds.json":
            found[(ref.key_type, ref.key_id)] = path.read_text()
    return found


def company(seed: int) -> Keys:
    """Give 335 keys like the sample's: the same sizes, other contacts, other random bytes."""
    chance = random.Random(seed)
    keys: Keys = {}
    for (key_type, key_id), text in texts().items():
        own_id = _shift(key_id, seed)
        own_text = _shift(text, seed) if key_type == "lid-mapping" else text
        # The token of the index is a list of jids, not random bytes.
        known = key_id == "__index"
        document = json.loads(text) if known else fresh(key_type, own_text, chance)
        keys.setdefault(key_type, {})[own_id] = document
    return keys


def sessions(count: int, seed: int) -> dict[str, Document]:
    """Give sessions of typical size (about 1.2 to 1.5 kB of JSON) by id."""
    chance = random.Random(seed)
    typical = [
        text for (key_type, _), text in texts().items()
        if key_type == "session" and 1200 < len(text) < 1500
    ]  # fmt: skip
    return {
        f"{15550200000 + number}.0": fresh("session", typical[number % len(typical)], chance)
        for number in range(count)
    }


def own_sender_key(length: int, chance: random.Random) -> Document:
    """Give our own sender-key of a group, grown by leftover keys to about `length` bytes."""
    one = '{"iteration":1000,"seed":{"type":"Buffer","data":[%s]}}'
    seeds = [
        ",".join(str(chance.randrange(100, 256)) for _ in range(32)) for _ in range(length // 240)
    ]
    inner = (
        '[{"senderKeyId":1,"senderMessageKeys":[' + ",".join(one % seed for seed in seeds) + "]}]"
    )
    return {"type": "Buffer", "data": base64.b64encode(inner.encode()).decode()}


def fresh(key_type: str, text: str, chance: random.Random) -> Document:
    """Give a document of the same structure and length with other random bytes in it."""
    if key_type in _PLAIN:
        return json.loads(text)
    if key_type == "sender-key":
        inner = base64.b64decode(json.loads(text)["data"]).decode()
        other = _BYTES.sub(lambda match: _other_numbers(match[1], chance), inner)
        return {"type": "Buffer", "data": base64.b64encode(other.encode()).decode()}
    return json.loads(_BASE64.sub(lambda match: f'"{_other_base64(match[1], chance)}"', text))


def rows(company_id: str, keys: Keys) -> Iterator[tuple[str, str, str, Document]]:
    """Give the rows of `whatsapp_keys`: company_id, key_type, key_id, document."""
    for key_type, values in keys.items():
        for key_id, document in values.items():
            yield company_id, key_type, key_id, document


def _shift(text: str, seed: int) -> str:
    """Turn the numbers of contacts and groups into other ones, of the same length."""

    def other(match: re.Match[str]) -> str:
        digits = match[0]
        return str((int(digits) + seed * 7_919_777) % 10 ** len(digits)).zfill(len(digits))

    return _NUMBER.sub(other, text)


def _other_base64(text: str, chance: random.Random) -> str:
    return base64.b64encode(chance.randbytes(len(base64.b64decode(text)))).decode()


def _other_numbers(numbers: str, chance: random.Random) -> str:
    lowest = {1: 0, 2: 10, 3: 100}
    others = (
        chance.randrange(lowest[len(number)], min(10 ** len(number), 256))
        for number in numbers.split(",")
    )
    return "[" + ",".join(map(str, others)) + "]"
