"""Rows that have to agree with the creds. No I/O.

Source: Baileys 7.0.0-rc14, ``src/Utils/signal.ts`` (how pre-keys are counted),
``src/Socket/messages-send.ts`` (who is sent our sender key).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from supabase_auth_state import codec
from supabase_auth_state.transfer.documents import CREDS, pre_key_number
from supabase_auth_state.types import Creds, KeyRef

from .creds_checks import LARGEST_PRE_KEY_ID
from .findings import Findings
from .key_checks import Rows


def examine_agreement(rows: Rows, creds: Creds, findings: Findings) -> None:
    """Examine what the creds count and name."""
    _examine_pre_keys(rows, creds, findings)
    _examine_sender_keys(rows, creds, findings)
    _examine_app_state_key(rows, creds, findings)


def _examine_pre_keys(rows: Rows, creds: Creds, findings: Findings) -> None:
    next_id = creds.get("nextPreKeyId")
    if type(next_id) is not int or next_id < 1:
        return
    stored = map(pre_key_number, rows.of("pre-key"))
    unknown = sorted(number for number in stored if number is not None and number >= next_id)
    if unknown:
        _note_unknown(unknown, creds, findings)
    elif next_id > 1 and KeyRef("pre-key", str(next_id - 1)) not in rows.present:
        findings.add_unrepairable(
            "pre-key-newest-missing",
            KeyRef("pre-key", str(next_id - 1)),
            "the newest, and not stored",
            "its private key is gone; the client makes new ones at its next login",
            damage=False,
        )


def _note_unknown(unknown: list[int], creds: Creds, findings: Findings) -> None:
    what = "newer than the creds know, so a client would make it again and overwrite it"
    highest = unknown[-1]
    if highest >= LARGEST_PRE_KEY_ID:
        for key_id in unknown:
            reason = "counting on from the highest would leave the range of pre-key ids"
            findings.add_unrepairable(
                "pre-key-unknown", KeyRef("pre-key", str(key_id)), what, reason
            )
        return
    remedy = "a repair makes the creds count on from the highest one, taking all for uploaded"
    for key_id in unknown:
        findings.add_repairable("pre-key-unknown", KeyRef("pre-key", str(key_id)), what, remedy)
    counters = dict.fromkeys(("nextPreKeyId", "firstUnuploadedPreKeyId"), highest + 1)
    findings.change.creds = codec.encode_creds({**creds, **counters}, company_id=None)


def _examine_sender_keys(rows: Rows, creds: Creds, findings: Findings) -> None:
    senders = list(_own_senders(creds))
    if not senders:
        return
    for group, members in rows.of("sender-key-memory").items():
        own = {KeyRef("sender-key", f"{group}::{sender}") for sender in senders}
        if members and own.isdisjoint(rows.present):
            findings.add_unrepairable(
                "sender-key-missing",
                KeyRef("sender-key-memory", group),
                "devices are noted as having our sender key of this group, and there is none",
                "the client makes a new one, and sends it to each of them when asked to retry; "
                "deleting this row sends it to all at once",
            )


def _own_senders(creds: Creds) -> Iterator[str]:
    """Yield ``<user>::<device>`` of our own device, by phone number and by LID."""
    me = creds.get("me")
    if not isinstance(me, Mapping):
        return
    for name, domain in (("id", ""), ("lid", "_1")):
        jid = re.fullmatch(r"([0-9]+)(?::([0-9]+))?@.+", str(me.get(name)))
        if jid is not None:
            yield f"{jid[1]}{domain}::{jid[2] or 0}"


def _examine_app_state_key(rows: Rows, creds: Creds, findings: Findings) -> None:
    key_id = creds.get("myAppStateKeyId")
    if type(key_id) is str and KeyRef("app-state-sync-key", key_id) not in rows.present:
        findings.add_unrepairable(
            "app-state-key-missing",
            CREDS,
            "myAppStateKeyId has no row",
            "the phone sends a key only once; linking the device again gives it new ones",
        )
