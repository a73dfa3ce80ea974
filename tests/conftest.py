"""What every kind of test may use: a migrated stack, a connection to its database, fresh names."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from inspect import iscoroutinefunction
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from devstack import DefaultPrivileges, LocalStack, Stack, open_stack

# How long hypothesis takes for an input depends on the machine and on what else runs there.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")

_ENVIRONMENT = pytest.StashKey[dict[str, str]]()

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def eager_loop() -> asyncio.AbstractEventLoop:
    """Make a loop whose tasks begin within `create_task`, as hosts may choose to have it."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def uvloop_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of uvloop."""
    import uvloop

    return uvloop.new_event_loop()


LOOPS: Mapping[str, NewLoop] = {
    "asyncio": asyncio.new_event_loop,
    "eager": eager_loop,  # needs Python 3.12
    "uvloop": uvloop_loop,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that chooses event loops."""
    parser.addoption(
        "--loops",
        default="asyncio",
        metavar="NAMES",
        help=f"run each asynchronous test on these event loops, of {', '.join(LOOPS)}",
    )
    parser.addoption("--only-async", action="store_true", help="leave out what needs no event loop")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Obey `--only-async`, and let one worker run all tests of a module that share something.

    With `--dist loadgroup` what they share is then made once. The largest groups come first, so no
    worker is left with a long one at the end.
    """
    if config.getoption("--only-async"):
        items[:] = [item for item in items if iscoroutinefunction(getattr(item, "obj", None))]
    for item in items:
        if _shares_with_its_module(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _shares_with_its_module(item: pytest.Item) -> bool:
    info = getattr(item, "_fixtureinfo", None)
    definitions = () if info is None else info.name2fixturedefs.values()
    # The last one stands in place of those before it.
    return any(found[-1].scope == "module" for found in definitions)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, NewLoop]:
    """Give the event loops that asynchronous tests run on."""
    return {name: LOOPS[name] for name in config.getoption("--loops").split(",")}


def pytest_configure(config: pytest.Config) -> None:
    """Take our variables out of the environment: a test sees only those it sets itself."""
    ours = [name for name in os.environ if name.startswith("SUPABASE_")]
    taken = {name: os.environ.pop(name) for name in ours}
    config.stash[_ENVIRONMENT] = getattr(config, "workerinput", {}).get("environment", taken)
    os.environ.pop("USE_DATABASE_AUTH_STATE", None)
    for size in ("COLUMNS", "LINES"):
        # That of the terminal of the process that has started the workers: readline sets them.
        os.environ.pop(size, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So it is in the background of a shell, and programs started by tests would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the variables on to a worker of pytest-xdist.

    Raises:
        UsageError: they name a project, and several workers would disturb each other there.
    """
    environment = node.config.stash[_ENVIRONMENT]
    if Stack.from_env(environment) is not None and len(node.config.option.tx) > 1:
        raise pytest.UsageError("the environment names a project for all workers: use -n 0")
    node.workerinput["environment"] = environment


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Use all cores, unless the environment names a project; each worker has a stack of its own.

    Two workers a core: a test waits for servers a third of its time.
    """
    return 2 * (os.cpu_count() or 1) if Stack.from_env() is None else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skipped test as failed: whatever a test needs, `make setup` installs."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """A migrated project: the one that the environment of the run names, or else a local stack.

    All tests share it, so a test keeps to a `company_id` of its own and stops no server: for that
    there is `fresh_stack`, or `LocalStack.start()` where PostgreSQL itself is to be disturbed.
    """
    with open_stack(pytestconfig.stash[_ENVIRONMENT]) as opened:
        yield opened


@pytest.fixture(scope="session")
def local_stack(
    pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> Iterator[LocalStack]:
    """A running local stack, whatever the environment names; `stack` itself when that is one."""
    if Stack.from_env(pytestconfig.stash[_ENVIRONMENT]) is None:
        yield request.getfixturevalue("stack")
        return
    with LocalStack.start(migrate=False) as started:
        yield started


@pytest.fixture(scope="module")
def project(local_stack: LocalStack) -> Iterator[LocalStack]:
    """A migrated project for the tests of one module alone."""
    with local_stack.fresh(migrate=True) as fresh:
        yield fresh


@pytest.fixture
def fresh_stack(local_stack: LocalStack) -> Iterator[Callable[..., LocalStack]]:
    """Make new projects with APIs of their own: `fresh_stack(default_privileges="old")`.

    Empty unless `migrate` is true. Their PostgREST and gateway may be stopped and paused at will.
    """
    with ExitStack() as opened:

        def make(
            *,
            default_privileges: DefaultPrivileges = "new",
            migrate: bool = False,
            https: bool = False,
        ) -> LocalStack:
            fresh = local_stack.fresh(
                default_privileges=default_privileges, migrate=migrate, https=https
            )
            return opened.enter_context(fresh)

        yield make


@pytest.fixture
def db(stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the stack's database as the role `postgres`, in autocommit."""
    with psycopg.connect(stack.db_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def company_id(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a company that no other test has.

    Companies with this in their name are removed after the test: the samples are few linked
    devices, and two companies of one device are refused.
    """
    name = f"test-{uuid.uuid4().hex}"
    yield name
    if "stack" in request.fixturenames:
        remove_companies(request.getfixturevalue("stack"), name)


def remove_companies(stack: Stack, name: str) -> None:
    """Remove the companies that have this in their name."""
    with psycopg.connect(stack.db_url) as connection:
        # As a clean-up may, whoever owns them.
        connection.execute("set local whatsapp_auth.maintenance = 'on'")
        for table in ("whatsapp_auth", "whatsapp_keys"):
            connection.execute(
                f"delete from {table} where strpos(company_id, %s) > 0",  # noqa: S608
                [name],
            )
