"""Python source as a syntax tree."""

from __future__ import annotations

import ast
import gc
from pathlib import Path


def tree_of(source: Path | str) -> ast.Module:
    """Parse a file, or a text.

    The garbage collector rests meanwhile. When it deletes a task whose exception was never looked
    at, asyncio logs a traceback, which parses as well, and before 3.11.8 and 3.12.2 two parsers
    count their depth together: `SystemError: AST constructor recursion depth mismatch`.
    """
    text = source.read_text() if isinstance(source, Path) else source
    resting = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        if resting:
            gc.enable()
