"""Processes fight for companies while they are killed, frozen and cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import LocalStack, Stack
from supabase_auth_state import LeaseLost, Rest, Settings, open_rest, use_supabase_auth_state
from tests.acceptance.fight.arena import arena
from tests.acceptance.fight.audit import KEY, Audit
from tests.acceptance.fight.history import Ack, Change, Write, problems
from tests.length import LENGTH

FIGHTERS = 4
COMPANIES = 8
ROUNDS = round(LENGTH)
BEGIN_WITHIN = 120


@pytest.fixture
def audit(db: psycopg.Connection[Any]) -> Iterator[Audit]:
    """An audit of the stack that all tests share."""
    with Audit(db) as opened:
        yield opened


async def test_no_two_owners_interleave_and_no_acknowledged_write_is_missing(
    stack: Stack, audit: Audit, tmp_path: Path
) -> None:
    companies = audit.companies(COMPANIES)
    async with arena(stack, tmp_path, fighters=FIGHTERS, companies=companies) as fought:
        await every_company_is_written(audit)
        await fought.fight(ROUNDS)
        # Chance decides whether a company is taken while its owner stands still.
        while not fought.lost():
            await fought.fight(1)
        assert await fought.stop() == [0] * FIGHTERS
    changes, acks = audit.changes(), fought.acks()
    print(f"{len(changes)} changes, {len(acks)} acknowledged, {fought.lost()} leases lost")
    print(", ".join(f"{name} {count} times" for name, count in fought.blows.items()))

    assert problems(changes, acks, audit.final()) == []
    assert fought.unexpected() == []
    assert audit.live_leases() == []
    # It was a fight: stale writers were there, companies changed hands.
    assert fought.lost() > 0
    tokens = {(change.company, change.header) for change in changes}
    assert len(tokens) > COMPANIES
    assert {company for company, _ in tokens} == set(companies)


async def every_company_is_written(audit: Audit) -> None:
    for _ in range(5 * BEGIN_WITHIN):
        if len(audit.final()) == COMPANIES:
            return
        await asyncio.sleep(0.2)
    pytest.fail(f"after {BEGIN_WITHIN} s only {sorted(audit.final())} are written")


# The checker can fail


def write(n: int, token: int) -> Write:
    return Write(n=n, token=token, writer=f"owner of {token}")


def change(n: int, token: int) -> Change:
    return Change("962302", token, write(n, token))


GOOD = [change(1, 1), change(2, 1), change(2, 1), change(3, 4), change(4, 4)]


def check(
    changes: list[Change], *, acks: list[Write] | None = None, final: Write | None = None
) -> str:
    acked = [Ack("962302", acked) for acked in acks or []]
    last = final or changes[-1].write
    return "; ".join(problems(changes, acked, {"962302": last} if last else {}))


def test_the_checker_accepts_owners_one_after_the_other_and_a_repeated_write() -> None:
    assert check(GOOD, acks=[write(1, 1), write(2, 1), write(4, 4)]) == ""


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ([*GOOD, change(3, 1)], "an older token after a newer one"),
        ([*GOOD, change(5, 1)], "an older token after a newer one"),
        ([change(1, 1), change(1, 4)], "not one more than what was there"),
        ([*GOOD, change(3, 4)], "not one more than what was there"),
        ([*GOOD, change(6, 4)], "not one more than what was there"),
        ([*GOOD, Change("962302", None, write(5, 4))], "the token None in the header"),
        ([*GOOD, Change("962302", 5, write(5, 4))], "the token 5 in the header"),
        ([*GOOD, Change("962302", 4, Write(5, 4, "another"))], "one token, two writers"),
        ([*GOOD[:2], Change("962302", 1, None), *GOOD[2:]], "deleted"),
    ],
    ids=[
        "an old owner repeats itself",
        "an old owner goes on",
        "two owners count from the same value",
        "a delayed write of the same owner",
        "a write is skipped",
        "no token",
        "a token of another",
        "two processes hold one lease",
        "a deletion",
    ],
)
def test_the_checker_names_what_two_owners_at_a_time_lead_to(
    changes: list[Change], problem: str
) -> None:
    assert problem in check(changes)


def test_the_checker_names_an_acknowledged_write_that_is_missing() -> None:
    assert "acknowledged, but never made" in check(GOOD, acks=[write(5, 4)])
    assert "acknowledged, but never made" in check(GOOD, acks=[replace(write(4, 4), writer="x")])


def test_the_checker_names_a_row_that_does_not_hold_the_last_change() -> None:
    assert "the row holds" in check(GOOD, final=write(3, 4))
    assert "the row holds None" in "".join(problems(GOOD, [], {}))


# So can the audit: the same two writers, on a database with and without the guard


@pytest.fixture
def unguarded(fresh_stack: Callable[..., LocalStack]) -> LocalStack:
    """A migrated project whose database does not check leases."""
    stack = fresh_stack(migrate=True)
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute(
            "create or replace function public.whatsapp_enter(p_company_id text) returns boolean "
            "language plpgsql as 'begin perform public.whatsapp_take_number(p_company_id, null, "
            "current_setting(''request.headers'')::json); return true; end'"
        )
    return stack


async def stale_writer_goes_on(rest: Rest, company: str, db: psycopg.Connection[Any]) -> list[Ack]:
    """Let one owner be overtaken by another, unknown to it, and then write."""
    acks = []

    async def count(auth: Any, n: int) -> None:
        value = {"n": n, "token": auth.lease.token, "writer": auth.lease.owner}
        await auth.keys.set({KEY[0]: {KEY[1]: value}})
        acks.append(Ack(company, Write(**value)))

    async with use_supabase_auth_state(company, client=rest, lease=True) as old:
        await count(old, 1)
        db.execute("update whatsapp_leases set expires_at = now() where company_id = %s", [company])
        async with use_supabase_auth_state(company, client=rest, lease=True) as new:
            await count(new, 2)
            await count(old, 2)
    return acks


async def test_the_guard_refuses_the_stale_writer_of_the_fight(
    stack: Stack, audit: Audit, db: psycopg.Connection[Any]
) -> None:
    rest = open_rest(Settings(stack.url, stack.service_role_key))
    with pytest.raises(LeaseLost):
        await stale_writer_goes_on(rest, audit.companies(1)[0], db)
    await rest.close()
    changes = audit.changes()
    assert [change.write.n for change in changes if change.write] == [1, 2]
    assert problems(changes, [], audit.final()) == []


async def test_without_the_guard_the_audit_and_the_checker_show_the_stale_write(
    unguarded: LocalStack,
) -> None:
    rest = open_rest(Settings(unguarded.url, unguarded.service_role_key))
    with psycopg.connect(unguarded.db_url, autocommit=True) as db, Audit(db) as audit:
        acks = await stale_writer_goes_on(rest, audit.companies(1)[0], db)
        found = problems(audit.changes(), acks, audit.final())
    await rest.close()
    assert len(found) == 2
    assert "an older token after a newer one" in found[0]
    assert "not one more than what was there" in found[1]
