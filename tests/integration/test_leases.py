"""One owner per company, refused by the database and told apart by the client."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from devstack import Stack
from supabase_auth_state import (
    LeaseHeld,
    LeaseLost,
    Rest,
    Settings,
    WriteRefused,
    open_rest,
    use_supabase_auth_state,
)
from supabase_auth_state.leases.lease import acquire_lease, clock

Db = psycopg.Connection[Any]
UPSERT = {"Prefer": "resolution=merge-duplicates,return=minimal"}


async def call(rest: Rest, function: str, company: str, **params: Any) -> Any:
    return await rest.rpc(function, {"p_company_id": company, **params})


def expire(db: Db, company: str) -> None:
    """Let the lease run out now, on the clock that counts."""
    db.execute("update whatsapp_leases set expires_at = now() where company_id = %s", [company])


async def test_tokens_only_grow(rest: Rest, db: Db, company_id: str) -> None:
    tokens = []
    for n in range(3):
        answer = await call(
            rest, "acquire_whatsapp_lease", company_id, p_owner=f"o{n}", p_ttl_seconds=30
        )
        tokens.append(answer["token"])
        if n == 0:
            await call(rest, "release_whatsapp_lease", company_id, p_token=answer["token"])
        else:
            expire(db, company_id)
    assert tokens == sorted(set(tokens))


async def test_a_held_company_is_refused_and_its_owner_named(rest: Rest, company_id: str) -> None:
    lease = await acquire_lease(rest, company_id, owner="worker-1")
    with pytest.raises(LeaseHeld, match="worker-1") as refused:
        await acquire_lease(rest, company_id, owner="worker-2")
    assert refused.value.expires_at is not None
    await lease.release()
    await (await acquire_lease(rest, company_id, owner="worker-2")).release()


async def test_the_same_owner_asks_again_when_its_answer_was_lost(
    rest: Rest, company_id: str
) -> None:
    first = await acquire_lease(rest, company_id, owner="me")
    second = await acquire_lease(rest, company_id, owner="me")
    assert second.token > first.token
    with pytest.raises(LeaseLost):
        await first.renew()
    await second.renew()
    for lease in (first, second):
        await lease.release()


async def test_renewal_tells_renewed_lost_missing_and_restored_apart(
    rest: Rest, db: Db, company_id: str
) -> None:
    async def renew(token: int) -> str:
        answer = await call(
            rest, "renew_whatsapp_lease", company_id, p_token=token, p_ttl_seconds=30
        )
        return str(answer["status"])

    assert await renew(1) == "restored"  # no token was given yet, as far as the database knows
    token = (await call(rest, "acquire_whatsapp_lease", company_id, p_owner="a", p_ttl_seconds=30))[
        "token"
    ]
    assert await renew(token) == "renewed"
    expire(db, company_id)
    assert await renew(token) == "renewed"
    expire(db, company_id)
    await call(rest, "acquire_whatsapp_lease", company_id, p_owner="b", p_ttl_seconds=30)
    assert await renew(token) == "lost"
    await call(rest, "release_whatsapp_lease", company_id, p_token=token + 1)
    assert await renew(token + 1) == "missing"


async def test_status_says_who_owns_a_company(rest: Rest, company_id: str) -> None:
    status = await call(rest, "whatsapp_lease_status", company_id)
    assert (status["token"], status["owner"], status["live"]) == (0, None, False)
    lease = await acquire_lease(rest, company_id, owner="me")
    status = await call(rest, "whatsapp_lease_status", company_id)
    assert (status["token"], status["owner"], status["live"]) == (lease.token, "me", True)
    await lease.release()
    status = await call(rest, "whatsapp_lease_status", company_id)
    assert (status["owner"], status["live"]) == (None, False)


@pytest.mark.parametrize("ttl", [0, -1, 86401])
async def test_a_lease_of_impossible_length_is_refused(
    rest: Rest, company_id: str, ttl: int
) -> None:
    with pytest.raises(Exception, match="86400"):
        await call(rest, "acquire_whatsapp_lease", company_id, p_owner="a", p_ttl_seconds=ttl)
    with pytest.raises(Exception, match="86400"):
        await acquire_lease(rest, company_id, ttl=ttl)


@pytest.fixture
def old_javascript(stack: Stack, as_role: Any) -> httpx.AsyncClient:
    """A client that knows nothing of leases."""
    return as_role(stack.service_role_key)


async def every_write(
    client: httpx.AsyncClient, company: str, **headers: str
) -> list[httpx.Response]:
    key = {"company_id": company, "key_type": "session", "key_id": "1.0", "value": {}}
    one = {"company_id": f"eq.{company}"}
    return [
        await client.post("whatsapp_keys", json=[key], headers={**UPSERT, **headers}),
        await client.post(
            "whatsapp_keys", json=[{**key, "value": None}], headers={**UPSERT, **headers}
        ),
        await client.patch("whatsapp_keys", json={"value": {"x": 1}}, params=one, headers=headers),
        await client.delete("whatsapp_keys", params=one, headers=headers),
        await client.post(
            "whatsapp_auth",
            json=[{"company_id": company, "creds": {}}],
            headers={**UPSERT, **headers},
        ),
        await client.patch("whatsapp_auth", json={"creds": {"x": 1}}, params=one, headers=headers),
        await client.delete("whatsapp_auth", params=one, headers=headers),
        await client.post(
            "rpc/commit_whatsapp_state",
            content=f'{{"company_id": "{company}", "keys": {{"session": {{"1.0": {{}}}}}}}}',
            headers={"Content-Type": "text/plain", **headers},
        ),
    ]


async def test_no_write_without_the_token_passes_while_the_company_is_owned(
    open_auth: Any, old_javascript: httpx.AsyncClient, db: Db, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    await auth.keys.set({"session": {"1.0": {"kept": True}}})
    before = contents(db, company_id)
    for headers in (
        {},
        {"x-whatsapp-lease": "0"},
        {"x-whatsapp-lease": "x' or 1=1"},
        {"x-whatsapp-lease": ""},
    ):
        answers = await every_write(old_javascript, company_id, **headers)
        # Deleting by an insert of null meets the guard too; an insert of nothing new would have
        # passed.
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
            (409, "PT409")
        ] * 8
    assert contents(db, company_id) == before
    assert "owned by" in (await every_write(old_javascript, company_id))[0].json()["message"]


async def test_the_refusal_says_what_to_do(
    open_auth: Any, old_javascript: httpx.AsyncClient, company_id: str
) -> None:
    await open_auth(lease=True, owner="worker-1 on host-7")
    answer = (await every_write(old_javascript, company_id))[0].json()
    assert "worker-1 on host-7" in answer["message"]
    assert "Stop that process first" in answer["hint"]


async def test_direct_sql_is_refused_too(open_auth: Any, db: Db, company_id: str) -> None:
    await (await open_auth(lease=True)).keys.set({"session": {"1.0": {}}})
    for statement in (
        "delete from whatsapp_keys where company_id = %s",
        "update whatsapp_keys set value = '[]' where company_id = %s",
        "update whatsapp_auth set creds = '{}' where company_id = %s",
        "update whatsapp_keys set company_id = 'elsewhere' where company_id = %s",
    ):
        with pytest.raises(psycopg.DatabaseError, match="owned by"):
            db.execute(statement, [company_id])


async def test_rows_cannot_be_moved_into_an_owned_company(
    open_auth: Any, db: Db, company_id: str
) -> None:
    await open_auth(lease=True)
    other = company_id + "-other"
    db.execute("insert into whatsapp_keys values (%s, 'session', '1.0', '{}')", [other])
    with pytest.raises(psycopg.DatabaseError, match="owned by"):
        db.execute(
            "update whatsapp_keys set company_id = %s where company_id = %s", [company_id, other]
        )


async def test_one_owned_company_in_a_bulk_upsert_refuses_all_of_it(
    open_auth: Any, old_javascript: httpx.AsyncClient, db: Db, company_id: str
) -> None:
    await open_auth(lease=True)
    companies = [f"{company_id}-a", company_id, f"{company_id}-b"]
    rows = [
        {"company_id": c, "key_type": "session", "key_id": "1.0", "value": {}} for c in companies
    ]
    answer = await old_javascript.post("whatsapp_keys", json=rows, headers=UPSERT)
    assert answer.status_code == 409
    for company in companies:
        assert contents(db, company)[1] == []


async def test_a_company_that_nobody_owns_is_written_as_before(
    old_javascript: httpx.AsyncClient, rest: Rest, company_id: str
) -> None:
    assert all(answer.is_success for answer in await every_write(old_javascript, company_id))
    await (await acquire_lease(rest, company_id)).release()
    assert all(answer.is_success for answer in await every_write(old_javascript, company_id))


async def test_a_late_write_of_the_former_owner_is_refused(
    open_auth: Any, db: Db, company_id: str
) -> None:
    old = await open_auth(lease=True)
    await old.keys.set({"session": {"1.0": {"by": "old"}}})
    expire(db, company_id)
    new = await open_auth(lease=True)
    assert new.lease.token > old.lease.token
    await new.keys.set({"session": {"1.0": {"by": "new"}}})
    with pytest.raises(LeaseLost):
        await old.keys.set({"session": {"1.0": {"by": "old"}}, "pre-key": {"7": None}})
    assert old.lease.lost.is_set()
    with pytest.raises(LeaseLost):
        await old.save_creds()
    assert await new.keys.get("session", ["1.0"]) == {"1.0": {"by": "new"}}
    assert await old.keys.get("session", ["1.0"]) == {"1.0": {"by": "new"}}


async def test_an_owner_whose_time_ran_out_goes_on_while_nobody_took_over(
    open_auth: Any, db: Db, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    expire(db, company_id)
    await auth.keys.set({"session": {"1.0": {}}})
    await auth.lease.renew()
    await auth.keys.set({"session": {"1.0": {"n": 2}}})


async def test_what_was_released_can_no_longer_be_written_with(
    rest: Rest, old_javascript: httpx.AsyncClient, company_id: str
) -> None:
    lease = await acquire_lease(rest, company_id)
    await lease.release()
    answers = await every_write(old_javascript, company_id, **lease.headers)
    assert {answer.status_code for answer in answers if answer.request.method == "POST"} == {409}


async def test_acquire_waits_for_a_write_under_way_and_then_sees_it(
    settings: Settings, stack: Stack, db: Db, company_id: str
) -> None:
    with psycopg.connect(stack.db_url) as writer:
        writer.execute(
            "insert into whatsapp_keys values (%s, 'session', '1.0', '{}')", [company_id]
        )
        rest = open_rest(settings)
        acquiring = asyncio.create_task(acquire_lease(rest, company_id))
        await until_somebody_waits(db)
        assert not acquiring.done()
        writer.commit()
        lease = await acquiring
    found = await rest.rpc(
        "get_whatsapp_keys", {"p_company_id": company_id, "p_keys": {"session": ["1.0"]}}
    )
    assert found == {"session": {"1.0": {}}}
    await lease.release()
    await rest.close()


async def until_somebody_waits(db: Db) -> None:
    query = "select count(*) from pg_locks where not granted"
    while db.execute(query).fetchone() == (0,):
        await asyncio.sleep(0.01)


async def test_a_delayed_older_commit_of_the_same_writer_is_refused(
    old_javascript: httpx.AsyncClient, db: Db, company_id: str
) -> None:
    async def commit(n: int, value: int, writer: str = "aa-11") -> int:
        answer = await old_javascript.post(
            "rpc/commit_whatsapp_state",
            content=f'{{"company_id": "{company_id}", "keys": {{"session": {{"1.0": {value}}}}}}}',
            headers={"Content-Type": "text/plain", "x-whatsapp-commit": f"{writer}:{n}"},
        )
        return answer.status_code

    assert await commit(1, 10) == 204
    assert await commit(1, 10) == 204
    assert await commit(3, 30) == 204
    assert await commit(2, 20) == 409
    assert contents(db, company_id)[1] == [("session", "1.0", 30)]
    assert await commit(1, 40, writer="bb-22") == 204


async def test_a_lost_lease_is_told_at_the_next_renewal(
    rest: Rest, db: Db, company_id: str
) -> None:
    lease = await acquire_lease(rest, company_id, ttl=1)
    expire(db, company_id)
    await call(rest, "acquire_whatsapp_lease", company_id, p_owner="b", p_ttl_seconds=30)
    await asyncio.wait_for(lease.lost.wait(), 30)
    with pytest.raises(LeaseLost):
        lease.check()
    await lease.release()
    assert (await call(rest, "whatsapp_lease_status", company_id))["owner"] == "b"


async def test_renewal_keeps_a_lease_for_many_times_its_length(
    rest: Rest, db: Db, company_id: str
) -> None:
    lease = await acquire_lease(rest, company_id, ttl=1)
    renewals = 0
    last = None
    while renewals < 8:
        row = db.execute(
            "select renewed_at, expires_at > clock_timestamp() from whatsapp_leases where "
            "company_id = %s",
            [company_id],
        ).fetchone()
        assert row is not None
        renewals += row[0] != last
        last = row[0]
        await asyncio.sleep(0.02)
    lease.check()
    await lease.release()


async def test_release_ends_the_renewal(rest: Rest, company_id: str) -> None:
    before = asyncio.all_tasks()
    lease = await acquire_lease(rest, company_id)
    assert asyncio.all_tasks() != before
    await lease.release()
    assert asyncio.all_tasks() == before


async def test_a_network_loss_is_not_a_lost_lease(fresh_stack: Any, company_id: str) -> None:
    stack = fresh_stack(migrate=True)
    settings = Settings(url=stack.url, key=stack.service_role_key, timeout=1, give_up_after=0.5)
    auth = await use_supabase_auth_state(company_id, settings=settings, lease=True, lease_ttl=1)
    assert auth.lease is not None
    await auth.keys.set({"session": {"1.0": {"n": 1}}})
    stack.gateway.stop()
    while auth.lease.holds():
        await asyncio.sleep(0.02)
    assert not auth.lease.lost.is_set()
    # Not even from memory: somebody else may own the company by now.
    with pytest.raises(Exception, match="calling fetch"):
        await auth.keys.get("session", ["1.0"])
    stack.gateway.start()
    while not auth.lease.holds():
        await asyncio.sleep(0.02)
    assert auth.lease.lapses > 0
    assert await auth.keys.get("session", ["1.0"]) == {"1.0": {"n": 1}}
    await auth.close()


FROZEN = Path(__file__).with_name("frozen_owner.py")


async def test_a_process_frozen_for_longer_than_its_lease_writes_nothing_more(
    stack: Stack, open_auth: Any, rest: Rest, db: Db, company_id: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, FROZEN, stack.url, company_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            "SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key,
            "PYTHONPATH": str(FROZEN.parents[2]),
        },
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "owning\n"
        process.send_signal(signal.SIGSTOP)
        status = await call(rest, "whatsapp_lease_status", company_id)
        while status["live"]:
            await asyncio.sleep(0.05)
            status = await call(rest, "whatsapp_lease_status", company_id)
        new = await open_auth(lease=True)
        await new.keys.set({"session": {"1.0": {"by": "new"}}})
        before = contents(db, company_id)
        process.send_signal(signal.SIGCONT)
        print("write", file=process.stdin, flush=True)
        assert process.stdout.readline() == "LeaseLost\n"
        assert contents(db, company_id) == before
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


async def test_a_write_with_a_wrong_commit_is_not_taken_for_a_lost_lease(
    open_auth: Any, db: Db, company_id: str
) -> None:
    auth = await open_auth(lease=True)
    await auth.keys.set({"session": {"1.0": {}}})
    db.execute("update whatsapp_writers set commit_no = 1000 where company_id = %s", [company_id])
    with pytest.raises(WriteRefused, match="later request"):
        await auth.keys.set({"session": {"1.0": {"n": 2}}})
    assert not auth.lease.lost.is_set()


def contents(db: Db, company: str) -> tuple[list[Any], list[Any]]:
    return (
        db.execute("select creds from whatsapp_auth where company_id = %s", [company]).fetchall(),
        db.execute(
            "select key_type, key_id, value from whatsapp_keys where company_id = %s order by 1, 2",
            [company],
        ).fetchall(),
    )


async def test_many_leases_are_renewed_in_one_request_each_with_its_own_answer(
    rest: Rest, db: Db, stack: Stack, company_id: str
) -> None:
    leases = [await acquire_lease(rest, f"{company_id}-{n}") for n in range(4)]
    await leases[1].release()
    db.execute(
        "update whatsapp_leases set token = token + 1 where company_id = %s",
        [leases[2].company_id],
    )
    with psycopg.connect(stack.db_url) as writer:
        writer.execute(
            "select from whatsapp_leases where company_id = %s for share", [leases[3].company_id]
        )
        pairs = [[lease.company_id, lease.token] for lease in leases] + [["never owned", 1]]
        answers = await rest.rpc("renew_whatsapp_leases", {"p_leases": pairs, "p_ttl_seconds": 30})
    assert [answer["status"] for answer in answers] == [
        "renewed", "missing", "lost", "busy", "restored",
    ]  # fmt: skip
    for lease in leases:
        await lease.release()


@pytest.mark.parametrize("jump", [1e6, -1e6])
async def test_a_clock_that_jumps_does_not_decide_who_may_write(
    open_auth: Any, db: Db, company_id: str, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    old = await open_auth(lease=True)
    await old.keys.set({"session": {"1.0": {"by": "old"}}})
    now = clock()
    monkeypatch.setattr("supabase_auth_state.leases.lease.clock", lambda: now + jump)
    assert old.lease.holds() is (jump < 0)
    await old.keys.set({"session": {"1.0": {"by": "old, after the jump"}}})
    expire(db, company_id)
    new = await open_auth(lease=True)
    await new.keys.set({"session": {"1.0": {"by": "new"}}})
    with pytest.raises(LeaseLost):
        await old.keys.set({"session": {"1.0": {"by": "old"}}})
    assert contents(db, company_id)[1] == [("session", "1.0", {"by": "new"})]
