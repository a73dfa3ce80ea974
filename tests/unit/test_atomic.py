"""Reading a file of a folder, whatever size it was a moment ago."""

from __future__ import annotations

from pathlib import Path

import pytest

from supabase_auth_state.files.atomic import read_content


@pytest.mark.parametrize("expected", [0, 1, 49_999, 50_000, 50_001, 100_000])
def test_all_of_a_file_is_read_though_it_has_grown_or_shrunk(tmp_path: Path, expected: int) -> None:
    content = bytes(range(250)) * 200
    (tmp_path / "pre-key-1.json").write_bytes(content)
    assert read_content(tmp_path, "pre-key-1.json", expected) == content


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "pre-key-1.json").touch()
    assert read_content(tmp_path, "pre-key-1.json", 0) == b""


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_content(tmp_path, "pre-key-1.json", 0)
