"""How many requests the store makes, counted; what they do is shown on the real stack."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from supabase_auth_state import (
    AuthState,
    CodecError,
    InvalidRequest,
    Journal,
    LeaseLost,
    Settings,
    StoreUnavailable,
    UnreadKeyError,
    open_rest,
    use_supabase_auth_state,
)
from supabase_auth_state.rest.backoff import Timing
from tests.canned import TIME, answered, receipt, released, stock_client, stored

URL = "http://project.test/rest/v1"
STORED = {
    "session": {f"{n}.0": {"n": n} for n in range(100)},
    "lid-mapping": {"1": "2"},
    "pre-key": {"broken": "[object Object]"},
}


class Project:
    """A project whose answers are canned and whose requests are counted."""

    def __init__(self, mock: respx.MockRouter) -> None:
        self.read = mock.post(f"{URL}/rpc/fetch_whatsapp_keys").mock(side_effect=self._read)
        self.keys = mock.post(url__startswith=f"{URL}/whatsapp_keys").mock(side_effect=stored)
        self.creds = mock.post(url__startswith=f"{URL}/whatsapp_auth").mock(side_effect=stored)
        self.fence = mock.post(f"{URL}/rpc/fence_whatsapp_writer").mock(side_effect=receipt)
        mock.post(f"{URL}/rpc/fetch_whatsapp_creds").mock(
            side_effect=lambda request: answered(
                request, creds={}, client_family="baileys", has_keys=True, epoch=6
            )
        )
        mock.post(f"{URL}/rpc/acquire_whatsapp_lease").mock(
            side_effect=lambda request: answered(request, token=7, expires_at="later", lapses=0)
        )
        self.release = mock.post(f"{URL}/rpc/release_whatsapp_lease").mock(side_effect=released)
        self.clear = mock.post(f"{URL}/rpc/clear_whatsapp_keys").mock(side_effect=receipt)
        self.log_out = mock.post(f"{URL}/rpc/log_out_whatsapp_company").mock(side_effect=receipt)
        self.others = mock.post(f"{URL}/rpc/whatsapp_written_by_others").mock(
            return_value=httpx.Response(
                200, json={"company_id": "c", "time": TIME, "others": False}
            )
        )
        self.requests = mock.calls
        self.hot: Any = {"session": STORED["session"]}

    def _read(self, request: httpx.Request) -> httpx.Response:
        wanted = json.loads(request.content)["p_keys"]
        if wanted is None:
            return answered(request, keys=self.hot)
        found = {
            kind: {i: STORED[kind][i] for i in ids if i in STORED.get(kind, {})}
            for kind, ids in wanted.items()
        }
        return answered(request, keys={kind: rows for kind, rows in found.items() if rows})

    def rows(self, number: int) -> dict[tuple[str, str], Any]:
        """Return the values of one upsert of keys, by type and id."""
        rows = json.loads(self.keys.calls[number].request.content)
        return {(row["key_type"], row["key_id"]): row["value"] for row in rows}


@pytest.fixture
def project() -> Any:
    with respx.mock(assert_all_called=False) as mock:
        yield Project(mock)


SETTINGS = Settings(url="http://project.test", key="sb_secret_x", timeout=30, give_up_after=0)


def opened_on_httpx(**options: Any) -> Any:
    """Open the company on httpx's own transport; waiting takes no time."""
    skipped = [0.0]

    async def skip(seconds: float) -> None:
        skipped[0] += seconds
        await asyncio.sleep(0)

    timing = Timing(now=lambda: time.monotonic() + skipped[0], sleep=skip)
    client = stock_client("http://project.test", "sb_secret_x")
    rest = open_rest(SETTINGS, client=client, timing=timing)
    return use_supabase_auth_state("c", client=rest, **options)


@pytest.fixture
async def auth(project: Project) -> AsyncIterator[AuthState]:
    async with opened_on_httpx() as opened:
        yield opened


@pytest.fixture
async def owner(project: Project) -> AsyncIterator[AuthState]:
    async with opened_on_httpx(lease=True) as opened:
        yield opened


async def test_a_hundred_gets_at_once_are_one_request(project: Project, auth: AuthState) -> None:
    found = await asyncio.gather(*(auth.keys.get("session", [f"{n}.0"]) for n in range(100)))
    assert found == [{f"{n}.0": {"n": n}} for n in range(100)]
    assert project.read.call_count == 1


async def test_a_list_of_ids_that_changes_meanwhile_harms_nobody(
    project: Project, auth: AuthState
) -> None:
    ids = ["1.0"]
    first = asyncio.create_task(auth.keys.get("session", ids))
    second = asyncio.create_task(auth.keys.get("session", ["2.0"]))
    await asyncio.sleep(0)
    ids[0] = "3.0"
    assert await first == {"1.0": {"n": 1}}
    assert await second == {"2.0": {"n": 2}}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", " :\t")])
async def test_buffers_are_bytes_however_the_answer_is_laid_out(
    project: Project, auth: AuthState, separators: tuple[str, str]
) -> None:
    buffers = {"custom": {"1": {"a": [{"type": "Buffer", "data": "AQID"}], "b": 2}}}

    def laid_out(request: httpx.Request) -> httpx.Response:
        answer = json.loads(answered(request, keys=buffers).content)
        return httpx.Response(200, text=json.dumps(answer, separators=separators))

    project.read.mock(side_effect=laid_out)
    assert await auth.keys.get("custom", ["1"]) == {"1": {"a": [b"\1\2\3"], "b": 2}}


async def test_a_hundred_sets_at_once_are_one_request(project: Project, auth: AuthState) -> None:
    await asyncio.gather(*(auth.keys.set({"session": {f"{n}.0": {"n": n}}}) for n in range(100)))
    assert project.keys.call_count == 1


async def test_keys_and_creds_that_wait_together_are_two_upserts_keys_first(
    project: Project, auth: AuthState
) -> None:
    await asyncio.gather(auth.save_creds(), auth.keys.set({"session": {"1.0": {}}}))
    assert (project.keys.call_count, project.creds.call_count) == (1, 1)
    first, second = (call.request for call in list(project.requests)[-2:])
    assert (first.url.path, second.url.path) == (
        "/rest/v1/whatsapp_keys",
        "/rest/v1/whatsapp_auth",
    )
    assert json.loads(second.content) == [
        {"company_id": "c", "creds": {}, "client_family": "baileys"}
    ]
    assert set(second.url.params["columns"].split(",")) == {
        '"company_id"', '"creds"', '"client_family"'
    }  # fmt: skip


async def test_an_upsert_is_the_clients_own(project: Project, auth: AuthState) -> None:
    await auth.keys.set({"pre-key": {"7": None}, "session": {"2.0": {}, "1.0": {"a": b"1"}}})
    request = project.keys.calls[0].request
    assert request.url.params["on_conflict"] == "company_id,key_type,key_id"
    assert set(request.url.params["columns"].split(",")) == {
        '"company_id"', '"key_type"', '"key_id"', '"value"'
    }  # fmt: skip
    assert request.headers["prefer"] == "return=minimal,resolution=merge-duplicates"
    assert list(project.rows(0).items()) == [
        (("pre-key", "7"), None),
        (("session", "1.0"), {"a": {"type": "Buffer", "data": "MQ=="}}),
        (("session", "2.0"), {}),
    ]


async def test_a_set_of_nothing_is_no_request(project: Project, auth: AuthState) -> None:
    await auth.keys.set({"session": {}})
    await auth.keys.get("session", [])
    assert (project.keys.call_count, project.read.call_count) == (0, 0)


async def test_a_start_without_a_lease_is_two_requests(project: Project, auth: AuthState) -> None:
    await auth.keys.get("session", list(STORED["session"]))
    assert len(project.requests) == 2


async def test_a_warm_start_takes_two_requests_and_the_lease(
    project: Project, owner: AuthState
) -> None:
    assert await owner.warm() == 100
    for n in range(100):
        assert await owner.keys.get("session", [f"{n}.0"]) == {f"{n}.0": {"n": n}}
    assert len(project.requests) == 3
    assert project.read.call_count == 1


async def test_an_owner_asks_once_also_for_what_is_not_there(
    project: Project, owner: AuthState
) -> None:
    for _ in range(61):
        assert await owner.keys.get("lid-mapping", ["1", "nobody"]) == {"1": "2"}
    assert project.read.call_count == 1


async def test_an_owner_reads_its_own_writes_from_memory(
    project: Project, owner: AuthState
) -> None:
    await owner.keys.set({"session": {"1.0": {"mine": [b"\x01"]}, "2.0": None}})
    assert await owner.keys.get("session", ["1.0", "2.0"]) == {"1.0": {"mine": [b"\x01"]}}
    assert project.read.call_count == 0


async def test_without_a_lease_every_get_asks(project: Project, auth: AuthState) -> None:
    for _ in range(3):
        await auth.keys.get("session", ["1.0"])
    assert project.read.call_count == 3
    assert await auth.warm() == 0


async def test_a_write_of_unknown_outcome_is_not_remembered(
    project: Project, owner: AuthState
) -> None:
    await owner.keys.get("session", ["1.0"])
    project.keys.mock(side_effect=httpx.ReadTimeout("slow"))
    with pytest.raises(StoreUnavailable):
        await owner.keys.set({"session": {"1.0": {"n": "unknown"}}})
    for _ in range(2):
        assert await owner.keys.get("session", ["1.0"]) == {"1.0": {"n": 1}}
    assert project.read.call_count == 2
    # Nothing of the write can happen any more once it was read.
    assert project.fence.call_count == 1
    numbers = [
        int(calls[-1].request.headers["x-whatsapp-commit"].split(":")[1])
        for calls in (project.keys.calls, project.fence.calls)
    ]
    assert numbers == sorted(set(numbers))


async def test_a_lost_lease_forgets_everything_and_stops_writes(
    project: Project, owner: AuthState
) -> None:
    await owner.keys.get("session", ["1.0"])
    refused = {"code": "PT409", "message": "whatsapp lease: token 7 of company c is not its last"}
    project.keys.mock(return_value=httpx.Response(409, json=refused))
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await owner.keys.set({"session": {"1.0": {}}})
    assert project.keys.call_count == 1
    assert owner.lease is not None
    assert owner.lease.lost.is_set()
    await owner.keys.get("session", ["1.0"])
    assert project.read.call_count == 2


async def test_one_callers_damaged_row_is_not_its_neighbours_error(
    project: Project, auth: AuthState
) -> None:
    damaged, fine = await asyncio.gather(
        auth.keys.get("pre-key", ["broken"]), auth.keys.get("session", ["1.0"]),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(damaged, CodecError)
    assert fine == {"1.0": {"n": 1}}
    assert project.read.call_count == 1


async def test_after_a_failed_read_its_ids_cannot_be_written_until_they_are_read(
    project: Project, auth: AuthState
) -> None:
    answers = project.read.side_effect
    project.read.mock(side_effect=httpx.ConnectError("away"))
    with pytest.raises(StoreUnavailable):
        await auth.keys.get("session", ["1.0", "2.0"])
    project.read.mock(side_effect=answers)
    for value in ({"n": 2}, None):
        with pytest.raises(UnreadKeyError, match=r"1\.0"):
            await auth.keys.set({"session": {"1.0": value}, "pre-key": {"7": None}})
    assert project.keys.call_count == 0
    await auth.keys.get("session", ["1.0"])
    await auth.keys.set({"session": {"1.0": None}})
    with pytest.raises(UnreadKeyError, match=r"2\.0"):
        await auth.keys.set({"session": {"2.0": None}})


async def test_an_id_that_is_read_from_memory_after_a_failure_can_be_written(
    project: Project, owner: AuthState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STORED, "custom", {"1": {"fine": True}, "broken": {"type": "Buffer"}})
    with pytest.raises(CodecError):
        await owner.keys.get("custom", ["1", "2", "broken"])
    with pytest.raises(UnreadKeyError):
        await owner.keys.set({"custom": {"1": None}})
    asked = project.read.call_count
    assert await owner.keys.get("custom", ["1", "2"]) == {"1": {"fine": True}}
    assert project.read.call_count == asked
    await owner.keys.set({"custom": {"1": None, "2": None}})
    with pytest.raises(UnreadKeyError):
        await owner.keys.set({"custom": {"broken": None}})


async def test_after_a_failure_an_id_that_was_remembered_cannot_be_written_either(
    project: Project, owner: AuthState
) -> None:
    await owner.keys.get("custom", ["remembered"])
    answers = project.read.side_effect
    project.read.mock(side_effect=httpx.ConnectError("away"))
    with pytest.raises(StoreUnavailable):
        await owner.keys.get("custom", ["remembered", "other"])
    # The caller was given neither of the two.
    with pytest.raises(UnreadKeyError, match="remembered"):
        await owner.keys.set({"custom": {"remembered": {}}})
    project.read.mock(side_effect=answers)
    await owner.keys.get("custom", ["remembered", "other"])
    await owner.keys.set({"custom": {"remembered": {}}})


async def test_every_commit_has_a_number_and_the_lease(project: Project, owner: AuthState) -> None:
    for n in range(3):
        await owner.keys.set({"session": {"1.0": {"n": n}}})
    sent = [call.request.headers for call in project.keys.calls]
    assert [headers["x-whatsapp-lease"] for headers in sent] == ["7"] * 3
    writers, numbers = zip(*(h["x-whatsapp-commit"].split(":") for h in sent), strict=True)
    assert len(set(writers)) == 1
    assert numbers == ("2", "3", "4")  # the first request was the one for the lease
    assert [headers.get("x-whatsapp-stored") for headers in sent] == ["1", "2", "3"]
    assert all(float(headers["x-whatsapp-deadline"]) >= TIME for headers in sent[1:])


async def test_without_a_lease_a_commit_names_the_epoch_it_has_opened(
    project: Project, auth: AuthState
) -> None:
    await auth.keys.set({"session": {"1.0": {}}})
    assert project.keys.calls[0].request.headers["x-whatsapp-epoch"] == "6"
    assert "x-whatsapp-lease" not in project.keys.calls[0].request.headers


@pytest.mark.parametrize("ids", ["1.0", b"1.0", None, [1], [None]])
async def test_ids_of_another_kind_are_refused(auth: AuthState, ids: Any) -> None:
    with pytest.raises(TypeError):
        await auth.keys.get("session", ids)


@pytest.mark.parametrize("data", [None, [], {"session": ["1.0"]}, {"session": {1: {}}}, {1: {}}])
async def test_data_of_another_kind_is_refused(auth: AuthState, data: Any) -> None:
    with pytest.raises(TypeError):
        await auth.keys.set(data)


def record(*base_keys: str) -> dict[str, Any]:
    return {"_sessions": {key: {} for key in base_keys}, "version": "v1"}


async def test_while_reads_are_in_doubt_writes_of_a_key_keep_their_order(
    project: Project, owner: AuthState
) -> None:
    await owner.keys.set({"session": {"known": record("a")}})
    answers = project.read.side_effect
    project.read.mock(side_effect=httpx.ConnectError("away"))
    with pytest.raises(StoreUnavailable):
        await owner.keys.get("lid-mapping", ["1"])
    may_answer = asyncio.Event()

    async def slowly(request: httpx.Request) -> httpx.Response:
        await may_answer.wait()
        return answers(request)

    project.read.mock(side_effect=slowly)
    # The first has to ask for another session before it may be written; the others need not.
    first = owner.keys.set({"session": {"known": record("a", "1st"), "unknown": record("b")}})
    second = owner.keys.set({"session": {"known": record("a", "2nd")}})
    third = owner.keys.set({"device-list": {"1": ["0"]}})
    writing = [asyncio.ensure_future(write) for write in (first, second, third)]
    for _ in range(20):
        await asyncio.sleep(0)
    may_answer.set()
    await asyncio.gather(*writing)
    assert await owner.keys.get("session", ["known"]) == {"known": record("a", "2nd")}
    last = project.rows(project.keys.call_count - 1)
    assert last.get(("session", "known"), record("a", "2nd")) == record("a", "2nd")


async def suspicious(project: Project, auth: AuthState, *, fails: bool) -> asyncio.Event:
    """Let a read fail, so that sessions are compared; the comparing waits for the event."""
    answers = project.read.side_effect
    project.read.mock(side_effect=httpx.ConnectError("away"))
    with pytest.raises(StoreUnavailable):
        await auth.keys.get("session", ["unknown"])
    may_answer = asyncio.Event()

    async def held(request: httpx.Request) -> httpx.Response:
        await may_answer.wait()
        if fails:
            raise httpx.ConnectError("away")
        return answers(request)

    project.read.mock(side_effect=held)
    return may_answer


def journals(folder: Path) -> list[Path]:
    return list(folder.glob("*.journal"))


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("reason", ["forgetful", "unavailable", "cancelled"])
async def test_creds_fail_with_keys_before_them_that_the_comparing_stops(
    project: Project, auth: AuthState, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setitem(STORED["session"], "known", record("a"))
    may_answer = await suspicious(project, auth, fails=reason == "unavailable")
    setting = asyncio.create_task(auth.keys.set({"session": {"known": record("b")}}))
    await turns()
    auth.creds["nextPreKeyId"] = 31
    saving = asyncio.create_task(auth.save_creds())
    await turns()
    if reason == "cancelled":
        setting.cancel()
    may_answer.set()
    [set_failed, save_failed] = await asyncio.gather(setting, saving, return_exceptions=True)
    if reason == "cancelled":
        assert isinstance(set_failed, asyncio.CancelledError)
        assert isinstance(save_failed, StoreUnavailable)
    else:
        kinds = {"forgetful": UnreadKeyError, "unavailable": StoreUnavailable}
        assert type(set_failed) is kinds[reason]
        assert save_failed is set_failed
    assert (project.keys.call_count, project.creds.call_count) == (0, 0)
    await auth.save_creds()
    assert project.creds.call_count == 1


@pytest.mark.parametrize("gone", [False, True], ids=["waiting", "cancelled"])
async def test_creds_fail_with_keys_before_them_that_the_database_refuses(
    project: Project, auth: AuthState, gone: bool
) -> None:
    may_answer = asyncio.Event()

    async def refused(request: httpx.Request) -> httpx.Response:
        await may_answer.wait()
        return httpx.Response(400, json={"code": "23514", "message": "no"})

    project.keys.mock(side_effect=refused)
    setting = asyncio.create_task(auth.keys.set({"pre-key": {"1": None}}))
    await turns()
    saving = asyncio.create_task(auth.save_creds())
    await turns()
    if gone:
        setting.cancel()
        await turns()
    may_answer.set()
    with pytest.raises(InvalidRequest):
        await saving
    assert project.creds.call_count == 0
    await asyncio.wait([setting])
    await auth.save_creds()
    assert project.creds.call_count == 1


@pytest.mark.parametrize("journal", [False, True], ids=["no journal", "journal"])
async def test_closing_waits_for_a_write_that_is_still_compared(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, journal: bool
) -> None:
    monkeypatch.setitem(STORED["session"], "known", record("a"))
    options = {"journal": Journal(tmp_path, bytes(32))} if journal else {}
    auth = await opened_on_httpx(lease=True, **options)
    may_answer = await suspicious(project, auth, fails=False)
    setting = asyncio.create_task(auth.keys.set({"session": {"known": record("a", "b")}}))
    deleting = asyncio.create_task(auth.keys.set({"pre-key": {"7": None}}))
    await turns()
    closing = asyncio.create_task(auth.close())
    await turns()
    assert not project.release.called
    may_answer.set()
    await asyncio.gather(setting, deleting, closing)
    written = {**project.rows(0), **project.rows(project.keys.call_count - 1)}
    assert written == {("session", "known"): record("a", "b"), ("pre-key", "7"): None}
    assert project.release.call_count == 1
    assert journals(tmp_path) == []


async def test_a_write_during_a_logout_lets_nothing_of_before_be_remembered(
    project: Project, owner: AuthState
) -> None:
    may_answer = asyncio.Event()

    async def slowly(request: httpx.Request) -> httpx.Response:
        await may_answer.wait()
        return receipt(request)

    project.log_out.mock(side_effect=slowly)
    leaving = asyncio.create_task(owner.log_out())
    await turns()
    setting = asyncio.create_task(owner.keys.set({"pre-key": {"7": None}}))
    await turns()
    await owner.keys.get("session", ["1.0"])
    may_answer.set()
    await asyncio.gather(leaving, setting)
    asked = project.read.call_count
    await owner.keys.get("session", ["1.0"])
    assert project.read.call_count == asked + 1


@pytest.mark.parametrize("call", ["get", "set", "save creds", "clear"])
def test_an_event_loop_that_ends_in_any_turn_of_a_call_leaves_nothing_in_the_log(
    project: Project, fresh_log: pytest.LogCaptureFixture, call: str
) -> None:
    async def no_answer(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    for route in (project.read, project.keys, project.creds, project.clear):
        route.mock(side_effect=no_answer)

    async def main(later: int) -> asyncio.Task[Any]:
        auth = await opened_on_httpx(lease=True)
        calls = {
            "get": lambda: auth.keys.get("session", ["1.0"]),
            "set": lambda: auth.keys.set({"session": {"1.0": {}}}),
            "save creds": auth.save_creds,
            "clear": auth.keys.clear,
        }
        calling = asyncio.create_task(calls[call]())
        for _ in range(later):
            await asyncio.sleep(0)
        return calling

    for later in range(3):
        called = asyncio.run(main(later))
        assert called.done()
        del called
        gc.collect()
        shown = [f"{later}: {record.getMessage()}" for record in fresh_log.records]
        assert shown == []


async def test_a_damaged_row_that_was_warmed_cannot_be_overwritten(
    project: Project, owner: AuthState
) -> None:
    project.hot = {"pre-key": STORED["pre-key"]}
    await owner.warm()
    with pytest.raises(CodecError):
        await owner.keys.get("pre-key", ["broken"])
    with pytest.raises(UnreadKeyError):
        await owner.keys.set({"pre-key": {"broken": None}})


async def test_a_value_that_is_read_is_the_callers_own(project: Project, owner: AuthState) -> None:
    for _ in range(2):
        first, second = await asyncio.gather(
            owner.keys.get("session", ["1.0"]), owner.keys.get("session", ["1.0"])
        )
        first["1.0"]["n"] = "changed"
        assert second == {"1.0": {"n": 1}}
    assert project.read.call_count == 1


async def test_a_row_of_another_writer_that_is_too_deep_does_not_stop_a_warm_start(
    project: Project, owner: AuthState
) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    project.hot = {"session": {"1.0": {"n": 1}}, "device-list": {"deep": deep}}
    assert await owner.warm() == 1
    assert await owner.keys.get("session", ["1.0"]) == {"1.0": {"n": 1}}
    assert project.read.call_count == 1


async def test_one_callers_cancellation_does_not_make_an_unread_id_writable(
    project: Project, auth: AuthState
) -> None:
    answer = project.read.side_effect
    project.read.mock(side_effect=httpx.ConnectError)
    with pytest.raises(StoreUnavailable):
        await auth.keys.get("session", ["1.0"])
    project.read.mock(side_effect=answer)
    asking = [asyncio.create_task(auth.keys.get("session", [i])) for i in ("1.0", "2.0")]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asking[1]
    with pytest.raises(UnreadKeyError):
        await auth.keys.set({"session": {"1.0": {"n": 2}}})


@pytest.mark.parametrize("number", ["12345678901234567.5", "18446744073709551616"])
async def test_a_number_that_no_parser_keeps_is_refused_amid_sound_rows(
    project: Project, auth: AuthState, number: str
) -> None:
    keys = f'{{"session" : {{"1.0" : {{"n": {number}}}, "2.0" : {{"n": 2}}}}}}'

    def exactly(request: httpx.Request) -> httpx.Response:
        text = answered(request, keys="HERE").text
        return httpx.Response(200, text=text.replace('"HERE"', keys))

    project.read.mock(side_effect=exactly)
    good, bad = await asyncio.gather(
        auth.keys.get("session", ["2.0"]),
        auth.keys.get("session", ["1.0"]),
        return_exceptions=True,
    )
    assert good == {"2.0": {"n": 2}}
    assert isinstance(bad, CodecError)
