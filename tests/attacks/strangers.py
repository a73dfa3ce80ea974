"""Answers that PostgREST did not give to the request, as gateways, portals and caches give them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

from faults.actions import Replayed, answered, changed, redirected, truncated
from faults.proxy import Answer, Exchange, Fault, Landing, Proxy

Stranger = Callable[[Proxy], Fault]
"""Makes the fault that answers in PostgREST's place."""

_HTML = b"<!doctype html><html><body>please wait</body></html>"
_BODIES = {
    "an empty list": b"[]",
    "a list of an empty object": b"[{}]",
    "null": b"null",
    "an empty object": b"{}",
    "true": b"true",
    "a number": b"1",
    "a text": b'"ok"',
    "accepted": b'{"message": "accepted"}',
    "an empty answer to a read": b'{"creds": null, "keys": {}, "status": "renewed"}',
    "no JSON": b"ok",
    "half a JSON": b'{"keys": {"session": {',
    "half a character": b'"\xc3',
    "nothing": b"",
}
_LIKE_POSTGREST = {
    "server": "postgrest/12.2.12",
    "content-range": "*/*",
    "preference-applied": "resolution=merge-duplicates, return=minimal",
}
_NOT_GZIP = {"content-encoding": "gzip"}
_REDIRECTS = (301, 302, 303, 307, 308)


def _in_place(status: int, body: bytes, *, forward: bool, **more: str) -> Stranger:
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    content_type = headers.pop("content-type", "application/json")
    return lambda _: answered(
        status, body, content_type=content_type, headers=headers, forward=forward
    )


def _answers(*, forward: bool) -> dict[str, dict[str, Stranger]]:
    bodies = {name: _in_place(200, body, forward=forward) for name, body in _BODIES.items()}
    empty = {str(status): _in_place(status, b"", forward=forward) for status in (200, 201, 204)}
    imitations = {
        f"{status} {name}": _in_place(status, body, forward=forward, **_LIKE_POSTGREST)
        for status, name, body in [(200, "null", b"null"), (201, "empty", b""), (204, "empty", b"")]
    }
    pages = {
        "200 with a page": _in_place(200, _HTML, forward=forward, content_type="text/html"),
        "200 that cannot be unpacked": _in_place(200, b"\x1f\x8bno", forward=forward, **_NOT_GZIP),
        "200 with a packed page": _in_place(
            200, gzip.compress(_HTML), forward=forward, content_type="text/html", **_NOT_GZIP
        ),
        "302 without a location": _in_place(302, b"moved", forward=forward),
        "304": _in_place(304, b"", forward=forward),
        "503 with a page": _in_place(503, _HTML, forward=forward, content_type="text/html"),
        "502 that cannot be unpacked": _in_place(502, b"\x1f\x8bno", forward=forward, **_NOT_GZIP),
    }
    return {"JSON": bodies, "nothing": empty, "like PostgREST": imitations, "a page": pages}


def _redirects() -> dict[str, Stranger]:
    def to_itself(status: int) -> Stranger:
        return lambda proxy: redirected(proxy.url, status)

    def to_a_page(status: int) -> Stranger:
        return lambda proxy: redirected(f"{proxy.url}/portal", status)

    return {
        **{f"{status} to the same address": to_itself(status) for status in _REDIRECTS},
        **{f"{status} to another address": to_a_page(status) for status in _REDIRECTS},
    }


def _of_another_request(answer: Answer) -> Answer:
    """Change the numbers and names by which an answer tells which request it belongs to."""
    receipt = answer.headers.get("x-whatsapp-receipt", "")
    writer, _, rest = receipt.partition(":")
    headers = {name: value for name, value in answer.headers.items() if "receipt" not in name}
    if receipt:
        number, _, time = rest.partition(":")
        headers["x-whatsapp-receipt"] = f"{writer}:{int(number) + 1}:{time}"
    return Answer(answer.status, headers, _renamed(answer.body))


def _renamed(body: bytes) -> bytes:
    try:
        found = json.loads(body)
    except ValueError:
        return body
    if not isinstance(found, dict):
        return body
    other = {name: "another" for name in ("company_id", "request", "writer") if name in found}
    return json.dumps({**found, **other}).encode()


def refusing(status: int, body: bytes, landing: Landing) -> Fault:
    """Refuse in PostgREST's place; the request reaches the server all the same, but later."""

    async def refusing(exchange: Exchange) -> Answer | None:
        exchange.forward_later(landing)
        content_type = "application/json" if body.startswith(b"{") else "text/html"
        return Answer(status, {"content-type": content_type}, body)

    return refusing


REFUSALS = {
    "a page, 400": (400, _HTML),
    "a gateway's JSON, 401": (401, b'{"message":"Invalid authentication credentials"}'),
    "a page, 402": (402, _HTML),
    "a page, 403": (403, _HTML),
    "a page, 404": (404, _HTML),
    "a gateway's JSON, 404": (404, b'{"message":"no Route matched with those values"}'),
    "a page, 409": (409, _HTML),
    "nothing, 413": (413, b""),
    "a page, 540": (540, _HTML),
}
"""Status and body of refusals by something else than PostgREST."""

REDIRECTS = _redirects()
"""Redirects, to what answers anything and to what answers nothing."""

UNSENT = {**_answers(forward=False), "a redirect": REDIRECTS}
"""Answers to a request that never reached the database, by kind and name."""

SENT = {
    **_answers(forward=True),
    "of another": {"the answer to another request": lambda _: changed(_of_another_request)},
}
"""Answers to a request that the database executed, by kind and name."""

CUT: dict[str, Stranger] = {
    "a truncated answer": lambda _: truncated(0.5),
    "an answer without its body": lambda _: truncated(0.0),
    "the answer to the request before": lambda _: Replayed(),
}
"""PostgREST's own answers, damaged or repeated: whether they prove anything is not asked."""
