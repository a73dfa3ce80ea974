"""Who may look: the Host, the Origin and the token of each request. No I/O."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from supabase_auth_state.errors import ConfigurationError

TOKEN_VARIABLE = "SUPABASE_AUTH_STATE_DASHBOARD_TOKEN"  # noqa: S105 - the name of a variable
COOKIE = "supabase_auth_state"

_SHORTEST_TOKEN = 20

HEADERS = {
    # Nothing comes from another host, no script or style stands in a page, no page is in a frame.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # `no-referrer` would have browsers send `Origin: null` with a form of ours.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
"""What every answer carries."""


@dataclass(frozen=True)
class Access:
    """Who may look at the pages.

    Attributes:
        token: what has to be known, or None where only this machine can connect.
        names: names by which the dashboard may be reached, beside addresses.
    """

    token: str | None = field(default=None, repr=False)
    names: frozenset[str] = frozenset({"localhost"})
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def host_is_ours(self, host: str) -> bool:
        """Return whether a ``Host`` is an address or one of our names.

        A page of another host whose name is made to lead here (DNS rebinding) sends that name.
        """
        name = _hostname(f"//{host}")
        if name is None:
            return False
        return name in self.names or _is_address(name)

    def origin_is_ours(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request that changes something comes from a page of ours."""
        origin = headers.get("origin", "")
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""

    def may_be_shown(self, headers: Mapping[str, str]) -> bool:
        """Return whether an answer is for a page of ours, or for a person who follows a link.

        A page of another host cannot read an answer, but could have the database work for it.
        """
        is_foreign = headers.get("sec-fetch-site") in {"cross-site", "same-site"}
        return not is_foreign or headers.get("sec-fetch-dest") == "document"

    def knows_token(self, token: str) -> bool:
        """Return whether this is the token."""
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def cookie(self) -> str:
        """Return what the cookie holds once the token was given; it ends with the process."""
        token = (self.token or "").encode()
        return hmac.new(self._secret, token, hashlib.sha256).hexdigest()

    def is_admitted(self, cookies: Mapping[str, str]) -> bool:
        """Return whether no token is needed or it was given."""
        if self.token is None:
            return True
        return hmac.compare_digest(cookies.get(COOKIE, "").encode(), self.cookie().encode())


def access_for(host: str, env: Mapping[str, str], names: tuple[str, ...] = ()) -> Access:
    """Return who may look at a dashboard that listens on ``host``.

    Raises:
        ConfigurationError: other machines can connect and there is no token, or it is short.
    """
    token = env.get(TOKEN_VARIABLE, "").strip() or None
    if token is None and not _is_loopback(host):
        raise ConfigurationError(
            f"other machines can reach {host}: set {TOKEN_VARIABLE} to a long random text, e.g. "
            "of `openssl rand -hex 24`, or listen on 127.0.0.1"
        )
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise ConfigurationError(
            f"{TOKEN_VARIABLE} is too short: at least {_SHORTEST_TOKEN} characters"
        )
    return Access(token, frozenset({"localhost", host.lower(), *map(str.lower, names)}))


def _hostname(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return None if parts.username is not None or parts.path else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or (
        _is_address(host) and ipaddress.ip_address(host).is_loopback
    )
