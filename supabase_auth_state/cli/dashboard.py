"""``dashboard``: serve web pages about the database."""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import replace
from pathlib import Path

from supabase_auth_state.errors import ConfigurationError

from .console import Console
from .exits import DONE
from .parsing import Commands, add_command, add_company_backup_dir, port

_PATIENCE = 4.0
"""Seconds after which a page says that the database does not answer."""
_NEEDED = ("starlette", "uvicorn", "jinja2")


def add_parsers(commands: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        commands,
        "dashboard",
        run_dashboard,
        summary="web pages: companies, leases, alerts, capacity",
        description="""\
Serve web pages until SIGTERM: the whole at a glance, companies, leases and workers, alerts,
capacity. They show nothing secret. Only this machine can connect, unless --host says otherwise;
then a token is needed, from SUPABASE_AUTH_STATE_DASHBOARD_TOKEN.
Needs the extra: pip install 'supabase-auth-state[dashboard]'. `top` is the same at a terminal.""",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8464, help="port (default: 8464)")
    parser.add_argument(
        "--allowed-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a name under which browsers may reach it, e.g. that of a proxy",
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="alert rules and plan, as of `alerts`"
    )
    add_company_backup_dir(parser)


async def run_dashboard(args: argparse.Namespace, console: Console) -> int:
    """Serve the pages."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{missing[0]} is not installed: pip install 'supabase-auth-state[dashboard]'"
        )
    from supabase_auth_state.config import Settings, environment
    from supabase_auth_state.operations.alert_config import load_alert_config
    from supabase_auth_state.operations.alerting import project_name
    from supabase_auth_state.rest.client import using_rest

    from .signals import stop_request
    from .web.access import access_for
    from .web.app import Dashboard
    from .web.serve import serve_dashboard

    access = access_for(args.host, environment(), tuple(args.allowed_host))
    settings = Settings.from_env()
    impatient = replace(settings, give_up_after=_PATIENCE)
    async with using_rest(settings) as rest, using_rest(impatient) as looking:
        dashboard = Dashboard(
            rest=rest,
            looking=looking,
            access=access,
            alerts=load_alert_config(args.config),
            backup_dir=args.backup_dir,
            project=project_name(settings.url),
        )
        with stop_request() as asked:
            await serve_dashboard(
                dashboard,
                asked,
                host=args.host,
                port=args.port,
                on_port=lambda number: console.say(f"serving http://{args.host}:{number}/"),
            )
    return DONE
