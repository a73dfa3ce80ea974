"""Where the project is and which key opens it."""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .errors import ConfigurationError

URL_VARIABLE = "SUPABASE_URL"
KEY_VARIABLES = ("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEY")
FLAG_VARIABLE = "USE_DATABASE_AUTH_STATE"

_WHERE_KEYS_ARE = "Project Settings > API Keys in the Supabase dashboard, or `supabase status`"
_YES = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO = frozenset({"0", "false", "f", "no", "n", "off"})


@dataclass(frozen=True)
class Settings:
    """A Supabase project and how patient to be with it.

    Attributes:
        url: the project's URL, e.g. ``https://abc.supabase.co`` (no ``/rest/v1``).
        key: a ``sb_secret_…`` key, or the legacy service_role JWT. Never shown by ``repr``.
        timeout: seconds that one request may take.
        give_up_after: seconds after which a request that keeps failing is given up.

    Raises:
        ConfigurationError: the URL is not one of a project, or the key is not a service key.
    """

    url: str
    key: str = field(repr=False)
    timeout: float = 10.0
    give_up_after: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_url(self.url))
        object.__setattr__(self, "key", check_service_key(self.key))

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read ``SUPABASE_URL`` and the service key from the environment, then from ``.env``.

        Args:
            env: read this mapping instead, and no ``.env``.

        Raises:
            ConfigurationError: a variable is missing or not what it should be.
        """
        values = environment() if env is None else env
        return cls(url=_first(values, URL_VARIABLE), key=_first(values, *KEY_VARIABLES))


def environment() -> dict[str, str]:
    """Return the process environment over the nearest ``.env`` (working directory and above)."""
    from dotenv import dotenv_values, find_dotenv

    path = find_dotenv(usecwd=True)
    file_values = dotenv_values(path) if path else {}
    return {**{name: value for name, value in file_values.items() if value}, **os.environ}


def database_flag(env: Mapping[str, str] | None = None) -> bool:
    """Tell whether ``USE_DATABASE_AUTH_STATE`` asks for the database; unset or empty means files.

    Raises:
        ConfigurationError: the value is neither a usual yes nor a usual no.
    """
    raw = (environment() if env is None else env).get(FLAG_VARIABLE, "").strip()
    word = raw.lower()
    if word in _YES:
        return True
    if word in _NO or not word:
        return False
    raise ConfigurationError(
        f"{FLAG_VARIABLE}={raw!r} is neither yes nor no: use true or false (1/0, yes/no, on/off)"
    )


def check_company_id(company_id: object) -> str:
    """Return a usable company_id: text of 1 to 255 characters without control characters.

    Raises:
        ConfigurationError: it is anything else.
    """
    if not isinstance(company_id, str):
        raise ConfigurationError(
            f"company_id must be a string, not {type(company_id).__name__}: pass e.g. '962302'"
        )
    if not 1 <= len(company_id) <= 255 or company_id != company_id.strip():
        raise ConfigurationError(
            f"company_id {company_id[:40]!r} must be 1 to 255 characters without outer spaces"
        )
    if any(
        ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in company_id
    ):
        raise ConfigurationError(f"company_id {company_id[:40]!r} has a control character in it")
    return company_id


def check_url(url: str) -> str:
    """Return the project's base URL without a trailing slash or ``/rest/v1``.

    Raises:
        ConfigurationError: it is no http(s) URL of a project.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme.startswith("postgres"):
        raise ConfigurationError(
            f"{URL_VARIABLE} is a database URL: use the project's API URL, "
            f"https://<ref>.supabase.co"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(
            f"{URL_VARIABLE} is not an http(s) URL: use the project's API URL, "
            f"https://<ref>.supabase.co"
        )
    if parts.path.startswith("/dashboard"):
        raise ConfigurationError(
            f"{URL_VARIABLE} is the dashboard's address: use https://<ref>.supabase.co"
        )
    if parts.username or parts.query or parts.fragment:
        raise ConfigurationError(f"{URL_VARIABLE} must have no user, query or fragment")
    return url.rstrip("/").removesuffix("/rest/v1")


def check_service_key(key: str) -> str:
    """Return the key if it can be a service key; says which key it is when it is another one.

    Raises:
        ConfigurationError: an anon, publishable, user, personal or expired key, or no key at all.
    """
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "the Supabase key is empty or has characters no key has: copy it from "
            f"{_WHERE_KEYS_ARE}"
        )
    if key.startswith("sb_publishable_"):
        raise _wrong_key("a publishable key (sb_publishable_…)")
    if key.startswith("sbp_"):
        raise _wrong_key("a personal access token (sbp_…)")
    claims = _jwt_claims(key)
    if claims is None:
        return key
    role = claims.get("role")
    if role == "anon":
        raise _wrong_key("the anon key")
    if role != "service_role":
        raise _wrong_key(
            f"a JWT of the role {str(role)[:40]!r}" if role else "a JWT without a role"
        )
    expires = claims.get("exp")
    if isinstance(expires, (int, float)) and expires < time.time():
        raise ConfigurationError(
            f"the Supabase service key has expired: get a new one from {_WHERE_KEYS_ARE}"
        )
    return key


def _wrong_key(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"this is {what}, and creds may only be reached with a service key: set "
        f"{KEY_VARIABLES[0]} to the sb_secret_… key or the service_role JWT ({_WHERE_KEYS_ARE}), "
        f"and keep it off clients"
    )


def _jwt_claims(key: str) -> Mapping[str, object] | None:
    parts = key.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _first(values: Mapping[str, str], *names: str) -> str:
    for name in names:
        if values.get(name, "").strip():
            return values[name]
    raise ConfigurationError(
        f"{' or '.join(names)} is not set: put it in the environment or in a .env file "
        f"({_WHERE_KEYS_ARE})"
    )
