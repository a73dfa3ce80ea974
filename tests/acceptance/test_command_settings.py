"""Settings that are wrong, and ways to the project that do not work: what the command says."""

from __future__ import annotations

import http.client
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from devstack import LocalStack, Stack
from devstack.keys import sign_jwt
from devstack.servers import UnixConnection
from tests.acceptance.command import Command, Ended
from tests.acceptance.conftest import command_for

STATUS = ("lease", "status", "--company", "962302")


def refused(ended: Ended, code: int = 2) -> str:
    """What was said on standard error, which is no word of another library's exception."""
    assert ended.code == code, ended.err
    assert "error: " in ended.err
    assert "unexpected" not in ended.err
    return ended.err


# A certificate authority of one's own


@pytest.fixture
def https(fresh_stack: Callable[..., LocalStack]) -> LocalStack:
    return fresh_stack(https=True, migrate=True)


def test_an_authority_of_ones_own_is_trusted_when_it_is_named(
    https: LocalStack, tmp_path: Path
) -> None:
    run = command_for(https, tmp_path)
    said = refused(run(*STATUS))
    assert "certificate is not trusted" in said
    assert "SSL_CERT_FILE" in said

    authority = str(https.gateway.authority)
    assert run("stats", SSL_CERT_FILE=authority).code == 0
    (tmp_path / ".env").write_text(f"SSL_CERT_FILE={authority}\n")
    assert run("stats").code == 0
    assert "missing.pem cannot be read" in refused(run("stats", SSL_CERT_FILE="missing.pem"))


def test_the_wrong_protocol_is_told(https: LocalStack, stack: Stack, tmp_path: Path) -> None:
    run = command_for(https, tmp_path)
    assert "does not speak PostgREST" in refused(
        run(*STATUS, SUPABASE_URL=https.url.replace("https", "http"))
    )
    assert "TLS failed" in refused(run(*STATUS, SUPABASE_URL=stack.url.replace("http", "https")))


# Proxies


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server with this handler."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Quiet(SimpleHTTPRequestHandler):
    """A web server that is no API."""

    def log_request(self, *_: object) -> None:
        pass


class Passing(BaseHTTPRequestHandler):
    """Passes what is posted to another server."""

    def do_POST(self) -> None:
        connection, path = self.target()
        body = self.rfile.read(int(self.headers["content-length"]))
        connection.request("POST", path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def target(self) -> tuple[http.client.HTTPConnection, str]:
        raise NotImplementedError

    def log_request(self, *_: object) -> None:
        pass


class Proxy(Passing):
    """A forward proxy for http."""

    asked: list[str]

    def target(self) -> tuple[http.client.HTTPConnection, str]:
        self.asked.append(self.path)
        target = urlsplit(self.path)
        assert target.hostname is not None
        return http.client.HTTPConnection(target.hostname, target.port), target.path


class Postgrest(Passing):
    """PostgREST itself, as on a server that has no gateway."""

    socket: Path

    def target(self) -> tuple[http.client.HTTPConnection, str]:
        return UnixConnection(self.socket), self.path.removeprefix("/rest/v1")


def test_a_usable_proxy_is_used_beside_one_that_is_not(stack: Stack, run: Command) -> None:
    Proxy.asked = []
    with serving(Proxy) as proxy:
        ended = run("stats", "--json", HTTP_PROXY=f"http://{proxy}", ALL_PROXY="socks://p:1080/")
    assert (ended.code, ended.err) == (0, "")
    called = [url.removeprefix(f"{stack.url}/rest/v1/rpc/") for url in Proxy.asked]
    assert set(called) == {
        "refresh_whatsapp_statistics", "whatsapp_overview", "whatsapp_companies_page",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks://proxy:1080/"),
        ("all_proxy", "socks5://proxy:1080"),
        ("HTTP_PROXY", "socks4://proxy:1080"),
        ("http_proxy", "http://proxy:port"),
        ("HTTP_PROXY", "://"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(name: str, value: str, run: Command) -> None:
    assert f"error: {name} " in refused(run(*STATUS, **{name: value}))


@pytest.mark.parametrize("bypass", ["127.0.0.1", "*", "::1/128,127.0.0.1", "[::1],127.0.0.1"])
def test_no_proxy_is_asked_for_what_is_not_to_go_through_one(bypass: str, run: Command) -> None:
    assert run("stats", ALL_PROXY="socks://proxy:1080/", NO_PROXY=bypass).code == 0


# Keys and files of settings


def test_a_dotenv_file_of_powershell_is_named_when_it_is_needed(
    stack: Stack, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"SUPABASE_URL={stack.url}\n", "utf-16")
    run = Command(tmp_path, {"SUPABASE_SECRET_KEY": stack.secret_key})
    assert "SUPABASE_URL is not set, and" in refused(run(*STATUS))
    assert "UTF-16" in refused(run(*STATUS))
    ended = run("stats", SUPABASE_URL=stack.url)
    assert (ended.code, "UTF-16" in ended.err) == (0, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: f'"{key}"',
        lambda key: f"Bearer {key}",
        lambda key: key[:-5],
        lambda key: key[:40] + "\n" + key[40:],
        lambda _: "sb_secret_",
    ],
)
def test_a_key_that_was_copied_wrongly_is_told_without_a_request(
    change: Callable[[str], str], stack: Stack, tmp_path: Path
) -> None:
    key = change(stack.service_role_key)
    # Nothing listens there.
    run = Command(tmp_path, {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SECRET_KEY": key})
    said = refused(run(*STATUS, "-vv"))
    assert "Supabase key" in said
    assert stack.service_role_key[:40] not in said


# What the server says of a key


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("sb_secret_not-for-postgrest-itself", "Set SUPABASE_URL to the gateway's address"),
        (sign_jwt({"role": "service_role"}, "another secret of at least 32 characters"), "another"),
    ],
    ids=["a new key without a gateway", "a key of another secret"],
)
def test_a_key_that_the_server_does_not_take_is_told_what_it_is(
    key: str, advice: str, local_stack: LocalStack, tmp_path: Path
) -> None:
    Postgrest.socket = local_stack.postgrest.socket
    with serving(Postgrest) as address:
        environ = {"SUPABASE_URL": f"http://{address}", "SUPABASE_SECRET_KEY": key}
        run = Command(tmp_path, environ)
        said = refused(run(*STATUS), code=4)
    assert advice in said
    assert "migrations" not in said
    assert key not in said


def test_another_web_server_is_told_at_once(run: Command) -> None:
    with serving(Quiet) as address:
        said = refused(run(*STATUS, SUPABASE_URL=f"http://{address}"))
    assert "does not speak PostgREST" in said
    assert "SUPABASE_URL" in said


# While it waits


def test_a_terminal_is_told_what_a_command_waits_for_and_until_when(
    fresh_stack: Callable[..., LocalStack], tmp_path: Path
) -> None:
    project = fresh_stack()
    run = command_for(project, tmp_path)
    project.gateway.pause()
    with run.at_terminal(*STATUS) as terminal:
        terminal.until(r"no answer yet: calling whatsapp_lease_status: .*Waiting until \d\d:\d\d")
        assert project.url in terminal.seen
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
    project.gateway.kill()
    with run.at_terminal(*STATUS) as terminal:
        terminal.until(r"no answer yet: .*is http://.* the right address\?.*Waiting until \d\d:\d")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130


def test_a_terminal_is_told_nothing_while_the_database_answers(run: Command) -> None:
    with run.at_terminal("stats") as terminal:
        assert terminal.end() == 0
    assert "no answer yet" not in terminal.seen
