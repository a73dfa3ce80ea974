"""Keep the servers of one cluster, and end them when their owner ends, however it ends.

Runs as a process of its own, on the standard library alone. Its owner writes one JSON object a
line to its standard input and reads one answer a line from its standard output:

    {"op": "port"}                                                     -> {"port": 12345}
    {"op": "start", "name": "postgres", "argv": [...], "env": {...}, "log": "path",
     "kill": "SIGQUIT", "user": [uid, gid] | null}                     -> {"pid": 123}
    {"op": "signal", "name": "postgres", "signal": "SIGSTOP"}          -> {"exit": null | code}
    {"op": "stop", "name": "postgres", "signal": "SIGINT"}             -> {"exit": code}
    {"op": "poll", "name": "postgres"}                                 -> {"exit": null | code}

Three things end the servers: the end of standard input; the end of the owner's process, since a
child that the owner forked may hold the pipe open; and, when the nanny itself is killed, the
parent-death signal that the kernel sends to each server. Their data are worth nothing then, so each
gets its `kill` signal.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
"""The only address that the servers listen on."""

LOCK_NAME = "lock"
"""File in the run directory that is locked for as long as its nanny lives."""

_GRACE = 10.0
"""Seconds that a server has to obey a signal before it is killed."""

_PR_SET_PDEATHSIG = 1


class Nanny:
    """The servers and ports of one cluster."""

    def __init__(self) -> None:
        self._ports: list[socket.socket] = []
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._kill_signals: dict[str, signal.Signals] = {}

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what the owner asks for and give the answer."""
        if request["op"] == "port":
            return {"port": self._reserve_port()}
        name = request["name"]
        if request["op"] == "start":
            return {"pid": self._start(name, request)}
        if request["op"] == "stop":
            return {"exit": self._stop(name, signal.Signals[request["signal"]])}
        if request["op"] == "signal":
            self._servers[name].send_signal(signal.Signals[request["signal"]])
        return {"exit": self._servers[name].poll()}

    def stop_all(self) -> None:
        """End every server, the last one started first."""
        for name in reversed(self._servers):
            self._stop(name, self._kill_signals[name])

    def _reserve_port(self) -> int:
        """Find a free port and keep it ours, before and while a server listens on it.

        The socket is bound and never listens. A server that sets SO_REUSEADDR (PostgreSQL) or
        SO_REUSEPORT (Caddy) can bind beside it, the kernel gives the port to nobody who asks for
        just any, and while that server is down connections to it are refused.
        """
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((HOST, 0))
        self._ports.append(holder)
        return int(holder.getsockname()[1])

    def _start(self, name: str, request: dict[str, Any]) -> int:
        user, group = request["user"] or (None, None)
        kill = signal.Signals[request["kill"]]
        with Path(request["log"]).open("ab") as log:
            server = subprocess.Popen(
                request["argv"],
                env=request["env"],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                preexec_fn=_die_with_parent(kill),  # noqa: PLW1509 (this process has one thread)
            )
        self._servers[name] = server
        self._kill_signals[name] = kill
        return server.pid

    def _stop(self, name: str, sig: signal.Signals) -> int:
        server = self._servers[name]
        server.send_signal(sig)
        server.send_signal(signal.SIGCONT)
        try:
            return server.wait(_GRACE)
        except subprocess.TimeoutExpired:
            server.kill()
            return server.wait()


def _die_with_parent(sig: signal.Signals) -> Callable[[], None]:
    """Make the function that a child runs between dropping its privileges and `exec`."""
    prctl = ctypes.CDLL(None).prctl
    nanny = os.getpid()

    def ask_for_signal() -> None:
        # Changing the user clears the request, so it comes after that. The nanny may be dead now.
        if prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0) != 0 or os.getppid() != nanny:
            os._exit(127)

    return ask_for_signal


def _requests(owner: int) -> Iterator[dict[str, Any]]:
    """Yield the owner's requests until it closes the pipe or ends."""
    commands = sys.stdin.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(commands, selectors.EVENT_READ)
        selector.register(os.pidfd_open(owner), selectors.EVENT_READ)
        unread = b""
        while all(key.fd == commands for key, _ in selector.select()):
            chunk = os.read(commands, 65536)
            if not chunk:
                return
            *lines, unread = (unread + chunk).split(b"\n")
            yield from (json.loads(line) for line in lines)


def _answer(nanny: Nanny, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return nanny.handle(request)
    except (KeyError, OSError, subprocess.SubprocessError) as error:
        return {"error": f"{request['op']} {request.get('name', '')}: {error!r}"}


def _leave(_signal: int, _frame: object) -> None:
    raise SystemExit(0)


def main(run_dir: str, owner: int) -> None:
    """Serve the owner until it ends, then end the servers and remove the run directory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    lock = os.open(Path(run_dir) / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    nanny = Nanny()
    try:
        print("{}", flush=True)
        with suppress(ProcessLookupError, BrokenPipeError):
            for request in _requests(owner):
                print(json.dumps(_answer(nanny, request)), flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        nanny.stop_all()
        shutil.rmtree(run_dir, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
