"""A cluster made once and copied for every start: `initdb` plus what Supabase adds to it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from devstack.binaries import HERE, PROJECT, DevstackError
from devstack.rundir import Account, locked

PLATFORM_SQL = HERE / "sql" / "platform.sql"
NEW_DEFAULT_PRIVILEGES_SQL = HERE / "sql" / "new_default_privileges.sql"

# ICU with en_US is what Supabase's image is made with: it sorts unlike C, and tests should notice.
INITDB_OPTIONS = (
    "--username=supabase_admin",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--encoding=UTF8",
    "--locale-provider=icu",
    "--icu-locale=en-US",
    "--locale=C",
    "--no-sync",
)
SINGLE_OPTIONS = ("-c", "exit_on_error=on", "-c", "fsync=off", "-c", "log_min_messages=error")


def copy_template(package: Path, run_dir: Path, account: Account) -> Path:
    """Put a fresh cluster, owned by `account`, into `run_dir` and give its data directory."""
    template = _cache_dir(run_dir.parent) / f"cluster-{_fingerprint(package, account)}"
    return _copied(template, run_dir, lambda: _build(package, run_dir, account, template))


def copy_migrated(
    package: Path,
    run_dir: Path,
    account: Account,
    migrate: Callable[[], AbstractContextManager[Path]],
) -> Path:
    """Do as `copy_template` with a cluster that has had the project's migrations.

    Args:
        package: PostgreSQL's package.
        run_dir: where the copy goes.
        account: its owner.
        migrate: gives the data directory of one that was stopped; called when none is kept.
    """
    cache = _cache_dir(run_dir.parent)
    template = cache / f"migrated-{_fingerprint(package, account, *_migration_files())}"

    def build() -> None:
        for outdated in cache.glob("migrated-*[!k]"):  # no .lock
            shutil.rmtree(outdated, ignore_errors=True)
        with migrate() as data:
            _install(data, template)

    return _copied(template, run_dir, build)


def _copied(template: Path, run_dir: Path, build: Callable[[], None]) -> Path:
    with locked(template.with_suffix(".lock")):
        if not template.exists():
            build()
    data = run_dir / "data"
    _copy(template, data)
    return data


def _migration_files() -> list[Path]:
    return [
        NEW_DEFAULT_PRIVILEGES_SQL,
        *sorted((PROJECT / "supabase" / "migrations").glob("*.sql")),
    ]


def _cache_dir(base: Path) -> Path:
    """Give `.devstack/` in the project or, where that cannot be written, `base`."""
    cache = PROJECT / ".devstack"
    if os.access(cache if cache.exists() else PROJECT, os.W_OK):
        cache.mkdir(exist_ok=True)
        return cache
    return base


def _fingerprint(package: Path, account: Account, *more: Path) -> str:
    """Name everything the template depends on; its files belong to one account."""
    files = (package / "package.json", PLATFORM_SQL, *more)
    parts = (*(path.read_bytes() for path in files), repr(INITDB_OPTIONS).encode())
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    return f"{digest}-{account.uid}"


def _build(package: Path, run_dir: Path, account: Account, template: Path) -> None:
    work = run_dir / "template"
    work.mkdir()
    os.chown(work, account.uid, account.gid)
    data = str(work / "data")
    programs = package / "native" / "bin"
    _run(account, [str(programs / "initdb"), f"--pgdata={data}", *INITDB_OPTIONS])
    single_user = [str(programs / "postgres"), "--single", "-j", "-D", data, *SINGLE_OPTIONS]
    _run(account, [*single_user, "postgres"], script=PLATFORM_SQL.read_bytes())
    _install(work / "data", template)


def _install(data: Path, template: Path) -> None:
    """Move `data` to `template`: in one step, so that a template that exists is whole."""
    staging = template.with_suffix(".staging")
    shutil.rmtree(staging, ignore_errors=True)
    _copy(data, staging)
    staging.rename(template)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def _run(account: Account, argv: list[str], script: bytes = b"") -> None:
    user, group = account.popen_user or (None, None)
    done = subprocess.run(
        argv,
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        check=False,
    )
    if done.returncode != 0:
        raise DevstackError(f"{argv[0]} failed:\n{done.stdout.decode(errors='replace')}")
