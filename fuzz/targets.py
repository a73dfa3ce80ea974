"""What must hold for any bytes at all; each target returns, or raises what a fuzzer reports.

The first bytes choose the case, the others are the input. Errors of this library are right answers;
an error of another kind, a value that changes on its way, or an error that quotes its input is not.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from nacl.secret import SecretBox

from supabase_auth_state import codec
from supabase_auth_state.cli.main import build_parser
from supabase_auth_state.codec import Malformed
from supabase_auth_state.config import Settings
from supabase_auth_state.errors import CodecError, ConfigurationError, FolderError, StoreError
from supabase_auth_state.files.names import file_name, parse_file_name
from supabase_auth_state.files.reading import parse_document
from supabase_auth_state.files.single_file import read_single_file
from supabase_auth_state.rest.answers import (
    Answer,
    NoReceipt,
    NotTheAnswer,
    result_of,
    stored,
    with_receipt,
)
from supabase_auth_state.rest.responses import refusal
from supabase_auth_state.store.journal import opened, sealed
from supabase_auth_state.types import KEY_TYPES

Target = Callable[[bytes], None]

SECRET = "planted-secret"  # noqa: S105 - it is searched for
"""Wherever it is in the input, no error may say it."""

STATUSES = (200, 201, 204, 302, 400, 401, 402, 403, 404, 406, 408, 409, 429, 500, 503, 544)
VARIABLES = (
    "SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEY", "SUPABASE_SCHEMA",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
WORDS = (
    "import", "export", "verify", "doctor", "stats", "cleanup", "restore", "delete", "--company",
    "--all", "--json", "--each", "--force", "--yes", "-v", "lease", "status", "-",
)  # fmt: skip
LONGEST = 10**11
"""Seconds since 1970 that are no time of a database any more."""


def document(data: bytes) -> None:
    """A file's bytes are a document that is written and read back the same, or refused."""
    try:
        value = parse_document(data)
    except (FolderError, CodecError, Malformed) as error:
        _says_nothing(error)
        return
    same = parse_document(codec.dump_json(value).encode())
    _require(_same(value, same), "a document was written otherwise than it was read")


def stored_value(data: bytes) -> None:
    """A row's value is read as a value that is stored again as what means the same, or refused."""
    key_type = KEY_TYPES[_first(data) % len(KEY_TYPES)]
    family = ("baileys", "pyaileys")[_first(data) % 2]
    try:
        value = json.loads(data[1:])
    except (ValueError, RecursionError):
        return
    names = {"company_id": "c", "key_type": key_type, "key_id": "1", "family": family}
    try:
        read = codec.decode(value, **names)
        again = codec.decode(codec.encode(read, **names), **names)
    except CodecError as error:
        _says_nothing(error)
        return
    _require(_same(read, again), "a value changed when it was stored again")


def name_of_file(data: bytes) -> None:
    """A file's name is a key's whose file has this name, or no key's; a key has one file."""
    text = data.decode("utf-8", "surrogateescape")
    ref = parse_file_name(text)
    if ref is not None:
        _require(file_name(ref.key_type, ref.key_id) == text, "a file's name leads to another file")
    key_type = KEY_TYPES[_first(data) % len(KEY_TYPES)]
    with contextlib.suppress(FolderError, CodecError):
        made = file_name(key_type, text)
        _require("/" not in made and made not in {".", ".."}, "a key's file is elsewhere")


def single_file(data: bytes) -> None:
    """The one file of `useSingleFileAuthState` is read, or refused."""
    path = _scratch_file()
    path.write_bytes(data)
    try:
        read_single_file(path)
    except (FolderError, CodecError, Malformed) as error:
        _says_nothing(error)


@cache
def _scratch_file() -> Path:
    """Give one file for all inputs, in a folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="fuzz-")
    atexit.register(shutil.rmtree, folder)
    return Path(folder, "single-file.json")


def answer(data: bytes) -> None:
    """An answer of any server is the one to this request, or none, or a refusal in our words."""
    status = STATUSES[_first(data) % len(STATUSES)]
    head, _, content = data[1:].partition(b"\n")
    names = ("x-whatsapp-receipt", "preference-applied", "content-type", "retry-after")
    values = head.decode("latin-1").split("\t")
    got = Answer(status, dict(zip(names, values, strict=False)), content)
    for read in (
        stored,
        with_receipt(stored),
        result_of(orjson.loads, lambda found: found["company_id"] == "c"),
    ):
        with contextlib.suppress(NotTheAnswer, NoReceipt):
            read(got)
    for time in (got.late_at, got.receipt.time if got.receipt else None):
        _require(
            time is None or (math.isfinite(time) and 0 <= time < LONGEST), "a clock was set wrong"
        )
    if status >= 400 and isinstance(got.json, Mapping):
        body = {**got.json, "details": SECRET}
        _says_nothing(refusal("a request", status, body))


def settings(data: bytes) -> None:
    """The environment's values are settings, or refused without the key."""
    values = data.decode("utf-8", "replace").replace("\0", "").split("\n")
    env = dict(zip(VARIABLES, values, strict=False))
    if "SUPABASE_SERVICE_ROLE_KEY" in env:
        env["SUPABASE_SERVICE_ROLE_KEY"] += SECRET
    try:
        repr(Settings.from_env(env))
    except ConfigurationError as error:
        _says_nothing(error)


def arguments(data: bytes) -> None:
    """A command line is understood, or refused with the exit code 2, or answered with help."""
    words = data.decode("utf-8", "surrogateescape").split("\n")
    line = [WORDS[ord(word[0]) % len(WORDS)] if len(word) == 1 else word for word in words]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            _parser().parse_args(line)
        except SystemExit as end:
            _require(end.code in {0, 2}, "a command line ended otherwise than with 0 or 2")


def journal(data: bytes) -> None:
    """A journal that was changed gives what was written up to a place, or is refused.

    Each four bytes of the input are a change: what is done, where (two bytes), and with what.
    """
    box, records = _journal()
    changed = bytearray(b"".join(records))
    for one in range(0, min(len(data), _MOST_CHANGES) - 3, 4):
        what, where, by = data[one], int.from_bytes(data[one + 1 : one + 3], "big"), data[one + 3]
        place = where % (len(changed) + 1)
        if what % 5 == 0:
            del changed[place:]
        elif what % 5 == 1 and place < len(changed):
            changed[place] ^= by
        elif what % 5 == 2:
            changed[place:place] = records[by % len(records)]
        elif what % 5 == 3:
            del changed[place : place + by]
        else:
            changed += bytes([by]) * (where % 99)
    try:
        found, end = opened(box, bytes(changed))
    except ValueError as error:
        _says_nothing(error)
        return
    _require(found == _WRITTEN[: len(found)], "a journal gives what was not written")
    left_out = any(record in changed[end:] for record in records)
    _require(not left_out, "a whole record of a journal was left out")


_MOST_CHANGES = 64
"""Bytes of the input of `journal` that are looked at."""

_WRITTEN: list[Any] = [
    ["c", "w", 1, 2.5],
    {"keys": [["session", "1.0", SECRET]], "creds": None, "clear": False},
    1,
    {"keys": [], "creds": SECRET, "clear": True},
]


@cache
def _journal() -> tuple[SecretBox, list[bytes]]:
    box = SecretBox(bytes(SecretBox.KEY_SIZE))
    return box, [sealed(box, number, content) for number, content in enumerate(_WRITTEN)]


TARGETS: Mapping[str, Target] = {
    "document": document,
    "stored-value": stored_value,
    "file-name": name_of_file,
    "single-file": single_file,
    "answer": answer,
    "settings": settings,
    "arguments": arguments,
    "journal": journal,
}
"""By the name that `make fuzz` prints."""


class Broken(AssertionError):
    """Something did not hold."""


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


@cache
def _parser() -> argparse.ArgumentParser:
    return build_parser()


def _first(data: bytes) -> int:
    return data[0] if data else 0


def _says_nothing(error: BaseException) -> None:
    _require(SECRET not in f"{error} {error!r} {vars(error)}", "an error quotes its input")
    _require(error.__cause__ is None, "an error carries another one")
    if isinstance(error, StoreError):
        str(error).encode("utf-8", "surrogateescape")


def _same(one: Any, other: Any) -> bool:
    """Tell equality where a number that is none equals itself, and True is not 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
