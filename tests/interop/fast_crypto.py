"""The same cryptography, a hundred times faster than the pure Python of WAeys and pyaileys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from nacl import bindings
from pyaileys.crypto import curve
from WAeys.Signal import libsignal_curve
from WAeys.Signal.Group import sender_key_message
from WAeys.Utils import crypto
from WAeys.Utils.logger import ILogger

from supabase_auth_state.codec import xeddsa


@contextmanager
def fast_crypto() -> Iterator[None]:
    """Let libsodium and OpenSSL do the arithmetic of both clients, and WAeys print nothing."""
    with ExitStack() as patches:
        for owner, name, fast in _REPLACED:
            patches.enter_context(patch.object(owner, name, fast))
        yield


def generate_key_pair() -> tuple[bytes, bytes]:
    private = os.urandom(32)
    return private, bindings.crypto_scalarmult_base(private)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    return xeddsa.verify(public[-32:], message, signature)


def aes_cbc_encrypt(data: bytes, key: bytes, iv: bytes) -> bytes:
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def aes_cbc_decrypt(data: bytes, key: bytes, iv: bytes) -> bytes:
    decryptor = Cipher(AES(key), CBC(iv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def _silent(*_args: object) -> None: ...


_REPLACED = (
    (libsignal_curve, "x25519_generate_key_pair", generate_key_pair),
    (libsignal_curve, "x25519_shared_key", bindings.crypto_scalarmult),
    (crypto, "x25519_generate_key_pair", generate_key_pair),
    (crypto, "aes_cbc_encrypt_raw", aes_cbc_encrypt),
    (crypto, "aes_cbc_decrypt_raw", aes_cbc_decrypt),
    (sender_key_message, "curve25519_donna_sign", xeddsa.sign),
    (sender_key_message, "curve25519_donna_verify", verify),
    (curve, "curve25519_sign", xeddsa.sign),
    (curve, "curve25519_verify", verify),
    (ILogger, "_emit", _silent),
)
