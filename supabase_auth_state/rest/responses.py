"""What an answer of PostgREST or of the gateway before it means, and what to do. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supabase_auth_state.errors import (
    AccessDenied,
    InvalidRequest,
    ProjectRestricted,
    SchemaMissing,
    StoreError,
    StoreUnavailable,
    WriteRefused,
)

APPLY_MIGRATIONS = (
    "apply the migrations with `supabase-auth-state migrations install` and "
    "`supabase db push --remote`, in a folder that `supabase link` has linked to the project"
)
"""What to do when tables or functions are missing."""

_MISSING = frozenset({"PGRST202", "PGRST205", "42P01", "42883", "42703", "PGRST204"})
_DENIED = frozenset({"42501", "28000", "28P01", "PGRST300", "PGRST301", "PGRST302", "PGRST303"})
_BUSY = frozenset(
    {
        "40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "53300", "53400", "08000",
        "08003", "08006", "PGRST000", "PGRST001", "PGRST002", "PGRST003",
    }
)  # fmt: skip
_NO_DATABASE = frozenset({"PGRST000", "PGRST001", "PGRST002"})
# PostgREST answers some of these with HTTP 500, though sending the same data again cannot help.
_INVALID_CLASSES = frozenset({"0A", "21", "22", "23", "42", "44", "54", "P0"})
_READ_ONLY = frozenset({"25006", "53100"})
# PostgREST begins what writes with `read write`, and a replica refuses that with this sentence.
_REPLICA = ("0A000", "during recovery")
_RESTRICTED_STATUS = frozenset({402, 540})


def refusal(what: str, status: int, body: Any) -> StoreError:
    """Turn an answer that is not a success into the error to raise.

    Only ``code``, ``message`` and ``hint`` are carried over: ``details`` quotes rows.

    Args:
        what: what was attempted, without values.
        status: the HTTP status.
        body: the parsed JSON body, or None when it was not JSON.
    """
    answer: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    code = _text(answer.get("code"))
    said = _text(answer.get("message")) or _text(answer.get("msg")) or _text(answer.get("error"))
    kind, advice = _kind(status, code, said or "")
    parts = [f"{what}: HTTP {status}", code, said]
    message = " ".join(part for part in parts if part)
    return kind(
        f"{message}. {advice}" if advice else message,
        status=status,
        code=code,
        hint=_text(answer.get("hint")),
    )


def _kind(status: int, code: str | None, said: str) -> tuple[type[StoreError], str]:
    if code == "PT409":
        return WriteRefused, ""
    if code in _READ_ONLY:
        return ProjectRestricted, (
            "The database is read-only: its disk is full, or it was set so. Look at its disk and "
            "its usage in the Supabase dashboard"
        )
    if code == _REPLICA[0] and _REPLICA[1] in said:
        return StoreUnavailable, (
            "The database is a replica that only reads: either it is about to take over, or "
            "SUPABASE_URL is the address of a read replica"
        )
    if status in _RESTRICTED_STATUS or "_quota" in said:
        return ProjectRestricted, (
            "The project is over quota or paused: look at its usage and billing in the Supabase "
            "dashboard"
        )
    if code in _MISSING:
        return SchemaMissing, (
            "The tables or functions are not there, or the API has not seen them yet: "
            f"{APPLY_MIGRATIONS}"
        )
    if code == "PGRST106":
        return SchemaMissing, (
            "The API does not expose the schema that is asked for, which is `public` or what "
            "SUPABASE_SCHEMA names: add it to the exposed schemas (Project Settings > Data API; "
            "PGRST_DB_SCHEMAS on a server of your own), or correct SUPABASE_SCHEMA"
        )
    if code in _DENIED or status in (401, 403):
        return AccessDenied, _why_denied(status, code, said)
    invalid = code is not None and len(code) == 5 and code[:2] in _INVALID_CLASSES
    if code in _BUSY or status in (408, 425, 429) or (status >= 500 and not invalid):
        return StoreUnavailable, (
            "PostgREST runs and cannot reach its database" if code in _NO_DATABASE else ""
        )
    if status == 404 and code is None:
        return SchemaMissing, (
            "Nothing at this URL speaks PostgREST: SUPABASE_URL must be the project's API URL, "
            "https://<ref>.supabase.co"
        )
    return InvalidRequest, "Nothing of this request was stored"


def _why_denied(status: int, code: str | None, said: str) -> str:
    # The words of PostgREST 12 ("JWSError JWSInvalidSignature") and of 13 and later ("No suitable
    # key was found to decode the JWT"), which have codes of their own for some of these.
    words = said.lower()
    if code in {"PGRST301", "PGRST303"} and "expired" in words:
        return "The key has expired: get a new one from Project Settings > API Keys"
    if code == "PGRST301" and "parts" in words:
        return (
            "What answers is PostgREST itself, which takes only JWT keys; sb_secret_… keys are for "
            "the gateway before it. Set SUPABASE_URL to the gateway's address, or use the "
            "service_role JWT"
        )
    if code == "PGRST303":
        return "PostgREST does not accept what the key says of itself: get a new key"
    if code == "PGRST301":
        return (
            "The key was signed with another secret: it is the key of another project, or the "
            "project's JWT secret was changed. Copy the key and SUPABASE_URL from the same project"
        )
    if code == "PGRST300":
        return "PostgREST has no secret to check keys with: set its PGRST_JWT_SECRET"
    if code == "PGRST302":
        return "The key did not reach PostgREST: does a proxy remove the header Authorization?"
    if code in {"28000", "28P01"}:
        return "PostgREST cannot log in to its database: look at the server's settings"
    if code == "42501":
        return (
            "The key's role has no grant on this: use the project's service key, and "
            f"{APPLY_MIGRATIONS} (since 2026-10-30 a table needs explicit grants)"
        )
    if status == 401:
        return (
            "The key is none of this project's, or was revoked: copy the key and SUPABASE_URL from "
            "the same project"
        )
    return "What stands before the project refused the request, e.g. a firewall"


def _text(value: object) -> str | None:
    return value[:300] if isinstance(value, str) and value else None
