"""The creds by themselves: can they be read, are they whole, are they signed? No I/O."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from supabase_auth_state import codec
from supabase_auth_state.codec import from_base64, xeddsa
from supabase_auth_state.codec.creds import verify_signed_pre_key
from supabase_auth_state.errors import CodecError
from supabase_auth_state.transfer.documents import CREDS
from supabase_auth_state.types import Creds

from .damage import damaged_forms
from .findings import Findings
from .key_checks import FORM_REMEDY, MISMATCH, describe, is_pair

# What the phone and the device sign in front of the details, for a plain and for a hosted device.
# Source: Baileys 7.0.0-rc14, src/Defaults/index.ts, WA_ADV_*_SIG_PREFIX.
_ACCOUNT_PREFIXES = (b"\x06\x00", b"\x06\x05")
_DEVICE_PREFIXES = (b"\x06\x01", b"\x06\x06")

_ACCOUNT_FIELDS = ("details", "accountSignatureKey", "accountSignature", "deviceSignature")
_PAIRS = ("noiseKey", "pairingEphemeralKeyPair", "signedIdentityKey")
_LARGEST_REGISTRATION_ID = 16383

LARGEST_PRE_KEY_ID = 0xFFFFFF
"""Ids of pre-keys are three bytes on their way to the server."""

_LINK_AGAIN = "what belongs there cannot be known; without a backup, link the device again"
_WHICH = "which part is wrong cannot be known"


def examine_creds(stored: Any, findings: Findings) -> Creds | None:
    """Examine the JSON value of creds.

    Returns:
        The creds as a repair leaves them, or None when they cannot be used.
    """
    try:
        creds = codec.decode_creds(stored, company_id=None)
        canonical = codec.encode_creds(creds, company_id=None)
    except CodecError as error:
        findings.add_unrepairable(
            "unreadable", CREDS, f"cannot be read: {describe(error)}", _LINK_AGAIN
        )
        return None
    for code, what in damaged_forms(stored, canonical).items():
        findings.add_repairable(code, CREDS, what, FORM_REMEDY)
        findings.change.creds = canonical
    try:
        codec.check_creds(creds, company_id=None)
    except CodecError as error:
        findings.add_unrepairable("not-whole", CREDS, f"not whole: {describe(error)}", _LINK_AGAIN)
        return None
    _examine_keys(creds, findings)
    _examine_numbers(creds, findings)
    return creds


def _examine_keys(creds: Creds, findings: Findings) -> None:
    pairs = {name: creds[name] for name in _PAIRS if creds.get(name) is not None}
    pairs["signedPreKey"] = creds["signedPreKey"]["keyPair"]
    for name, pair in pairs.items():
        if not is_pair(pair):
            findings.add_unrepairable("key-pair", CREDS, f"{name}: {MISMATCH}", _WHICH)
    if not verify_signed_pre_key(creds):
        what = "the signed pre-key is not signed by the identity key"
        findings.add_unrepairable("creds-signature", CREDS, what, _WHICH)
    for signer in _failed_signatures(creds):
        what = f"the account is not signed by {signer} for this identity key"
        findings.add_unrepairable("account-signature", CREDS, what, _WHICH)
    if not _is_base64_of(creds.get("advSecretKey"), 32):
        what = "advSecretKey is not the base64 text of 32 bytes"
        findings.add_unrepairable("adv-secret", CREDS, what, "it is needed for pairing only")


def _failed_signatures(creds: Creds) -> Iterator[str]:
    account = creds.get("account")
    if not isinstance(account, Mapping) or None in map(account.get, _ACCOUNT_FIELDS):
        return
    details, phone_key, phone_signature, device_signature = (
        b64decode(account[name]) for name in _ACCOUNT_FIELDS
    )
    identity = creds["signedIdentityKey"]["public"]
    signed = details + identity
    if not _any_verifies(phone_key, _ACCOUNT_PREFIXES, signed, phone_signature):
        yield "the phone"
    if not _any_verifies(identity, _DEVICE_PREFIXES, signed + phone_key, device_signature):
        yield "this device"


def _any_verifies(
    public: bytes, prefixes: tuple[bytes, ...], signed: bytes, signature: bytes
) -> bool:
    return any(xeddsa.verify(public, prefix + signed, signature) for prefix in prefixes)


def _is_base64_of(text: Any, length: int) -> bool:
    data = from_base64(text) if type(text) is str else None
    return data is not None and len(data) == length


def _examine_numbers(creds: Creds, findings: Findings) -> None:
    next_id = creds.get("nextPreKeyId")
    counted = type(next_id) is int and next_id > 0
    for name, lowest, highest in (
        ("registrationId", 0, _LARGEST_REGISTRATION_ID),
        ("nextPreKeyId", 1, LARGEST_PRE_KEY_ID + 1),
        ("firstUnuploadedPreKeyId", 1, next_id if counted else LARGEST_PRE_KEY_ID + 1),
    ):
        if not _is_between(creds.get(name), lowest, highest):
            what = f"{name} cannot be right"
            findings.add_unrepairable("creds-number", CREDS, what, "what it was cannot be known")


def _is_between(number: Any, lowest: int, highest: Any) -> bool:
    return type(number) is int and lowest <= number <= highest
