"""The owner's end of the pipe to its nanny."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from devstack.binaries import HERE, DevstackError


class Processes:
    """The server processes of one cluster; they end when this process ends, see `devstack.nanny`.

    Raises:
        DevstackError: From every method, when the nanny cannot do it or is gone.
    """

    def __init__(self, run_dir: Path) -> None:
        # -I and -S: it needs the standard library alone, and starts in half the time.
        nanny = [sys.executable, "-I", "-S", str(HERE / "nanny.py")]
        with (run_dir / "nanny.log").open("wb") as log:
            self._nanny = subprocess.Popen(
                [*nanny, str(run_dir), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        self._requests = _not_none(self._nanny.stdin)
        self._answers = _not_none(self._nanny.stdout)
        self._turn = threading.Lock()
        self._read()

    @property
    def nanny_pid(self) -> int:
        """The process that keeps the servers."""
        return self._nanny.pid

    def reserve_port(self) -> int:
        """Give a loopback port that stays this cluster's."""
        return int(self._ask(op="port")["port"])

    def start(
        self,
        name: str,
        argv: list[str],
        *,
        env: dict[str, str],
        log: Path,
        kill: str,
        user: tuple[int, int] | None,
    ) -> int:
        """Start a server as `user` (uid, gid) and give its process id.

        Args:
            name: What the other methods call it by.
            argv: The program and its arguments.
            env: Its whole environment.
            log: File to which its output is appended.
            kill: Name of the signal that it gets when the cluster ends.
            user: Whom to run it as, None for this process's own account.
        """
        options = {"argv": argv, "env": env, "log": str(log), "kill": kill, "user": user}
        return int(self._ask(op="start", name=name, **options)["pid"])

    def stop(self, name: str, signal: str) -> None:
        """Send `signal` and wait until the server has ended."""
        self._ask(op="stop", name=name, signal=signal)

    def signal(self, name: str, signal: str) -> None:
        """Send `signal` and do not wait."""
        self._ask(op="signal", name=name, signal=signal)

    def exit_code(self, name: str) -> int | None:
        """Give the server's exit code, None while it runs."""
        code: int | None = self._ask(op="poll", name=name)["exit"]
        return code

    def close(self) -> None:
        """End all servers and remove the run directory; return when both is done."""
        with self._turn:
            self._requests.close()
            self._nanny.wait()
            self._answers.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        with self._turn:
            if self._requests.closed:
                raise DevstackError("this stack has been stopped")
            try:
                self._requests.write(json.dumps(request).encode() + b"\n")
                self._requests.flush()
            except BrokenPipeError:
                raise DevstackError("the process that keeps this stack has died") from None
            return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise DevstackError("the process that keeps this stack has died")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DevstackError(f"cannot {answer['error']}")
        return answer


def _not_none(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TypeError("Popen was not asked for a pipe")
    return pipe
