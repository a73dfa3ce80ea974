"""Writes that wait for Supabase, kept on disk: they survive the process that was asked for them.

A file a company, of records that are encrypted each (XSalsa20 and Poly1305, by libsodium): first
who writes, then every change before it waits, and its number once its caller has an answer. What
has no answer when the process is gone is written by the next owner, in order, unless another
process has owned or written the company meanwhile.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import orjson
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from supabase_auth_state.errors import (
    CompanyQuarantined,
    ConfigurationError,
    InvalidRequest,
    JournalError,
    WriteRefused,
)
from supabase_auth_state.rest.aio import finish_even_if_cancelled

from .group_commit import Change

_LENGTH = 4
_LARGEST = 1 << 30
_LONG = 1 << 20
_PRIVATE = 0o600

# The format, without I/O


@dataclass(frozen=True)
class Journal:
    """Where writes are kept that wait for Supabase; for ``use_supabase_auth_state(journal=…)``.

    Attributes:
        directory: a folder on a disk of this machine; made when missing. A file in it for each
            company that is open.
        key: 32 random bytes of yours, which encrypt it; keep them elsewhere.
    """

    directory: str | os.PathLike[str]
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Head:
    """Who writes a journal.

    Attributes:
        company_id: the company.
        writer: the opening of the company.
        token: the token of its lease.
        since: when it began to own the company, in seconds since 1970 of the database.
        released: the last number that the database had of a client of 0.2, which counts apart.
        opened: the openings since then that were to write what is left, and may have had a lease.
    """

    company_id: str
    writer: str
    token: int
    since: float
    released: str | None = None
    opened: Sequence[str] = field(default_factory=list)

    @property
    def writers(self) -> list[str]:
        """The openings that have written the journal, or were to write what is left of it."""
        return [self.writer, *self.opened]

    def may_precede(self, token: int) -> bool:
        """Return whether no other process can have had a lease before that of this token."""
        return self.token < token <= self.token + max(len(self.opened), 1)


def sealed(box: SecretBox, number: int, content: object) -> bytes:
    """Return a record: its length, then number and content, encrypted."""
    body = bytes(box.encrypt(orjson.dumps([number, content])))
    return len(body).to_bytes(_LENGTH, "big") + body


def opened(box: SecretBox, data: bytes) -> tuple[list[Any], int]:
    """Return the contents of the records in data, and where the last whole one ends.

    The last record may be torn, as by a crash while it was written: it is left out. The first never
    is, since the file gets its name after it was synced.

    Raises:
        ValueError: a record before the last is damaged or is not in its place, or the first cannot
            be read by this key.
    """
    found: list[Any] = []
    end = 0
    while (record := _record(box, data, end)) is not None:
        (number, content), following = record
        if number != len(found):
            raise ValueError(f"record {len(found)} is not in its place")
        found.append(content)
        end = following
    # Damage could be anywhere in a record, also in its length; a torn one has nothing behind it.
    if data and (not found or any(_record(box, data, at) for at in range(end + 1, len(data)))):
        raise ValueError(f"record {len(found)} cannot be read")
    return found, end


def _record(box: SecretBox, data: bytes, at: int) -> tuple[list[Any], int] | None:
    """Return what the record at a place holds, and where it ends; None when none is whole there."""
    begin = at + _LENGTH
    end = begin + int.from_bytes(data[at:begin], "big")
    if not begin + SecretBox.NONCE_SIZE + SecretBox.MACBYTES < end <= min(len(data), at + _LARGEST):
        return None
    try:
        return orjson.loads(box.decrypt(data[begin:end])), end
    except (CryptoError, ValueError):
        return None


def encoded(change: Change) -> dict[str, Any]:
    """Return a change as JSON."""
    return {
        "keys": [[*ref, text.decode()] for ref, text in change.keys.items()],
        "creds": None if change.creds is None else change.creds.decode(),
        "clear": change.clear,
    }


def decoded(content: dict[str, Any]) -> Change:
    """Return the change of what `encoded` gave."""
    creds = content["creds"]
    return Change(
        keys={(key_type, key_id): text.encode() for key_type, key_id, text in content["keys"]},
        creds=None if creds is None else creds.encode(),
        clear=content["clear"],
    )


def waiting(contents: Iterable[Any]) -> dict[int, Change]:
    """Return the changes without an answer, by number and in order."""
    found: dict[int, Change] = {}
    for number, content in enumerate(contents):
        if isinstance(content, dict):
            found[number] = decoded(content)
        else:
            found.pop(content, None)
    return found


# The file


class JournalFile:
    """The journal of one company, which only this process may use.

    Args:
        journal: where, and by which key.
        company_id: the company.

    Attributes:
        path: the file.
        head: who wrote what was there when it was opened; None when nothing was.
        left: the changes that were waiting then, in order.

    Raises:
        ConfigurationError: the key is no key, or the system cannot lock files.
        JournalError: another process uses it, it cannot be read by this key, or it is damaged.
    """

    def __init__(self, journal: Journal, company_id: str) -> None:
        if not isinstance(journal.key, bytes) or len(journal.key) != SecretBox.KEY_SIZE:
            raise ConfigurationError(f"a journal's key is {SecretBox.KEY_SIZE} bytes")
        self.company_id = company_id
        name = hashlib.sha256(company_id.encode()).hexdigest()[:32]
        self.path = Path(journal.directory).absolute() / f"{name}.journal"
        self._box = SecretBox(journal.key)
        self._file: int | None = None
        self._records = self._bytes = 0
        self._waiting: set[int] = set()
        # Answered, and not yet struck out: the disk was full, for example.
        self._struck: list[int] = []
        # A change is written by a thread, an answer by the event loop.
        self._appending = threading.RLock()
        self._lock = self._locked()
        try:
            self.head, self.left = self._read()
        except BaseException:
            self._unlock()
            raise

    def begin(self, head: Head, left: Sequence[Change] = ()) -> None:
        """Begin anew, all at once: when it fails, the journal is as it was.

        Args:
            head: who writes from here on.
            left: the changes that still wait; their numbers are 1, 2, 3 …

        Raises:
            JournalError: it cannot be kept.
        """
        with self._no_foreign_error("written"):
            self._begin(head, left)

    def opens(self, writer: str) -> None:
        """Take note that an opening is about to own the company, and to write what is left.

        Raises:
            JournalError: it cannot be kept.
        """
        if self.left and self.head is not None:
            self.head = replace(self.head, opened=[*self.head.opened, writer])
            self.begin(self.head, self.left)

    def _begin(self, head: Head, left: Sequence[Change] = ()) -> None:
        with self._appending:
            records = [dataclasses.astuple(head), *map(encoded, left)]
            data = b"".join(sealed(self._box, *record) for record in enumerate(records))
            beside = self.path.with_suffix(".new")
            with suppress(FileNotFoundError):
                beside.unlink()
            file = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE)
            try:
                _write(file, data)
                os.fsync(file)
                beside.replace(self.path)
            except BaseException:
                os.close(file)
                raise
            if self._file is not None:
                os.close(self._file)
            self._file, self._begun = file, head
            self._records, self._bytes = len(records), len(data)
            self._waiting = set(range(1, len(records)))
            self._struck.clear()
            self._sync_folder()

    def put(self, change: Change) -> int:
        """Keep a change, durably, and return its number.

        Raises:
            OSError: it cannot be kept.
            JournalError: it is closed.
        """
        with self._appending:
            if self._file is None:
                raise JournalError(
                    f"company {self.company_id!r}: the journal {self.path} is closed",
                    path=self.path,
                )
            if self._bytes > _LONG and not self._waiting:
                self._begin(self._begun)
            # What could not be struck out before must not be written after what comes now.
            self._strike()
            number, file = self._append(encoded(change)), self._file
            self._waiting.add(number)
        try:
            os.fsync(file)
        except OSError:
            self.answered(number, refused=True)
            raise
        return number

    def answered(self, number: int, *, refused: bool) -> None:
        """Take note that a change's caller has its answer.

        Only a refusal is synced: to write a change a second time, before those that follow, does no
        harm.

        Args:
            number: that of the change.
            refused: whether the answer was an error.
        """
        with self._appending, suppress(OSError):
            self._waiting.discard(number)
            if self._file is not None:
                self._struck.append(number)
                self._strike()
                if refused:
                    os.fsync(self._file)

    def put_aside(self) -> Path:
        """Give the file another name, for a person to look at, and return it.

        Raises:
            JournalError: it cannot be renamed.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = self.path.with_name(f"{self.path.name}.refused-{stamp}-{os.urandom(2).hex()}")
        with self._no_foreign_error("renamed"):
            self.path.rename(aside)
            self._sync_folder()
        return aside

    def close(self) -> None:
        """Let others use it; without anything that waits the file is removed."""
        with self._appending:
            if self._file is not None:
                with suppress(OSError):
                    self._strike()
                os.close(self._file)
                self._file = None
                if not self._waiting:
                    self.path.unlink(missing_ok=True)
            self._unlock()

    def _strike(self) -> None:
        while self._struck:
            self._append(self._struck[0])
            del self._struck[0]

    def _append(self, content: object) -> int:
        assert self._file is not None  # noqa: S101 - only what was begun is appended to
        number = self._records
        record = sealed(self._box, number, content)
        try:
            _write(self._file, record)
        except OSError:
            # What follows half of a record could not be read.
            os.ftruncate(self._file, self._bytes)
            os.lseek(self._file, self._bytes, os.SEEK_SET)
            raise
        self._records += 1
        self._bytes += len(record)
        return number

    def _read(self) -> tuple[Head | None, list[Change]]:
        try:
            with self._no_foreign_error("read"):
                data = self.path.read_bytes() if self.path.exists() else b""
            contents, _ = opened(self._box, data)
            head = Head(*contents[0]) if contents else None
            if head is not None and head.company_id != self.company_id:
                raise ValueError("it is that of another company")  # noqa: TRY301
        except ValueError as error:
            problem = JournalError(
                f"company {self.company_id!r}: the journal {self.path} is damaged or was written "
                f"with another key ({error}): nothing of it was written to the database, and "
                "nothing was removed",
                path=self.path,
            )
        else:
            return head, list(waiting(contents).values())
        raise problem

    def _locked(self) -> int:
        try:
            import fcntl
        except ImportError:
            raise ConfigurationError("a journal needs a system that locks files (flock)") from None
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, _PRIVATE)
        except OSError as error:
            raise ConfigurationError(
                f"cannot keep a journal in {self.path.parent}: {error.strerror}"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise JournalError(
                f"company {self.company_id!r}: another process uses the journal {self.path}",
                path=self.path,
            ) from None
        return lock

    def _unlock(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    @contextmanager
    def _no_foreign_error(self, attempt: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror
        else:
            return
        raise JournalError(
            f"company {self.company_id!r}: the journal {self.path} cannot be {attempt} ({reason})",
            path=self.path,
        )

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


# In the way of writes


class Enqueues(Protocol):
    """What gives changes their place in the order; see `GroupCommit`."""

    async def enqueue(self, change: Change) -> asyncio.Future[None]:
        """Give a change its place, and return what is done when it is durable."""
        ...

    async def settle(self) -> None:
        """Wait until everything that was queued is durable or has failed."""
        ...


class JournaledCommit:
    """Keeps each change in a journal before it waits.

    Args:
        writes: where changes wait.
        file: the journal, which was begun.
    """

    def __init__(self, writes: Enqueues, file: JournalFile) -> None:
        self._writes = writes
        self._file = file
        self._in_order = asyncio.Lock()
        self._unanswered: set[asyncio.Future[None]] = set()

    async def enqueue(self, change: Change) -> asyncio.Future[None]:
        """Keep a change, durably, and give it its place; see `GroupCommit.enqueue`.

        Raises:
            JournalError: it cannot be kept, and was not written.
        """
        async with self._in_order:
            number = await self._kept(change)
            try:
                durable = await self._writes.enqueue(change)
            except BaseException:
                self._file.answered(number, refused=True)
                raise
        # A future of the caller's own: one that is cancelled must not hide how the write ends.
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answered(ended: asyncio.Future[None]) -> None:
            self._unanswered.discard(ended)
            if ended.cancelled():
                told.cancel()
                return
            # An error that was told is an answer: what was refused is never written later.
            error = ended.exception()
            self._file.answered(number, refused=error is not None)
            if told.done():
                return
            if error is None:
                told.set_result(None)
            else:
                told.set_exception(error)
                told.exception()  # asked for, in case the caller is gone by now

        self._unanswered.add(durable)
        durable.add_done_callback(answered)
        return told

    async def settle(self) -> None:
        """See `GroupCommit.settle`; what was answered is struck out then, too."""
        async with self._in_order:
            pass
        await self._writes.settle()
        if self._unanswered:
            await asyncio.wait(self._unanswered)

    async def _kept(self, change: Change) -> int:
        putting = asyncio.get_running_loop().run_in_executor(None, self._file.put, change)
        try:
            return await finish_even_if_cancelled(putting)
        except asyncio.CancelledError:
            # The caller is told that it is not written, and it must not be after what comes now.
            if not putting.cancelled() and putting.exception() is None:
                self._file.answered(putting.result(), refused=True)
            raise
        except OSError as error:
            reason = error.strerror
        raise JournalError(
            f"company {self._file.company_id!r}: the journal {self._file.path} cannot be written "
            f"({reason}), so the write was not accepted",
            path=self._file.path,
        )


async def replay(
    file: JournalFile, head: Head, *, others: bool, write: Callable[[Change], Awaitable[None]]
) -> int:
    """Write what was left to the database, in order, and begin the journal anew.

    Args:
        file: the journal.
        head: who owns the company now.
        others: whether another process may have written the company since.
        write: makes a change durable.

    Returns:
        How many changes were written.

    Raises:
        JournalError: another process has owned or written the company meanwhile, or the database
            refuses a change; the journal was put aside.
        StoreError, LeaseLost: a change could not be written; the next opening goes on with it.
    """
    if file.left and (others or file.head is None or not file.head.may_precede(head.token)):
        aside = file.put_aside()
        raise JournalError(
            f"company {file.company_id!r}: {len(file.left)} writes of an earlier process were "
            "waiting, and another process has owned or written the company since; writing them now "
            f"would set its sessions back. They are kept in {aside}; open the company again to go "
            "on without them",
            path=aside,
        )
    for number, change in enumerate(file.left, 1):
        try:
            await write(change)
        except (InvalidRequest, WriteRefused, CompanyQuarantined) as error:
            reason = str(error)
            break
        file.answered(number, refused=False)
    else:
        file.begin(head)
        return len(file.left)
    aside = file.put_aside()
    raise JournalError(
        f"company {file.company_id!r}: a write of an earlier process was waiting, and the database "
        f"refuses it ({reason}). It and those behind it are kept in {aside}; open the company "
        "again to go on without them",
        path=aside,
    )
