"""The local stack itself: what it promises to those who test, show and measure on it."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from devstack import DefaultPrivileges, DevstackError, LocalStack, Stack, open_stack
from devstack.binaries import PROJECT
from devstack.keys import sign_jwt
from devstack.local import STARTING, take_run_dir
from devstack.nanny import LOCK_NAME
from devstack.rundir import Account, locked, new_run_dir, postgres_account, within_reach

PATIENCE = 60.0
"""Seconds after which a test gives up waiting for something that happens at once."""

NO_KEY = {
    "message": "No API key found in request",
    "hint": "No `apikey` request header or url param was found.",
}
BAD_KEY = {
    "message": "Invalid API key",
    "hint": "Double check your Supabase `anon` or `service_role` API key.",
}

OWNER = """
import json, os, sys
from devstack import LocalStack

stack = LocalStack.start(migrate=False)
servers = [stack.postgres.pid, stack.postgrest.pid, stack.gateway.pid]
nanny = stack.cluster.processes.nanny_pid
if "fork" in sys.argv and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
run_dir = str(stack.cluster.run_dir)
print(json.dumps({"servers": servers, "nanny": nanny, "run_dir": run_dir}), flush=True)
sys.stdin.read()
"""
"""A program that owns a stack until its standard input ends; told to fork, it has a child too."""


@pytest.fixture(scope="module")
def project(local_stack: LocalStack) -> Iterator[LocalStack]:
    """A project whose functions `whoami` and `patience` everybody may call."""
    with local_stack.fresh() as fresh:
        run_sql(
            fresh,
            """
            create function whoami() returns text language sql as 'select current_user::text';
            create function patience() returns text language sql
                as $$ select current_setting('statement_timeout') $$;
            grant execute on all functions in schema public to anon, authenticated, service_role;
            """,
        )
        fresh.reload_schema()
        yield fresh


def run_sql(stack: Stack, statements: str) -> None:
    """Run statements as the role `postgres`."""
    with psycopg.connect(stack.db_url) as connection:
        connection.execute(statements)


def headers(apikey: str, authorization: str | None = None) -> dict[str, str]:
    return {"apikey": apikey} | ({"Authorization": authorization} if authorization else {})


def call(stack: Stack, function: str, **kwargs: Any) -> httpx.Response:
    return httpx.post(f"{stack.url}/rest/v1/rpc/{function}", **kwargs)


def wait_for_end(pids: Iterable[int]) -> None:
    """Return when none of these processes lives."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([descriptor], [], [], PATIENCE)
        os.close(descriptor)
        assert ended, f"process {pid} still runs"


def start_owner(*options: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start OWNER and give what it says about its stack once that is up."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, *options],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    return owner, json.loads(owner.stdout.readline())


def close(owner: subprocess.Popen[str]) -> None:
    owner.communicate()


# Who is let in, and as whom


def test_request_without_a_key_is_refused(project: LocalStack) -> None:
    answer = call(project, "whoami")

    assert (answer.status_code, answer.json()) == (401, NO_KEY)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("key", ["", "sb_secret_unknown", "sb_publishable_unknown"])
def test_unknown_key_is_refused(project: LocalStack, key: str) -> None:
    answer = call(project, "whoami", headers=headers(key))

    assert (answer.status_code, answer.json()) == (401, BAD_KEY)


def test_token_signed_with_the_right_secret_is_no_api_key(project: LocalStack) -> None:
    token = sign_jwt({"role": "service_role", "exp": 4102444800})

    assert call(project, "whoami", headers=headers(token)).status_code == 401


@pytest.mark.parametrize(
    ("key", "role"),
    [
        ("anon_key", "anon"),
        ("publishable_key", "anon"),
        ("service_role_key", "service_role"),
        ("secret_key", "service_role"),
    ],
)
def test_key_makes_the_role(project: LocalStack, key: str, role: str) -> None:
    value = getattr(project, key)

    assert call(project, "whoami", headers=headers(value)).json() == role
    # As supabase-py sends it.
    assert call(project, "whoami", headers=headers(value, f"Bearer {value}")).json() == role


@pytest.mark.parametrize("key", ["anon_key", "publishable_key", "secret_key"])
def test_token_of_a_user_goes_before_the_key(project: LocalStack, key: str) -> None:
    token = sign_jwt({"role": "authenticated", "sub": "1", "exp": 4102444800})
    answer = call(project, "whoami", headers=headers(getattr(project, key), f"Bearer {token}"))

    assert answer.json() == "authenticated"


def test_forged_token_is_refused(project: LocalStack) -> None:
    token = sign_jwt({"role": "service_role", "exp": 4102444800}, secret="another secret")
    answer = call(project, "whoami", headers=headers(project.anon_key, f"Bearer {token}"))

    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/", "/auth/v1/settings", "/rest/v2/x", "/rpc/whoami"])
def test_nothing_but_the_rest_api_is_served(project: LocalStack, path: str) -> None:
    answer = httpx.get(project.url + path, headers=headers(project.secret_key))

    assert answer.status_code == 404


# What a Supabase project is like


def test_owner_of_the_project_is_no_superuser(project: LocalStack) -> None:
    with psycopg.connect(project.db_url) as connection:
        roles = connection.execute(
            "select rolname, rolsuper, rolbypassrls, rolcanlogin from pg_roles"
            " where rolname in ('postgres', 'service_role', 'anon') order by 1"
        ).fetchall()

    assert roles == [
        ("anon", False, False, False),
        ("postgres", False, True, True),
        ("service_role", False, True, False),
    ]


@pytest.mark.parametrize(("key", "timeout"), [("anon_key", "3s"), ("secret_key", "8s")])
def test_statements_by_the_api_are_limited(project: LocalStack, key: str, timeout: str) -> None:
    answer = call(project, "patience", headers=headers(getattr(project, key)))

    assert answer.json() == timeout


def test_rows_are_cut_at_a_thousand_without_an_error(project: LocalStack) -> None:
    run_sql(
        project,
        """
        create table many as select n from generate_series(1, 1001) as n;
        grant select on many to service_role;
        """,
    )
    project.reload_schema()
    answer = httpx.get(f"{project.url}/rest/v1/many", headers=headers(project.secret_key))

    assert (answer.status_code, len(answer.json())) == (200, 1000)


@pytest.mark.parametrize(
    ("default_privileges", "statuses"),
    [("new", {"anon_key": 401, "secret_key": 403}), ("old", {"anon_key": 200, "secret_key": 200})],
)
def test_new_table_and_function_are_exposed_by_the_old_default_alone(
    local_stack: LocalStack, default_privileges: DefaultPrivileges, statuses: dict[str, int]
) -> None:
    with local_stack.fresh(default_privileges=default_privileges) as fresh:
        run_sql(fresh, "create table t (id int); create function f() returns int return 1;")
        fresh.reload_schema()
        for key, status in statuses.items():
            as_role = headers(getattr(fresh, key))
            assert httpx.get(f"{fresh.url}/rest/v1/t", headers=as_role).status_code == status
            assert call(fresh, "f", headers=as_role).status_code == status


def test_schema_is_read_again_when_postgrest_is_notified(project: LocalStack) -> None:
    run_sql(
        project,
        """
        create function late() returns int return 7;
        grant execute on function late() to service_role;
        notify pgrst, 'reload schema';
        """,
    )
    deadline = time.monotonic() + PATIENCE
    while (answer := call(project, "late", headers=headers(project.secret_key))).is_error:
        assert time.monotonic() < deadline, answer.text

    assert answer.json() == 7


# Servers that fail


def test_stopped_postgrest_is_a_bad_gateway(project: LocalStack) -> None:
    project.postgrest.stop()
    answer = call(project, "whoami", headers=headers(project.secret_key))
    project.postgrest.start()

    assert answer.status_code == 502
    assert call(project, "whoami", headers=headers(project.secret_key)).is_success


def test_paused_postgrest_answers_when_it_is_resumed(project: LocalStack) -> None:
    project.postgrest.pause()
    with pytest.raises(httpx.ReadTimeout):
        call(project, "whoami", headers=headers(project.secret_key), timeout=0.2)
    project.postgrest.resume()

    assert call(project, "whoami", headers=headers(project.secret_key)).is_success


def test_stopped_gateway_refuses_and_comes_back_at_its_address(project: LocalStack) -> None:
    project.gateway.stop()
    with pytest.raises(httpx.ConnectError):
        call(project, "whoami", headers=headers(project.secret_key))
    project.gateway.start()

    assert call(project, "whoami", headers=headers(project.secret_key)).is_success


@pytest.mark.parametrize(("durable", "fsync"), [(False, "off"), (True, "on")])
def test_crash_of_postgres_loses_no_committed_row(durable: bool, fsync: str) -> None:
    with LocalStack.start(migrate=False, durable=durable) as stack:
        run_sql(stack, "create table t (id int); insert into t values (1);")
        stack.postgres.kill()
        stack.postgres.start()
        with psycopg.connect(stack.db_url) as connection:
            assert connection.execute("select id from t").fetchall() == [(1,)]
            assert connection.execute("show fsync").fetchone() == (fsync,)
        stack.postgrest.wait_until_ready()


def test_server_that_does_not_start_says_why(local_stack: LocalStack) -> None:
    with local_stack.fresh() as fresh:
        fresh.gateway.stop()
        fresh.gateway.config.write_text("nonsense {")
        with pytest.raises(DevstackError, match=r"gateway-fresh_.* ended with code 1"):
            fresh.gateway.start()


# Beginnings and ends


def test_two_stacks_run_side_by_side(local_stack: LocalStack) -> None:
    with LocalStack.start(migrate=False) as other:
        run_sql(other, "create table only_here (id int)")

        assert other.url != local_stack.url
        with psycopg.connect(local_stack.db_url) as connection:
            assert connection.execute("select to_regclass('only_here')").fetchone() == (None,)


def test_stopped_stack_leaves_nothing() -> None:
    with LocalStack.start(migrate=False) as stack:
        pids = [stack.postgres.pid, stack.postgrest.pid, stack.gateway.pid]
        run_dir = stack.cluster.run_dir

    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not run_dir.exists()
    with pytest.raises(DevstackError, match="stopped"):
        stack.postgrest.start()


@pytest.mark.parametrize("options", [(), ("fork",)], ids=["alone", "with a child that lives on"])
def test_killed_owner_leaves_nothing(options: tuple[str, ...]) -> None:
    owner, stack = start_owner(*options)
    owner.kill()
    wait_for_end([*stack["servers"], stack["nanny"]])
    close(owner)

    assert not Path(stack["run_dir"]).exists()


def test_killed_nanny_leaves_files_at_most_and_the_next_start_removes_them() -> None:
    owner, stack = start_owner()
    os.kill(stack["nanny"], signal.SIGKILL)
    wait_for_end(stack["servers"])
    close(owner)
    with LocalStack.start(migrate=False):
        pass

    assert not Path(stack["run_dir"]).exists()


def test_fresh_project_is_gone_when_it_is_stopped(local_stack: LocalStack) -> None:
    with local_stack.fresh() as fresh:
        pass

    with pytest.raises(httpx.ConnectError):
        call(fresh, "whoami")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(fresh.db_url)


def as_ordinary_user(command: list[str]) -> list[str]:
    """Give the command that runs `command` without root's rights."""
    if os.geteuid() != 0:
        return command
    if all(map(postgres_account().can_enter, (PROJECT, Path(sys.executable).resolve().parent))):
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", *command]
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", *command]


def test_stack_needs_no_root() -> None:
    program = "import os; print(os.geteuid() != 0, 'SUPABASE_URL' in os.environ)"
    run = [sys.executable, "-m", "devstack", "run", "--", sys.executable, "-c", program]
    with tempfile.TemporaryDirectory(prefix="user-") as temporary:
        Path(temporary).chmod(0o777)
        done = subprocess.run(
            as_ordinary_user(run),
            cwd=PROJECT,
            env=os.environ | {"TMPDIR": temporary},
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.stdout == "True True\n", done.stderr


def test_programs_out_of_reach_are_copied_once(tmp_path: Path) -> None:
    somebody = Account(65534, 65534, is_ours=False)
    package = tmp_path / "private" / "package"
    (package / "native").mkdir(parents=True)
    package.parent.chmod(0o700)
    copy = within_reach(package, tmp_path, somebody)

    assert copy.parent == tmp_path
    assert (copy / "native").is_dir()
    assert within_reach(package, tmp_path, somebody) == copy


def test_programs_out_of_reach_are_copied_once_by_stacks_that_start_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = Account(65534, 65534, is_ours=False)
    package = tmp_path / "private" / "package"
    package.mkdir(parents=True)
    package.parent.chmod(0o700)
    at_once = threading.Barrier(2)
    copytree = shutil.copytree

    def copy_with_the_other(*args: Any, **kwargs: Any) -> Any:
        with suppress(threading.BrokenBarrierError):
            at_once.wait(0.5)
        return copytree(*args, **kwargs)

    monkeypatch.setattr(shutil, "copytree", copy_with_the_other)
    with ThreadPoolExecutor(2) as threads:
        copies = list(threads.map(lambda _: within_reach(package, tmp_path, somebody), range(2)))

    assert copies[0] == copies[1]
    assert copies[0].is_dir()


def test_a_start_does_not_sweep_away_the_folder_of_another_that_is_starting(
    tmp_path: Path,
) -> None:
    starting = tmp_path / STARTING
    with ThreadPoolExecutor(1) as threads:
        with locked(starting):
            run_dir = new_run_dir(tmp_path)
            # Its nanny has made this, and is about to lock it.
            (run_dir / LOCK_NAME).touch()
            other = threads.submit(take_run_dir, tmp_path)
            while not (other.done() or is_waited_for(starting)):
                time.sleep(0.01)
            assert run_dir.exists()
        _, processes = other.result()
        processes.close()


def is_waited_for(lock: Path) -> bool:
    """Whether a process or thread waits for a lock that another one has."""
    waiting = re.compile(rf"-> FLOCK .*:{lock.stat().st_ino} ")
    return waiting.search(Path("/proc/locks").read_text()) is not None


# A project that is somebody else's


def test_environment_names_a_project_and_nothing_is_started(
    local_stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: Any, **__: Any) -> LocalStack:
        raise AssertionError("a stack was started")

    monkeypatch.setattr(LocalStack, "start", start)
    with open_stack(local_stack.env()) as named:
        assert named.env() == local_stack.env()

    psycopg.connect(local_stack.db_url).close()


def test_half_an_environment_is_refused(local_stack: LocalStack) -> None:
    environment = local_stack.env()
    del environment["SUPABASE_DB_URL"]

    with pytest.raises(DevstackError, match="set SUPABASE_DB_URL too"):
        Stack.from_env(environment)


def test_command_runs_with_the_stack_in_its_environment(local_stack: LocalStack) -> None:
    program = "import os, sys; sys.exit(7 if os.environ['SUPABASE_URL'] == sys.argv[1] else 1)"
    command = [sys.executable, "-c", program, local_stack.url]
    done = subprocess.run(
        [sys.executable, "-m", "devstack", "run", "--", *command],
        cwd=PROJECT,
        env=os.environ | local_stack.env(),
        check=False,
    )

    assert done.returncode == 7
