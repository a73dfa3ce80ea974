"""``make screenshots``: the pictures of the dashboard that the documentation shows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from devstack import LocalStack

from .world import fill, serving

PICTURES = Path(__file__).parents[2] / "docs" / "images"
LARGEST = 150_000
"""Bytes of a picture in the repository."""

SHOTS = [
    ("overview", "/", "light", {"width": 1100, "height": 800}),
    ("overview-dark", "/", "dark", {"width": 1100, "height": 800}),
    ("companies", "/companies?sort=bytes&order=down", "light", {"width": 1100, "height": 640}),
    ("company", "/company?id=device&doctor=1", "light", {"width": 1100, "height": 860}),
    ("capacity", "/capacity", "light", {"width": 1100, "height": 800}),
    ("phone", "/", "dark", {"width": 375, "height": 900}),
]


def main() -> None:
    """Take them."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalStack.start(migrate=True) as stack,
        sync_playwright() as playwright,
    ):
        fill(stack)
        with serving(stack, Path(folder)) as address:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, path, scheme, size in SHOTS:
                page = browser.new_page(color_scheme=scheme, viewport=size)  # type: ignore[arg-type]
                page.goto(f"{address}{path}")
                picture = PICTURES / f"dashboard-{name}.png"
                page.screenshot(path=picture)
                if picture.stat().st_size > LARGEST:
                    raise SystemExit(f"{picture} is larger than {LARGEST} bytes")
                page.close()
            browser.close()


if __name__ == "__main__":
    main()
