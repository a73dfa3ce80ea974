"""Our own Supabase-like project: PostgreSQL, PostgREST, a gateway, and the migrations applied."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql

from devstack import binaries, rundir
from devstack.binaries import PROJECT
from devstack.migrations import push_migrations
from devstack.nanny import HOST
from devstack.processes import Processes
from devstack.servers import Gateway, Postgres, Postgrest
from devstack.stack import Stack
from devstack.template import NEW_DEFAULT_PRIVILEGES_SQL, copy_migrated, copy_template

if TYPE_CHECKING:
    from typing_extensions import Self

DefaultPrivileges = Literal["new", "old"]
"""What the API's roles get of a new table: nothing (Supabase since 2026-10-30), or everything."""


STARTING = "starting.lock"
"""File beside the run directories that is locked while one of them is made."""


def take_run_dir(base: Path) -> tuple[Path, Processes]:
    """Make a run directory and what keeps it, and remove those that are not kept any more.

    One stack at a time does this: a directory is not kept until its nanny has locked it.
    """
    with rundir.locked(base / STARTING):
        rundir.sweep(base)
        run_dir = rundir.new_run_dir(base)
        return run_dir, Processes(run_dir)


class Cluster:
    """A running PostgreSQL whose databases become stacks; it ends with this process.

    Args:
        durable: let it sync to disk.
        migrated: let its database `postgres` have the new default privileges and the project's
            migrations. Only the first such cluster waits for the Supabase CLI.
    """

    def __init__(self, *, durable: bool = False, migrated: bool = False) -> None:
        account = rundir.postgres_account()
        base = rundir.base_dir(account)
        package = rundir.within_reach(binaries.postgres_package(), base, account)
        self.run_dir, self.processes = take_run_dir(base)
        try:
            self.postgres = Postgres(
                self.processes,
                self.run_dir,
                programs=package / "native" / "bin",
                data=(
                    copy_migrated(package, self.run_dir, account, _migrated)
                    if migrated
                    else copy_template(package, self.run_dir, account)
                ),
                account=account,
                durable=durable,
            )
            self.postgres.start()
        except BaseException:
            self.close()
            raise
        self._numbers = itertools.count(1)
        self._kinds = {_kind("new", migrate=True)} if migrated else set()

    def close(self) -> None:
        """End every server of the cluster and remove its files."""
        self.processes.close()

    def uri(self, user: str, database: str) -> str:
        """Give the address of a database by the Unix socket, which asks for no password."""
        postgres = self.postgres
        return f"postgresql://{user}@/{database}?host={postgres.data}&port={postgres.port}"

    @contextmanager
    def superuser(self, database: str) -> Iterator[psycopg.Connection[Any]]:
        """Connect as `supabase_admin`, for what Supabase does to a project and its owner cannot."""
        uri = self.uri("supabase_admin", database)
        with psycopg.connect(uri, autocommit=True) as connection:
            yield connection

    def db_url(self, database: str) -> str:
        """Give the address of a database as its owner knows it."""
        return f"postgresql://postgres:postgres@{HOST}:{self.postgres.port}/{database}"

    def prepare(
        self, database: str, default_privileges: DefaultPrivileges, *, migrate: bool
    ) -> None:
        """Make an empty database what a project is to be."""
        if default_privileges == "new":
            with self.superuser(database) as admin:
                admin.execute(NEW_DEFAULT_PRIVILEGES_SQL.read_text())
        if migrate:
            push_migrations(self.db_url(database), PROJECT)

    def add_database(self, default_privileges: DefaultPrivileges, *, migrate: bool) -> str:
        """Add a database and give its name. Only the first of its kind takes seconds."""
        self.add_kind(default_privileges, migrate=migrate)
        name = f"fresh_{next(self._numbers)}"
        self._create(name, like=_kind(default_privileges, migrate=migrate))
        return name

    def add_kind(self, default_privileges: DefaultPrivileges, *, migrate: bool) -> None:
        """Make what databases of a kind are copied from, unless it is there."""
        kind = _kind(default_privileges, migrate=migrate)
        if kind not in self._kinds:
            self._create(kind, like="pristine")
            self.prepare(kind, default_privileges, migrate=migrate)
            self._kinds.add(kind)

    def _create(self, database: str, *, like: str) -> None:
        create = sql.SQL("create database {} template {} owner postgres")
        with self.superuser("postgres") as admin:
            admin.execute(create.format(sql.Identifier(database), sql.Identifier(like)))


def _kind(default_privileges: DefaultPrivileges, *, migrate: bool) -> str:
    return f"{default_privileges}_{'migrated' if migrate else 'empty'}"


@contextmanager
def _migrated() -> Iterator[Path]:
    cluster = Cluster()
    try:
        cluster.prepare("postgres", "new", migrate=True)
        cluster.add_kind("new", migrate=True)
        cluster.postgres.stop()
        yield cluster.postgres.data
    finally:
        cluster.close()


@dataclass(frozen=True, repr=False, kw_only=True)
class LocalStack(Stack):
    """A stack of our own, with its servers at hand. Use it in `with`, or call `stop`."""

    cluster: Cluster
    database: str
    postgrest: Postgrest
    gateway: Gateway

    @classmethod
    def start(
        cls,
        *,
        default_privileges: DefaultPrivileges = "new",
        durable: bool = False,
        migrate: bool = True,
    ) -> LocalStack:
        """Start a stack of its own.

        Args:
            default_privileges: What the API's roles get of tables and functions to be created.
            durable: Let PostgreSQL sync to disk, as it does in production; for benchmarks.
            migrate: Apply the project's migrations.

        Raises:
            DevstackError: Something is not installed, or a server does not start.
        """
        kept = migrate and default_privileges == "new"
        cluster = Cluster(durable=durable, migrated=kept)
        try:
            if not kept:
                cluster.prepare("postgres", default_privileges, migrate=migrate)
            return cls._serve(cluster, "postgres")
        except BaseException:
            cluster.close()
            raise

    def fresh(
        self,
        *,
        default_privileges: DefaultPrivileges = "new",
        migrate: bool = False,
        schemas: str = "public",
        https: bool = False,
    ) -> LocalStack:
        """Give another project, empty, in the same PostgreSQL, with its own API.

        Stopping it drops its database; stopping this stack stops it too.

        Args:
            default_privileges: As in `start`.
            migrate: As in `start`.
            schemas: The schemas that its API exposes, separated by commas.
            https: Serve its API by https, with a certificate of `gateway.authority`.
        """
        database = self.cluster.add_database(default_privileges, migrate=migrate)
        return self._serve(self.cluster, database, schemas=schemas, https=https)

    @classmethod
    def _serve(
        cls, cluster: Cluster, database: str, *, schemas: str = "public", https: bool = False
    ) -> LocalStack:
        where = (cluster.processes, cluster.run_dir)
        db_uri = cluster.uri("authenticator", database)
        postgrest = Postgrest(*where, f"postgrest-{database}", db_uri=db_uri, schemas=schemas)
        gateway = Gateway(*where, f"gateway-{database}", upstream=postgrest.socket, https=https)
        stack = cls(
            url=gateway.url,
            db_url=cluster.db_url(database),
            cluster=cluster,
            database=database,
            postgrest=postgrest,
            gateway=gateway,
        )
        gateway.launch()
        postgrest.start()
        gateway.wait_until_ready()
        return stack

    def migrate(self, workdir: Path = PROJECT) -> None:
        """Apply migrations as `Stack.migrate` does, and serve the new schema when this returns."""
        super().migrate(workdir)
        self.reload_schema()

    def reload_schema(self) -> None:
        """Serve the database as it is now, for sure: a `notify pgrst` is obeyed some time later."""
        self.postgrest.stop()
        self.postgrest.start()

    @property
    def postgres(self) -> Postgres:
        """The database server, shared by this cluster's stacks."""
        return self.cluster.postgres

    def stop(self) -> None:
        """End what this stack started; the last to go is its cluster, when it started that."""
        if self.database == "postgres":
            self.cluster.close()
            return
        self.gateway.kill()
        self.postgrest.kill()
        drop = sql.SQL("drop database {} with (force)").format(sql.Identifier(self.database))
        with self.cluster.superuser("postgres") as admin:
            admin.execute(drop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


@contextmanager
def open_stack(environ: Mapping[str, str] = os.environ) -> Iterator[Stack]:
    """Give the project that the environment names or else, migrated, a stack of our own.

    The former is left as it is, at the beginning and at the end; see `Stack.from_env`.
    """
    named = Stack.from_env(environ)
    if named is not None:
        yield named
        return
    with LocalStack.start() as stack:
        yield stack
