"""``settle``: say that what a restored database has lost is dealt with."""

from __future__ import annotations

import argparse
from typing import Any

from supabase_auth_state.errors import ConfigurationError

from .console import Console
from .exits import DONE, REFUSED
from .leases import read_lease
from .parsing import Commands, add_command, add_company


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "settle",
        run_settle,
        summary="say that a company of a restored database is in order again",
        description="""\
End the report that the database was set back to an earlier moment, as by restoring a backup. An
owner has made it: it knew of writes that the database has lost. doctor and the dashboard show it
until then. It changes no key and no creds, so do first one of these:

- lay what the owner has saved (auth.save_remembered) over the rows:
  export, copy the saved files over the exported ones, import --force
- log the device out on the phone, delete the company, and link it again afterwards
- find out that nothing was written after the restore point

At a terminal it asks first; elsewhere --yes is needed. Where pools have quarantined the company,
reinstate it afterwards. docs/restored-database.md has all the steps.""",
    )
    add_company(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


async def run_settle(args: argparse.Namespace, console: Console) -> int:
    """Ask, and end the report about a company."""
    from supabase_auth_state.rest.client import using_rest

    company_id: str = args.company
    async with using_rest() as rest:
        # A company that was deleted to be linked again has no rows.
        lease = await rest.about("whatsapp_lease_status", company_id)
        reported_at = lease["restored_at"]
        if reported_at is None:
            await read_lease(rest, company_id)
            console.result(_Settled(company_id, None, settled=False))
            return DONE
        if not args.yes and not await _confirmed(company_id, reported_at, console):
            console.result(_Settled(company_id, reported_at, settled=False), ok=False)
            return REFUSED
        await rest.about("settle_whatsapp_restored", company_id, timed=True)
    console.result(_Settled(company_id, reported_at, settled=True))
    return DONE


async def _confirmed(company_id: str, reported_at: str, console: Console) -> bool:
    """Return whether a person says yes.

    Raises:
        ConfigurationError: there is no terminal to ask at.
    """
    report = _Settled(company_id, reported_at, settled=False)
    confirmed = await console.confirm(f"{report}. Is it dealt with?")
    if confirmed is None:
        raise ConfigurationError(
            f"{report}; --yes is needed where settle cannot ask at a terminal, once it is dealt "
            "with: see settle --help"
        )
    return confirmed


class _Settled:
    """What was reported about a company, for printing."""

    def __init__(self, company_id: str, reported_at: str | None, *, settled: bool) -> None:
        self._company_id = company_id
        self._reported_at = reported_at
        self._settled = settled

    def as_json(self) -> dict[str, Any]:
        return {
            "company_id": self._company_id,
            "reported_at": self._reported_at,
            "settled": self._settled,
        }

    def __str__(self) -> str:
        company = f"company {self._company_id!r}"
        if self._reported_at is None:
            return f"{company}: no owner has reported that the database was set back"
        if self._settled:
            return (
                f"{company} is settled; an owner had reported at {self._reported_at} that the "
                "database was set back"
            )
        return (
            f"{company}: an owner has reported at {self._reported_at} that the database was set "
            "back, and lacks writes that were acknowledged"
        )
