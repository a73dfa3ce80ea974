"""Run the local stack from a shell: `python -m devstack --help`."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
from typing import Any

from devstack.binaries import PROJECT, DevstackError
from devstack.local import LocalStack, open_stack

STATE = PROJECT / ".devstack" / "up.json"
"""The process and the environment of the stack that `up` started; locked while that stack runs."""


def up() -> int:
    """Start a stack that stays up, unless one is up."""
    if _state() is None:
        _start_keeper()
    return env()


def keep() -> int:
    """Hold a stack until SIGTERM; what `up` leaves behind. Prints a line once the stack is up."""
    signal.signal(signal.SIGTERM, _leave)
    with STATE.open("a") as state:
        try:
            fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DevstackError("another one is being started") from None
        state.truncate(0)
        with LocalStack.start() as stack:
            json.dump({"pid": os.getpid(), "env": stack.env()}, state)
            state.flush()
            print("up", flush=True)
            while True:
                signal.pause()


def down() -> int:
    """Stop the stack that `up` started, and wait until it is gone."""
    state = _state()
    if state is not None:
        os.kill(state["pid"], signal.SIGTERM)
        with STATE.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    return 0


def env() -> int:
    """Print the addresses and keys of the stack that is up, for `eval` in a shell."""
    state = _state()
    if state is None:
        print("no stack is up: run `python -m devstack up`", file=sys.stderr)
        return 1
    for name, value in state["env"].items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def status() -> int:
    """Say whether a stack is up; exit code 1 when none is."""
    state = _state()
    print("no stack is up" if state is None else f"up at {state['env']['SUPABASE_URL']}")
    return 1 if state is None else 0


def run(command: list[str]) -> int:
    """Run `command` against a stack that is started for it, or the one the environment names."""
    with open_stack() as stack:
        return subprocess.call(command, env=os.environ | stack.env())


def _start_keeper() -> None:
    STATE.parent.mkdir(exist_ok=True)
    log = STATE.with_suffix(".log")
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "devstack", "keep"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    if not (keeper.stdout and keeper.stdout.readline()):
        raise DevstackError(f"the stack did not start:\n{log.read_text()}")


def _state() -> dict[str, Any] | None:
    """Give what the running keeper wrote, None when none runs."""
    if not STATE.exists():
        return None
    with STATE.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _parsed(file.read())
    return None


def _parsed(text: str) -> dict[str, Any]:
    if not text:
        raise DevstackError("a stack is being started or stopped: try again")
    state: dict[str, Any] = json.loads(text)
    return state


def _leave(_signal: int, _frame: object) -> None:
    raise SystemExit(0)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    plain = {"up": up, "down": down, "env": env, "status": status}
    for name, function in plain.items():
        commands.add_parser(name, help=function.__doc__)
    runner = commands.add_parser("run", help=run.__doc__)
    runner.add_argument("argv", nargs="+", metavar="COMMAND", help="put -- before it")
    commands.add_parser("keep")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "run":
            return run(arguments.argv)
        return (plain | {"keep": keep})[arguments.command]()
    except DevstackError as error:
        print(f"devstack: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
