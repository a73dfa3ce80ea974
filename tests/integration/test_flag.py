from __future__ import annotations

import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import psycopg
import pytest

from supabase_auth_state import (
    AuthState,
    ConfigurationError,
    FolderAuthState,
    Rest,
    Settings,
    use_auth_state,
)
from supabase_auth_state.config import FLAG_VARIABLE
from supabase_auth_state.transfer.export_folder import export_folder
from supabase_auth_state.transfer.import_folder import import_folder
from tests.values import BAILEYS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A linked device in a folder, last used an hour ago."""
    copy = Path(shutil.copytree(BAILEYS / "v7-small", tmp_path / "auth"))
    age(copy, 3600)
    return copy


def age(folder: Path, seconds: float) -> None:
    changed = time.time() - seconds
    for path in folder.iterdir():
        os.utime(path, (changed, changed))


@pytest.fixture
def flag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Set it by `flag.setenv(FLAG_VARIABLE, …)`; no `.env` is in sight."""
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.mark.parametrize("value", ["true", "TRUE", "1", "yes", "on", " True "])
async def test_yes_opens_the_database(
    value: str, folder: Path, rest: Rest, company_id: str, flag: pytest.MonkeyPatch
) -> None:
    await import_folder(folder, company_id, client=rest)
    flag.setenv(FLAG_VARIABLE, value)
    async with use_auth_state(company_id, folder=folder, client=rest) as auth:
        assert isinstance(auth, AuthState)
        assert await auth.keys.get("device-list", ["15550100001"])


@pytest.mark.parametrize("value", ["false", "0", "no", "off", "", None])
async def test_no_and_nothing_open_the_files(
    value: str | None, folder: Path, rest: Rest, company_id: str, flag: pytest.MonkeyPatch
) -> None:
    if value is not None:
        flag.setenv(FLAG_VARIABLE, value)
    async with use_auth_state(company_id, folder=folder, client=rest) as auth:
        assert isinstance(auth, FolderAuthState)
        assert await auth.keys.get("device-list", ["15550100001"])


@pytest.mark.parametrize("value", ["maybe", "2", "tru e", "database"])
async def test_nonsense_is_refused(
    value: str, folder: Path, rest: Rest, company_id: str, flag: pytest.MonkeyPatch
) -> None:
    flag.setenv(FLAG_VARIABLE, value)
    with pytest.raises(ConfigurationError, match=FLAG_VARIABLE):
        await use_auth_state(company_id, folder=folder, client=rest)


async def test_the_flag_decides_at_every_call(
    folder: Path, rest: Rest, company_id: str, flag: pytest.MonkeyPatch
) -> None:
    await import_folder(folder, company_id, client=rest)
    kinds = []
    for value in ("true", "false", "true"):
        flag.setenv(FLAG_VARIABLE, value)
        async with use_auth_state(company_id, folder=folder, client=rest) as auth:
            kinds.append(type(auth))
    assert kinds == [AuthState, FolderAuthState, AuthState]


async def test_the_flag_may_stand_in_an_env_file(
    folder: Path, tmp_path: Path, settings: Settings, company_id: str, flag: pytest.MonkeyPatch
) -> None:
    env = [
        f"{FLAG_VARIABLE}=true",
        f"SUPABASE_URL={settings.url}",
        f"SUPABASE_SERVICE_ROLE_KEY={settings.key}",
    ]
    (tmp_path / ".env").write_text("\n".join(env))
    await import_folder(folder, company_id)
    async with use_auth_state(company_id, folder=folder) as auth:
        assert isinstance(auth, AuthState)


async def test_a_device_that_is_only_in_the_folder_is_not_replaced_by_a_new_one(
    folder: Path, rest: Rest, company_id: str, flag: pytest.MonkeyPatch, db: psycopg.Connection[Any]
) -> None:
    flag.setenv(FLAG_VARIABLE, "true")
    with pytest.raises(ConfigurationError, match="supabase-auth-state import"):
        await use_auth_state(company_id, folder=folder, client=rest)
    found = db.execute("select from whatsapp_auth where company_id = %s", [company_id])
    assert found.fetchall() == []


async def test_a_new_company_starts_in_the_database(
    tmp_path: Path, rest: Rest, company_id: str, flag: pytest.MonkeyPatch
) -> None:
    flag.setenv(FLAG_VARIABLE, "true")
    async with use_auth_state(company_id, folder=tmp_path / "none", client=rest) as auth:
        assert isinstance(auth, AuthState)
    assert not (tmp_path / "none").exists()


async def test_files_older_than_the_database_warn_and_name_export(
    folder: Path, rest: Rest, company_id: str, flag: pytest.MonkeyPatch
) -> None:
    await import_folder(folder, company_id, client=rest)
    flag.setenv(FLAG_VARIABLE, "true")
    async with use_auth_state(company_id, folder=folder, client=rest) as auth:
        await auth.keys.set({"device-list": {"15550100001": ["0", "9"]}})
    flag.setenv(FLAG_VARIABLE, "false")
    with pytest.warns(UserWarning, match="supabase-auth-state export"):
        await use_auth_state(company_id, folder=folder, client=rest)

    await export_folder(folder, company_id, client=rest, force=True, quiet_for=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auth_again = await use_auth_state(company_id, folder=folder, client=rest)
    found = await auth_again.keys.get("device-list", ["15550100001"])
    assert found == {"15550100001": ["0", "9"]}


async def test_files_younger_than_the_database_warn_and_name_import(
    folder: Path, rest: Rest, company_id: str, flag: pytest.MonkeyPatch
) -> None:
    await import_folder(folder, company_id, client=rest)
    files = await use_auth_state(company_id, folder=folder, client=rest)
    await files.keys.set({"device-list": {"15550100001": ["0", "9"]}})
    flag.setenv(FLAG_VARIABLE, "true")
    with pytest.warns(UserWarning, match="supabase-auth-state import"):
        stale = await use_auth_state(company_id, folder=folder, client=rest)
    await stale.close()

    await import_folder(folder, company_id, client=rest, quiet_for=0, force=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh = await use_auth_state(company_id, folder=folder, client=rest)
    found = await fresh.keys.get("device-list", ["15550100001"])
    assert found == {"15550100001": ["0", "9"]}
    await fresh.close()


async def test_files_open_without_a_database_at_all(
    folder: Path, company_id: str, flag: pytest.MonkeyPatch
) -> None:
    async with use_auth_state(company_id, folder=folder) as auth:
        assert isinstance(auth, FolderAuthState)


async def test_files_open_with_a_warning_when_the_database_does_not_answer(
    folder: Path, company_id: str, flag: pytest.MonkeyPatch, settings: Settings
) -> None:
    nowhere = Settings(url="http://127.0.0.1:9", key=settings.key, give_up_after=0.1)
    with pytest.warns(UserWarning, match="it is not known whether the database holds newer state"):
        auth = await use_auth_state(company_id, folder=folder, settings=nowhere)
    assert isinstance(auth, FolderAuthState)
