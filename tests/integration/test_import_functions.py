"""What imports and exports call in the database, for itself."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from supabase_auth_state import InvalidRequest, LeaseLost, Rest
from supabase_auth_state.files.names import KeyRef
from supabase_auth_state.leases.lease import acquire_lease
from supabase_auth_state.transfer.company import Batch, CompanyWriter, batches, read_company
from supabase_auth_state.transfer.documents import CREDS, Document

TIME = 1760000000.123456
ODD = ["", " ", "a\tb", "\\", '"', "\n", "\r\n", "ä\u2028é", "🦊", "null", "[1]"]


def key(key_id: str, value: Any, key_type: str = "device-list", time: float = TIME) -> Document:
    return Document(KeyRef(key_type, key_id), value, time)


@pytest.fixture
async def writer(rest: Rest, company_id: str) -> Any:
    lease = await acquire_lease(rest, company_id)
    yield CompanyWriter(rest, lease)
    await lease.release()


async def put(writer: CompanyWriter, *documents: Document, creds: Document | None = None) -> None:
    for batch in batches(documents):
        await writer.put(batch, creds)


async def test_values_and_ids_of_any_characters_come_back_with_their_times(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    stored = [key(f"{odd}.", {"text": odd, "list": [odd]}) for odd in ODD]
    stored += [key(f"{odd}.", odd, "lid-mapping", TIME + 60) for odd in ODD]
    await put(writer, *stored, creds=Document(CREDS, {"a": ODD}, TIME + 1))
    company = await read_company(rest, company_id)
    assert company.documents == {
        **{document.ref: document for document in stored},
        CREDS: Document(CREDS, {"a": ODD}, TIME + 1),
    }


async def test_a_second_batch_replaces_values_times_and_creds(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    await put(writer, key("1", ["0"]), key("2", ["0"]), creds=Document(CREDS, {"a": 1}, TIME))
    await put(writer, key("2", ["7"], time=TIME + 5), creds=Document(CREDS, {"a": 2}, TIME + 9))
    documents = (await read_company(rest, company_id)).documents
    assert list(documents.values()) == [
        key("1", ["0"]), key("2", ["7"], time=TIME + 5), Document(CREDS, {"a": 2}, TIME + 9)
    ]  # fmt: skip


async def test_creds_may_come_alone(rest: Rest, company_id: str, writer: CompanyWriter) -> None:
    await writer.put(Batch(), Document(CREDS, {"a": 1}, TIME))
    assert list((await read_company(rest, company_id)).documents) == [CREDS]


async def test_mappings_get_their_seven_days_from_now(
    company_id: str, writer: CompanyWriter, db: psycopg.Connection[Any]
) -> None:
    await put(writer, key("1", "2", "lid-mapping"), key("1", {}, "session"))
    found = db.execute(
        "select key_type, round(extract(epoch from expires_at - now()) / 86400) "
        "from whatsapp_keys where company_id = %s order by key_type",
        [company_id],
    ).fetchall()
    assert found == [("lid-mapping", 7), ("session", None)]


@pytest.mark.parametrize("lines", [[], ["[]"], ["[]", "[]", "[]"]])
async def test_lines_that_do_not_go_with_the_keys_store_and_delete_nothing(
    rest: Rest, company_id: str, writer: CompanyWriter, lines: list[str]
) -> None:
    await put(writer, key("1", ["0"]), key("2", ["0"]))
    head = {"company_id": company_id, "keys": [["device-list", str(n), TIME] for n in (1, 2)]}
    body = "\n".join([json.dumps(head), *lines]).encode()
    headers = writer._lease.headers
    with pytest.raises(InvalidRequest) as raised:
        await rest.rpc_text("import_whatsapp_state", body, headers=headers)
    assert raised.value.code == "22023"
    assert len((await read_company(rest, company_id)).documents) == 2


async def test_one_value_that_is_refused_takes_its_batch_with_it(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    with pytest.raises(InvalidRequest):
        await put(writer, key("1", ["0"]), key("2", ["\0"]))
    assert (await read_company(rest, company_id)).documents == {}


async def test_who_lost_the_company_writes_nothing(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    await rest.rpc(
        "release_whatsapp_lease", {"p_company_id": company_id, "p_token": writer._lease.token}
    )
    await acquire_lease(rest, company_id, owner="another")
    with pytest.raises(LeaseLost):
        await put(writer, key("1", ["0"]), creds=Document(CREDS, {}, TIME))
    assert (await read_company(rest, company_id)).documents == {}


async def test_a_company_of_many_pages_is_read_whole_with_its_creds(
    rest: Rest, company_id: str, writer: CompanyWriter, db: psycopg.Connection[Any]
) -> None:
    many = [key(f"{number:05}", [str(number)]) for number in range(2500)]
    large = [key(f"x{number}", ["0" * 1_500_000]) for number in range(4)]
    await put(writer, *many, *large)
    await writer.put(Batch(), Document(CREDS, {"a": 1}, TIME))
    documents = (await read_company(rest, company_id)).documents
    assert list(documents) == [*(document.ref for document in many + large), CREDS]
    assert documents[large[-1].ref].json == large[-1].json
