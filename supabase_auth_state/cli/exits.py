"""How the commands end. ``docs/commands.md`` has the same list."""

from __future__ import annotations

from supabase_auth_state.errors import (
    AccessDenied,
    ConfigurationError,
    LeaseError,
    ProjectRestricted,
    SchemaMissing,
    StoreUnavailable,
    SupabaseAuthStateError,
    VerificationFailed,
)

DONE = 0
REFUSED = 1
USAGE = 2
DIFFERENT = 3
NO_DATABASE = 4
OWNED = 5
INTERRUPTED = 130
TERMINATED = 143

TABLE = """\
exit codes:
  0    done
  1    refused or failed; nothing was written unless the message says so
  2    wrong usage, or a setting is missing or wrong
  3    different (verify), damaged (doctor), a rule fires (alerts check), values are left (rekey)
  4    the database did not answer, or refused the key
  5    another process owns the company
  130  interrupted (143: terminated)

The project comes from SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY (or SUPABASE_SECRET_KEY), in the
environment or in a .env file.
"""

_CODES: tuple[tuple[type[SupabaseAuthStateError], int], ...] = (
    (ConfigurationError, USAGE),
    (VerificationFailed, DIFFERENT),
    (LeaseError, OWNED),
    (AccessDenied, NO_DATABASE),
    (ProjectRestricted, NO_DATABASE),
    (SchemaMissing, NO_DATABASE),
    (StoreUnavailable, NO_DATABASE),
)


def exit_code(error: SupabaseAuthStateError) -> int:
    """Return with which code a command ends that failed so."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), REFUSED)
