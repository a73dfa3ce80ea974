"""The way of a folder into the database and back, by the installed command on a real stack."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import LocalStack, Stack
from tests.acceptance.command import Command, Screen
from tests.acceptance.conftest import Sample, command_for
from tests.folders import another_device
from tests.interop.node import run_node
from tests.values import BAILEYS

BEFORE_DEADLINE = 60.0

KEEP_WRITING = """
import itertools, pathlib, sys
path = pathlib.Path(sys.argv[1])
for number in itertools.count():
    path.write_text(f'["0","{number}"]')
    if number == 0:
        print("writing", flush=True)
"""


def until(condition: Callable[[], Any]) -> Any:
    """Wait until another process has come to where this is true, and give what it is."""
    deadline = time.monotonic() + BEFORE_DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.02)
    return found


def count(db: psycopg.Connection[Any], company_id: str, table: str = "whatsapp_keys") -> int:
    query = f"select count(*) from {table} where company_id = %s"  # noqa: S608
    row = db.execute(query, [company_id]).fetchone()
    assert row is not None
    return int(row[0])


def versions(db: psycopg.Connection[Any], company_id: str) -> list[tuple[Any, ...]]:
    """What tells whether any row of a company was written again."""
    return db.execute(
        "select key_type, key_id, xmin::text, ctid::text from whatsapp_keys where company_id = %s"
        " union all select 'creds', '', xmin::text, ctid::text from whatsapp_auth"
        " where company_id = %s order by 1, 2",
        [company_id, company_id],
    ).fetchall()


# From an empty database to an exported folder


@pytest.mark.parametrize("name", ["v7-small", "v7-337", "v6-small"])
def test_a_folder_goes_into_the_database_and_comes_back_the_same(
    name: str, run: Command, sample: Sample, company_id: str, tmp_path: Path
) -> None:
    folder = sample(name)
    files = len(list(folder.iterdir()))
    imported = run("import", folder, "--company", company_id)
    assert (imported.code, imported.err) == (0, "")
    assert f"{files} values added" in imported.out
    assert run("verify", folder, "--company", company_id).code == 0
    exported = run("export", "out", "--company", company_id)
    assert (exported.code, exported.err) == (0, "")
    compared = run_node("compare-folders.mjs", folder, tmp_path / "out")
    assert compared == {"files": files, "differences": []}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_an_empty_project_is_told_what_it_lacks_and_how_to_get_it(
    fresh_stack: Callable[..., LocalStack], sample: Sample, tmp_path: Path
) -> None:
    project = fresh_stack()
    run = command_for(project, tmp_path)
    folder = sample("v7-small")
    refused = run("import", folder, "--company", "962302")
    assert refused.code == 4
    assert "supabase db push" in refused.err

    copied = run("migrations", "copy")
    assert copied.code == 0
    assert len(copied.out.splitlines()) == len(run("migrations").out.splitlines()) >= 3
    project.migrate(tmp_path)
    assert run("import", folder, "--company", "962302").code == 0
    assert run("export", "out", "--company", "962302").code == 0


def test_the_key_may_be_of_the_new_kind_and_may_stand_in_an_env_file(
    stack: Stack, sample: Sample, company_id: str, tmp_path: Path
) -> None:
    settings = f"SUPABASE_URL={stack.url}\nSUPABASE_SECRET_KEY={stack.secret_key}\n"
    (tmp_path / ".env").write_text(settings)
    run = Command(tmp_path, {})
    assert run("import", sample("v7-small"), "--company", company_id).code == 0


def test_a_second_run_changes_nothing(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    folder = sample("v7-337")
    first = run("import", folder, "--company", company_id, "--json")
    before = versions(db, company_id)
    second = run("import", folder, "--company", company_id, "--json")
    assert versions(db, company_id) == before
    assert second.json == {**first.json, "added": 0, "unchanged": 336}


def test_the_folder_is_backed_up_before_anything_else_and_is_not_changed(
    run: Command, sample: Sample, company_id: str, tmp_path: Path
) -> None:
    folder = sample("v7-small")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    imported = run("import", folder, "--company", company_id, "--backup-dir", "safe", "--json")
    backup = Path(imported.json["backup"])
    assert backup.parent == tmp_path / "safe"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert after == before
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xzf", backup, "-C", unpacked], check=True)
    assert run_node("compare-folders.mjs", folder, unpacked / "auth")["differences"] == []


def test_a_terminal_shows_how_far_the_import_has_come(
    run: Command, sample: Sample, company_id: str
) -> None:
    with run.at_terminal("import", sample("v7-337"), "--company", company_id) as terminal:
        assert terminal.end() == 0
    assert f"{company_id}: reading" in terminal.seen
    assert re.search(rf"{company_id}: writing .*336/336", terminal.seen)
    # The line is gone, and the cursor is back.
    assert not any("writing" in line for line in Screen(terminal.seen, columns=80).text)
    assert terminal.seen.count("\x1b[?25h") == terminal.seen.count("\x1b[?25l") == 1


# What stops an import


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("session-15550101000.0.json", b""),
        ("session-15550101000.0.json", b'{"_sessions":{"BQ'),
        ("of-tomorrow-1.json", b"{}"),
    ],
    ids=["empty", "torn", "unknown"],
)
def test_a_file_that_is_not_understood_stops_the_import_with_its_name(
    name: str,
    content: bytes,
    run: Command,
    sample: Sample,
    company_id: str,
    db: psycopg.Connection[Any],
) -> None:
    folder = sample("v7-small")
    (folder / name).write_bytes(content)
    os.utime(folder / name, (time.time() - 60,) * 2)
    refused = run("import", folder, "--company", company_id, "--json")
    assert refused.code == 1
    assert f"  {name}: " in refused.err
    assert [problem["file"] for problem in refused.json["problems"]] == [name]
    assert refused.json["error"] == "FolderError"
    assert count(db, company_id) == 0

    skipped = run("import", folder, "--company", company_id, "--skip-broken", "--json")
    assert skipped.code == 0
    assert [problem["file"] for problem in skipped.json["skipped"]] == [name]
    assert skipped.json["added"] == 28
    assert (
        f"skipped: {name}"
        in run("import", folder, "--company", company_id, "--skip-broken", "--dry-run").out
    )


@contextlib.contextmanager
def writer(path: Path) -> Iterator[None]:
    """A process that writes a file again and again."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEP_WRITING, path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_a_folder_that_a_process_is_writing_to_is_refused(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    folder = sample("v7-small")
    with writer(folder / "device-list-15550100001.json"):
        refused = run("import", folder, "--company", company_id)
    assert refused.code == 1
    assert "is in use: device-list-15550100001.json changed" in refused.err
    assert count(db, company_id) == 0
    # Killed, it may have left the file torn.
    (folder / "device-list-15550100001.json").write_text('["0"]')
    assert run("import", folder, "--company", company_id).code == 0


def test_newer_state_in_the_database_is_not_overwritten_without_force(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    folder = sample("v7-small")
    run("import", folder, "--company", company_id)
    db.execute(
        'update whatsapp_keys set value = \'["0","5"]\' where company_id = %s'
        " and key_type = 'device-list' and key_id = '15550100001'",
        [company_id],
    )
    before = versions(db, company_id)
    refused = run("import", folder, "--company", company_id, "--json")
    assert refused.code == 1
    assert refused.json["error"] == "NewerState"
    assert refused.json["newer"] == ["device-list 15550100001"]
    assert versions(db, company_id) == before
    assert run("verify", folder, "--company", company_id).code == 3

    forced = run("import", folder, "--company", company_id, "--force", "--json")
    assert (forced.code, forced.json["replaced"]) == (0, 1)
    assert Path(forced.json["database_backup"]).exists()
    assert run("verify", folder, "--company", company_id).code == 0


def test_an_owned_company_is_left_alone(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    db.execute("select acquire_whatsapp_lease(%s, 'a bot on host 7', 60)", [company_id])
    folder = sample("v7-small")
    refused = run("import", folder, "--company", company_id, "--json")
    assert refused.code == 5
    assert "a bot on host 7" in refused.err
    assert refused.json["owner"] == "a bot on host 7"
    assert count(db, company_id) == 0
    assert run("export", "out", "--company", company_id).code == 5


# Broken off


@contextlib.contextmanager
def row_in_the_way(
    stack: Stack, company_id: str, key_type: str, key_id: str
) -> Iterator[psycopg.Connection[Any]]:
    """A row that is being inserted all the while: whoever inserts it too has to wait."""
    with psycopg.connect(stack.db_url) as blocker:
        # Maintenance passes the lease: this is no client, only something that takes its time.
        blocker.execute("set local whatsapp_auth.maintenance = 'on'")
        blocker.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value)"
            " values (%s, %s, %s, '{}')",
            [company_id, key_type, key_id],
        )
        yield blocker
        blocker.rollback()


def waits_for(db: psycopg.Connection[Any], blocker: psycopg.Connection[Any]) -> bool:
    """Whether anybody waits for what this connection holds."""
    row = db.execute(
        "select exists (select from pg_stat_activity where %s = any(pg_blocking_pids(pid)))",
        [blocker.info.backend_pid],
    ).fetchone()
    assert row is not None
    return bool(row[0])


def test_an_import_that_was_killed_is_finished_by_the_next(
    run: Command, stack: Stack, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    folder = sample("v7-337")
    # Two batches are through when it comes to the first of the sender-keys.
    with row_in_the_way(
        stack, company_id, "sender-key", "120363000000000010@g.us::200000000000100_1::0"
    ) as blocker:
        process = run.start("import", folder, "--company", company_id)
        until(lambda: waits_for(db, blocker))
        process.kill()
        process.communicate()
    stored = until(lambda: count(db, company_id))
    assert 100 <= stored < 335
    assert count(db, company_id, "whatsapp_auth") == 0

    held = run("import", folder, "--company", company_id)
    assert (held.code, "owned by import " in held.err) == (5, True)
    db.execute("update whatsapp_leases set expires_at = now() where company_id = %s", [company_id])
    finished = run("import", folder, "--company", company_id, "--json")
    assert finished.code == 0
    assert finished.json["added"] + finished.json["unchanged"] == 336
    assert finished.json["unchanged"] >= 100
    assert run("verify", folder, "--company", company_id).code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_import_that_is_interrupted_gives_the_company_back(
    number: signal.Signals,
    code: int,
    run: Command,
    stack: Stack,
    sample: Sample,
    company_id: str,
    db: psycopg.Connection[Any],
) -> None:
    folder = sample("v7-small")
    with row_in_the_way(stack, company_id, "device-list", "15550100001") as blocker:
        process = run.start("import", folder, "--company", company_id)
        until(lambda: waits_for(db, blocker))
        process.send_signal(number)
        # The lease is given back once the database has answered, or that is asked for and the
        # command does not wait for it.
        blocker.rollback()
        out, _ = process.communicate(timeout=BEFORE_DEADLINE)
    assert (process.returncode, out) == (code, "")
    released = "select expires_at = '-infinity' from whatsapp_leases where company_id = %s"
    until(lambda: db.execute(released, [company_id]).fetchone() == (True,))
    again = run("import", folder, "--company", company_id)
    assert again.code == 0, again.err


# Back to files


def test_a_folder_that_is_not_empty_is_moved_aside_only_by_force(
    run: Command, sample: Sample, company_id: str
) -> None:
    folder = sample("v7-small")
    run("import", folder, "--company", company_id)
    (folder / "device-list-15550100001.json").unlink()
    refused = run("export", folder, "--company", company_id)
    assert refused.code == 1
    assert "--force" in refused.err
    forced = run("export", folder, "--company", company_id, "--force", "--json")
    aside = Path(forced.json["moved_aside"])
    assert len(list(aside.iterdir())) == 27
    assert run("verify", folder, "--company", company_id).code == 0


def test_a_company_in_use_is_exported_with_a_warning(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    run("import", sample("v7-small"), "--company", company_id)
    db.execute("select acquire_whatsapp_lease(%s, 'a bot', 60)", [company_id])
    exported = run("export", "out", "--company", company_id, "--without-lease")
    assert exported.code == 0
    assert exported.err.startswith("warning: ")


def test_differences_have_an_exit_code_of_their_own(
    run: Command, sample: Sample, company_id: str
) -> None:
    folder = sample("v7-small")
    run("import", folder, "--company", company_id)
    same = run("verify", folder, "--company", company_id, "--json")
    assert (same.code, same.json["ok"], same.json["same"]) == (0, True, 28)
    (folder / "device-list-15550100001.json").unlink()
    differ = run("verify", folder, "--company", company_id, "--json")
    assert (differ.code, differ.json["ok"]) == (3, False)
    assert differ.json["only_in_database"] == ["device-list 15550100001"]
    assert (
        "only in the database: device-list 15550100001"
        in run("verify", folder, "--company", company_id).out
    )


def test_a_folder_is_purged_when_its_time_has_come(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    folder = sample("v7-small")
    run("import", folder, "--company", company_id)
    young = run("purge-files", folder, "--company", company_id, "--yes", "--json")
    assert (young.code, len(young.json["obstacles"])) == (1, 1)
    db.execute(
        "update whatsapp_auth set created_at = now() - interval '8 days' where company_id = %s",
        [company_id],
    )
    asked = run("purge-files", folder, "--company", company_id)
    assert asked.code == 0
    assert "28 files" in asked.out
    assert "--yes" in asked.err
    assert len(list(folder.iterdir())) == 28
    done = run("purge-files", folder, "--company", company_id, "--yes", "--json")
    assert (done.code, done.json["removed"]) == (0, True)
    assert not folder.exists()
    assert Path(done.json["backup"]).exists()


def test_a_company_is_deleted_and_restored(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    folder = sample("v7-small")
    run("import", folder, "--company", company_id)
    refused = run("delete", "--company", company_id)
    assert (refused.code, "--yes is needed" in refused.err) == (2, True)
    assert count(db, company_id) == 27
    deleted = run("delete", "--company", company_id, "--yes", "--backup-dir", "safe", "--json")
    assert (deleted.code, deleted.json["keys"], deleted.json["creds"]) == (0, 27, True)
    assert count(db, company_id) == count(db, company_id, "whatsapp_auth") == 0
    again = run("delete", "--company", company_id, "--yes")
    assert (again.code, "is not in the database" in again.err) == (1, True)

    backup = deleted.json["backup"]
    restored = run("restore", backup, "--company", company_id, "--json")
    assert (restored.code, restored.json["added"]) == (0, 28)
    assert run("verify", folder, "--company", company_id).code == 0
    nothing = run("restore", "nothing.tar.gz", "--company", company_id)
    assert (nothing.code, "cannot be read as a backup" in nothing.err) == (1, True)


@pytest.mark.parametrize(
    ("typed", "code", "left"),
    [("{id}\n", 0, 0), ("yes\n", 1, 27), ("\x04", 1, 27), (None, 130, 27)],
    ids=["its id", "something else", "nothing", "Ctrl-C"],
)
def test_a_deletion_asks_at_a_terminal(
    typed: str | None,
    code: int,
    left: int,
    run: Command,
    sample: Sample,
    company_id: str,
    db: psycopg.Connection[Any],
) -> None:
    run("import", sample("v7-small"), "--company", company_id)
    with run.at_terminal("delete", "--company", company_id) as terminal:
        terminal.until("type its id: ")
        if typed is None:
            terminal.process.send_signal(signal.SIGINT)
        else:
            terminal.type(typed.format(id=company_id))
        assert terminal.end() == code
    assert count(db, company_id) == left


def test_the_message_that_refuses_an_import_says_what_would_go_back(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    folder = sample("v7-small")
    run("import", folder, "--company", company_id)
    db.execute(
        "update whatsapp_auth set creds = jsonb_set(creds, '{nextPreKeyId}', '36')"
        " where company_id = %s",
        [company_id],
    )
    refused = run("import", folder, "--company", company_id, "--dry-run", "--json")
    assert refused.code == 1
    assert refused.json["going_back"] == [{"name": "creds", "change": "nextPreKeyId 36 to 6"}]
    assert "  creds: nextPreKeyId 36 to 6\n" in refused.err


def test_a_second_company_of_one_device_is_refused_and_the_doctor_finds_it(
    run: Command, sample: Sample, company_id: str
) -> None:
    folder = sample("v7-small")
    run("import", folder, "--company", company_id)
    other = f"{company_id}-back"
    refused = run("import", folder, "--company", other, "--json")
    assert (refused.code, refused.json["error"]) == (1, "DuplicateDevice")
    assert refused.json["companies"] == [company_id]
    assert run("import", folder, "--company", other, "--force").code == 0
    report = run("doctor", "--company", other)
    assert (report.code, "same-device" in report.out, company_id in report.out) == (3, True, True)


# Many, and what is there


def test_many_folders_are_imported_by_one_command(
    run: Command, sample: Sample, company_id: str, tmp_path: Path
) -> None:
    names = [f"{company_id}-{number}" for number in range(4)]
    for number, name in enumerate(names):
        another_device(sample("v7-small", f"numbers/{name}"), number)
    (tmp_path / "numbers" / names[2] / "creds.json").unlink()
    ended = run("import", "numbers", "--each", "--concurrency", "2", "--json")
    assert ended.code == 1
    found = {line["company_id"]: line["ok"] for line in ended.lines[:-1]}
    assert found == {name: name != names[2] for name in names}


def test_statistics_count_what_is_there(run: Command, sample: Sample, company_id: str) -> None:
    run("import", sample("v7-small"), "--company", company_id)
    stats = run("stats", "--json", "--companies", "100000").json
    mine = [row for row in stats["by_company"] if row["company_id"] == company_id]
    assert [row["rows"] for row in mine] == [27]
    assert stats["by_type"].keys() >= {"session", "pre-key", "lid-mapping"}
    shown = run("stats")
    assert shown.code == 0
    # Above the table are lines about sealed rows, if another test has stored some.
    assert ["type", "keys", "size", "expired"] in [line.split() for line in shown.out.splitlines()]


def test_the_dashboard_shows_companies_and_their_owners_and_no_secrets(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    run("import", sample("v7-small"), "--company", company_id)
    db.execute("select acquire_whatsapp_lease(%s, 'a bot', 600)", [company_id])
    found = run("top", "--json", "--companies", "100000").json
    (mine,) = (row for row in found["companies"] if row["company_id"] == company_id)
    assert (mine["rows"], mine["owner"]) == (27, "a bot")
    assert 0 < mine["lease_until"] - found["taken_at"] < 700
    shown = run("top", "--once", "--companies", "100000").out
    assert any("a bot" in line for line in shown.splitlines() if company_id in line)


def test_a_cleanup_deletes_what_has_expired_and_says_what_is_left(
    run: Command, company_id: str, db: psycopg.Connection[Any]
) -> None:
    db.execute(
        "insert into whatsapp_keys (company_id, key_type, key_id, value, expires_at)"
        " select %s, 'lid-mapping', n::text, to_jsonb(n::text || '0'), now() - interval '1 day'"
        " from generate_series(1, 20) n",
        [company_id],
    )
    ended = run("cleanup", "--json")
    assert ended.code == 0
    assert ended.json["deleted"] >= 20
    assert count(db, company_id) == 0
    assert ended.json["stats"]["expired"] == 0


def test_a_database_without_pg_cron_says_so(run: Command) -> None:
    ended = run("cleanup", "--schedule-in-database", "--json")
    assert (ended.code, ended.json["ok"], ended.json["scheduled"]) == (1, False, False)
    assert "pg_cron" in ended.json["reason"]
    assert run("cleanup", "--schedule-in-database").out.startswith("not scheduled")


def test_a_reader_that_goes_away_is_no_error(run: Command) -> None:
    process = run.start("migrations", "print")
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as out:
        assert out.read(10)
    with process.stderr as err:
        assert err.read() == ""
    assert process.wait(timeout=BEFORE_DEADLINE) in (0, 1)


def test_a_worker_cleans_up_until_it_is_told_to_stop(run: Command) -> None:
    process = run.start("cleanup", "--every", "6h")
    assert process.stderr is not None
    assert "cleaning up every 6h" in process.stderr.readline()
    process.terminate()
    process.communicate(timeout=BEFORE_DEADLINE)
    assert process.returncode == 0


def test_the_doctor_and_the_pre_key_report_look_at_a_company(
    run: Command, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    run("import", sample("v7-small"), "--company", company_id)
    assert run("doctor", "--company", company_id).code == 0
    report = run("pre-keys", "--company", company_id, "--json")
    assert (report.code, report.json["stored"]) == (0, count_of(db, company_id, "pre-key"))
    db.execute(
        "update whatsapp_keys set value = %s where company_id = %s and key_id = '__index'",
        [json.dumps({"token": {"type": "Buffer", "data": list(b"[]")}}), company_id],
    )
    damaged = run("doctor", "--company", company_id, "--json")
    assert (damaged.code, damaged.json["ok"]) == (3, False)
    fixed = run("doctor", "--company", company_id, "--fix", "--backup-dir", "safe", "--json")
    assert fixed.code == 0
    assert Path(fixed.json["backup"]).parent.name == "safe"


def count_of(db: psycopg.Connection[Any], company_id: str, key_type: str) -> int:
    row = db.execute(
        "select count(*) from whatsapp_keys where company_id = %s and key_type = %s",
        [company_id, key_type],
    ).fetchone()
    assert row is not None
    return int(row[0])


# Secrets


def test_nothing_secret_is_ever_printed(
    run: Command, stack: Stack, sample: Sample, company_id: str, db: psycopg.Connection[Any]
) -> None:
    folder = sample("v7-small")
    secrets = {stack.service_role_key}
    for path in folder.iterdir():
        secrets |= texts_in(json.loads(path.read_text()))
    assert len(secrets) > 40
    broken = folder / "pre-key-999.json"
    broken.write_text((folder / "creds.json").read_text()[:-5])
    os.utime(broken, (time.time() - 60,) * 2)
    said = ""
    for arguments in (
        ("import", folder, "--company", company_id),
        ("import", folder, "--company", company_id, "--skip-broken"),
        ("verify", folder, "--company", company_id),
        ("export", "out", "--company", company_id),
        ("doctor", "--company", company_id),
        ("pre-keys", "--company", company_id),
        ("stats",),
        ("top", "--once"),
    ):
        for options in (("-vv",), ("-vv", "--json")):
            ended = run(*arguments, *options)
            said += ended.out + ended.err
    db.execute(
        "update whatsapp_keys set value = value || '{\"public\": 7}' where company_id = %s"
        " and key_type = 'pre-key'",
        [company_id],
    )
    said += run("export", "out-again", "--company", company_id, "-vv").err
    assert "cannot" in said
    assert not [secret for secret in secrets if secret in said]


def texts_in(value: Any) -> set[str]:
    """Every text in a value that is long enough to be a secret."""
    if isinstance(value, dict):
        return set().union(*map(texts_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(texts_in, value))
    return {value} if isinstance(value, str) and len(value) >= 40 else set()


def test_the_samples_hold_what_the_tests_count_on() -> None:
    assert len(list((BAILEYS / "v7-337").iterdir())) == 336
