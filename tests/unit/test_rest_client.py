"""Every failure that PostgREST, the gateway or the network can answer with, one by one."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import respx

from supabase_auth_state import (
    AccessDenied,
    ConfigurationError,
    InvalidRequest,
    ProjectRestricted,
    Rest,
    SchemaMissing,
    Settings,
    StoreError,
    StoreUnavailable,
    WriteRefused,
    open_rest,
)
from supabase_auth_state.rest.requests import Commit
from tests.canned import TIME, Clock, answered, receipt, stock_client, stored

URL = "http://project.test"
KEY = "sb_secret_do-not-print-me"
SECRET = "c2VjcmV0LXNpZ25hbC1rZXk="
READ = f"{URL}/rest/v1/rpc/f"
WRITE = f"{URL}/rest/v1/whatsapp_keys"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def rest(clock: Clock) -> AsyncIterator[Rest]:
    settings = Settings(url=URL, key=KEY)
    client = stock_client(URL, KEY)
    yield open_rest(settings, client=client, timing=clock.timing)
    await client.aclose()


@pytest.fixture
def api() -> Any:
    with respx.mock(assert_all_called=False) as mock:
        yield mock


async def read(rest: Rest) -> Any:
    return await rest.rpc("f", {"p_company_id": "c"})


async def write(rest: Rest, number: int = 1) -> None:
    await rest.upsert("whatsapp_keys", [ROW], on_conflict="company_id", commit=commit(number))


def commit(number: int = 1) -> Commit:
    return Commit("c", "0a", number, {"x-whatsapp-lease": "7"})


ROW = {"company_id": "c", "value": SECRET}


def answer(status: int, code: str | None = None, message: str = "no") -> httpx.Response:
    body = {"code": code, "message": message, "hint": None, "details": f"Failing row: {SECRET}"}
    return httpx.Response(status, json=body)


REFUSALS = [
    (401, "PGRST301", AccessDenied),
    (401, None, AccessDenied),
    (403, "42501", AccessDenied),
    (401, "42501", AccessDenied),
    (404, "PGRST202", SchemaMissing),
    (404, "PGRST205", SchemaMissing),
    (404, "42P01", SchemaMissing),
    (404, "42883", SchemaMissing),
    (406, "PGRST106", SchemaMissing),
    (402, None, ProjectRestricted),
    (540, None, ProjectRestricted),
    (405, "25006", ProjectRestricted),
    (409, "PT409", WriteRefused),
    (409, "23505", InvalidRequest),
    (400, "0A000", InvalidRequest),
    (400, "22P05", InvalidRequest),
    (400, "22P02", InvalidRequest),
    (400, "23514", InvalidRequest),
    (400, "PGRST102", InvalidRequest),
    (413, "54000", InvalidRequest),
    (500, "21000", InvalidRequest),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS)
async def test_a_refusal_is_an_error_of_its_own_and_is_not_repeated(
    rest: Rest, api: Any, clock: Clock, status: int, code: str | None, kind: type[StoreError]
) -> None:
    route = api.post(READ).mock(return_value=answer(status, code))
    with pytest.raises(kind) as raised:
        await read(rest)
    assert type(raised.value) is kind
    assert (raised.value.status, raised.value.code) == (status, code)
    assert route.call_count == 1
    assert clock.slept == []


PASSING = [
    answer(500, "57014"), answer(500, "40P01"), answer(503, "PGRST000"), answer(504, "PGRST003"),
    answer(500, "53300"), answer(400, "40001"),
    answer(400, "0A000", "cannot set transaction read-write mode during recovery"),
    httpx.Response(502, html="<h1>Bad Gateway</h1>"),
    httpx.Response(520), httpx.Response(544), answer(429), httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"), httpx.ReadTimeout("slow"), httpx.ReadError("reset"),
    httpx.RemoteProtocolError("Server disconnected"), httpx.PoolTimeout("busy"),
]  # fmt: skip


@pytest.mark.parametrize("failure", PASSING, ids=repr)
async def test_what_may_pass_is_tried_again_writes_as_well_as_reads(
    rest: Rest, api: Any, clock: Clock, failure: Any
) -> None:
    read_route = api.post(READ).mock(
        side_effect=[failure, failure, httpx.Response(200, json={"a": {}})]
    )
    assert await read(rest) == {"a": {}}
    answers = [failure, stored]
    write_route = api.post(url__startswith=WRITE).mock(side_effect=lambda it: next_of(answers, it))
    await write(rest)
    assert (read_route.call_count, write_route.call_count) == (3, 2)
    assert len(clock.slept) == 3
    first, second = (call.request for call in write_route.calls)
    assert first.content == second.content
    assert first.headers["x-whatsapp-commit"] == second.headers["x-whatsapp-commit"] == "0a:1"


def receipted(request: httpx.Request) -> httpx.Response:
    """Answer a function that writes as the first request of the writer 0a."""
    answer = receipt(request)
    answer.headers["x-whatsapp-receipt"] = f"0a:1:{TIME}"
    return answer


def next_of(answers: list[Any], request: httpx.Request) -> httpx.Response:
    """Give the next answer: a response, an exception, or what makes a response of the request."""
    found = answers.pop(0)
    if isinstance(found, Exception):
        raise found
    return found if isinstance(found, httpx.Response) else found(request)


@pytest.mark.parametrize("failure", PASSING, ids=repr)
async def test_what_does_not_pass_is_given_up_in_bounded_time(
    rest: Rest, api: Any, clock: Clock, failure: Any
) -> None:
    route = api.post(READ).mock(
        side_effect=failure if isinstance(failure, Exception) else [failure] * 99
    )
    with pytest.raises(StoreUnavailable):
        await read(rest)
    assert clock.time - 1000 <= 30
    assert 5 <= route.call_count <= 30
    assert clock.slept[:4] == sorted(clock.slept[:4])


async def test_an_address_that_nobody_answers_at_is_named(rest: Rest, api: Any) -> None:
    api.post(READ).mock(side_effect=httpx.ConnectError("Name or service not known"))
    with pytest.raises(StoreUnavailable, match=r"http://project\.test.* the right address"):
        await read(rest)


async def test_retry_after_is_obeyed(rest: Rest, api: Any, clock: Clock) -> None:
    busy = httpx.Response(429, headers={"retry-after": "7"})
    api.post(READ).mock(side_effect=[busy, httpx.Response(200, json={})])
    await read(rest)
    assert clock.slept == [7.0]


async def test_a_body_that_stalls_is_a_timeout(rest: Rest, api: Any) -> None:
    api.post(READ).mock(side_effect=httpx.ReadTimeout("stalled"))
    with pytest.raises(StoreUnavailable, match="ReadTimeout"):
        await read(rest)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, html="<title>Parking page</title>"),
        httpx.Response(200, text=""),
        httpx.Response(200, text='{"cut off'),
        httpx.Response(200, text='{"cut off', headers={"content-type": "application/json"}),
        httpx.Response(301, headers={"location": "https://elsewhere.test"}),
    ],
    ids=["html", "empty", "torn text", "torn json", "redirect"],
)
async def test_an_answer_that_is_no_answer_is_never_nothing_stored(
    rest: Rest, api: Any, response: httpx.Response
) -> None:
    api.post(READ).mock(return_value=response)
    with pytest.raises((ConfigurationError, StoreUnavailable)):
        await read(rest)


STRANGERS = [
    httpx.Response(200, json=[]),
    httpx.Response(200, json=None),
    httpx.Response(200, json={}),
    httpx.Response(200, json={"message": "accepted"}),
    httpx.Response(200, html="<html>please wait</html>"),
    httpx.Response(200, text=""),
    httpx.Response(200, content=b"{", headers={"content-type": "application/json"}),
    httpx.Response(
        200, stream=httpx.ByteStream(b"\x1f\x8bno"), headers={"content-encoding": "gzip"}
    ),
    httpx.Response(204),
    httpx.Response(302, headers={"location": f"{URL}/rest/v1/rpc/other"}),
    httpx.Response(307, headers={"location": f"{URL}/rest/v1/rpc/other"}),
]


@pytest.mark.parametrize("response", STRANGERS, ids=range(len(STRANGERS)))
async def test_no_stranger_acknowledges_a_write_and_it_is_given_up_after_its_deadline(
    rest: Rest, api: Any, clock: Clock, response: httpx.Response
) -> None:
    other = api.route(path="/rest/v1/rpc/other").mock(side_effect=stored)
    route = api.post(url__startswith=WRITE).mock(return_value=response)
    with pytest.raises(StoreUnavailable):
        await write(rest)
    assert route.call_count >= 5
    assert other.call_count == 0
    deadlines = {float(call.request.headers["x-whatsapp-deadline"]) for call in route.calls}
    assert max(deadlines) - min(deadlines) < 0.01
    assert clock.time - 1000 >= 30


@pytest.mark.parametrize(
    "change",
    [
        {"x-whatsapp-receipt": "0a:2:1.5"},
        {"x-whatsapp-receipt": "0b:1:1.5"},
        {"x-whatsapp-receipt": "0a"},
        {"x-whatsapp-receipt": ""},
        {"preference-applied": "resolution=merge-duplicates"},
    ],
    ids=repr,
)
async def test_the_receipt_of_another_write_acknowledges_nothing(
    rest: Rest, api: Any, change: dict[str, str]
) -> None:
    def elses(request: httpx.Request) -> httpx.Response:
        answer = stored(request)
        answer.headers.update(change)
        return answer

    api.post(url__startswith=WRITE).mock(side_effect=elses)
    with pytest.raises(StoreUnavailable):
        await write(rest)


@pytest.mark.parametrize("number", [1, 0])
async def test_where_no_receipt_is_passed_on_the_stored_number_is_asked_for(
    rest: Rest, api: Any, number: int
) -> None:
    def stripped(request: httpx.Request) -> httpx.Response:
        answer = stored(request)
        del answer.headers["x-whatsapp-receipt"]
        return answer

    api.post(url__startswith=WRITE).mock(side_effect=stripped)
    api.post(f"{URL}/rest/v1/rpc/whatsapp_last_commit").respond(
        json={"company_id": "c", "writer": "0a", "number": number}
    )
    if number == 1:
        await write(rest)
    else:
        with pytest.raises(StoreUnavailable, match="did not execute"):
            await write(rest)


OTHER = [
    {"company_id": "d"}, {"request": "another"}, {"time": "soon"}, {"time": None}, {"time": -1},
    {"time": True}, {"time": 1e99},
]  # fmt: skip


@pytest.mark.parametrize("change", OTHER, ids=repr)
async def test_the_answer_to_another_request_is_no_answer(
    rest: Rest, api: Any, change: dict[str, Any]
) -> None:
    api.post(READ).mock(side_effect=lambda request: answered(request, keys={}, **change))
    with pytest.raises(StoreUnavailable):
        await rest.ask("f", "c", {})


@pytest.mark.parametrize("time", ["nan", "inf", "-1", "1e99", "", "1_0"])
async def test_a_receipt_without_a_time_acknowledges_and_sets_no_clock(
    rest: Rest, api: Any, clock: Clock, time: str
) -> None:
    def at_no_time(request: httpx.Request) -> httpx.Response:
        answer = stored(request)
        answer.headers["x-whatsapp-receipt"] = f"{request.headers['x-whatsapp-commit']}:{time}"
        return answer

    route = api.post(url__startswith=WRITE).mock(side_effect=at_no_time)
    before = rest.deadline(0)
    await write(rest)
    assert rest.deadline(0) == before
    assert len(route.calls) == 1


async def test_the_deadline_is_a_time_of_the_database(rest: Rest, api: Any, clock: Clock) -> None:
    api.post(READ).mock(side_effect=answered)
    await rest.ask("f", "c", {})
    clock.time += 100
    route = api.post(url__startswith=WRITE).mock(side_effect=stored)
    await write(rest)
    assert float(route.calls[0].request.headers["x-whatsapp-deadline"]) == TIME + 130


async def test_a_clock_that_is_ahead_is_set_by_the_first_receipt(
    rest: Rest, api: Any, clock: Clock
) -> None:
    # The database's time is that of its answers; this machine's is another one.
    route = api.post(READ).mock(side_effect=receipted)
    for _ in range(2):
        await rest.rpc("f", {"p_company_id": "c"}, commit=commit())
    deadlines = [float(call.request.headers["x-whatsapp-deadline"]) for call in route.calls]
    assert abs(deadlines[0] - time.time()) < 3600
    assert deadlines[1] == TIME + 30


async def test_an_answer_with_the_receipt_of_another_request_is_none(rest: Rest, api: Any) -> None:
    route = api.post(READ).mock(side_effect=receipted)
    with pytest.raises(StoreUnavailable, match="another request"):
        await rest.rpc("f", {"p_company_id": "c"}, commit=commit(2))
    assert max(float(call.request.headers["x-whatsapp-deadline"]) for call in route.calls) < TIME


@pytest.mark.parametrize("number", [1, 0])
async def test_a_result_that_proves_nothing_takes_a_receipt(
    rest: Rest, api: Any, number: int
) -> None:
    api.post(READ).respond(json=True)
    last = api.post(f"{URL}/rest/v1/rpc/whatsapp_last_commit").respond(
        json={"company_id": "c", "writer": "0a", "number": number}
    )
    call = rest.do("f", {}, commit=commit(), give_up_after=30)
    if number:
        await call
    else:
        with pytest.raises(StoreUnavailable, match="did not execute"):
            await call
    assert last.called


async def test_a_clock_that_is_wrong_is_set_by_the_refusal(rest: Rest, api: Any) -> None:
    late = answer(
        408,
        "PT408",
        f"whatsapp deadline: it came too late and was not executed; the time is {TIME}",
    )
    answers: list[Any] = [late, stored]
    route = api.post(url__startswith=WRITE).mock(side_effect=lambda it: next_of(answers, it))
    await write(rest)
    deadlines = [float(call.request.headers["x-whatsapp-deadline"]) for call in route.calls]
    assert deadlines[1] == pytest.approx(TIME + 30, abs=1)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_a_refusal_of_a_gateway_is_told_when_no_copy_can_land(
    rest: Rest, api: Any, clock: Clock, status: int
) -> None:
    api.post(url__startswith=WRITE).mock(return_value=httpx.Response(status, html="<h1>No</h1>"))
    with pytest.raises(StoreError):
        await write(rest)
    assert clock.time - 1000 >= 30


@pytest.mark.parametrize("status", [401, 403, 409])
async def test_a_refusal_after_an_unknown_outcome_is_told_when_no_copy_can_land(
    rest: Rest, api: Any, clock: Clock, status: int
) -> None:
    answers: list[Any] = [httpx.ReadTimeout("lost"), answer(status, "23514")]
    api.post(url__startswith=WRITE).mock(side_effect=lambda it: next_of(answers, it))
    with pytest.raises(StoreError):
        await write(rest)
    assert clock.time - 1000 >= 30


NOT_POSTGRESTS = [
    httpx.Response(401, json={"message": "Invalid authentication credentials"}),
    httpx.Response(403, html="<h1>Forbidden</h1>"),
    httpx.Response(404, json={"message": "no Route matched with those values"}),
    httpx.Response(409, html="<h1>Conflict</h1>"),
    httpx.Response(413),
]


ONLY_READS = [answer(405, "25006"), answer(500, "53100")]
# A server that has not seen the schema yet, a key that is valid in a moment, another server's code.
PASSING = [answer(404, "PGRST202"), answer(401, "PGRST303"), answer(403, "42501"),
           answer(400, "BAD_GATEWAY_RULE")]  # fmt: skip


@pytest.mark.parametrize("response", [*NOT_POSTGRESTS, *ONLY_READS, *PASSING], ids=repr)
async def test_a_refusal_that_a_copy_might_not_meet_is_told_when_none_can_land(
    rest: Rest, api: Any, clock: Clock, response: httpx.Response
) -> None:
    api.post(url__startswith=WRITE).mock(return_value=response)
    with pytest.raises(StoreError):
        await write(rest)
    assert clock.time - 1000 >= 30


async def test_a_refusal_by_postgrest_itself_is_told_at_once(
    rest: Rest, api: Any, clock: Clock
) -> None:
    api.post(url__startswith=WRITE).mock(return_value=answer(400, "23514"))
    with pytest.raises(InvalidRequest):
        await write(rest)
    assert clock.slept == []


async def test_a_wrong_address_at_a_retry_is_told_when_no_copy_can_land(
    rest: Rest, api: Any, clock: Clock
) -> None:
    answers: list[Any] = [httpx.ReadTimeout("lost"), httpx.UnsupportedProtocol("x")]
    api.post(url__startswith=WRITE).mock(side_effect=lambda it: next_of(answers, it))
    with pytest.raises(StoreUnavailable, match="no URL of HTTP"):
        await write(rest)
    assert clock.time - 1000 >= 30


async def test_a_foreign_exception_of_any_kind_is_unavailable(rest: Rest, api: Any) -> None:
    api.post(READ).mock(side_effect=RuntimeError(SECRET))
    with pytest.raises(StoreUnavailable) as raised:
        await read(rest)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is raised.value.__context__ is None


async def test_once_postgrest_has_answered_another_server_is_a_fault_that_passes(
    rest: Rest, api: Any
) -> None:
    page = httpx.Response(200, html="<html>")
    answers: list[Any] = [httpx.Response(200, json={}), page, httpx.Response(200, json={"a": 1})]
    api.post(READ).mock(side_effect=answers)
    await read(rest)
    assert await read(rest) == {"a": 1}


@pytest.mark.parametrize("status", [200, 404, 501, 302])
async def test_another_server_at_the_url_is_said_at_once(
    rest: Rest, api: Any, clock: Clock, status: int
) -> None:
    api.post(READ).mock(return_value=httpx.Response(status, html="<h1>Not Found</h1>"))
    with pytest.raises(ConfigurationError, match="SUPABASE_URL"):
        await read(rest)
    assert clock.slept == []


async def test_a_missing_schema_names_the_command(rest: Rest, api: Any) -> None:
    api.post(READ).mock(return_value=answer(404, "PGRST202", "Could not find the function"))
    with pytest.raises(SchemaMissing, match="supabase db push"):
        await read(rest)


@pytest.mark.parametrize("status", [400, 401, 409, 500])
async def test_nothing_secret_is_in_an_error_its_chain_or_the_log(
    rest: Rest, api: Any, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    route = api.post(READ).mock(return_value=answer(status, "23514"))
    with pytest.raises(StoreError) as raised:
        await rest.rpc("f", {"p_keys": {"session": [SECRET]}})
    route.mock(side_effect=httpx.ReadError("reset"))
    with pytest.raises(StoreError) as lost:
        await rest.rpc("f", {"p_keys": {"session": [SECRET]}})
    for error in (raised.value, lost.value):
        text = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
        assert SECRET not in text
        assert KEY not in text
        assert error.__cause__ is None
        assert error.__context__ is None
    assert SECRET not in caplog.text
    assert KEY not in caplog.text
    assert KEY not in repr(rest) + repr(Settings(url=URL, key=KEY))


async def test_the_key_travels_as_supabase_wants_it(rest: Rest, api: Any) -> None:
    route = api.post(READ).mock(return_value=httpx.Response(200, json={}))
    await read(rest)
    headers = route.calls[0].request.headers
    assert headers["apikey"] == KEY
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "Mozilla" not in headers["user-agent"]


async def test_a_filter_is_quoted_by_the_url_alone(rest: Rest, api: Any) -> None:
    route = api.get(url__startswith=f"{URL}/rest/v1/whatsapp_auth").mock(
        return_value=httpx.Response(200, json=[])
    )
    company = 'a&b=c,(d)"é%'
    await rest.select(
        "whatsapp_auth",
        lambda client: client.from_("whatsapp_auth").select("creds").eq("company_id", company),
    )
    assert route.calls[0].request.url.params["company_id"] == f"eq.{company}"


async def test_rows_that_are_no_list_are_not_taken_for_none(rest: Rest, api: Any) -> None:
    api.get(url__startswith=f"{URL}/rest/v1/whatsapp_auth").mock(
        return_value=httpx.Response(200, json={"message": "hello"})
    )
    with pytest.raises(StoreUnavailable):
        await rest.select("whatsapp_auth", lambda client: client.from_("whatsapp_auth").select())


async def test_a_closed_rest_says_so() -> None:
    rest = open_rest(Settings(url=URL, key=KEY))
    await rest.close()
    with pytest.raises(ConfigurationError, match="closed"):
        await read(rest)


def test_a_sync_client_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="AsyncClient"):
        open_rest(client=object())  # type: ignore[arg-type]
