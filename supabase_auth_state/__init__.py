"""Baileys auth state in Supabase: creds and Signal keys, one owner per company.

from supabase_auth_state import use_supabase_auth_state

async with use_supabase_auth_state("962302", lease=True) as auth:
    auth.creds["registrationId"]
    await auth.keys.get("session", ["15550100001.0"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .care.doctor import diagnose as diagnose
    from .care.doctor import repair as repair
    from .config import Settings as Settings
    from .creds import init_auth_creds as init_auth_creds
    from .errors import AccessDenied as AccessDenied
    from .errors import CodecError as CodecError
    from .errors import CompanyQuarantined as CompanyQuarantined
    from .errors import ConfigurationError as ConfigurationError
    from .errors import FamilyMismatch as FamilyMismatch
    from .errors import FolderError as FolderError
    from .errors import InvalidRequest as InvalidRequest
    from .errors import LeaseError as LeaseError
    from .errors import LeaseHeld as LeaseHeld
    from .errors import LeaseLost as LeaseLost
    from .errors import NewerState as NewerState
    from .errors import PoolClosed as PoolClosed
    from .errors import PoolError as PoolError
    from .errors import ProjectRestricted as ProjectRestricted
    from .errors import SchemaMissing as SchemaMissing
    from .errors import SessionBackoff as SessionBackoff
    from .errors import StoreError as StoreError
    from .errors import StoreUnavailable as StoreUnavailable
    from .errors import SupabaseAuthStateError as SupabaseAuthStateError
    from .errors import UnreadKeyError as UnreadKeyError
    from .errors import VerificationFailed as VerificationFailed
    from .errors import WriteRefused as WriteRefused
    from .flag import use_auth_state as use_auth_state
    from .folders.folder import FolderAuthState as FolderAuthState
    from .folders.folder import use_multi_file_auth_state as use_multi_file_auth_state
    from .lease import Lease as Lease
    from .moving.exporting import export_folder as export_folder
    from .moving.importing import import_folder as import_folder
    from .moving.verifying import verify_folder as verify_folder
    from .pool import SessionPool as SessionPool
    from .rest import Rest as Rest
    from .rest import open_rest as open_rest
    from .state import AuthState as AuthState
    from .state import use_supabase_auth_state as use_supabase_auth_state
    from .store import SupabaseKeyStore as SupabaseKeyStore
    from .types import SignalKeyStore as SignalKeyStore
    from .worker import start_automatic_cleanup as start_automatic_cleanup

__version__ = "0.2.0"

_ERRORS = (
    "AccessDenied", "CodecError", "CompanyQuarantined", "ConfigurationError", "FamilyMismatch",
    "FolderError", "InvalidRequest", "LeaseError", "LeaseHeld", "LeaseLost", "NewerState",
    "PoolClosed", "PoolError", "ProjectRestricted", "SchemaMissing", "SessionBackoff", "StoreError",
    "StoreUnavailable", "SupabaseAuthStateError", "UnreadKeyError", "VerificationFailed",
    "WriteRefused",
)  # fmt: skip

# Loaded when first asked for: the HTTP client alone takes longer to import than `--help` may take.
_HOMES = {
    **dict.fromkeys(_ERRORS, "errors"),
    "AuthState": "state",
    "FolderAuthState": "folders.folder",
    "Lease": "lease",
    "Rest": "rest",
    "SessionPool": "pool",
    "Settings": "config",
    "SignalKeyStore": "types",
    "SupabaseKeyStore": "store",
    "diagnose": "care.doctor",
    "export_folder": "moving.exporting",
    "import_folder": "moving.importing",
    "init_auth_creds": "creds",
    "open_rest": "rest",
    "repair": "care.doctor",
    "start_automatic_cleanup": "worker",
    "use_auth_state": "flag",
    "use_multi_file_auth_state": "folders.folder",
    "use_supabase_auth_state": "state",
    "verify_folder": "moving.verifying",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list, made of the one table above


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
