"""Which kind of Supabase key a text is. No I/O."""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Mapping

from supabase_auth_state.errors import ConfigurationError

KEY_VARIABLES = ("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEY")
WHERE_KEYS_ARE = "Project Settings > API Keys in the Supabase dashboard, or `supabase status`"

_COPY_AGAIN = f"copy it again from {WHERE_KEYS_ARE}"
_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"
_PLACEHOLDER = re.compile(r"…|\.\.\.$|^<.*>$|^your[-_]", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"^(export +)?[A-Z_]+ *=")
# Base64url characters of a signature; HS256 signs the legacy keys.
_SIGNATURE_LENGTHS = {"HS256": 43, "HS384": 64, "HS512": 86, "ES256": 86}


def check_service_key(key: str) -> str:
    """Return the key, without outer spaces, if it can be a service key.

    Raises:
        ConfigurationError: it is an anon, publishable, user, personal or expired key, a key that
            was copied with something else or not to its end, or no key at all. The message names
            what is wrong and does not quote the key.
    """
    key = key.strip()
    problem = _copied_wrongly(key)
    if problem:
        raise ConfigurationError(f"the Supabase key {problem}")
    if key.startswith("sb_publishable_"):
        raise _wrong_kind("a publishable key (sb_publishable_…)")
    if key.startswith("sbp_"):
        raise _wrong_kind("a personal access token (sbp_…)")
    if key.startswith("eyJ"):
        _check_jwt(key)
    return key


def _copied_wrongly(key: str) -> str | None:
    if not key:
        return f"is empty: copy it from {WHERE_KEYS_ARE}"
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        return "has quotes around it, which are no part of it: remove them"
    if key[:7].lower() == "bearer ":
        return "begins with `Bearer`, which belongs to a request header: remove that word"
    if _ASSIGNMENT.match(key):
        return "begins with the name of a variable: keep only what stands behind `=`"
    if any(char.isspace() for char in key):
        return f"has a space or a line break inside: {_COPY_AGAIN}, in one piece"
    if _PLACEHOLDER.search(key):
        return f"is the placeholder of an example: copy the real one from {WHERE_KEYS_ARE}"
    if "://" in key:
        return f"is a URL: copy the key from {WHERE_KEYS_ARE}"
    if not key.isascii() or not key.isprintable():
        return f"has characters that no key has: {_COPY_AGAIN}"
    if key == "sb_secret_":
        return f"is only the beginning of a secret key: {_COPY_AGAIN}, to its end"
    return None


def _check_jwt(key: str) -> None:
    header, claims = _jwt_parts(key)
    role = claims.get("role")
    if role == "anon":
        raise _wrong_kind("the anon key")
    if role != "service_role":
        raise _wrong_kind(f"a JWT of the role {str(role)[:40]!r}" if role else "a JWT without role")
    expires = claims.get("exp")
    if isinstance(expires, (int, float)) and expires < time.time():
        raise ConfigurationError(
            f"the Supabase service key has expired: get a new one from {WHERE_KEYS_ARE}"
        )
    length = _SIGNATURE_LENGTHS.get(str(header.get("alg")))
    if length is not None and len(key.rpartition(".")[2]) != length:
        raise _incomplete()


def _jwt_parts(key: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    parts = key.split(".")
    if len(parts) != 3:
        raise _incomplete()
    header, claims = (_decoded(part) for part in parts[:2])
    if header is None or claims is None:
        raise _incomplete()
    return header, claims


def _decoded(part: str) -> Mapping[str, object] | None:
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _incomplete() -> ConfigurationError:
    # Raised by the caller, so that no exception in the chain quotes the key.
    return ConfigurationError(
        "the Supabase key begins as a JWT and is not a whole one, or has something added: "
        f"{_COPY_AGAIN}, to its end"
    )


def _wrong_kind(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"this is {what}, and creds may only be reached with a service key: set "
        f"{KEY_VARIABLES[0]} to the sb_secret_… key or the service_role JWT ({WHERE_KEYS_ARE}), "
        f"and keep it off clients"
    )
