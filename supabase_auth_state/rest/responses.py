"""What an answer of PostgREST or of the gateway means. Pure: status and body in, an error out."""

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

_MISSING = frozenset({"PGRST202", "PGRST205", "PGRST106", "42P01", "42883", "42703", "PGRST204"})
_DENIED = frozenset({"42501", "28000", "28P01", "PGRST300", "PGRST301", "PGRST302", "PGRST303"})
_BUSY = frozenset(
    {
        "40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "53300", "53400", "08000",
        "08003", "08006", "PGRST000", "PGRST001", "PGRST002", "PGRST003",
    }
)  # fmt: skip
# PostgREST answers some of these with HTTP 500, though sending the same data again cannot help.
_INVALID_CLASSES = frozenset({"0A", "21", "22", "23", "42", "44", "54", "P0"})
_RESTRICTED = frozenset({"25006", "53100"})
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
    if code in _RESTRICTED or status in _RESTRICTED_STATUS or "_quota" in said:
        return ProjectRestricted, (
            "The project is over quota, paused or read-only: look at its usage and billing in the "
            "Supabase dashboard"
        )
    if code in _MISSING:
        return SchemaMissing, (
            "The tables or functions are not there, or the API has not seen them yet: apply the "
            "migrations with `supabase db push`"
        )
    if code in _DENIED or status in (401, 403):
        return AccessDenied, (
            "The key was refused, or its role has no grant on this: use the project's service key, "
            "and apply the migrations with `supabase db push` (since 2026-10-30 a table needs "
            "explicit grants)"
        )
    invalid = code is not None and len(code) == 5 and code[:2] in _INVALID_CLASSES
    if code in _BUSY or status in (408, 425, 429) or (status >= 500 and not invalid):
        return StoreUnavailable, ""
    if status == 404 and code is None:
        return SchemaMissing, (
            "Nothing at this URL speaks PostgREST: SUPABASE_URL must be the project's API URL, "
            "https://<ref>.supabase.co"
        )
    return InvalidRequest, "Nothing of this request was stored"


def _text(value: object) -> str | None:
    return value[:300] if isinstance(value, str) and value else None
