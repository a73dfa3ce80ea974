"""What it takes to send one HTTP request, and how a session of httpx does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

import httpx


class Answer:
    """What came back, read to its end and unpacked.

    Attributes:
        status: the HTTP status.
        headers: by name, in any case.
        content: the body.
    """

    __slots__ = ("content", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content


Send: TypeAlias = Callable[[str, str, Mapping[str, str], "bytes | None"], Awaitable[Answer]]
"""Sends method, URL, headers and body; raises ``httpx.TransportError`` when no answer came."""


def through(session: httpx.AsyncClient, timeout: float) -> Send:
    """Return how to send through a session of httpx, with its hooks and whatever it goes by.

    Args:
        session: the session.
        timeout: seconds to wait for each step of a request.
    """
    extensions = {"timeout": httpx.Timeout(timeout).as_dict()}

    async def send(
        method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> Answer:
        request = httpx.Request(
            method, _url(url), headers=headers, content=content, extensions=extensions
        )
        response = await session.send(request)
        return Answer(response.status_code, response.headers, response.content)

    return send


@lru_cache(maxsize=256)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)
