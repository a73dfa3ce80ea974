"""Imports point one way: from the commands down to the errors, and never back or in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.syntax import tree_of

PACKAGE = Path(__file__).parents[2] / "supabase_auth_state"

LAYERS = [
    {"__main__"},
    {"cli"},
    {"doctor"},
    {"transfer", "pool", "operations", "waeys", "pyaileys"},
    {"clients"},
    {"auth_state"},
    {"store"},
    {"leases", "files"},
    {"rest", "codec"},
    {"config"},
    {"types", "errors"},
]
"""The rooms, from the top down. Each may import what stands further down, and itself."""

MOST_ENTRIES = 20
"""What stands directly in the package can be taken in at a glance."""


def room_of(path: Path) -> str:
    """Give the room that a file of the package stands in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_rooms(text: str, path: Path) -> Iterator[tuple[str, int]]:
    """Yield the rooms that a module imports, anywhere and for any purpose, with the line."""
    for node in ast.walk(tree_of(text)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [[*origin(node, path), alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == PACKAGE.name and len(name) > 1 and is_room(name[1]):
                yield name[1], node.lineno


def origin(node: ast.ImportFrom, path: Path) -> list[str]:
    """Give what a `from` names, in full: `from .lease import x` in `leases` is of that room."""
    named = node.module.split(".") if node.module else []
    if node.level == 0:
        return named
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    return [*package[: len(package) - node.level + 1], *named]


def is_room(name: str) -> bool:
    """Whether a name of the package is a room, and no value such as its version."""
    return any(name in layer for layer in LAYERS)


def height(room: str) -> int:
    (found,) = (number for number, layer in enumerate(reversed(LAYERS)) if room in layer)
    return found


def test_every_room_has_a_place_in_the_layers() -> None:
    assert {room_of(path) for path in modules()} == set().union(*LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_room_and_from_below(path: Path) -> None:
    room = room_of(path)
    wrong = [
        f"line {line}: {room} imports {other}"
        for other, line in imported_rooms(path.read_text(), path)
        if other != room and height(other) >= height(room)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "rooms"),
    [
        ("import supabase_auth_state.cli.main", ["cli"]),
        ("from supabase_auth_state import cli", ["cli"]),
        ("from supabase_auth_state.cli.main import main", ["cli"]),
        ("from ..cli.main import main", ["cli"]),
        ("from .. import cli, errors", ["cli", "errors"]),
        ("from . import rows", ["transfer"]),
        ("from .rows import RawRows", ["transfer"]),
        ("def later():\n    from ..cli import main", ["cli"]),
        ("from supabase_auth_state import __version__\nimport sys", []),
    ],
)
def test_the_check_sees_every_form_of_import(text: str, rooms: list[str]) -> None:
    assert [room for room, _ in imported_rooms(text, PACKAGE / "transfer" / "new.py")] == rooms


def test_the_top_of_the_package_can_be_taken_in() -> None:
    entries = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_other_rooms_use_the_codec_by_its_front(path: Path) -> None:
    if room_of(path) == "codec":
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            inside = node.module.partition("supabase_auth_state.codec.")[2]
            assert inside in {"", "creds"}, f"line {node.lineno} imports codec.{inside}"
