"""This library: without a lease every read goes to the database, with one memory answers too."""

from __future__ import annotations

from benchmarks.contestants.base import StoreContestant
from supabase_auth_state import use_supabase_auth_state
from supabase_auth_state.auth_state.database import AuthState
from supabase_auth_state.codec import revive
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.transfer.rekey import rekey_company

LIBRARY, OWNER = "this library", "this library, lease + cache"
SEALED = "this library, sealed"

_KEYS = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class Library(StoreContestant):
    """One open auth state."""

    auth: AuthState

    @classmethod
    async def open(cls, rest: Rest, company_id: str, *, lease: bool = False) -> Library:
        """Open a company."""
        auth = await use_supabase_auth_state(company_id, client=rest, lease=lease)
        contestant = cls(OWNER if lease else LIBRARY, auth.keys, revive)
        contestant.auth = auth
        return contestant

    @classmethod
    async def open_sealed(cls, rest: Rest, company_id: str) -> Library:
        """Seal the rows of a company, and open it."""
        rest = rest.with_encryption(_KEYS)
        await rekey_company(rest, company_id)
        auth = await use_supabase_auth_state(company_id, client=rest)
        contestant = cls(SEALED, auth.keys, revive)
        contestant.auth = auth
        return contestant

    async def close(self) -> None:
        """Close the company."""
        await self.auth.close()
