"""What the tests of the command line share."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack import Stack
from tests.acceptance.command import Command
from tests.values import BAILEYS

Sample = Callable[..., Path]


@pytest.fixture
def run(stack: Stack, tmp_path: Path) -> Command:
    """The installed command, with the stack in its environment."""
    return command_for(stack, tmp_path)


def command_for(stack: Stack, cwd: Path) -> Command:
    """The installed command, with a stack of one's own in its environment."""
    environ = {"SUPABASE_URL": stack.url, "SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key}
    return Command(cwd, environ)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """Copy a folder that Baileys wrote, last used an hour ago: `sample("v7-small", "auth")`."""

    def copy(name: str, as_name: str = "auth") -> Path:
        folder = Path(shutil.copytree(BAILEYS / name, tmp_path / as_name))
        changed = time.time() - 3600
        for path in folder.iterdir():
            os.utime(path, (changed, changed))
        return folder

    return copy
