"""Writes without a number, beside an owner: given up, they change nothing when they land."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from faults.actions import held
from faults.proxy import Landing, Proxy
from faults.requests import calls, every, of_company
from supabase_auth_state import Rest, StoreUnavailable, use_supabase_auth_state
from supabase_auth_state.pool.ends import End, Reaction
from supabase_auth_state.pool.pauses import Pause, SharedPauses, reinstate_company
from supabase_auth_state.transfer.rekey import rekey_company
from tests.attacks.world import TABLES, Db, everything
from tests.sealing import K1

ALL = (*TABLES, "whatsapp_leases")

Do = Callable[[Rest, str], Awaitable[object]]


async def note(rest: Rest, company_id: str) -> None:
    pause = Pause(End(440, "replaced", Reaction.YIELD), 60.0)
    await SharedPauses(lambda: rest, "test").note(company_id, pause)


async def report(rest: Rest, company_id: str) -> None:
    await rest.about("report_whatsapp_restored", company_id, timed=True)


async def settle(rest: Rest, company_id: str) -> None:
    await rest.about("settle_whatsapp_restored", company_id, timed=True)


async def seal(rest: Rest, company_id: str) -> None:
    await rekey_company(rest.with_encryption(K1), company_id)


async def save_and_delete(rest: Rest, company_id: str) -> None:
    async with use_supabase_auth_state(company_id, client=rest) as auth:
        await auth.keys.set({"session": {"1.0": {"_sessions": {}, "version": "v1"}}})
        await auth.keys.clear()


async def open_all(rest: Rest, company_id: str) -> None:
    await rekey_company(rest.with_encryption(K1), company_id, open_all=True)


@dataclass(frozen=True)
class Case:
    """What is given up, by which function, and what is done before it and before it lands."""

    late: Do
    function: str
    before: tuple[Do, ...]
    after: tuple[Do, ...]


CASES = {
    "a pause after it was ended": Case(note, "note_whatsapp_pause", (), (note, reinstate_company)),
    "the end of a pause after the next one": Case(
        reinstate_company, "reinstate_whatsapp_company", (note,), (reinstate_company, note)
    ),
    "a restored database after that is settled": Case(
        report, "report_whatsapp_restored", (), (report, settle)
    ),
    "settling after the next restored one": Case(
        settle, "settle_whatsapp_restored", (report,), (settle, report)
    ),
    "sealing after all was opened": Case(seal, "reseal_whatsapp_rows", (), (seal, open_all)),
    "sealing what is kept after all was opened": Case(
        seal, "reseal_whatsapp_kept", (save_and_delete,), (seal, open_all)
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_write_without_a_number_that_was_given_up_changes_nothing_when_it_lands(
    proxy: Proxy, direct: Rest, impatient: Rest, db: Db, company_id: str, name: str
) -> None:
    case = CASES[name]
    async with use_supabase_auth_state(company_id, client=direct):
        pass
    for do in case.before:
        await do(direct, company_id)
    landing = Landing()
    rule = proxy.on(every(calls(case.function), of_company(company_id)), held(landing))
    with pytest.raises(StoreUnavailable):
        await case.late(impatient, company_id)
    rule.end()
    for do in case.after:
        await do(direct, company_id)
    before = everything(db, company_id, tables=ALL)
    answers = await landing.land()
    assert answers
    assert everything(db, company_id, tables=ALL) == before
