"""`lease status` and `lease release`: an operator ends the lease of a dead owner."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from devstack import Stack
from supabase_auth_state import LeaseLost, Rest, Settings, open_rest, use_supabase_auth_state
from tests.acceptance.command import Command


@pytest.fixture
def owned(db: psycopg.Connection[Any], company_id: str) -> str:
    """A company that a dead process owns for another hour."""
    db.execute("insert into whatsapp_auth (company_id, creds) values (%s, '{}')", [company_id])
    db.execute("select acquire_whatsapp_lease(%s, 'a dead bot', 3600)", [company_id])
    return company_id


def owner(db: psycopg.Connection[Any], company_id: str) -> str | None:
    row = db.execute("select owner from whatsapp_leases where company_id = %s", [company_id])
    found = row.fetchone()
    assert found is not None
    name: str | None = found[0]
    return name


def test_the_status_says_who_owns_a_company_and_until_when(run: Command, owned: str) -> None:
    status = run("lease", "status", "--company", owned, "--json").json
    assert (status["ok"], status["owner"], status["live"]) == (True, "a dead bot", True)
    assert status["company_id"] == owned
    said = run("lease", "status", "--company", owned)
    assert said.out == f"company {owned!r} is owned by a dead bot until {status['expires_at']}\n"


def test_a_lease_that_has_run_out_and_one_that_was_given_back_are_told(
    run: Command, owned: str, db: psycopg.Connection[Any]
) -> None:
    db.execute(
        "update whatsapp_leases set expires_at = now() - interval '1 minute' where company_id = %s",
        [owned],
    )
    assert "was owned by a dead bot" in run("lease", "status", "--company", owned).out
    assert run("lease", "release", "--company", owned, "--force").code == 0
    assert "is owned by no process" in run("lease", "status", "--company", owned).out
    again = run("lease", "release", "--company", owned, "--json")
    assert (again.code, again.json["ok"], again.json["released"]) == (0, True, False)


@pytest.mark.parametrize("action", ["status", "release"])
def test_a_company_that_nobody_knows_is_an_error(action: str, run: Command) -> None:
    ended = run("lease", action, "--company", "962302-mistyped", "--json")
    assert (ended.code, ended.json["error"]) == (1, "CompanyNotFound")


@pytest.mark.parametrize("option", ["--force", "--yes"])
def test_a_lease_is_ended_without_a_question_when_that_is_asked_for(
    option: str, run: Command, owned: str, db: psycopg.Connection[Any]
) -> None:
    ended = run("lease", "release", "--company", owned, option, "--json")
    assert (ended.code, ended.json["released"], ended.json["owner"]) == (0, True, None)
    assert owner(db, owned) is None


def test_without_a_terminal_and_without_force_nothing_is_changed(
    run: Command, owned: str, db: psycopg.Connection[Any]
) -> None:
    refused = run("lease", "release", "--company", owned, "--json")
    assert (refused.code, refused.json["ok"], refused.json["released"]) == (5, False, False)
    assert "--force" in refused.err
    assert owner(db, owned) == "a dead bot"


@pytest.mark.parametrize(("answer", "code"), [("n", 5), ("", 5), ("y", 0)])
def test_a_person_at_a_terminal_is_asked(
    answer: str, code: int, run: Command, owned: str, db: psycopg.Connection[Any]
) -> None:
    with run.at_terminal("lease", "release", "--company", owned) as terminal:
        terminal.until(r"is owned by a dead bot until .*End this lease\? \[y/N\] ")
        terminal.type(f"{answer}\n")
        assert terminal.end() == code
    assert owner(db, owned) == (None if code == 0 else "a dead bot")


async def test_an_owner_that_lives_after_all_is_fenced_out_and_the_next_has_it_at_once(
    run: Command, stack: Stack, company_id: str
) -> None:
    rest: Rest = open_rest(Settings(stack.url, stack.service_role_key))
    async with use_supabase_auth_state(company_id, client=rest, lease=True) as old:
        assert run("lease", "release", "--company", company_id, "--force").code == 0
        async with use_supabase_auth_state(company_id, client=rest, lease=True) as new:
            await new.keys.set({"sender-key-memory": {"1": {"2": True}}})
            with pytest.raises(LeaseLost):
                await old.keys.set({"sender-key-memory": {"1": {"3": True}}})
            assert await new.keys.get("sender-key-memory", ["1"]) == {"1": {"2": True}}
    await rest.close()
