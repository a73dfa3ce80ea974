from __future__ import annotations

import io
import tarfile

import pytest

from supabase_auth_state.transfer.tarball import Member, tarball

LONG = "é" * 120 + ".json"


@pytest.mark.parametrize(
    "members",
    [
        [],
        [("auth/creds.json", b"{}", 1_700_000_000.9)],
        [("empty", b"", 0.0), ("block", bytes(512), 1.0), ("more", bytes(513), 2.0)],
        [(LONG, b"1", 3.0), ("x" * 100, b"2", 4.0), ("x" * 101, b"3", 5.0), ("after", b"4", 6.0)],
        [("before 1970", b"1", -1.0)],
    ],
    ids=["nothing", "a file", "sizes", "long names", "old"],
)
def test_tarfile_reads_what_was_written(members: list[Member]) -> None:
    with tarfile.open(fileobj=io.BytesIO(tarball(members)), mode="r:") as archive:
        found = [
            (info.name, archive.extractfile(info).read(), info.mtime)  # type: ignore[union-attr]
            for info in archive
        ]
        assert all(info.mode == 0o600 and info.isreg() for info in archive.getmembers())
    assert found == [(name, content, max(int(time), 0)) for name, content, time in members]


def test_the_same_files_make_the_same_archive() -> None:
    members = [("a", b"1", 1.0), ("b", b"2", 2.0)]
    assert tarball(members) == tarball(iter(members))
