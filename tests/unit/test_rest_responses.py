"""What an answer means, and what to do: the advice fits the answer."""

from __future__ import annotations

import pytest

from supabase_auth_state.errors import (
    AccessDenied,
    InvalidRequest,
    ProjectRestricted,
    SchemaMissing,
    StoreError,
    StoreUnavailable,
    WriteRefused,
)
from supabase_auth_state.rest.responses import APPLY_MIGRATIONS, refusal

# Answers of PostgREST 12 and 14, and of the gateways of hosted and self-hosted projects.
ANSWERS = [
    (404, "PGRST202", "Could not find the function", SchemaMissing, APPLY_MIGRATIONS),
    (404, "PGRST205", "Could not find the table", SchemaMissing, APPLY_MIGRATIONS),
    (406, "PGRST106", "The schema must be one of the following: api", SchemaMissing, "expose"),
    (406, "PGRST106", "Invalid schema: whatsapp", SchemaMissing, "SUPABASE_SCHEMA"),
    (401, "PGRST301", "JWSError JWSInvalidSignature", AccessDenied, "another secret"),
    (401, "PGRST301", "No suitable key or wrong key type", AccessDenied, "another secret"),
    (401, "PGRST301", "JWT cryptographic operation failed", AccessDenied, "another secret"),
    (
        401, "PGRST301", "JWSError (CompactDecodeError Invalid number of parts: Expected 3 parts; "
        "got 1)", AccessDenied, "the gateway's address",
    ),
    (401, "PGRST301", "Expected 3 parts in JWT; got 1", AccessDenied, "the gateway's address"),
    (401, "PGRST301", "JWT expired", AccessDenied, "has expired"),
    (401, "PGRST303", "JWT expired", AccessDenied, "has expired"),
    (401, "PGRST303", "JWT not yet valid", AccessDenied, "says of itself"),
    (500, "PGRST300", "Server lacks JWT secret", AccessDenied, "PGRST_JWT_SECRET"),
    (401, "PGRST302", "Anonymous access is disabled", AccessDenied, "did not reach PostgREST"),
    (401, None, "Invalid API key", AccessDenied, "none of this project's"),
    (401, None, "Legacy API keys are disabled", AccessDenied, "none of this project's"),
    (403, None, "Forbidden", AccessDenied, "a firewall"),
    (403, "42501", "permission denied for table whatsapp_auth", AccessDenied, APPLY_MIGRATIONS),
    (503, "PGRST000", "Database connection error", StoreUnavailable, "cannot reach its database"),
    (503, "PGRST002", "Could not query the database", StoreUnavailable, "cannot reach its"),
    (504, "PGRST003", "Timed out acquiring connection", StoreUnavailable, ""),
    (402, None, "exceed_egress_quota", ProjectRestricted, "usage and billing"),
    (404, None, "no Route matched with those values", SchemaMissing, "SUPABASE_URL"),
    (409, "PT409", "whatsapp lease: …", WriteRefused, ""),
    (400, "22P02", "invalid input syntax", InvalidRequest, "Nothing of this request"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "message", "kind", "advice"), ANSWERS)
def test_an_answer_has_its_own_error_and_advice(
    status: int, code: str | None, message: str, kind: type[StoreError], advice: str
) -> None:
    body = {"message": message} if code is None else {"message": message, "code": code}
    error = refusal("reading", status, {**body, "details": "row (secret)", "hint": "a hint"})
    assert type(error) is kind
    assert str(error).startswith(f"reading: HTTP {status} ")
    assert message in str(error)
    assert advice in str(error)
    assert (error.status, error.code, error.hint) == (status, code, "a hint")
    assert "secret)" not in str(error)


def test_migrations_are_recommended_only_where_they_help() -> None:
    for status, code, message, _, advice in ANSWERS:
        said = str(refusal("reading", status, {"message": message, "code": code}))
        assert ("migrations" in said) == (advice == APPLY_MIGRATIONS), message


@pytest.mark.parametrize("body", [None, [], "text", 7, {"code": 7, "message": None}])
def test_an_answer_of_any_shape_is_an_error(body: object) -> None:
    assert type(refusal("reading", 400, body)) is InvalidRequest
    assert type(refusal("reading", 500, body)) is StoreUnavailable
