"""How a connection to WhatsApp ends, and what the pool does after that. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal

from supabase_auth_state.errors import StateRolledBack, SupabaseAuthStateError

CompanyStatus = Literal["up", "opening", "down", "quarantined", "yielded"]
"""What a company is doing in a pool.

``up``: connected. ``opening``: a connection is being made, or the pause before it is running.
``down``: nothing is connected. ``quarantined``: refused by WhatsApp, until ``reinstate``.
``yielded``: left alone for a long pause.
"""


class Reaction(Enum):
    """What the pool does after a connection has ended."""

    RESTART = "connect again at once, with the same auth state"
    RETRY = "connect again after a pause"
    YIELD = "leave the company alone for a long pause"
    QUARANTINE = "leave the company alone until it is reinstated"


@dataclass(frozen=True)
class End:
    """The end of a connection, as its reason tells it.

    Attributes:
        code: the status code, or None when there is none.
        reason: the meaning, in a few words.
        reaction: what the pool does.
        advice: what a person has to do, for a code that does not get better by waiting.
        pause: seconds for which a new attempt is pointless, as WhatsApp says.
    """

    code: int | None
    reason: str
    reaction: Reaction
    advice: str = ""
    pause: float = 0.0

    def __str__(self) -> str:
        return self.reason if self.code is None else f"{self.code}, {self.reason}"


@dataclass(frozen=True)
class ConnectionEnd:
    """How a company's connection to WhatsApp ended, or why none came about.

    Attributes:
        code: WhatsApp's or Baileys' status code, or None when there was none.
        reason: the meaning, in a few words. Of an error that is not this library's it is the class
            alone, because the text may hold secrets.
        status: what the company is now: ``quarantined`` or ``yielded`` when the code is one that
            waiting does not cure, ``opening`` when the pool connects again by itself, else
            ``down``.
        retry_after: seconds until the pool may try again, or None: not before ``reinstate``.
        at: when, in UTC.
    """

    code: int | None
    reason: str
    status: CompanyStatus
    retry_after: float | None
    at: datetime


@dataclass(frozen=True)
class CompanyState:
    """What a company is doing in a pool, and how its last connection ended.

    Attributes:
        status: as in ``SessionPool.status()``.
        retry_after: seconds until an attempt may begin, 0 for at once, or None: not before
            ``reinstate``.
        last_end: how the last connection, or the last attempt at one, ended; None when none has.
            Closing by the pool's own user is no such end.
    """

    status: CompanyStatus
    retry_after: float | None
    last_end: ConnectionEnd | None


_LINK = "link the device again"
_LOOK = "look at the account on its phone, and link the device again if it was removed"
_UPDATE = "update the WhatsApp client"

# Sources: Baileys 7.0.0-rc14, `DisconnectReason` in src/Types/index.ts and src/Socket/socket.ts,
# which passes the reason of WhatsApp's <failure> on as the status code; whatsmeow, types/events/
# events.go, `ConnectFailureReason`, and connectionevents.go, `handleConnectFailure`: it takes 401,
# 403 and 406 for logged out, and of all reasons at login reconnects by itself after 500 and 503.
_KNOWN = {
    end.code: end
    for end in (
        End(401, "logged out", Reaction.QUARANTINE, _LINK),
        End(402, "temporarily banned", Reaction.YIELD, "wait for the end of the ban"),
        End(403, "banned, or its phone was logged out", Reaction.QUARANTINE, _LOOK),
        End(405, "the client is outdated", Reaction.YIELD, _UPDATE),
        End(406, "banned", Reaction.QUARANTINE, _LOOK),
        End(408, "connection lost", Reaction.RETRY),
        End(409, "the client's user agent was rejected", Reaction.YIELD, _UPDATE),
        End(411, "the phone has no multi-device", Reaction.YIELD, "update WhatsApp on the phone"),
        End(428, "connection closed", Reaction.RETRY),
        End(440, "replaced by another connection", Reaction.YIELD, "stop that connection"),
        # Baileys' "bad session" is what it says when WhatsApp gave no code.
        End(500, "server error, or no reason given", Reaction.RETRY),
        End(503, "service unavailable", Reaction.RETRY),
        End(515, "restart required", Reaction.RESTART),
    )
}

LOGGED_OUT = 401
"""After this code WhatsApp does not know the device any more; 403 and 406 may be taken back."""

NO_CODE = 0
"""Stands in the database for an end without a code: that of a database that was set back."""

ROLLED_BACK = End(
    None,
    "the database was set back to an earlier moment",
    Reaction.QUARANTINE,
    "see docs/restored-database.md; import what an owner remembered, or link the device again",
)
"""A restored backup: connecting again would send with ratchets that have gone back."""

_LONGEST_BAN = 30 * 86400.0


def end_of(reason: object) -> End:
    """Read a reason: a status code, or an error with one in ``status_code`` or ``statusCode``.

    A code that an error got on the way to WhatsApp, as from a proxy that answers 403, says nothing
    about the account. Baileys and its ports put the error of the WebSocket into ``data`` then, and
    the attributes of WhatsApp's answer otherwise.

    Args:
        reason: as for ``SessionPool.report``.
    """
    code = _number(reason)
    if code is None:
        code = _number(getattr(reason, "status_code", None))
    if code is None:
        code = _number(getattr(reason, "statusCode", None))
    return _end(code, reason)


def end_of_error(error: BaseException) -> End:
    """Read an error that was raised instead of a connection.

    Only ``statusCode`` counts, the name in Baileys' ports: an error with a ``status_code`` may be
    that of any HTTP library, about any other server.
    """
    return _end(_number(getattr(error, "statusCode", None)), error)


def noted_end(code: int, reason: str, noted_by: str, *, for_good: bool) -> End:
    """Return the end that another pool has noted.

    Args:
        code: its status code, or `NO_CODE`.
        reason: its meaning, in a few words.
        noted_by: which process has noted it.
        for_good: whether the company is left alone until it is reinstated.
    """
    known = ROLLED_BACK if code == NO_CODE else _KNOWN.get(code)
    advice = "" if known is None else known.advice
    reaction = Reaction.QUARANTINE if for_good else Reaction.YIELD
    return End(code or None, f"{reason}, as {noted_by} has noted", reaction, advice or _LOOK)


def describe(error: BaseException) -> str:
    """Name an error. Only this library's own messages are known to hold no secret."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, SupabaseAuthStateError) else name


def _end(code: int | None, reason: object) -> End:
    if isinstance(reason, StateRolledBack):
        return ROLLED_BACK
    data = getattr(reason, "data", None)
    if code is None or isinstance(data, BaseException):
        lost = describe(reason) if isinstance(reason, BaseException) else "connection lost"
        return End(code, lost, Reaction.RETRY)
    known = _KNOWN.get(code, End(code, "unknown reason", Reaction.RETRY))
    if code != 402:
        return known
    return End(code, known.reason, known.reaction, known.advice, _rest_of_ban(data))


def _rest_of_ban(data: object) -> float:
    # Source: whatsmeow, connectionevents.go: `expire` is in seconds from now.
    seconds = _number(data.get("expire")) if isinstance(data, dict) else None
    return min(max(0.0, float(seconds or 0)), _LONGEST_BAN)


def _number(value: object) -> int | None:
    """Return a whole number that may be text, as an attribute of WhatsApp's nodes is."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    return None
