"""Values sealed with a key that the database does not have. No I/O.

A sealed value stands in the table where the value would stand, as the JSON object

    {"$sealed": "<key id>", "v": 1, "box": "<base64 of nonce, ciphertext and tag>"}

and sealed creds have ``"device"`` too, the hash by which the database finds two companies of one
linked device, and ``"noiseKey": "sealed"``, which clients before 0.4 refuse. No value of Baileys'
has a field ``$sealed``; one that has it is not encoded.

The box is XChaCha20-Poly1305 (IETF) over the value's JSON text, with a random nonce of 24 bytes: so
many values that two nonces are ever equal cannot be written. The key is derived for each company:
HKDF-SHA256 of the key of the list, with the salt ``supabase-auth-state`` and the company_id as
info. What stands beside the box is authenticated with it: `_place`, so a box opens in its own row
only. ``docs/encryption.md`` has the format for other languages.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from typing import Any

import orjson

from supabase_auth_state.config.encryption import NO_KEYS, Keys
from supabase_auth_state.errors import SealedValueError

SEALED = "$sealed"
"""The field that a sealed value has and no other value may have."""

CREDS_REF = ("", "")
"""The place of the creds among the keys; no key has an empty type."""

_FORMAT = 1
# Clients before 0.4 take what they do not know for a value; of creds they check this key pair.
_SPOILT = "noiseKey"
_SALT = b"supabase-auth-state"
_NONCE_BYTES = 24
_TAG_BYTES = 16


def is_sealed(stored: Any) -> bool:
    """Return whether a stored JSON value is a sealed one, whole or not."""
    return type(stored) is dict and SEALED in stored


def sealed_with(stored: Any) -> str | None:
    """Return the id of the key with which a stored JSON value is sealed, None when it is plain."""
    return str(stored[SEALED])[:32] if is_sealed(stored) else None


class Sealing:
    """Seals and opens the values of one company.

    Args:
        company_id: the company.
        keys: the keys; without any, values stay plain and sealed ones are errors.

    Attributes:
        seals: the id of the key that seals, or None when values are written plain.
        opens: the ids of the keys that open.
    """

    def __init__(self, company_id: str, keys: Keys = NO_KEYS) -> None:
        self._company_id = company_id
        self.seals = keys.seals
        self._derived = {key_id: _derived(key, company_id) for key_id, key in keys.by_id.items()}
        self.opens = tuple(self._derived)

    def __repr__(self) -> str:
        return f"Sealing({self._company_id!r}, seals={self.seals!r}, opens={self.opens!r})"

    def seal_text(self, ref: tuple[str, str], text: bytes) -> bytes:
        """Return the JSON text to store for a value.

        Args:
            ref: key type and id, or `CREDS_REF`.
            text: the value's JSON text.
        """
        if self.seals is None:
            return text
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

        device = _device(text) if ref == CREDS_REF else None
        place = self._place(ref, self.seals, device)
        nonce = os.urandom(_NONCE_BYTES)
        box = crypto_aead_xchacha20poly1305_ietf_encrypt(
            text, place, nonce, self._derived[self.seals]
        )
        envelope: dict[str, Any] = {SEALED: self.seals, "v": _FORMAT}
        if ref == CREDS_REF:
            envelope[_SPOILT] = "sealed"
        if device is not None:
            envelope["device"] = device
        envelope["box"] = b64encode(nonce + box).decode()
        return orjson.dumps(envelope)

    def seal(self, ref: tuple[str, str], stored: Any) -> Any:
        """Return the JSON value to store for a JSON value; one that is sealed stays as it is."""
        if self.seals is None or is_sealed(stored):
            return stored
        return orjson.loads(self.seal_text(ref, orjson.dumps(stored)))

    def open_text(self, ref: tuple[str, str], sealed: Any) -> bytes:
        """Return the JSON text of a sealed value.

        Args:
            ref: key type and id, or `CREDS_REF`.
            sealed: the stored JSON value.

        Raises:
            SealedValueError: there is no key of this id, or the value was not sealed with it for
                this row, or was changed.
        """
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
        from nacl.exceptions import CryptoError

        key_id = sealed[SEALED]
        key = self._derived.get(key_id) if type(key_id) is str else None
        if key is None:
            raise self._error(ref, sealed, missing=True)
        box, device = _box(sealed), sealed.get("device")
        if box is not None and (device is None or type(device) is str):
            place = self._place(ref, key_id, device)
            try:
                return crypto_aead_xchacha20poly1305_ietf_decrypt(
                    box[_NONCE_BYTES:], place, box[:_NONCE_BYTES], key
                )
            except (CryptoError, UnicodeEncodeError):
                pass
        # Raised here, so that no chain leads to frames that hold a key or a value.
        del key
        raise self._error(ref, sealed, missing=False)

    def open(self, ref: tuple[str, str], stored: Any) -> Any:
        """Return the JSON value of a stored one; a plain one is returned as it is.

        Raises:
            SealedValueError: as `open_text`.
        """
        return orjson.loads(self.open_text(ref, stored)) if is_sealed(stored) else stored

    def _place(self, ref: tuple[str, str], key_id: str, device: str | None) -> bytes:
        """Return what a box is bound to. No part can hold NUL: PostgreSQL's text has none."""
        role = "creds" if ref == CREDS_REF else "key"
        parts = ("supabase-auth-state", str(_FORMAT), role, key_id, self._company_id, *ref)
        return "\0".join((*parts, device or "")).encode()

    def _error(self, ref: tuple[str, str], sealed: Any, *, missing: bool) -> SealedValueError:
        return sealed_value_error(sealed, self._company_id, *ref, missing=missing)


def sealed_value_error(
    sealed: Any, company_id: str | None, key_type: str, key_id: str, *, missing: bool = True
) -> SealedValueError:
    """Return the error about a sealed value that is not opened.

    Args:
        sealed: the stored JSON value.
        company_id: the company, when known.
        key_type: the row's key type, or "" for creds.
        key_id: the row's id.
        missing: whether there is no key of its id; else there is, and it does not open.
    """
    return SealedValueError(
        sealed_with(sealed) or "",
        missing=missing,
        company_id=company_id,
        key_type=key_type or "creds",
        key_id=key_id or None,
    )


def _derived(key: bytes, company_id: str) -> bytes:
    """HKDF-SHA256 (RFC 5869) of one block."""
    extracted = hmac.digest(_SALT, key, hashlib.sha256)
    return hmac.digest(extracted, company_id.encode() + b"\x01", hashlib.sha256)


def _box(sealed: dict[str, Any]) -> bytes | None:
    text = sealed.get("box")
    if sealed.get("v") != _FORMAT or type(text) is not str:
        return None
    try:
        box = b64decode(text, validate=True)
    except ValueError:
        return None
    return box if len(box) >= _NONCE_BYTES + _TAG_BYTES else None


def _device(creds: bytes) -> str | None:
    """Return the hash of registrationId and public identity key, which every contact knows."""
    try:
        stored = orjson.loads(creds)
        number, identity = stored["registrationId"], stored["signedIdentityKey"]["public"]["data"]
    except (KeyError, TypeError, orjson.JSONDecodeError):
        return None
    if type(number) is not int or type(identity) is not str:
        return None
    return b64encode(hashlib.sha256(f"{number}:{identity}".encode()).digest()).decode()
