"""Write the types of the tables' rows, as `supabase gen types` knows them: `make types`.

The CLI's Python has models of pydantic, which would make importing slow, with times as `datetime`,
which no answer of PostgREST holds. What is kept in the repository is the same as typed dicts, with
the values that JSON has.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from devstack.local import LocalStack
from devstack.migrations import run_cli

PROJECT = Path(__file__).resolve().parents[1]
ROWS = PROJECT / "supabase_auth_state" / "rest" / "rows.py"

_HEAD = '''\
"""The rows of the tables, as PostgREST answers them. Made by `make types`; do not edit.

A query that names columns answers these alone.
"""

from __future__ import annotations

from typing import Any, TypedDict
'''
_IN_JSON = {
    "datetime.datetime": "str",
    "datetime.date": "str",
    "uuid.UUID": "str",
    "JsonValue": "Any",
}


def generated(stack: LocalStack) -> str:
    """Return what the CLI makes of a stack's tables, in Python."""
    return run_cli(
        *("gen", "types", "--lang=python", "--schema", "public", f"--remote={stack.db_url}"),
        workdir=PROJECT,
    )


def row_types(python: str) -> str:
    """Return the module of typed dicts for what the CLI has made.

    Args:
        python: the CLI's Python, with its messages before it.
    """
    tree = ast.parse(python[python.index("from __future__") :])
    module = "\n\n".join([_HEAD, *_classes(tree)])
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(ROWS), "-"],
        input=module,
        capture_output=True,
        text=True,
        check=True,
    )
    return formatted.stdout


def _classes(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and ast.unparse(node.bases[0]) == "BaseModel":
            name = node.name.removeprefix("Public")
            table = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
            fields = [
                f"    {ast.unparse(field.target)}: {_type(ast.unparse(field.annotation))}"
                for field in node.body
                if isinstance(field, ast.AnnAssign)
            ]
            yield "\n".join(
                [f"class {name}Row(TypedDict):", f'    """A row of ``{table}``."""', "", *fields]
            )


def _type(annotation: str) -> str:
    for python, json in _IN_JSON.items():
        annotation = annotation.replace(python, json)
    annotation = re.sub(r"\bList\b", "list", annotation)
    optional = re.fullmatch(r"Optional\[(.*)\]", annotation)
    return f"{optional[1]} | None" if optional else annotation


if __name__ == "__main__":
    with LocalStack.start() as started:
        ROWS.write_text(row_types(generated(started)))
