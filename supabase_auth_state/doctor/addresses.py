"""LID mappings, and the sessions that are found through them. No I/O.

A contact is known by phone number (``pn``) and by LID; a mapping is two rows, ``pn`` to ``lid`` and
``lid_reverse`` to ``pn``. While a phone number has a LID, a client looks for its session at the LID
alone.

Source: Baileys 7.0.0-rc14, ``src/Signal/lid-mapping.ts`` (which rows are written and when) and
``src/Signal/libsignal.ts`` (``resolveLIDSignalAddress``, ``migrateSession``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.codec import to_base64
from supabase_auth_state.types import KeyRef, Value

from .findings import Findings
from .key_checks import Rows

_REVERSE = "_reverse"
_PHONE_ADDRESS = re.compile(r"([0-9]+)(_128)?\.([0-9]+)")
# Of a hosted device: 128 at the phone number, 129 at the LID; of others no suffix, and 1.
_LID_DOMAIN = {None: "1", "_128": "129"}


def examine_addresses(rows: Rows, findings: Findings) -> None:
    """Examine mappings by pairs, and sessions by where they are."""
    lids = _examine_mappings(rows, findings)
    _examine_sessions(rows, lids, findings)


def _examine_mappings(rows: Rows, findings: Findings) -> dict[str, tuple[str, bool]]:
    """Return the LID of each phone number, and whether both rows say so after a repair."""
    mappings = rows.of("lid-mapping")
    forward = {key: lid for key, lid in mappings.items() if not key.endswith(_REVERSE)}
    reverse = {
        key.removesuffix(_REVERSE): pn for key, pn in mappings.items() if key.endswith(_REVERSE)
    }
    added = _add_reverse_rows(rows, forward, reverse, findings)
    added |= _add_forward_rows(rows, forward, reverse, findings)
    _note_disagreement(forward, reverse, findings)
    lids = {pn: (lid, reverse.get(lid) == pn) for pn, lid in forward.items()}
    return lids | {pn: (lid, True) for pn, lid in added.items()}


def _add_reverse_rows(
    rows: Rows, forward: Mapping[str, str], reverse: Mapping[str, str], findings: Findings
) -> dict[str, str]:
    phones = Counter(forward.values())
    added = {}
    for pn, lid in forward.items():
        if lid in reverse or _mapping(lid + _REVERSE) in rows.present:
            continue
        what = "no reverse row, so the phone number of this LID is never found"
        if phones[lid] > 1:
            reason = "more than one phone number maps to the LID"
            findings.add_unrepairable("lid-reverse-missing", _mapping(pn), what, reason)
            continue
        findings.add_repairable("lid-reverse-missing", _mapping(pn), what, "a repair adds it")
        _plan_pair(pn, lid, findings)
        added[pn] = lid
    return added


def _add_forward_rows(
    rows: Rows, forward: Mapping[str, str], reverse: Mapping[str, str], findings: Findings
) -> dict[str, str]:
    lids = Counter(reverse.values())
    mapped = set(forward.values())
    added = {}
    for lid, pn in reverse.items():
        if pn in forward or _mapping(pn) in rows.present:
            continue
        what = "no forward row, so the session of this phone number is not found"
        if lids[pn] > 1 or lid in mapped:
            reason = "the phone number or the LID is part of another mapping too"
            findings.add_unrepairable("lid-forward-missing", _mapping(lid + _REVERSE), what, reason)
            continue
        findings.add_repairable(
            "lid-forward-missing", _mapping(lid + _REVERSE), what, "a repair adds it"
        )
        _plan_pair(pn, lid, findings)
        added[pn] = lid
    return added


def _note_disagreement(
    forward: Mapping[str, str], reverse: Mapping[str, str], findings: Findings
) -> None:
    # A contact that changes number or LID leaves a row behind, beside a pair that is whole.
    for pn, lid in forward.items():
        number = reverse.get(lid)
        if number not in {None, pn}:
            _note_odd_row(pn, findings, outdated=forward.get(number) == lid)
    for lid, pn in reverse.items():
        other = forward.get(pn)
        if other not in {None, lid}:
            _note_odd_row(lid + _REVERSE, findings, outdated=reverse.get(other) == pn)


def _note_odd_row(key_id: str, findings: Findings, *, outdated: bool) -> None:
    findings.add_unrepairable(
        "lid-disagrees",
        _mapping(key_id),
        "maps to what itself maps to something else",
        "the contact changed since" if outdated else "which row is right cannot be known",
        damage=not outdated,
    )


def _plan_pair(pn: str, lid: str, findings: Findings) -> None:
    # Both rows, so that they are of one age and expire together.
    findings.change.keys[_mapping(pn)] = lid
    findings.change.keys[_mapping(lid + _REVERSE)] = pn


def _mapping(key_id: str) -> KeyRef:
    return KeyRef("lid-mapping", key_id)


def _examine_sessions(rows: Rows, lids: Mapping[str, tuple[str, bool]], findings: Findings) -> None:
    for key_id, record in rows.of("session").items():
        address = _PHONE_ADDRESS.fullmatch(key_id)
        if address is None or address[1] not in lids:
            continue
        lid, agreed = lids[address[1]]
        target = f"{lid}_{_LID_DOMAIN[address[2]]}.{address[3]}"
        move = _Move(rows, key_id, target, _open_identities(record))
        what = "at the phone number, where no client looks while the number has a LID"
        reason, damage = move.obstacle() if agreed else ("the mapping's rows do not agree", True)
        if reason:
            findings.add_unrepairable(
                "session-at-phone-number", move.session, what, reason, damage=damage
            )
            continue
        findings.add_repairable(
            "session-at-phone-number", move.session, what, "a repair moves it to the LID"
        )
        move.plan(record, findings)


@dataclass(frozen=True)
class _Move:
    """A session on its way from a phone number to a LID, as Baileys' ``migrateSession`` moves it.

    Attributes:
        rows: the company.
        source: the address at the phone number.
        target: the address at the LID.
        identities: the contact's identity key in each open session of the record.
    """

    rows: Rows
    source: str
    target: str
    identities: AbstractSet[str]

    @property
    def session(self) -> KeyRef:
        return KeyRef("session", self.source)

    def obstacle(self) -> tuple[str, bool]:
        """Say why the session may not be moved, or nothing, and whether that is damage."""
        if KeyRef("session", self.target) in self.rows.present:
            return "the LID has a session too, and which is newer is not known", False
        if not self.identities:
            return "it is closed, so nothing could go on with it", False
        if len(self.identities) > 1:
            return "its open sessions are of more than one identity key", True
        if any(not self._is_the_contacts(address) for address in (self.source, self.target)):
            return "the contact's identity key has changed since", True
        return "", False

    def plan(self, record: Value, findings: Findings) -> None:
        """Plan the move of the session, and of the identity key if the LID has none."""
        keys = findings.change.keys
        keys[self.session] = None
        keys[KeyRef("session", self.target)] = codec.encode(
            record, company_id=None, key_type="session", key_id=self.target
        )
        identity = KeyRef("identity-key", self.source)
        if identity in self.rows.values and not self._has_identity(self.target):
            keys[identity] = None
            keys[KeyRef("identity-key", self.target)] = codec.encode(
                self.rows.values[identity],
                company_id=None,
                key_type="identity-key",
                key_id=self.target,
            )

    def _has_identity(self, address: str) -> bool:
        return KeyRef("identity-key", address) in self.rows.present

    def _is_the_contacts(self, address: str) -> bool:
        """Return whether the identity key at an address, if any, is that of the session."""
        if not self._has_identity(address):
            return True
        known = self.rows.values.get(KeyRef("identity-key", address))
        return type(known) is bytes and to_base64(known) in self.identities


def _open_identities(record: Value) -> set[str]:
    """Return the remote identity keys of the open sessions in a record; most have one."""
    return {
        info["remoteIdentityKey"]
        for info in _session_infos(record)
        if info.get("closed") == -1 and type(info.get("remoteIdentityKey")) is str
    }


def _session_infos(record: Value) -> Iterator[Mapping[str, Any]]:
    sessions = record.get("_sessions")
    entries: Iterable[Any] = sessions.values() if isinstance(sessions, Mapping) else ()
    for entry in entries:
        info = entry.get("indexInfo") if isinstance(entry, Mapping) else None
        if isinstance(info, Mapping):
            yield info
