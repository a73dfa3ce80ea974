"""XEdDSA: signatures with an X25519 key pair, as Signal makes them. No I/O but a random nonce.

libsodium (through PyNaCl) computes with the secrets; this module puts its steps in order.

Source: "The XEdDSA and VXEdDSA Signature Schemes", revision 1, sections 2.3 and 3. That a verifier
finds the sign of the point in the signature is from curve25519-js 0.0.4, ``curve25519_sign``, with
which Baileys signs.
"""

from __future__ import annotations

import os
from hashlib import sha512

from nacl import bindings
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

_P = 2**255 - 19
# hash_1 of the paper: 2^256 - 1 - 1, little-endian, in front of what is hashed for the nonce.
_NONCE_PREFIX = b"\xfe" + b"\xff" * 31
_SIGN_BIT = 0x80


def clamp(private: bytes) -> bytes:
    """Return 32 bytes as an X25519 private key: a multiple of 8 with its highest bit in place."""
    scalar = bytearray(private)
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return bytes(scalar)


def sign(private: bytes, message: bytes) -> bytes:
    """Return the 64-byte signature of ``message`` by a 32-byte X25519 private key."""
    scalar = _reduced(clamp(private))
    point = bindings.crypto_scalarmult_ed25519_base_noclamp(scalar)
    if point[31] & _SIGN_BIT:
        scalar = bindings.crypto_core_ed25519_scalar_negate(scalar)
        point = _without_sign(point)
    nonce = _reduced(sha512(_NONCE_PREFIX + scalar + message + os.urandom(64)).digest())
    commitment = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = _reduced(sha512(commitment + point + message).digest())
    product = bindings.crypto_core_ed25519_scalar_mul(challenge, scalar)
    return commitment + bindings.crypto_core_ed25519_scalar_add(nonce, product)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return True if the owner of a 32-byte X25519 public key has signed ``message``."""
    if len(public) != 32 or len(signature) != 64:
        return False
    point = _edwards(public, sign=signature[63] & _SIGN_BIT)
    try:
        VerifyKey(point).verify(message, _without_sign(signature))
    except BadSignatureError:
        return False
    return True


def _edwards(public: bytes, *, sign: int) -> bytes:
    """Return the Edwards form of a Montgomery u-coordinate: y = (u - 1) / (u + 1)."""
    u = int.from_bytes(public, "little") % 2**255
    y = (u - 1) * pow(u + 1, _P - 2, _P) % _P
    encoded = bytearray(y.to_bytes(32, "little"))
    encoded[31] |= sign
    return bytes(encoded)


def _reduced(number: bytes) -> bytes:
    """Return a little-endian number modulo the order of the group."""
    return bindings.crypto_core_ed25519_scalar_reduce(number.ljust(64, b"\0"))


def _without_sign(encoded: bytes) -> bytes:
    return encoded[:-1] + bytes([encoded[-1] & ~_SIGN_BIT])
