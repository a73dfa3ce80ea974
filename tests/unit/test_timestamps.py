from __future__ import annotations

import pytest

from supabase_auth_state.rest.timestamps import seconds, timestamp


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2023-11-14T22:13:20+00:00", 1_700_000_000.0),
        ("2023-11-14T22:13:20.5+00:00", 1_700_000_000.5),
        ("2023-11-14T22:13:20.12345+00:00", 1_700_000_000.12345),
        ("2023-11-14T22:13:20.123456+00:00", 1_700_000_000.123456),
        ("2023-11-15T00:13:20.25+02:00", 1_700_000_000.25),
    ],
)
def test_the_database_s_times_are_read(text: str, found: float) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("time", [0.0, 1_700_000_000.0, 1_700_000_000.123456])
def test_a_time_comes_back(time: float) -> None:
    assert seconds(timestamp(time)) == time
