"""A project with a thousand companies, the dashboard beside it, and a browser that looks at it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from devstack import Stack
from supabase_auth_state.cli.web.access import TOKEN_VARIABLE
from tests.companies import creds_of, documents, sample

COMPANIES = 1000
DEVICE = "device"
"""A company with the creds and keys of a real device."""

SECRET = "cGxhbnRlZC1rZXktbWF0ZXJpYWw"
"""Stands in the creds and keys of every other company."""

_FILL = """
set local whatsapp_auth.maintenance = 'on';
insert into whatsapp_auth (company_id, creds)
select 'company-' || lpad(n::text, 4, '0'), jsonb_build_object('noiseKey', '{secret}')
from generate_series(1, {companies} - 1) n;
insert into whatsapp_keys (company_id, key_type, key_id, value)
select 'company-' || lpad(n::text, 4, '0'), t.name, n || '.' || k,
  jsonb_build_object('k', repeat('{secret}', 1 + n % 7))
from generate_series(1, {companies} - 1) n, generate_series(1, 2) k,
  unnest(array['session', 'pre-key', 'sender-key', 'lid-mapping']) t (name);
"""
_DAYS = """
insert into whatsapp_statistics_days
  (day, taken_at, companies, rows, bytes, creds_bytes, by_type, storage)
select current_date - n, now() - make_interval(days => n), 1000 - n * 8, 8000 - n * 60, 800000,
  90000, '{}',
  jsonb_set(whatsapp_storage(), '{database}',
    to_jsonb(pg_database_size(current_database()) - n * 120000 + (n % 5) * 30000))
from generate_series(1, 40) n
"""
_RUNS = """
insert into whatsapp_cleanup_runs (finished_at, owner, deleted, complete, seconds)
select now() - n * interval '6 hours', 'worker-' || n % 3, 1200 - n * 90, n <> 3, 1.5 - n * 0.1
from generate_series(1, 6) n
"""
_LEASES = """
insert into whatsapp_lease_history (company_id, token, owner, acquired_at, released_at, taken_from)
select %(company)s, n, 'worker-' || n %% 3, now() - (7 - n) * interval '5 hours',
  case when n %% 3 > 0 then now() - (6.2 - n) * interval '5 hours' end,
  case when n %% 3 = 1 and n > 1 then 'worker-' || (n - 1) %% 3 end
from generate_series(1, 6) n
"""
_KEY = "insert into whatsapp_keys (company_id, key_type, key_id, value) values (%s, %s, %s, %s)"


def fill(stack: Stack) -> None:
    """Put the companies in, and count them."""
    device = sample("v7-337")
    with psycopg.connect(stack.db_url) as db:
        db.execute(_FILL.format(secret=SECRET, companies=COMPANIES))  # type: ignore[arg-type]
        db.execute(
            "insert into whatsapp_auth (company_id, creds) values (%s, %s)",
            [DEVICE, json.dumps(creds_of(device))],
        )
        db.cursor().executemany(
            _KEY,
            [[DEVICE, *ref, json.dumps(value)] for ref, value in documents(device).items()],
        )
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute(_DAYS)
        db.execute(_RUNS)
        db.execute(_LEASES, {"company": DEVICE})
        for number in range(1, 21):
            db.execute(
                "select acquire_whatsapp_lease(%s, %s, 3600)",
                [f"company-{number:04}", f"worker-{number % 3}"],
            )
        recount(db)


def recount(db: psycopg.Connection[Any]) -> None:
    """Count every company, as the clean-up does."""
    after: str | None = ""
    while after is not None:
        (found,) = db.execute("select recount_whatsapp_statistics(%s, 500)", [after]).fetchone()  # type: ignore[misc]
        after = found["after"]
    db.execute("select refresh_whatsapp_statistics(500, 0)")


@contextmanager
def serving(
    stack: Stack, workdir: Path, *arguments: str, token: str | None = None
) -> Iterator[str]:
    """Run ``supabase-auth-state dashboard`` and give its address."""
    environment = {
        **os.environ,
        "SUPABASE_URL": stack.url,
        "SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key,
        **({} if token is None else {TOKEN_VARIABLE: token}),
    }
    command = [sys.executable, "-m", "supabase_auth_state", "dashboard", "--port", "0", *arguments]
    with subprocess.Popen(
        command, env=environment, cwd=workdir, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            found = re.search(r"http://\S+", line)
            assert found is not None, line
            yield found[0].rstrip("/")
        finally:
            process.terminate()
            process.communicate(timeout=20)
