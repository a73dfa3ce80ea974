"""What a command holds in memory stays there, and no secret is given by a flag."""

from __future__ import annotations

import re
import subprocess
import sys

from supabase_auth_state.cli.main import build_parser

PR_GET_DUMPABLE = 3
PROGRAM = f"""
import ctypes
from supabase_auth_state.cli.main import main
print(ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}, 0, 0, 0, 0))
try:
    main(["--version"])
except SystemExit:
    print(ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}, 0, 0, 0, 0))
"""


def test_a_command_leaves_no_core_dump_and_shows_its_memory_to_no_other_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    before, *_, after = ended.stdout.splitlines()
    assert before != "0"  # unless it is asked for
    assert after == "0"


def test_no_option_takes_a_secret() -> None:
    parsers = [build_parser()]
    options = []
    while parsers:
        parser = parsers.pop()
        for action in parser._actions:
            options += action.option_strings
            if isinstance(action.choices, dict):
                parsers += action.choices.values()
    assert "--company" in options
    secret = re.compile(r"key|secret|token|password|jwt|url|header")
    # A project's address is none; what ends in -env names a variable of the environment.
    named = [each for each in options if not each.endswith("-env") and each != "--to-url"]
    assert [each for each in named if secret.search(each.replace("pre-key", ""))] == []
