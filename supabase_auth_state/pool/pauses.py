"""What one pool has found out about a company, in the database for the pools of all machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .ends import LOGGED_OUT, NO_CODE, End, noted_end

if TYPE_CHECKING:
    from supabase_auth_state.auth_state.database import AuthState
    from supabase_auth_state.rest.client import Rest


@dataclass(frozen=True)
class Pause:
    """A company that pools leave alone.

    Attributes:
        end: why, and what a person has to do.
        seconds: for how long; None: until it is reinstated; 0: it is over, but not for long.
        step: how many pauses in a row it is; the next one is longer.
        at: when it was noted, on the database's clock; 0 for one that is not noted yet.
    """

    end: End
    seconds: float | None
    step: int = 0
    at: float = 0.0


class SharedPauses:
    """Reads and writes the table ``whatsapp_pauses``.

    Every method raises:
        StoreError: the database refused or did not answer.

    Args:
        rest: gives the connections to the database.
        noted_by: the name of this process.
    """

    def __init__(self, rest: Callable[[], Rest], noted_by: str) -> None:
        self._rest = rest
        self._noted_by = noted_by

    async def note(self, company_id: str, pause: Pause) -> None:
        """Note that a company is left alone; a longer pause that is noted already stays."""
        await self._rest().ask(
            "note_whatsapp_pause",
            company_id,
            {
                "p_code": pause.end.code or NO_CODE,
                "p_reason": pause.end.reason,
                "p_seconds": pause.seconds,
                "p_noted_by": self._noted_by,
                "p_step": pause.step,
            },
            timed=True,
        )

    async def log_out(self, auth: AuthState, end: End) -> None:
        """Move a company that was logged out into quarantine, and note that; all or nothing."""
        await auth.log_out(end.code or LOGGED_OUT, end.reason, self._noted_by)

    async def find(self, company_ids: Iterable[str]) -> dict[str, Pause]:
        """Return the pauses of those companies that have one."""
        wanted = list(company_ids)
        found = await self._rest().ask("whatsapp_pauses_of", "", {"p_companies": wanted})
        return {company_id: _pause(noted) for company_id, noted in found["pauses"].items()}

    async def reinstate(self, company_id: str) -> Pause | None:
        """End a company's pause, and return it."""
        pauses = await reinstate_company(self._rest(), company_id)
        return _pause(pauses[company_id]) if company_id in pauses else None


async def reinstate_company(rest: Rest, company_id: str) -> Mapping[str, Any]:
    """End a company's pause, and return it by the company's name; empty when it had none.

    Raises:
        StoreError: the database refused or did not answer.
    """
    found = await rest.ask("reinstate_whatsapp_company", company_id, {}, timed=True)
    pauses: Mapping[str, Any] = found["pauses"]
    return pauses


def _pause(noted: Mapping[str, Any]) -> Pause:
    seconds: float | None = noted["seconds"]
    end = noted_end(noted["code"], noted["reason"], noted["noted_by"], for_good=seconds is None)
    return Pause(end, seconds, noted["step"], noted["noted_at"])
