"""``USE_DATABASE_AUTH_STATE``: the database or the files, without losing the newer of the two."""

from __future__ import annotations

import asyncio
import logging
import warnings
from pathlib import Path
from typing import Any

from supabase_auth_state.config import FLAG_VARIABLE, check_company_id, database_flag
from supabase_auth_state.errors import (
    ConfigurationError,
    FolderError,
    SupabaseAuthStateError,
)
from supabase_auth_state.files.multi_file import FolderAuthState, use_multi_file_auth_state
from supabase_auth_state.files.names import CREDS_FILE
from supabase_auth_state.files.reading import kind_of
from supabase_auth_state.rest.client import Rest, open_rest, using_rest
from supabase_auth_state.rest.opening import Opening

from .database import AuthState, use_supabase_auth_state

log = logging.getLogger("supabase_auth_state")

_SLACK = 1.0


def use_auth_state(
    company_id: str, *, folder: str | Path, **options: Any
) -> Opening[AuthState | FolderAuthState]:
    """Open a company where ``USE_DATABASE_AUTH_STATE`` says: in Supabase, or in ``folder``.

    The variable is read at every call. Turning it back to files while the database holds newer
    state warns and names ``supabase-auth-state export``; turning it on for a linked device that is
    only in the folder is refused and names ``import``, because the database would start a new
    device.

    Args:
        company_id: the account.
        folder: its folder, as Baileys' ``useMultiFileAuthState`` keeps it.
        options: what `use_supabase_auth_state` takes.

    Raises:
        ConfigurationError: the variable is neither yes nor no, or the linked device is only in the
            folder.
        SupabaseAuthStateError: as `use_supabase_auth_state` and `use_multi_file_auth_state`.
    """
    check_company_id(company_id)
    path = Path(folder)

    async def open_it() -> AuthState | FolderAuthState:
        if database_flag():
            return await _open_database(company_id, path, options)
        await _warn_if_database_is_newer(company_id, path, options)
        return await use_multi_file_auth_state(path, company_id=company_id)

    return Opening(open_it)


async def _open_database(company_id: str, folder: Path, options: dict[str, Any]) -> AuthState:
    async with using_rest(options.get("settings"), client=options.get("client")) as rest:
        stored = await newest_change(rest, company_id)
    files = await asyncio.to_thread(newest_file, folder)
    command = f"supabase-auth-state import {folder} --company {company_id}"
    if stored is None and files is not None:
        raise ConfigurationError(
            f"company {company_id!r} is not in the database, but {folder} holds its creds: "
            f"opening it here would start a new device. Run `{command}` first, or move the folder "
            f"away to pair anew"
        )
    if stored is not None and files is not None and files > stored + _SLACK:
        _warn(
            f"company {company_id!r}: {folder} was changed after the database; if the files were "
            f"in use since, import them first: `{command} --force`"
        )
    return await use_supabase_auth_state(company_id, **options)


async def _warn_if_database_is_newer(
    company_id: str, folder: Path, options: dict[str, Any]
) -> None:
    try:
        rest = open_rest(options.get("settings"), client=options.get("client"))
    except ConfigurationError:
        return
    try:
        stored = await newest_change(rest, company_id)
    except SupabaseAuthStateError as error:
        _warn(
            f"company {company_id!r}: it is not known whether the database holds newer state "
            f"({error})"
        )
        return
    finally:
        if options.get("client") is None:
            await rest.close()
    files = await asyncio.to_thread(newest_file, folder)
    if stored is not None and (files is None or stored > files + _SLACK):
        _warn(
            f"company {company_id!r}: the database holds newer state than {folder}; opening the "
            "old files breaks its sessions. Run `supabase-auth-state export "
            f"{folder} --company {company_id} --force` first, or set {FLAG_VARIABLE}=true"
        )


async def newest_change(rest: Rest, company_id: str) -> float | None:
    """Return when a company's rows last changed (Unix time), or None when it has no creds."""
    status = await rest.about("whatsapp_company_status", company_id)
    changed_at: float | None = status["changed_at"]
    return None if status["client_family"] is None else changed_at


def newest_file(folder: Path) -> float | None:
    """Return when a folder's files last changed (Unix time), or None when it has no creds.

    Raises:
        FolderError: it cannot be looked at.
    """
    creds = folder / CREDS_FILE
    if kind_of(creds) is None:
        return None
    try:
        return max(path.stat().st_mtime for path in [creds, *folder.glob("*.json")])
    except OSError as exc:
        raise FolderError(f"cannot look at {exc.filename}: {exc.strerror}") from exc


def _warn(message: str) -> None:
    log.warning("%s", message)
    warnings.warn(message, stacklevel=3)
