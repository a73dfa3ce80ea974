"""What a request of supabase-auth-state is about, told from its method, path and body."""

from __future__ import annotations

import json

from .proxy import Matches, Request

_READING = ("fetch_", "get_", "list_", "read_", "warm_", "whatsapp_last_", "whatsapp_company_")


def function_of(request: Request) -> str:
    """Return the database function that is called, or an empty string."""
    _, rpc, function = request.path.rpartition("/rpc/")
    return function if rpc else ""


def is_lease(request: Request) -> bool:
    """Return whether a lease is acquired, renewed, released or looked at."""
    return "lease" in function_of(request)


def is_fence(request: Request) -> bool:
    """Return whether nothing is written, only a number taken."""
    return "fence" in function_of(request)


def is_read(request: Request) -> bool:
    """Return whether keys or creds are read."""
    return request.method in {"GET", "HEAD"} or function_of(request).startswith(_READING)


def is_write(request: Request) -> bool:
    """Return whether keys or creds are written or deleted."""
    return not (is_read(request) or is_lease(request) or is_fence(request))


def is_any(_request: Request) -> bool:
    """Return True."""
    return True


def calls(name: str) -> Matches:
    """Match calls of a function whose name contains this."""
    return lambda request: name in function_of(request)


def of_company(company_id: str) -> Matches:
    """Match requests that name a company, in the body or in the query."""
    in_body = json.dumps(company_id).encode()
    return lambda request: in_body in request.body or f".{company_id}" in request.query


def every(*conditions: Matches) -> Matches:
    """Match what matches all of these."""
    return lambda request: all(condition(request) for condition in conditions)
