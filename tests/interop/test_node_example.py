"""The one file of examples/node, as a team would take it: copied into a project of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.interop.node import NODE_PROJECT

EXAMPLE = NODE_PROJECT.parents[1] / "examples" / "node"
SCRIPT = """
import { useSupabaseAuthState } from './use-supabase-auth-state.js'
try {
  const { state, saveCreds, close } = await useSupabaseAuthState(process.argv[2], { lease: true })
  await saveCreds()
  await state.keys.set({ 'lid-mapping': { 15550100001: '200000000000001' } })
  const found = await state.keys.get('lid-mapping', ['15550100001'])
  await close()
  console.log(JSON.stringify({ found, isBuffer: Buffer.isBuffer(state.creds.noiseKey.private) }))
} catch ({ code, message }) {
  console.log(JSON.stringify({ code, message }))
}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A Node project with the file, and with Baileys and supabase-js installed."""
    shutil.copy(EXAMPLE / "use-supabase-auth-state.js", tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE_PROJECT / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "main.js").write_text(SCRIPT)
    return tmp_path


def run(project: Path, company_id: str, env: Mapping[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "main.js", company_id],
        cwd=project,
        env={"PATH": _path(), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def _path() -> str:
    node = shutil.which("node")
    assert node is not None
    return str(Path(node).parent)


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("SUPABASE_SERVICE_ROLE_KEY", "service_role_key"),
        ("SUPABASE_SERVICE_ROLE_KEY", "secret_key"),
        ("SUPABASE_SECRET_KEY", "secret_key"),
    ],
)
def test_it_works_with_a_company_id_and_the_environment(
    project: Path, stack: Any, company_id: str, variable: str, key: str
) -> None:
    env = {"SUPABASE_URL": stack.url, variable: getattr(stack, key)}
    assert run(project, company_id, env) == {
        "found": {"15550100001": "200000000000001"},
        "isBuffer": True,
    }


@pytest.mark.parametrize(
    ("key", "kind"), [("anon_key", "anon"), ("publishable_key", "publishable")]
)
def test_a_key_that_cannot_reach_the_tables_is_refused_by_its_kind(
    project: Path, stack: Any, company_id: str, key: str, kind: str
) -> None:
    secret = getattr(stack, key)
    refused = run(
        project, company_id, {"SUPABASE_URL": stack.url, "SUPABASE_SERVICE_ROLE_KEY": secret}
    )
    assert refused["code"] == "CONFIGURATION"
    assert f'"{kind}"' in refused["message"]
    assert secret not in refused["message"]


def test_a_missing_environment_is_named(project: Path, company_id: str) -> None:
    refused = run(project, company_id, {})
    assert refused["code"] == "CONFIGURATION"
    assert "SUPABASE_URL" in refused["message"]


def test_its_types_hold() -> None:
    compiler = NODE_PROJECT / "node_modules" / "typescript" / "bin" / "tsc"
    checked = subprocess.run(
        ["node", str(compiler), "--project", str(NODE_PROJECT)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_it_pins_the_versions_it_is_tested_with() -> None:
    example = json.loads((EXAMPLE / "package.json").read_text())["dependencies"]
    tested = json.loads((NODE_PROJECT / "package.json").read_text())["dependencies"]
    assert example == {name: tested[name] for name in example}
    assert all(version[0].isdigit() for version in example.values())
