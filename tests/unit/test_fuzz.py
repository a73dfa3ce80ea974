"""Bad input of every kind: no foreign exception, no wrong value, no content in an error.

How many inputs a run tries is bounded, so that it takes some seconds; see tests/length.py.
"""

from __future__ import annotations

import copy
import json
import traceback
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supabase_auth_state import codec
from supabase_auth_state.codec import Malformed, dump_json, parse_json
from supabase_auth_state.errors import CodecError, FolderError, printable
from supabase_auth_state.files.entries import Entry, entry_of_file, entry_of_folder
from supabase_auth_state.files.folder import FolderContents, read_files
from supabase_auth_state.files.formats import format_of_file, format_of_folder, is_telling
from supabase_auth_state.files.names import file_name, parse_file_name
from supabase_auth_state.files.reading import parse_document
from supabase_auth_state.files.single_file import read_single_file
from supabase_auth_state.types import KEY_TYPES, KeyRef
from tests.length import LENGTH
from tests.single_file import single_file
from tests.values import BAILEYS, auth_rows, rows, same

SECRET = "planted-secret"
FAMILIES = st.sampled_from(["baileys", "pyaileys"])

FILES = {path.name: path.read_bytes() for path in sorted((BAILEYS / "v7-small").iterdir())}
STORED = [
    (ref, json.loads(content))
    for name, content in FILES.items()
    if (ref := parse_file_name(name)) is not None
] + [(KeyRef(row["key_type"], row["key_id"]), row["value"]) for row in rows()]
CREDS = [json.loads(FILES["creds.json"])] + [row["creds"] for row in auth_rows()]
SINGLE_FILE = single_file(BAILEYS / "v6-small")


# A long run takes its time; see tests/unit/conftest.py.
pytestmark = pytest.mark.timeout(60 * max(1, LENGTH))


def tries(number: int) -> settings:
    """Try so many inputs, or in a long run more."""
    return settings(max_examples=max(1, int(number * LENGTH)))


# Inputs

TEXTS = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    [SECRET, "", "\0", "\ud83d", "Buffer", "AQID", "{", '{"a":1}', "[]", '"1"', "1e999", "\ufeff"]
)
NUMBERS = (
    st.integers(-(2**65), 2**65)
    | st.floats()
    | st.sampled_from([0, 1, 255, 256, 2**53, 2**64, 1e16, 1e22, -0.0])
)
JSON_LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
# Names inside a value are told as places; what is secret are the values.
NAMES = TEXTS.filter(lambda text: SECRET not in text) | st.sampled_from(
    ["type", "data", "value", "buffer", "0", "1", "private", "me"]
)
JSON_VALUES = st.recursive(
    JSON_LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


class Odd:
    """An object that nothing can store, and that says a secret."""

    def __repr__(self) -> str:
        return SECRET

    def __eq__(self, other: object) -> bool:
        raise ValueError(SECRET)

    __hash__ = None  # type: ignore[assignment]


PYTHON_VALUES = st.recursive(
    JSON_LEAVES
    | st.binary(max_size=40)
    | st.sampled_from([Odd(), object, (1,), {1}, 1j, bytearray(b"x"), memoryview(b"xy"), b"[]"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            NAMES | st.integers() | st.none() | st.binary(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=8,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every object or list inside a JSON value, with each of its names or indices."""
    found: list[tuple[Any, Any]] = []
    inside = [value]
    while inside:
        node = inside.pop()
        if isinstance(node, dict | list):
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            found += [(node, key) for key in keys]
            inside += [node[key] for key in keys]
    return found


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> Any:
    """A document of Baileys' with some places replaced, removed, added to or written otherwise."""
    document = [copy.deepcopy(draw(whole))]
    for _ in range(draw(st.integers(1, 3))):
        node, key = draw(st.sampled_from(places(document)))
        change = draw(st.sampled_from(["replace", "remove", "add", "text", "numbers", "cut"]))
        if change == "remove" and node is not document:
            del node[key]
        elif change == "add" and isinstance(node, dict):
            node[draw(NAMES)] = draw(JSON_VALUES)
        elif change == "text":
            node[key] = json.dumps(node[key])
        elif change == "numbers" and isinstance(node[key], str):
            node[key] = draw(st.lists(st.integers(-1, 256), max_size=40))
        elif change == "cut" and isinstance(node[key], str):
            node[key] = node[key][: draw(st.integers(0, 50))]
        else:
            node[key] = draw(JSON_VALUES)
    return document[0]


@st.composite
def damaged_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file of Baileys' that was torn, overwritten, marked or written in another encoding."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 40)))
        content[start:end] = draw(
            st.binary(max_size=20) | st.sampled_from([b"\0" * 30, b'"', b"}"])
        )
    made = bytes(content)
    how = draw(st.sampled_from(["as it is", "torn", "marked", "utf-16", "twice"]))
    if how == "torn":
        return made[: draw(st.integers(0, len(made)))]
    if how == "marked":
        return b"\xef\xbb\xbf" + made
    if how == "utf-16":
        return made.decode("latin-1").encode("utf-16")
    return json.dumps(made.decode("latin-1")).encode() if how == "twice" else made


# What must hold


def told_nothing(error: BaseException) -> None:
    """An error, and all that it leads to, has nothing of the value."""
    told = "".join(traceback.format_exception(error)) + repr(vars(error))
    assert SECRET not in told
    assert error.__cause__ is None
    assert str(error).encode()  # it can be printed


def says_little(error: Malformed) -> None:
    """A reason is a few words of ours."""
    assert error.__context__ is None
    assert len(error.reason) < 80


def storable(value: Any) -> None:
    """PostgreSQL takes this as JSONB: no NUL, no half surrogate pair, no number without an end."""
    stored = orjson.loads(orjson.dumps(value))
    for node, key in places([stored]):
        assert "\0" not in str(key)
        assert type(node[key]) is not str or "\0" not in node[key]


@tries(100)
@given(
    st.sampled_from(STORED).flatmap(
        lambda row: st.tuples(st.just(row[0]), damaged(st.just(row[1])) | JSON_VALUES)
    ),
    FAMILIES,
)
def test_a_stored_value_is_read_right_or_refused(row: tuple[KeyRef, Any], family: str) -> None:
    ref, stored = row
    names = {"company_id": "c", "family": family, **ref._asdict()}
    before = copy.deepcopy(stored)
    try:
        value = codec.decode(stored, **names)
    except CodecError as error:
        told_nothing(error)
        return
    assert same(stored, before)
    try:
        encoded = codec.encode(value, **names)
    except CodecError as error:
        # What came from JSONB and cannot go there again: half surrogates and NUL were never in it.
        told_nothing(error)
        return
    storable(encoded)
    assert same(codec.decode(orjson.loads(orjson.dumps(encoded)), **names), value)


@tries(60)
@given(damaged(st.sampled_from(CREDS)) | JSON_VALUES, FAMILIES)
def test_stored_creds_are_read_right_or_refused(stored: Any, family: str) -> None:
    try:
        creds = codec.decode_creds(stored, company_id="c", family=family)
        encoded = codec.encode_creds(creds, company_id="c", family=family)
    except CodecError as error:
        told_nothing(error)
        return
    storable(encoded)
    again = codec.decode_creds(encoded, company_id="c", family=family)
    assert same(again, codec.with_storable_names(creds, "x"))
    try:
        codec.check_creds(creds, company_id="c")
    except CodecError as error:
        told_nothing(error)


@tries(120)
@given(PYTHON_VALUES, st.sampled_from([*KEY_TYPES, "of tomorrow"]), FAMILIES)
@example({"type": Odd()}, "session", "baileys")
@example([Odd()], "device-list", "baileys")
def test_a_caller_s_value_is_stored_right_or_refused(
    value: Any, key_type: str, family: str
) -> None:
    ref = (key_type, "1")
    try:
        text = codec.encode_texts({ref: value}, company_id="c", family=family)[ref]
    except CodecError as error:
        told_nothing(error)
        return
    stored = orjson.loads(text)
    storable(stored)
    names = {"company_id": "c", "family": family, "key_type": key_type, "key_id": "1"}
    assert same(codec.decode(stored, **names), as_bytes(value))


def as_bytes(value: Any) -> Any:
    """A value with bytes for everything that is bytes-like."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, dict):
        return {name: as_bytes(child) for name, child in value.items()}
    return [as_bytes(child) for child in value] if isinstance(value, list) else value


FRAGMENTS = st.sampled_from(
    [*(f"{key_type}-" for key_type in KEY_TYPES), "creds", ".json", "__index", "::", "--", "@g.us",
     "@lid", "_reverse", "\0", "/", "..", "~", ".tmp", "\ud83d", "\N{ARABIC-INDIC DIGIT ONE}",
     "\n", "creds.json"]
)  # fmt: skip
ANY_NAME = st.lists(FRAGMENTS | st.text(max_size=4), max_size=6).map("".join)


@tries(150)
@given(ANY_NAME, ANY_NAME)
def test_any_name_is_classified_and_any_id_leads_back_or_to_no_key(name: str, key_id: str) -> None:
    ref = parse_file_name(name)
    assert ref is None or file_name(*ref) == name
    assert (entry_of_file(name) is Entry.VALUE) == (ref is not None or name == "creds.json")
    assert entry_of_folder(name) in {Entry.OTHER, Entry.UNKNOWN}
    for key_type in KEY_TYPES:
        found = parse_file_name(file_name(key_type, key_id))
        assert found is None or file_name(*found) == file_name(key_type, key_id)


@tries(100)
@given(st.dictionaries(ANY_NAME, st.binary(max_size=60), max_size=4), st.binary(max_size=60))
def test_any_folder_and_file_has_a_known_format_or_none(
    heads: dict[str, bytes], head: bytes
) -> None:
    for name, content in heads.items():
        assert is_telling(name) in {True, False}
        format_of_file(name, content + head)
    format_of_folder(list(heads), heads)


def whole(contents: FolderContents) -> None:
    """All that was understood can be stored, and is the same when it is read again."""
    for key in contents.keys:
        names = {"company_id": None, **key.ref._asdict()}
        codec.check(key.value, **names)
        assert same(codec.decode(key.document, **names), key.value)
        storable(key.document)
    if contents.creds is not None:
        codec.check_creds(contents.creds, company_id=None)
        storable(contents.creds_document)
        decoded = codec.decode_creds(contents.creds_document, company_id=None)
        assert same(decoded, contents.creds)
    told = [contents.advice, *contents.ignored, *contents.leftovers]
    told += [part for problem in contents.problems for part in problem]
    assert all(text.encode() is not None and SECRET not in text for text in told)


@st.composite
def some_files(draw: st.DrawFn) -> dict[str, tuple[bytes, float]]:
    """A few files of an auth folder, damaged, under their names or others."""
    found = {}
    for name in draw(st.lists(st.sampled_from(sorted(FILES)), max_size=4, unique=True)):
        content = draw(damaged_bytes(FILES[name]))
        found[draw(st.just(name) | st.sampled_from(sorted(FILES)) | ANY_NAME)] = (content, 1.0)
    return found


@tries(100)
@given(some_files())
def test_the_files_of_a_folder_are_understood_or_reported(
    files: dict[str, tuple[bytes, float]],
) -> None:
    contents = read_files(files)
    whole(contents)
    understood = [file_name(*key.ref) for key in contents.keys]
    creds = ["creds.json"] if contents.creds is not None else []
    reported = [name for name, _ in contents.problems]
    everything = understood + creds + reported + contents.ignored + contents.leftovers
    assert sorted(everything) == sorted(map(printable, files))
    for key in contents.keys:
        content = files[file_name(*key.ref)][0].removeprefix(b"\xef\xbb\xbf")
        assert same(json.loads(content), key.document)


@tries(60)
@given(
    content=damaged(st.just(SINGLE_FILE)).map(json.dumps).map(str.encode) | st.binary(max_size=60)
)
@example(content=b'{"creds":' + b"[" * 3000)
def test_a_single_file_is_understood_or_refused(tmp_path_factory: Any, content: bytes) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / "single.json"
    file.write_bytes(content)
    try:
        contents = read_single_file(file)
    except FolderError as error:
        told_nothing(error)
        return
    whole(contents)


JSON_TEXTS = (
    JSON_VALUES.map(lambda value: json.dumps(value, ensure_ascii=False))
    | st.text(alphabet='{}[]":,.-+eE0123456789 \\utrnfalsb\ufeff\ud83d\0', max_size=40)
    | st.sampled_from(["[" * 5000, '{"a":' * 3000, "9" * 5000, '{"a":1,"a":2}', "[1e999]", "NaN"])
)


@tries(120)
@given(JSON_TEXTS)
def test_json_text_is_parsed_right_or_refused(text: str) -> None:
    try:
        document = parse_json(text)
    except Malformed as error:
        says_little(error)
        return
    assert same(json.loads(text), document)
    assert same(json.loads(dump_json(document)), document)


@tries(120)
@given(st.binary(max_size=40) | JSON_TEXTS.map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_document_or_refused(content: bytes) -> None:
    try:
        document = parse_document(content)
    except Malformed as error:
        says_little(error)
        return
    assert same(json.loads(content.decode("utf-8-sig")), document)
