"""Display names in creds that no database can hold. No I/O, but for one warning in the log.

A person may name an account with half an emoji (the half of a surrogate pair), or with NUL; JSONB
holds neither. Nothing but a screen uses these names, while creds that cannot be stored stay behind
the keys for good. So in these fields, and nowhere else, such a character becomes U+FFFD, the
replacement character.

Source: Baileys 7.0.0-rc14, ``src/Types/Contact.ts``, and the ``creds.update`` events that change
``me``: ``name`` is what the account calls itself, ``notify`` and ``verifiedName`` are what others
are shown.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

logger = logging.getLogger(__name__)

FIELDS = ("name", "notify", "verifiedName")
"""The fields of ``creds.me`` that are display names."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def with_storable_names(creds: Any, where: str) -> Any:
    """Return creds whose display names can be stored: these very creds if they can be already.

    Whatever is changed is in a copy. It is logged once for each ``where``, without the name.

    Args:
        creds: creds, as Python values or as JSON; whatever is not creds is returned as it is.
        where: which creds these are, for the log.
    """
    me = creds.get("me") if type(creds) is dict else None
    if type(me) is not dict:
        return creds
    changed = {
        field: _UNSTORABLE.sub(_REPLACEMENT, name)
        for field in FIELDS
        if type(name := me.get(field)) is str and _UNSTORABLE.search(name)
    }
    if not changed:
        return creds
    _warn(where)
    return {**creds, "me": {**me, **changed}}


# A connected client saves creds many times a minute.
@lru_cache(maxsize=4096)
def _warn(where: str) -> None:
    logger.warning(
        "%s: a display name in creds.me holds NUL or half an emoji, which no database can hold; it "
        "is stored with U+FFFD in its place",
        where,
    )
