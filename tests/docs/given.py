"""What a page takes for given: a folder that Baileys wrote, a company that is stored."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from tests.acceptance.command import Command
from tests.values import BAILEYS

COMPANY = "962302"
"""The company of the pages. When they are run, each page has a company of its own in its place."""


class Given:
    """Makes what a page takes for given, in the folder in which the page is run."""

    def __init__(self, command: Command, company_id: str) -> None:
        self.command = command
        self.company_id = company_id

    def folder(self, path: str, sample: str = "v7-small") -> None:
        """Put a folder that Baileys wrote there, last used an hour ago."""
        folder = Path(shutil.copytree(BAILEYS / sample, self.command.cwd / path))
        changed = time.time() - 3600
        for file in folder.iterdir():
            os.utime(file, (changed, changed))

    def company(self, company_id: str | None = None) -> None:
        """Store a company."""
        folder = f"given/{company_id or self.company_id}"
        if not (self.command.cwd / folder).exists():
            self.folder(folder)
        done = self.command("import", folder, "--company", company_id or self.company_id)
        assert done.code == 0, done.err

    def forget(self) -> None:
        """Remove the company of the page."""
        done = self.command(
            "delete", "--company", self.company_id, "--yes", "--backup-dir", "given"
        )
        assert done.code == 0, done.err
