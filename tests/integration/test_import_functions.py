"""What imports, restores, repairs and deletions call in the database, for itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from postgrest import AsyncPostgrestClient

from supabase_auth_state import (
    ConfigurationError,
    InvalidRequest,
    LeaseLost,
    Rest,
    Settings,
    StoreUnavailable,
    WriteRefused,
    open_rest,
)
from supabase_auth_state.auth_state.feature_flag import newest_change
from supabase_auth_state.leases.lease import acquire_lease
from supabase_auth_state.transfer.company import (
    Company,
    companies_of_device,
    read_company,
)
from supabase_auth_state.transfer.company_writer import (
    Change,
    CompanyWriter,
    batches,
    refuse_if_owned,
)
from supabase_auth_state.transfer.documents import CREDS, Device, Document
from supabase_auth_state.types import KeyRef
from tests.values import array, buffer, indexed

TIME = 1760000000.123456
ODD = ["", " ", "a\tb", "\\", '"', "\n", "\r\n", "ä\u2028é", "🦊", "null", "[1]", "{}", "1,2)"]


def key(key_id: str, value: Any, key_type: str = "device-list", time: float = TIME) -> Document:
    return Document(KeyRef(key_type, key_id), value, time)


def creds(value: Any, time: float = TIME) -> Document:
    return Document(CREDS, value, time)


@pytest.fixture
async def writer(rest: Rest, company_id: str) -> AsyncIterator[CompanyWriter]:
    lease = await acquire_lease(rest, company_id)
    yield CompanyWriter(lease)
    await lease.release()


async def upsert(writer: CompanyWriter, *documents: Document) -> None:
    for batch in batches(documents):
        await writer.upsert_keys(batch)


async def stored(rest: Rest, company_id: str) -> list[Document]:
    return list((await read_company(rest, company_id)).documents.values())


# Upserts


async def test_values_and_ids_of_any_characters_come_back_with_their_times(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    written = [key(f"{odd}.", {"text": odd, "list": [odd]}) for odd in ODD]
    written += [key(f"{odd}.", odd, "lid-mapping", TIME + 60) for odd in ODD]
    odd_values = ([], {}, True, 1.5, 2**53)
    written += [key(str(n), odd, "of-tomorrow") for n, odd in enumerate(odd_values)]
    await upsert(writer, *written)
    await writer.upsert_creds(creds({"a": ODD}, TIME + 1))
    company = await read_company(rest, company_id)
    assert company.documents == {
        **{document.ref: document for document in written},
        CREDS: creds({"a": ODD}, TIME + 1),
    }
    assert company.family == "baileys"


async def test_a_second_upsert_replaces_values_times_and_creds(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    await upsert(writer, key("1", ["0"]), key("2", ["0"]))
    await writer.upsert_creds(creds({"a": 1}))
    await upsert(writer, key("2", ["7"], time=TIME + 5))
    await writer.upsert_creds(creds({"a": 2}, TIME + 9))
    assert await stored(rest, company_id) == [
        key("1", ["0"]), key("2", ["7"], time=TIME + 5), creds({"a": 2}, TIME + 9)
    ]  # fmt: skip


async def test_mappings_get_their_seven_days_from_now(
    company_id: str, writer: CompanyWriter, db: psycopg.Connection[Any]
) -> None:
    await upsert(writer, key("1", "2", "lid-mapping"), key("1", {}, "session"))
    found = db.execute(
        "select key_type, round(extract(epoch from expires_at - now()) / 86400) "
        "from whatsapp_keys where company_id = %s order by key_type",
        [company_id],
    ).fetchall()
    assert found == [("lid-mapping", 7), ("session", None)]


async def test_one_value_that_is_refused_takes_its_batch_with_it(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    with pytest.raises(InvalidRequest):
        await upsert(writer, key("1", ["0"]), key("2", ["\0"]))
    assert await stored(rest, company_id) == []


# Replacing


async def test_a_replacement_sets_deletes_and_stores_creds_with_their_times(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    await upsert(writer, key("1", ["0"]), key("2", ["0"]), key("3", ["0"]))
    await writer.upsert_creds(creds({"a": 1}))
    changed = [key("2", ["7"], time=TIME + 5), key("4", "text"), creds({"a": 2}, TIME + 9)]
    await writer.replace(Change.of(changed, [KeyRef("device-list", "1")]))
    assert await stored(rest, company_id) == [
        changed[0], key("3", ["0"]), changed[1], changed[2]
    ]  # fmt: skip


async def test_a_replacement_without_times_or_creds_is_of_now_and_leaves_the_creds(
    rest: Rest, company_id: str, writer: CompanyWriter, db: psycopg.Connection[Any]
) -> None:
    await upsert(writer, key("1", ["0"]))
    await writer.upsert_creds(creds({"a": 1}))
    await writer.replace(Change({KeyRef("device-list", "1"): ["7"]}))
    row = db.execute(
        "select now() - updated_at < interval '1 minute' from whatsapp_keys where company_id = %s",
        [company_id],
    ).fetchone()
    assert row == (True,)
    assert (await stored(rest, company_id))[-1] == creds({"a": 1})


async def test_a_replacement_that_is_refused_changes_nothing(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    await upsert(writer, key("1", ["0"]))
    await writer.upsert_creds(creds({"a": 1}))
    before = await stored(rest, company_id)
    change = Change.of([key("2", ["7"]), creds(["\0"])], [KeyRef("device-list", "1")])
    with pytest.raises(InvalidRequest):
        await writer.replace(change)
    assert await stored(rest, company_id) == before


async def test_a_replacement_leaves_the_recorded_client_family_as_it_is(
    rest: Rest, company_id: str, writer: CompanyWriter, db: psycopg.Connection[Any]
) -> None:
    await writer.upsert_creds(creds({"a": 1}))
    await CompanyWriter(writer.lease, "waton").replace(Change.of([creds({"a": 2})]))
    assert (await read_company(rest, company_id)).family == "baileys"


async def test_five_thousand_deletions_are_one_request(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    many = [key(f"{number:05}", ["0"]) for number in range(5000)]
    await writer.replace(Change.of(many))
    await writer.replace(Change.of([], [document.ref for document in many[1:]]))
    assert await stored(rest, company_id) == many[:1]


# Deleting


async def test_a_deletion_leaves_other_companies_alone(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    other = f"{company_id}-other"
    lease = await acquire_lease(rest, other)
    await upsert(CompanyWriter(lease), key("1", ["0"]))
    await lease.release()
    await upsert(writer, key("1", ["0"]), key("2", ["0"]))
    await writer.upsert_creds(creds({"a": 1}))
    await writer.delete_company()
    assert await stored(rest, company_id) == []
    assert await stored(rest, other) == [key("1", ["0"])]


async def test_a_request_that_lands_twice_or_late_changes_nothing(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    await upsert(writer, key("1", ["0"]))
    numbers = writer.lease.writer
    commit = numbers.next_commit(writer.lease.headers)
    params = {"p_company_id": company_id, "p_keys": [["device-list", "1", ["7"], None]]}
    receipt = await rest.rpc("replace_whatsapp_state", params, commit=commit)
    assert receipt["commit"] == str(commit)
    await upsert(writer, key("1", ["8"]))
    for function, arguments in (
        ("replace_whatsapp_state", params),
        ("delete_whatsapp_company", {"p_company_id": company_id}),
    ):
        with pytest.raises(WriteRefused, match="a later request of the same writer"):
            await rest.rpc(function, arguments, commit=commit)
    assert await stored(rest, company_id) == [key("1", ["8"])]
    again = numbers.next_commit(writer.lease.headers)
    await rest.rpc("delete_whatsapp_company", {"p_company_id": company_id}, commit=again)
    receipt = await rest.rpc("replace_whatsapp_state", params, commit=again)
    assert receipt["commit"] == str(again)
    assert await stored(rest, company_id) == []


# Owners


async def test_who_lost_the_company_writes_nothing(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    await upsert(writer, key("1", ["0"]))
    await writer.upsert_creds(creds({"a": 1}))
    before = await stored(rest, company_id)
    token = writer.lease.token
    await rest.rpc("release_whatsapp_lease", {"p_company_id": company_id, "p_token": token})
    await acquire_lease(rest, company_id, owner="another")
    for attempt in (
        lambda: writer.upsert_keys([key("1", ["7"])]),
        lambda: writer.upsert_creds(creds({"a": 7})),
        lambda: writer.replace(Change.of([key("1", ["7"])])),
        lambda: writer.replace(Change.of([creds({"a": 7})])),
        lambda: writer.replace(Change.of([], [KeyRef("device-list", "1")])),
        writer.delete_company,
    ):
        writer.lease.lost.clear()
        with pytest.raises(LeaseLost):
            await attempt()
    assert await stored(rest, company_id) == before


# Reading


async def test_a_company_of_many_pages_is_read_whole_with_its_creds(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    many = [key(f"{number:05}", [str(number)]) for number in range(2500)]
    large = [key(f"x{number}", ["0" * 1_500_000]) for number in range(4)]
    await upsert(writer, *many, *large)
    await writer.upsert_creds(creds({"a": 1}))
    documents = (await read_company(rest, company_id)).documents
    assert list(documents) == [*(document.ref for document in many + large), CREDS]
    assert documents[large[-1].ref].json == large[-1].json


async def test_a_status_says_whether_there_are_creds_and_keys(
    rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    async def status() -> tuple[Any, ...]:
        found = await rest.rpc("whatsapp_company_status", {"p_company_id": company_id})
        assert found.pop("company_id") == company_id
        assert (found.pop("created_at") is None) == (found["client_family"] is None)
        return tuple(found[name] for name in ("client_family", "keys", "changed_at"))

    assert await status() == (None, 0, None)
    await upsert(writer, key("1", ["0"]), key("2", ["0"], time=TIME + 5))
    assert await status() == (None, 2, TIME + 5)
    await writer.upsert_creds(creds({"a": 1}, TIME + 9))
    assert await status() == ("baileys", 2, TIME + 9)


def stranger(answer: Any) -> Rest:
    """Something that answers every call alike, and is not our database."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    url = "http://stranger.test/rest/v1"
    client = AsyncPostgrestClient(url, http_client=httpx.AsyncClient(transport=transport))
    return open_rest(Settings(url=url, key="x", timeout=1, give_up_after=0), client=client)


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"message": "accepted"}, {"company_id": "8"}, {"keys": 7, "auth": None},
     {"keys": [["a"]], "auth": None}, {"keys": [], "auth": [1]}, {"keys": []}, "ok", 7],
)  # fmt: skip
async def test_what_is_not_the_answer_is_never_taken_for_nothing_stored(answer: Any) -> None:
    rest = stranger(answer)
    for attempt in (
        read_company(rest, "7"),
        newest_change(rest, "7"),
        refuse_if_owned(rest, "7"),
        companies_of_device(rest, Device(7, b"1"), "7"),
    ):
        with pytest.raises((StoreUnavailable, ConfigurationError)):
            await attempt


# Two companies of one linked device


IDENTITY = bytes(range(32))


def device(public: Any, registration_id: Any = 7) -> Document:
    return creds(
        {
            "registrationId": registration_id,
            "signedIdentityKey": {"private": buffer(IDENTITY), "public": public},
        }
    )


async def same(rest: Rest, company_id: str, found: Document) -> list[str]:
    """Store creds as those of another company, and look for the device."""
    other = f"{company_id}-other"
    lease = await acquire_lease(rest, other)
    await CompanyWriter(lease).upsert_creds(found)
    await lease.release()
    return await companies_of_device(rest, Device(7, IDENTITY), company_id)


@pytest.mark.parametrize("form", [buffer, array, indexed])
async def test_the_same_device_is_found_in_every_form_of_its_bytes(
    form: Any, rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    await writer.upsert_creds(device(buffer(IDENTITY)))
    assert await same(rest, company_id, device(form(IDENTITY))) == [f"{company_id}-other"]


@pytest.mark.parametrize(
    "other",
    [
        device(buffer(bytes(32))),
        device(buffer(IDENTITY), 8),
        device(buffer(IDENTITY), "7"),
        device(None),
        creds({}),
        creds([]),
        creds("text"),
    ],
)
async def test_other_devices_are_not_found(
    other: Document, rest: Rest, company_id: str, writer: CompanyWriter
) -> None:
    await writer.upsert_creds(device(buffer(IDENTITY)))
    assert await same(rest, company_id, other) == []


async def test_creds_that_do_not_say_which_device_they_are_are_not_compared() -> None:
    assert await companies_of_device(stranger({}), None, "7") == []


def test_a_company_with_keys_and_no_creds_is_unfinished() -> None:
    rows = {KeyRef("device-list", "1"): key("1", ["0"])}
    assert Company("7", rows, None, None).is_unfinished
    assert not Company("7", {}, None, None).is_unfinished
    assert not Company("7", {CREDS: creds({})}, "baileys", 0.0).is_unfinished
