"""Folders in the eyes of real Baileys: the comparison other tests rely on, and the demo's check."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop.node import NODE_PROJECT, run_node
from tests.interop.samples import BAILEYS, SAMPLES

CHECK = NODE_PROJECT.parents[1] / "demo" / "baileys-check.mjs"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the smallest sample folder, to be spoilt."""
    return Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "copy"))


def test_equal_folders_are_equal_whatever_the_order_of_fields(copy: Path) -> None:
    pre_key = copy / "pre-key-3.json"
    private, public = pre_key.read_text()[1:-1].split(',"public"')
    pre_key.write_text('{"public"' + public + "," + private + "}")
    compared = run_node("compare-folders.mjs", BAILEYS / "v7-small", copy)
    assert compared == {"files": 28, "differences": []}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pre-key-3.json", '{"private":{},"public":{}}'),
        ("lid-mapping-15550100001.json", "200000000000100"),
        ("creds.json", '{"noiseKey'),
        ("session-15550109876.0.json", "{}"),
    ],
)
def test_a_value_that_differs_is_found_and_named(copy: Path, file: str, text: str) -> None:
    (copy / file).write_text(text)
    found = run_node("compare-folders.mjs", BAILEYS / "v7-small", copy)["differences"]
    assert {one["file"] for one in found} == {file}


def test_a_file_that_is_missing_is_found_and_named(copy: Path) -> None:
    (copy / "pre-key-3.json").unlink()
    found = run_node("compare-folders.mjs", BAILEYS / "v7-small", copy)["differences"]
    assert found == [{"file": "pre-key-3.json", "why": "in one folder only"}]


def check(folder: Path, version: int) -> subprocess.CompletedProcess[str]:
    command = ["node", str(CHECK), str(folder), str(version)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("sample", "version"), SAMPLES)
def test_real_baileys_takes_a_folder_and_goes_on_with_it(sample: Path, version: int) -> None:
    before = {file.name: file.read_bytes() for file in sample.iterdir()}
    checked = check(sample, version)
    assert checked.returncode == 0, checked.stderr
    assert f"Baileys {version} takes this folder" in checked.stdout
    assert {file.name: file.read_bytes() for file in sample.iterdir()} == before


@pytest.mark.parametrize("file", ["creds.json", "pre-key-3.json"])
def test_the_check_fails_on_a_folder_with_a_torn_file(copy: Path, file: str) -> None:
    (copy / file).write_text((copy / file).read_text()[:40])
    checked = check(copy, 7)
    assert checked.returncode == 1
    assert checked.stderr.startswith("baileys-check: ")
