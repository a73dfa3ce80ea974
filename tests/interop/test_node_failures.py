"""examples/node when the network or the gateway fails: nothing is lost, nothing is made up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.account import ALICE, Account
from tests.interop.node import NodeError

pytestmark = pytest.mark.asyncio(loop_scope="module")

SESSION = {"_sessions": {}, "version": "v1"}
WRITE = {"session": {"15550100002.0": SESSION}}
PASSING = ["lost-request", "lost-answer", "500", "503", "429", "hang", "twice"]
WRONG_SUCCESSES = ["empty-404", "list-404", "not-json"]


async def fail(account: Account, path: str, *names: str) -> None:
    """Let the next requests to a path fail, each in its way."""
    await account.call("fail", faults=[{"path": path, "name": name} for name in names])


def stored_creds(db: Any, company_id: str) -> Any:
    [creds] = db.execute(
        "select creds from whatsapp_auth where company_id = %s", [company_id]
    ).fetchone()
    return creds


def count(db: Any, table: str, company_id: str) -> Any:
    [number] = db.execute(
        f"select count(*) from {table} where company_id = %s",  # noqa: S608
        [company_id],
    ).fetchone()
    return number


@pytest.mark.parametrize("fault", PASSING)
async def test_a_write_that_met_a_passing_failure_is_sent_again_under_its_number(
    alice: Account, db: Any, company_id: str, fault: str
) -> None:
    await alice.open("supabase", company=company_id, timeout=2000)
    await alice.call("requests")
    await fail(alice, "whatsapp_keys", fault)
    await alice.call("set", data=WRITE)
    await alice.call("set", data=WRITE)
    numbers = [one["headers"]["x-whatsapp-commit"] for one in await alice.call("requests")]
    first, last = min(numbers), max(numbers)
    assert numbers == ([first, last] if fault == "twice" else [first, first, last])
    assert first != last
    assert count(db, "whatsapp_keys", company_id) == 1


@pytest.mark.parametrize("fault", [fault for fault in PASSING if fault != "twice"])
async def test_a_read_that_met_a_passing_failure_is_sent_again(
    alice: Account, company_id: str, fault: str
) -> None:
    await alice.open("supabase", company=company_id, timeout=2000)
    await alice.call("set", data=WRITE)
    await fail(alice, "rpc/fetch_whatsapp_keys", fault)
    found = await alice.call("get", type="session", ids=["15550100002.0"])
    assert found == WRITE["session"]


async def test_a_failure_that_stays_ends_as_unavailable(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, giveUpAfter=0, timeout=500)
    await fail(alice, "whatsapp_keys", "lost-answer")
    with pytest.raises(NodeError) as failed:
        await alice.call("set", data=WRITE)
    assert failed.value.code == "UNAVAILABLE"
    assert company_id in failed.value.message
    assert "saving keys" in failed.value.message
    assert count(db, "whatsapp_keys", company_id) == 1


async def test_creds_are_not_stored_when_the_keys_that_they_may_count_were_not(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, giveUpAfter=0, timeout=500)
    before = stored_creds(db, company_id)
    await fail(alice, "whatsapp_keys", "lost-request")
    results = await alice.node.together(
        {"op": "set", "party": ALICE, "data": WRITE},
        {"op": "update-creds", "party": ALICE, "update": {"nextPreKeyId": 31}},
    )
    assert [getattr(result, "code", result) for result in results] == ["UNAVAILABLE"] * 2
    assert stored_creds(db, company_id) == before
    await alice.call("update-creds", update={"nextPreKeyId": 32})
    assert stored_creds(db, company_id)["nextPreKeyId"] == 32


BEHIND = {
    "the number": "update whatsapp_writers set commit_no = 1 where company_id = %s",
    "the owner": "delete from whatsapp_leases where company_id = %s",
}


@pytest.mark.parametrize("behind", BEHIND)
async def test_an_owner_stops_when_the_database_was_set_back(
    alice: Account, db: Any, company_id: str, behind: str
) -> None:
    await alice.open("supabase", company=company_id, lease=True)
    db.execute(BEHIND[behind], [company_id])
    for _ in range(2):
        with pytest.raises(NodeError) as failed:
            await alice.call("set", data=WRITE)
        assert failed.value.code == "ROLLED_BACK"
    assert count(db, "whatsapp_keys", company_id) == 0
    assert await alice.call("lease-lost")


@pytest.mark.parametrize("fault", [*WRONG_SUCCESSES, "500", "401"])
async def test_creds_that_could_not_be_read_are_not_replaced_by_new_ones(
    alice: Account, db: Any, company_id: str, fault: str
) -> None:
    faults = [{"path": "rpc/fetch_whatsapp_creds", "name": fault}]
    with pytest.raises(NodeError) as failed:
        await alice.open("supabase", company=company_id, giveUpAfter=0, faults=faults)
    assert failed.value.code in {"REFUSED", "UNAVAILABLE"}
    assert count(db, "whatsapp_auth", company_id) == 0


@pytest.mark.parametrize("fault", WRONG_SUCCESSES)
@pytest.mark.parametrize(
    ("path", "op", "arguments"),
    [
        ("whatsapp_keys", "set", {"data": WRITE}),
        ("rpc/clear_whatsapp_keys", "clear", {}),
        ("whatsapp_auth", "update-creds", {"update": {"platform": "android"}}),
        ("rpc/fetch_whatsapp_keys", "get", {"type": "session", "ids": ["15550100002.0"]}),
    ],
)
async def test_an_answer_that_is_no_answer_is_not_taken_for_success(
    alice: Account, company_id: str, fault: str, path: str, op: str, arguments: dict[str, Any]
) -> None:
    await alice.open("supabase", company=company_id, giveUpAfter=0, timeout=500)
    await fail(alice, path, fault)
    with pytest.raises(NodeError) as failed:
        await alice.call(op, **arguments)
    assert failed.value.code == "UNAVAILABLE"


async def test_a_row_that_could_not_be_read_is_not_written_until_it_is_read(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id, giveUpAfter=0)
    await fail(alice, "rpc/fetch_whatsapp_keys", "500")
    ids = ["15550100002.0", "15550100003.0"]
    with pytest.raises(NodeError):
        await alice.call("get", type="session", ids=ids)
    with pytest.raises(NodeError) as refused:
        await alice.call("set", data=WRITE)
    assert refused.value.code == "UNREAD"
    await alice.call("set", data={"identity-key": {}, "session": {"15550100004.0": SESSION}})
    assert count(db, "whatsapp_keys", company_id) == 1
    await alice.call("get", type="session", ids=ids)
    await alice.call("set", data=WRITE)
    assert count(db, "whatsapp_keys", company_id) == 2


async def suspicious(alice: Account, company_id: str) -> None:
    """Store a session and fail to read another: sessions are compared from now on."""
    await alice.open("supabase", company=company_id)
    await alice.call("set", data={"session": {"15550100002.0": record("first")}})
    await fail(alice, "rpc/fetch_whatsapp_keys", "401")
    with pytest.raises(NodeError):
        await alice.call("get", type="session", ids=["15550100003.0"])
    await alice.call("requests")


def record(base_key: str) -> dict[str, Any]:
    return {"_sessions": {base_key: {}}, "version": "v1"}


async def test_creds_and_clears_do_not_overtake_a_write_that_is_compared(
    alice: Account, db: Any, company_id: str
) -> None:
    await suspicious(alice, company_id)
    # The read that the comparing makes is sent again, and what comes later could overtake it.
    await fail(alice, "rpc/fetch_whatsapp_keys", "503")
    await alice.node.together(
        {"op": "set", "party": ALICE, "data": {"session": {"15550100002.0": record("first")}}},
        {"op": "update-creds", "party": ALICE, "update": {"nextPreKeyId": 31}},
        {"op": "clear", "party": ALICE},
        {"op": "update-creds", "party": ALICE, "update": {"nextPreKeyId": 32}},
    )
    sent = [one["path"] for one in await alice.call("requests")]
    assert [path for path in sent if "fetch" not in path] == [
        "whatsapp_keys", "whatsapp_auth", "rpc/clear_whatsapp_keys", "whatsapp_auth",
    ]  # fmt: skip
    assert count(db, "whatsapp_keys", company_id) == 0
    assert stored_creds(db, company_id)["nextPreKeyId"] == 32


async def test_creds_fail_with_a_write_that_the_comparing_refuses(
    alice: Account, db: Any, company_id: str
) -> None:
    await suspicious(alice, company_id)
    before = stored_creds(db, company_id)
    results = await alice.node.together(
        {"op": "set", "party": ALICE, "data": {"session": {"15550100002.0": record("other")}}},
        {"op": "update-creds", "party": ALICE, "update": {"nextPreKeyId": 31}},
    )
    assert [getattr(result, "code", result) for result in results] == ["UNREAD"] * 2
    assert stored_creds(db, company_id) == before
    await alice.call("update-creds", update={"nextPreKeyId": 32})
    assert stored_creds(db, company_id)["nextPreKeyId"] == 32


async def test_a_logout_does_not_overtake_a_write_that_is_compared(
    alice: Account, db: Any, company_id: str
) -> None:
    await suspicious(alice, company_id)
    await fail(alice, "rpc/fetch_whatsapp_keys", "503")
    newer = record("first") | {"newer": True}
    results = await alice.node.together(
        {"op": "set", "party": ALICE, "data": {"session": {"15550100002.0": newer}}},
        {"op": "log-out", "party": ALICE},
    )
    assert results == [None, None]
    [kept] = db.execute(
        "select value from whatsapp_quarantine_keys where company_id = %s", [company_id]
    ).fetchone()
    assert kept == newer


async def test_closing_waits_for_a_write_that_is_compared(
    alice: Account, db: Any, company_id: str
) -> None:
    await suspicious(alice, company_id)
    await fail(alice, "rpc/fetch_whatsapp_keys", "503")
    results = await alice.node.together(
        {"op": "set", "party": ALICE, "data": {"session": {"15550100004.0": record("other")}}},
        {"op": "close-auth", "party": ALICE},
    )
    assert results == [None, None]
    assert count(db, "whatsapp_keys", company_id) == 2


async def test_a_write_is_compared_with_what_the_one_before_it_leaves(
    alice: Account, company_id: str
) -> None:
    await suspicious(alice, company_id)
    await fail(alice, "whatsapp_keys", "503")
    results = await alice.node.together(
        *(
            {"op": "set", "party": ALICE, "data": {"session": {"15550100004.0": record(base_key)}}}
            for base_key in ("one", "other")
        )
    )
    assert [getattr(result, "code", result) for result in results] == [None, "UNREAD"]
    found = await alice.call("get", type="session", ids=["15550100004.0"])
    assert found == {"15550100004.0": record("one")}


async def test_names_that_every_object_has_are_names_like_others(
    alice: Account, company_id: str
) -> None:
    await suspicious(alice, company_id)
    names = ["__proto__", "constructor", "toString", "", "a b", "\u00e9\U0001f511"]
    for key_type in ("session", "__proto__", "constructor"):
        data = {key_type: {name: record(name) for name in names}}
        await alice.call("set", data=data)
        assert await alice.call("get", type=key_type, ids=[*names, "valueOf"]) == data[key_type]
    assert await alice.call("get", type="toString", ids=names) == {}


async def test_rows_that_were_cleared_may_be_written_though_they_could_not_be_read(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id)
    await fail(alice, "rpc/fetch_whatsapp_keys", "401")
    with pytest.raises(NodeError):
        await alice.call("get", type="session", ids=["15550100002.0"])
    await alice.call("clear")
    await alice.call("set", data=WRITE)
    assert count(db, "whatsapp_keys", company_id) == 1


@pytest.mark.parametrize("failing", ["lid-mapping", "session"])
async def test_a_session_survives_a_first_message_that_came_while_it_could_not_be_read(
    alice: Account, bob: Account, db: Any, company_id: str, failing: str
) -> None:
    quick = {"maxCommitRetries": 2, "delayBetweenTriesMs": 1}
    place = {"company": company_id, "giveUpAfter": 0, "cache": False, "transactionOpts": quick}
    await alice.open("supabase", **place)
    await bob.meet(alice)
    await bob.tell(alice, "before")
    [first] = await base_keys(alice)

    await bob.meet(alice)
    message = await bob.call("encrypt", jid=alice.jid, text="lost")
    # Baileys 7 reads a mapping and the identity, then a mapping and the session; and if one of the
    # last two fails, it makes a new record as if there were none.
    reads = {"lid-mapping": ["pass", "pass", "500"], "session": ["pass", "pass", "pass", "500"]}
    await fail(alice, "rpc/fetch_whatsapp_keys", *reads[failing])
    with pytest.raises(NodeError) as refused:
        await alice.call("decrypt", jid=bob.jid, **message)
    assert refused.value.code == "UNREAD"
    assert await base_keys(alice) == {first}

    assert await alice.call("decrypt", jid=bob.jid, **message) == "lost"
    assert await base_keys(alice) > {first}


async def base_keys(account: Account) -> set[str]:
    """Name the sessions, open and closed, that an account has with Bob."""
    found = await account.call("get", type="session", ids=["15550100002.0"])
    return set(found["15550100002.0"]["_sessions"])


async def test_no_failure_tells_a_stored_value(alice: Account, company_id: str) -> None:
    await alice.open("supabase", company=company_id)
    # Postgres answers with the whole row that breaks a constraint.
    with pytest.raises(NodeError) as refused:
        await alice.call("set", data={"too long " * 40: {"1": {"secret": "c2VjcmV0IGtleQ"}}})
    assert refused.value.code == "REFUSED"
    assert "23514" in refused.value.message
    assert "c2VjcmV0IGtleQ" not in str(refused.value)


async def test_a_write_that_arrives_again_after_its_successor_is_refused(
    alice: Account, db: Any, company_id: str
) -> None:
    await alice.open("supabase", company=company_id)
    await alice.call("update-creds", update={"platform": "old"})
    await alice.call("set", data={"lid-mapping": {"1": "old"}, "device-list": {"1": ["0"]}})
    await alice.call("set", data={"lid-mapping": {"1": "new"}})
    *delayed, last = [
        status for path, status in await alice.call("replay") if path.startswith("whatsapp_")
    ]
    assert set(delayed) == {409}
    assert last == 201
    [value] = db.execute(
        "select value from whatsapp_keys where company_id = %s and key_type = 'lid-mapping'",
        [company_id],
    ).fetchone()
    assert value == "new"
