"""The checker convicts stores that break a promise, by schedules that the real store stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from devstack import Stack
from faults.recorder import KEYS, Client, PythonClient
from faults.schedule import Calm, Disturb, Do, Finish, Land, Step, play
from supabase_auth_state import AuthState, Rest, Settings
from supabase_auth_state.leases.seals import sealing_for
from supabase_auth_state.rest.client import using_rest
from tests.sealing import K1


class Broken:
    """A key store in front of the real one; each kind breaks one promise."""

    def __init__(self, keys: Any, stack: Stack, company_id: str) -> None:
        self._keys = keys
        self._stack = stack
        self._company_id = company_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keys, name)


class AcknowledgesEarly(Broken):
    """Returns from `set` before the database has answered."""

    async def set(self, data: Mapping[str, Any]) -> None:
        self._writing = asyncio.ensure_future(self._keys.set(data))
        self._writing.add_done_callback(lambda task: task.exception())
        await asyncio.sleep(0)


class RetriesWithoutNumbers(Broken):
    """Sends a plain upsert until it is answered; a copy that is late is like any other."""

    async def set(self, data: Mapping[str, Any]) -> None:
        sealing = await sealing_for(self._keys._rest, self._company_id)
        rows = [
            {
                "company_id": self._company_id, "key_type": key_type, "key_id": key_id,
                "value": sealing.seal((key_type, key_id), value),
            }
            for key_type, by_id in data.items()
            for key_id, value in by_id.items()
        ]  # fmt: skip
        key = self._stack.service_role_key
        headers = {
            "apikey": key,
            "authorization": f"Bearer {key}",
            "prefer": "resolution=merge-duplicates,return=minimal",
            "x-whatsapp-opens": ",".join(sealing.opens),
        }
        url = f"{self._keys._rest._connection.url}/whatsapp_keys"
        async with httpx.AsyncClient(timeout=5) as client:
            while True:
                try:
                    (await client.post(url, json=rows, headers=headers)).raise_for_status()
                except httpx.TransportError:
                    continue
                return


class DropsDeletes(Broken):
    """Stores values and leaves those that are to be deleted."""

    async def set(self, data: Mapping[str, Any]) -> None:
        kept = {
            key_type: {key_id: value for key_id, value in by_id.items() if value is not None}
            for key_type, by_id in data.items()
        }
        await self._keys.set(kept)


CASES: list[tuple[type[Broken], Sequence[Step], str]] = [
    (
        AcknowledgesEarly,
        [Disturb(0, "a write", "dropped", None), Do(0, "set"), Do(0, "get"), Calm(0)],
        "can be 2",
    ),
    (
        RetriesWithoutNumbers,
        [
            Disturb(0, "a write", "held"), Do(0, "set"), Finish(0), Do(0, "set"), Finish(0),
            Land(0),
        ],
        "can be 3",
    ),
    (DropsDeletes, [Do(0, "set", KEYS), Finish(0), Do(0, "delete"), Finish(0)], "can be None"),
]  # fmt: skip
IDS = [broken.__name__ for broken, _, _ in CASES]


class BrokenClient(PythonClient):
    """Opens companies with a broken store in front of the real one."""

    def __init__(self, rest: Rest, broken: type[Broken], stack: Stack) -> None:
        super().__init__(rest)
        self._broken = broken
        self._stack = stack

    async def open(self, company_id: str, **options: Any) -> AuthState:
        auth = await super().open(company_id, **options)
        auth.keys = self._broken(auth.keys, self._stack, company_id)  # type: ignore[assignment]
        return auth


def played(
    stack: Stack,
    steps: Sequence[Step],
    broken: type[Broken] | None,
    encryption: str | None = None,
) -> str | None:
    @asynccontextmanager
    async def make(settings: Settings) -> AsyncIterator[Client]:
        async with using_rest(settings) as rest:
            yield PythonClient(rest) if broken is None else BrokenClient(rest, broken, stack)

    return asyncio.run(
        play(stack, steps, lease=False, patience=20, make=make, encryption=encryption)
    )


@pytest.mark.parametrize("encryption", [None, K1], ids=["plain", "sealed"])
@pytest.mark.parametrize(("broken", "steps", "said"), CASES, ids=IDS)
def test_a_store_that_breaks_a_promise_is_convicted(
    stack: Stack, broken: type[Broken], steps: Sequence[Step], said: str, encryption: str | None
) -> None:
    problem = played(stack, steps, broken, encryption)
    assert problem is not None
    assert said in problem.splitlines()[0]


@pytest.mark.parametrize("encryption", [None, K1], ids=["plain", "sealed"])
@pytest.mark.parametrize(("broken", "steps", "said"), CASES, ids=IDS)
def test_the_real_store_stands_the_same(
    stack: Stack, broken: type[Broken], steps: Sequence[Step], said: str, encryption: str | None
) -> None:
    assert played(stack, steps, None, encryption) is None
