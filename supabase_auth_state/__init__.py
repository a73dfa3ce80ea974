"""Baileys auth state in Supabase: creds and Signal keys, one owner per company.

from . import use_supabase_auth_state

async with use_supabase_auth_state("962302", lease=True) as auth:
    auth.creds["registrationId"]
    await auth.keys.get("session", ["15550100001.0"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auth_state.database import AuthState as AuthState
    from .auth_state.database import use_supabase_auth_state as use_supabase_auth_state
    from .auth_state.feature_flag import use_auth_state as use_auth_state
    from .codec.creds import init_auth_creds as init_auth_creds
    from .config import Settings as Settings
    from .doctor.doctor import diagnose as diagnose
    from .doctor.doctor import repair as repair
    from .doctor.findings import DoctorReport as DoctorReport
    from .doctor.findings import Finding as Finding
    from .errors import AccessDenied as AccessDenied
    from .errors import CodecError as CodecError
    from .errors import CompanyMoved as CompanyMoved
    from .errors import CompanyNotFound as CompanyNotFound
    from .errors import CompanyQuarantined as CompanyQuarantined
    from .errors import ConfigurationError as ConfigurationError
    from .errors import DuplicateDevice as DuplicateDevice
    from .errors import FamilyMismatch as FamilyMismatch
    from .errors import FolderError as FolderError
    from .errors import InvalidRequest as InvalidRequest
    from .errors import JournalError as JournalError
    from .errors import LeaseError as LeaseError
    from .errors import LeaseHeld as LeaseHeld
    from .errors import LeaseLost as LeaseLost
    from .errors import NewerState as NewerState
    from .errors import PoolClosed as PoolClosed
    from .errors import PoolError as PoolError
    from .errors import ProjectRestricted as ProjectRestricted
    from .errors import SchemaMissing as SchemaMissing
    from .errors import SealedValueError as SealedValueError
    from .errors import SessionBackoff as SessionBackoff
    from .errors import StateRolledBack as StateRolledBack
    from .errors import StoreError as StoreError
    from .errors import StoreUnavailable as StoreUnavailable
    from .errors import SupabaseAuthStateError as SupabaseAuthStateError
    from .errors import UnfinishedImport as UnfinishedImport
    from .errors import UnreadKeyError as UnreadKeyError
    from .errors import VerificationFailed as VerificationFailed
    from .errors import VersionNotRestorable as VersionNotRestorable
    from .errors import WriteRefused as WriteRefused
    from .files.multi_file import FolderAuthState as FolderAuthState
    from .files.multi_file import use_multi_file_auth_state as use_multi_file_auth_state
    from .leases.lease import Lease as Lease
    from .operations.cleanup import start_automatic_cleanup as start_automatic_cleanup
    from .pool.ends import CompanyState as CompanyState
    from .pool.ends import ConnectionEnd as ConnectionEnd
    from .pool.session_pool import SessionPool as SessionPool
    from .rest.client import Rest as Rest
    from .rest.client import open_rest as open_rest
    from .store.journal import Journal as Journal
    from .store.key_store import SupabaseKeyStore as SupabaseKeyStore
    from .transfer.between_projects import TransferReport as TransferReport
    from .transfer.between_projects import transfer_company as transfer_company
    from .transfer.delete import DeleteReport as DeleteReport
    from .transfer.delete import EraseReport as EraseReport
    from .transfer.delete import delete_company as delete_company
    from .transfer.delete import erase_company as erase_company
    from .transfer.export_folder import ExportReport as ExportReport
    from .transfer.export_folder import export_folder as export_folder
    from .transfer.history import History as History
    from .transfer.history import Version as Version
    from .transfer.history import read_history as read_history
    from .transfer.history import restore_version as restore_version
    from .transfer.import_each import ImportEachReport as ImportEachReport
    from .transfer.import_each import ImportOutcome as ImportOutcome
    from .transfer.import_each import import_each as import_each
    from .transfer.import_folder import ImportReport as ImportReport
    from .transfer.import_folder import import_folder as import_folder
    from .transfer.purge import PurgeReport as PurgeReport
    from .transfer.purge import purge_files as purge_files
    from .transfer.restore import RestoreReport as RestoreReport
    from .transfer.restore import restore_backup as restore_backup
    from .transfer.verify import VerifyReport as VerifyReport
    from .transfer.verify import verify_folder as verify_folder
    from .types import SignalKeyStore as SignalKeyStore

__version__ = "0.3.0"

_ERRORS = (
    "AccessDenied", "CodecError", "CompanyMoved", "CompanyNotFound", "CompanyQuarantined",
    "ConfigurationError", "DuplicateDevice", "FamilyMismatch", "FolderError", "InvalidRequest",
    "JournalError", "LeaseError", "LeaseHeld", "LeaseLost", "NewerState", "PoolClosed", "PoolError",
    "ProjectRestricted", "SchemaMissing", "SealedValueError", "SessionBackoff", "StateRolledBack",
    "StoreError", "StoreUnavailable", "SupabaseAuthStateError", "UnfinishedImport",
    "UnreadKeyError", "VerificationFailed", "VersionNotRestorable", "WriteRefused",
)  # fmt: skip

# Loaded when first asked for: the HTTP client alone takes longer to import than `--help` may take.
_HOMES = {
    **dict.fromkeys(_ERRORS, "errors"),
    "AuthState": "auth_state.database",
    "CompanyState": "pool.ends",
    "ConnectionEnd": "pool.ends",
    "DeleteReport": "transfer.delete",
    "DoctorReport": "doctor.findings",
    "EraseReport": "transfer.delete",
    "ExportReport": "transfer.export_folder",
    "Finding": "doctor.findings",
    "FolderAuthState": "files.multi_file",
    "History": "transfer.history",
    "ImportEachReport": "transfer.import_each",
    "ImportOutcome": "transfer.import_each",
    "ImportReport": "transfer.import_folder",
    "Journal": "store.journal",
    "Lease": "leases.lease",
    "PurgeReport": "transfer.purge",
    "Rest": "rest.client",
    "RestoreReport": "transfer.restore",
    "SessionPool": "pool.session_pool",
    "Settings": "config",
    "SignalKeyStore": "types",
    "SupabaseKeyStore": "store.key_store",
    "TransferReport": "transfer.between_projects",
    "VerifyReport": "transfer.verify",
    "Version": "transfer.history",
    "delete_company": "transfer.delete",
    "diagnose": "doctor.doctor",
    "erase_company": "transfer.delete",
    "export_folder": "transfer.export_folder",
    "import_each": "transfer.import_each",
    "import_folder": "transfer.import_folder",
    "init_auth_creds": "codec.creds",
    "open_rest": "rest.client",
    "purge_files": "transfer.purge",
    "read_history": "transfer.history",
    "repair": "doctor.doctor",
    "restore_backup": "transfer.restore",
    "restore_version": "transfer.history",
    "start_automatic_cleanup": "operations.cleanup",
    "transfer_company": "transfer.between_projects",
    "use_auth_state": "auth_state.feature_flag",
    "use_multi_file_auth_state": "files.multi_file",
    "use_supabase_auth_state": "auth_state.database",
    "verify_folder": "transfer.verify",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list, made of the one table above


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
