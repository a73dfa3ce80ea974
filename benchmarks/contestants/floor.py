"""The floor: the very request this library sends, by a bare `httpx.AsyncClient`.

HTTP/1.1, kept alive; the body is built beforehand and the answer is not parsed. Beside it the same
by a bare `aiohttp.ClientSession`, which is what this library's requests go out by.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import aiohttp
import httpx
import orjson

from benchmarks.sample import Keys, rows
from benchmarks.stats import Action, timed
from devstack.stack import Stack

UPSERT = (
    "whatsapp_keys?on_conflict=company_id,key_type,key_id&columns=company_id,key_type,key_id,value"
)
_READ_HEADERS = {"accept": "application/vnd.whatsapp-keys+json"}
_UPSERT_HEADERS = {"prefer": "resolution=merge-duplicates,return=minimal"}


def bare_client(stack: Stack, connections: int = 32) -> httpx.AsyncClient:
    """Open a client for the stack's REST API with the service key."""
    return httpx.AsyncClient(
        base_url=_base(stack),
        headers=_headers(stack),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        timeout=120,
    )


def bare_session(stack: Stack) -> aiohttp.ClientSession:
    """Open the same by aiohttp."""
    return aiohttp.ClientSession(_base(stack), headers=_headers(stack))


def _base(stack: Stack) -> str:
    return f"{stack.url}/rest/v1/"


def _headers(stack: Stack) -> dict[str, str]:
    key = stack.service_role_key
    return {
        "apikey": key,
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
    }


class _Requests(ABC):
    """Single requests for the keys of one company."""

    def __init__(self, company_id: str) -> None:
        self._company_id = company_id

    def get(self, key_type: str, ids: Sequence[str]) -> Action:
        """Read values by the function that the library reads with."""
        body = self.read_body({key_type: list(ids)})
        return timed(lambda: self.read(body))

    def set(self, variants: Sequence[Keys]) -> Action:
        """Write values by the function that the library writes with."""
        bodies = itertools.cycle(
            [orjson.dumps({"company_id": self._company_id, "keys": keys}) for keys in variants]
        )
        headers = {"content-type": "text/plain"}
        return timed(lambda: self._post("rpc/commit_whatsapp_state", next(bodies), headers))

    def read_body(self, wanted: Mapping[str, Iterable[str]]) -> bytes:
        """Give the body of a read."""
        return orjson.dumps({"p_company_id": self._company_id, "p_keys": wanted})

    async def read(self, body: bytes) -> bytes:
        """Send a read."""
        return await self._post("rpc/read_whatsapp_keys", body, _READ_HEADERS)

    @abstractmethod
    async def _post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Send a request and give the answer."""


class Floor(_Requests):
    """By httpx."""

    name = "floor"

    def __init__(self, client: httpx.AsyncClient, company_id: str) -> None:
        super().__init__(company_id)
        self._client = client

    async def creds(self) -> httpx.Response:
        """Read the creds."""
        answer = await self._client.get(
            f"whatsapp_auth?company_id=eq.{self._company_id}&select=creds"
        )
        return answer.raise_for_status()

    async def _post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        answer = await self._client.post(path, content=body, headers=headers)
        return answer.raise_for_status().content


class AiohttpFloor(_Requests):
    """By aiohttp."""

    name = "floor, by aiohttp"

    def __init__(self, session: aiohttp.ClientSession, company_id: str) -> None:
        super().__init__(company_id)
        self._session = session

    async def _post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        async with self._session.post(path, data=body, headers=headers) as answer:
            answer.raise_for_status()
            return await answer.read()


class BulkUpsert:
    """One plain bulk upsert a write: what other clients of the tables send at best."""

    name = "bulk upsert"

    def __init__(self, client: httpx.AsyncClient, company_id: str) -> None:
        self._client = client
        self._company_id = company_id

    def set(self, variants: Sequence[Keys]) -> Action:
        """Write values by one upsert."""
        bodies = itertools.cycle([upsert_body(self._company_id, keys) for keys in variants])
        return timed(lambda: upsert(self._client, next(bodies)))


def upsert_body(company_id: str, keys: Keys) -> bytes:
    """Give the body of an upsert of `keys`."""
    names = ("company_id", "key_type", "key_id", "value")
    return orjson.dumps([dict(zip(names, row, strict=True)) for row in rows(company_id, keys)])


async def upsert(client: httpx.AsyncClient, body: bytes) -> None:
    """Send an upsert of keys."""
    answer = await client.post(UPSERT, content=body, headers=_UPSERT_HEADERS)
    answer.raise_for_status()
