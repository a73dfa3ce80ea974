"""Which requests imports and their like make: upserts and rpc, in which order, under the lease."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from postgrest import AsyncPostgrestClient

from devstack import Stack
from supabase_auth_state import (
    Rest,
    delete_company,
    diagnose,
    export_folder,
    import_folder,
    open_rest,
    purge_files,
    repair,
    restore_backup,
    use_auth_state,
    verify_folder,
)
from supabase_auth_state.config import FLAG_VARIABLE
from supabase_auth_state.doctor.pre_keys import pre_key_report
from tests.folders import sample_folder

Requests = list[httpx.Request]


@pytest.fixture
async def requests() -> Requests:
    """What has been sent."""
    return []


@pytest.fixture
async def seen(stack: Stack, requests: Requests) -> AsyncIterator[Rest]:
    """A `Rest` whose requests are seen."""

    async def note(request: httpx.Request) -> None:
        requests.append(request)

    headers = {
        "apikey": stack.service_role_key,
        "Authorization": f"Bearer {stack.service_role_key}",
    }
    async with httpx.AsyncClient(
        base_url=f"{stack.url}/rest/v1", headers=headers, event_hooks={"request": [note]}
    ) as session:
        client = AsyncPostgrestClient(f"{stack.url}/rest/v1", headers=headers, http_client=session)
        yield open_rest(client=client)


def names(requests: Requests) -> list[str]:
    """Give tables and functions in the order in which they were asked."""
    return [request.url.path.rpartition("/")[2] for request in requests]


WRITES = {"whatsapp_keys", "whatsapp_auth", "replace_whatsapp_state", "delete_whatsapp_company"}


async def test_a_new_company_is_upserts_of_a_hundred_rows_and_the_creds_at_the_end(
    tmp_path: Path, seen: Rest, requests: Requests, company_id: str
) -> None:
    await import_folder(sample_folder("v7-337", tmp_path), company_id, client=seen)
    assert names(requests) == [
        "acquire_whatsapp_lease",
        "list_whatsapp_company",
        "whatsapp_companies_of_device",
        *["whatsapp_keys"] * 4,
        "whatsapp_auth",
        "list_whatsapp_company",
        "release_whatsapp_lease",
    ]
    for request in requests:
        if names([request])[0] in WRITES:
            assert request.method == "POST"
            assert "resolution=merge-duplicates" in request.headers["prefer"]
            assert request.url.params["on_conflict"].startswith("company_id")
            assert request.headers["x-whatsapp-lease"] == "1"


async def test_nothing_is_decided_by_a_get_which_a_replica_may_answer(
    tmp_path: Path,
    seen: Rest,
    requests: Requests,
    company_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FLAG_VARIABLE, "false")
    folder = sample_folder("v7-small", tmp_path)
    await import_folder(folder, company_id, client=seen)
    await import_folder(folder, company_id, client=seen, dry_run=True)
    await verify_folder(folder, company_id, client=seen)
    await purge_files(folder, company_id, client=seen)
    await export_folder(tmp_path / "out", company_id, client=seen)
    await diagnose(seen, company_id)
    await repair(seen, company_id, backup_folder=tmp_path)
    await pre_key_report(seen, company_id)
    await use_auth_state(company_id, folder=folder, client=seen)
    deleted = await delete_company(company_id, client=seen, backup_dir=tmp_path)
    await restore_backup(deleted.backup, company_id, client=seen)
    assert {request.method for request in requests} == {"POST"}
    assert len(requests) > 30


async def test_a_company_with_creds_is_replaced_by_one_request(
    tmp_path: Path, seen: Rest, requests: Requests, company_id: str
) -> None:
    folder = sample_folder("v7-small", tmp_path)
    await import_folder(folder, company_id, client=seen)
    (folder / "device-list-15550101000.json").write_text('["0","7"]')
    (folder / "device-list-15550109999.json").write_text('["0"]')
    (folder / "device-list-15550100001.json").unlink()
    requests.clear()
    report = await import_folder(folder, company_id, client=seen, force=True, quiet_for=0)
    assert (report.added, report.replaced, report.removed) == (1, 1, 1)
    assert [name for name in names(requests) if name in WRITES] == ["replace_whatsapp_state"]
