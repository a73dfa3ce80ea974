"""Who may look at the dashboard."""

from __future__ import annotations

import asyncio
import socket

import pytest

from supabase_auth_state import ConfigurationError
from supabase_auth_state.cli.web.access import COOKIE, TOKEN_VARIABLE, Access, access_for
from supabase_auth_state.cli.web.serve import listening_socket

TOKEN = "a-token-that-is-long-enough"


def test_without_a_token_no_other_machine_is_let_in() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        assert access_for(host, {}).token is None
    for host in ("0.0.0.0", "::", "192.168.1.7", "db.example"):  # noqa: S104
        with pytest.raises(ConfigurationError, match=TOKEN_VARIABLE):
            access_for(host, {})
        assert access_for(host, {TOKEN_VARIABLE: TOKEN}).token == TOKEN
    with pytest.raises(ConfigurationError, match="too short") as caught:
        access_for("::", {TOKEN_VARIABLE: "short-secret"})
    assert "short-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8464", True),
        ("[::1]:8464", True),
        ("192.168.1.7", True),
        ("localhost:8464", True),
        ("dashboard.example", True),
        ("evil.example", False),
        ("evil.example:8464", False),
        ("127.0.0.1.evil.example", False),
        ("user@127.0.0.1", False),
        ("127.0.0.1/x", False),
        ("127.0.0.1:port", False),
        ("", False),
    ],
)
def test_a_name_that_is_made_to_lead_here_is_refused(host: str, ours: bool) -> None:
    access = access_for("127.0.0.1", {}, ("Dashboard.example",))
    assert access.host_is_ours(host) is ours


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        ("http://127.0.0.1:8464", True),
        ("http://127.0.0.1:1", False),
        ("http://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_only_a_page_of_ours_may_change_something(origin: str, ours: bool) -> None:
    headers = {"host": "127.0.0.1:8464", "origin": origin}
    assert Access(None).origin_is_ours(headers) is ours
    assert not Access(None).origin_is_ours({"host": ""})


def test_the_cookie_is_of_this_process_and_tells_nothing_of_the_token() -> None:
    access, another = Access(TOKEN), Access(TOKEN)
    assert access.is_admitted({COOKIE: access.cookie()})
    for wrong in ({}, {COOKIE: ""}, {COOKIE: TOKEN}, {COOKIE: another.cookie()}, {COOKIE: "é"}):
        assert not access.is_admitted(wrong)
    assert TOKEN not in repr(access) + access.cookie()
    assert access.knows_token(TOKEN)
    assert not access.knows_token("")
    assert not Access(None).knows_token("")


@pytest.mark.parametrize(
    ("site", "destination", "shown"),
    [
        (None, None, True),
        ("none", "document", True),
        ("same-origin", "empty", True),
        ("cross-site", "document", True),
        ("cross-site", "empty", False),
        ("cross-site", "image", False),
        ("same-site", "iframe", False),
        ("cross-site", None, False),
    ],
)
def test_a_page_of_another_host_may_only_link_here(
    site: str | None, destination: str | None, shown: bool
) -> None:
    sent = {"sec-fetch-site": site, "sec-fetch-dest": destination}
    headers = {name: value for name, value in sent.items() if value is not None}
    assert Access(None).may_be_shown(headers) is shown


async def test_an_answer_waits_for_no_acknowledgement() -> None:
    delays = asyncio.get_running_loop().create_future()

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        delays.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0)
        writer.close()

    server = await asyncio.start_server(connected, sock=listening_socket("127.0.0.1", 0))
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await delays is False
        writer.close()


def test_an_address_that_is_taken_is_named() -> None:
    taken = listening_socket("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port} cannot be listened on"):
        listening_socket("127.0.0.1", port)
    taken.close()
