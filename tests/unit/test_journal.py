"""The journal of waiting writes: what is read of it after any crash, and who may use it."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.secret import SecretBox

from supabase_auth_state import (
    ConfigurationError,
    InvalidRequest,
    Journal,
    JournalError,
    StoreError,
    StoreUnavailable,
    WriteRefused,
)
from supabase_auth_state.store import journal as module
from supabase_auth_state.store.group_commit import Change, GroupCommit
from supabase_auth_state.store.journal import (
    Head,
    JournaledCommit,
    JournalFile,
    decoded,
    encoded,
    opened,
    replay,
    sealed,
    waiting,
)

KEY = bytes(range(32))
BOX = SecretBox(KEY)
HEAD = Head("c", "writer", 7, 12.5)


def change(number: int) -> Change:
    return Change(keys={("session", "1.0"): b'{"secret":%d}' % number})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal", KEY)


def begun(journal: Journal) -> JournalFile:
    file = JournalFile(journal, "c")
    file.begin(HEAD)
    return file


def left(journal: Journal) -> list[Change]:
    """Give what the next process finds."""
    file = JournalFile(journal, "c")
    try:
        return file.left
    finally:
        file.close()


def crash(file: JournalFile) -> None:
    """Let the process be gone: the system closes what it had open."""
    assert file._file is not None
    os.close(file._file)
    file._unlock()


# The format


@settings(max_examples=50)
@given(
    st.dictionaries(st.tuples(st.text(max_size=5), st.text(max_size=5)), st.text(max_size=9)),
    st.none() | st.text(max_size=9),
    st.booleans(),
)
def test_a_change_is_read_as_it_was_written(
    keys: dict[tuple[str, str], str], creds: str | None, clear: bool
) -> None:
    written = Change(
        keys={ref: text.encode() for ref, text in keys.items()},
        creds=None if creds is None else creds.encode(),
        clear=clear,
    )
    assert decoded(opened(BOX, sealed(BOX, 0, encoded(written)))[0][0]) == written


def test_a_record_that_is_torn_anywhere_is_left_out_and_nothing_else() -> None:
    first, second = sealed(BOX, 0, "head"), sealed(BOX, 1, encoded(change(1)))
    for length in range(len(second)):
        assert opened(BOX, first + second[:length]) == (["head"], len(first))
        # A file system may have made room for what was not written.
        torn = second[:length] + b"\0" * (len(second) - length)
        assert opened(BOX, first + torn)[0][:1] == ["head"]
    assert opened(BOX, b"") == ([], 0)


def test_what_is_damaged_before_the_last_record_is_refused() -> None:
    records = [sealed(BOX, number, number) for number in range(3)]
    for number in range(2):
        broken = bytearray(records[number])
        broken[-1] ^= 1
        with pytest.raises(ValueError, match=f"record {number}"):
            opened(BOX, b"".join([*records[:number], bytes(broken), *records[number + 1 :]]))
    for order in ([0, 2, 1], [0, 0, 1], [1, 2]):
        with pytest.raises(ValueError, match="not in its place"):
            opened(BOX, b"".join(records[number] for number in order))


def test_a_byte_that_is_changed_anywhere_costs_the_last_record_at_most() -> None:
    contents = ["head", encoded(change(1)), 1, encoded(change(2))]
    records = [sealed(BOX, number, content) for number, content in enumerate(contents)]
    data, last = b"".join(records), len(b"".join(records[:-1]))
    for place in range(len(data)):
        for bit in (1, 128):
            broken = bytearray(data)
            broken[place] ^= bit
            if place < last:
                with pytest.raises(ValueError, match="cannot be read"):
                    opened(BOX, bytes(broken))
            else:
                assert opened(BOX, bytes(broken)) == (contents[:-1], last)


def test_a_journal_that_ends_anywhere_has_every_record_that_was_whole() -> None:
    contents = ["head", encoded(change(1)), 1, encoded(change(2))]
    records = [sealed(BOX, number, content) for number, content in enumerate(contents)]
    data = b"".join(records)
    ends = [len(b"".join(records[: number + 1])) for number in range(len(records))]
    for length in range(1, len(data)):
        whole = sum(end <= length for end in ends)
        if whole:
            assert opened(BOX, data[:length]) == (contents[:whole], ends[whole - 1])
        else:
            with pytest.raises(ValueError, match="record 0"):
                opened(BOX, data[:length])


@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_read_as_changes(data: bytes) -> None:
    try:
        found, end = opened(BOX, data)
    except ValueError:
        return
    assert (data, found, end) == (b"", [], 0)


def test_changes_without_an_answer_wait_in_order() -> None:
    one, two, three = (encoded(change(number)) for number in (1, 2, 3))
    assert waiting(["head", one, two, 1, three, 9]) == {2: change(2), 4: change(3)}


# The file


def test_what_has_no_answer_is_there_for_the_next_process(journal: Journal) -> None:
    file = begun(journal)
    numbers = [file.put(change(number)) for number in range(4)]
    file.answered(numbers[0], refused=False)
    file.answered(numbers[2], refused=True)
    crash(file)
    assert left(journal) == [change(1), change(3)]
    again = JournalFile(journal, "c")
    assert again.head == HEAD
    again.close()
    assert left(journal) == [change(1), change(3)]


def test_it_is_encrypted_private_and_names_nothing(journal: Journal) -> None:
    file = begun(journal)
    file.put(change(1))
    folder = file.path.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        content = path.read_bytes()
        assert b"secret" not in content
        assert b"session" not in content
        assert b"writer" not in content
    assert KEY.hex() not in repr(journal)
    assert str(KEY) not in repr(journal)
    file.close()


def test_without_anything_that_waits_no_journal_is_left(journal: Journal) -> None:
    file = begun(journal)
    file.answered(file.put(change(1)), refused=False)
    file.close()
    assert list(file.path.parent.glob("*.journal*")) == []


def test_two_processes_cannot_share_one(journal: Journal) -> None:
    file = begun(journal)
    with pytest.raises(JournalError, match="another process uses") as raised:
        JournalFile(journal, "c")
    assert raised.value.path == file.path
    JournalFile(journal, "another company").close()
    file.close()
    JournalFile(journal, "c").close()


def test_another_key_writes_and_removes_nothing(journal: Journal) -> None:
    file = begun(journal)
    file.put(change(1))
    crash(file)
    before = file.path.read_bytes()
    for _ in range(2):
        with pytest.raises(JournalError, match="another key"):
            JournalFile(Journal(journal.directory, bytes(32)), "c")
    assert file.path.read_bytes() == before
    assert left(journal) == [change(1)]


def test_the_journal_of_another_company_is_refused_and_kept(journal: Journal) -> None:
    file = begun(journal)
    file.put(change(1))
    crash(file)
    other = JournalFile(journal, "d")
    other.close()
    file.path.rename(other.path)
    with pytest.raises(JournalError, match="another company") as raised:
        JournalFile(journal, "d")
    assert "secret" not in str(raised.value)
    other.path.rename(file.path)
    assert left(journal) == [change(1)]


@pytest.mark.parametrize("key", [b"", b"1" * 31, "1" * 32])
def test_what_is_no_key_is_refused(tmp_path: Path, key: Any) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        JournalFile(Journal(tmp_path, key), "c")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot keep a journal"):
        JournalFile(Journal(tmp_path / "file" / "journal", KEY), "c")


def test_a_full_disk_leaves_no_half_record(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = begun(journal)
    file.put(change(1))
    write = os.write

    def full(descriptor: int, data: Any) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[: len(data) - 10])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.put(change(2))
    file.put(change(3))
    crash(file)
    assert left(journal) == [change(1), change(3)]


def test_it_does_not_grow_without_end(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONG", 1000)
    file = begun(journal)
    for number in range(100):
        file.answered(file.put(change(number)), refused=False)
    assert file.path.stat().st_size < 2000
    file.put(change(1))
    crash(file)
    assert left(journal) == [change(1)]


def failing(*codes: int) -> Callable[..., Any]:
    """Fail as often as there are codes, instead of doing something."""
    left = list(codes)

    def fail(*_: Any) -> Any:
        raise OSError(left[0], os.strerror(left.pop(0)))

    return fail


def test_what_could_not_be_struck_out_is_not_written_after_what_came_later(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = begun(journal)
    first = file.put(change(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", failing(errno.ENOSPC, errno.ENOSPC))
        file.answered(first, refused=False)
        with pytest.raises(OSError, match="No space"):
            file.put(change(2))
    second = file.put(change(3))
    file.answered(second, refused=False)
    crash(file)
    assert left(journal) == []


def test_what_could_not_be_synced_does_not_wait(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = begun(journal)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(errno.EIO, errno.EIO))
        with pytest.raises(OSError, match="error"):
            file.put(change(1))
    file.answered(file.put(change(2)), refused=False)
    crash(file)
    assert left(journal) == []


@pytest.mark.parametrize("function", ["open", "write", "fsync"])
def test_a_journal_that_cannot_begin_anew_goes_on_as_it_was(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setattr(module, "_LONG", 100)
    file = begun(journal)
    file.answered(file.put(change(1)), refused=False)
    descriptor = file._file
    with monkeypatch.context() as patched:
        patched.setattr(os, function, failing(errno.EMFILE))
        with pytest.raises(OSError, match="open files"):
            file.put(change(2))
    assert file._file == descriptor
    file.put(change(3))
    crash(file)
    assert left(journal) == [change(3)]


def test_no_error_of_the_system_reaches_the_caller(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = JournalFile(journal, "c")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", failing(errno.ENOSPC))
        with pytest.raises(JournalError, match=r"cannot be written \(No space"):
            file.begin(HEAD)
    file.begin(HEAD)
    file.put(change(1))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing(errno.EACCES))
        with pytest.raises(JournalError, match=r"cannot be renamed \(Permission"):
            file.put_aside()
    file.close()
    with pytest.raises(JournalError, match="is closed"):
        file.put(change(2))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing(errno.EIO))
        with pytest.raises(JournalError, match="cannot be read"):
            JournalFile(journal, "c")
    assert left(journal) == [change(1)]


# In the way of writes


async def test_a_write_is_kept_before_it_waits_and_answered_when_it_is_not(
    journal: Journal,
) -> None:
    file = begun(journal)
    sent: list[Change] = []
    gate = asyncio.Event()

    async def send(change: Change) -> None:
        await gate.wait()
        sent.append(change)
        if len(sent) == 2:
            raise StoreUnavailable("away")

    writes = JournaledCommit(GroupCommit(send), file)
    durable = [await writes.enqueue(change(number)) for number in (1, 2)]
    assert list(waiting(opened(BOX, file.path.read_bytes())[0]).values()) == [change(1), change(2)]
    gate.set()
    await durable[0]
    await asyncio.wait({durable[1]})
    await writes.settle()
    for future in durable:
        assert future.done()
    assert waiting(opened(BOX, file.path.read_bytes())[0]) == {}
    file.close()


async def test_what_cannot_be_kept_is_not_written(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = begun(journal)
    sent: list[Change] = []

    async def send(change: Change) -> None:
        sent.append(change)

    def full(_: Change) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file, "put", full)
    writes = JournaledCommit(GroupCommit(send), file)
    with pytest.raises(JournalError, match="No space left"):
        await writes.enqueue(change(1))
    await writes.settle()
    assert sent == []
    file.close()


class Gate:
    """Holds what a thread does until it is opened."""

    def __init__(self, does: Callable[..., Any]) -> None:
        self._does = does
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, *given: Any) -> Any:
        self.reached.set()
        assert self.opened.wait(30)
        return self._does(*given)


@pytest.mark.parametrize("moment", ["kept", "in line", "waiting for room", "under way"])
async def test_what_was_cancelled_is_not_written_after_what_came_later(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    file, may_send, sent = begun(journal), asyncio.Event(), []

    async def send(change: Change) -> None:
        await may_send.wait()
        sent.append(change)

    room = 1 if moment == "waiting for room" else 1 << 20
    writes = JournaledCommit(GroupCommit(send, max_pending=room), file)

    async def write(number: int) -> None:
        await (await writes.enqueue(change(number)))

    gate = Gate(os.fsync)
    before = asyncio.create_task(write(0))
    while not file._waiting:
        await asyncio.sleep(0.001)
    if moment in {"kept", "in line"}:
        monkeypatch.setattr(os, "fsync", gate)
    if moment == "in line":
        before = asyncio.create_task(write(5))
    cancelled = asyncio.create_task(write(1))
    if moment in {"kept", "in line"}:
        await asyncio.to_thread(gate.reached.wait, 30)
    else:
        while len(file._waiting) < 2 or writes._in_order.locked() != (room == 1):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    cancelled.cancel()
    later = asyncio.create_task(write(2))
    await asyncio.sleep(0)
    gate.opened.set()
    may_send.set()
    await asyncio.wait({before, cancelled, later})
    assert cancelled.cancelled()
    await writes.settle()
    assert (change(1) in sent) == (moment == "under way")
    crash(file)
    assert left(journal) == []


async def test_a_cancelled_write_waits_in_the_journal_until_it_has_ended(journal: Journal) -> None:
    file, may_send = begun(journal), asyncio.Event()

    async def send(_: Change) -> None:
        await may_send.wait()
        raise StoreUnavailable("away")

    writes = JournaledCommit(GroupCommit(send), file)
    (await writes.enqueue(change(1))).cancel()
    await asyncio.sleep(0)
    assert file._waiting == {1}
    may_send.set()
    await writes.settle()
    assert file._waiting == set()
    file.close()


@pytest.mark.parametrize(("token", "others"), [(8, True), (9, False), (7, False)])
async def test_after_another_owner_it_is_put_aside(
    journal: Journal, token: int, others: bool
) -> None:
    file = begun(journal)
    file.put(change(1))
    crash(file)
    before = file.path.read_bytes()
    again = JournalFile(journal, "c")

    async def write(_: Change) -> None:
        raise AssertionError("nothing may be written")

    with pytest.raises(JournalError, match="1 writes of an earlier process") as raised:
        await replay(again, Head("c", "new", token, 20.0), others=others, write=write)
    again.close()
    assert raised.value.path.read_bytes() == before
    assert left(journal) == []


async def test_a_replay_that_breaks_off_is_done_again(journal: Journal) -> None:
    file = begun(journal)
    for number in (1, 2):
        file.put(change(number))
    crash(file)
    written: list[Change] = []

    async def write(change: Change) -> None:
        if written:
            raise StoreUnavailable("away")
        written.append(change)

    again = JournalFile(journal, "c")
    again.opens("new")
    with pytest.raises(StoreUnavailable):
        await replay(again, Head("c", "new", 8, 20.0), others=False, write=write)
    again.close()
    assert left(journal) == [change(2)]
    for opening in ("never had the lease", "newest"):
        again = JournalFile(journal, "c")
        again.opens(opening)
        again.close()
    again = JournalFile(journal, "c")
    assert again.head is not None
    assert again.head.writers == ["writer", "new", "never had the lease", "newest"]
    written.clear()
    assert await replay(again, Head("c", "newest", 9, 30.0), others=False, write=write) == 1
    assert written == [change(2)]
    again.close()
    assert left(journal) == []


async def test_after_openings_that_broke_off_another_owner_is_noticed(journal: Journal) -> None:
    file = begun(journal)
    file.put(change(1))
    crash(file)
    for opening in ("one", "two"):
        again = JournalFile(journal, "c")
        again.opens(opening)
        again.close()
    again = JournalFile(journal, "c")

    async def write(_: Change) -> None:
        raise AssertionError("nothing may be written")

    with pytest.raises(JournalError, match="another process has owned"):
        await replay(again, Head("c", "two", 10, 20.0), others=False, write=write)
    again.close()


@pytest.mark.parametrize("kind", [InvalidRequest, WriteRefused])
async def test_what_the_database_refuses_is_put_aside_with_all_behind_it(
    journal: Journal, kind: type[StoreError]
) -> None:
    file = begun(journal)
    for number in (1, 2, 3):
        file.put(change(number))
    crash(file)

    async def write(written: Change) -> None:
        if written == change(2):
            raise kind("no such luck")

    again = JournalFile(journal, "c")
    again.opens("new")
    with pytest.raises(JournalError, match="no such luck") as raised:
        await replay(again, Head("c", "new", 8, 20.0), others=False, write=write)
    again.close()
    assert left(journal) == []
    raised.value.path.rename(again.path)
    assert left(journal) == [change(2), change(3)]
