from __future__ import annotations

import base64
import json

import pytest
from nacl.bindings import crypto_scalarmult_base

from supabase_auth_state.codec import check_creds, decode_creds, encode_creds, xeddsa
from supabase_auth_state.codec.creds import init_auth_creds, verify_signed_pre_key
from tests.values import BAILEYS, same


def sample(folder: str) -> dict[str, object]:
    document = json.loads((BAILEYS / folder / "creds.json").read_text())
    return decode_creds(document, company_id="c")


def test_fresh_creds_have_the_fields_of_baileys_in_its_order() -> None:
    creds = init_auth_creds()
    assert list(creds) == [
        "noiseKey",
        "pairingEphemeralKeyPair",
        "signedIdentityKey",
        "signedPreKey",
        "registrationId",
        "advSecretKey",
        "processedHistoryMessages",
        "nextPreKeyId",
        "firstUnuploadedPreKeyId",
        "accountSyncCounter",
        "accountSettings",
        "registered",
    ]
    assert creds["processedHistoryMessages"] == []
    assert (creds["nextPreKeyId"], creds["firstUnuploadedPreKeyId"]) == (1, 1)
    assert creds["accountSyncCounter"] == 0
    assert creds["accountSettings"] == {"unarchiveChats": False}
    assert creds["registered"] is False
    assert creds["signedPreKey"]["keyId"] == 1
    assert len(base64.b64decode(creds["advSecretKey"], validate=True)) == 32


def test_fresh_creds_are_whole_and_can_be_stored() -> None:
    creds = init_auth_creds()
    check_creds(creds, company_id="c")
    assert same(decode_creds(encode_creds(creds, company_id="c"), company_id="c"), creds)


def test_registration_ids_are_of_14_bits() -> None:
    ids = {init_auth_creds()["registrationId"] for _ in range(64)}
    assert all(0 <= number < 2**14 for number in ids)
    assert len(ids) > 32


def test_every_public_key_belongs_to_its_clamped_private_key() -> None:
    creds = init_auth_creds()
    pairs = [
        creds["noiseKey"],
        creds["pairingEphemeralKeyPair"],
        creds["signedIdentityKey"],
        creds["signedPreKey"]["keyPair"],
    ]
    for pair in pairs:
        assert list(pair) == ["private", "public"]
        assert crypto_scalarmult_base(pair["private"]) == pair["public"]
        assert xeddsa.clamp(pair["private"]) == pair["private"]
    assert len({pair["private"] for pair in pairs}) == 4


def test_the_identity_key_signs_the_pre_key() -> None:
    for _ in range(32):
        assert verify_signed_pre_key(init_auth_creds())


@pytest.mark.parametrize("folder", ["v7-small", "v7-337", "v6-small"])
def test_creds_made_by_baileys_verify(folder: str) -> None:
    assert verify_signed_pre_key(sample(folder))


def test_creds_with_another_identity_or_pre_key_do_not_verify() -> None:
    for name in ("signedIdentityKey", "signedPreKey"):
        creds = init_auth_creds()
        creds[name] = init_auth_creds()[name]
        assert not verify_signed_pre_key(creds)


@pytest.mark.parametrize("name", ["signedIdentityKey", "signedPreKey"])
@pytest.mark.parametrize("value", [None, {}, "text", []])
def test_creds_that_are_not_whole_do_not_verify(name: str, value: object) -> None:
    assert not verify_signed_pre_key(init_auth_creds() | {name: value})


def test_a_signature_holds_for_its_message_key_and_every_bit_alone() -> None:
    private = xeddsa.clamp(bytes(range(32)))
    public = crypto_scalarmult_base(private)
    signature = xeddsa.sign(private, b"message")
    assert xeddsa.verify(public, b"message", signature)
    assert not xeddsa.verify(public, b"massage", signature)
    assert not xeddsa.verify(crypto_scalarmult_base(bytes(32)), b"message", signature)
    for bit in range(512):
        broken = bytearray(signature)
        broken[bit // 8] ^= 1 << bit % 8
        assert not xeddsa.verify(public, b"message", bytes(broken))


def test_no_two_signatures_share_a_nonce() -> None:
    private = xeddsa.clamp(bytes(range(32)))
    assert xeddsa.sign(private, b"message")[:32] != xeddsa.sign(private, b"message")[:32]


@pytest.mark.parametrize(
    "public", [b"", bytes(31), bytes(32), bytes(33), (2**255 - 20).to_bytes(32, "little")]
)
def test_what_is_no_public_key_verifies_nothing(public: bytes) -> None:
    assert not xeddsa.verify(public, b"message", bytes(64))
    assert not xeddsa.verify(public, b"message", b"")
