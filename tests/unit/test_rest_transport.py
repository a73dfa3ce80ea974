"""HTTP by aiohttp below httpx, against servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import gc
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from supabase_auth_state.rest.transport import (
    AiohttpTransport,
    is_stood_in_for,
    limits_of,
    open_session,
)

from supabase_auth_state import ConfigurationError, Rest, Settings, StoreUnavailable, open_rest

KEY = "sb_secret_do-not-print-me"
SECRET = b"c2VjcmV0LXNpZ25hbC1rZXk="
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def serving() -> AsyncIterator[Callable[[Serve], Awaitable[str]]]:
    """Start servers on loopback ports: `url = await serving(handler)`."""
    async with AsyncExitStack() as opened:
        tasks: set[asyncio.Task[Any]] = set()

        async def stop() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        async def start(serve: Serve, context: ssl.SSLContext | None = None) -> str:
            async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                tasks.add(task)
                try:
                    with suppress(asyncio.CancelledError):
                        await serve(reader, writer)
                finally:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()

            server = await asyncio.start_server(once, "127.0.0.1", 0, ssl=context)
            opened.callback(server.close)
            scheme = "http" if context is None else "https"
            return f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        opened.push_async_callback(stop)
        yield start


def answering(*answers: bytes, heard: list[bytes] | None = None) -> Serve:
    """Answer one request after the other, on as many connections as come."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
            body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
            if heard is not None:
                heard.append(head + body)
            writer.write(left.pop(0))
            await writer.drain()

    return serve


def ok(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % size, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def connected(url: str, *, timeout: float = 5.0) -> Rest:
    """Give a `Rest` that does not try twice."""
    return open_rest(Settings(url=url, key=KEY, timeout=timeout, give_up_after=0))


async def post(rest: Rest, body: bytes = b"{}") -> Any:
    return await rest.rpc_text("f", body)


async def test_requests_share_a_connection_and_arrive_as_httpx_made_them(serving: Any) -> None:
    heard: list[bytes] = []
    rest = connected(await serving(answering(ok(b"1"), ok(b"2"), heard=heard)))
    assert [await post(rest), await post(rest, "{ä}".encode())] == [1, 2]
    await rest.close()
    head = heard[0].lower()
    assert head.startswith(b"post /rest/v1/rpc/f http/1.1\r\n")
    assert head.count(b"\r\nhost: 127.0.0.1:") == head.count(b"\r\ncontent-length: 2") == 1
    assert b"\r\napikey: " + KEY.encode() + b"\r\n" in heard[0]
    assert b"\r\ncontent-type: text/plain\r\n" in heard[0]
    assert head.count(b"\r\nuser-agent: ") == head.count(b"\r\naccept: ") == 1
    assert heard[1].endswith("{ä}".encode())


async def test_a_query_arrives_as_it_was_encoded(serving: Any) -> None:
    heard: list[bytes] = []
    rest = connected(await serving(answering(ok(b"[]"), heard=heard)))
    await rest.select("whatsapp_auth", {"company_id": "eq.a+b/c%20d&ä", "select": "creds"})
    await rest.close()
    assert heard[0].startswith(
        b"GET /rest/v1/whatsapp_auth?company_id=eq.a%2Bb%2Fc%2520d%26%C3%A4&select=creds HTTP/1.1"
    )


async def test_a_packed_answer_is_unpacked(serving: Any) -> None:
    packed = gzip.compress(b'{"a": 1}')
    rest = connected(await serving(answering(ok(packed, b"Content-Encoding: gzip"))))
    assert await post(rest) == {"a": 1}
    await rest.close()


async def test_a_body_of_megabytes_goes_out_whole(serving: Any) -> None:
    heard: list[bytes] = []
    rest = connected(await serving(answering(ok(b"1"), heard=heard)))
    body = b"x" * (3 << 20)
    assert await post(rest, body) == 1
    await rest.close()
    assert heard[0].endswith(b"\r\n\r\n" + body)


async def test_a_redirect_is_not_followed(serving: Any) -> None:
    elsewhere = b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    rest = connected(await serving(answering(elsewhere)))
    with pytest.raises(ConfigurationError, match="does not speak PostgREST"):
        await post(rest)
    await rest.close()


FAILURES = [
    pytest.param(b"", "RemoteProtocolError", id="closed without an answer"),
    pytest.param(b"HTTP/1.1 200 OK\r\nconte", "RemoteProtocolError", id="closed in the head"),
    pytest.param(ok(SECRET, length=99), "ReadError", id="closed in the body"),
    pytest.param(SECRET + b"\r\n\r\n", "ReadError", id="not HTTP"),
    pytest.param(ok(b"", b"x: \x00" + SECRET), "ReadError", id="a header with NUL"),
]


@pytest.mark.parametrize(("answer", "kind"), FAILURES)
async def test_no_whole_answer_is_no_answer_and_quotes_nothing(
    serving: Any, answer: bytes, kind: str
) -> None:
    rest = connected(await serving(answering(answer)))
    with pytest.raises(StoreUnavailable, match=kind) as raised:
        await post(rest)
    await rest.close()
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert SECRET.decode() not in str(raised.value)
    assert KEY not in repr(raised.value)


@pytest.mark.parametrize(("answer", "_kind"), FAILURES)
async def test_the_transport_s_own_errors_hold_neither_request_nor_answer(
    serving: Any, answer: bytes, _kind: str
) -> None:
    url = await serving(answering(answer))
    async with AiohttpTransport(connections=1) as transport:
        with pytest.raises(httpx.TransportError) as raised:
            await transport.handle_async_request(
                httpx.Request("POST", url, headers={"apikey": KEY}, content=b"{}")
            )
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert SECRET.decode() not in str(raised.value)


async def test_nobody_listening_says_where() -> None:
    rest = connected("http://127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match=r"ConnectError .*127\.0\.0\.1:1.*right address"):
        await post(rest)
    await rest.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that nobody has signed; give its file and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "server.pem", folder / "server.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.mark.parametrize("trusted", [False, True])
async def test_only_a_server_whose_certificate_is_trusted_is_spoken_to(
    serving: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    chain, key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    heard: list[bytes] = []
    rest = connected(await serving(answering(ok(b"1"), heard=heard), context))
    if trusted:
        assert await post(rest) == 1
    else:
        with pytest.raises(StoreUnavailable, match=r"ConnectError .*[cC]ertificate"):
            await post(rest)
        assert heard == []
    await rest.close()


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Neither read nor answer, until the test is over."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("size", [2, 16 << 20], ids=["that it has read", "too large to take in"])
async def test_a_server_that_stands_still_is_given_up(serving: Any, size: int) -> None:
    rest = connected(await serving(never), timeout=0.05)
    with pytest.raises(StoreUnavailable, match="ReadTimeout"):
        await post(rest, b"x" * size)
    await rest.close()


async def test_a_request_waits_for_its_turn_no_longer_than_the_timeout(serving: Any) -> None:
    url = await serving(never)
    async with AiohttpTransport(connections=1) as transport:
        limits = limits_of({"connect": 9, "read": 9, "write": 9, "pool": 0.05})
        first = asyncio.create_task(transport.send("GET", url, {}, None, limits))
        await asyncio.sleep(0)
        with pytest.raises(httpx.ConnectTimeout):
            await transport.send("GET", url, {}, None, limits)
        first.cancel()


async def test_a_cancelled_request_gives_its_place_back(serving: Any) -> None:
    asked = asyncio.Event()
    second = answering(ok(b"1"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked.is_set():
            await second(reader, writer)
        else:
            asked.set()
            await asyncio.Event().wait()

    url = await serving(serve)
    session, send = open_session(url, timeout=5, connections=1)
    first = asyncio.create_task(send("GET", url, {}, None))
    await asked.wait()
    first.cancel()
    assert (await send("GET", url, {}, None)).content == b"1"
    await session.aclose()


async def test_the_session_itself_sends_by_aiohttp_too(serving: Any) -> None:
    packed = ok(gzip.compress(b"[1]"), b"Content-Encoding: gzip", b"X-Other: a")
    url = await serving(answering(packed, ok(b"[2]")))
    session, _ = open_session(url, timeout=5, connections=1)
    answers = [await session.post(url, json={}), await session.get(url)]
    assert [answer.json() for answer in answers] == [[1], [2]]
    assert answers[0].headers["x-other"] == "a"
    await session.aclose()


async def test_after_closing_nothing_is_sent(serving: Any) -> None:
    rest = connected(await serving(answering(ok(b"1"))))
    await rest.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await post(rest)


async def test_what_stands_in_for_httpcore_is_asked() -> None:
    rest = connected("http://project.test")
    with respx.mock as mock:
        mock.post("http://project.test/rest/v1/rpc/f").respond(json=7)
        assert await post(rest) == 7
    await rest.close()


async def test_what_stands_in_for_the_transport_of_httpx_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(_: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=str(request.url))

    rest = connected("http://project.test")
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer)
    assert await post(rest) == "http://project.test/rest/v1/rpc/f"
    await rest.close()


async def test_who_watches_the_client_of_httpx_sees_every_request(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    send = httpx.AsyncClient.send

    async def watch(
        client: httpx.AsyncClient, request: httpx.Request, **options: Any
    ) -> httpx.Response:
        seen.append(request.url.path)
        return await send(client, request, **options)

    rest = connected(await serving(answering(ok(b"1"))))
    monkeypatch.setattr(httpx.AsyncClient, "send", watch)
    assert await post(rest) == 1
    assert seen == ["/rest/v1/rpc/f"]
    await rest.close()


async def test_where_nothing_stands_in_aiohttp_is_asked(serving: Any) -> None:
    url = await serving(answering(ok(b"1")))
    async with AiohttpTransport(connections=1) as transport:
        await transport.handle_async_request(httpx.Request("GET", url))
        assert transport._session is not None
        assert transport._plain is None
    assert not is_stood_in_for()


@pytest.mark.parametrize(
    ("variables", "direct"),
    [
        ({}, True),
        ({"HTTPS_PROXY": "http://127.0.0.1:9"}, True),
        ({"HTTP_PROXY": "http://127.0.0.1:9"}, False),
        ({"ALL_PROXY": "http://127.0.0.1:9"}, False),
        ({"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "project.test"}, True),
    ],
)
async def test_a_proxy_of_the_environment_is_left_to_httpx(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], direct: bool
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    session, _ = open_session("http://project.test:8000", timeout=1, connections=1)
    assert isinstance(session._transport, AiohttpTransport) is direct
    await session.aclose()


async def test_a_session_that_nobody_closed_goes_without_a_word(
    serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rest = connected(await serving(answering(ok(b"1"), ok(b"2"))))
    assert await post(rest) == 1
    del rest
    gc.collect()
    await asyncio.sleep(0)
    assert caplog.records == []
