"""The floor: the very requests this library sends, by a bare `httpx.AsyncClient`.

HTTP/1.1, kept alive; the body is built beforehand and the answer is not parsed.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence

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
_A_MINUTE = 60.0


def bare_client(stack: Stack, connections: int = 32) -> httpx.AsyncClient:
    """Open a client for the stack's REST API with the service key."""
    key = stack.service_role_key
    return httpx.AsyncClient(
        base_url=f"{stack.url}/rest/v1/",
        headers={
            "apikey": key,
            "authorization": f"Bearer {key}",
            "content-type": "application/json",
        },
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        timeout=120,
    )


class Floor:
    """Single requests for the keys of one company."""

    name = "floor"

    def __init__(self, client: httpx.AsyncClient, company_id: str) -> None:
        self._client = client
        self._company_id = company_id
        self._writer = uuid.uuid4()
        self._numbers = itertools.count(1)

    def get(self, key_type: str, ids: Sequence[str]) -> Action:
        """Read values by the function that the library reads with."""
        body = self.read_body({key_type: list(ids)})
        return timed(lambda: self.read(body))

    def set(self, variants: Sequence[Keys]) -> Action:
        """Write values by the upsert that the library writes with, numbered like its own."""
        bodies = itertools.cycle([upsert_body(self._company_id, keys) for keys in variants])

        def headers() -> dict[str, str]:
            return {
                "x-whatsapp-commit": f"{self._writer}:{next(self._numbers)}",
                "x-whatsapp-deadline": f"{time.time() + _A_MINUTE:.3f}",
            }

        return timed(lambda: upsert(self._client, next(bodies), headers()))

    def read_body(self, wanted: Mapping[str, Iterable[str]]) -> bytes:
        """Give the body of a read."""
        return orjson.dumps(
            {"p_company_id": self._company_id, "p_keys": wanted, "p_request": "floor-1"}
        )

    async def read(self, body: bytes) -> None:
        """Send a read."""
        answer = await self._client.post(
            "rpc/fetch_whatsapp_keys", content=body, headers=_READ_HEADERS
        )
        answer.raise_for_status()

    async def creds(self) -> None:
        """Read the creds."""
        body = orjson.dumps({"p_company_id": self._company_id, "p_request": "floor-1"})
        answer = await self._client.post("rpc/fetch_whatsapp_creds", content=body)
        answer.raise_for_status()


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


async def upsert(
    client: httpx.AsyncClient, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Send an upsert of keys."""
    answer = await client.post(UPSERT, content=body, headers={**_UPSERT_HEADERS, **(headers or {})})
    answer.raise_for_status()
