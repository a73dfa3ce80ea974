"""Baileys' ``useMultiFileAuthState`` in Python: the same names, the same content.

Two things differ, on purpose. A file that is there but cannot be read is an error, never "missing".
And a file is written beside its target, synced and renamed, so that a crash leaves whole files.

Source: Baileys 7.0.0-rc14 and 6.7.24, ``src/Utils/use-multi-file-auth-state.ts``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from supabase_auth_state import codec
from supabase_auth_state.codec import Malformed, dump_json, has_surrogates
from supabase_auth_state.codec.creds import init_auth_creds
from supabase_auth_state.errors import CodecError, FolderError, UnreadKeyError
from supabase_auth_state.rest.opening import Closing, Opening
from supabase_auth_state.types import KEY_TYPES, Creds, KeyRef, SignalDataSet, Value

from .atomic import replace
from .creds_copies import advice_on, find_copies
from .names import CREDS_FILE, file_name, parse_file_name
from .reading import read_document

logger = logging.getLogger(__name__)

T = TypeVar("T")

# In bytes, on every usual file system.
_MAX_NAME = 255
_KEY_PREFIXES = tuple(f"{key_type}-" for key_type in KEY_TYPES)


# One per folder, for all objects that use it; removed with the last of them.
_locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
_guard = threading.Lock()


def _lock_of(folder: Path) -> threading.Lock:
    with _guard:
        return _locks.setdefault(str(folder), threading.Lock())


class _Disk:
    """Access to one folder: in a thread, one call at a time, in the order of the calls."""

    def __init__(self, folder: Path) -> None:
        self._turn = asyncio.Lock()
        # Two objects may use one folder, and a call goes on when its caller is cancelled.
        self._lock = _lock_of(folder)

    async def run(self, work: Callable[[], T]) -> T:
        async with self._turn:
            return await asyncio.to_thread(self._alone, work)

    def _alone(self, work: Callable[[], T]) -> T:
        with self._lock:
            return work()


class FolderKeyStore:
    """Baileys' ``SignalKeyStore`` on one file per key.

    Two ids may have the same file name (``a:b`` and ``a-b``). An id whose file is another id's is
    refused by `set` and absent from `get`.
    """

    def __init__(self, folder: Path, disk: _Disk, company_id: str | None) -> None:
        self._folder = folder
        self._disk = disk
        self._company_id = company_id
        self._unread: set[KeyRef] = set()
        # The key of each file whose name does not show it.
        self._owners: dict[str, KeyRef] = {}

    def __repr__(self) -> str:
        return f"FolderKeyStore({str(self._folder)!r})"

    async def get(self, type: str, ids: Sequence[str]) -> dict[str, Value]:
        """Return ``{id: value}``; an id that has no file is absent. Values are the caller's own.

        Raises:
            FolderError: a file is there but cannot be read. Its id cannot be written until a later
                `get` of it has succeeded; remove the file to have it absent.
        """
        refs = [KeyRef(type, key_id) for key_id in dict.fromkeys(ids)]
        held = [ref for ref in refs if self._has_file_of_its_own(ref)]
        found, failed = await self._disk.run(lambda: self._read(held))
        self._unread.difference_update(refs)
        self._unread.update(failed)
        if failed:
            problems = [(file_name(*ref), reason) for ref, reason in failed.items()]
            raise _unreadable(self._folder, problems)
        return found

    async def set(self, data: SignalDataSet) -> None:
        """Write values and remove the files of those that are None; it is on disk on return.

        A folder has no transactions: all values are encoded, written and synced beside their
        targets first, then take their places one by one. A crash in between leaves whole files,
        some old, some new.

        Raises:
            CodecError: a value cannot be stored as it is; nothing is written.
            UnreadKeyError: the last read of one of these ids failed; nothing is written.
            FolderError: an id has no file of its own (nothing is written), or the folder cannot be
                written.
        """
        values = {
            KeyRef(key_type, key_id): value
            for key_type, by_id in data.items()
            for key_id, value in by_id.items()
        }
        blocked = sorted(self._unread.intersection(values))
        if blocked:
            raise UnreadKeyError(self._company_id or str(self._folder), blocked)
        texts = {ref: self._text(ref, value) for ref, value in values.items() if value is not None}
        gone = [ref for ref in values if ref not in texts and self._has_file_of_its_own(ref)]
        contents = {name: texts[ref] for name, ref in self._claim(texts).items()}
        removed = [file_name(*ref) for ref in gone]
        await self._disk.run(lambda: _replace(self._folder, contents, removed))

    async def clear(self) -> None:
        """Remove the files of all keys; creds stay.

        That is every key file of a type that Baileys has, and what was written through this object.

        Raises:
            FolderError: the folder cannot be written.
        """
        await self._disk.run(self._remove_all)
        self._unread.clear()
        self._owners.clear()

    def _read(self, refs: Sequence[KeyRef]) -> tuple[dict[str, Value], dict[KeyRef, str]]:
        found: dict[str, Value] = {}
        failed: dict[KeyRef, str] = {}
        for ref in refs:
            try:
                document = read_document(self._folder / file_name(*ref))
                found[ref.key_id] = codec.decode(
                    document, company_id=self._company_id, **ref._asdict()
                )
            except FileNotFoundError:
                continue
            except (Malformed, CodecError) as exc:
                failed[ref] = exc.reason
            except OSError as exc:
                failed[ref] = f"cannot be opened ({exc.strerror})"
        return found, failed

    def _text(self, ref: KeyRef, value: Value) -> str:
        return dump_json(codec.encode(value, company_id=self._company_id, **ref._asdict()))

    def _claim(self, refs: Iterable[KeyRef]) -> dict[str, KeyRef]:
        """Return the key of each file that is about to be written."""
        claimed: dict[str, KeyRef] = {}
        for ref in refs:
            name = file_name(*ref)
            if not self._has_file_of_its_own(ref) or name in claimed:
                raise FolderError(
                    f"{ref.key_type} {ref.key_id!r} has no file of its own in {self._folder}: "
                    f"{name!r} is that of another id, or is not a file name"
                )
            claimed[name] = ref
        self._owners.update({n: ref for n, ref in claimed.items() if parse_file_name(n) is None})
        return claimed

    def _has_file_of_its_own(self, ref: KeyRef) -> bool:
        name = file_name(*ref)
        if not _is_file_name(name):
            return False
        return (parse_file_name(name) or self._owners.get(name, ref)) == ref

    def _remove_all(self) -> None:
        names = [path.name for path in self._folder.iterdir() if self._is_key_file(path.name)]
        _replace(self._folder, {}, names)

    def _is_key_file(self, name: str) -> bool:
        if name in self._owners:
            return True
        return name.startswith(_KEY_PREFIXES) and name.endswith(".json")


class FolderAuthState(Closing):
    """The auth state in a folder of Baileys' files; made by `use_multi_file_auth_state`.

    It can be used wherever an `AuthState` can.

    Attributes:
        company_id: the company whose folder this is, for error messages, or None.
        folder: the folder.
        creds: Baileys' creds under its own names, ``bytes`` for Buffers. Change it in place, or
            replace it, and call `save_creds`.
        keys: the Signal keys: `get`, `set`, `clear`.
        lease: always None: a second process can open the same folder.
        family: always ``"baileys"``.
    """

    lease = None
    family = codec.BAILEYS

    def __init__(self, folder: Path, disk: _Disk, creds: Creds, company_id: str | None) -> None:
        self.company_id = company_id
        self.folder = folder
        self.creds = creds
        self.keys = FolderKeyStore(folder, disk, company_id)
        self._disk = disk

    def __repr__(self) -> str:
        return f"FolderAuthState({str(self.folder)!r})"

    async def save_creds(self) -> None:
        """Write `creds` as they are now; they are on disk when this returns.

        Call it on every ``creds.update``.

        Raises:
            CodecError: something in creds cannot be stored as it is.
            FolderError: the folder cannot be written.
        """
        creds = codec.with_storable_names(self.creds, str(self.folder))
        text = dump_json(codec.encode_creds(creds, company_id=self.company_id))
        await self._disk.run(lambda: _replace(self.folder, {CREDS_FILE: text}))

    async def warm(self) -> int:
        """Do nothing: files are not read in advance."""
        return 0

    async def close(self) -> None:
        """Wait for writes under way."""
        await self._disk.run(lambda: None)


def use_multi_file_auth_state(
    folder: str | os.PathLike[str], *, company_id: str | None = None
) -> Opening[FolderAuthState]:
    """Open a folder of Baileys' files; ``await`` it, or enter it with ``async with``.

    A folder that is missing is made, with mode 0700. Where there is no ``creds.json``, and no copy
    of it that could be used, creds are fresh and exist in memory only until `save_creds`, as with
    Baileys. Only one process at a time may use a folder.

    Args:
        folder: the folder.
        company_id: the company whose folder this is, for error messages.

    Raises:
        FolderError: it is not a folder; its ``creds.json`` cannot be read; or there is none, but
            a whole copy of it. Such a folder is never opened as one without creds.
    """
    path = Path(os.path.realpath(folder))

    async def open_it() -> FolderAuthState:
        disk = _Disk(path)
        creds = await disk.run(lambda: _load_creds(path))
        return FolderAuthState(path, disk, creds, company_id)

    return Opening(open_it)


def _load_creds(folder: Path) -> Creds:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        document = read_document(folder / CREDS_FILE)
        return codec.decode_creds(document, company_id=None)
    except FileNotFoundError:
        return _fresh_creds(folder)
    except FileExistsError as exc:
        raise FolderError(f"{folder} is not a folder") from exc
    except (Malformed, CodecError) as exc:
        reason = exc.reason
    except OSError as exc:
        reason = f"cannot be opened ({exc.strerror})"
    names = [path.name for path in folder.iterdir()]
    advice = advice_on(folder, find_copies(folder, names), names)
    raise _unreadable(folder, [(CREDS_FILE, reason)], advice)


def _fresh_creds(folder: Path) -> Creds:
    names = [path.name for path in folder.iterdir()]
    copies = find_copies(folder, names)
    if any(copy.fault is None for copy in copies):
        raise FolderError(
            f"{folder} has no {CREDS_FILE}, but a copy of it. {advice_on(folder, copies, names)}. "
            "To link a new device instead, remove the copies",
            problems=[(CREDS_FILE, "is not there")],
        )
    if any(name.startswith(_KEY_PREFIXES) for name in names):
        logger.warning(
            "%s holds keys but no creds.json: starting a new account, as Baileys does", folder
        )
    return init_auth_creds()


def _is_file_name(name: str) -> bool:
    if "\0" in name or has_surrogates(name) or Path(name).name != name:
        return False
    return len(name.encode()) <= _MAX_NAME


def _replace(folder: Path, contents: Mapping[str, str], removed: Iterable[str] = ()) -> None:
    try:
        replace(folder, contents, removed)
    except OSError as exc:
        raise FolderError(f"cannot write to the auth folder {folder}: {exc.strerror}") from exc


def _unreadable(folder: Path, problems: Sequence[tuple[str, str]], advice: str = "") -> FolderError:
    name, reason = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return FolderError(
        f"cannot read {name!r}{more} in {folder}: it {reason}. {advice}".removesuffix(". "),
        problems=problems,
    )
