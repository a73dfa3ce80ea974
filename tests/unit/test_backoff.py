from __future__ import annotations

import pytest

from supabase_auth_state.rest.backoff import delay


def shortest() -> float:
    return 0.0


def longest() -> float:
    return 1.0


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0), (4, 10.0), (9, 10.0)]
)
def test_delay_lies_in_the_upper_half_of_a_ceiling_that_doubles_up_to_the_cap(
    attempt: int, ceiling: float
) -> None:
    assert delay(attempt, base=1.0, cap=10.0, random=shortest) == ceiling / 2
    assert delay(attempt, base=1.0, cap=10.0, random=longest) == ceiling


def test_delay_below_the_cap_is_never_shorter_than_the_one_before_could_have_been() -> None:
    for attempt in range(8):
        before = delay(attempt, base=0.25, cap=1000.0, random=longest)
        assert delay(attempt + 1, base=0.25, cap=1000.0, random=shortest) >= before


def test_delay_of_a_huge_attempt_is_bounded_and_does_not_overflow() -> None:
    assert delay(10**9, base=0.001, cap=300.0, random=longest) == 300.0


def test_delay_with_a_base_above_the_cap_obeys_the_cap() -> None:
    assert delay(0, base=60.0, cap=5.0, random=longest) == 5.0


def test_delay_uses_chance_by_default() -> None:
    assert len({delay(3, base=1.0, cap=60.0) for _ in range(20)}) > 1
