"""Which of our migrations a project's folder has, under which names, and what is to be added.

No I/O but reading the folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from supabase_auth_state.errors import FolderError

_NAME = re.compile(r"(\d+)_(.*)\.sql")
_OWN_TABLES = re.compile(
    r'create\s+table\s+(?:if\s+not\s+exists\s+)?(?:"?public"?\.)?"?whatsapp_(?:auth|keys)\b',
    re.IGNORECASE,
)
_VERSION = "%Y%m%d%H%M%S"


@dataclass(frozen=True)
class Migration:
    """One of our migrations in a project.

    Attributes:
        name: the file's name in the package.
        file: its name in the project, or None where the project does not have it.
        changed: whether the project's file has other content.
    """

    name: str
    file: str | None = None
    changed: bool = False

    @property
    def title(self) -> str:
        """The name without its version, which the CLI records beside the version."""
        return title_of(self.name)

    @property
    def version(self) -> str:
        """The version under which the CLI records it in this project."""
        return version_of(self.file or self.name)


@dataclass(frozen=True)
class Installation:
    """What a project's folder has of our migrations.

    Attributes:
        directory: ``supabase/migrations`` of the project.
        migrations: all of ours, in the order in which they apply.
        tables: files of the project's own that make the tables ``whatsapp_auth`` or
            ``whatsapp_keys``, as an installation of 2025 has them.
        last: the name of the last file in the folder, or None when it is empty.
    """

    directory: Path
    migrations: tuple[Migration, ...]
    tables: tuple[str, ...] = ()
    last: str | None = None
    _texts: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def missing(self) -> list[Migration]:
        """Those that the project does not have."""
        return [each for each in self.migrations if each.file is None]

    @property
    def changed(self) -> list[Migration]:
        """Those whose content the project has changed."""
        return [each for each in self.migrations if each.changed]

    def additions(self) -> dict[str, str]:
        """Return the SQL of what is missing, by the name to give it.

        A file keeps its name unless the folder has later ones: the CLI applies nothing before what
        it has applied already, so the new ones then get versions behind the last.

        Raises:
            FolderError: a file is missing before one of ours that is there; or the last file has a
                version behind which there is none.
        """
        missing = self.missing
        if not missing:
            return {}
        first = self.migrations.index(missing[0])
        later = [each for each in self.migrations[first:] if each.file is not None]
        if later:
            raise FolderError(
                f"{self.directory} has {later[0].file} and not {missing[0].name}, which comes "
                "before it: put it back, e.g. from version control, or with "
                f"`supabase-auth-state migrations print {missing[0].name}`"
            )
        names = [each.name for each in missing]
        if self.last is not None and self.last > names[0]:
            names = _renamed(names, behind=self.last)
        return {name: self._texts[each.name] for name, each in zip(names, missing, strict=True)}


def examine(directory: Path, wanted: Mapping[str, str]) -> Installation:
    """Look which of our migrations a folder has.

    A file is one of ours by its content, whatever its name; or by its name, and then it was
    changed. Ends of lines and a byte order mark make no difference.

    Args:
        directory: the folder; it need not exist.
        wanted: SQL by file name, in the order of application.

    Raises:
        FolderError: the folder cannot be read.
    """
    texts = _read(directory)
    by_content = {_content(text): name for name, text in reversed(texts.items())}
    by_title: dict[str, str] = {}
    for name in texts:
        by_title.setdefault(title_of(name), name)
    found = []
    for name, sql in wanted.items():
        same = by_content.get(_content(sql))
        named = name if name in texts else by_title.get(title_of(name))
        found.append(Migration(name, same or named, changed=same is None and named is not None))
    ours = {each.file for each in found}
    tables = [name for name, text in texts.items() if name not in ours and _OWN_TABLES.search(text)]
    return Installation(
        directory, tuple(found), tuple(tables), max(texts, default=None), dict(wanted)
    )


def title_of(name: str) -> str:
    """Return a file's name without version and suffix."""
    match = _NAME.fullmatch(name)
    return match[2] if match else name


def version_of(name: str) -> str:
    """Return the version of a file's name."""
    match = _NAME.fullmatch(name)
    return match[1] if match else ""


def _read(directory: Path) -> dict[str, str]:
    try:
        if not directory.is_dir():
            return {}
        paths = sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))
        return {path.name: path.read_text("utf-8-sig", errors="replace") for path in paths}
    except OSError as error:
        reason = error.strerror
    raise FolderError(f"cannot read {directory}: {reason}")


def _content(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _renamed(names: list[str], *, behind: str) -> list[str]:
    last = version_of(behind)
    try:
        moment = datetime.strptime(last, _VERSION).replace(tzinfo=timezone.utc)
        versions = [
            (moment + timedelta(seconds=number)).strftime(_VERSION)
            for number in range(1, len(names) + 1)
        ]
    except (ValueError, OverflowError):
        problem = f"{behind} comes after {names[0]} and its version is no time: rename it"
    else:
        return [f"{each}_{title_of(name)}.sql" for each, name in zip(versions, names, strict=True)]
    raise FolderError(problem)
