"""The creds of a new account, as Baileys makes them.

Source: Baileys 7.0.0-rc14, ``src/Utils/auth-utils.ts``, ``initAuthCreds``, and
``src/Utils/crypto.ts``, ``signedKeyPair``.
"""

from __future__ import annotations

import os

from nacl.bindings import crypto_scalarmult_base

from supabase_auth_state.types import Creds

from . import xeddsa
from .bufferjson import to_base64

# In front of an X25519 public key wherever Signal signs or sends one.
_KEY_TYPE = b"\x05"
_REGISTRATION_ID_BITS = 14


def init_auth_creds() -> Creds:
    """Return fresh creds: Baileys' fields in Baileys' order, ``bytes`` for key material.

    Fields that are ``undefined`` in Baileys (``pairingCode``, ``lastPropHash``, ``routingInfo``,
    ``additionalData``) are absent. ``me`` and ``account`` come with pairing.
    """
    identity = _key_pair()
    return {
        "noiseKey": _key_pair(),
        "pairingEphemeralKeyPair": _key_pair(),
        "signedIdentityKey": identity,
        "signedPreKey": _signed_key_pair(identity, key_id=1),
        "registrationId": int.from_bytes(os.urandom(2), "little") % 2**_REGISTRATION_ID_BITS,
        "advSecretKey": to_base64(os.urandom(32)),
        "processedHistoryMessages": [],
        "nextPreKeyId": 1,
        "firstUnuploadedPreKeyId": 1,
        "accountSyncCounter": 0,
        "accountSettings": {"unarchiveChats": False},
        "registered": False,
    }


def verify_signed_pre_key(creds: Creds) -> bool:
    """Return True if the identity key of ``creds`` has signed its pre-key.

    Creds that are not whole (``codec.check_creds``) do not verify.
    """
    try:
        identity = creds["signedIdentityKey"]["public"]
        signed = creds["signedPreKey"]
        return xeddsa.verify(identity, _KEY_TYPE + signed["keyPair"]["public"], signed["signature"])
    except (KeyError, TypeError):
        return False


def _key_pair() -> dict[str, bytes]:
    # Clamped as Node does it, for clients that do not clamp by themselves.
    private = xeddsa.clamp(os.urandom(32))
    return {"private": private, "public": crypto_scalarmult_base(private)}


def _signed_key_pair(identity: dict[str, bytes], key_id: int) -> dict[str, object]:
    pair = _key_pair()
    signature = xeddsa.sign(identity["private"], _KEY_TYPE + pair["public"])
    return {"keyPair": pair, "signature": signature, "keyId": key_id}
