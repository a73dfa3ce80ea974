"""Serve the dashboard until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn

from supabase_auth_state.errors import ConfigurationError

from .app import Dashboard, dashboard_app

_CLOSE_WITHIN = 3


class _Server(uvicorn.Server):
    """A server that leaves signals to the command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve_dashboard(
    dashboard: Dashboard,
    stopping: asyncio.Event,
    *,
    host: str,
    port: int,
    on_port: Callable[[int], None] | None = None,
) -> None:
    """Serve until an event is set.

    Args:
        dashboard: what to serve.
        stopping: ends it.
        host: the address to listen on.
        port: the port, 0 for a free one.
        on_port: told the port once it listens.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    listening = listening_socket(host, port)
    config = uvicorn.Config(
        dashboard_app(dashboard),
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_CLOSE_WITHIN,
        # What a proxy in front says about hosts is not believed.
        proxy_headers=False,
    )
    server = _Server(config)
    if on_port is not None:
        on_port(listening.getsockname()[1])
    serving = asyncio.ensure_future(server.serve([listening]))
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        server.should_exit = True
        await serving
        listening.close()


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY: without, an answer waits 40 ms for an ACK.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(128)
    except OSError as error:
        made.close()
        problem = error.strerror or "unknown"
    else:
        return made
    raise ConfigurationError(f"{host}:{port} cannot be listened on: {problem}")
