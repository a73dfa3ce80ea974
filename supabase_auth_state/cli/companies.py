"""Which companies the database holds."""

from __future__ import annotations

from supabase_auth_state.errors import CompanyNotFound
from supabase_auth_state.rest.client import Rest


async def check_connection(rest: Rest) -> None:
    """Ask the database for something small.

    So a wrong address, key or certificate is one error before anything else is done, and not an
    error about each of many companies.

    Raises:
        ConfigurationError: the address, the key or the certificate is wrong.
        StoreError: the database refused or did not answer.
    """
    await rest.about("whatsapp_lease_status", "962302")


async def refuse_unknown(rest: Rest, company_id: str) -> None:
    """Refuse a company that the database does not have.

    Raises:
        CompanyNotFound: it has no creds and no keys.
        StoreError: the database refused or did not answer.
    """
    found = await rest.ask("fetch_whatsapp_creds", company_id, {})
    if found["creds"] is None and not found["has_keys"]:
        raise CompanyNotFound(company_id)


async def list_companies(rest: Rest) -> list[str]:
    """Return every company that has creds or keys, in order of their ids.

    They are read page by page. Of each, the database reads one entry of an index.

    Args:
        rest: where the database is.

    Raises:
        StoreError: the database refused or did not answer.
    """
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await rest.rpc(
            "list_whatsapp_companies",
            {"p_after": after},
            is_right=lambda found: (
                isinstance(found, dict) and {"companies", "after"} <= found.keys()
            ),
        )
        found += page["companies"]
        after = page["after"]
    return found
