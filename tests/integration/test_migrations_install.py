"""Older projects brought up to date by `migrations install` and the real Supabase CLI."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import LocalStack, binaries
from devstack.migrations import run_cli
from supabase_auth_state.cli.applied_migrations import functions_made
from supabase_auth_state.cli.main import main
from supabase_auth_state.cli.migration_files import migrations_for

FILES = migrations_for("public")
RELEASES = {"0.1": 3, "0.2": 5}
"""How many of the migrations a release had."""

OWN = "create schema own; create table own.invoices (id int primary key);"
ROWS = "select a::text, k::text from whatsapp_auth a join whatsapp_keys k using (company_id)"

Told = Callable[..., Any]


@pytest.fixture(scope="module")
def newest(local_stack: LocalStack) -> Iterator[LocalStack]:
    """A project that was made with this version."""
    with local_stack.fresh(migrate=True) as fresh:
        yield fresh


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Told:
    """Run `migrations ACTION` in a subfolder of a project: `told("status")`."""
    (tmp_path / "supabase" / "migrations").mkdir(parents=True)
    (tmp_path / "supabase" / "config.toml").write_text('project_id = "theirs"\n')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "supabase").symlink_to(binaries.supabase_cli())
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SUPABASE_TELEMETRY_DISABLED", "1")
    monkeypatch.chdir(tmp_path / "supabase")

    def run(*args: str) -> Any:
        main(["migrations", *args, "--json"])
        return json.loads(capsys.readouterr().out)

    return run


def use(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.env().items():
        monkeypatch.setenv(name, value)


def pending(status: Any) -> list[str]:
    return [each["name"] for each in status["migrations"] if not each["applied"]]


@pytest.mark.parametrize("release", RELEASES)
def test_an_older_project_with_rows_and_files_of_its_own_is_brought_up_to_date(
    fresh_stack: Any,
    newest: LocalStack,
    told: Told,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    release: str,
) -> None:
    folder = tmp_path / "supabase" / "migrations"
    names = list(FILES)[: RELEASES[release]]
    for name in names:
        (folder / name).write_text(FILES[name])
    (folder / "20270101000000_invoices.sql").write_text(OWN)
    stack: LocalStack = fresh_stack(migrate=False)
    use(stack, monkeypatch)
    stack.migrate(tmp_path)
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        state = {"company_id": "1", "creds": {"a": 1}, "keys": {"session": {"1.0": {"b": [2]}}}}
        db.execute("select commit_whatsapp_state(%s)", [json.dumps(state)])
        before = db.execute(ROWS).fetchall()

        assert told("status")["next"] == "supabase-auth-state migrations install"
        added = told("install")["added"]
        assert len(added) == len(FILES) - len(names)
        assert min(added) > "20270101000000"
        by_cli = told("status", "--db-url-env", "SUPABASE_DB_URL")
        assert pending(by_cli) == list(FILES)[RELEASES[release] :]
        for status in (told("status"), by_cli):
            assert status["next"] == "supabase db push --remote --yes"

        stack.migrate(tmp_path)
        assert db.execute(ROWS).fetchall() == before
        db.execute("drop schema own cascade")
    status = told("status")
    assert (status["next"], pending(status)) == (None, [])
    assert schema_diff(stack, newest, tmp_path) == ""


def schema_diff(one: LocalStack, other: LocalStack, workdir: Path) -> str:
    """What `supabase db diff` would change; the form that needs no Docker."""
    urls = ["--from", one.db_url, "--to", other.db_url]
    run_cli("db", "diff", "--use-pg-delta", *urls, "--output", "diff.sql", workdir=workdir)
    return (workdir / "diff.sql").read_text().strip()


def test_the_diff_sees_what_differs(fresh_stack: Any, newest: LocalStack, tmp_path: Path) -> None:
    stack: LocalStack = fresh_stack(migrate=True)
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute("alter table public.whatsapp_keys add column more int")
    assert "more" in schema_diff(stack, newest, tmp_path)


def test_status_tells_what_was_pasted_into_the_sql_editor(
    fresh_stack: Any, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack: LocalStack = fresh_stack(migrate=False)
    use(stack, monkeypatch)
    told("install")
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        for sql in FILES.values():
            db.execute(sql.encode())
    stack.reload_schema()
    # What makes no function, with none behind it that does, leaves no trace and counts as missing.
    made = functions_made(FILES)
    last = max(number for number, name in enumerate(FILES) if made[name])
    assert pending(told("status")) == list(FILES)[last + 1 :]


def test_the_cli_s_failure_is_an_error_that_quotes_no_password(
    newest: LocalStack, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB", newest.db_url.replace("postgres:postgres@", "postgres:wr0ng@"))
    failed = told("status", "--db-url-env", "DB")
    assert failed["error"] == "StoreUnavailable"
    assert "wr0ng" not in json.dumps(failed)


def test_the_password_is_no_argument_of_the_cli(
    newest: LocalStack, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin" / "supabase").unlink()
    (tmp_path / "bin" / "supabase").write_text('#!/bin/sh\necho "$@" > "$HOME/arguments"\n')
    (tmp_path / "bin" / "supabase").chmod(0o755)
    monkeypatch.setenv("DB", "postgresql://me:s3cret@db.example:5432/postgres")
    assert told("status", "--db-url-env", "DB")["error"] == "StoreUnavailable"
    arguments = (tmp_path / "arguments").read_text()
    assert "me@db.example:5432" in arguments
    assert "s3cret" not in arguments
