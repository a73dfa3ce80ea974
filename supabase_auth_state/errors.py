"""Every error this library raises.

    SupabaseAuthStateError
    ├── ConfigurationError        a URL, a key or a company_id is missing or of the wrong kind
    ├── CodecError                a value cannot be encoded, or a stored one cannot be decoded
    │   └── SealedValueError      a sealed value cannot be opened with the keys that are given
    ├── FolderError               a folder is not what Baileys writes, or is not safe to write
    ├── FamilyMismatch            the rows belong to another kind of client
    ├── NewerState                a copy would lose what the database holds
    ├── DuplicateDevice           another company is the same linked device
    ├── VerificationFailed        what was copied does not read back as it was
    ├── UnreadKeyError            a write over rows whose last read failed
    ├── JournalError              writes that waited cannot be kept, or not be written any more
    ├── CompanyNotFound           the company has no creds, and none were to be made
    ├── UnfinishedImport          the company has keys and no creds
    ├── VersionNotRestorable      no such version is kept, or it is another linked device
    ├── LeaseError
    │   ├── LeaseHeld             another process owns the company
    │   │   └── CompanyMoved      the company lives in another project, or is on its way here
    │   └── LeaseLost             this process owned the company and no longer does
    ├── PoolError                 a session pool cannot give a session
    │   ├── CompanyQuarantined    WhatsApp logged the company out or banned it; a person has to act
    │   ├── SessionBackoff        the company is left alone for a time
    │   └── PoolClosed            the pool is closed
    └── StoreError                PostgREST answered no, or did not answer
        ├── StoreUnavailable      timeout, connection loss, 5xx: the only one that is retried
        ├── AccessDenied          401, 403, 42501: the key or the grants
        ├── SchemaMissing         the migrations are not applied, or the API does not see them
        ├── ProjectRestricted     402, 540, 25006: over quota, paused or read-only
        ├── WriteRefused          409 PT409: a lease or a newer commit stands against this write
        ├── StateRolledBack       409 PT409: the database was set back to an earlier moment
        └── InvalidRequest        any other 4xx: the database did not accept the data

No message, attribute or exception chain carries a stored value, PostgREST's ``details`` (it quotes
rows) or an API key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

_MAX_NAME = 80


def some_of(names: Iterable[str], limit: int = 3) -> str:
    """Return the first few of some names, and how many more there are: "a, b, c and 4 more"."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def printable(name: str) -> str:
    """Return a name for a message, with escapes for what would not print, or do more than that."""
    return name if name.isprintable() else repr(name)[1:-1]


def place(path: Iterable[str | int]) -> str:
    """Return a place inside a value for a message; long names are cut."""
    return ".".join(printable(str(part))[:_MAX_NAME] for part in path)


class SupabaseAuthStateError(Exception):
    """The root of everything this library raises on purpose."""


class ConfigurationError(SupabaseAuthStateError):
    """A URL, a key, a company_id or a setting is missing, malformed or of the wrong kind."""


class CodecError(SupabaseAuthStateError):
    """A value cannot be encoded, or a stored one cannot be decoded.

    Attributes:
        reason: what is wrong, without the value.
        company_id: the company, when known.
        key_type: Baileys' key type, or ``"creds"``.
        key_id: the id within the type.
        path: the place inside the value, outermost first.
    """

    def __init__(
        self,
        reason: str,
        *,
        company_id: str | None = None,
        key_type: str | None = None,
        key_id: str | None = None,
        path: Sequence[str | int] = (),
    ) -> None:
        self.reason = reason
        self.company_id = company_id
        self.key_type = key_type
        self.key_id = key_id
        self.path = tuple(path)
        super().__init__(self._describe())

    def _describe(self) -> str:
        where = [
            f"{name} {value!r}"
            for name, value in (
                ("company", self.company_id),
                ("type", self.key_type),
                ("id", self.key_id),
            )
            if value is not None
        ]
        if self.path:
            where.append(f"at {place(self.path)}")
        return f"{', '.join(where)}: {self.reason}" if where else self.reason


class SealedValueError(CodecError):
    """A value is sealed, and the keys that are given do not open it.

    It is stored and stays stored: a row of which this was raised is not written over.

    Attributes:
        sealed_with: the id of the key that it says it is sealed with.
        missing: whether no key of this id was given. If one was, it is another key, or the value
            was changed or moved to this row.
    """

    def __init__(
        self,
        sealed_with: str,
        *,
        missing: bool,
        company_id: str | None = None,
        key_type: str | None = None,
        key_id: str | None = None,
    ) -> None:
        self.sealed_with = sealed_with
        self.missing = missing
        name = printable(sealed_with)
        reason = (
            f"is sealed with the key {name!r}, which is not in SUPABASE_AUTH_STATE_KEYS"
            if missing
            else f"does not open with the key {name!r}: it is another key than the one it was "
            "sealed with, or the row was changed or is that of another value"
        )
        super().__init__(reason, company_id=company_id, key_type=key_type, key_id=key_id)


class FolderError(SupabaseAuthStateError):
    """An auth folder is not what Baileys writes, or is not safe to write.

    Attributes:
        problems: file name and reason of each file that is not understood.
    """

    def __init__(self, message: str, *, problems: Sequence[tuple[str, str]] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message)


class FamilyMismatch(SupabaseAuthStateError):
    """The rows of a company were written by another kind of client.

    The same key type holds different bytes in different clients, so nothing is read or written.

    Attributes:
        company_id: the company.
        stored: the client family recorded in the database.
        wanted: the client family the caller asked for.
    """

    def __init__(self, company_id: str, *, stored: str, wanted: str) -> None:
        self.company_id = company_id
        self.stored = stored
        self.wanted = wanted
        super().__init__(
            f"company {company_id!r} holds state of the client family {stored!r}, and this is "
            f"{wanted!r}: open it with family={stored!r}, or use another company_id"
        )


class NewerState(SupabaseAuthStateError):
    """A copy would lose what the database holds: newer values, or another linked device.

    Attributes:
        company_id: the company.
        newer: names of the values that would be replaced and may be newer than what replaces them.
        extra: names of the values that would be deleted, because the other side has none.
        returning: names of pre-keys that were used up or deleted and would come back.
        going_back: name of each value of which a counter would go back, and which counter: how many
            ratchet turns of a session, for instance.
        other_device: whether the two sides are two linked devices.
    """

    def __init__(
        self,
        company_id: str,
        message: str,
        *,
        newer: Sequence[str] = (),
        extra: Sequence[str] = (),
        returning: Sequence[str] = (),
        going_back: Sequence[tuple[str, str]] = (),
        other_device: bool = False,
    ) -> None:
        self.company_id = company_id
        self.newer = tuple(newer)
        self.extra = tuple(extra)
        self.returning = tuple(returning)
        self.going_back = tuple(going_back)
        self.other_device = other_device
        super().__init__(message)


class DuplicateDevice(SupabaseAuthStateError):
    """Another company holds the same linked device.

    WhatsApp lets a linked device connect once: two clients of it replace each other for ever (440),
    and each of them breaks the sessions of the other.

    Attributes:
        company_id: the company that was to become this device.
        companies: the other companies that are it.
    """

    def __init__(self, company_id: str, companies: Sequence[str]) -> None:
        self.company_id = company_id
        self.companies = tuple(companies)
        others = some_of(map(repr, self.companies))
        super().__init__(
            f"company {company_id!r} is not written: {others} holds the same linked device, and "
            "two clients of one device replace each other for ever. Delete the one that is no "
            "longer used (supabase-auth-state delete), or use --force to have both"
        )


class VerificationFailed(SupabaseAuthStateError):
    """What was copied does not read back as what it was copied from.

    Attributes:
        company_id: the company.
        differences: name and reason of each value that is not the same on both sides.
    """

    def __init__(
        self, company_id: str, message: str, *, differences: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.company_id = company_id
        self.differences = tuple(differences)
        super().__init__(message)


class UnreadKeyError(SupabaseAuthStateError):
    """A write over rows whose last read failed for good.

    Clients take a failed read for "no session" and then replace the whole record. The write is
    refused until a read of the same ids has succeeded.

    Attributes:
        company_id: the company.
        refs: the ids concerned, as ``(key_type, key_id)``.
    """

    def __init__(self, company_id: str, refs: Sequence[tuple[str, str]]) -> None:
        self.company_id = company_id
        self.refs = tuple(refs)
        shown = some_of(f"{key_type} {key_id!r}" for key_type, key_id in self.refs)
        super().__init__(
            f"company {company_id!r}: refusing to write {shown}, because the last read of "
            "it failed; read it again first (if the row is damaged: supabase-auth-state doctor "
            f"--company {company_id})"
        )


class CompanyNotFound(SupabaseAuthStateError):
    """The company has neither creds nor keys, and none were to be made.

    Attributes:
        company_id: the company.
    """

    def __init__(self, company_id: str) -> None:
        self.company_id = company_id
        super().__init__(
            f"company {company_id!r} is not in the database: check the name, import its folder, "
            "open it with create=True to link a new device, or look whether it was deleted or "
            f"logged out (supabase-auth-state history --company {company_id})"
        )


class UnfinishedImport(SupabaseAuthStateError):
    """The company has keys and no creds: it is not a new one, and fresh creds would not fit them.

    Attributes:
        company_id: the company.
    """

    def __init__(self, company_id: str) -> None:
        self.company_id = company_id
        super().__init__(
            f"company {company_id!r} has keys and no creds, as after a broken-off import. Run the "
            "import again to finish it; or, to link a new device, delete the company first "
            f"(supabase-auth-state delete --company {company_id})"
        )


class JournalError(SupabaseAuthStateError):
    """A journal of waiting writes cannot be used, or its writes may not be written any more.

    Attributes:
        path: the file.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class VersionNotRestorable(SupabaseAuthStateError):
    """The database keeps no such version of a company, or it does not fit what is there now.

    Attributes:
        company_id: the company.
        version: the version that was wanted; None for the company that was removed last.
    """

    def __init__(self, company_id: str, version: int | None, why: str) -> None:
        self.company_id = company_id
        self.version = version
        super().__init__(
            f"company {company_id!r}: {why}; nothing was changed. "
            f"`supabase-auth-state history --company {company_id}` lists what can be restored"
        )


class LeaseError(SupabaseAuthStateError):
    """Something about the ownership of a company."""


class LeaseHeld(LeaseError):
    """Another process owns the company.

    Attributes:
        company_id: the company.
        owner: who holds the lease.
        expires_at: when it ends unless renewed, ISO 8601, on the database's clock.
    """

    def __init__(self, company_id: str, *, owner: str | None, expires_at: str | None) -> None:
        self.company_id = company_id
        self.owner = owner
        self.expires_at = expires_at
        super().__init__(
            f"company {company_id!r} is owned by {owner or 'another process'} until "
            f"{expires_at or 'its lease ends'} (longer if renewed): stop that process first, "
            "or wait until its lease has expired"
        )


ARRIVING = "arriving from "
MOVED = "moved to "


def is_mark(owner: str | None) -> bool:
    """Return whether a lease's owner is a mark that closes its company, and no process."""
    return owner is not None and owner.startswith((ARRIVING, MOVED))


class CompanyMoved(LeaseHeld):
    """The company is closed here: it lives in another project, or has not wholly come from there.

    Attributes:
        company_id: the company.
        owner: the mark that closes it, ``"moved to …"`` or ``"arriving from …"``.
        project: URL of the other project.
    """

    def __init__(self, company_id: str, mark: str) -> None:
        super().__init__(company_id, owner=mark, expires_at=None)
        if mark.startswith(MOVED):
            self.project = mark.removeprefix(MOVED)
            says = (
                f"lives in the project {self.project} now: use it there, or bring it back with "
                "`supabase-auth-state transfer` from there"
            )
        else:
            self.project = mark.removeprefix(ARRIVING)
            says = (
                f"is on its way here from the project {self.project}: run the same transfer again "
                "to finish it; or, if it is still open there, use it there and delete what is here "
                "(supabase-auth-state delete)"
            )
        self.args = (f"company {company_id!r} is closed in this project: it {says}",)


class LeaseLost(LeaseError):
    """This process owned the company and no longer does; what it writes is refused.

    Attributes:
        company_id: the company.
        token: the token that is no longer valid.
    """

    def __init__(self, company_id: str, token: int) -> None:
        self.company_id = company_id
        self.token = token
        super().__init__(
            f"company {company_id!r}: the lease with token {token} is lost; close the connection "
            "to WhatsApp and open the company again"
        )


class PoolError(SupabaseAuthStateError):
    """A session pool cannot give a session."""


class CompanyQuarantined(PoolError):
    """WhatsApp logged the company out or banned it (401, 403, 406): a person has to act.

    Its rows are kept: after 401 in the database's quarantine, else where they are.
    ``pool.reinstate`` lets it be opened again; a company that was logged out then begins anew,
    unless it is restored first.
    """

    @classmethod
    def logged_out(cls, company_id: str) -> CompanyQuarantined:
        """Return the error of a company that was logged out: nothing is stored for it."""
        return cls(
            f"company {company_id!r} was logged out by WhatsApp (401): its keys and creds are in "
            "quarantine, and nothing is stored for it. To link a new device or import one: "
            f"`supabase-auth-state reinstate --company {company_id}`. To go on with what it had: "
            f"`supabase-auth-state restore --company {company_id}`, then reinstate"
        )


class SessionBackoff(PoolError):
    """The company is left alone for a time, e.g. after another connection replaced ours (440).

    Attributes:
        retry_after: seconds until the next attempt is due.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class PoolClosed(PoolError):
    """The pool is closed."""


class StoreError(SupabaseAuthStateError):
    """PostgREST answered no, or did not answer.

    Attributes:
        status: HTTP status, or None when there was no answer.
        code: SQLSTATE or PostgREST error code, or None.
        hint: the server's hint, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.hint = hint
        super().__init__(message)


class StoreUnavailable(StoreError):
    """Timeout, connection loss, 5xx or a busy database: the only error that is retried.

    Attributes:
        retry_after: seconds the server asked to wait before the next attempt, or 0.
    """

    retry_after: float = 0.0


class AccessDenied(StoreError):
    """The key was refused, or its role may not do this."""


class SchemaMissing(StoreError):
    """The tables or functions are not there, or the API does not expose their schema."""


class ProjectRestricted(StoreError):
    """The project is over quota, paused or read-only; retrying does not help."""


class WriteRefused(StoreError):
    """The database refused a write: another owner's lease, or a newer commit, stands against it."""


class StateRolledBack(StoreError):
    """The database was set back to an earlier moment, as by restoring a backup.

    What this process knows to be stored is not there, so every ratchet may have gone back. Nothing
    is written; linking the device anew may be the only way.

    Attributes:
        company_id: the company.
    """

    def __init__(self, company_id: str) -> None:
        self.company_id = company_id
        super().__init__(
            f"company {company_id!r}: the database has lost writes that it had acknowledged, as "
            "after restoring a backup; stop this connection before it damages the sessions",
            status=409,
            code="PT409",
        )


class InvalidRequest(StoreError):
    """The database did not accept the data; nothing of the request was stored."""
