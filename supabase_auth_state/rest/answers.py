"""What PostgREST answered, and whether it is the answer to this very request. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import orjson

RECEIPT_HEADER = "x-whatsapp-receipt"
"""The response header with which the database acknowledges a write: writer, number, time."""

_MINIMAL = "return=minimal"
_OTHER_SERVERS = frozenset({400, 404, 405, 426, 501})
_LATE = re.compile(r"^whatsapp deadline: .* the time is (\S+)$")
_LATEST = 10**10
_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")

T = TypeVar("T")


class NotTheAnswer(Exception):
    """What came is not PostgREST's answer to the request. The message quotes nothing of it."""


class NoReceipt(Exception):
    """The answer is as it should be, but without the database's receipt, and proves nothing."""


@dataclass(frozen=True)
class Receipt:
    """What the database says of a write in `RECEIPT_HEADER`.

    Attributes:
        commit: writer and number of the write.
        time: the database's time in seconds since 1970, or None when it cannot be read.
    """

    commit: str
    time: float | None


class Answer:
    """An HTTP answer, read to its end.

    Attributes:
        status: the HTTP status.
        headers: by name, in any case.
        content: the body.
    """

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    @cached_property
    def json(self) -> Any:
        """The body's JSON value, or None when it is not JSON."""
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError:
            return None

    @property
    def is_postgrests(self) -> bool:
        """Whether this is an error as PostgREST answers it."""
        return isinstance(self.json, dict) and {"code", "message"} <= self.json.keys()

    @property
    def is_foreign(self) -> bool:
        """Whether this is how another kind of server answers: a web page, a redirect, nothing.

        A gateway in front of PostgREST that is busy, restricted or refuses a key is none.
        """
        if 300 <= self.status < 400:
            return True
        looks_like_it = "json" in self.headers.get("content-type", "") or self.json is not None
        return not looks_like_it and (self.status < 300 or self.status in _OTHER_SERVERS)

    @property
    def receipt(self) -> Receipt | None:
        """The database's receipt of a write, if the answer has one."""
        text = self.headers.get(RECEIPT_HEADER)
        if text is None:
            return None
        commit, _, time = text.rpartition(":")
        return Receipt(commit, _seconds(time))

    @property
    def late_at(self) -> float | None:
        """The database's time when it refused the request as too late, else None."""
        if self.is_postgrests and self.json["code"] == "PT408":
            found = _LATE.match(str(self.json["message"]))
            return None if found is None else _seconds(found[1])
        return None


def result_of(
    parse: Callable[[bytes], T], is_right: Callable[[Any], bool]
) -> Callable[[Answer], T]:
    """Return what reads the result of a function.

    Args:
        parse: makes the result of the body; may raise ``orjson.JSONDecodeError``.
        is_right: whether a result is the answer to this request.
    """

    def read(answer: Answer) -> T:
        if answer.status != 200:
            raise NotTheAnswer(f"HTTP {answer.status} is no answer to the call of a function")
        if not answer.content:
            raise NotTheAnswer("the answer was empty")
        try:
            result = parse(answer.content)
            if is_right(result):
                return result
        except (TypeError, KeyError, AttributeError, ValueError):
            pass
        raise NotTheAnswer("what came is not PostgREST's answer to this request")

    return read


def with_receipt(read: Callable[[Answer], T]) -> Callable[[Answer], T]:
    """Return what reads an answer that proves nothing without the database's receipt."""

    def read_both(answer: Answer) -> T:
        result = read(answer)
        if answer.receipt is None:
            raise NoReceipt
        return result

    return read_both


def stored(answer: Answer) -> None:
    """Read the answer to an upsert with ``return=minimal``."""
    applied = answer.headers.get("preference-applied", "")
    if answer.status not in {200, 201} or answer.content or _MINIMAL not in applied:
        raise NotTheAnswer("what came does not acknowledge the rows")


def is_time(value: object) -> bool:
    """Return whether a JSON value is a time in seconds since 1970."""
    return type(value) in {int, float} and 0 <= value < _LATEST  # type: ignore[operator]


def _seconds(text: str) -> float | None:
    """Read seconds since 1970; `nan` and `inf`, which Python also reads, would stop the clock."""
    return float(text) if _SECONDS.fullmatch(text) else None
