"""An audit of whatsapp_keys, kept by a trigger for the companies of one fight."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from typing_extensions import Self

from tests.acceptance.fight.history import Change, Write

KEY = ("session", "counter")
"""Type and id of the one row that is fought for in each company."""

_CREATE = """
create schema {schema};
create table {schema}.changes (
  seq bigint generated always as identity, company_id text, header text, value jsonb);
create function {schema}.record() returns trigger language plpgsql security definer as $$
begin
  insert into {schema}.changes (company_id, header, value) values (
    coalesce(new.company_id, old.company_id),
    nullif(current_setting('request.headers', true), '')::json ->> 'x-whatsapp-lease',
    new.value);
  return null;
end $$;
create trigger {schema} after insert or update or delete on public.whatsapp_keys
  for each row execute function {schema}.record();
"""


class Audit:
    """Records every change of the companies whose names begin with `prefix`.

    Writes of one company wait for each other in the database, so its changes are numbered in the
    order in which they were committed.
    """

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self.prefix = f"fight_{uuid4().hex[:12]}"
        self._db = db
        self._schema = sql.Identifier(self.prefix)

    def __enter__(self) -> Self:
        self._run(_CREATE)
        return self

    def __exit__(self, *error: object) -> None:
        self._run("drop schema {schema} cascade")

    def companies(self, count: int) -> list[str]:
        """Name companies of this fight."""
        return [f"{self.prefix}-{number:02}" for number in range(count)]

    def changes(self) -> list[Change]:
        """Return every change so far, in order."""
        rows = self._run(
            "select company_id, header, value from {schema}.changes "
            "where starts_with(company_id, {prefix}) order by seq"
        ).fetchall()
        return [
            Change(company, None if header is None else int(header), value and Write(**value))
            for company, header, value in rows
        ]

    def final(self) -> dict[str, Write]:
        """Return what the rows hold now."""
        rows = self._db.execute(
            "select company_id, value from whatsapp_keys where starts_with(company_id, %s)",
            [self.prefix],
        ).fetchall()
        return {company: Write(**value) for company, value in rows}

    def live_leases(self) -> list[str]:
        """Return the companies that are owned now."""
        rows = self._db.execute(
            "select company_id from whatsapp_leases "
            "where starts_with(company_id, %s) and expires_at > now()",
            [self.prefix],
        ).fetchall()
        return [company for (company,) in rows]

    def _run(self, query: str) -> psycopg.Cursor[Any]:
        names = {"schema": self._schema, "prefix": sql.Literal(self.prefix)}
        return self._db.execute(sql.SQL(query).format(**names))
