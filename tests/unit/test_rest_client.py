"""Every failure that PostgREST, the gateway or the network can answer with, one by one."""

from __future__ import annotations

import logging
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
from supabase_auth_state.rest.backoff import Timing

URL = "http://project.test"
KEY = "sb_secret_do-not-print-me"
SECRET = "c2VjcmV0LXNpZ25hbC1rZXk="
READ = f"{URL}/rest/v1/rpc/read_whatsapp_keys"


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    @property
    def timing(self) -> Timing:
        return Timing(now=lambda: self.time, sleep=self.sleep, random=lambda: 0.5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def rest(clock: Clock) -> AsyncIterator[Rest]:
    opened = open_rest(Settings(url=URL, key=KEY), timing=clock.timing)
    yield opened
    await opened.close()


@pytest.fixture
def api() -> Any:
    with respx.mock(assert_all_called=False) as mock:
        yield mock


async def read(rest: Rest) -> Any:
    return await rest.rpc("read_whatsapp_keys", {"p_company_id": "c", "p_keys": {}})


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
    answer(500, "53300"), answer(400, "40001"), httpx.Response(502, html="<h1>Bad Gateway</h1>"),
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
    write = api.post(f"{URL}/rest/v1/rpc/commit_whatsapp_state")
    write.mock(side_effect=[failure, httpx.Response(204)])
    assert await rest.rpc_text("commit_whatsapp_state", b"{}") is None
    assert (read_route.call_count, write.call_count) == (3, 2)
    assert len(clock.slept) == 3
    assert write.calls[0].request.content == write.calls[1].request.content == b"{}"


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


async def test_something_else_at_the_url_is_said(rest: Rest, api: Any) -> None:
    api.post(READ).mock(return_value=httpx.Response(404, html="<h1>Not Found</h1>"))
    with pytest.raises(SchemaMissing, match="SUPABASE_URL"):
        await read(rest)


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
        await rest.rpc("read_whatsapp_keys", {"p_company_id": "c", "p_keys": {"session": [SECRET]}})
    route.mock(side_effect=httpx.ReadError("reset"))
    with pytest.raises(StoreError) as lost:
        await rest.rpc("read_whatsapp_keys", {"p_company_id": "c", "p_keys": {"session": [SECRET]}})
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
    await rest.select("whatsapp_auth", {"company_id": f"eq.{company}"})
    assert route.calls[0].request.url.params["company_id"] == f"eq.{company}"


async def test_rows_that_are_no_list_are_not_taken_for_none(rest: Rest, api: Any) -> None:
    api.get(url__startswith=f"{URL}/rest/v1/whatsapp_auth").mock(
        return_value=httpx.Response(200, json={"message": "hello"})
    )
    with pytest.raises(ConfigurationError):
        await rest.select("whatsapp_auth", {"company_id": "eq.c"})


async def test_deleting_everything_takes_a_filter(rest: Rest) -> None:
    with pytest.raises(ValueError, match="every row"):
        await rest.delete("whatsapp_keys", {})


async def test_a_closed_client_is_unavailable(rest: Rest) -> None:
    await rest.close()
    with pytest.raises(StoreUnavailable):
        await read(rest)


def test_a_sync_client_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="AsyncClient"):
        open_rest(client=object())  # type: ignore[arg-type]
