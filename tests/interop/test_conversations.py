"""Hundreds of random conversations on the rows, with restarts from the database in between."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Iterable

import pytest
from nacl import bindings
from pyaileys.crypto.curve25519_signature import curve25519_sign, curve25519_verify
from WAeys.Utils import crypto

from supabase_auth_state.codec import xeddsa
from supabase_auth_state.config import Settings
from tests.interop import fast_crypto as fast
from tests.interop.python_peer import Open, PyaileysParty, WAeysParty
from tests.interop.talk import Device, DirectTalk, End, GroupTalk, Talk
from tests.length import LENGTH

SEED = os.environ.get("CONVERSATION_SEED") or str(random.SystemRandom().randrange(10**6))
"""Set the variable to repeat a run. The keys of the clients are new each time all the same."""

TALKS = round(30 * LENGTH)
ROUNDS = 6
MOST_STEPS = 4
RESTARTS = 0.3
"""How likely a device is restarted after a round."""


def test_the_fast_crypto_is_that_of_the_clients() -> None:
    private, public = fast.generate_key_pair()
    mine, iv, text = os.urandom(32), os.urandom(16), b"a whole block..."
    signal_public = b"\x05" + public
    assert crypto.x25519_public_key(private) == public
    assert crypto.x25519_shared_key(mine, public) == bindings.crypto_scalarmult(mine, public)
    assert crypto.aes_cbc_encrypt_raw(text, mine, iv) == fast.aes_cbc_encrypt(text, mine, iv)
    assert crypto.aes_cbc_decrypt_raw(text, mine, iv) == fast.aes_cbc_decrypt(text, mine, iv)
    for verify in (crypto.curve25519_donna_verify, curve25519_verify):
        assert verify(signal_public, text, xeddsa.sign(private, text))
    for sign in (crypto.curve25519_donna_sign, curve25519_sign):
        assert fast.verify(signal_public, text, sign(private, text))


@pytest.mark.parametrize("client", [WAeysParty, PyaileysParty])
async def test_random_conversations_go_on_from_the_database(
    client: type[WAeysParty | PyaileysParty],
    settings: Settings,
    company_id: str,
) -> None:
    print(f"CONVERSATION_SEED={SEED}")  # shown when the test fails
    with fast.fast_crypto():
        await converse(settings, client.open, company_id, SEED)


async def converse(settings: Settings, open_party: Open, company_id: str, seed: str) -> None:
    """Hold many conversations at once between two people who have two devices each."""
    rng = random.Random(seed)
    devices = [Device(settings, open_party, f"{company_id}-{number}") for number in range(4)]
    await together(device.open() for device in devices)
    talks = [
        make_talk(random.Random(f"{seed} {number}"), number, devices) for number in range(TALKS)
    ]
    for _ in range(ROUNDS):
        await together(some_steps(talk) for talk in talks)
        await together(device.restart() for device in devices if rng.random() < RESTARTS)
    await together(talk.finish() for talk in talks)
    await together(device.close() for device in devices)


def make_talk(rng: random.Random, number: int, devices: list[Device]) -> Talk:
    ends = (
        End(f"1555300{number:04}", devices[0], [devices[1]]),
        End(f"1555400{number:04}", devices[2], [devices[3]]),
    )
    if number % 10 == 0:
        return GroupTalk(rng, ends, f"1203630000000{number:05}@g.us")
    return DirectTalk(rng, ends)


async def some_steps(talk: Talk) -> None:
    for _ in range(talk.rng.randint(0, MOST_STEPS)):
        await talk.step()


async def together(work: Iterable[Awaitable[None]]) -> None:
    """Await everything to its end, and only then raise what failed first."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
