"""Companies of a project's database, written straight into its tables."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from benchmarks import sample
from devstack.local import LocalStack

_PUT_CREDS = "insert into whatsapp_auth (company_id, creds) values (%s, %s::jsonb)"
_PUT_KEYS = """
insert into whatsapp_keys (company_id, key_type, key_id, value)
select %s, t.key, v.key, v.value
from jsonb_each(%s::jsonb) as t cross join lateral jsonb_each(t.value) as v
"""


class Companies:
    """Makes companies. Autovacuum is off, so that no contestant meets it by chance.

    Args:
        stack: the project.

    Attributes:
        db: a connection as the project's owner.
    """

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._made = 0
        self.db: psycopg.Connection[Any] = psycopg.connect(stack.db_url, autocommit=True)
        for table in ("whatsapp_auth", "whatsapp_keys"):
            self.db.execute(f"alter table {table} set (autovacuum_enabled = off)")

    def new(self, keys: sample.Keys | None = None) -> str:
        """Store a company, by default the sample session, and return its id."""
        self._made += 1
        company_id = str(962301 + self._made)
        keys = sample.company(self._made) if keys is None else keys
        self.db.execute(_PUT_CREDS, (company_id, json.dumps(sample.creds())))
        self.db.execute(_PUT_KEYS, (company_id, json.dumps(keys)))
        return company_id

    def settle(self) -> None:
        """Leave the tables as autovacuum does."""
        self.db.execute("vacuum analyze whatsapp_auth")
        self.db.execute("vacuum analyze whatsapp_keys")
        with self._stack.cluster.superuser(self._stack.database) as admin:
            admin.execute("checkpoint")

    def close(self) -> None:
        """Close the connection."""
        self.db.close()
