"""The crash of the first system: Baileys' noise handler fails on creds that lost their Buffers."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.interop.account import Account
from tests.interop.node import NodeError

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTING = {"routingInfo": {"type": "Buffer", "data": "CAoIDQgF"}}
INTRO = b"ED\0\1\0\0\6" + base64.b64decode("CAoIDQgF") + b"WA"
VERSIONS = pytest.mark.parametrize("version", [7, 6])


async def frames(account: Account) -> tuple[bytes, bytes]:
    """Give the first frame of a connection and one after the handshake, made by Baileys."""
    made = await account.call("frames")
    return base64.b64decode(made["hello"]), base64.b64decode(made["login"])


@VERSIONS
async def test_noise_frames_are_made_of_creds_from_the_database(
    alice: Account, company_id: str, version: int
) -> None:
    await alice.open("supabase", company=company_id, version=version)
    hello, login = await frames(alice)
    assert hello.startswith(b"WA")
    assert int.from_bytes(login[:3], "big") == len(login) - 3


@VERSIONS
async def test_noise_frames_carry_routing_info_from_the_database(
    alice: Account, company_id: str, version: int
) -> None:
    await alice.open("supabase", company=company_id, version=version)
    await alice.call("update-creds", update=ROUTING)
    await alice.call("close")
    await alice.open("supabase", company=company_id, version=version)
    hello, _ = await frames(alice)
    assert hello.startswith(INTRO)


@VERSIONS
async def test_a_real_socket_says_hello_with_creds_from_the_database(
    alice: Account, company_id: str, version: int
) -> None:
    await alice.open("supabase", company=company_id, version=version)
    await alice.call("update-creds", update=ROUTING)
    await alice.call("close")
    await alice.open("supabase", company=company_id, version=version)
    hello = base64.b64decode(await alice.call("connect"))
    assert hello.startswith(INTRO)


LIST_1 = r'"list\[1\]" argument must be an instance of Buffer'
SIZE = r'The value of "size" is out of range\. It must be .* Received NaN'


@pytest.mark.parametrize(
    ("version", "update", "error", "message"),
    [
        (7, {}, "TypeError", LIST_1),
        (6, {}, "TypeError", LIST_1),
        (7, ROUTING, "RangeError", SIZE),
        (6, ROUTING, "TypeError", LIST_1),
    ],
)
async def test_noise_handler_crashes_on_creds_stored_without_buffer_json(
    alice: Account,
    company_id: str,
    version: int,
    update: dict[str, Any],
    error: str,
    message: str,
) -> None:
    await alice.open("plain-json", company=company_id, version=version)
    await alice.call("update-creds", update=update)
    await alice.call("close")
    await alice.open("plain-json", company=company_id, version=version)
    with pytest.raises(NodeError, match=message) as crash:
        await alice.call("frames")
    assert crash.value.name == error


@pytest.mark.parametrize(("version", "message"), [(7, SIZE), (6, LIST_1)])
async def test_a_real_socket_crashes_on_creds_stored_without_buffer_json(
    alice: Account, company_id: str, version: int, message: str
) -> None:
    await alice.open("plain-json", company=company_id, version=version)
    await alice.call("update-creds", update=ROUTING)
    await alice.call("close")
    await alice.open("plain-json", company=company_id, version=version)
    with pytest.raises(NodeError, match=message):
        await alice.call("connect")


@pytest.mark.parametrize(
    ("version", "field", "error", "message"),
    [
        (7, "noiseKey", "TypeError", LIST_1),
        (6, "noiseKey", "TypeError", LIST_1),
        (7, "routingInfo", "RangeError", SIZE),
        (6, "routingInfo", "TypeError", LIST_1),
    ],
)
async def test_one_field_that_lost_its_buffer_is_enough(
    alice: Account, company_id: str, version: int, field: str, error: str, message: str
) -> None:
    await alice.open("supabase", company=company_id, version=version)
    await alice.call("update-creds", update=ROUTING)
    with pytest.raises(NodeError, match=message) as crash:
        await alice.call("frames", plain=[field])
    assert crash.value.name == error
