from __future__ import annotations

import pytest
from WAeys.Utils.generics import Boom

from supabase_auth_state.errors import StoreUnavailable
from supabase_auth_state.pool.ends import Reaction, describe, end_of, end_of_error


class BaileysError(Exception):
    def __init__(self, code: object, data: object = None) -> None:
        self.statusCode = code
        self.data = data


class HttpError(Exception):
    status_code = 403


@pytest.mark.parametrize(
    ("code", "reaction"),
    [
        (400, Reaction.RETRY),
        (401, Reaction.QUARANTINE),
        (402, Reaction.YIELD),
        (403, Reaction.QUARANTINE),
        (405, Reaction.YIELD),
        (406, Reaction.QUARANTINE),
        (408, Reaction.RETRY),
        (409, Reaction.YIELD),
        (411, Reaction.YIELD),
        (428, Reaction.RETRY),
        (440, Reaction.YIELD),
        (500, Reaction.RETRY),
        (503, Reaction.RETRY),
        (515, Reaction.RESTART),
        (999, Reaction.RETRY),
    ],
)
def test_a_code_has_the_same_meaning_in_every_form(code: int, reaction: Reaction) -> None:
    forms = [code, str(code), BaileysError(code), BaileysError(str(code)), Boom("end", code)]
    for reason in forms:
        assert (end_of(reason).code, end_of(reason).reaction) == (code, reaction)


@pytest.mark.parametrize(
    "reason", [None, "", "closed", "²", OSError("reset"), BaileysError(["401"]), BaileysError(None)]
)
def test_a_reason_without_a_code_is_a_lost_connection(reason: object) -> None:
    assert (end_of(reason).code, end_of(reason).reaction) == (None, Reaction.RETRY)


def test_a_code_that_waiting_does_not_cure_comes_with_advice() -> None:
    for code in range(400, 520):
        end = end_of(code)
        stops = end.reaction in (Reaction.YIELD, Reaction.QUARANTINE)
        assert bool(end.advice) == stops


@pytest.mark.parametrize("code", [401, 402, 403, 405, 515])
def test_an_answer_on_the_way_to_whatsapp_says_nothing_of_the_account(code: int) -> None:
    """WAeys and Baileys take the code from "Unexpected server response: 403" of a proxy."""
    proxy = Boom("WebSocket Error", code, OSError(f"Unexpected server response: {code}"))
    assert end_of(proxy).reaction is Reaction.RETRY
    assert end_of_error(proxy).reaction is Reaction.RETRY


def test_an_error_raised_by_a_factory_counts_when_it_is_of_baileys_kind() -> None:
    assert end_of_error(BaileysError(403)).reaction is Reaction.QUARANTINE
    assert end_of_error(HttpError()).reaction is Reaction.RETRY
    assert end_of(HttpError()).reaction is Reaction.QUARANTINE


@pytest.mark.parametrize(
    ("data", "pause"),
    [
        ({"reason": "402", "code": "101", "expire": "3600"}, 3600.0),
        ({"expire": 60}, 60.0),
        ({"expire": "1796000000"}, 30 * 86400.0),
        ({"expire": "soon"}, 0.0),
        ({"expire": -5}, 0.0),
        ({}, 0.0),
        (None, 0.0),
    ],
)
def test_a_ban_lasts_as_long_as_whatsapp_says(data: object, pause: float) -> None:
    assert end_of(BaileysError(402, data)).pause == pause
    assert end_of(BaileysError(440, data)).pause == 0.0


def test_the_text_of_a_foreign_error_is_not_repeated() -> None:
    assert describe(OSError("noiseKey=abc")) == "OSError"
    assert end_of(OSError("noiseKey=abc")).reason == "OSError"
    assert str(end_of(BaileysError(403))) == "403, banned, or its phone was logged out"
    assert describe(StoreUnavailable("no answer")) == "StoreUnavailable: no answer"
