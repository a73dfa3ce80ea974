"""When a rule fires, goes on, and is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supabase_auth_state import ConfigurationError
from supabase_auth_state.operations.alert_config import load_alert_config
from supabase_auth_state.operations.alert_states import AlertState, Notice, Rule, step

RULE = Rule(
    name="r", title="R", measure="unreachable", threshold=0.8, is_upper=True, clear=0.6, hold=60.0,
    clear_hold=120.0, repeat=600.0, severity="warning",
)  # fmt: skip


def told(values: list[tuple[float, float | None]], rule: Rule = RULE) -> list[tuple[float, Notice]]:
    """Give what is told, and when, of values that are seen at times."""
    state, found = AlertState(), []
    for now, value in values:
        state, notice = step(rule, state, value, now)
        if notice is not None:
            found.append((now, notice))
    return found


def test_a_rule_fires_once_after_it_was_broken_long_enough() -> None:
    assert told([(0, 0.9), (30, 0.9), (59, 0.9), (60, 0.9), (90, 0.9)]) == [(60, "firing")]


def test_what_is_broken_for_a_moment_does_not_fire() -> None:
    assert told([(0, 0.9), (30, 0.7), (60, 0.9), (90, 0.9)]) == []


def test_one_that_goes_on_is_told_again_after_the_set_time() -> None:
    minutes = [(60.0 * n, 0.9) for n in range(25)]
    assert told(list(minutes)) == [(60, "firing"), (660, "repeated"), (1260, "repeated")]


def test_it_is_over_after_it_was_kept_long_enough() -> None:
    values = [(0, 0.9), (60, 0.9), (100, 0.5), (219, 0.5), (220, 0.5), (300, 0.5)]
    assert told(values) == [(60, "firing"), (220, "resolved")]


def test_a_value_between_the_two_thresholds_changes_nothing() -> None:
    swinging = [(60.0 + 10 * n, 0.7 if n % 2 else 0.9) for n in range(50)]
    assert told([(0, 0.9), *swinging]) == [(60, "firing")]


def test_what_is_unknown_changes_nothing() -> None:
    assert told([(0, 0.9), (30, None), (60, 0.9), (200, None), (1000, None)]) == [(60, "firing")]


def test_it_fires_again_after_it_was_over() -> None:
    rule = replace(RULE, hold=0.0, clear_hold=0.0)
    found = told([(0, 0.9), (1, 0.1), (2, 0.9)], rule)
    assert found == [(0, "firing"), (1, "resolved"), (2, "firing")]


def test_a_rule_for_small_values_is_the_mirror_image() -> None:
    rule = replace(RULE, is_upper=False, threshold=14, clear=21, hold=0.0, clear_hold=0.0)
    assert told([(0, 20), (1, 13), (2, 20), (3, 21)], rule) == [(1, "firing"), (3, "resolved")]


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 200))
def test_whatever_is_seen_firing_and_resolved_take_turns(values: list[float], every: int) -> None:
    found = [notice for _, notice in told([(n * every, v) for n, v in enumerate(values)])]
    turns = [notice for notice in found if notice != "repeated"]
    assert turns == [("firing", "resolved")[n % 2] for n in range(len(turns))]


def test_a_state_survives_as_json_and_ignores_what_is_newer() -> None:
    state = AlertState("firing", 1.0, 2.0, 3.0, 4.0, 5.0)
    assert AlertState.of_json({**state.as_json(), "added_later": 1}) == state


# The file


def test_the_defaults_are_complete() -> None:
    found = load_alert_config(env={})
    measures = {rule.measure for rule in found.rules}
    assert {
        "database_share", "days_to_limit", "growth_jump", "expired_rows", "cleanup_age_hours",
        "acquisitions_per_company", "taken_over_last_hour", "state_rolled_back", "damaged_rows",
        "companies_with_few_pre_keys", "companies_with_many_pre_keys", "error_rate", "http_401",
        "http_402", "http_540", "http_544", "read_only", "timeouts", "grants_missing",
    } <= measures  # fmt: skip
    assert [receiver.type for receiver in found.receivers] == ["log"]
    assert found.company_ids is False


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(
        'alerts.plan = "pro"\nrules.database_size.above = 0.9\nrules.takeover.enabled = false\n'
        '[receivers.ops]\ntype = "slack"\nurl_env = "SLACK"\n'
    )
    found = load_alert_config(path, env={"SLACK": "https://hooks.test/secret-place"})
    rules = {rule.name: rule for rule in found.rules}
    assert (rules["database_size"].threshold, rules["database_size"].clear) == (0.9, 0.9)
    assert rules["database_size"].hold == 600
    assert "takeover" not in rules
    assert found.plan.name == "pro"
    assert [receiver.name for receiver in found.receivers] == ["ops"]
    assert "secret-place" not in repr(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules.database_size.abov = 1", "'abov' is not known"),
        ('rules.database_size.measure = "size"', "measure is not 'size'"),
        ("rules.database_size.above = true", "is not a number"),
        ("rules.database_size = {above = 1, clear = 2}", "wrong side"),
        ("rules.database_size = {above = 1, below = 2}", "one of above and below"),
        ('receivers.a.type = "pager"', "log, slack, webhook or email"),
        ('receivers.a = {type = "slack"}', "url_env is missing"),
        ('receivers.a = {type = "slack", url_env = "NONE"}', "NONE is not set"),
        ("alerts.plan = ", "is no TOML"),
        ('alerts.plan = "gold"', "no plan 'gold'"),
        ("rule = 1", "no section 'rule'"),
    ],
)
def test_what_is_not_understood_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        load_alert_config(path, env={})


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_alert_config(tmp_path / "none.toml", env={})
