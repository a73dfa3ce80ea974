"""A table of keys as it lies on disk: ours or the plain one, written, vacuumed and measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql
from typing_extensions import LiteralString

from benchmarks import sample

PLAIN_TABLE, OUR_TABLE = "bench_plain", "whatsapp_keys"

_CREATE_PLAIN = """
create table bench_plain (
  company_id text not null, key_type text not null, key_id text not null, value jsonb not null,
  expires_at timestamptz, primary key (company_id, key_type, key_id));
create index on bench_plain (expires_at)
"""
_PUT_PLAIN = """
insert into bench_plain (company_id, key_type, key_id, value, expires_at)
select %(company)s, t.key, v.key, v.value,
  case when t.key = 'lid-mapping' then now() + interval '7 days' end
from jsonb_each(%(keys)s::jsonb) as t cross join lateral jsonb_each(t.value) as v
on conflict (company_id, key_type, key_id)
do update set value = excluded.value, expires_at = excluded.expires_at
"""
_PUT_OURS = """
insert into whatsapp_keys (company_id, key_type, key_id, value)
select %(company)s, t.key, v.key, v.value
from jsonb_each(%(keys)s::jsonb) as t cross join lateral jsonb_each(t.value) as v
on conflict (company_id, key_type, key_id)
do update set company_id = excluded.company_id, key_type = excluded.key_type,
  key_id = excluded.key_id, value = excluded.value
"""  # as PostgREST does it
_USE_UP = "delete from {} where company_id = %s and key_type = 'pre-key' and key_id = %s"
_TOUCH = """
update {} set expires_at = now() + interval '7 days'
where company_id = %s and key_type = 'lid-mapping' and key_id = any(%s)
"""
_SIZES = """
select pg_relation_size(c.oid), coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0),
  pg_indexes_size(c.oid), pg_total_relation_size(c.oid)
from pg_class c where c.oid = %s::regclass
"""
_DEAD = """
select s.n_dead_tup, s.n_live_tup, coalesce(100.0 * s.n_tup_hot_upd / nullif(s.n_tup_upd, 0), 0)
from pg_stat_user_tables s where s.relid = %s::regclass
"""
_RULE = """
select coalesce((select option_value from pg_options_to_table(c.reloptions) where option_name = %s),
  current_setting(%s))::float
from pg_class c where c.oid = %s::regclass
"""


class Table:
    """One of the two tables. Autovacuum is off, so that `vacuum_if_due` alone decides."""

    def __init__(self, db: psycopg.Connection[Any], name: str) -> None:
        self._db = db
        self.name = name
        if name == PLAIN_TABLE:
            db.execute(_CREATE_PLAIN)
        self._execute("alter table {} set (autovacuum_enabled = off)")
        self._base = self._rule("autovacuum_vacuum_threshold")
        self._scale = self._rule("autovacuum_vacuum_scale_factor")

    def put(self, company_id: str, keys: sample.Keys) -> None:
        """Write keys in one transaction."""
        put = _PUT_PLAIN if self.name == PLAIN_TABLE else _PUT_OURS
        arguments = {"company": company_id, "keys": json.dumps(keys)}
        self._db.execute(put, arguments, prepare=True)

    def use_up(self, company_id: str, pre_key: str) -> None:
        """Delete a pre-key."""
        self._execute(_USE_UP, company_id, pre_key)

    def touch(self, company_id: str, ids: list[str]) -> None:
        """Move the time of mappings forward, as reading them does when half of it is over."""
        self._execute(_TOUCH, company_id, ids)

    def vacuum_if_due(self) -> None:
        """Do what autovacuum does when the dead rows have passed its threshold."""
        self._db.execute("select pg_stat_force_next_flush()")
        dead, live, _ = self._row(_DEAD, self.name)
        if dead > self._base + self._scale * live:
            self.vacuum()

    def vacuum(self) -> None:
        """Vacuum the table."""
        self._execute("vacuum analyze {}")

    def bytes(self) -> Mapping[str, int]:
        """Give the bytes of heap, TOAST and indexes, and the total."""
        parts = ("heap", "TOAST", "indexes", "total")
        return dict(zip(parts, self._row(_SIZES, self.name), strict=True))

    def hot(self) -> float:
        """Give the share of updates that touched no index, in percent."""
        return float(self._row(_DEAD, self.name)[2])

    def _rule(self, setting: str) -> float:
        return float(self._row(_RULE, setting, setting, self.name)[0])

    def _execute(self, query: LiteralString, *arguments: Any) -> None:
        # Without arguments a statement may be one that cannot be prepared, such as vacuum.
        composed = sql.SQL(query).format(sql.Identifier(self.name))
        self._db.execute(composed, arguments or None, prepare=bool(arguments))

    def _row(self, query: LiteralString, *arguments: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._db.execute(query, arguments).fetchone()
        if row is None:
            raise RuntimeError(f"no table {self.name}")
        return row
