"""A tar archive of small files. Pure.

``tarfile`` takes longer to describe a file of Baileys' than it takes to read, check and store it.

Source: the ustar format of POSIX.1-1988, with GNU tar's ``././@LongLink`` for long names.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

Member = tuple[str, bytes, float]
"""Name, content and time of change of a file."""

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_NAME_LENGTH = 100
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_MAGIC = b"ustar  \0"


def tarball(members: Iterable[Member]) -> bytes:
    """Return an archive of files with mode 0600, which nobody owns; times in whole seconds."""
    parts = []
    for name, content, changed in members:
        encoded = name.encode("utf-8", "surrogateescape")
        if len(encoded) > _NAME_LENGTH:
            parts += _member(b"././@LongLink", encoded + b"\0", 0, b"L")
        parts += _member(encoded[:_NAME_LENGTH], content, int(changed), b"0")
    return b"".join([*parts, _END])


def _member(name: bytes, content: bytes, changed: int, kind: bytes) -> list[bytes]:
    varying = name, b"%011o\0" % len(content), b"%011o\0" % max(changed, 0), kind
    checksum = b"%06o\0 " % (_FIXED_SUM + sum(b"".join(varying)))
    return [_header(*varying, checksum), content, bytes(-len(content) % _BLOCK)]


def _header(name: bytes, size: bytes, changed: bytes, kind: bytes, checksum: bytes) -> bytes:
    return _HEADER.pack(
        name, b"0000600\0", b"0000000\0", b"0000000\0", size, changed, checksum, kind, b"", _MAGIC,
        b"", b"", b"", b"", b"",
    )  # fmt: skip


# The checksum is that of the header with spaces in its own place.
_FIXED_SUM = sum(_header(b"", b"", b"", b"\0", b" " * 8))
