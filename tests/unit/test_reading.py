"""Reading one file of an auth folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state.codec import Malformed
from supabase_auth_state.files.reading import (
    parse_document,
    read_content,
    reason_of,
    refuse_json_in_text,
)


@pytest.mark.parametrize("expected", [0, 1, 20_000, 20_001, 100_000])
def test_all_of_a_file_is_read_whatever_size_it_is_expected_to_have(
    tmp_path: Path, expected: int
) -> None:
    content = bytes(20_000)
    (tmp_path / "file").write_bytes(content)
    assert read_content(tmp_path, "file", expected) == content


@pytest.mark.parametrize(
    ("content", "document"),
    [
        (b'{"a":1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b' {"a": "\xc3\xa4"}\r\n', {"a": "ä"}),
    ],
)
def test_utf_8_is_read_with_and_without_a_byte_order_mark(content: bytes, document: Any) -> None:
    assert parse_document(content) == document


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (bytes(100), "holds only zero bytes, as after a power failure"),
        (b"\xef\xbb\xbf", "is not JSON"),
        ('{"a":1}'.encode("utf-16"), "is UTF-16 text"),
        ('{"a":1}'.encode("utf-16-le"), "is UTF-16 text"),
        ('{"a":1}'.encode("utf-16-be"), "is UTF-16 text"),
        ("\ufeff[]".encode("utf-16-be"), "is UTF-16 text"),
        ('{"a":1}'.encode("utf-32"), "is UTF-32 text"),
        ("\ufeff{}".encode("utf-32-be"), "is UTF-32 text"),
        (b'{"a":"\xe4"}', "is not UTF-8"),
        (b'{"a":', "is not JSON"),
        (b'{"a":1,"a":1}', "is JSON with the same name twice in one object"),
        (b'{"a":1e999}', "is JSON with a number that is not finite"),
        (b"[" * 100_000, "is JSON nested too deeply"),
    ],
)
def test_what_is_no_json_file_is_refused_with_the_true_reason(content: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_document(content)
    assert caught.value.reason.startswith(reason)
    # Nothing of the file travels with the error.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("document", ['{"a":1}', "[1]", '"200000000000100"'])
def test_json_inside_a_json_string_is_refused_by_its_name(document: str) -> None:
    with pytest.raises(Malformed, match="encoded twice"):
        refuse_json_in_text(document)


@pytest.mark.parametrize("document", ["200000000000100", "", {"a": "{"}, ["["], 1, None])
def test_any_other_document_is_not_encoded_twice(document: Any) -> None:
    refuse_json_in_text(document)


def test_a_reason_has_the_place_before_it() -> None:
    assert reason_of(Malformed("is bad", "\ud83d", "\x1b[31m")) == "\\x1b[31m.\\ud83d: is bad"
    assert reason_of(Malformed("is missing", "public", "keyPair")) == "keyPair.public: is missing"
