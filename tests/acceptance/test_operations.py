"""`capacity`, `alerts` and `metrics`, as they are run, with servers that receive and that ask."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import LocalStack
from supabase_auth_state.operations.receivers import SIGNATURE_HEADER, TIME_HEADER, signature
from tests.acceptance.command import Command
from tests.acceptance.conftest import Sample, command_for
from tests.acceptance.test_commands import until

SECRET = "the-shared-secret"
RULES = """
[alerts]
every = "1s"
company_ids = false

[rules.damaged_rows]
for = "0s"
clear_for = "0s"

[receivers.hook]
type = "webhook"
url_env = "HOOK"
secret_env = "HOOK_SECRET"
"""


@pytest.fixture
def db(project: LocalStack) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(project.db_url, autocommit=True) as found:
        found.execute("truncate whatsapp_alerts, whatsapp_alert_messages, whatsapp_events")
        yield found


class Receiver(ThreadingHTTPServer):
    """Takes what is posted to it, and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.taken: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/a-secret-place"

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Rule and notice of what was taken."""
        found = [json.loads(body) for _, body in self.taken]
        return [(each["rule"], each["notice"]) for each in found]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.status == 200:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.taken.append((headers, body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base calls it
        """Print nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(project: LocalStack, receiver: Receiver, tmp_path: Path) -> Command:
    """The command, in a folder that has the rules and in an environment that has the secrets."""
    (tmp_path / "alerts.toml").write_text(RULES)
    command = command_for(project, tmp_path)
    command.environ |= {"HOOK": receiver.url, "HOOK_SECRET": SECRET}
    return command


def met_damage(db: psycopg.Connection[Any]) -> None:
    """Have a process tell of damaged rows."""
    db.execute("""select add_whatsapp_activity('{}', '{"damaged_rows": 3}')""")


CHECK = ("alerts", "check", "--config", "alerts.toml")


def test_a_check_from_cron_tells_once_that_a_rule_fires_and_that_it_is_over(
    run: Command, receiver: Receiver, db: psycopg.Connection[Any]
) -> None:
    quiet = run(*CHECK)
    assert (quiet.code, receiver.taken) == (0, [])
    assert "rules, none fires" in quiet.out

    met_damage(db)
    fires = run(*CHECK)
    assert fires.code == 3
    assert fires.out.startswith("1 of ")
    assert re.search(r"^damaged_rows +firing +3 +above 0$", fires.out, flags=re.MULTILINE)
    again = run(*CHECK, "--json")
    assert (again.code, again.json["ok"], again.json["rules"]["damaged_rows"]["phase"]) == (
        3, False, "firing",
    )  # fmt: skip
    assert receiver.messages == [("damaged_rows", "firing")]
    headers, body = receiver.taken[0]
    assert headers[SIGNATURE_HEADER] == signature(SECRET, headers[TIME_HEADER], body)

    db.execute("truncate whatsapp_events")
    assert run(*CHECK).code == 0
    assert receiver.messages == [("damaged_rows", "firing"), ("damaged_rows", "resolved")]


def test_a_receiver_that_is_down_gets_the_message_from_a_later_check(
    run: Command, receiver: Receiver, db: psycopg.Connection[Any]
) -> None:
    met_damage(db)
    receiver.status = 503
    assert run(*CHECK).code == 3
    assert receiver.taken == []
    receiver.status = 200
    # The pause before it is tried again is over.
    db.execute("update whatsapp_alert_messages set due_at = now()")
    assert run(*CHECK).code == 3
    assert receiver.messages == [("damaged_rows", "firing")]


def test_one_message_is_sent_to_every_receiver_on_request(
    run: Command, receiver: Receiver, project: LocalStack
) -> None:
    tested = run("alerts", "test", "--config", "alerts.toml")
    assert (tested.code, tested.out) == (0, "hook: delivered\n")
    assert [json.loads(body)["notice"] for _, body in receiver.taken] == ["test"]
    receiver.status = 500
    failed = run("alerts", "test", "--config", "alerts.toml", "--json")
    assert (failed.code, failed.json) == (1, {"ok": False, "receivers": {"hook": "HTTP 500"}})
    for secret in ("a-secret-place", SECRET, project.service_role_key):
        assert secret not in tested.out + tested.err + failed.out + failed.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[rules.nothing]\nabove = 1", "nothing"),
        ("[alerts]\nevery = 'soon'", "soon"),
        ("[receivers.hook]\ntype = 'slack'\nurl_env = 'NOT_SET'", "NOT_SET"),
        ("not toml", "alerts.toml"),
    ],
)
def test_a_file_of_rules_that_is_not_understood_is_named(
    text: str, words: str, run: Command, tmp_path: Path
) -> None:
    (tmp_path / "alerts.toml").write_text(text)
    refused = run(*CHECK)
    assert refused.code == 2
    assert words in refused.err


@contextmanager
def running(run: Command, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on until SIGTERM, which ends it in order."""
    with run.start(*args) as process:
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate()
            assert (process.returncode, "Traceback" in err) == (0, False)
        finally:
            process.kill()


def test_alerts_are_sent_until_the_process_is_asked_to_end(
    run: Command, receiver: Receiver, db: psycopg.Connection[Any]
) -> None:
    met_damage(db)
    with running(run, "alerts", "run", "--config", "alerts.toml"):
        until(lambda: receiver.messages == [("damaged_rows", "firing")])


def get(url: str) -> tuple[int, str]:
    """Ask as a scraper does, not through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, ""


@pytest.mark.parametrize("named", [False, True])
def test_metrics_are_scraped_over_http(
    named: bool, run: Command, sample: Sample, db: psycopg.Connection[Any]
) -> None:
    company_id = f"scraped-{named}"
    assert run("import", sample("v7-small"), "--company", company_id, "--force").code == 0
    db.execute("select recount_whatsapp_statistics()")
    arguments = ["metrics", "--port", "0", *(["--company-ids"] if named else [])]
    with running(run, *arguments) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        (url,) = re.findall(r"serving (http://127\.0\.0\.1:\d+)/metrics", said)
        until(lambda: get(f"{url}/readyz")[0] == 200)
        assert get(f"{url}/healthz")[0] == 200
        assert get(f"{url}/other")[0] == 404
        _, text = get(f"{url}/metrics")
    assert "\nwhatsapp_auth_up 1.0\n" in text
    assert (company_id in text) is named
    for secret in (run.environ["SUPABASE_SERVICE_ROLE_KEY"], SECRET):
        assert secret not in text


def test_capacity_counts_what_fits_and_names_the_largest(
    run: Command, sample: Sample, db: psycopg.Connection[Any]
) -> None:
    assert run("import", sample("v7-337"), "--company", "largest", "--force").code == 0
    db.execute("update whatsapp_statistics set refreshed_at = '-infinity'")
    found = {
        plan: run("capacity", "--json", *arguments).json
        for plan, arguments in {
            "free": [],
            "pro": ["--plan", "pro"],
            "custom": ["--plan", "custom", "--disk-gb", "64"],
        }.items()
    }
    fit = [found[plan]["companies_that_fit"] for plan in ("free", "pro", "custom")]
    assert 0 < fit[0] < fit[1] < fit[2]
    assert found["free"]["every_company_counted"] is True
    plain = run("capacity", "--largest", "1")
    assert plain.code == 0
    assert plain.out.startswith("plan free: ")
    assert re.search(r"^largest +\d+\.\d kB$", plain.out, flags=re.MULTILINE)
    assert "growth is not known yet" in plain.out


@pytest.mark.parametrize("arguments", [["--plan", "custom"], ["--disk-gb", "-1"]])
def test_a_plan_that_does_not_exist_is_refused(arguments: list[str], run: Command) -> None:
    refused = run("capacity", *arguments)
    assert (refused.code, refused.err.startswith("error: ")) == (2, True)


def test_the_doctor_of_the_installation_speaks_to_programs_too(
    run: Command, project: LocalStack, db: psycopg.Connection[Any]
) -> None:
    db.execute("select recount_whatsapp_statistics()")
    db.execute("grant select on whatsapp_pauses to anon")
    try:
        found = run("doctor", "--json", SUPABASE_ANON_KEY=project.anon_key)
        plain = run("doctor")
    finally:
        db.execute("revoke select on whatsapp_pauses from anon")
    assert (found.code, found.json["ok"]) == (3, False)
    checks = {check["name"]: check for check in found.json["checks"]}
    assert checks["access"]["ok"] is False
    assert "whatsapp_pauses" in checks["access"]["words"]
    assert checks["migrations"]["ok"] is True
    assert plain.code == 3
    for start in ("FAIL access: ", "?    outside: ", "ok   migrations: "):
        assert f"\n{start}" in plain.out
    for key in (project.anon_key, project.service_role_key):
        assert key not in found.out + found.err + plain.out + plain.err


def test_exact_statistics_are_asked_for(
    run: Command, sample: Sample, db: psycopg.Connection[Any]
) -> None:
    assert run("import", sample("v7-small"), "--company", "exact", "--force").code == 0
    kept, exact = run("stats", "--json").json, run("stats", "--exact", "--json").json
    assert kept["rows"] == exact["rows"] >= 27
    assert set(exact["sealed_with"]) == {"keys", "creds", "kept"}
    assert "sealed_with" not in kept
    assert 0 <= kept["time"] - kept["counted_at"] < 60
    assert "counted_at" not in exact
    assert re.search(r"^counted \d+ s ago, every company ", run("stats").out, flags=re.MULTILINE)
