"""What the database keeps of a company's past, and bringing it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supabase_auth_state.config import Settings, check_company_id
from supabase_auth_state.errors import VersionNotRestorable
from supabase_auth_state.rest.client import Rest, using_rest
from supabase_auth_state.rest.connection import Client

from .company_writer import owned_for


@dataclass(frozen=True)
class Version:
    """What was kept of a company, without its content.

    Attributes:
        version: its number; versions of creds and removed companies are numbered together.
        kind: ``"creds"``, or ``"company"`` for keys and creds that were removed together.
        reason: ``"replaced"``, or what removed the company: ``"clear"``, ``"delete"``,
            ``"logged out"``, ``"restore"``.
        client_family: the client family, or None without creds.
        creds: whether there are creds.
        keys: how many keys there are.
        bytes: what it takes in the database.
        saved_at: when these creds were saved, in seconds since 1970; None without creds.
        kept_at: when they were replaced or removed.
        until: when it is deleted; None where only newer versions push it out.
        same_device: whether these creds are the linked device that the company is now; None where
            that cannot be told.
    """

    version: int
    kind: str
    reason: str
    client_family: str | None
    creds: bool
    keys: int
    bytes: int
    saved_at: float | None
    kept_at: float
    until: float | None
    same_device: bool | None

    @property
    def contents(self) -> str:
        """What it holds, in words."""
        if self.kind == "creds":
            return "creds"
        return f"{self.keys} keys" + (" and creds" if self.creds else "")


@dataclass(frozen=True)
class History:
    """What the database keeps of a company.

    Attributes:
        company_id: the company.
        saved_at: when its present creds were saved, in seconds since 1970; None without creds.
        versions: what can be restored, the newest first.
    """

    company_id: str
    saved_at: float | None
    versions: tuple[Version, ...]

    def version(self, number: int | None) -> Version:
        """Return a version, or the company that was removed last when ``number`` is None.

        Raises:
            VersionNotRestorable: there is none.
        """
        for version in self.versions:
            if version.version == number or (number is None and version.kind == "company"):
                return version
        what = "removed company" if number is None else f"version {number}"
        raise VersionNotRestorable(self.company_id, number, f"the database keeps no {what} of it")


async def read_history(
    company_id: str, *, client: Client | Rest | None = None, settings: Settings | None = None
) -> History:
    """Return what the database keeps of a company: no content, and nothing is changed.

    Args:
        company_id: the company.
        client: as in `use_supabase_auth_state`.
        settings: as in `use_supabase_auth_state`.

    Raises:
        StoreError: the database refused or did not answer.
    """
    check_company_id(company_id)
    async with using_rest(settings, client=client) as rest:
        return await _read(rest, company_id)


async def restore_version(
    company_id: str,
    version: int | None = None,
    *,
    client: Client | Rest | None = None,
    settings: Settings | None = None,
) -> Version:
    """Bring back a version of creds, or a whole company that was cleared or deleted.

    The company is owned meanwhile. What is replaced is kept: creds as a newer version, a company in
    quarantine. Signal's ratchets go back with it: restore only when no client has connected since
    that version was current, or when the present state is lost anyway.

    Args:
        company_id: the company.
        version: its number; by default the company that was removed last.
        client: as in `use_supabase_auth_state`.
        settings: as in `use_supabase_auth_state`.

    Raises:
        VersionNotRestorable: the database keeps no such version, or it is the creds of another
            linked device, whose keys are not there; nothing is changed.
        LeaseHeld: another process owns the company; nothing is changed.
        StoreError, LeaseLost: the database refused or did not answer, or another process took over.
    """
    check_company_id(company_id)
    async with (
        using_rest(settings, client=client) as rest,
        owned_for(rest, company_id, "restore") as lease,
    ):
        wanted = (await _read(rest, company_id)).version(version)
        if wanted.kind == "creds" and wanted.same_device is False:
            raise VersionNotRestorable(
                company_id, wanted.version, f"version {wanted.version} is another linked device"
            )
        await lease.writer.rpc("restore_whatsapp_version", {"p_version": wanted.version})
    return wanted


async def _read(rest: Rest, company_id: str) -> History:
    found: Mapping[str, Any] = await rest.about("whatsapp_history", company_id)
    current = found["current"] or {}
    versions = tuple(Version(**version) for version in found["versions"])
    return History(company_id, current.get("saved_at"), versions)
