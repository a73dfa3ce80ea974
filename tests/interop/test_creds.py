"""Fresh creds before real Baileys, and its own before us."""

from __future__ import annotations

import json
from typing import Any

from supabase_auth_state.codec import check_creds, decode_creds, encode_creds
from supabase_auth_state.codec.creds import init_auth_creds, verify_signed_pre_key
from tests.interop.node import run_node
from tests.values import BAILEYS

MANY = 64


def ask(documents: list[Any], fresh: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = run_node("creds.mjs", stdin={"creds": documents, "fresh": fresh})
    return answer


def test_baileys_verifies_our_signatures_and_can_use_our_keys() -> None:
    documents = [encode_creds(init_auth_creds(), company_id="c") for _ in range(MANY)]
    answer = ask(documents)
    assert answer["signed"] == [True] * MANY
    assert answer["agreed"] == [True] * MANY


def test_baileys_does_not_verify_what_we_signed_for_another() -> None:
    document = encode_creds(init_auth_creds(), company_id="c")
    document["signedPreKey"] = encode_creds(init_auth_creds(), company_id="c")["signedPreKey"]
    assert ask([document])["signed"] == [False]


def test_we_verify_what_baileys_signed() -> None:
    for document in ask([], fresh=MANY)["fresh"]:
        creds = decode_creds(document, company_id="c")
        check_creds(creds, company_id="c")
        assert verify_signed_pre_key(creds)


def test_our_fresh_creds_have_exactly_the_fields_of_baileys() -> None:
    (theirs,) = ask([], fresh=1)["fresh"]
    ours = encode_creds(init_auth_creds(), company_id="c")
    assert _outline(ours) == _outline(theirs)


def test_baileys_agrees_that_the_sample_creds_are_signed() -> None:
    documents = [json.loads(path.read_text()) for path in BAILEYS.glob("v*/creds.json")]
    assert ask(documents)["signed"] == [True] * 3


def _outline(value: Any) -> Any:
    """Names in order, and the length of text: everything but chance."""
    if isinstance(value, dict):
        return [(name, _outline(child)) for name, child in value.items()]
    if isinstance(value, str):
        return len(value)
    return type(value) if isinstance(value, int) else value
