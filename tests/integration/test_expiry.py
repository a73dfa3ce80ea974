"""What may be deleted, when, and what keeps it alive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import psycopg
import pytest

from supabase_auth_state import Rest, codec, init_auth_creds

Db = psycopg.Connection[Any]
NEVER = [
    "session",
    "pre-key",
    "sender-key",
    "app-state-sync-key",
    "app-state-sync-version",
    "identity-key",
]


@pytest.fixture
def left(db: Db, company_id: str) -> Callable[[], float | None]:
    """Days until each row of the company may be deleted: `left("lid-mapping", "1")`."""

    def days(key_type: str = "lid-mapping", key_id: str = "1") -> float | None:
        row = db.execute(
            "select extract(epoch from expires_at - now()) / 86400 from whatsapp_keys "
            "where (company_id, key_type, key_id) = (%s, %s, %s)",
            [company_id, key_type, key_id],
        ).fetchone()
        assert row is not None, f"{key_type} {key_id} is gone"
        return None if row[0] is None else float(row[0])

    return days


@pytest.fixture
def put(db: Db, company_id: str) -> Callable[..., None]:
    """Write a row as another client would: `put("lid-mapping", "1", '"2"', days=-1)`."""
    creds = orjson.dumps(codec.encode_creds(init_auth_creds(), company_id=company_id)).decode()
    db.execute("insert into whatsapp_auth (company_id, creds) values (%s, %s)", [company_id, creds])

    def write(key_type: str, key_id: str, value: str, days: float | None = None) -> None:
        db.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value, expires_at) "
            "values (%s, %s, %s, %s, now() + make_interval(secs => %s * 86400)) "
            "on conflict (company_id, key_type, key_id) do update set value = excluded.value, "
            "expires_at = coalesce(excluded.expires_at, whatsapp_keys.expires_at)",
            [company_id, key_type, key_id, value, days],
        )

    return write


@pytest.fixture
def ids(db: Db, company_id: str) -> Callable[[], list[str]]:
    """The ids of the company's rows, of any type."""

    def read() -> list[str]:
        query = "select key_id from whatsapp_keys where company_id = %s order by 1"
        return [row[0] for row in db.execute(query, [company_id]).fetchall()]

    return read


async def clean(rest: Rest) -> None:
    while await rest.rpc("cleanup_expired_whatsapp_keys", {}):
        pass


async def test_a_written_mapping_may_go_after_seven_days(open_auth: Any, left: Any) -> None:
    auth = await open_auth()
    await auth.keys.set({"lid-mapping": {"1": "2", "2_reverse": "1"}, "device-list": {"1": ["0"]}})
    assert left() == pytest.approx(7, abs=0.01)
    assert left("device-list", "1") is None


@pytest.mark.parametrize("key_type", NEVER)
def test_types_that_must_never_expire_do_not(db: Db, put: Any, left: Any, key_type: str) -> None:
    put(key_type, "1", "{}", days=-1)
    assert left(key_type) is None
    put(key_type, "1", "{}", days=1)
    assert left(key_type) is None
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute("insert into whatsapp_key_policies values (%s, '30 days')", [key_type])


def test_the_index_of_tokens_never_expires(put: Any, left: Any) -> None:
    put("tctoken", "__index", "{}", days=-1)
    put("tctoken", "1@lid", "{}", days=-1)
    assert left("tctoken", "__index") is None
    assert left("tctoken", "1@lid") == pytest.approx(-1, abs=0.01)


def test_a_mapping_cannot_be_given_less_than_seven_days(db: Db) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute("update whatsapp_key_policies set ttl = '3 days' where key_type = 'lid-mapping'")


def test_a_plain_upsert_of_another_client_starts_the_time_again(put: Any, left: Any) -> None:
    put("lid-mapping", "1", '"2"', days=-3)
    assert left() == pytest.approx(-3, abs=0.01)
    put("lid-mapping", "1", '"2"')
    assert left() == pytest.approx(7, abs=0.01)


async def test_an_expired_row_is_returned_until_it_is_deleted(open_auth: Any, put: Any) -> None:
    put("lid-mapping", "1", '"2"', days=-30)
    assert await (await open_auth()).keys.get("lid-mapping", ["1"]) == {"1": "2"}


async def test_reading_keeps_both_directions_alive(open_auth: Any, put: Any, left: Any) -> None:
    put("lid-mapping", "1", '"2"', days=1)
    put("lid-mapping", "2_reverse", '"1"', days=1)
    await (await open_auth()).keys.get("lid-mapping", ["1"])
    assert left("lid-mapping", "1") == pytest.approx(7, abs=0.01)
    assert left("lid-mapping", "2_reverse") == pytest.approx(7, abs=0.01)


async def test_reading_writes_nothing_before_half_of_the_time_is_over(
    open_auth: Any, put: Any, left: Any, db: Db, company_id: str
) -> None:
    put("lid-mapping", "1", '"2"', days=4)
    query = "select xmin, updated_at from whatsapp_keys where company_id = %s"
    before = db.execute(query, [company_id]).fetchall()
    await (await open_auth()).keys.get("lid-mapping", ["1"])
    assert db.execute(query, [company_id]).fetchall() == before
    assert left() == pytest.approx(4, abs=0.01)


async def test_moving_expires_at_does_not_change_updated_at(
    open_auth: Any, put: Any, db: Db, company_id: str
) -> None:
    put("lid-mapping", "1", '"2"', days=1)
    db.execute(
        "update whatsapp_keys set updated_at = '2026-01-01' where company_id = %s", [company_id]
    )
    await (await open_auth()).keys.get("lid-mapping", ["1"])
    row = db.execute(
        "select updated_at = '2026-01-01' from whatsapp_keys where company_id = %s", [company_id]
    ).fetchone()
    assert row == (True,)


async def test_a_pair_goes_together(rest: Rest, put: Any, ids: Any) -> None:
    put("lid-mapping", "1", '"2"', days=-1)
    put("lid-mapping", "2_reverse", '"1"', days=-1)
    await clean(rest)
    assert ids() == []


async def test_a_pair_stays_together(rest: Rest, put: Any, ids: Any) -> None:
    put("lid-mapping", "1", '"2"', days=-1)
    put("lid-mapping", "2_reverse", '"1"', days=3)
    await clean(rest)
    assert ids() == ["1", "2_reverse"]


async def test_the_other_direction_goes_even_beyond_the_batch(
    rest: Rest, put: Any, ids: Any
) -> None:
    put("lid-mapping", "1", '"2"', days=-9)
    put("lid-mapping", "2_reverse", '"1"', days=-1)
    await rest.rpc("cleanup_expired_whatsapp_keys", {"p_batch_size": 1})
    assert ids() in ([], ["1", "2_reverse"])
    await clean(rest)
    assert ids() == []


@pytest.mark.parametrize("session", ["2_1.0", "2_1.12", "2.0", "2_129.99", "1.0", "1_128.99"])
async def test_a_mapping_that_a_session_needs_stays(
    rest: Rest, put: Any, ids: Any, left: Any, session: str
) -> None:
    put("lid-mapping", "1", '"2"', days=-1)
    put("lid-mapping", "2_reverse", '"1"', days=-1)
    put("session", session, "{}")
    await clean(rest)
    assert ids() == sorted(["1", "2_reverse", session])
    assert left("lid-mapping", "1") > 6


@pytest.mark.parametrize("session", ["22.0", "22_1.0", "12.0", "2x.0", "21_1.0", "2"])
async def test_a_session_of_somebody_else_keeps_nothing(
    rest: Rest, put: Any, ids: Any, session: str
) -> None:
    put("lid-mapping", "1", '"2"', days=-1)
    put("lid-mapping", "2_reverse", '"1"', days=-1)
    put("session", session, "{}")
    await clean(rest)
    assert ids() == [session]


async def test_a_session_of_another_company_keeps_nothing(
    rest: Rest, put: Any, ids: Any, db: Db, company_id: str
) -> None:
    put("lid-mapping", "1", '"2"', days=-1)
    db.execute(
        "insert into whatsapp_keys values (%s, 'session', '2_1.0', '{}')", [company_id + "-other"]
    )
    await clean(rest)
    assert ids() == []


async def test_a_former_number_of_a_lid_goes_alone(rest: Rest, put: Any, ids: Any) -> None:
    put("lid-mapping", "1", '"2"', days=-1)
    put("lid-mapping", "11", '"2"', days=5)
    put("lid-mapping", "2_reverse", '"11"', days=5)
    await clean(rest)
    assert ids() == ["11", "2_reverse"]


async def test_a_mapping_of_unknown_form_is_left_alone(rest: Rest, put: Any, ids: Any) -> None:
    put("lid-mapping", "1", '{"what": "is this"}', days=-1)
    await clean(rest)
    assert ids() == ["1"]


async def test_other_expired_rows_go_and_live_ones_stay(rest: Rest, put: Any, ids: Any) -> None:
    put("device-list", "old", "[]", days=-1)
    put("device-list", "young", "[]", days=1)
    put("device-list", "for ever", "[]")
    await clean(rest)
    assert ids() == ["for ever", "young"]


async def test_held_rows_are_not_looked_at_again_and_again(
    rest: Rest, put: Any, db: Db, company_id: str
) -> None:
    for n in range(30):
        put("lid-mapping", f"{n}", f'"{n}000"', days=-1)
        put("session", f"{n}000_1.0", "{}")
    put("lid-mapping", "free", '"nobody"', days=-0.5)
    assert await rest.rpc("cleanup_expired_whatsapp_keys", {"p_batch_size": 5}) >= 1
    row = db.execute(
        "select count(*) from whatsapp_keys where company_id = %s and expires_at <= now()",
        [company_id],
    ).fetchone()
    assert row == (0,)


async def test_the_batch_size_is_checked(rest: Rest) -> None:
    with pytest.raises(Exception, match="at least 1"):
        await rest.rpc("cleanup_expired_whatsapp_keys", {"p_batch_size": 0})


@pytest.mark.parametrize("statistics", ["none", "outdated", "fresh"])
def test_expired_rows_are_found_by_their_keys_whatever_the_statistics(
    fresh_stack: Any, statistics: str
) -> None:
    """Deleting a row reads a few rows, not all that have expired.

    With outdated statistics the planner believes that nothing has expired, and chose to walk all
    expired rows once for each row of a batch.
    """
    stack = fresh_stack(migrate=True)
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute("alter table whatsapp_keys set (autovacuum_enabled = off)")
        db.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value) "
            "select 'company ' || c, (array['pre-key', 'session', 'lid-mapping', 'device-list', "
            "'identity-key', 'sender-key'])[1 + n % 6], n || 'x', to_jsonb('v' || n) "
            "from generate_series(1, 30) c, generate_series(1, 337) n"
        )
        if statistics == "outdated":
            db.execute("analyze whatsapp_keys")
        db.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value, expires_at) "
            "select 'c', 'lid-mapping', "
            "case when n % 2 = 0 then n::text else (n - 1 + 900000000) || '_reverse' end, "
            "to_jsonb(case when n % 2 = 0 then (n + 900000000)::text else (n - 1)::text end), "
            "now() - interval '1 day' + make_interval(secs => n / 1000.0) "
            "from generate_series(0, 9999) n"
        )
        if statistics == "fresh":
            db.execute("analyze whatsapp_keys")
        gone, read = [], 0
        while not gone or gone[-1]:
            deleted, looked_at = one_cleanup(db)
            gone.append(deleted)
            read += looked_at
        assert sum(gone) == 10_000
        assert max(gone) <= 5_000
        assert read <= 20 * 10_000
        left = db.execute("select count(*) from whatsapp_keys where company_id = 'c'").fetchone()
        assert left == (0,)


def one_cleanup(db: Db) -> tuple[int, int]:
    """Clean up once; return how many rows it has deleted and how many it has read."""
    with db.transaction():
        deleted = db.execute("select cleanup_expired_whatsapp_keys()").fetchone()
        read = db.execute(
            "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables"
            " where relname = 'whatsapp_keys'"
        ).fetchone()
    assert deleted is not None
    assert read is not None
    return deleted[0], read[0]


async def test_a_cleanup_goes_on_while_the_company_is_owned(
    open_auth: Any, rest: Rest, put: Any, ids: Any
) -> None:
    put("lid-mapping", "1", '"2"', days=-1)
    await open_auth(lease=True)
    await clean(rest)
    assert ids() == []


async def test_a_reader_without_the_lease_keeps_a_mapping_alive(
    open_auth: Any, put: Any, left: Any
) -> None:
    put("lid-mapping", "1", '"2"', days=-1)
    await open_auth(lease=True)
    reader = await open_auth()
    assert await reader.keys.get("lid-mapping", ["1"]) == {"1": "2"}
    assert left() > 6


def test_reads_still_answer_when_the_database_is_read_only(
    db: Db, put: Any, company_id: str
) -> None:
    put("lid-mapping", "1", '"2"', days=-1)
    with db.transaction():
        db.execute("set transaction read only")
        row = db.execute(
            'select get_whatsapp_keys(%s, \'{"lid-mapping": ["1"]}\')', [company_id]
        ).fetchone()
    assert row == ({"lid-mapping": {"1": "2"}},)


async def test_pg_cron_is_asked_for_where_it_is_and_its_absence_is_said(fresh_stack: Any) -> None:
    stack = fresh_stack(migrate=True)
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        row = db.execute("select schedule_whatsapp_cleanup()").fetchone()
        assert row is not None
        assert row[0]["scheduled"] is False
        assert "pg_cron is not installed" in row[0]["reason"]
        # pg_cron needs a server built with it; this stands in for its one function, to see what it
        # is told.
        db.execute(
            "create schema cron; create table cron.job (jobname text, schedule text, command text)"
        )
        db.execute(
            "create function cron.schedule(text, text, text) returns bigint language sql as "
            "$$ insert into cron.job values ($1, $2, $3); select 1::bigint $$"
        )
        assert db.execute(
            "select schedule_whatsapp_cleanup('*/5 * * * *') ->> 'scheduled'"
        ).fetchone() == ("true",)
        job = db.execute("select schedule, command from cron.job").fetchone()
        assert job is not None
        assert job[0] == "*/5 * * * *"
        db.execute(job[1])


@pytest.fixture(autouse=True)
def no_rows_of_others(db: Db) -> Iterator[None]:
    """Expired rows are everybody's: leave none behind for the next test."""
    yield
    db.execute("select set_config('whatsapp_auth.maintenance', 'on', false)")
    db.execute("delete from whatsapp_keys where expires_at < now() + interval '1 day'")
