from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from supabase_auth_state.clients.base import ClientKeys, CredsSaver, require_family
from supabase_auth_state.errors import FamilyMismatch, StoreUnavailable
from supabase_auth_state.types import Creds, SignalDataSet

SECRET = "a very private key"


class Auth:
    """As much of an auth state as a saver needs: creds, and a store that can fail or be slow."""

    company_id = "962302"
    family = "baileys"

    def __init__(self) -> None:
        self.creds: Creds = {"nextPreKeyId": 1}
        self.saved: list[Creds] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def save_creds(self) -> None:
        creds = dict(self.creds)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.saved.append(creds)


@pytest.fixture
def auth() -> Auth:
    return Auth()


@pytest.fixture
def live() -> Creds:
    return {"nextPreKeyId": 1, "advSecretKey": SECRET}


@pytest.fixture
def saver(auth: Auth, live: Creds) -> CredsSaver:
    return CredsSaver(cast(Any, auth), following(live))


def following(live: Creds) -> Callable[[Creds], None]:
    return lambda stored: stored.update(live)


async def test_saving_brings_the_stored_creds_up_to_the_live_ones(
    saver: CredsSaver, auth: Auth, live: Creds
) -> None:
    live["nextPreKeyId"] = 6
    await saver.save()
    assert auth.saved == [live]


async def test_updates_that_come_during_a_save_are_saved_together_after_it(
    saver: CredsSaver, auth: Auth, live: Creds
) -> None:
    auth.gate.clear()
    for number in range(1, 4):
        live["nextPreKeyId"] = number
        saver.save_soon()
        await asyncio.sleep(0)
    auth.gate.set()
    await saver.flush()
    assert [creds["nextPreKeyId"] for creds in auth.saved] == [1, 3]


async def test_a_save_in_the_background_that_fails_is_logged_and_raised_by_flush(
    saver: CredsSaver, auth: Auth, live: Creds, caplog: pytest.LogCaptureFixture
) -> None:
    auth.failure = StoreUnavailable("no answer")
    await saver.try_to_save()
    assert "962302" in caplog.text
    assert "no answer" in caplog.text
    assert SECRET not in caplog.text
    with pytest.raises(StoreUnavailable):
        await saver.flush()
    auth.failure = None
    await saver.flush()
    assert auth.saved == [live]
    await saver.flush()
    assert auth.saved == [live]


async def test_the_counters_are_durable_before_new_pre_keys_are() -> None:
    order: list[object] = []

    class Store:
        async def get(self, type: str, ids: Any) -> dict[str, Any]:
            return {}

        async def set(self, data: SignalDataSet) -> None:
            order.append(data)

        async def clear(self) -> None: ...

    async def reserve(next_id: int) -> None:
        order.append(next_id)

    keys = ClientKeys(Store(), reserve)
    minted = {"pre-key": {"9": {}, "10": {}, "8": {}}}
    used = {"pre-key": {"7": None}, "session": {"a.0": {}}}
    await keys.set(minted)
    await keys.set(used)
    assert order == [11, minted, used]


def test_another_family_is_refused_by_an_error_that_names_both(auth: Auth) -> None:
    auth.family = "waton"
    with pytest.raises(FamilyMismatch, match=r"'waton'.*'pyaileys'"):
        require_family(cast(Any, auth), "pyaileys")


@pytest.mark.parametrize(("client", "package"), [("waeys", "WAeys"), ("pyaileys", "pyaileys")])
def test_without_its_client_an_adapter_names_the_extra_to_install(
    client: str, package: str
) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"import supabase_auth_state\nimport supabase_auth_state.{client}"
    )
    done = run_python(program)
    assert done.returncode == 1
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: ")
    assert f"pip install 'supabase-auth-state[{client}]'" in last_line


def test_importing_the_package_does_not_import_a_client() -> None:
    program = "import sys, supabase_auth_state; print({'WAeys', 'pyaileys'} & set(sys.modules))"
    done = run_python(program)
    assert done.stdout.strip() == "set()", done.stderr


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
