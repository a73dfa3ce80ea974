"""`settle`: an operator says that a company of a restored database is in order again."""

from __future__ import annotations

import json
import uuid
from typing import Any

import psycopg
import pytest

from devstack import Stack
from supabase_auth_state.cli.console import Console
from supabase_auth_state.cli.main import main


@pytest.fixture
def company_id() -> str:
    return f"settle-{uuid.uuid4().hex}"


@pytest.fixture
def reported(db: psycopg.Connection[Any], company_id: str) -> str:
    """A company of which an owner has reported that the database was set back, without rows."""
    db.execute("insert into whatsapp_leases (company_id) values (%s)", [company_id])
    db.execute("select report_whatsapp_restored(%s)", [company_id])
    return company_id


@pytest.fixture(autouse=True)
def _project(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.env().items():
        monkeypatch.setenv(name, value)


def is_reported(db: psycopg.Connection[Any], company_id: str) -> bool:
    row = db.execute(
        "select restored_at is not null from whatsapp_leases where company_id = %s", [company_id]
    ).fetchone()
    return row is not None and bool(row[0])


def test_the_report_is_ended_once_and_said_so(
    db: psycopg.Connection[Any], reported: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settle", "--company", reported, "--yes", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["settled"], said["company_id"]) == (True, True, reported)
    assert said["reported_at"] is not None
    assert not is_reported(db, reported)


def test_a_company_without_a_report_is_left_as_it_is(
    db: psycopg.Connection[Any], company_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    db.execute("insert into whatsapp_auth (company_id, creds) values (%s, '{}')", [company_id])
    assert main(["settle", "--company", company_id]) == 0
    assert "no owner has reported" in capsys.readouterr().out


def test_an_unknown_company_is_an_error(
    company_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settle", "--company", company_id, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "CompanyNotFound"


def test_without_a_terminal_yes_is_needed(
    db: psycopg.Connection[Any], reported: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settle", "--company", reported]) == 2
    assert "--yes is needed" in capsys.readouterr().err
    assert is_reported(db, reported)


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("y", 0), ("Yes", 0)])
def test_a_person_is_asked(
    db: psycopg.Connection[Any], reported: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], answer: str, code: int,
) -> None:  # fmt: skip
    asked: list[str] = []

    async def ask(_: Console, question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr(Console, "ask", ask)
    assert main(["settle", "--company", reported]) == code
    assert reported in asked[0]
    assert "set back" in asked[0]
    assert is_reported(db, reported) is bool(code)
    assert ("is settled" in capsys.readouterr().out) is not bool(code)
