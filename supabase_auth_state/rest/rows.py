"""The rows of the tables, as PostgREST answers them. Made by `make types`; do not edit.

A query that names columns answers these alone.
"""

from __future__ import annotations

from typing import Any, TypedDict


class WhatsappAlertMessagesRow(TypedDict):
    """A row of ``whatsapp_alert_messages``."""

    attempts: int
    created_at: str
    delivered_at: str | None
    due_at: str
    failure: str | None
    id: int
    message: Any
    receiver: str


class WhatsappAlertsRow(TypedDict):
    """A row of ``whatsapp_alerts``."""

    changed_at: str
    rule: str
    state: Any
    version: int


class WhatsappAuthRow(TypedDict):
    """A row of ``whatsapp_auth``."""

    client_family: str
    company_id: str
    created_at: str
    creds: Any
    updated_at: str


class WhatsappCleanupRunsRow(TypedDict):
    """A row of ``whatsapp_cleanup_runs``."""

    complete: bool
    deleted: int
    finished_at: str
    id: int
    owner: str
    seconds: float


class WhatsappCompanyStatisticsRow(TypedDict):
    """A row of ``whatsapp_company_statistics``."""

    by_type: Any
    bytes: int
    client_family: str | None
    company_id: str
    counted_at: str
    created_at: str | None
    creds_bytes: int
    expired: int
    has_creds: bool
    last_write: str
    pre_keys: int
    rows: int


class WhatsappCredsHistoryRow(TypedDict):
    """A row of ``whatsapp_creds_history``."""

    client_family: str
    company_id: str
    creds: Any
    replaced_at: str
    saved_at: str
    slot: int
    version: int


class WhatsappEventsRow(TypedDict):
    """A row of ``whatsapp_events``."""

    count: int
    event: str
    minute: str


class WhatsappKeyPoliciesRow(TypedDict):
    """A row of ``whatsapp_key_policies``."""

    key_type: str
    ttl: str


class WhatsappKeysRow(TypedDict):
    """A row of ``whatsapp_keys``."""

    company_id: str
    expires_at: str | None
    key_id: str
    key_type: str
    updated_at: str
    value: Any


class WhatsappLeaseHistoryRow(TypedDict):
    """A row of ``whatsapp_lease_history``."""

    acquired_at: str
    company_id: str
    owner: str
    released_at: str | None
    taken_from: str | None
    token: int


class WhatsappLeasesRow(TypedDict):
    """A row of ``whatsapp_leases``."""

    acquired_at: str | None
    acquired_by: str | None
    commit_no: int
    company_id: str
    epoch: int
    expires_at: str
    lapses: int
    owner: str | None
    renewed_at: str | None
    restored_at: str | None
    token: int
    writer: str | None


class WhatsappPausesRow(TypedDict):
    """A row of ``whatsapp_pauses``."""

    code: int
    company_id: str
    logged_out: bool
    noted_at: str
    noted_by: str
    reason: str
    step: int
    until: str


class WhatsappQuarantineRow(TypedDict):
    """A row of ``whatsapp_quarantine``."""

    client_family: str | None
    company_id: str
    created_at: str | None
    creds: Any | None
    history: Any
    keys: int
    reason: str
    removed_at: str
    saved_at: str | None
    until: str
    version: int


class WhatsappQuarantineKeysRow(TypedDict):
    """A row of ``whatsapp_quarantine_keys``."""

    company_id: str
    key_id: str
    key_type: str
    updated_at: str
    value: Any
    version: int


class WhatsappStatisticsRow(TypedDict):
    """A row of ``whatsapp_statistics``."""

    commits: int | None
    commits_per_minute: float | None
    companies: int
    creds_bytes: int
    id: bool
    key_rows: int | None
    key_rows_per_minute: float | None
    owned: int
    rated_at: str | None
    recount_after: str
    recount_began: str | None
    recounted_at: str | None
    refreshed_at: str
    workers: Any


class WhatsappStatisticsDaysRow(TypedDict):
    """A row of ``whatsapp_statistics_days``."""

    by_type: Any
    bytes: int
    companies: int
    creds_bytes: int
    day: str
    rows: int
    storage: Any
    taken_at: str


class WhatsappTrafficRow(TypedDict):
    """A row of ``whatsapp_traffic``."""

    day: str
    kind: str
    received: int
    requests: int
    sent: int


class WhatsappTypeStatisticsRow(TypedDict):
    """A row of ``whatsapp_type_statistics``."""

    bytes: int
    expired: int
    key_type: str
    rows: int


class WhatsappWritersRow(TypedDict):
    """A row of ``whatsapp_writers``."""

    commit_no: int
    company_id: str
    lands_until: str
    token: int | None
    writer: str


class WhatsappLidMappingsRow(TypedDict):
    """A row of ``whatsapp_lid_mappings``."""

    company_id: str
    expires_at: str | None
    key_id: str
    lid: str | None
    partner_id: str | None
    partner_value: Any | None
    pn: str | None
