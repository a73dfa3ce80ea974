"""What examples/node tells of a request is final, whoever answers and whatever lands late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.interop.account import Account
from tests.interop.node import NodeError

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRITE = {"session": {"15550100002.0": {"_sessions": {}, "version": "v1"}}}
SOON = {"giveUpAfter": 0, "timeout": 2000}

PASSING_REFUSALS = {
    "a grant that is missing": (403, "42501"),
    "a schema that is being loaded": (404, "PGRST205"),
    "a key that one server does not know yet": (401, "PGRST301"),
    "a gateway": (403, 403),
}
STRANGERS: list[tuple[int, Any]] = [
    (200, []),
    (200, None),
    (200, {}),
    (200, True),
    (200, "<html>"),
    (200, {"company_id": "another", "request": "a-1", "commit": "b:1", "time": 1.0, "token": 1}),
    (201, None),
    (409, {"code": "PT409", "message": 5}),
    (409, None),
    (500, []),
]


def refusal(path: str, status: int, body: Any) -> dict[str, Any]:
    return {"path": path, "name": "json", "status": status, "body": body}


def count(db: Any, table: str, company_id: str) -> Any:
    [number] = db.execute(
        f"select count(*) from {table} where company_id = %s",  # noqa: S608
        [company_id],
    ).fetchone()
    return number


async def open_parties(
    account: Account, company_id: str, faults: Sequence[Sequence[Mapping[str, Any]]]
) -> list[str]:
    """Open a company for each list of faults, one after the other; give the parties' names."""
    names = [f"{company_id}-{number}" for number in range(len(faults))]
    for name, met in zip(names, faults, strict=True):
        party = Account(account.node, name)
        await party.open("supabase", company=name, faults=met, **SOON)
    return names


async def of_each(account: Account, names: Sequence[str], op: str, **arguments: Any) -> list[Any]:
    """Run a command for each party at the same time, and give results or the errors' codes."""
    results = await account.node.together(
        *({"op": op, "party": name, **arguments} for name in names)
    )
    return [one.code if isinstance(one, NodeError) else one for one in results]


async def test_a_write_that_is_refused_for_what_may_pass_is_told_when_no_copy_of_it_can_land(
    alice: Account, db: Any, company_id: str
) -> None:
    faults = [
        [refusal("whatsapp_keys", status, {"code": code})]
        for status, code in PASSING_REFUSALS.values()
    ]
    names = await open_parties(alice, company_id, faults)
    assert set(await of_each(alice, names, "set", data=WRITE)) == {"REFUSED"}
    copies = [
        status
        for replayed in await of_each(alice, names, "replay")
        for path, status in replayed
        if path == "whatsapp_keys"
    ]
    assert copies == [408] * len(PASSING_REFUSALS)


async def test_only_a_judgement_about_the_writer_makes_the_outcome_of_its_writes_known(
    alice: Account, company_id: str
) -> None:
    lost = {"path": "whatsapp_keys", "name": "lost-answer"}
    faults = [
        [lost, refusal("rpc/fence_whatsapp_writer", status, {"code": code})]
        for status, code in (*PASSING_REFUSALS.values(), (405, "25006"))
    ]
    names = await open_parties(alice, company_id, faults)
    assert set(await of_each(alice, names, "set", data=WRITE)) == {"UNAVAILABLE"}
    wanted = {"type": "session", "ids": ["15550100002.0"]}
    assert set(await of_each(alice, names, "get", **wanted)) == {"REFUSED"}
    assert await of_each(alice, names, "get", **wanted) == [WRITE["session"]] * len(names)


async def test_the_databases_clock_is_learned_from_its_own_answers_only(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, **SOON)
    in_the_future = refusal("whatsapp_keys", 200, {"time": 4e9})
    await alice.call("fail", faults=[in_the_future, {**in_the_future, "name": "lost-request"}])
    for _ in range(2):
        with pytest.raises(NodeError):
            await alice.call("set", data=WRITE)
    copies = [status for path, status in await alice.call("replay") if path == "whatsapp_keys"]
    assert copies == [408, 408]
    assert count(db, "whatsapp_keys", company_id) == 0


async def test_no_stranger_answers_for_the_database(alice: Account, company_id: str) -> None:
    commands: dict[str, tuple[str, dict[str, Any]]] = {
        "rpc/fetch_whatsapp_keys": ("get", {"type": "session", "ids": ["15550100003.0"]}),
        "whatsapp_keys": ("set", {"data": WRITE}),
        "whatsapp_auth": ("update-creds", {"update": {"platform": "android"}}),
        "rpc/clear_whatsapp_keys": ("clear", {}),
        "rpc/log_out_whatsapp_company": ("log-out", {}),
    }
    faults = [[refusal(path, *stranger) for path in commands] for stranger in STRANGERS]
    names = await open_parties(alice, company_id, faults)
    for op, arguments in commands.values():
        results = await of_each(alice, names, op, **arguments)
        assert set(map(str, results)) == {"REFUSED", "UNAVAILABLE"}


@pytest.mark.parametrize(
    "path",
    ["rpc/acquire_whatsapp_lease", "rpc/fetch_whatsapp_creds", "rpc/create_whatsapp_company"],
)
async def test_nothing_is_opened_by_a_strangers_answer(
    alice: Account, db: Any, company_id: str, path: str
) -> None:
    companies = [f"{company_id}-{number}" for number in range(len(STRANGERS))]
    faults = [[refusal(path, *stranger)] for stranger in STRANGERS]
    results = await alice.node.together(
        *(
            {"op": "open", "party": company, "kind": "supabase", "company": company, "faults": met}
            | {"lease": "lease" in path, **SOON}
            for company, met in zip(companies, faults, strict=True)
        )
    )
    assert {result.code for result in results} == {"REFUSED", "UNAVAILABLE"}
    kept = db.execute(
        "select company_id from whatsapp_auth where company_id = any(%s) union all "
        "select company_id from whatsapp_leases where company_id = any(%s) and owner <> ''",
        [companies, companies],
    ).fetchall()
    assert kept == []


async def test_no_two_requests_of_a_company_have_the_same_name(
    alice: Account, company_id: str
) -> None:
    names = []
    for _ in range(2):
        await alice.open("supabase", company=company_id)
        await alice.call("get", type="session", ids=["15550100002.0"])
        requests = await alice.call("requests")
        names += [one["request"] for one in requests if "request" in one]
        await alice.call("close")
    assert len(names) == len(set(names)) > 3


async def test_a_company_id_that_is_no_text_is_an_error_that_says_so(alice: Account) -> None:
    with pytest.raises(NodeError, match="text") as refused:
        await alice.open("supabase", company=962302)
    assert refused.value.code == "CONFIGURATION"
