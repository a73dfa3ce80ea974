"""What ``doctor`` says of URL, key, clock, clean-up and statistics."""

from __future__ import annotations

from typing import Any, cast

import pytest

from supabase_auth_state.cli.installation import (
    check_key,
    check_overview,
    check_round_trip,
    check_url,
)
from supabase_auth_state.operations.statistics import Overview

NOW = 1_800_000_000.0


def overview(**changed: Any) -> Overview:
    found = {
        "time": NOW,
        "refreshed_at": NOW - 30,
        "expired": 0,
        "cleanup": {"finished_at": NOW - 60, "owner": "pg_cron"},
    }
    return cast("Overview", found | changed)


@pytest.mark.parametrize(
    ("url", "ok", "words"),
    [
        ("https://abc.supabase.co", True, "abc"),
        ("http://127.0.0.1:54321", True, "54321"),
        ("https://abc-all.supabase.co", False, "use https://abc.supabase.co"),
        ("http://db.example.com", False, "use https"),
    ],
)
def test_the_url_is_that_of_the_primary_and_encrypted(url: str, ok: bool, words: str) -> None:
    found = check_url(url)
    assert found.ok is ok
    assert words in found.words


def test_no_key_is_quoted() -> None:
    for key in ("sb_secret_abcdef", "eyJabcdef"):
        assert "abcdef" not in str(check_key(key))


def test_a_long_way_is_told() -> None:
    assert check_round_trip(0.01).ok
    assert "region" in check_round_trip(0.9).words


def test_all_is_well() -> None:
    assert [found.ok for found in check_overview(overview(), here=NOW + 1)] == [True] * 3


def test_a_new_installation_is_in_order_though_nothing_was_counted() -> None:
    found = check_overview(overview(refreshed_at=None, cleanup=None, expired=0), here=NOW)
    assert [each.ok for each in found] == [True] * 3
    assert "`alerts run`" in found[-1].words


@pytest.mark.parametrize(
    ("changed", "here", "name", "words"),
    [
        ({}, NOW - 60, "clock", "60.0 s apart"),
        ({"cleanup": None, "expired": 7}, NOW, "clean-up", "--schedule"),
        ({"cleanup": {"finished_at": NOW - 200_000, "owner": "w"}}, NOW, "clean-up", "not by pg_c"),
        ({"refreshed_at": NOW - 90_000}, NOW, "statistics", "1 d old"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(
    changed: dict[str, Any], here: float, name: str, words: str
) -> None:
    wrong = [found for found in check_overview(overview(**changed), here=here) if not found.ok]
    assert [found.name for found in wrong] == [name]
    assert words in wrong[0].words
