"""Moving companies between two projects: all of it, never open in both, and finished later."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import LocalStack, Stack
from supabase_auth_state import (
    CompanyMoved,
    CompanyNotFound,
    ConfigurationError,
    DuplicateDevice,
    LeaseHeld,
    NewerState,
    Rest,
    Settings,
    StoreUnavailable,
    VerificationFailed,
    WriteRefused,
    delete_company,
    import_folder,
    open_rest,
    read_history,
    transfer_company,
    use_supabase_auth_state,
)
from supabase_auth_state.cli.main import main
from supabase_auth_state.leases.lease import acquire_closed, acquire_lease
from supabase_auth_state.leases.writer import Writer
from supabase_auth_state.transfer.closable import ClosableCompany
from supabase_auth_state.transfer.company_writer import CompanyWriter
from supabase_auth_state.transfer.rekey import rekey_company
from tests.folders import sample_folder
from tests.sealing import K1, K2, OTHER_K1

Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def other(local_stack: LocalStack) -> Iterator[LocalStack]:
    """Another project."""
    with local_stack.fresh(migrate=True) as fresh:
        yield fresh


@pytest.fixture
async def there(other: LocalStack) -> AsyncIterator[Rest]:
    """PostgREST of the other project."""
    settings = Settings(url=other.url, key=other.service_role_key, timeout=10, give_up_after=20)
    opened = open_rest(settings)
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def empty_project(other: LocalStack) -> None:
    """Empty the other project: a sample is one linked device, which tests move under many names."""
    with psycopg.connect(other.db_url) as db:
        db.execute("set local whatsapp_auth.maintenance = 'on'")
        db.execute("delete from whatsapp_auth")
        db.execute("delete from whatsapp_keys")


@pytest.fixture
async def company(rest: Rest, company_id: str, tmp_path: Path) -> str:
    """A company in the first project, as an import leaves it."""
    await import_folder(sample_folder("v7-small", tmp_path), company_id, client=rest)
    return company_id


def rows(stack: Stack, company_id: str) -> Rows:
    with psycopg.connect(stack.db_url) as db:
        return db.execute(
            "select key_type, key_id, value::text, updated_at from whatsapp_keys"
            " where company_id = %s union all"
            " select 'creds', client_family, creds::text, updated_at"
            " from whatsapp_auth where company_id = %s order by 1, 2",
            [company_id, company_id],
        ).fetchall()


async def opened(rest: Rest, company_id: str) -> None:
    """Open and close a company as a client of WhatsApp does."""
    async with use_supabase_auth_state(company_id, client=rest, lease=True, create=False):
        pass


async def test_a_company_moves_with_every_value_and_its_time(
    rest: Rest, there: Rest, stack: Stack, other: LocalStack, company: str
) -> None:
    before = rows(stack, company)
    report = await transfer_company(company, to=there, client=rest)
    assert report.values == len(before) > 20
    assert rows(other, company) == before == rows(stack, company)
    await opened(there, company)


async def test_the_project_it_came_from_is_closed_and_says_where_it_went(
    rest: Rest, there: Rest, other: LocalStack, company: str
) -> None:
    late = Writer(rest, company)
    late.epoch = (await rest.ask("fetch_whatsapp_creds", company, {}))["epoch"]
    await transfer_company(company, to=there, client=rest)
    for lease in (True, False):
        with pytest.raises(CompanyMoved, match="lives in the project") as moved:
            await use_supabase_auth_state(company, client=rest, lease=lease)
        assert moved.value.project == other.url
    row = {"company_id": company, "key_type": "pre-key", "key_id": "1", "value": {}}
    for writer in (late, Writer(rest, company)):  # the second is like a client that knows no order
        with pytest.raises(WriteRefused, match="moved to"):
            await writer.upsert("whatsapp_keys", [row], on_conflict="company_id,key_type,key_id")


async def test_moving_again_changes_nothing(
    rest: Rest, there: Rest, other: LocalStack, company: str
) -> None:
    await transfer_company(company, to=there, client=rest)
    async with use_supabase_auth_state(company, client=there, lease=True) as auth:
        await auth.keys.set({"session": {"15550100009.0": {"_sessions": {}, "version": "v1"}}})
    after = rows(other, company)
    assert (await transfer_company(company, to=there, client=rest)).already_moved
    assert rows(other, company) == after
    await opened(there, company)


async def test_a_company_comes_back_with_what_it_has_become(
    rest: Rest, there: Rest, stack: Stack, other: LocalStack, company: str, tmp_path: Path
) -> None:
    await transfer_company(company, to=there, client=rest)
    async with use_supabase_auth_state(company, client=there, lease=True) as auth:
        await auth.keys.set({"pre-key": {"1": None, "2": None}})
        auth.creds["nextPreKeyId"] += 7
        await auth.save_creds()
    await transfer_company(company, to=rest, client=there, backup_dir=tmp_path)
    assert rows(stack, company) == rows(other, company)
    await opened(rest, company)
    with pytest.raises(CompanyMoved):
        await opened(there, company)


STEPS = {
    "the first value is not written": ("CompanyWriter.replace", "CompanyWriter.upsert_keys"),
    "creds are not written": ("CompanyWriter.upsert_creds",),
    "hashes are not read": ("ClosableCompany.hashes",),
    "it is not opened": ("ClosableCompany.open",),
}


async def break_off(
    company_id: str, step: str, rest: Rest, there: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transfer a company until a step, which fails."""

    async def fail(*_: object) -> None:
        raise StoreUnavailable("broken off")

    with monkeypatch.context() as broken:
        for name in STEPS[step]:
            kind, method = name.split(".")
            owner = {"CompanyWriter": CompanyWriter, "ClosableCompany": ClosableCompany}[kind]
            broken.setattr(owner, method, fail)
        with pytest.raises(StoreUnavailable, match="broken off"):
            await transfer_company(company_id, to=there, client=rest)


@pytest.mark.parametrize("step", STEPS)
async def test_what_is_broken_off_is_open_in_one_project_at_most_and_is_finished(
    rest: Rest,
    there: Rest,
    stack: Stack,
    other: LocalStack,
    company: str,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = rows(stack, company)

    await break_off(company, step, rest, there, monkeypatch)
    for lease in (True, False):
        with pytest.raises(CompanyMoved, match="on its way here"):
            await use_supabase_auth_state(company, client=there, lease=lease)
    if step != "it is not opened":
        await opened(rest, company)
    await transfer_company(company, to=there, client=rest)
    assert rows(other, company) == before
    await opened(there, company)
    with pytest.raises(CompanyMoved, match="lives in the project"):
        await opened(rest, company)


async def test_two_transfers_at_once_end_as_one(
    rest: Rest,
    there: Rest,
    other: LocalStack,
    company: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second finishes what the first has not, and the first opens nothing any more."""
    second: list[Any] = []
    copy = ClosableCompany.open

    async def open_late(side: Any) -> None:
        if not second:
            second.append(None)
            second[0] = await transfer_company(company, to=there, client=rest)
            async with use_supabase_auth_state(company, client=there, lease=True) as auth:
                await auth.keys.set({"pre-key": {"1": None}})
        await copy(side)

    monkeypatch.setattr(ClosableCompany, "open", open_late)
    async with use_supabase_auth_state("other-" + company, client=there, lease=True):
        await transfer_company(company, to=there, client=rest)
    assert second[0].values
    assert [row for row in rows(other, company) if row[:2] == ("pre-key", "1")] == []
    await opened(there, company)


async def test_a_mark_is_taken_over_only_while_it_closes(there: Rest, company_id: str) -> None:
    with pytest.raises(WriteRefused, match="is not closed as"):
        await acquire_closed(there, company_id, "arriving from http://a", ttl=5)
    with pytest.raises(ConfigurationError, match="may not begin with"):
        await acquire_lease(there, company_id, owner="moved to the moon")


async def test_a_write_without_a_lease_after_ours_ran_out_comes_along(
    rest: Rest,
    there: Rest,
    stack: Stack,
    other: LocalStack,
    company: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close = ClosableCompany.close

    async def close_late(side: Any, mark: str) -> None:
        if mark.startswith("moved to"):
            with psycopg.connect(stack.db_url) as db:
                db.execute("set local whatsapp_auth.maintenance = 'on'")
                db.execute(
                    "update whatsapp_leases set expires_at = now() where company_id = %s", [company]
                )
                db.execute(
                    "insert into whatsapp_keys (company_id, key_type, key_id, value) values "
                    "(%s, 'session', '1.0', '{\"late\": true}')",
                    [company],
                )
        await close(side, mark)

    monkeypatch.setattr(ClosableCompany, "close", close_late)
    await transfer_company(company, to=there, client=rest)
    assert rows(other, company) == rows(stack, company)
    assert '{"late": true}' in {row[2] for row in rows(other, company)}


async def test_a_value_that_does_not_arrive_as_it_is_opens_nothing(
    rest: Rest, there: Rest, stack: Stack, company: str, tmp_path: Path
) -> None:
    """JSON text of a number that no client writes, and that no double keeps."""
    with psycopg.connect(stack.db_url) as db:
        db.execute(
            "insert into whatsapp_keys (company_id, key_type, key_id, value) values "
            "(%s, 'session', '1.0', '{\"n\": 1.10}')",
            [company],
        )
    with pytest.raises(VerificationFailed, match=r"session 1\.0"):
        await transfer_company(company, to=there, client=rest)
    await opened(rest, company)
    with pytest.raises(CompanyMoved):
        await opened(there, company)
    await delete_company(company, client=there, backup_dir=tmp_path)
    with pytest.raises(CompanyNotFound):
        await opened(there, company)


async def test_what_has_moved_away_can_be_deleted_and_stays_closed(
    rest: Rest, there: Rest, stack: Stack, company: str, tmp_path: Path
) -> None:
    await transfer_company(company, to=there, client=rest)
    await delete_company(company, client=rest, backup_dir=tmp_path)
    assert rows(stack, company) == []
    with pytest.raises(CompanyMoved, match="lives in the project"):
        await opened(rest, company)


async def test_it_is_refused_where_it_is_owned_or_already_there(
    rest: Rest, there: Rest, other: LocalStack, company: str, company_id: str
) -> None:
    async with use_supabase_auth_state(company, client=rest, lease=True):
        with pytest.raises(LeaseHeld):
            await transfer_company(company, to=there, client=rest)
    async with use_supabase_auth_state(company, client=there, lease=True):
        with pytest.raises(LeaseHeld):
            await transfer_company(company, to=there, client=rest)
    before = rows(other, company)
    with pytest.raises(NewerState, match="another linked device"):
        await transfer_company(company, to=there, client=rest)
    assert rows(other, company) == before
    await opened(there, company)
    await opened(rest, company)
    with pytest.raises(CompanyNotFound):
        await transfer_company("none-" + company, to=there, client=rest)
    with pytest.raises(ConfigurationError, match="another project"):
        await transfer_company(company, to=rest, client=rest)


Cli = Callable[..., Any]


@pytest.fixture
def command(
    stack: Stack,
    other: LocalStack,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    """Run a command in a thread, for the project of the tests; the other one's key in MOVE_TO."""
    monkeypatch.chdir(tmp_path)
    for name, value in {**stack.env(), "MOVE_TO": other.service_role_key}.items():
        monkeypatch.setenv(name, value)

    def run(*args: str) -> tuple[int, list[Any], str]:
        code = main([*args, "--json"])
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return run


def test_the_command_moves_one_or_each(
    command: Cli, other: LocalStack, fresh_stack: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    first: LocalStack = fresh_stack(migrate=True)
    for name, value in first.env().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "auth").mkdir()
    for name in ("v7-small", "v6-small"):
        folder = sample_folder(name, tmp_path / "auth" / name)
        assert command("import", str(folder), "--company", name)[0] == 0
    to = ["--to-url", other.url, "--to-key-env", "MOVE_TO"]
    code, [missing], _ = command("transfer", "--company", "v7-small", *to[:3], "NOT_SET")
    assert (code, missing["error"]) == (2, "ConfigurationError")
    for wrong, value in (
        ("--to-url", "ftp://x"),
        ("--to-schema", "a-b"),
        ("--to-key-env", "SUPABASE_ANON_KEY"),
    ):
        wrongly = ["transfer", "--company", "v7-small", *to, wrong, value]
        code, [missing], _ = command(*wrongly)
        assert (code, missing["error"]) == (2, "ConfigurationError")
        assert "the project to move to (--to-url" in missing["message"]
    code, [moved], _ = command("transfer", "--company", "v7-small", *to)
    assert (code, moved["project"], moved["already_moved"]) == (0, other.url, False)
    code, lines, _ = command("transfer", "--each", *to)
    assert code == 0
    assert [line["already_moved"] for line in lines[:-1]].count(False) == 1
    assert lines[-1]["summary"]["done"] == 2
    again = [str(tmp_path / "auth" / "v7-small" / "auth"), "--company", "v7-small"]
    for option in ("--dry-run", "--force"):
        code, [refused], _ = command("import", *again, option)
        assert (code, refused["error"], refused["project"]) == (5, "CompanyMoved", other.url)
    code, [refused], _ = command("lease", "release", "--company", "v7-small", "--force")
    assert (code, refused["error"], refused["project"]) == (5, "CompanyMoved", other.url)
    for name in ("v7-small", "v6-small"):
        assert rows(other, name) == rows(first, name)


def test_the_command_finds_keys_of_both_projects_and_of_the_values_in_a_dotenv_file(
    command: Cli,
    stack: Stack,
    other: LocalStack,
    company_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = {
        **stack.env(),
        "SUPABASE_AUTH_STATE_KEYS": K1,
        "SUPABASE_TO_SERVICE_ROLE_KEY": other.service_role_key,
    }
    for name in [*env, "MOVE_TO"]:
        monkeypatch.delenv(name, raising=False)
    dotenv = tmp_path / ".env"
    dotenv.write_text("".join(f"{name}='{value}'\n" for name, value in env.items()))
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    folder = str(sample_folder("v7-small", tmp_path))
    assert command("import", folder, "--company", company_id)[0] == 0
    before = rows(stack, company_id)
    assert sealed_with(stack, company_id) == {"k1"}

    # Processes there begin with a new key.
    dotenv.write_text(dotenv.read_text().replace(K1, f"{K2},{K1}"))
    code, [moved], err = command("transfer", "--company", company_id, "--to-url", other.url)
    assert (code, moved["sealed"], err) == (0, {"k1": len(before)}, "")
    assert rows(other, company_id) == before
    assert not [value for value in env.values() if value in json.dumps(moved)]

    there = {"SUPABASE_URL": other.url, "SUPABASE_SERVICE_ROLE_KEY": other.service_role_key}
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    assert command("verify", folder, "--company", company_id)[1][0]["identical"]
    assert command("rekey", "--company", company_id)[0] == 0
    assert sealed_with(other, company_id) == {"k2"}


KEYS = {
    "no keys": None,
    "the key, and another that would seal": f"{K2},{K1}",
    "another key of the same name": OTHER_K1,
}


def sealed_with(stack: Stack, company_id: str) -> set[str | None]:
    """Return the ids of the keys that the rows are sealed with, None for plain ones."""
    values = [json.loads(value) for _, _, value, _ in rows(stack, company_id)]
    return {each.get("$sealed") if isinstance(each, dict) else None for each in values}


@pytest.fixture
async def sealed(rest: Rest, company: str, stack: Stack) -> str:
    """That company, sealed with k1."""
    await rekey_company(rest.with_encryption(K1), company)
    assert sealed_with(stack, company) == {"k1"}
    return company


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("there_too", [True, False])
async def test_sealed_values_arrive_as_they_are_whatever_keys_the_transfer_has(
    rest: Rest,
    there: Rest,
    stack: Stack,
    other: LocalStack,
    sealed: str,
    keys: str | None,
    there_too: bool,
) -> None:
    before = rows(stack, sealed)
    report = await transfer_company(
        sealed,
        to=there.with_encryption(keys if there_too else None),
        client=rest.with_encryption(keys),
    )
    assert rows(other, sealed) == before
    assert report.sealed == {"k1": len(before)}
    assert "are sealed with k1" in str(report)
    await opened(there.with_encryption(K1), sealed)


async def test_plain_values_arrive_plain_though_the_transfer_has_keys(
    rest: Rest, there: Rest, stack: Stack, other: LocalStack, company: str
) -> None:
    report = await transfer_company(
        company, to=there.with_encryption(K1), client=rest.with_encryption(K1)
    )
    assert rows(other, company) == rows(stack, company)
    assert report.sealed == {}


@pytest.mark.parametrize("step", ["creds are not written", "it is not opened"])
async def test_a_sealed_company_is_finished_without_keys_although_it_has_changed_meanwhile(
    rest: Rest,
    there: Rest,
    stack: Stack,
    other: LocalStack,
    sealed: str,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    await break_off(sealed, step, rest, there, monkeypatch)
    assert sealed_with(other, sealed) <= {"k1"}
    if step != "it is not opened":
        client = rest.with_encryption(f"{K2},{K1}")
        async with use_supabase_auth_state(sealed, client=client, lease=True) as auth:
            await auth.keys.set({"pre-key": {"1": None, "900": {"public": b"", "private": b""}}})
            auth.creds["nextPreKeyId"] += 1
            await auth.save_creds()
    resumed_by = rest.with_encryption(K1) if step == "it is not opened" else rest
    await transfer_company(sealed, to=there, client=resumed_by, backup_dir=tmp_path)
    assert rows(other, sealed) == rows(stack, sealed)
    await opened(there.with_encryption(f"{K2},{K1}"), sealed)


async def test_a_device_that_is_there_under_another_name_is_found_though_it_is_sealed(
    rest: Rest, there: Rest, sealed: str, tmp_path: Path
) -> None:
    folder = sample_folder("v7-small", tmp_path / "twin")
    await import_folder(folder, "twin-" + sealed, client=there.with_encryption(K1))
    with pytest.raises(DuplicateDevice):
        await transfer_company(sealed, to=there, client=rest.with_encryption(K1))


async def pauses(rest: Rest, company_id: str) -> dict[str, Any]:
    found = await rest.ask("whatsapp_pauses_of", company_id, {"p_companies": [company_id]})
    return dict(found["pauses"])


async def test_a_pause_comes_along_and_one_that_was_ended_does_not_come_back(
    rest: Rest, there: Rest, company: str, tmp_path: Path
) -> None:
    noted = {"p_code": 401, "p_reason": "logged out", "p_seconds": None, "p_noted_by": "worker-1"}
    await rest.ask("note_whatsapp_pause", company, noted)
    await transfer_company(company, to=there, client=rest)
    arrived = (await pauses(there, company))[company]
    assert (arrived["code"], arrived["seconds"], arrived["noted_by"]) == (401, None, "worker-1")
    await there.ask("reinstate_whatsapp_company", company, {})
    await transfer_company(company, to=rest, client=there, backup_dir=tmp_path)
    assert await pauses(rest, company) == {}


async def test_earlier_versions_stay_where_they_are_and_the_report_says_how_many(
    rest: Rest, there: Rest, company: str
) -> None:
    async with use_supabase_auth_state(company, client=rest, lease=True) as auth:
        auth.creds["nextPreKeyId"] += 1
        await auth.save_creds()
    kept = len((await read_history(company, client=rest)).versions)
    report = await transfer_company(company, to=there, client=rest)
    assert report.kept_here == kept >= 1
    assert (await read_history(company, client=there)).versions == ()
    assert len((await read_history(company, client=rest)).versions) == kept
