"""A second event loop, and a fork: connections are made anew, and no company is shared."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from devstack import Stack

PROGRAM = """
import asyncio, multiprocessing, os, sys
from supabase_auth_state import ConfigurationError, Settings, open_rest, use_supabase_auth_state

# Without a retry, so that a connection that no longer works is seen.
url, key = os.environ["SUPABASE_URL"], os.environ["KEY"]
rest = open_rest(Settings(url, key, timeout=30, give_up_after=0))
company_id = sys.argv[1]


async def own():
    auth = await use_supabase_auth_state(company_id, client=rest, lease=True)
    if sys.argv[3] == "used":
        await auth.keys.set({"device-list": {"1": ["0"]}})
        assert await auth.keys.get("device-list", ["1"]) == {"1": ["0"]}
    return auth


async def write_and_read(auth):
    writing = auth.keys.set({"device-list": {"1": ["1"]}})
    for attempt in writing, auth.keys.get("device-list", ["1"]):
        try:
            print("not refused:", await attempt)
        except ConfigurationError as error:
            print(error)


async def tell_owned():
    print("owned:", (await rest.about("whatsapp_lease_status", company_id))["live"])


async def close(auth):
    await auth.close()
    await rest.close()


def second_loop():
    auth = asyncio.run(own())
    asyncio.run(write_and_read(auth))
    asyncio.run(auth.close())
    asyncio.run(tell_owned())
    asyncio.run(write_and_read(asyncio.run(open_again())))
    asyncio.run(close(asyncio.run(open_again())))


async def open_again():
    return await use_supabase_auth_state(company_id, client=rest)


async def child_process():
    # The idle connection of this process is not closed by what the other one opens.
    assert (await rest.about("whatsapp_lease_status", company_id))["token"] == 0
    process = multiprocessing.get_context("fork").Process(target=in_child)
    process.start()
    await asyncio.to_thread(process.join)
    assert process.exitcode == 0
    assert (await rest.about("whatsapp_lease_status", company_id))["token"] == 1
    await rest.close()


def in_child():
    async def write():
        await (await own()).close()
        print("written in the child")

    asyncio.run(write())


async def fork():
    auth = await own()
    if os.fork() == 0:
        try:
            await write_and_read(auth)
            await auth.close()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.wait()
    await tell_owned()
    await auth.keys.set({"device-list": {"1": ["2"]}})
    async with use_supabase_auth_state(company_id, client=rest) as reader:
        assert await reader.keys.get("device-list", ["1"]) == {"1": ["2"]}
    await close(auth)


{
    "second_loop": second_loop,
    "fork": lambda: asyncio.run(fork()),
    "child_process": lambda: asyncio.run(child_process()),
}[sys.argv[2]]()
"""


@pytest.mark.parametrize("before", ["used", "only opened"])
@pytest.mark.parametrize(
    ("case", "reason"),
    [("second_loop", "in another event loop"), ("fork", "before this process was forked")],
)
def test_connections_are_made_anew_and_an_open_company_is_refused(
    stack: Stack, company_id: str, case: str, reason: str, before: str
) -> None:
    refusal = f"company {company_id!r} was opened {reason}: open it again in this one\n"
    # A company that another process owns is left to it; one of another loop's is given back.
    said = {
        "second_loop": f"{refusal * 2}owned: False\n{refusal * 2}",
        "fork": f"{refusal * 2}owned: True\n",
    }
    assert run(stack, company_id, case, before) == (said[case], "", 0)


def test_a_forked_process_opens_connections_of_its_own_and_harms_none_of_the_other(
    stack: Stack, company_id: str
) -> None:
    assert run(stack, company_id, "child_process", "used") == ("written in the child\n", "", 0)


def run(stack: Stack, company_id: str, *case: str) -> tuple[str, str, int]:
    env = {**os.environ, "SUPABASE_URL": stack.url, "KEY": stack.service_role_key}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, company_id, *case],
        check=False,
        capture_output=True,
        text=True,
        env=env,
        timeout=60,
    )
    return ran.stdout, ran.stderr, ran.returncode
