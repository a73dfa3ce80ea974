"""A lease: what is asked of the database, and what is made of its answers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import respx

from supabase_auth_state import (
    AccessDenied,
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    Rest,
    Settings,
    StateRolledBack,
    StoreError,
    StoreUnavailable,
    open_rest,
)
from supabase_auth_state.leases.lease import Lease, acquire_lease
from supabase_auth_state.rest.timestamps import timestamp
from tests.canned import TIME, Clock, answered, stock_client

URL = "http://project.test"
KEY = "sb_secret_x"
Answer = Callable[[httpx.Request], httpx.Response]


class Project:
    """A project whose leases are canned."""

    def __init__(self, mock: respx.MockRouter) -> None:
        def function(name: str, answer: Answer) -> respx.Route:
            return mock.post(f"{URL}/rest/v1/rpc/{name}").mock(side_effect=answer)

        self.acquire = function("acquire_whatsapp_lease", granted)
        self.renew = function("renew_whatsapp_lease", renewed)
        self.release = function("release_whatsapp_lease", released)
        self.report = function("report_whatsapp_restored", reported)

    def sent(self, route: respx.Route, number: int = -1) -> tuple[dict[str, Any], httpx.Headers]:
        request = route.calls[number].request
        return json.loads(request.content), request.headers


def granted(request: httpx.Request) -> httpx.Response:
    return answered(request, token=7, expires_at="later", lapses=2)


def renewed(request: httpx.Request, **changed: Any) -> httpx.Response:
    params = json.loads(request.content)
    named = {"company_id": params["p_company_id"], "token": params["p_token"]}
    return httpx.Response(200, json={**named, "status": "renewed", "lapses": 2, **changed})


def reported(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"company_id": json.loads(request.content)["p_company_id"]})


def released(request: httpx.Request) -> httpx.Response:
    receipt = f"{request.headers['x-whatsapp-commit']}:{TIME}"
    return httpx.Response(200, json=True, headers={"x-whatsapp-receipt": receipt})


def refusing(status: int, code: str | None = None) -> Answer:
    return lambda _: httpx.Response(status, json={"code": code, "message": "no"})


def failing(error: Exception) -> Answer:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    return fail


@pytest.fixture
def project() -> Any:
    with respx.mock(assert_all_called=False) as mock:
        yield Project(mock)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr("supabase_auth_state.leases.lease.clock", lambda: fake.time)
    return fake


@pytest.fixture
async def rest(clock: Clock, project: Project) -> AsyncIterator[Rest]:
    client = stock_client(URL, KEY)
    yield open_rest(Settings(url=URL, key=KEY), client=client, timing=clock.timing)
    await client.aclose()


@pytest.fixture
async def lease(rest: Rest) -> AsyncIterator[Lease]:
    acquired = await acquire_lease(rest, "c", ttl=30, owner="me")
    yield acquired
    await acquired.release()


async def test_acquiring_is_the_writers_first_request(lease: Lease, project: Project) -> None:
    params, headers = project.sent(project.acquire)
    assert params["p_company_id"] == "c"
    assert (params["p_owner"], params["p_ttl_seconds"]) == ("me", 30)
    assert headers["x-whatsapp-commit"] == f"{lease.writer.id}:1"
    assert "x-whatsapp-deadline" in headers
    assert (lease.token, lease.lapses, lease.headers) == (7, 2, {"x-whatsapp-lease": "7"})


async def test_the_time_runs_from_the_question_not_from_the_answer(
    rest: Rest, project: Project, clock: Clock
) -> None:
    def slowly(request: httpx.Request) -> httpx.Response:
        clock.time += 20
        return granted(request)

    project.acquire.mock(side_effect=slowly)
    lease = await acquire_lease(rest, "c", ttl=30)
    clock.time += 9.9
    assert lease.holds()
    clock.time += 0.2
    assert not lease.holds()
    lease.check()
    await lease.release()


async def test_who_owns_the_company_is_said(rest: Rest, project: Project) -> None:
    held = {"token": None, "owner": "worker-1", "expires_at": "soon"}
    project.acquire.mock(side_effect=lambda request: answered(request, **held))
    with pytest.raises(LeaseHeld, match="worker-1"):
        await acquire_lease(rest, "c")
    assert not project.release.called


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([failing(httpx.ReadTimeout("lost"))] * 99, StoreUnavailable),
        ([refusing(401)], AccessDenied),
        ([failing(httpx.ReadTimeout("lost")), refusing(403, "42501")], AccessDenied),
        ([refusing(404, "PGRST202")], StoreError),
    ],
    ids=["no answer", "refused by a gateway", "refused at a retry", "refused"],
)
async def test_what_may_have_been_acquired_is_given_back(
    rest: Rest, project: Project, answers: list[Answer], kind: type[Exception]
) -> None:
    left = list(answers)

    def one_after_the_other(request: httpx.Request) -> httpx.Response:
        return left.pop(0)(request)

    project.acquire.mock(side_effect=one_after_the_other)
    with pytest.raises(kind):
        await acquire_lease(rest, "c")
    params, headers = project.sent(project.release)
    assert params == {"p_company_id": "c", "p_token": None}
    # No request for the lease is executed after this one.
    writer, _, number = headers["x-whatsapp-commit"].partition(":")
    assert project.sent(project.acquire)[1]["x-whatsapp-commit"] == f"{writer}:1"
    assert number == "2"


async def test_a_wrong_key_is_told_at_once(
    rest: Rest, project: Project, clock: Clock, fresh_log: pytest.LogCaptureFixture
) -> None:
    for route in (project.acquire, project.release):
        route.mock(side_effect=refusing(401))
    with pytest.raises(AccessDenied):
        await acquire_lease(rest, "c")
    assert clock.slept == []
    assert fresh_log.records == []


async def test_a_wrong_address_is_told_at_once(rest: Rest, project: Project, clock: Clock) -> None:
    for route in (project.acquire, project.release):
        route.mock(return_value=httpx.Response(404, html="<h1>Not Found</h1>"))
    with pytest.raises(ConfigurationError, match="SUPABASE_URL"):
        await acquire_lease(rest, "c")
    assert clock.slept == []


async def test_acquiring_that_is_cancelled_gives_the_lease_back(
    rest: Rest, project: Project
) -> None:
    asked, answering, releasing = (asyncio.Event() for _ in range(3))

    async def slowly(request: httpx.Request) -> httpx.Response:
        asked.set()
        await answering.wait()
        return granted(request)

    async def slowly_too(request: httpx.Request) -> httpx.Response:
        await releasing.wait()
        return released(request)

    project.acquire.mock(side_effect=slowly)
    project.release.mock(side_effect=slowly_too)
    acquiring = asyncio.create_task(acquire_lease(rest, "c"))
    await asked.wait()
    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    # It ends soon; what has to be done goes on.
    assert not project.release.called
    releasing.set()
    await rest.close()
    assert project.sent(project.release)[1]["x-whatsapp-commit"].endswith(":2")


async def test_lapses_are_as_many_as_the_database_has_counted(
    lease: Lease, project: Project
) -> None:
    project.renew.mock(side_effect=lambda request: renewed(request, lapses=5))
    await lease.renew()
    assert lease.lapses == 5
    # An earlier answer that comes later takes none back.
    lease.answered({"status": "renewed", "lapses": 4}, asked=0.0)
    assert lease.lapses == 5
    assert lease.holds()


async def test_the_answer_to_an_earlier_renewal_gives_no_more_time_than_that_one_did(
    lease: Lease, project: Project, clock: Clock
) -> None:
    # The time of the database was `TIME` when the lease was acquired.
    earlier = timestamp(TIME + 10 + 30)
    project.renew.mock(side_effect=lambda request: renewed(request, expires_at=earlier))
    clock.time += 10
    await lease.renew()
    for _ in range(2):
        clock.time += 14
        await lease.renew()
        assert lease.holds()
    clock.time += 3
    await lease.renew()
    assert not lease.holds()
    assert not lease.lost.is_set()


@pytest.mark.parametrize("expires_at", ["later", None, 7, "9999-12-31T00:00:00+00:00"])
async def test_a_time_that_tells_nothing_leaves_that_of_the_question(
    lease: Lease, project: Project, clock: Clock, expires_at: object
) -> None:
    project.renew.mock(side_effect=lambda request: renewed(request, expires_at=expires_at))
    clock.time += 20
    await lease.renew()
    clock.time += 29
    assert lease.holds()
    clock.time += 2
    assert not lease.holds()


async def test_a_renewal_has_a_third_of_the_time(
    lease: Lease, project: Project, clock: Clock
) -> None:
    await lease.renew()
    assert float(project.sent(project.renew)[1]["x-whatsapp-deadline"]) == TIME + 10
    began = clock.time
    project.renew.mock(side_effect=failing(httpx.ReadTimeout("lost")))
    with pytest.raises(StoreUnavailable):
        await lease.renew()
    assert clock.time - began <= 10
    assert lease.holds()
    assert not lease.lost.is_set()


@pytest.mark.parametrize("change", [{"company_id": "d"}, {"token": 8}, {"token": None}], ids=repr)
async def test_the_answer_to_another_renewal_is_none(
    lease: Lease, project: Project, change: dict[str, Any]
) -> None:
    project.renew.mock(side_effect=lambda request: renewed(request, status="lost", **change))
    with pytest.raises(StoreUnavailable):
        await lease.renew()
    assert not lease.lost.is_set()


@pytest.mark.parametrize("status", ["lost", "missing"])
async def test_a_lost_lease_says_so_and_is_not_released(
    lease: Lease, project: Project, status: str
) -> None:
    project.renew.mock(side_effect=lambda request: renewed(request, status=status))
    with pytest.raises(LeaseLost):
        await lease.renew()
    assert lease.lost.is_set()
    assert not lease.holds()
    with pytest.raises(LeaseLost):
        lease.check()
    await lease.release()
    assert not project.release.called


@pytest.mark.parametrize("change", [{"status": "restored"}, {"writer": "another"}], ids=repr)
async def test_a_token_that_the_database_has_forgotten_means_that_it_was_set_back(
    lease: Lease, project: Project, change: dict[str, Any]
) -> None:
    project.renew.mock(side_effect=lambda request: renewed(request, **change))
    for _ in range(2):
        with pytest.raises(StateRolledBack):
            await lease.renew()
    assert lease.lost.is_set()
    assert lease.rolled_back
    await asyncio.sleep(0.01)
    await lease.release()
    assert not project.release.called
    assert project.report.call_count == 1


async def test_a_lease_is_released_once_and_is_not_lost_by_it(
    lease: Lease, project: Project
) -> None:
    for _ in range(2):
        await lease.release()
    assert project.release.call_count == 1
    params, headers = project.sent(project.release)
    assert params == {"p_company_id": "c", "p_token": 7}
    assert headers["x-whatsapp-commit"] == f"{lease.writer.id}:2"
    lease.answered({"status": "lost", "lapses": 2}, asked=0.0)
    assert not lease.lost.is_set()
    assert not lease.holds()
    with pytest.raises(LeaseLost):
        await lease.renew()


async def test_a_lease_that_cannot_be_released_ends_by_itself(
    lease: Lease, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    project.release.mock(side_effect=failing(httpx.ConnectError("away")))
    await lease.release()
    assert "ends by itself" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("options", [{"ttl": 0}, {"ttl": 86401}, {"owner": ""}, {"owner": " "}])
async def test_what_no_lease_can_have_is_refused(
    rest: Rest, project: Project, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        await acquire_lease(rest, "c", **options)
    assert not project.acquire.called
