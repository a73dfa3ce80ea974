"""Print the notes of a release, from CHANGELOG.md: `python -m devstack.release_notes 0.4.0`.

Fails when the package has another version than the one asked for, or the changelog has no dated
entry of it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from devstack.binaries import DevstackError
from supabase_auth_state import __version__

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def release_notes(changelog: str, version: str) -> str:
    """Return the entry of a version, without its heading.

    Args:
        changelog: the changelog's text.
        version: the version.

    Raises:
        DevstackError: there is no entry of it, or the entry has no date.
    """
    heading = re.search(rf"^## \[{re.escape(version)}\](.*)$", changelog, re.MULTILINE)
    if heading is None:
        raise DevstackError(f"CHANGELOG.md has no entry [{version}]")
    if re.fullmatch(r" - \d{4}-\d{2}-\d{2}", heading[1]) is None:
        raise DevstackError(f"CHANGELOG.md: [{version}] has no date, `## [{version}] - YYYY-MM-DD`")
    rest = changelog[heading.end() :]
    following = re.search(r"^## \[", rest, re.MULTILINE)
    return rest[: following.start() if following else None].strip()


def main(version: str) -> int:
    """Print the notes of a version, which has to be the package's own."""
    if version != __version__:
        print(f"the package is version {__version__}, not {version}", file=sys.stderr)
        return 1
    try:
        print(release_notes(CHANGELOG.read_text("utf-8"), version))
    except DevstackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
