"""The three servers of a stack: how each is started, and how it shows that it is ready."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from pathlib import Path

from devstack import binaries, caddyfile, keys
from devstack.binaries import DevstackError
from devstack.nanny import HOST
from devstack.processes import Processes
from devstack.rundir import Account

READY_TIMEOUT = 60.0
"""Seconds a server may take until it is ready; far more than it needs."""

_POLL = 0.01


class Server:
    """One server process. `name` is unique in its cluster."""

    stop_signal = "SIGTERM"
    kill_signal = "SIGKILL"

    def __init__(self, processes: Processes, run_dir: Path, name: str) -> None:
        self._processes = processes
        self._user: tuple[int, int] | None = None
        self.name = name
        self.log = run_dir / f"{name}.log"
        self.pid: int | None = None

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start the server and do not wait."""
        self.pid = self._processes.start(
            self.name,
            self._argv(),
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"} | self._env(),
            log=self.log,
            kill=self.kill_signal,
            user=self._user,
        )

    def wait_until_ready(self) -> None:
        """Return when the server serves.

        Raises:
            DevstackError: It ended, or is not ready after READY_TIMEOUT; with the end of its log.
        """
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._is_ready():
            code = self._processes.exit_code(self.name)
            if code is not None or time.monotonic() > deadline:
                state = "is not ready" if code is None else f"ended with code {code}"
                log = self.log.read_text(errors="replace")[-2000:]
                raise DevstackError(f"{self.name} {state}; the end of its log:\n{log}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """Stop the server in good order: from now on connections to it are refused."""
        self._processes.stop(self.name, self.stop_signal)

    def kill(self) -> None:
        """End the server as a crash would."""
        self._processes.stop(self.name, self.kill_signal)

    def _argv(self) -> list[str]:
        raise NotImplementedError

    def _env(self) -> dict[str, str]:
        return {}

    def _is_ready(self) -> bool:
        raise NotImplementedError


class HttpServer(Server):
    """A server of one process, which can be frozen."""

    def pause(self) -> None:
        """Freeze the server: connections to it are accepted, and nothing is answered."""
        self._processes.signal(self.name, "SIGSTOP")

    def resume(self) -> None:
        """Let a frozen server go on, with what it has been asked meanwhile."""
        self._processes.signal(self.name, "SIGCONT")


class Postgres(Server):
    """PostgreSQL on a loopback port and on a Unix socket in its data directory."""

    # Fast shutdown, and immediate shutdown: after SIGKILL its children would live on for a while.
    stop_signal = "SIGINT"
    kill_signal = "SIGQUIT"

    def __init__(
        self,
        processes: Processes,
        run_dir: Path,
        *,
        programs: Path,
        data: Path,
        account: Account,
        durable: bool,
    ) -> None:
        super().__init__(processes, run_dir, "postgres")
        self._user = account.popen_user
        self._programs = programs
        self._durable = durable
        self.data = data
        self.port = processes.reserve_port()

    def _argv(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(self.data),
            "max_connections": "200",
            "shared_preload_libraries": "pg_stat_statements",
            "timezone": "UTC",
        }
        if not self._durable:
            # A crash of the server still loses nothing; only a crash of the machine would.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self.data), *options]

    def _is_ready(self) -> bool:
        try:
            status = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(status) > 7 and status[0] == str(self.pid) and status[7].strip() == "ready"


class Postgrest(HttpServer):
    """PostgREST for one database, on a Unix socket."""

    def __init__(
        self, processes: Processes, run_dir: Path, name: str, *, db_uri: str, schemas: str
    ) -> None:
        super().__init__(processes, run_dir, name)
        self._db_uri = db_uri
        self._schemas = schemas
        self.socket = run_dir / f"{name}.sock"

    def _argv(self) -> list[str]:
        return [str(binaries.postgrest())]

    def _env(self) -> dict[str, str]:
        return {
            "PGRST_DB_URI": self._db_uri,
            "PGRST_DB_SCHEMAS": self._schemas,
            "PGRST_DB_EXTRA_SEARCH_PATH": "public,extensions",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_MAX_ROWS": "1000",
            "PGRST_DB_POOL": "20",
            "PGRST_DB_CHANNEL_ENABLED": "true",
            "PGRST_JWT_SECRET": keys.JWT_SECRET,
            "PGRST_SERVER_UNIX_SOCKET": str(self.socket),
        }

    def _is_ready(self) -> bool:
        """Ask for the API description: it is answered once the schema has been read."""
        connection = UnixConnection(self.socket)
        try:
            connection.request("HEAD", "/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Gateway(HttpServer):
    """Caddy in the place of Supabase's API gateway, on a loopback port.

    Attributes:
        authority: The PEM file of the authority that has signed its certificate; with `https` only.
    """

    def __init__(
        self, processes: Processes, run_dir: Path, name: str, *, upstream: Path, https: bool = False
    ) -> None:
        super().__init__(processes, run_dir, name)
        self._home = run_dir
        self._https = https
        self.port = processes.reserve_port()
        self.url = f"{'https' if https else 'http'}://{HOST}:{self.port}"
        self.authority = run_dir / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        self.config = run_dir / f"{name}.Caddyfile"
        self.config.write_text(caddyfile.render(HOST, self.port, upstream, https=https))

    def _argv(self) -> list[str]:
        caddy = str(binaries.caddy())
        return [caddy, "run", "--adapter", "caddyfile", "--config", str(self.config)]

    def _env(self) -> dict[str, str]:
        return {"HOME": str(self._home), "XDG_DATA_HOME": str(self._home)}

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                if self._https:
                    context = ssl.create_default_context(cafile=self.authority)
                    context.wrap_socket(connection, server_hostname=HOST).close()
        except OSError:
            return False
        return True


class UnixConnection(http.client.HTTPConnection):
    """A connection to an HTTP server on a Unix socket, such as PostgREST's."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = str(path)

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
