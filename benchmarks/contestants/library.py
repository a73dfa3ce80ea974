"""This library: without a lease every read goes to the database, with one memory answers too."""

from __future__ import annotations

from benchmarks.contestants.base import StoreContestant
from supabase_auth_state import use_supabase_auth_state
from supabase_auth_state.auth_state.database import AuthState
from supabase_auth_state.codec import revive
from supabase_auth_state.rest.client import Rest

LIBRARY, OWNER = "this library", "this library, lease + cache"


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

    async def close(self) -> None:
        """Close the company."""
        await self.auth.close()
