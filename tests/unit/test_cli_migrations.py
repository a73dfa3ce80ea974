"""The SQL files: listed, printed, copied to the right place, and written for another schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from supabase_auth_state.cli.main import main
from supabase_auth_state.cli.migration_files import (
    migration_files,
    migrations_directory,
    migrations_for,
)

Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def found(capsys: Said, *args: str) -> Any:
    assert main(["migrations", *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_migrations_are_listed_and_printed_in_order(capsys: Said) -> None:
    files = migration_files()
    assert [path.name for path in files] == sorted(path.name for path in files)
    assert main(["migrations"]) == 0
    assert capsys.readouterr().out.splitlines() == [path.name for path in files]
    assert main(["migrations", "print"]) == 0
    assert capsys.readouterr().out == "".join(path.read_text() + "\n" for path in files)
    assert main(["migrations", "print", files[1].stem]) == 0
    assert capsys.readouterr().out == files[1].read_text() + "\n"
    assert main(["migrations", "print", "nothing"]) == 1


def test_a_program_reads_them_as_json(capsys: Said, tmp_path: Path) -> None:
    files = migration_files()
    names = [path.name for path in files]
    assert found(capsys) == {"ok": True, "migrations": [{"name": name} for name in names]}
    assert found(capsys, "print", names[0])["migrations"] == [
        {"name": names[0], "sql": files[0].read_text()}
    ]
    directory = tmp_path / "supabase" / "migrations"
    copied = {"ok": True, "schema": "public", "directory": str(directory), "copied": names}
    assert found(capsys, "copy") == copied
    assert found(capsys, "copy") == {**copied, "copied": []}


def test_migrations_are_copied_and_what_is_there_is_left_alone(
    tmp_path: Path, capsys: Said
) -> None:
    assert main(["migrations", "copy"]) == 0
    copies = sorted((tmp_path / "supabase" / "migrations").iterdir())
    assert [copy.read_bytes() for copy in copies] == [
        path.read_bytes() for path in migration_files()
    ]
    assert "supabase db push --remote" in capsys.readouterr().err
    assert main(["migrations", "copy"]) == 0
    assert capsys.readouterr().out == ""

    copies[0].unlink()
    copies[1].write_text("-- mine")
    assert main(["migrations", "copy"]) == 1
    assert copies[1].name in capsys.readouterr().err
    assert copies[1].read_text() == "-- mine"
    assert not copies[0].exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "file").write_text("")
    assert main(["migrations", "copy", "file/migrations"]) == 1
    assert "cannot copy to file/migrations: Not a directory" in capsys.readouterr().err


# Where they belong


@pytest.mark.parametrize(
    ("working", "configured", "copied_to"),
    [
        (".", None, "supabase/migrations"),
        ("supabase", None, "supabase/migrations"),
        ("supabase/migrations", None, "supabase/migrations"),
        (".", ".", "supabase/migrations"),
        ("supabase", ".", "supabase/migrations"),
        ("supabase/migrations", ".", "supabase/migrations"),
        ("supabase/functions/a", ".", "supabase/migrations"),
        ("src/deep", ".", "supabase/migrations"),
        ("app/supabase", "app", "app/supabase/migrations"),
    ],
)
def test_they_are_copied_into_the_project_wherever_one_stands_in_it(
    working: str, configured: str | None, copied_to: str, tmp_path: Path
) -> None:
    (tmp_path / working).mkdir(parents=True, exist_ok=True)
    if configured is not None:
        config = tmp_path / configured / "supabase" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text("")
    assert migrations_directory(tmp_path / working) == tmp_path / copied_to


# Another schema


def test_for_public_they_are_the_files_as_they_are() -> None:
    assert migrations_for("public") == {path.name: path.read_text() for path in migration_files()}


def test_for_another_schema_they_name_it_everywhere_and_public_nowhere() -> None:
    for name, text in migrations_for("whatsapp").items():
        # The role of everybody is called public too, and so is a field of Baileys' key pairs.
        assert not re.search(r"""\bpublic\.["%a-z]|'public'::reg|\bschema public\b""", text), name
        assert text.count('"whatsapp".') == migrations_for("public")[name].count("public.")
    first, *_ = migrations_for("whatsapp").values()
    assert first.index('create schema if not exists "whatsapp"') < first.index("create table")


def test_a_name_that_is_a_word_of_sql_is_one_too(capsys: Said) -> None:
    assert main(["migrations", "print", "--schema", "user"]) == 0
    assert 'create table if not exists "user".whatsapp_auth' in capsys.readouterr().out


def test_each_schema_has_a_job_of_its_own_in_pg_cron() -> None:
    texts = "".join(migrations_for("whatsapp").values())
    assert "'supabase-auth-state cleanup of whatsapp'" in texts
    assert "'supabase-auth-state cleanup'" not in texts


def test_the_schema_of_the_settings_is_the_one_that_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Said
) -> None:
    (tmp_path / ".env").write_text("SUPABASE_SCHEMA=whatsapp\n")
    assert found(capsys, "copy", "here")["schema"] == "whatsapp"
    assert found(capsys, "copy", "there", "--schema", "other")["schema"] == "other"
    monkeypatch.setenv("SUPABASE_SCHEMA", "pg_x")
    assert main(["migrations", "copy", "nowhere"]) == 2
    assert "belongs to PostgreSQL" in capsys.readouterr().err


def test_one_folder_is_for_one_schema(tmp_path: Path, capsys: Said) -> None:
    assert main(["migrations", "copy"]) == 0
    assert main(["migrations", "copy", "--schema", "whatsapp"]) == 1
    assert "all of them are for one schema" in capsys.readouterr().err
