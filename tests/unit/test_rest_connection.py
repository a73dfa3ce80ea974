"""The connections that the library opens itself, against servers that behave and that do not."""

from __future__ import annotations

import asyncio
import gc
import gzip
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from supabase_auth_state import ConfigurationError, Rest, Settings, StoreUnavailable, open_rest
from tests.canned import Clock, stock_client

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


async def post(rest: Rest, body: Any = 0) -> Any:
    return await rest.rpc("f", {"p": body})


async def test_requests_share_a_connection_and_carry_the_key(serving: Any) -> None:
    heard: list[bytes] = []
    rest = connected(await serving(answering(ok(b"1"), ok(b"2"), heard=heard)))
    assert [await post(rest), await post(rest, "ä")] == [1, 2]
    await rest.close()
    head = heard[0].lower()
    assert head.startswith(b"post /rest/v1/rpc/f http/1.1\r\n")
    assert head.count(b"\r\nhost: 127.0.0.1:") == head.count(b"\r\ncontent-length: 7") == 1
    assert b"\r\napikey: " + KEY.encode() + b"\r\n" in heard[0]
    assert b"\r\ncontent-type: application/json\r\n" in head
    assert head.count(b"\r\nuser-agent: ") == head.count(b"\r\naccept: ") == 1
    assert heard[1].endswith('{"p":"ä"}'.encode())


async def test_a_packed_answer_is_unpacked(serving: Any) -> None:
    packed = gzip.compress(b'{"a": 1}')
    rest = connected(await serving(answering(ok(packed, b"Content-Encoding: gzip"))))
    assert await post(rest) == {"a": 1}
    await rest.close()


async def test_a_body_of_megabytes_goes_out_whole(serving: Any) -> None:
    heard: list[bytes] = []
    rest = connected(await serving(answering(ok(b"1"), heard=heard)))
    body = "x" * (3 << 20)
    assert await post(rest, body) == 1
    await rest.close()
    assert heard[0].endswith(b'\r\n\r\n{"p":"' + body.encode() + b'"}')
    head = heard[0][:2000].lower()
    assert b"\r\ncontent-length: %d\r\n" % (len(body) + 8) in head
    assert b"transfer-encoding" not in head


async def test_a_redirect_is_not_followed(serving: Any) -> None:
    elsewhere = b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    rest = connected(await serving(answering(elsewhere)))
    with pytest.raises(ConfigurationError, match="does not speak PostgREST"):
        await post(rest)
    await rest.close()


FAILURES = [
    pytest.param(b"", id="closed without an answer"),
    pytest.param(b"HTTP/1.1 200 OK\r\nconte", id="closed in the head"),
    pytest.param(ok(SECRET, length=99), id="closed in the body"),
    pytest.param(SECRET + b"\r\n\r\n", id="not HTTP"),
    pytest.param(ok(b"", b"x: \x00" + SECRET), id="a header with NUL"),
    pytest.param(ok(b"\x1f\x8b" + SECRET, b"content-encoding: gzip"), id="cannot be unpacked"),
]


@pytest.mark.parametrize("answer", FAILURES)
async def test_no_whole_answer_is_no_answer_and_quotes_nothing(
    serving: Any, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rest = connected(await serving(answering(answer)))
    with pytest.raises(StoreUnavailable) as raised:
        await post(rest)
    await rest.close()
    assert raised.value.__cause__ is raised.value.__context__ is None
    told = str(raised.value) + repr(vars(raised.value)) + caplog.text
    assert SECRET.decode() not in told
    assert KEY not in told


def page(status: bytes, body: bytes, content_type: bytes = b"text/html") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, content_type, len(body)) + body


OTHER_SERVERS = [
    page(b"200 OK", b"<title>Parking page</title>"),
    page(b"200 OK", b""),
    page(b"404 Not Found", b"<h1>Not Found</h1>"),
    page(b"501 Not Implemented", b"<h1>Unsupported method ('POST')</h1>"),
    page(b"301 Moved", b"", b"text/html\r\nlocation: https://127.0.0.1:1/"),
    # What servers of https answer to http: Go's, and nginx.
    page(b"400 Bad Request", b"Client sent an HTTP request to an HTTPS server.", b"text/plain"),
    page(b"400 Bad Request", b"<center>The plain HTTP request was sent to HTTPS port</center>"),
]


@pytest.mark.parametrize("answer", OTHER_SERVERS, ids=range(len(OTHER_SERVERS)))
async def test_another_server_is_said_at_once(serving: Any, answer: bytes) -> None:
    heard: list[bytes] = []
    clock = Clock()
    url = await serving(answering(answer, heard=heard))
    rest = open_rest(Settings(url=url, key=KEY), timing=clock.timing)
    with pytest.raises(ConfigurationError, match=r"does not speak PostgREST.*SUPABASE_URL"):
        await post(rest)
    await rest.close()
    assert len(heard) == 1
    assert clock.slept == []


@pytest.mark.parametrize("answer", OTHER_SERVERS, ids=range(len(OTHER_SERVERS)))
async def test_another_server_is_asked_again_once_postgrest_has_answered(
    serving: Any, answer: bytes
) -> None:
    closing = b"connection: close"
    answers = [ok(b"1", closing), answer, ok(b"2", closing)]
    rest = open_rest(
        Settings(url=await serving(answering(*answers)), key=KEY), timing=Clock().timing
    )
    assert [await post(rest), await post(rest)] == [1, 2]
    await rest.close()


async def test_nobody_listening_says_where() -> None:
    rest = connected("http://127.0.0.1:1")
    with pytest.raises(
        StoreUnavailable, match=r"Connection refused.*127\.0\.0\.1:1.*right address"
    ):
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


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")  # asyncio's, in 3.10
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
        with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
            await post(rest)
        assert heard == []
    await rest.close()
    gc.collect()


async def test_a_server_that_was_reached_is_asked_again_when_its_certificate_is_not_trusted(
    serving: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    url = await serving(answering(ok(b"1", b"connection: close"), ok(b"2")), context)
    clock = Clock()
    rest = open_rest(Settings(url=url, key=KEY), timing=clock.timing)
    assert await post(rest) == 1
    (tmp_path / "other").mkdir()
    context.load_cert_chain(*certificate(tmp_path / "other"))
    with pytest.raises(StoreUnavailable, match="certificate is not trusted"):
        await post(rest)
    assert len(clock.slept) > 5
    await rest.close()


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Neither read nor answer, until the test is over."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("size", [2, 16 << 20], ids=["that it has read", "too large to take in"])
async def test_a_server_that_stands_still_is_given_up(serving: Any, size: int) -> None:
    rest = connected(await serving(never), timeout=0.1)
    with pytest.raises(StoreUnavailable):
        await post(rest, "x" * size)
    await rest.close()


async def test_a_server_that_answers_byte_by_byte_is_given_up(serving: Any) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    # Each byte comes within the timeout; the whole does not.
    rest = connected(await serving(drip), timeout=0.3)
    with pytest.raises(StoreUnavailable, match="no answer in time"):
        await post(rest)
    await rest.close()


async def test_a_rest_that_is_dropped_without_close_goes_without_a_word(
    serving: Any, fresh_log: pytest.LogCaptureFixture
) -> None:
    rest = connected(await serving(answering(ok(b"1"), ok(b"2"))))
    assert await post(rest) == 1
    del rest
    gc.collect()
    await asyncio.sleep(0)
    assert [record for record in fresh_log.records if "Unclosed" in record.getMessage()] == []


def test_a_client_of_the_callers_serves_one_event_loop() -> None:
    client = stock_client("http://127.0.0.1:1", KEY)
    rest = open_rest(Settings(url="http://127.0.0.1:1", key=KEY, give_up_after=0), client=client)
    with pytest.raises(StoreUnavailable):
        asyncio.run(post(rest))
    with pytest.raises(ConfigurationError, match="client was opened in another event loop"):
        asyncio.run(post(rest))


async def test_a_cancelled_request_leaves_the_connections_to_others(serving: Any) -> None:
    asked = asyncio.Event()
    second = answering(ok(b"1"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked.is_set():
            await second(reader, writer)
        else:
            asked.set()
            await asyncio.Event().wait()

    rest = connected(await serving(serve))
    first = asyncio.create_task(post(rest))
    await asked.wait()
    first.cancel()
    assert await post(rest) == 1
    await rest.close()


async def test_https_to_a_server_of_http_is_said_at_once(serving: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    url = await serving(serve)
    rest = open_rest(Settings(url=url.replace("http:", "https:"), key=KEY))
    with pytest.raises(ConfigurationError, match="speak https"):
        await post(rest)
    await rest.close()


async def test_a_host_that_does_not_exist_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    rest = open_rest(Settings(url="http://project.test", key=KEY))
    with pytest.raises(ConfigurationError, match="no host of this name"):
        await post(rest)
    await rest.close()


@pytest.mark.parametrize(
    ("variables", "direct"),
    [
        ({}, True),
        ({"HTTPS_PROXY": "http://127.0.0.1:9"}, True),
        ({"HTTP_PROXY": "http://127.0.0.1:9"}, False),
        ({"ALL_PROXY": "http://127.0.0.1:9"}, False),
        ({"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}, True),
    ],
)
async def test_a_proxy_of_the_environment_is_used(
    serving: Any, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], direct: bool
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    url, proxy = await serving(answering(ok(b"1"))), await serving(answering(ok(b"2")))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("http://127.0.0.1:9", proxy))
    rest = connected(url)
    assert await post(rest) == (1 if direct else 2)
    await rest.close()
