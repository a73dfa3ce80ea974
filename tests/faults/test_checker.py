"""The checker accepts what is possible, and names what is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults.checker import Clear, Create, Operation, Outcome, Read, Violation, Write, violation

ACK, NO, UNKNOWN = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN


def op(
    name: str, effect: Any, started: int, ended: int | None, outcome: Outcome = ACK, **more: Any
) -> Operation:
    return Operation(name, effect, started, ended, outcome, **more)


def put(name: str, started: int, ended: int | None, outcome: Outcome = ACK, **more: Any) -> Any:
    return op(name, Write({"a": name}), started, ended, outcome, **more)


def see(found: Mapping[str, Any], started: int, ended: int) -> Operation:
    return op(f"read at {started}", Read(found), started, ended)


def problem(*history: Operation) -> str:
    found = violation(history)
    return "" if found is None else str(found)


def test_reads_give_what_was_written_before_them() -> None:
    assert not problem(
        put("w1", 1, 2), see({"a": "w1"}, 3, 4), put("w2", 5, 6), see({"a": "w2"}, 7, 8)
    )
    assert not problem(see({"a": None}, 1, 2), put("w1", 3, 4))


def test_a_read_during_a_write_may_give_either_value_and_then_no_older_one() -> None:
    writes = [put("w1", 1, 2), put("w2", 3, 9)]
    assert not problem(*writes, see({"a": "w1"}, 4, 5), see({"a": "w2"}, 6, 7))
    assert "a can be w2" in problem(*writes, see({"a": "w2"}, 4, 5), see({"a": "w1"}, 6, 7))


def test_an_acknowledged_write_is_not_missing() -> None:
    assert "read at 3" in problem(put("w1", 1, 2), see({"a": None}, 3, 4))


def test_an_acknowledged_write_is_not_rolled_back() -> None:
    assert "read at 5" in problem(put("w1", 1, 2), put("w2", 3, 4), see({"a": "w1"}, 5, 6))


def test_a_refused_write_is_not_there() -> None:
    assert not problem(put("w1", 1, 2, NO), see({"a": None}, 3, 4))
    assert "read at 3" in problem(put("w1", 1, 2, NO), see({"a": "w1"}, 3, 4))


def test_an_unknown_write_is_there_or_not_and_stays_so() -> None:
    unknown = put("w1", 1, 2, UNKNOWN)
    assert not problem(unknown, see({"a": "w1"}, 3, 4))
    assert not problem(unknown, see({"a": None}, 3, 4), see({"a": None}, 5, 6))
    assert "read at 5" in problem(unknown, see({"a": None}, 3, 4), see({"a": "w1"}, 5, 6))
    assert "read at 5" in problem(unknown, see({"a": "w1"}, 3, 4), see({"a": None}, 5, 6))


def test_what_a_client_that_is_gone_has_sent_may_happen_at_any_time() -> None:
    gone = put("w1", 1, None, UNKNOWN)
    assert not problem(gone, see({"a": None}, 3, 4), see({"a": "w1"}, 5, 6))
    assert "read at 7" in problem(gone, see({"a": "w1"}, 5, 6), see({"a": None}, 7, 8))


def test_half_of_a_set_is_never_visible() -> None:
    both = op("w1", Write({"a": "w1", "b": "w1"}), 1, 9)
    assert not problem(both, see({"a": "w1", "b": "w1"}, 2, 3))
    assert "read at 2" in problem(both, see({"a": "w1", "b": None}, 2, 3))
    assert "read at 4" in problem(both, see({"a": "w1"}, 2, 3), see({"b": None}, 4, 5))


def test_a_deletion_and_a_clear_are_writes() -> None:
    delete = op("w2", Write({"a": None}), 3, 4)
    assert "read at 5" in problem(put("w1", 1, 2), delete, see({"a": "w1"}, 5, 6))
    clear = op("w2", Clear(), 3, 4)
    assert "read at 5" in problem(put("w1", 1, 2), clear, see({"a": "w1"}, 5, 6))
    creds = op("w0", Write({"creds": 7}), 1, 2)
    assert not problem(creds, clear, see({"creds": 7}, 5, 6))


def test_creds_are_made_once_and_only_for_a_company_without_rows() -> None:
    first, second = op("o1", Create(1), 1, 2), op("o2", Create(2), 3, 4)
    assert not problem(first, second, see({"creds": 1}, 5, 6))
    assert "creds can be 1" in problem(first, second, see({"creds": 2}, 5, 6))
    at_once = op("o1", Create(1), 1, 4), op("o2", Create(2), 2, 3)
    assert not problem(*at_once, see({"creds": 1}, 5, 6))
    assert not problem(*at_once, see({"creds": 2}, 5, 6))
    assert "read at 5" in problem(put("w1", -2, -1), first, see({"creds": 1, "a": "w1"}, 5, 6))
    failed = op("o1", Create(1), 1, 2, UNKNOWN)
    assert not problem(failed, second, see({"creds": 1}, 5, 6))
    assert not problem(failed, second, see({"creds": 2}, 5, 6))


def test_creds_may_not_be_ahead_of_the_keys_that_they_count() -> None:
    keys = put("w1", 1, 8)
    creds = op("w2", Write({"creds": 2}), 2, 9, after=frozenset({"w1"}))
    assert not problem(keys, creds, see({"a": "w1", "creds": None}, 3, 4))
    assert "read at 3" in problem(keys, creds, see({"a": None, "creds": 2}, 3, 4))
    lost = put("w1", 1, 8, UNKNOWN)
    assert "read at 10" in problem(lost, creds, see({"a": None, "creds": 2}, 10, 11))


def test_owners_do_not_interleave() -> None:
    first, second = put("w1", 1, 2, token=1), put("w2", 3, 4, token=2)
    assert not problem(first, second)
    assert "w3" in problem(first, second, put("w3", 5, 6, token=1))
    late = put("w3", 5, 9, UNKNOWN, token=1)
    assert "read at 7" in problem(first, second, late, see({"a": "w3"}, 7, 8))
    assert not problem(first, second, late, see({"a": "w2"}, 7, 8))


def test_without_a_lease_nothing_is_written_after_a_later_owner() -> None:
    owner = op("o1", Create(1), 1, 2, token=4)
    assert "w1" in problem(owner, put("w1", 3, 4, before_token=4))
    assert not problem(owner, put("w1", 3, 4, before_token=5))
    assert not problem(put("w1", 0, 3, before_token=4), owner)


@pytest.mark.parametrize("history", [[], [put("w1", 1, None, UNKNOWN)]])
def test_a_history_without_ends_is_possible(history: list[Operation]) -> None:
    assert violation(history) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "happen", "end"]),
        st.integers(0, 5),
        st.sets(st.sampled_from("ab"), min_size=1),
        st.sampled_from(["write", "delete", "read"]),
    ),
    max_size=25,
)


@given(STEPS)
def test_what_a_real_register_gave_is_possible(steps: list[tuple[str, int, set[str], str]]) -> None:
    stored: dict[str, Any] = {}
    running: list[Operation] = []
    happened: set[str] = set()
    history = []
    for now, (step, place, keys, kind) in enumerate(steps):
        if step == "start":
            values = dict.fromkeys(sorted(keys), f"o{now}" if kind == "write" else None)
            effect = Read(values) if kind == "read" else Write(values)
            running.append(op(f"o{now}", effect, now, None, UNKNOWN))
        elif running:
            chosen = place % len(running)
            operation = running[chosen]
            if operation.name not in happened:
                happened.add(operation.name)
                if isinstance(operation.effect, Write):
                    stored.update(operation.effect.values)
                else:
                    found = {key: stored.get(key) for key in operation.effect.found}
                    running[chosen] = operation = replace(operation, effect=Read(found))
            if step == "end":
                history.append(replace(operation, ended=now, outcome=ACK))
                del running[chosen]
    unended = [operation for operation in running if isinstance(operation.effect, Write)]
    assert violation(history + unended) is None


def test_a_violation_names_the_operation_and_what_was_possible() -> None:
    found = violation([put("w1", 1, 2), see({"a": "x"}, 3, 4)])
    assert isinstance(found, Violation)
    assert found.operation.name == "read at 3"
    assert found.possible == (("a", ("w1",)),)
