"""What is wrong with a company's rows, and what would put it right. Pure."""

from __future__ import annotations

from supabase_auth_state import codec
from supabase_auth_state.errors import CodecError
from supabase_auth_state.transfer.rows import RawAuth, RawKey, RawRows

from .addresses import examine_addresses
from .agreement import examine_agreement
from .creds_checks import examine_creds
from .findings import CREDS, Chart
from .key_checks import examine_keys, told


def examine(rows: RawRows) -> Chart:
    """Find everything that is wrong with a company's rows.

    A repair is planned only where what belongs there is certain. Under another client family than
    ``baileys`` there are no rules for fields: rows are only asked whether they can be read.
    """
    chart = Chart()
    if rows.auth is None:
        what = "missing" if rows.keys else "missing, and so is every key"
        chart.leave("creds-missing", CREDS, what, "is this the right company?")
    family = codec.BAILEYS if rows.auth is None else rows.auth.family
    if family == codec.BAILEYS:
        _examine_baileys(rows, chart)
    else:
        _examine_other(rows, family, chart)
    return chart


def _examine_baileys(rows: RawRows, chart: Chart) -> None:
    keys = examine_keys(rows.keys, chart)
    examine_addresses(keys, chart)
    creds = None if rows.auth is None else examine_creds(rows.auth, chart)
    if creds is not None:
        examine_agreement(keys, creds, chart)


def _examine_other(rows: RawRows, family: str, chart: Chart) -> None:
    reason = f"rows of the client family {family!r} are not known here"
    if rows.auth is not None:
        _examine_other_creds(rows.auth, reason, chart)
    for key in rows.keys:
        _examine_other_key(key, family, reason, chart)


def _examine_other_creds(auth: RawAuth, reason: str, chart: Chart) -> None:
    try:
        codec.decode_creds(auth.creds, company_id=None, family=auth.family)
    except CodecError as error:
        chart.leave("unreadable", CREDS, f"cannot be read: {told(error)}", reason)


def _examine_other_key(key: RawKey, family: str, reason: str, chart: Chart) -> None:
    try:
        value = codec.decode(key.stored, company_id=None, **key.ref._asdict(), family=family)
    except CodecError as error:
        chart.leave("unreadable", key.ref, f"cannot be read: {told(error)}", reason)
        return
    if key.ref.key_type == "session" and type(value) is dict and "_sessions" in value:
        what = f"a session of Baileys, and the company is recorded as {family!r}"
        chart.leave("other-family", key.ref, what, "first find out which client it belongs to")
