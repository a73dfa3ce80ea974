"""Planted secrets are looked for in all that is told: logs, errors, reprs, warnings, files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import logging
import stat
import tarfile
import tempfile
import traceback
import warnings
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from supabase import AsyncClientOptions, acreate_client

from devstack import Stack
from supabase_auth_state import (
    AuthState,
    Rest,
    SessionPool,
    Settings,
    SupabaseAuthStateError,
    delete_company,
    diagnose,
    export_folder,
    open_rest,
    read_history,
    restore_backup,
    restore_version,
    use_supabase_auth_state,
)
from supabase_auth_state.cli.top import read_dashboard
from supabase_auth_state.operations.cleanup import run_cleanup

from . import what_shows

PIECE = 10
"""So many characters in a row of a secret are a leak: asyncio shortens what it shows."""


class Overheard:
    """Every text that was told while it listened."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def tell(self, told: object) -> None:
        self.texts.append(told if isinstance(told, str) else repr(told))

    def error(self, error: BaseException | None) -> None:
        """Take down an error with its whole chain, as text and as objects."""
        while error is not None:
            self.tell("".join(traceback.format_exception(error)))
            self.tell(f"{error} {error!r} {error.args} {vars(error)}")
            # What follows either way; `raise … from None` only hides the context.
            self.error(error.__cause__)
            error = error.__context__

    def __contains__(self, secret: str) -> bool:
        return any(secret in text for text in self.texts)


class _Handler(logging.Handler):
    def __init__(self, overheard: Overheard) -> None:
        super().__init__(level=0)
        self._overheard = overheard

    def emit(self, record: logging.LogRecord) -> None:
        self._overheard.tell(record.getMessage())
        self._overheard.tell(vars(record))
        if record.exc_info:
            self._overheard.error(record.exc_info[1])


@pytest.fixture
def overheard(recwarn: pytest.WarningsRecorder) -> Iterator[Overheard]:
    """Listen to every logger at its lowest level."""
    heard = Overheard()
    handler = _Handler(heard)
    names = [None, *list(logging.root.manager.loggerDict)]
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(1)
    logging.root.addHandler(handler)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield heard
    logging.root.removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def forms(secret: bytes) -> set[str]:
    """Every form in which bytes are usually told."""
    encoded = base64.b64encode(secret).decode()
    return {encoded, base64.urlsafe_b64encode(secret).decode(), secret.hex(), repr(secret)[2:-1]}


def pieces(text: str) -> set[str]:
    """The pieces of a text that are not in all texts: its beginning, its middle and its end."""
    middle = len(text) // 2
    return {text[:PIECE], text[middle : middle + PIECE], text[-PIECE - 2 : -2]}


def planted(auth: AuthState, settings: Settings) -> set[str]:
    """The pieces of the secrets that a company has."""
    creds = auth.creds
    keys = [
        creds["noiseKey"]["private"],
        creds["signedIdentityKey"]["private"],
        creds["signedPreKey"]["keyPair"]["private"],
        SESSION_KEY,
        PRE_KEY,
        SEALING_KEY,
    ]
    found = {creds["advSecretKey"], *(form for key in keys for form in forms(key))}
    # The middle and the end of a legacy key; its beginning is that of all tokens.
    found.add(settings.key[len(settings.key) // 3 :])
    return {piece for text in found for piece in pieces(text)}


DEAD = "http://127.0.0.1:9"
SESSION_KEY = bytes(range(65, 97))
PRE_KEY = bytes(range(97, 123)) + b"ZYXWVU"
SEALING_KEY = bytes(range(33, 65))
KEYS = f"k1:{base64.b64encode(SEALING_KEY).decode()}"
SESSION = {"_sessions": {"a": {"currentRatchet": {"rootKey": SESSION_KEY}}}, "version": "v1"}


async def found_something(reading: Awaitable[Any]) -> None:
    # asyncio's debug mode shows what a task returns: here it is the test's own that reads.
    assert await reading


async def look_at_everything(
    rest: Rest, settings: Settings, company_id: str, folder: Path, heard: Overheard
) -> None:
    """Take down what is shown of a company, and what a client of the user's is told."""
    heard.tell(await what_shows.pages(rest, company_id, folder))
    heard.tell(await what_shows.metrics(rest))
    heard.tell(await what_shows.alerts(rest, folder))
    sealed = settings.encryption is not None
    for problem in await what_shows.commands(company_id, folder, json=sealed):
        heard.error(problem)
    # A client of the user's, which sends by httpx's own transport.
    for url, key in ((settings.url, f"{settings.key[:-4]}AAAA"), (DEAD, settings.key)):
        async with httpx.AsyncClient(timeout=1) as session:
            options = AsyncClientOptions(httpx_client=session)
            given = await acreate_client(url, key, options=options)
            impatient = Settings(url, key, timeout=1, give_up_after=0.2)
            opening = use_supabase_auth_state(company_id, client=given, settings=impatient)
            try:
                await opening
            except SupabaseAuthStateError as error:
                heard.error(error)
            else:
                pytest.fail("this was to fail")
            heard.tell([given.postgrest, opening])


async def use_everything(
    rest: Rest, settings: Settings, company_id: str, folder: Path, heard: Overheard
) -> AuthState:
    """Do what the library does with secrets, right and wrong, and take down what it tells."""

    async def wrong(call: Awaitable[Any]) -> None:
        try:
            await call
        except (SupabaseAuthStateError, TypeError) as error:
            heard.error(error)
        else:
            pytest.fail("this was to fail")

    async with use_supabase_auth_state(company_id, client=rest, lease=True) as auth:
        heard.tell([auth, auth.keys, auth.lease, rest, settings, auth.lease and auth.lease.writer])
        await auth.keys.set(
            {
                "session": {"15550100001.0": SESSION},
                "pre-key": {"7": {"public": b"\1" * 32, "private": PRE_KEY}},
            }
        )
        reads = (auth.keys.get("session", ["15550100001.0", str(number)]) for number in range(9))
        await asyncio.gather(*map(found_something, reads), auth.save_creds())
        # Refused by the client, by PostgREST, by a check of the table, by the guard.
        await wrong(auth.keys.set({"session": {"\0": SESSION}}))
        await wrong(auth.keys.set({"session": {"1.0": {"key": SESSION_KEY, "other": object()}}}))
        row = {"company_id": company_id, "creds": json.dumps({"k": SESSION_KEY.hex()})}
        bad_rows: list[dict[str, Any]] = [
            {**row, "client_family": ""},
            {**row, "client_family": None},
            {**row, "no_such_column": SESSION_KEY.hex()},
        ]
        for bad in bad_rows:
            assert auth.lease is not None
            await wrong(auth.lease.writer.upsert("whatsapp_auth", [bad], on_conflict="company_id"))
        await wrong(use_supabase_auth_state(company_id, client=rest, lease=True).__aenter__())
    await wrong(auth.keys.set({"session": {"1.0": SESSION}}))
    heard.tell(await read_history(company_id, client=rest))
    heard.tell(await diagnose(rest, company_id))
    heard.tell(await export_folder(folder / "auth", company_id, client=rest))
    deleted = await delete_company(company_id, client=rest, backup_dir=folder / "backups")
    heard.tell(deleted)
    heard.tell(await restore_version(company_id, client=rest))
    heard.tell(
        await restore_backup(deleted.backup, company_id, client=rest, dry_run=True, force=True)
    )
    heard.tell(str(await read_dashboard(rest, companies=10)))
    heard.tell(str(await run_cleanup(rest)))

    async def factory(company_id: str, auth: AuthState) -> Any:
        raise ConnectionError("refused")

    async with SessionPool(factory, client=rest) as pool:
        # An error of the factory reaches the caller as it is, with what its author put into it.
        with contextlib.suppress(ConnectionError):
            await pool.get(company_id)
        heard.tell([pool, pool.status(), pool.status_of(company_id)])
    for other in (
        Settings(settings.url, f"{settings.key[:-4]}AAAA", timeout=2, give_up_after=1),
        Settings(DEAD, settings.key, timeout=1, give_up_after=0.2),
    ):
        broken = open_rest(other)
        heard.tell([broken, other])
        await wrong(use_supabase_auth_state(company_id, client=broken).__aenter__())
        await broken.close()
    return auth


@pytest.mark.parametrize("encryption", [None, KEYS], ids=["plain", "sealed"])
async def test_no_planted_secret_is_told_anywhere(
    encryption: str | None,
    stack: Stack,
    settings: Settings,
    company_id: str,
    tmp_path: Path,
    overheard: Overheard,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0  # asyncio tells of every step that it takes
    settings = replace(settings, encryption=encryption)
    for name, value in {**stack.env(), "SUPABASE_AUTH_STATE_KEYS": encryption or ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    rest = open_rest(settings)
    try:
        auth = await use_everything(rest, settings, company_id, tmp_path, overheard)
        loop.set_debug(False)
        await look_at_everything(rest, settings, company_id, tmp_path, overheard)
    finally:
        await rest.close()
        loop.set_debug(False)
    gc.collect()  # tasks and connections that were left open complain now
    for warning in recwarn:
        overheard.tell(str(warning.message))
    overheard.texts.extend(capfd.readouterr())
    assert len(overheard.texts) > 200
    assert "Executing <" in overheard
    found = {
        secret: next(text for text in overheard.texts if secret in text)[:400]
        for secret in planted(auth, settings)
        if secret in overheard
    }
    assert found == {}
    check_files(tmp_path)


def check_files(folder: Path) -> None:
    """No temporary file is left, and what is kept is for its owner alone."""
    assert list((folder / "tmp").iterdir()) == []
    kept = [path for name in ("backups", "*.tar.gz", "auth") for path in folder.rglob(name)]
    assert len(kept) == 3
    for path in kept:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    [archive] = folder.rglob("*.tar.gz")
    with tarfile.open(archive) as members:
        assert {member.mode for member in members} == {0o600}


def test_what_is_told_would_be_found() -> None:
    heard = Overheard()
    error = SupabaseAuthStateError("said nothing")
    error.__context__ = ValueError(SESSION_KEY)
    error.__suppress_context__ = True
    heard.error(error)
    assert any(piece in heard for form in forms(SESSION_KEY) for piece in pieces(form))
