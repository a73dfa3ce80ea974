"""``reinstate``: let pools connect a company again that they leave alone."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from .console import Console
from .exits import DONE
from .parsing import Commands, add_command, add_company


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "reinstate",
        run_reinstate,
        summary="let pools connect a company again that was logged out, banned or replaced",
        description="""\
End what SessionPool has noted about a company: the quarantine after 401, 403 and 406, or the long
pause after 440 and the like. All machines obey within half a minute. After 401, logged out, the
next connection links a new device; to go on with the old one, restore it first. After the others
remove the cause first: the next attempt fails as the last one did otherwise.""",
    )
    add_company(parser)


async def run_reinstate(args: argparse.Namespace, console: Console) -> int:
    """End a company's pause."""
    from supabase_auth_state.pool.pauses import reinstate_company
    from supabase_auth_state.rest.client import using_rest
    from supabase_auth_state.transfer.history import read_history

    from .companies import refuse_unknown

    async with using_rest() as rest:
        pauses = await reinstate_company(rest, args.company)
        if not pauses and not (await read_history(args.company, client=rest)).versions:
            await refuse_unknown(rest, args.company)
    console.result(_Reinstated(args.company, pauses.get(args.company)))
    return DONE


class _Reinstated:
    """The pause that was ended, for printing."""

    def __init__(self, company_id: str, pause: Mapping[str, Any] | None) -> None:
        self._company_id = company_id
        self._pause = pause

    def as_json(self) -> dict[str, Any]:
        return {"company_id": self._company_id, "pause": self._pause}

    def __str__(self) -> str:
        company = f"company {self._company_id!r}"
        if self._pause is None:
            return f"{company} was not left alone by any pool"
        code, reason, by = (self._pause[name] for name in ("code", "reason", "noted_by"))
        what = f"{code}, {reason}" if code else reason
        said = f"{company} is reinstated; it was left alone after {what} (noted by {by})"
        if not self._pause["logged_out"]:
            return said
        return (
            f"{said}\nits next connection links a new device; what it had is kept in quarantine: "
            f"supabase-auth-state history --company {self._company_id}"
        )
