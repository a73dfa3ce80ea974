"""How the output of pgTAP is counted."""

from __future__ import annotations

import pytest

from tests.pgtap import outcome


@pytest.mark.parametrize(
    ("tap", "counts"),
    [
        ("ok 1 - reads nothing\nok 2\n1..2\n", (2, 0)),
        ("1..2\nok 1\nnot ok 2 - reads nothing\n# Failed test 2\n", (1, 1)),
        ("1..3\nok 1\n", (1, 2)),
        ("ok 1 - the file broke off\n", (1, 1)),
        ("", (0, 1)),
    ],
)
def test_a_test_that_was_planned_and_not_run_has_failed(tap: str, counts: tuple[int, int]) -> None:
    assert outcome(tap) == counts
