"""Alerts from a real database to real receiving servers, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp import web

from devstack import LocalStack
from supabase_auth_state import Rest, Settings, open_rest
from supabase_auth_state.operations.alert_config import AlertConfig, load_alert_config
from supabase_auth_state.operations.alerting import Alerts
from supabase_auth_state.operations.receivers import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIME_HEADER,
    signature,
)
from supabase_auth_state.operations.statistics import recount
from supabase_auth_state.rest.backoff import Timing

SECRET = "the-shared-secret"
FILE = """
[alerts]
every = "1m"
repeat = "1h"
company_ids = {named}

[rules.damaged_rows]
for = "2m"
clear_for = "5m"

[receivers.hook]
type = "webhook"
url_env = "HOOK"
secret_env = "HOOK_SECRET"
"""


class Server:
    """Takes posted messages; `status` is what it answers, None for nothing at all."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.status: int | None = 200
        self.asked = asyncio.Event()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.set()
        if self.status is None:
            await asyncio.sleep(3600)
        if self.status == 200:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.taken.append((headers, await request.read()))
        return web.Response(status=self.status or 500)

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Rule and notice of what was taken."""
        found = [json.loads(body) for _, body in self.taken]
        return [(each["rule"], each["notice"]) for each in found]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    app = web.Application()
    app.router.add_post("/{place}", found.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/a-secret-place"
    yield found
    await runner.cleanup()


@pytest.fixture(scope="module")
def own_stack(local_stack: LocalStack) -> Iterator[LocalStack]:
    """A project for this module alone: its statistics are of everything."""
    with local_stack.fresh(migrate=True) as stack:
        yield stack


class World:
    """A project without alerts, a clock, and processes that look at the rules."""

    def __init__(self, stack: LocalStack, db: psycopg.Connection[Any], rest: Rest) -> None:
        self.stack, self.db, self.rest = stack, db, rest
        self.now = 1_800_000_000.0

    def process(self, config: AlertConfig, rest: Rest | None = None) -> Alerts:
        """Give a process; it remembers nothing of any before."""
        return Alerts(rest or self.rest, config, project="p.test", clock=lambda: self.now)

    def damage(self, count: int) -> None:
        """Have the processes meet damaged rows now, or not any more."""
        self.db.execute("delete from whatsapp_events")
        if count:
            self.db.execute(
                "select add_whatsapp_activity('{}', jsonb_build_object('damaged_rows', %s::int))",
                [count],
            )


@pytest.fixture
async def world(own_stack: LocalStack) -> AsyncIterator[World]:
    settings = Settings(url=own_stack.url, key=own_stack.service_role_key, give_up_after=1.0)
    rest = open_rest(settings)
    with psycopg.connect(own_stack.db_url, autocommit=True) as db:
        db.execute("truncate whatsapp_alerts, whatsapp_alert_messages, whatsapp_events")
        yield World(own_stack, db, rest)
    await rest.close()


@pytest.fixture
def config(server: Server, tmp_path: Path) -> AlertConfig:
    return loaded(FILE.format(named="false"), server, tmp_path)


def loaded(text: str, server: Server, tmp_path: Path) -> AlertConfig:
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    env = {"HOOK": server.url, "HOOK_SECRET": SECRET, "SLACK": server.url}
    return load_alert_config(path, env=env)


async def look(world: World, *processes: Alerts, after: float = 0.0) -> None:
    """Let time pass, and all processes look and deliver at once."""
    world.now += after
    await asyncio.gather(*(each.check() for each in processes))
    await asyncio.gather(*(each.deliver() for each in processes))


async def test_two_processes_tell_once_that_it_fires_repeats_and_is_over(
    world: World, server: Server, config: AlertConfig
) -> None:
    one, two = world.process(config), world.process(config)
    world.damage(3)
    await look(world, one, two)
    assert server.messages == []
    await look(world, one, two, after=120)
    await look(world, one, two, after=60)
    assert server.messages == [("damaged_rows", "firing")]
    # A process that is started again, and a third one, go on where the others were.
    one = world.process(config)
    await look(world, one, two, world.process(config), after=3600)
    assert server.messages[1:] == [("damaged_rows", "repeated")]
    world.damage(0)
    await look(world, one, two, after=60)
    assert len(server.messages) == 2
    await look(world, one, two, after=300)
    assert server.messages[2:] == [("damaged_rows", "resolved")]


async def test_a_message_is_signed_and_names_itself(
    world: World, server: Server, config: AlertConfig
) -> None:
    assert await world.process(config).test() == {"hook": ""}
    headers, body = server.taken[0]
    assert headers[SIGNATURE_HEADER] == signature(SECRET, headers[TIME_HEADER], body)
    assert signature("another", headers[TIME_HEADER], body) != headers[SIGNATURE_HEADER]
    assert headers[ID_HEADER]
    assert json.loads(body)["notice"] == "test"


async def test_a_dead_receiver_loses_nothing_and_delays_no_other(
    world: World, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = FILE.format(named="false") + '[receivers.log]\ntype = "log"\n'
    alerts = world.process(loaded(text, server, tmp_path))
    server.status = None
    world.damage(1)
    await alerts.check()
    world.now += 120
    await alerts.check()
    with caplog.at_level(logging.WARNING, "supabase_auth_state"):
        delivering = asyncio.ensure_future(alerts.deliver())
        await asyncio.wait_for(server.asked.wait(), 30)
        while not any("alert: Damaged rows" in each.message for each in caplog.records):
            await asyncio.sleep(0.01)
        assert not delivering.done()
        delivering.cancel()
    # The process died while it sent: another one does after a minute.
    server.status = 503
    world.now += 61
    await world.process(loaded(text, server, tmp_path)).deliver()
    assert server.messages == []
    kept = world.db.execute(
        "select attempts, failure from whatsapp_alert_messages where receiver = 'hook'"
    ).fetchone()
    assert kept == (2, "HTTP 503")
    server.status = 200
    world.now += 3600
    await alerts.deliver()
    await alerts.deliver()
    assert server.messages == [("damaged_rows", "firing")]


async def test_messages_name_companies_only_when_that_is_allowed(
    world: World, server: Server, tmp_path: Path
) -> None:
    world.db.execute("set whatsapp_auth.maintenance = 'on'")
    world.db.execute("insert into whatsapp_auth (company_id, creds) values ('named-company', '{}')")
    await recount(world.rest)
    quick = '[rules.pre_keys_low]\nfor = "0s"\n'
    for named, seen in (("false", False), ("true", True)):
        world.db.execute("truncate whatsapp_alerts, whatsapp_alert_messages")
        server.taken.clear()
        config = loaded(FILE.format(named=named) + quick, server, tmp_path)
        await look(world, world.process(config))
        assert ("pre_keys_low", "firing") in server.messages
        assert any(b"named-company" in body for _, body in server.taken) is seen
    world.db.execute("delete from whatsapp_auth")
    await recount(world.rest)


async def test_a_database_that_is_away_is_told_and_that_it_is_back(
    world: World, server: Server, config: AlertConfig, unused_tcp_port: int
) -> None:
    away = open_rest(
        Settings(
            url=f"http://127.0.0.1:{unused_tcp_port}",
            key=world.stack.service_role_key,
            give_up_after=0.1,
        ),
        timing=Timing(sleep=lambda _: asyncio.sleep(0)),
    )
    alerts = world.process(config, away)
    await look(world, alerts)
    await look(world, alerts, after=120)
    assert ("unreachable", "firing") in server.messages
    await away.close()
    alerts._rest = world.rest
    await look(world, alerts, after=60)
    assert ("unreachable", "resolved") in server.messages


async def test_slack_and_mail_take_messages_and_no_log_has_a_secret(
    world: World, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mails: list[bytes] = []
    smtp = await asyncio.start_server(lambda r, w: take_mail(r, w, mails), "127.0.0.1", 0)
    port = smtp.sockets[0].getsockname()[1]
    text = (
        '[receivers.slack]\ntype = "slack"\nurl_env = "SLACK"\n'
        f'[receivers.mail]\ntype = "email"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n'
        'sender = "a@example.org"\nto = ["b@example.org"]\n'
    )
    alerts = world.process(loaded(text, server, tmp_path))
    with caplog.at_level(logging.DEBUG):
        assert await alerts.test() == {"slack": "", "mail": ""}
        server.status = 500
        smtp.close()
        failed = await alerts.test()
    assert json.loads(server.taken[0][1])["text"].endswith("arrive here. (p.test)")
    assert b"Subject: [test] This is a test" in mails[0]
    assert failed == {"slack": "HTTP 500", "mail": "ConnectionRefusedError"}
    assert "a-secret-place" not in caplog.text


async def take_mail(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mails: list[bytes]
) -> None:
    """Speak as much of SMTP as one mail needs."""
    writer.write(b"220 test\r\n")
    while line := await reader.readline():
        if line.upper().startswith(b"DATA"):
            writer.write(b"354 go on\r\n")
            mails.append(await reader.readuntil(b"\r\n.\r\n"))
        if line.upper().startswith(b"QUIT"):
            writer.write(b"221 bye\r\n")
            break
        writer.write(b"250 ok\r\n")
    writer.close()
