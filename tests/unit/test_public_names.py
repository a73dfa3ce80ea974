"""What is public is listed, documented, and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import supabase_auth_state
from supabase_auth_state import errors
from tests.syntax import tree_of

PACKAGE = Path(supabase_auth_state.__file__).parent


def test_the_names_are_sorted_importable_and_documented() -> None:
    assert supabase_auth_state.__all__ == sorted(set(supabase_auth_state.__all__))
    for name in supabase_auth_state.__all__:
        thing = getattr(supabase_auth_state, name)
        assert thing.__name__ == name
        assert thing.__doc__, f"{name} has no docstring"


def test_type_checkers_see_the_same_names() -> None:
    tree = tree_of(PACKAGE / "__init__.py")
    seen = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert seen == set(supabase_auth_state.__all__)


def test_every_error_is_public_and_in_the_tree_at_the_top() -> None:
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert kinds <= set(supabase_auth_state.__all__)
    assert errors.__doc__ is not None
    drawn = {word for word in errors.__doc__.replace("─", " ").split() if word in kinds}
    assert drawn == kinds


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        supabase_auth_state.no_such_name  # noqa: B018


def test_importing_the_package_loads_nothing_but_the_standard_library() -> None:
    """What is slow to load is loaded when it is used: supabase, httpx, aiohttp, nacl, jinja2."""
    code = (
        "import sys; before = set(sys.modules); import supabase_auth_state; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names - {'supabase_auth_state'})); "
        "print(len([name for name in sys.modules if name.startswith('supabase_auth_state.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n0\n"
