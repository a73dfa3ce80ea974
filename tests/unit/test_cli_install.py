"""Our migrations in a project of the user's: added without harm, known again under other names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state.cli.applied_migrations import Applied, functions_made
from supabase_auth_state.cli.installed_files import examine
from supabase_auth_state.cli.main import main
from supabase_auth_state.cli.migration_files import migrations_for
from supabase_auth_state.errors import FolderError

Said = pytest.CaptureFixture[str]
FILES = migrations_for("public")
NAMES = list(FILES)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The migrations folder of a project; the working directory is deep inside the project."""
    deep = tmp_path / "app" / "src" / "deep"
    deep.mkdir(parents=True)
    folder = tmp_path / "app" / "supabase" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "config.toml").write_text("")
    monkeypatch.chdir(deep)
    return folder


def told(capsys: Said, action: str, code: int = 0) -> Any:
    assert main(["migrations", action, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def listed(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_all_are_added_to_a_new_project_and_again_none(project: Path, capsys: Said) -> None:
    assert told(capsys, "install")["added"] == NAMES
    assert listed(project) == FILES
    again = told(capsys, "install")
    assert (again["added"], list(again["there"])) == ([], NAMES)


def test_what_an_earlier_copy_put_there_stays_and_the_rest_comes_behind(
    project: Path, capsys: Said
) -> None:
    for name in NAMES[:3]:
        (project / name).write_text(FILES[name])
    assert told(capsys, "install")["added"] == NAMES[3:]
    assert listed(project) == FILES


def test_other_names_other_line_ends_and_a_mark_are_no_difference(
    project: Path, capsys: Said
) -> None:
    for number, name in enumerate(NAMES[:2]):
        text = "\ufeff" + FILES[name].replace("\n", "\r\n")
        (project / f"2025110100000{number}_renamed.sql").write_bytes(text.encode())
    found = told(capsys, "install")
    assert [found["there"][name] for name in NAMES[:2]] == [
        "20251101000000_renamed.sql",
        "20251101000001_renamed.sql",
    ]
    assert found["changed"] == []
    assert len(found["added"]) == len(NAMES) - 2
    assert min(found["added"]) > "20251101000001"


def test_new_ones_come_behind_later_files_of_the_users_own(project: Path, capsys: Said) -> None:
    for name in NAMES[:3]:
        (project / name).write_text(FILES[name])
    own = project / "20301231235959_invoices.sql"
    own.write_text("create table public.invoices (id int);")
    added = told(capsys, "install")["added"]
    assert [name.partition("_")[2] for name in added] == [
        name.partition("_")[2] for name in NAMES[3:]
    ]
    assert added[0] == f"20310101000000_{NAMES[3].partition('_')[2]}"
    order = [path.name for path in sorted(project.iterdir())]
    assert order == [*NAMES[:3], own.name, *added]
    assert [(project / name).read_text() for name in added] == [FILES[name] for name in NAMES[3:]]
    assert told(capsys, "install")["added"] == []


def test_a_file_that_was_changed_is_left_alone_with_a_warning(project: Path, capsys: Said) -> None:
    for name in NAMES:
        (project / name).write_text(FILES[name])
    changed = FILES[NAMES[1]] + "\ndrop table public.whatsapp_keys;\n"
    (project / NAMES[1]).write_text(changed)
    assert main(["migrations", "install"]) == 0
    said = capsys.readouterr().err
    assert f"warning: {NAMES[1]} is not" in said
    assert f"migrations print {NAMES[1]} | diff - {project / NAMES[1]}" in said
    assert (project / NAMES[1]).read_text() == changed
    renamed = project / f"20250101000000_{NAMES[1].partition('_')[2]}"
    (project / NAMES[1]).rename(renamed)
    assert told(capsys, "install")["changed"] == [renamed.name]


@pytest.mark.parametrize("version", ["20250901000000", "20251008000000", "20991231000000"])
def test_the_owners_tables_of_2025_come_first_and_are_taken_over(
    project: Path, capsys: Said, version: str
) -> None:
    own = project / f"{version}_whatsapp_auth.sql"
    own.write_text('CREATE TABLE IF NOT EXISTS "public"."whatsapp_auth" (company_id text);')
    found = told(capsys, "install")
    assert found["own_tables"] == [own.name]
    assert min(path.name for path in project.iterdir()) == own.name
    assert len(found["added"]) == len(NAMES)


def test_one_that_is_missing_between_others_is_an_error_and_nothing_is_added(
    project: Path, capsys: Said
) -> None:
    for name in NAMES[1:-1]:
        (project / name).write_text(FILES[name])
    assert told(capsys, "install", 1)["error"] == "FolderError"
    assert list(listed(project)) == NAMES[1:-1]


def test_a_last_version_that_is_no_time_is_an_error(project: Path, capsys: Said) -> None:
    (project / "99999999999999_last.sql").write_text("select 1;")
    assert "rename it" in told(capsys, "install", 1)["message"]


def test_two_schemas_in_one_folder_are_refused(project: Path, capsys: Said) -> None:
    assert told(capsys, "install")["added"] == NAMES
    assert main(["migrations", "install", "--schema", "whatsapp"]) == 1
    assert "for another schema" in capsys.readouterr().err
    assert listed(project) == FILES


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "20250101000000_x.sql").mkdir()
    with pytest.raises(FolderError, match="cannot read"):
        examine(tmp_path, FILES)


def test_status_says_the_one_next_command(
    project: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = told(capsys, "status", 3)
    assert found["next"] == "supabase-auth-state migrations install"
    assert {each["file"] for each in found["migrations"]} == {None}
    told(capsys, "install")
    found = told(capsys, "status", 3)
    assert (found["asked"], found["migrations"][0]["applied"]) == (None, None)
    assert found["next"].startswith("set SUPABASE_URL")


@pytest.mark.parametrize(
    "url", ["https://x.supabase.co", "postgresql:///s3cret", "postgresql://[::1"]
)
def test_a_wrong_database_url_is_an_error_that_does_not_quote_it(
    project: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PATH", str(project))
    (project / "supabase").write_text("#!/bin/sh\n")
    (project / "supabase").chmod(0o755)
    monkeypatch.setenv("DB", url)
    assert main(["migrations", "status", "--db-url-env", "DB"]) == 2
    assert url not in capsys.readouterr().err
    assert main(["migrations", "status", "--db-url-env", "NOT_SET"]) == 2


def test_functions_tell_what_was_applied_where_there_is_no_history() -> None:
    made = functions_made(FILES)
    assert "guard_whatsapp_company" not in set().union(*made.values())
    migrations = examine(Path("/nowhere"), FILES).migrations
    for number, name in enumerate(NAMES):
        functions = set().union(*(made[earlier] for earlier in NAMES[: number + 1]))
        lacking = Applied(functions=functions).lacks(migrations, made)
        if made[name]:
            assert [each.name for each in lacking] == NAMES[number + 1 :]
    assert [each.name for each in Applied(functions=[]).lacks(migrations, made)] == NAMES
