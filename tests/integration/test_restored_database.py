"""A base backup is restored under a running owner: it notices, stops, and saves what it has."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import LocalStack
from supabase_auth_state import (
    AuthState,
    Rest,
    Settings,
    StateRolledBack,
    export_folder,
    import_folder,
    open_rest,
    use_supabase_auth_state,
)
from supabase_auth_state.cli.top import read_dashboard
from supabase_auth_state.doctor.doctor import diagnose
from supabase_auth_state.operations.statistics import recount
from supabase_auth_state.types import KeyRef

SESSION = "15550100001.0"
GROUP, OTHER_GROUP = "120363@g.us", "120364@g.us"


@pytest.fixture(scope="module")
def own_stack() -> Iterator[LocalStack]:
    """A stack whose database may be set back."""
    with LocalStack.start() as started:
        yield started


@pytest.fixture
async def rest(own_stack: LocalStack) -> AsyncIterator[Rest]:
    opened = open_rest(
        Settings(own_stack.url, own_stack.service_role_key, timeout=60, give_up_after=60)
    )
    yield opened
    await opened.close()


@pytest.fixture
def company_id() -> str:
    return f"restored-{uuid.uuid4().hex}"


class Backup:
    """A cold copy of PostgreSQL's data directory."""

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        self._stack = stack
        self._copy = folder / "backup"

    def take(self) -> None:
        """Copy the directory while the server stands still; PostgREST works when this returns."""
        self._stack.postgres.stop()
        subprocess.run(["cp", "-a", str(self._stack.postgres.data), str(self._copy)], check=True)
        self._stack.postgres.start()
        self._stack.postgrest.wait_until_ready()

    def restore(self) -> None:
        """Put the copy in the directory's place; PostgREST works when this returns."""
        self._stack.postgres.stop()
        shutil.rmtree(self._stack.postgres.data)
        subprocess.run(["cp", "-a", str(self._copy), str(self._stack.postgres.data)], check=True)
        self._stack.postgres.start()
        self._stack.postgrest.wait_until_ready()


class OnlineBackup:
    """A base backup that is taken while the server works, and recovered to a named moment.

    By the low-level interface of PostgreSQL: start, copy the files, stop, keep the write-ahead log.
    """

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        self._stack = stack
        self._copy = folder / "base"

    def take(self) -> None:
        """Copy the directory, without the log, while clients write."""
        data = self._stack.postgres.data
        with self._stack.cluster.superuser(self._stack.database) as db:
            # In the place of an archive: no part of the log is removed any more.
            db.execute("alter system set wal_keep_size = '10GB'")
            db.execute("select pg_reload_conf()")
            db.execute("select pg_backup_start('base', fast => true)")
            # Files come and go meanwhile, and that is no error: 1 says that some have gone.
            copied = subprocess.run(["cp", "-a", str(data), str(self._copy)], check=False)
            assert copied.returncode in {0, 1}
            [label] = db.execute(
                "select labelfile from pg_backup_stop(wait_for_archive => false)"
            ).fetchall()
        for path in [*self._log(self._copy), *self._copy.glob("postmaster.*")]:
            path.unlink()
        self._file("backup_label").write_text(label[0])

    def name(self, moment: str) -> None:
        """Give this moment a name."""
        with self._stack.cluster.superuser(self._stack.database) as db:
            db.execute("select pg_create_restore_point(%s)", [moment])

    def restore(self, moment: str) -> None:
        """Put the copy in the directory's place, and replay the log up to a moment."""
        data = self._stack.postgres.data
        self._stack.postgres.stop()
        for path in self._log(data):
            subprocess.run(["cp", "-a", str(path), str(self._copy / "pg_wal")], check=True)
        with (self._copy / "postgresql.auto.conf").open("a") as settings:
            # The log stands where it is looked for when this fails.
            settings.write(
                f"restore_command = 'false'\nrecovery_target_name = '{moment}'\n"
                "recovery_target_action = 'promote'\n"
            )
        self._file("recovery.signal")
        shutil.rmtree(data)
        subprocess.run(["cp", "-a", str(self._copy), str(data)], check=True)
        self._stack.postgres.start()
        with self._stack.cluster.superuser(self._stack.database) as db:
            while db.execute("select pg_is_in_recovery()").fetchall() == [(True,)]:
                time.sleep(0.05)
        self._stack.postgrest.wait_until_ready()

    def _file(self, name: str) -> Path:
        """Make an empty file of the copy, which PostgreSQL's user may read."""
        path, owner = self._copy / name, self._copy.stat()
        path.touch()
        os.chown(path, owner.st_uid, owner.st_gid)
        return path

    @staticmethod
    def _log(data: Path) -> list[Path]:
        return [path for path in (data / "pg_wal").iterdir() if path.is_file()]


@pytest.fixture
def backup(own_stack: LocalStack, tmp_path: Path) -> Backup:
    return Backup(own_stack, tmp_path)


def session(number: int) -> dict[str, Any]:
    return {"session": {SESSION: {"_sessions": {}, "version": f"v{number}"}}}


def opened(rest: Rest, company_id: str, ttl: float = 60, **more: Any) -> Any:
    return use_supabase_auth_state(company_id, client=rest, lease=True, lease_ttl=ttl, **more)


async def test_an_owner_notices_stops_and_saves_what_it_remembers(
    own_stack: LocalStack, rest: Rest, company_id: str, backup: Backup, tmp_path: Path
) -> None:
    async with opened(rest, company_id) as earlier:
        await earlier.keys.set({"sender-key-memory": {OTHER_GROUP: {"c": True}}})
    auth: AuthState = await opened(rest, company_id)
    await auth.keys.set({**session(1), "sender-key-memory": {GROUP: {"a": True}}})
    await asyncio.to_thread(backup.take)
    await auth.keys.set(session(2))
    auth.creds["nextPreKeyId"] = 31
    await auth.save_creds()
    await asyncio.to_thread(backup.restore)

    for write in (auth.keys.set(session(3)), auth.keys.clear(), auth.save_creds()):
        with pytest.raises(StateRolledBack):
            await write
    with pytest.raises(StateRolledBack):  # the database's value is not the last one
        await auth.keys.get("session", [SESSION])
    assert auth.lease is not None
    assert auth.lease.lost.is_set()
    assert await auth.save_remembered(tmp_path / "saved") == 2
    await auth.close()

    report = await diagnose(rest, company_id)
    assert report.damaged
    assert report.rolled_back_at is not None
    assert "set back to an earlier moment" in str(report)
    await recount(rest)
    [shown] = [
        each
        for each in (await read_dashboard(rest, companies=9)).companies
        if each.company_id == company_id
    ]
    assert shown.rolled_back_at is not None

    # What it remembered, over what the backup has: the state of the last acknowledged write. An
    # import with force removes what is not in the folder.
    with psycopg.connect(own_stack.db_url, autocommit=True) as db:
        db.execute("update whatsapp_leases set expires_at = now()")
    await export_folder(tmp_path / "merged", company_id, client=rest, quiet_for=0)
    for path in (tmp_path / "saved").iterdir():
        shutil.copy(path, tmp_path / "merged")
    await import_folder(tmp_path / "merged", company_id, client=rest, force=True, quiet_for=0)
    await rest.about("settle_whatsapp_restored", company_id)
    assert (await diagnose(rest, company_id)).rolled_back_at is None
    async with opened(rest, company_id) as again:
        assert again.creds["nextPreKeyId"] == 31
        assert await again.keys.get("session", [SESSION]) == session(2)["session"]
        assert await again.keys.get("sender-key-memory", [GROUP, OTHER_GROUP]) == {
            GROUP: {"a": True}, OTHER_GROUP: {"c": True},
        }  # fmt: skip


async def test_an_owner_that_only_reads_notices_when_it_renews_its_lease(
    rest: Rest, company_id: str, backup: Backup
) -> None:
    auth: AuthState = await opened(rest, company_id, ttl=6)
    assert auth.lease is not None
    await asyncio.to_thread(backup.take)
    # While the backup was taken nothing was renewed, and a lease that has lapsed remembers nothing.
    await auth.lease.renew()
    await auth.keys.set({**session(7), "sender-key-memory": {GROUP: {"b": True}}})
    await asyncio.to_thread(backup.restore)
    await asyncio.wait_for(auth.lease.lost.wait(), 60)
    assert auth.lease.rolled_back
    assert auth.keys.remembered() == {
        KeyRef("session", SESSION): session(7)["session"][SESSION],
        KeyRef("sender-key-memory", GROUP): {"b": True},
    }
    await auth.close()


async def test_an_owner_whose_token_was_forgotten_and_given_again_writes_nothing(
    own_stack: LocalStack, rest: Rest, company_id: str, backup: Backup
) -> None:
    await asyncio.to_thread(backup.take)
    first: AuthState = await opened(rest, company_id, create=True)
    await asyncio.to_thread(backup.restore)
    second: AuthState = await opened(rest, company_id)
    assert first.lease is not None
    assert second.lease is not None
    assert first.lease.token == second.lease.token
    with pytest.raises(StateRolledBack):
        await first.keys.set(session(1))
    await second.keys.set(session(2))
    for auth in (first, second):
        await auth.close()
    assert await stored_version(own_stack, company_id) == "v2"


async def test_a_base_backup_of_a_working_server_is_recovered_to_an_earlier_moment(
    own_stack: LocalStack, rest: Rest, company_id: str, tmp_path: Path
) -> None:
    backup = OnlineBackup(own_stack, tmp_path)
    auth: AuthState = await opened(rest, company_id)
    taking = asyncio.ensure_future(asyncio.to_thread(backup.take))
    number = 0
    while not taking.done():
        number += 1
        await auth.keys.set(session(number))
    await taking
    await auth.keys.set(session(number + 1))
    await asyncio.to_thread(backup.name, "before")
    await auth.keys.set(session(number + 2))
    await asyncio.to_thread(backup.restore, "before")

    with pytest.raises(StateRolledBack):
        await auth.keys.set(session(number + 3))
    # After the backup and before the restore point: the log was replayed so far and no further.
    assert await stored_version(own_stack, company_id) == f"v{number + 1}"
    assert await auth.save_remembered(tmp_path / "saved") == 1
    await auth.close()
    assert (await diagnose(rest, company_id)).rolled_back_at is not None


async def stored_version(stack: LocalStack, company_id: str) -> str:
    with psycopg.connect(stack.db_url) as db:
        [found] = db.execute(
            "select value ->> 'version' from whatsapp_keys where company_id = %s", [company_id]
        ).fetchall()
    return str(found[0])
