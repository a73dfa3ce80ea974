"""The API keys of a local Supabase project: the same for everyone, known to everyone, no secrets.

Source: Supabase CLI 3.1.0, the defaults of `supabase start`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

JWT_SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"  # noqa: S105 (public)
PUBLISHABLE_KEY = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"
SECRET_KEY = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"  # noqa: S105 (public)

_EXPIRES_AT = 1983812996


def sign_jwt(claims: dict[str, object], secret: str = JWT_SECRET) -> str:
    """Sign `claims` as an HS256 token, as Supabase signs its legacy keys and its users' tokens."""
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_base64url(digest)}"


def _part(value: dict[str, object]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


ANON_KEY = sign_jwt({"iss": "supabase-demo", "role": "anon", "exp": _EXPIRES_AT})
SERVICE_ROLE_KEY = sign_jwt({"iss": "supabase-demo", "role": "service_role", "exp": _EXPIRES_AT})
