"""Which companies the database holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from supabase_auth_state.rest.client import Rest
from supabase_auth_state.rest.rows import WhatsappAuthRow

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient

Row = TypeVar("Row")

_PAGE_ROWS = 1000
_ALL = 2**31 - 1


async def check_connection(rest: Rest) -> None:
    """Ask the database for something small.

    So a wrong address, key or certificate is one error before anything else is done, and not an
    error about each of many companies.

    Raises:
        ConfigurationError: the address, the key or the certificate is wrong.
        StoreError: the database refused or did not answer.
    """
    await rest.about("whatsapp_lease_status", "962302")


async def list_companies(rest: Rest) -> list[str]:
    """Return every company that has creds or keys, in order.

    Args:
        rest: where the database is.

    Raises:
        StoreError: the database refused or did not answer.
    """
    stats = await rest.rpc("whatsapp_storage_stats", {"p_companies": _ALL})
    with_creds = await read_all(rest, "whatsapp_auth", "company_id", WhatsappAuthRow)
    return sorted({row["company_id"] for row in (*with_creds, *stats["by_company"])})


async def read_all(
    rest: Rest,
    table: str,
    columns: str,
    row: type[Row],  # noqa: ARG001 - gives the type of the result
) -> list[Row]:
    """Return columns of every row of a table that has one row a company.

    They are read page by page, because the API cuts longer answers without an error.

    Args:
        rest: where the database is.
        table: the table.
        columns: the columns, ``company_id`` among them, separated by commas.
        row: the type of the table's rows; of these, only the columns named are there.

    Raises:
        StoreError: the database refused or did not answer.
    """
    found: list[Row] = []
    last = ""

    def build(client: AsyncPostgrestClient) -> Any:
        query = client.from_(table).select(columns).gt("company_id", last)
        return query.order("company_id").limit(_PAGE_ROWS)

    while page := await rest.select(table, build):
        found += cast("list[Row]", page)
        last = page[-1]["company_id"]
    return found
