"""What is wrong with a company's rows, and what would put it right. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from supabase_auth_state import codec
from supabase_auth_state.codec import is_sealed
from supabase_auth_state.errors import CodecError, some_of
from supabase_auth_state.transfer.company import Company
from supabase_auth_state.transfer.documents import CREDS, Document, decoded

from .addresses import examine_addresses
from .agreement import examine_agreement
from .creds_checks import examine_creds
from .findings import Findings
from .key_checks import describe, examine_keys


def examine(company: Company, *, same_device: Sequence[str] = ()) -> Findings:
    """Find everything that is wrong with a company's rows.

    A repair is planned only where what belongs there is certain. Under another client family than
    ``baileys`` there are no rules for fields: rows are only asked whether they can be read.

    Args:
        company: the rows.
        same_device: other companies that hold the same linked device.
    """
    findings = Findings()
    closed = [row.ref for row in company.documents.values() if is_sealed(row.json)]
    for ref in closed:
        what = "sealed, and no key here opens it"
        reason = "rows that have to agree with it are not looked at either; give all the keys"
        findings.add_unrepairable("sealed", ref, what, reason)
    if closed:
        # What seems to be missing may be in a row that is sealed.
        return findings
    if company.creds is None:
        what, reason = "missing, and so is every key", "is this the right company?"
        if company.is_unfinished:
            what = "missing, though there are keys"
            reason = "if an import was broken off, run it again; else restore or delete the company"
        findings.add_unrepairable("creds-missing", CREDS, what, reason)
    if same_device:
        findings.add_unrepairable(
            "same-device",
            CREDS,
            f"also those of {some_of(map(repr, same_device))}",
            "two clients of one linked device replace each other for ever; delete the company that "
            "is no longer used",
        )
    if company.family in {None, codec.BAILEYS}:
        _examine_baileys(company, findings)
    else:
        _examine_other(company, str(company.family), findings)
    return findings


def _examine_baileys(company: Company, findings: Findings) -> None:
    keys = examine_keys(company.keys, findings)
    examine_addresses(keys, findings)
    creds = None if company.creds is None else examine_creds(company.creds.json, findings)
    if creds is not None:
        examine_agreement(keys, creds, findings)


def _examine_other(company: Company, family: str, findings: Findings) -> None:
    reason = f"rows of the client family {family!r} are not known here"
    for row in company.documents.values():
        _examine_other_row(row, family, reason, findings)


def _examine_other_row(row: Document, family: str, reason: str, findings: Findings) -> None:
    try:
        value = decoded(row, "", family)
    except CodecError as error:
        what = f"cannot be read: {describe(error)}"
        findings.add_unrepairable("unreadable", row.ref, what, reason)
        return
    if row.ref.key_type == "session" and type(value) is dict and "_sessions" in value:
        what = f"a session of Baileys, and the company is recorded as {family!r}"
        advice = "first find out which client it belongs to"
        findings.add_unrepairable("other-family", row.ref, what, advice)
