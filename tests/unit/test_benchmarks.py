from __future__ import annotations

import json
import random

import pytest

from benchmarks import sample
from benchmarks.stats import Result, Results, interleave, spread
from supabase_auth_state import codec


def test_a_single_sample_is_its_own_quartiles() -> None:
    result = Result("get 1", "floor", (2.0,))

    assert result.median == 2.0
    assert result.quartiles == (2.0, 2.0)


def test_spread_is_the_middle_half_over_the_median() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((4.0 - 2.0) / 3.0)


def test_ratio_compares_medians_of_one_workload() -> None:
    results = Results()
    results.add(Result("get 1", "floor", (1.0, 2.0, 90.0)))
    results.add(Result("get 1", "port", (4.0,)))
    results.add(Result("get 100", "port", (99.0,)))

    assert results.ratio("get 1", "port", "floor") == 2.0


def test_ratio_of_what_was_not_measured_is_none() -> None:
    results = Results()
    results.add(Result("get 1", "floor", (1.0,)))

    assert results.ratio("get 1", "port", "floor") is None


async def test_interleave_runs_everybody_in_every_round_and_forgets_the_warm_up() -> None:
    calls: list[str] = []

    def action(name: str, first: float) -> object:
        times = iter([first, 1.0, 2.0, 3.0])

        async def run() -> float:
            calls.append(name)
            return next(times)

        return run

    actions = {name: action(name, 1000.0) for name in ("a", "b", "c")}
    samples = await interleave(actions, rounds=3, warmups=1)  # type: ignore[arg-type]

    assert samples == dict.fromkeys("abc", (1.0, 2.0, 3.0))
    rounds = [calls[start : start + 3] for start in range(0, 12, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1


async def test_who_is_primed_runs_twice_in_a_row_and_the_second_time_counts() -> None:
    calls: list[str] = []

    def action(name: str) -> object:
        async def run() -> float:
            calls.append(name)
            return float(len(calls) % 2)

        return run

    actions = {name: action(name) for name in ("a", "b")}
    samples = await interleave(actions, rounds=2, warmups=0, primed=True)  # type: ignore[arg-type]

    assert samples == dict.fromkeys("ab", (0.0, 0.0))
    assert calls[::2] == calls[1::2]


def test_a_made_up_company_has_the_samples_sizes_and_other_bytes() -> None:
    first, second = sample.company(1), sample.company(2)

    assert sum(map(len, first.values())) == len(sample.texts()) == 335
    assert _size(first) == pytest.approx(_size(second), rel=0.01)
    assert first["session"].keys().isdisjoint(second["session"])
    assert first["pre-key"].keys() == second["pre-key"].keys()
    assert first["pre-key"] != second["pre-key"]


def test_made_up_values_are_ones_that_the_library_stores() -> None:
    keys = sample.company(3) | {
        "sender-key": {"1@g.us::2::0": sample.own_sender_key(400_000, random.Random(1))}
    }

    for _, key_type, key_id, document in sample.rows("", keys):
        value = codec.decode(document, company_id=None, key_type=key_type, key_id=key_id)
        assert codec.encode(value, company_id=None, key_type=key_type, key_id=key_id) == document


def _size(keys: sample.Keys) -> int:
    return len(json.dumps(keys, separators=(",", ":")))
