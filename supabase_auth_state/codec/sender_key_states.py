"""The ``sender-key`` as Baileys 5 wrote it: a list of states. No I/O.

Today (from 6.5 at the latest) the value is a Buffer whose bytes are the JSON text of this list,
with the bytes inside it as arrays of numbers. Before, the list itself was the value, with Buffers
inside, which Baileys 7 cannot read.

Sources: Baileys 5.0, ``WASignalGroup/sender_key_record.js`` and ``src/Utils/signal.ts``,
``storeSenderKey``; Baileys 7.0.0-rc14, ``src/Signal/libsignal.ts``, ``storeSenderKey``.
"""

from __future__ import annotations

from typing import Any

from .bufferjson import Malformed, has_surrogates
from .json_text import dump_json
from .shapes import SENDER_KEY_STATES, Evidence


def sender_key_of(states: list[Any]) -> bytes:
    """Return the ``sender-key`` that Baileys writes today, of the list that Baileys 5 wrote.

    Args:
        states: the JSON value; bytes in it may have any form that `read_damaged` reads.

    Raises:
        Malformed: it is not such a list, bytes in it cannot be read for certain, or text in it is
            none.
    """
    states = SENDER_KEY_STATES.read(states, Evidence())
    SENDER_KEY_STATES.check(states)
    text = dump_json(_with_arrays(states))
    if has_surrogates(text):
        raise Malformed("contains half a surrogate pair, which is not text")
    return text.encode()


def _with_arrays(value: Any) -> Any:
    """Return a JSON value with ``{"type":"Buffer","data":[…]}`` for bytes, as Node prints them."""
    if type(value) is bytes:
        return {"type": "Buffer", "data": list(value)}
    if type(value) is dict:
        return {name: _with_arrays(child) for name, child in value.items()}
    if type(value) is list:
        return [_with_arrays(child) for child in value]
    return value
