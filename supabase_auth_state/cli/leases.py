"""``lease``: who owns a company, and ending a lease whose owner is dead."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from supabase_auth_state.errors import CompanyMoved, is_mark

from .console import Console
from .exits import DONE, OWNED, REFUSED
from .parsing import Commands, add_common_options, add_company

if TYPE_CHECKING:
    from supabase_auth_state.rest.client import Rest


def add_parsers(commands: Commands) -> None:
    """Add the parsers of this command."""
    parser = commands.add_parser(
        "lease",
        help="who owns a company; end the lease of an owner that is dead",
        description="""\
A process that connects with a lease owns its company: no other process can write it. The lease of a
process that died ends by itself (after 30 seconds, unless lease_ttl says otherwise).""",
    )
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, help="what to do"
    )
    _add_status(actions)
    _add_release(actions)


def _add_status(actions: Commands) -> None:
    parser = actions.add_parser(
        "status",
        help="print who owns a company, and until when",
        description="Print who owns a company, and until when.",
    )
    add_common_options(parser, run_status)
    add_company(parser)


def _add_release(actions: Commands) -> None:
    parser = actions.add_parser(
        "release",
        help="end a lease before its time",
        description="""\
End the lease of an owner that is dead, so that the next one need not wait until its time is over.

It asks first; --force (or --yes) does not. An owner that lives after all does no harm: the database
refuses whatever it writes from then on, and it has to open the company again.""",
    )
    add_common_options(parser, run_release)
    add_company(parser)
    parser.add_argument("--yes", "--force", action="store_true", help="do not ask")


async def run_status(args: argparse.Namespace, console: Console) -> int:
    """Print who owns a company."""
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        lease = await read_lease(rest, args.company)
    console.result(LeaseStatus(lease))
    return DONE


async def run_release(args: argparse.Namespace, console: Console) -> int:
    """End a company's lease, after a question."""
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        lease = await read_lease(rest, args.company)
        if lease["owner"] is None:
            console.result(LeaseStatus(lease, released=False))
            return DONE
        refuse_closed(lease)
        if not (args.yes or await _confirmed(lease, console)):
            console.result(LeaseStatus(lease, released=False), ok=False)
            console.say("nothing was changed: --force ends the lease without a question")
            return OWNED if lease["live"] else REFUSED
        await rest.rpc(
            "release_whatsapp_lease", {"p_company_id": args.company, "p_token": lease["token"]}
        )
        after = await rest.about("whatsapp_lease_status", args.company)
    # Not by the result of the call: a call that is sent again says that there was nothing to do.
    released = after["owner"] is None
    console.result(LeaseStatus(after, released=released), ok=released)
    return DONE if released else OWNED


def refuse_closed(lease: Mapping[str, Any]) -> None:
    """Do not open a company by ending a lease, of ``whatsapp_lease_status()``.

    Raises:
        CompanyMoved: the company has moved to another project, or is on its way from there.
    """
    if is_mark(lease["owner"]):
        raise CompanyMoved(lease["company_id"], lease["owner"])


async def _confirmed(lease: Mapping[str, Any], console: Console) -> bool:
    return bool(await console.confirm(f"{LeaseStatus(lease)}. End this lease?"))


class LeaseStatus:
    """What ``whatsapp_lease_status()`` returns, for printing.

    Args:
        lease: what it returned.
        released: whether the command has ended the lease; None when it was not to.
    """

    def __init__(self, lease: Mapping[str, Any], *, released: bool | None = None) -> None:
        self._lease = lease
        self._released = released

    def as_json(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        released = {} if self._released is None else {"released": self._released}
        return {**self._lease, **released}

    def __str__(self) -> str:
        lease = self._lease
        company = f"company {lease['company_id']!r}"
        if self._released:
            return f"{company}: the lease is ended; the next process may have it"
        if lease["owner"] is None:
            return f"{company} is owned by no process"
        if lease["live"]:
            return f"{company} is owned by {lease['owner']} until {lease['expires_at']}"
        return f"{company} was owned by {lease['owner']}, whose lease ended {lease['expires_at']}"


async def read_lease(rest: Rest, company_id: str) -> Mapping[str, Any]:
    """Return the status of a company's lease.

    Raises:
        CompanyNotFound: the company has no rows, and no process owns it.
        StoreError: the database refused or did not answer.
    """
    from .companies import refuse_unknown

    lease: Mapping[str, Any] = await rest.about("whatsapp_lease_status", company_id)
    if lease["owner"] is None:
        await refuse_unknown(rest, company_id)
    return lease
