"""All rows of one company, read page by page as they are stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from supabase_auth_state.codec import Sealing, to_base64
from supabase_auth_state.errors import (
    CompanyNotFound,
    FamilyMismatch,
    UnfinishedImport,
)
from supabase_auth_state.leases.seals import sealing_for
from supabase_auth_state.rest.client import Rest
from supabase_auth_state.types import KeyRef

from .documents import CREDS, Device, Document, opened

if TYPE_CHECKING:
    from typing_extensions import Self

_PAGE = 1000
# The database ends a page at 4 MB of rows as they are stored, whose text is never 16 times shorter.
_SURELY_NOT_CUT = 256 << 10


@dataclass(frozen=True)
class Company:
    """What the tables hold of a company.

    Attributes:
        company_id: the company.
        documents: keys as they are stored, in the order of type and id, then the creds.
        family: the recorded client family, or None without creds.
        created_at: when the creds were first stored, in seconds since 1970, or None without creds.
    """

    company_id: str
    documents: dict[KeyRef, Document] = field(repr=False)
    family: str | None
    created_at: float | None

    @property
    def creds(self) -> Document | None:
        """The creds, or None."""
        return self.documents.get(CREDS)

    @property
    def keys(self) -> list[Document]:
        """The keys in the order of type and id."""
        return [document for ref, document in self.documents.items() if ref != CREDS]

    @property
    def is_unfinished(self) -> bool:
        """Whether there are keys and no creds: what an import leaves that was broken off."""
        return bool(self.documents) and CREDS not in self.documents

    def of_family(self, family: str) -> Self:
        """Return this company if it is of a client family, or of none yet.

        Raises:
            FamilyMismatch: the rows belong to another kind of client.
        """
        if self.family not in {None, family}:
            raise FamilyMismatch(self.company_id, stored=str(self.family), wanted=family)
        return self

    def known(self) -> Self:
        """Return this company if it has any row.

        Raises:
            CompanyNotFound: it has none.
        """
        if not self.documents:
            raise CompanyNotFound(self.company_id)
        return self

    def with_creds(self) -> Self:
        """Return this company if it has creds.

        Raises:
            CompanyNotFound: it has no row.
            UnfinishedImport: it has keys only.
        """
        if self.is_unfinished:
            raise UnfinishedImport(self.company_id)
        return self.known()


@dataclass(frozen=True)
class Page:
    """Some keys of a company, and its creds at the moment they were read.

    Attributes:
        keys: the keys, in the order of type and id.
        creds: the creds, or None.
        family: the recorded client family, or None without creds.
        created_at: when the creds were first stored, in seconds since 1970, or None without creds.
    """

    keys: list[Document]
    creds: Document | None = None
    family: str | None = None
    created_at: float | None = None


async def read_company(rest: Rest, company_id: str) -> Company:
    """Return all rows of a company, as they are stored, but opened where they are sealed.

    A row that no key here opens stays sealed, and to decode it is an error.
    They are of one moment only if no client writes meanwhile. The creds are those that came with
    the last keys: older creds over newer keys would hand out key ids twice.

    Raises:
        StoreError: the database refused or did not answer.
    """
    documents: dict[KeyRef, Document] = {}
    last = Page([])
    async for page in list_pages(rest, company_id):
        documents |= {key.ref: key for key in page.keys}
        last = page
    if last.creds is not None:
        documents[CREDS] = last.creds
    return Company(company_id, documents, last.family, last.created_at)


async def list_pages(
    rest: Rest, company_id: str, *, after: KeyRef | None = None
) -> AsyncIterator[Page]:
    """Yield a company's rows page by page, to the last one.

    Args:
        rest: where the database is.
        company_id: the company.
        after: begin behind this key.

    Raises:
        StoreError: the database refused or did not answer.
    """
    sealing = await sealing_for(rest, company_id)
    while True:
        answer = await rest.about(
            "list_whatsapp_company",
            company_id,
            {"p_after": after and list(after), "p_limit": _PAGE},
            parse=lambda content: _parse_page(content, sealing),
        )
        page: Page = answer["page"]
        yield page
        keys = page.keys
        if not keys or (len(keys) < _PAGE and answer["size"] < _SURELY_NOT_CUT):
            return
        after = keys[-1].ref


async def companies_of_device(rest: Rest, device: Device | None, company_id: str) -> list[str]:
    """Return the other companies that hold a linked device. The database compares.

    Args:
        rest: where the database is.
        device: the device; None when the creds do not say, and then no company is found.
        company_id: the company that is not meant.

    Raises:
        StoreError: the database refused or did not answer.
    """
    if device is None:
        return []
    params = {
        "p_registration_id": device.registration_id,
        "p_identity_public": to_base64(device.identity),
    }
    answer = await rest.about("whatsapp_companies_of_device", company_id, params)
    return [str(other) for other in answer["companies"]]


def _parse_page(content: bytes, sealing: Sealing) -> dict[str, Any]:
    answer = orjson.loads(content)
    page = Page(
        [
            opened(KeyRef(key_type, key_id), stored, updated_at, sealing)
            for key_type, key_id, stored, updated_at, _ in answer["keys"]
        ]
    )
    if answer["auth"] is not None:
        creds, family, created_at, updated_at = answer["auth"]
        document = opened(CREDS, creds, updated_at, sealing)
        page = Page(page.keys, document, family, created_at)
    return {"company_id": answer["company_id"], "page": page, "size": len(content)}
