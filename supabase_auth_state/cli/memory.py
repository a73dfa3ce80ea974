"""Keeping what a command holds in memory from other processes and from the disk."""

from __future__ import annotations

import sys

_PR_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """Have no core dump written, and let no other process of this user read this one's memory.

    A command holds the service key and private keys. On Linux only; other systems go on without.
    Source: prctl(2), ``PR_SET_DUMPABLE``; it also hides ``/proc/<pid>/environ``.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    try:
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (OSError, AttributeError):  # a system without a C library to load
        return
