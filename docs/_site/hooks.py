"""Files of the repository that are pages of the site too, and links between both.

A link is written so that it works where the file is read in the repository. On the site, a link to
a file that is a page leads to that page, and a link to any other file is the file's name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.ru.md": "ru/index.md",
    "benchmarks/results/report.md": "report.md",
    "examples/node/README.md": "node.md",
}
"""Files outside of docs/, and the pages that they are."""

PAGE_OF = {**PAGES, "README.md": "index.md", "SECURITY.md": "security.md"}
"""Files outside of docs/, and the pages that a link to them leads to."""

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#:]*)(#[^)\s]*)?\)")
FROM_ELSEWHERE = re.compile(
    r"""<(script|link|img|iframe|source)\b[^>]*(src|href)=["']?(https?:)?//[^>]*>"""
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are files of the repository."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, **_given: object) -> str:
    """Turn links to files of the repository into links of the site."""
    here = page.file.src_uri
    source = next((outside for outside, uri in PAGES.items() if uri == here), f"docs/{here}")
    fences = [range(*found.span()) for found in FENCE.finditer(markdown)]

    def turned(link: re.Match[str]) -> str:
        text, path, anchor = link[1], link[2], link[3] or ""
        if not path or any(link.start() in fence for fence in fences):
            return link[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        uri = PAGE_OF.get(target, target.removeprefix("docs/"))
        if target.startswith("docs/") or target in PAGE_OF:
            relative = posixpath.relpath(uri, posixpath.dirname(here) or ".")
            return f"[{text}]({relative}{anchor})"
        if not (ROOT / target).exists():
            return link[0]  # a dead link, which the strict build reports
        return f"{text} (`{target}`)" if text != f"`{target}`" else text

    return LINK.sub(turned, markdown)


def on_post_page(output: str, page: Page, **_given: object) -> str:
    """Refuse a page that makes a browser load something from another host."""
    loaded = FROM_ELSEWHERE.search(output)
    if loaded:
        raise PluginError(f"{page.file.src_uri} loads from another host: {loaded[0]}")
    return output
