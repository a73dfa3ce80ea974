"""Where a stack keeps its files while it runs, and which account PostgreSQL runs under."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devstack.binaries import DevstackError
from devstack.nanny import LOCK_NAME

_LONGEST = 40
"""Length of a temporary folder's path under which Unix sockets still have room."""


@dataclass(frozen=True)
class Account:
    """An account that PostgreSQL can run under; it refuses to run as root.

    Attributes:
        uid: Its user id.
        gid: Its group id.
        is_ours: Whether it is this process's own account.
    """

    uid: int
    gid: int
    is_ours: bool

    @property
    def popen_user(self) -> tuple[int, int] | None:
        """The ids to change to in a child, None when there is nothing to change."""
        return None if self.is_ours else (self.uid, self.gid)

    def can_enter(self, folder: Path) -> bool:
        """Tell whether the account may open what lies in `folder` and is itself readable.

        For another account than ours only what everybody may do counts.
        """
        if self.is_ours:
            return os.access(folder, os.X_OK)
        return all(entry.stat().st_mode & 0o001 for entry in (folder, *folder.parents))


def postgres_account() -> Account:
    """Give this process's own account or, for root, `nobody`."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), is_ours=True)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        message = "PostgreSQL does not run as root, and there is no account `nobody` to run it as"
        raise DevstackError(message) from None
    return Account(nobody.pw_uid, nobody.pw_gid, is_ours=False)


def base_dir(account: Account) -> Path:
    """Give the folder of this user's run directories, made when absent."""
    base = _temporary_folder(account) / f"supabase-devstack-{os.geteuid()}"
    base.mkdir(mode=0o711, exist_ok=True)
    if base.is_symlink() or base.stat().st_uid != os.geteuid():
        raise DevstackError(f"{base} is somebody else's: remove it, or set TMPDIR")
    return base


def _temporary_folder(account: Account) -> Path:
    usual = (tempfile.gettempdir(), "/tmp", "/var/tmp")  # noqa: S108 (what lies there is checked)
    for folder in (Path(name).resolve() for name in usual):
        is_short = len(str(folder)) <= _LONGEST
        if is_short and os.access(folder, os.W_OK) and account.can_enter(folder):
            return folder
    raise DevstackError("PostgreSQL's account can enter no temporary folder: set TMPDIR")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from what is done here, in this process and in others; makes the file."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def new_run_dir(base: Path) -> Path:
    """Make an empty run directory. Its path is short: it is to hold Unix sockets."""
    run_dir = Path(tempfile.mkdtemp(prefix="run-", dir=base))
    run_dir.chmod(0o711)
    return run_dir


def sweep(base: Path) -> None:
    """Remove the run directories of stacks whose nanny was killed before it could."""
    for run_dir in base.glob("run-*"):
        if _is_abandoned(run_dir):
            shutil.rmtree(run_dir, ignore_errors=True)


def _is_abandoned(run_dir: Path) -> bool:
    """Tell whether no nanny holds `run_dir`; a new one is given a minute to take hold of it."""
    try:
        lock = os.open(run_dir / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return run_dir.exists() and time.time() - run_dir.stat().st_mtime > 60
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def within_reach(package: Path, base: Path, account: Account) -> Path:
    """Give `package`, or a copy in `base` when `account` cannot enter where it lies."""
    if account.can_enter(package):
        return package
    stat = package.stat()
    copy = base / f"package-{stat.st_ino}-{stat.st_mtime_ns}"
    with locked(copy.with_suffix(".lock")):
        if not copy.exists():
            staging = Path(tempfile.mkdtemp(prefix="run-", dir=base)) / package.name
            shutil.copytree(package, staging, symlinks=True)
            staging.rename(copy)
    return copy
