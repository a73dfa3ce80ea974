"""``metrics``: serve what the database holds to Prometheus."""

from __future__ import annotations

import argparse

from .console import Console
from .exits import DONE
from .parsing import Commands, add_command, port


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "metrics",
        run_metrics,
        summary="serve metrics to Prometheus, with /healthz and /readyz",
        description="""\
Serve /metrics, /healthz and /readyz until SIGTERM: what the database holds, and this process's own
requests. A process of yours serves its cache, commits and pool itself: see docs/operations.md.
Needs the extra: pip install 'supabase-auth-state[metrics]'.""",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=9464, help="port (default: 9464)")
    parser.add_argument(
        "--company-ids", action="store_true", help="name the largest companies in the metrics"
    )


async def run_metrics(args: argparse.Namespace, console: Console) -> int:
    """Serve metrics."""
    from supabase_auth_state.operations.metrics import serve_metrics
    from supabase_auth_state.rest.client import using_rest

    from .signals import stop_request

    async with using_rest() as rest:
        with stop_request() as asked:
            await serve_metrics(
                rest,
                asked,
                host=args.host,
                port=args.port,
                companies=args.company_ids,
                on_port=lambda number: console.say(f"serving http://{args.host}:{number}/metrics"),
            )
    return DONE
