"""The keys of a company, asked of whatever holds them."""

from __future__ import annotations

from collections.abc import Awaitable

from supabase_auth_state.codec import Sealing
from supabase_auth_state.config.encryption import NO_KEYS, parse_keys
from supabase_auth_state.errors import StoreUnavailable, SupabaseAuthStateError
from supabase_auth_state.rest.client import Rest


async def sealing_for(rest: Rest, company_id: str) -> Sealing:
    """Return what seals and opens a company's values.

    A function that gives the keys is asked each time.

    Raises:
        ConfigurationError: what it gives is no list of keys.
        StoreUnavailable: it failed.
    """
    encryption = rest.encryption
    if encryption is None:
        return Sealing(company_id, NO_KEYS)
    if isinstance(encryption, str):
        return Sealing(company_id, parse_keys(encryption))
    try:
        given = encryption(company_id)
        text = await given if isinstance(given, Awaitable) else given
    except SupabaseAuthStateError:
        raise
    except Exception as error:  # noqa: BLE001 - the caller's own function
        failed = type(error).__name__
    else:
        return Sealing(company_id, parse_keys(text))
    # Raised here: what a key service says in its error may be secret.
    raise StoreUnavailable(
        f"company {company_id!r}: the function that gives its keys failed with {failed}; nothing "
        "was read or written"
    )
