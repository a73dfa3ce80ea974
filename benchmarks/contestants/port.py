"""The owner's JavaScript system, call for call, on supabase-py.

Reads by `.in_()`, upserts of 100 rows, one delete a key. As supabase-js does it, upserts ask for
nothing back; supabase-py's own default is to send every row back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supabase import AsyncClient

from supabase_auth_state.codec import plain, revive

BATCH = 100


class Port:
    """Keys of one company, without joining, cache, lease or atomicity."""

    def __init__(self, client: AsyncClient, company_id: str) -> None:
        self._client = client
        self._company_id = company_id

    async def get(self, type: str, ids: Sequence[str]) -> dict[str, Any]:
        """Read values."""
        answer = await (
            self._client.table("whatsapp_keys")
            .select("key_id,value")
            .eq("company_id", self._company_id)
            .eq("key_type", type)
            .in_("key_id", ids)
            .execute()
        )
        rows: Any = answer.data
        return {row["key_id"]: revive(row["value"]) for row in rows}

    async def set(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Write values, then delete those that are None."""
        rows, gone = [], []
        for key_type, values in data.items():
            for key_id, value in values.items():
                row = {"company_id": self._company_id, "key_type": key_type, "key_id": key_id}
                if value is None:
                    gone.append(row)
                else:
                    rows.append({**row, "value": plain(value)})
        for start in range(0, len(rows), BATCH):
            await self._upsert(rows[start : start + BATCH])
        for row in gone:
            await self._client.table("whatsapp_keys").delete().match(row).execute()

    async def creds(self) -> Any:
        """Read the creds, as at a start."""
        answer = await (
            self._client.table("whatsapp_auth")
            .select("creds")
            .eq("company_id", self._company_id)
            .execute()
        )
        rows: Any = answer.data
        return revive(rows[0]["creds"])

    async def _upsert(self, rows: list[dict[str, Any]]) -> None:
        query = self._client.table("whatsapp_keys").upsert(
            rows,
            on_conflict="company_id,key_type,key_id",
            returning="minimal",  # type: ignore[arg-type]
        )
        await query.execute()
