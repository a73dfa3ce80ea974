"""Counting pre-keys, and which of them a reaper may take."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supabase_auth_state.doctor.pre_keys import (
    FEWEST_KEPT,
    Counters,
    read_counters,
    reap_pre_keys,
    reapable,
    summarize,
)
from supabase_auth_state.errors import CodecError, ConfigurationError, UnfinishedImport
from supabase_auth_state.transfer.documents import CREDS, Document
from supabase_auth_state.types import KeyRef
from tests.companies import sample

DAY = 86400.0


def pre_keys(minted_at: dict[int, float]) -> list[Document]:
    return [
        Document(KeyRef("pre-key", str(key_id)), {}, time) for key_id, time in minted_at.items()
    ]


def at_once(*ids: int) -> list[Document]:
    return pre_keys(dict.fromkeys(ids, 0.0))


def test_pre_keys_are_counted_by_what_became_of_them() -> None:
    report = summarize(
        "962302", Counters(next_id=13, first_unuploaded=11), at_once(4, 5, 8, 11, 12)
    )
    assert (report.minted, report.uploaded, report.stored) == (12, 10, 5)
    assert (report.used, report.waiting, report.unknown) == (7, 2, 0)
    assert (report.oldest, report.newest, report.newest_missing) == (4, 12, False)


def test_a_fresh_account_has_none() -> None:
    report = summarize("962302", Counters(1, 1), [])
    assert (report.minted, report.uploaded, report.stored, report.used) == (0, 0, 0, 0)
    assert (report.oldest, report.newest, report.newest_missing) == (None, None, False)
    assert str(report) == "company '962302': 0 minted, 0 uploaded, 0 used, 0 pre-keys stored"


@pytest.mark.parametrize("name", ["v7-small", "v7-337", "v6-small"])
def test_the_samples_add_up(name: str) -> None:
    rows = sample(name)
    counters = read_counters(name, rows.creds, rows.family)
    keys = [key for key in rows.keys if key.ref.key_type == "pre-key"]
    report = summarize(name, counters, keys)
    assert report.used + report.stored == report.minted == report.uploaded
    assert (report.waiting, report.unknown, report.newest_missing) == (0, 0, False)


def test_ids_that_the_creds_do_not_know_are_told_apart() -> None:
    report = summarize("962302", Counters(4, 4), at_once(1, 2, 3, 4, 9))
    assert (report.unknown, report.waiting, report.used, report.newest) == (2, 0, 0, 9)
    assert "2 that the creds do not know: run the doctor" in str(report)


def test_a_missing_newest_is_told() -> None:
    report = summarize("962302", Counters(4, 4), at_once(1, 2))
    assert report.newest_missing
    assert "the newest, id 3, is not stored" in str(report)


def test_ids_that_are_no_numbers_do_not_count() -> None:
    rows = [
        Document(KeyRef("pre-key", key_id), {}, 0.0)
        for key_id in ("x", "", "-1", "0", "07", "٣", "2")
    ]
    assert summarize("962302", Counters(4, 4), rows).stored == 1


def test_growth_is_ids_by_days() -> None:
    keys = pre_keys({100: 10 * DAY, 200: 11 * DAY, 320: 12 * DAY})
    report = summarize("962302", Counters(321, 321), keys)
    assert report.minted_per_day == pytest.approx(110)
    assert "about 110.0 a day since id 100" in str(report)


def test_growth_is_not_told_from_rows_of_one_day() -> None:
    keys = pre_keys({100: 10 * DAY, 200: 10.9 * DAY})
    assert summarize("962302", Counters(201, 201), keys).minted_per_day is None


def test_a_report_is_json() -> None:
    told = json.loads(json.dumps(summarize("962302", Counters(4, 4), at_once(3)).as_json()))
    assert (told["minted"], told["stored"], told["backup"]) == (3, 1, None)


def test_the_newest_are_kept() -> None:
    assert reapable(Counters(11, 11), range(1, 11), keep_newest=4) == [1, 2, 3, 4, 5, 6]


def test_the_highest_is_kept_even_when_none_is_to_be() -> None:
    assert reapable(Counters(11, 11), range(1, 11), keep_newest=0) == list(range(1, 10))
    assert reapable(Counters(20, 20), range(1, 11), keep_newest=0) == list(range(1, 10))


def test_what_is_not_uploaded_is_kept_and_does_not_count_as_kept() -> None:
    assert reapable(Counters(11, 8), range(1, 11), keep_newest=3) == [1, 2, 3, 4]


def test_what_the_creds_do_not_know_is_kept() -> None:
    assert reapable(Counters(5, 5), range(1, 11), keep_newest=0) == [1, 2, 3]


@given(
    ids=st.sets(st.integers(1, 60), max_size=60),
    next_id=st.integers(1, 60),
    waiting=st.integers(0, 59),
    keep_newest=st.integers(0, 60),
)
def test_a_reaper_never_takes_what_it_must_not(
    ids: set[int], next_id: int, waiting: int, keep_newest: int
) -> None:
    counters = Counters(next_id, max(next_id - waiting, 1))
    reaped = set(reapable(counters, list(ids), keep_newest=keep_newest))
    left = ids - reaped
    uploaded = {key_id for key_id in ids if key_id < counters.first_unuploaded}
    assert reaped <= uploaded
    assert len(uploaded & left) >= min(keep_newest, len(uploaded))
    assert not ids or max(ids) in left
    assert next_id - 1 not in reaped
    assert all(taken < kept for taken in reaped for kept in uploaded & left)
    assert not reapable(counters, list(left), keep_newest=keep_newest)


async def test_keeping_fewer_than_one_upload_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="too few"):
        await reap_pre_keys(
            None,  # type: ignore[arg-type]
            "962302",
            keep_newest=FEWEST_KEPT - 1,
            backup_folder="nowhere",
        )


def test_creds_of_another_family_may_count_too() -> None:
    counters = {"nextPreKeyId": 7, "firstUnuploadedPreKeyId": 6}
    assert read_counters("962302", Document(CREDS, counters, 0.0), "pyaileys") == Counters(7, 6)


@pytest.mark.parametrize(
    "creds", [{}, {"nextPreKeyId": 7}, {"nextPreKeyId": 7, "firstUnuploadedPreKeyId": 8}]
)
def test_creds_that_do_not_count_are_refused(creds: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="waton"):
        read_counters("962302", Document(CREDS, creds, 0.0), "waton")


def test_a_company_without_creds_is_refused() -> None:
    with pytest.raises(UnfinishedImport):
        read_counters("962302", None, None)


def test_creds_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(CodecError):
        read_counters("962302", Document(CREDS, "[object Object]", 0.0), "baileys")
