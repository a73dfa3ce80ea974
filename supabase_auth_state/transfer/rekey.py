"""Sealing the stored values of a company, sealing them with another key, or opening them.

It works beside an owner that writes: each value is replaced only if it is still the one that was
read, and the owner, which holds its values open in memory, is not concerned. What is done is told
by the rows themselves, so a run that was broken off is finished by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from supabase_auth_state.codec import Sealing, is_sealed, sealed_with
from supabase_auth_state.config import check_company_id
from supabase_auth_state.errors import CompanyNotFound, ConfigurationError
from supabase_auth_state.leases.seals import sealing_for
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.types import KeyRef

from .company import list_pages
from .company_writer import BATCH_ROWS, batches
from .documents import CREDS, Document, opened
from .progress import Progress, silent

_PASSES = 5


@dataclass(frozen=True)
class RekeyReport:
    """What was sealed or opened; creds count as one value.

    Attributes:
        company_id: the company.
        wanted: the id of the key with which all values were to be sealed, or None to be plain.
        changed: how many values were changed.
        already: how many were as wanted before.
        left: how many, by key id, of the values that are not as wanted: no key here opens them, or
            a client without the key goes on writing them.
    """

    company_id: str
    wanted: str | None
    changed: int
    already: int
    left: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dict(vars(self))

    def __str__(self) -> str:
        how = "opened" if self.wanted is None else f"sealed with {self.wanted}"
        done = f"company {self.company_id!r}: {self.changed} values {how}, {self.already} were"
        if not self.left:
            return f"{done} already"
        return (
            f"{done} already; LEFT: {counts_by_key(self.left)}. Give the keys that "
            "are missing, give them to every client that writes the company, and run this again"
        )


def counts_by_key(counts: Mapping[str, int]) -> str:
    """Return in words how many rows are sealed with which key; the key "" is plain."""
    return ", ".join(
        f"{count} sealed with {key_id}" if key_id else f"{count} plain"
        for key_id, count in sorted(counts.items())
    )


async def rekey_company(
    rest: Rest, company_id: str, *, open_all: bool = False, progress: Progress = silent
) -> RekeyReport:
    """Seal all values of a company with the first of the keys, or open them.

    So are the earlier versions of its creds, and the company in quarantine. No value changes, and
    neither do its times. An owner may write meanwhile: give its process the
    keys first, or it can no longer read what it does not remember.

    Args:
        rest: where the database is, with the keys: `open_rest`.
        company_id: the company.
        open_all: store all values plain.
        progress: called with how far it has come.

    Raises:
        ConfigurationError: there are no keys, or the first is ``plain`` and nothing can be sealed.
        CompanyNotFound: the company is not in the database.
        StoreError: the database refused or did not answer; another run goes on.
    """
    check_company_id(company_id)
    sealing = await sealing_for(rest, company_id)
    if not sealing.opens or (sealing.seals is None and not open_all):
        raise ConfigurationError(
            "there is no key to seal with: set SUPABASE_AUTH_STATE_KEYS=k1:<base64>"
        )
    wanted = None if open_all else sealing.seals
    changed = already = 0
    left: dict[str, int] = {}
    for number in range(_PASSES):
        one_pass = _Pass(rest, company_id, sealing, wanted, progress)
        await one_pass.run()
        changed += one_pass.changed
        already = one_pass.already if number == 0 else already
        left = one_pass.left
        if not one_pass.missed:
            break
    return RekeyReport(company_id, wanted, changed, already, left)


class _Pass:
    """One walk through all rows of a company.

    Attributes:
        changed: how many values were changed.
        already: how many were as wanted.
        left: how many were not, and stay so, by key id.
        missed: how many had changed since they were read.
    """

    def __init__(
        self, rest: Rest, company_id: str, sealing: Sealing, wanted: str | None, progress: Progress
    ) -> None:
        self._rest = rest
        self._company_id = company_id
        self._sealing = sealing
        self._wanted = wanted
        self._progress = progress
        self._seen = 0
        self.changed = self.already = self.missed = 0
        self.left: dict[str, int] = {}

    async def run(self) -> None:
        """Walk, and change what is not as wanted; creds come last."""
        creds = None
        async for page in list_pages(self._rest, self._company_id):
            creds = page.creds
            await self._change(page.keys)
        if creds is not None:
            await self._change([creds])
        async for batch in self._kept():
            await self._change_kept(batch)
        if not self._seen:
            raise CompanyNotFound(self._company_id)

    async def _change(self, documents: list[Document]) -> None:
        for batch in batches(documents):
            work = await asyncio.to_thread(self._work, batch)
            if work:
                await self._send(work)
            self._tell(len(batch))

    def _tell(self, count: int) -> None:
        self._seen += count
        self._progress("sealing" if self._wanted else "opening", self._seen, 0)

    async def _kept(self) -> AsyncIterator[list[tuple[Any, Document]]]:
        """Yield earlier versions of creds and removed companies: places and documents."""
        after = None
        while True:
            answer = await self._rest.about(
                "list_whatsapp_kept", self._company_id, {"p_after": after, "p_limit": BATCH_ROWS}
            )
            if not answer["kept"]:
                return
            after = answer["kept"][-1][0]
            yield [
                (place, opened(_ref_of(place), stored, 0.0, self._sealing))
                for place, stored in answer["kept"]
            ]

    async def _change_kept(self, batch: list[tuple[Any, Document]]) -> None:
        places = {id(document): place for place, document in batch}
        work = await asyncio.to_thread(self._work, [document for _, document in batch])
        if work:
            kept = [[places[id(document)], stored, new] for document, stored, new in work]
            params = {"p_kept": kept}
            answer = await self._rest.ask(
                "reseal_whatsapp_kept", self._company_id, params, timed=True
            )
            self._count(answer["changed"], len(work))
        self._tell(len(batch))

    def _work(self, batch: list[Document]) -> list[tuple[Document, Any, Any]]:
        """Return what to change: the document, the value as it is stored, and the new one."""
        work = []
        for document in batch:
            stored = document.json if document.sealed is None else document.sealed
            key_id = sealed_with(stored)
            if key_id == self._wanted and not is_sealed(document.json):
                self.already += 1
            elif is_sealed(document.json):
                self._leave(key_id)
            else:
                work.append((document, stored, self._new(document)))
        return work

    def _new(self, document: Document) -> Any:
        return (
            document.json
            if self._wanted is None
            else self._sealing.seal(document.ref, document.json)
        )

    async def _send(self, work: list[tuple[Document, Any, Any]]) -> None:
        params: dict[str, Any] = {
            "p_keys": [[*d.ref, stored, new] for d, stored, new in work if d.ref != CREDS],
            "p_creds": next(([stored, new] for d, stored, new in work if d.ref == CREDS), None),
        }
        answer = await self._rest.ask("reseal_whatsapp_rows", self._company_id, params, timed=True)
        self._count(answer["changed"] + answer["creds"], len(work))

    def _count(self, done: int, wanted: int) -> None:
        self.changed += done
        self.missed += wanted - done
        for _ in range(wanted - done):
            self._leave(None)

    def _leave(self, key_id: str | None) -> None:
        self.left[key_id or ""] = self.left.get(key_id or "", 0) + 1


def _ref_of(place: list[Any]) -> KeyRef:
    """Return the key whose value is kept at a place of ``list_whatsapp_kept``, or `CREDS`."""
    return KeyRef(place[2], place[3]) if place[0] == "removed-key" else CREDS
