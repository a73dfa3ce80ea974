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

    def __init__(self, log: list[object]) -> None:
        self.creds: Creds = {"nextPreKeyId": 1}
        self.saved: list[Creds] = []
        self._log = log
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def save_creds(self) -> None:
        creds = dict(self.creds)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.saved.append(creds)
        self._log.append({"nextPreKeyId": creds["nextPreKeyId"]})


class Store:
    """A key store that keeps the ids of pre-keys, can fail, and can be slow."""

    def __init__(self, log: list[object]) -> None:
        self.rows: set[str] = set()
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.written = asyncio.Event()
        self._log = log

    async def get(self, type: str, ids: Any) -> dict[str, Any]:
        return {}

    async def set(self, data: SignalDataSet) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self._log.append(data)
        self.rows.update(data.get("pre-key", {}))
        self.written.set()

    async def clear(self) -> None: ...


@pytest.fixture
def log() -> list[object]:
    """What was stored, in order: sets, and creds as far as they count pre-keys."""
    return []


@pytest.fixture
def auth(log: list[object]) -> Auth:
    return Auth(log)


@pytest.fixture
def store(log: list[object]) -> Store:
    return Store(log)


@pytest.fixture
def live() -> Creds:
    return {"nextPreKeyId": 1, "advSecretKey": SECRET}


class Adapter:
    """Keys and creds of a client, connected as the adapters do it."""

    def __init__(self, store: Store, auth: Auth, live: Creds) -> None:
        self._live = live
        self.keys = ClientKeys(store, self._count)
        self.saver = CredsSaver(cast(Any, auth), following(live), self.keys)

    async def _count(self, next_id: int) -> None:
        self._live["nextPreKeyId"] = max(next_id, self._live["nextPreKeyId"])
        await self.saver.save()


@pytest.fixture
def adapter(store: Store, auth: Auth, live: Creds) -> Adapter:
    return Adapter(store, auth, live)


@pytest.fixture
def keys(adapter: Adapter) -> ClientKeys:
    return adapter.keys


@pytest.fixture
def saver(adapter: Adapter) -> CredsSaver:
    return adapter.saver


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


def pre_keys(*ids: int) -> SignalDataSet:
    return {"pre-key": {str(key_id): {"private": SECRET} for key_id in ids}}


async def test_new_pre_keys_are_stored_before_the_creds_that_count_them(
    keys: ClientKeys, auth: Auth, store: Store, log: list[object]
) -> None:
    await keys.set(pre_keys(9, 10, 8))
    assert log == [pre_keys(9, 10, 8), {"nextPreKeyId": 11}]


async def test_only_new_pre_keys_are_counted(keys: ClientKeys, log: list[object]) -> None:
    used = {"pre-key": {"7": None}, "session": {"a.0": {}}}
    await keys.set(used)
    await keys.set({"pre-key": {"not a number": {}}})
    assert log == [used, {"pre-key": {"not a number": {}}}]


async def test_a_set_returns_after_the_counters_are_stored_and_fails_with_them(
    keys: ClientKeys, auth: Auth, store: Store
) -> None:
    auth.failure = StoreUnavailable("no answer")
    with pytest.raises(StoreUnavailable):
        await keys.set(pre_keys(1, 2))
    assert store.rows == {"1", "2"}
    auth.failure = None
    auth.gate.clear()
    setting = asyncio.create_task(keys.set(pre_keys(3)))
    await store.written.wait()
    await asyncio.sleep(0)
    assert not setting.done()
    auth.gate.set()
    await setting
    assert auth.saved[-1]["nextPreKeyId"] == 4


async def test_creds_saved_while_pre_keys_are_on_their_way_do_not_count_them(
    keys: ClientKeys, saver: CredsSaver, auth: Auth, live: Creds, store: Store
) -> None:
    """As when a client emits ``creds.update`` inside the transaction that makes the pre-keys."""
    store.gate.clear()
    async with keys.transaction("upload"):
        await keys.set(pre_keys(1, 2, 3))
        live.update(nextPreKeyId=4, firstUnuploadedPreKeyId=4)
        await saver.save()
        assert auth.saved[-1] == {**live, "nextPreKeyId": 1, "firstUnuploadedPreKeyId": 1}
        store.gate.set()
    assert auth.saved[-1] == live
    assert live["nextPreKeyId"] == 4


@pytest.mark.parametrize("how", ["commit", "block"])
async def test_pre_keys_that_could_not_be_stored_are_never_counted(
    keys: ClientKeys, saver: CredsSaver, auth: Auth, live: Creds, store: Store, how: str
) -> None:
    async def upload() -> None:
        async with keys.transaction("upload"):
            await keys.set(pre_keys(1, 2, 3))
            live["nextPreKeyId"] = 4
            if how == "block":
                raise StoreUnavailable("no answer")

    store.failure = StoreUnavailable("no answer") if how == "commit" else None
    with pytest.raises(StoreUnavailable):
        await upload()
    store.failure = None
    await saver.save()
    assert auth.saved[-1]["nextPreKeyId"] == 1
    await keys.set(pre_keys(4, 5))
    assert auth.saved[-1]["nextPreKeyId"] == 6
    assert keys.first_not_stored is None


async def test_fewer_pre_keys_at_the_second_try_leave_the_others_uncounted(
    keys: ClientKeys, saver: CredsSaver, auth: Auth, live: Creds, store: Store
) -> None:
    store.failure = StoreUnavailable("no answer")
    with pytest.raises(StoreUnavailable):
        await keys.set(pre_keys(1, 2, 3))
    store.failure = None
    await keys.set(pre_keys(1))
    live["nextPreKeyId"] = 4
    await saver.save()
    assert auth.saved[-1]["nextPreKeyId"] == 2


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
