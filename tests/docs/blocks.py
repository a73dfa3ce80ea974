"""The fenced blocks of a Markdown page, and what comments before them say about running them.

A block is run as it stands. A comment directly above it, which readers of the page do not see, says
what else is needed:

    <!-- setup: code -->        Python that is run before the block; see `tests.docs.given`
    <!-- check: code -->        Python that is run after it
    <!-- exits: 3 -->           the exit code of the block's last command
    <!-- not run: reason -->    why the block cannot be run here
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]

OUTPUT = ("", "text")
"""Languages of blocks that show something and are no commands."""

_COMMENT = r"<!--\s*(?P<name>setup|check|exits|not run):(?P<said>.*?)-->\n+"
_BLOCK = re.compile(
    r"(?P<comments>(?:^ *<!--(?:(?!-->).)*-->\n+)*)"
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: the page's path in the repository.
        line: the line of the page on which the block begins.
        language: what follows the fence, or empty.
        code: the text between the fences, without the indent of the fence.
        setup: Python to run before.
        check: Python to run after.
        exits: the exit code of its last command.
        not_run: why it cannot be run, or empty.
    """

    page: str
    line: int
    language: str
    code: str
    setup: str = ""
    check: str = ""
    exits: int = 0
    not_run: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page of the repository."""
    text = (ROOT / page).read_text()
    return [_block(page, text, found) for found in _BLOCK.finditer(text)]


def _block(page: str, text: str, found: re.Match[str]) -> Block:
    said = {
        comment["name"]: dedent(comment["said"]).strip()
        for comment in re.finditer(_COMMENT, found["comments"], re.DOTALL)
    }
    return Block(
        page=page,
        line=text.count("\n", 0, found.start("language")) + 1,
        language=found["language"],
        code=dedent(found["code"]),
        setup=said.get("setup", ""),
        check=said.get("check", ""),
        exits=int(said.get("exits", 0)),
        not_run=said.get("not run", ""),
    )


def pages() -> list[str]:
    """Return all pages that are written by hand, in both languages."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "examples/node/README.md"]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def without_comments(code: str) -> list[str]:
    """Return the lines of a block that do something: comments are in the reader's language."""
    lines = (re.sub(r"(^|\s+)(#|//|--) .*$", "", line).rstrip() for line in code.splitlines())
    return [line for line in lines if line]
