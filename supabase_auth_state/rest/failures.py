"""What it means that a request could not be sent or its answer not be read. No I/O."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator

from supabase_auth_state.errors import ConfigurationError, StoreUnavailable


def translated(
    error: Exception, what: str, url: str, *, reached: bool
) -> StoreUnavailable | ConfigurationError:
    """Return the error of ours to raise instead, which quotes nothing that was sent or came.

    Args:
        error: an exception of the Supabase client, httpx, aiohttp or Python.
        what: what was attempted.
        url: where to.
        reached: whether PostgREST has answered there before. If not, a name that does not exist or
            a wrong certificate will not get better by trying again.
    """
    chain = list(_chain(error))
    lasting = _lasting(chain)
    if lasting is not None:
        kind = StoreUnavailable if reached else ConfigurationError
        return kind(f"{what}: {url}: {lasting}")
    if isinstance(error, asyncio.TimeoutError):
        return StoreUnavailable(f"{what}: no answer in time")
    refused = type(error).__name__ == "ConnectError" or any(
        isinstance(link, (ConnectionRefusedError, socket.gaierror)) for link in chain
    )
    advice = f"; is {url} the right address?" if refused else ""
    return StoreUnavailable(f"{what}: {_reason(chain)}{advice}")


def _reason(chain: list[BaseException]) -> str:
    # The system's own word for it, or the name of the exception: its text may quote what came.
    for link in chain:
        if isinstance(link, socket.gaierror):
            return "the name of the host cannot be looked up"
        if isinstance(link, OSError) and link.errno is not None and link.errno > 0:
            return os.strerror(link.errno)
    return type(chain[0]).__name__


def _lasting(chain: list[BaseException]) -> str | None:
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return (
                f"the certificate is not trusted{_verdict(link)}; for an authority of your "
                "own set SSL_CERT_FILE to its PEM file"
            )
        if isinstance(link, ssl.SSLError):
            return "TLS failed; does this server speak https, and not http?"
        if isinstance(link, socket.gaierror) and link.errno == socket.EAI_NONAME:
            return "there is no host of this name"
        if type(link).__name__ in {"UnsupportedProtocol", "InvalidURL", "InvalidUrlClientError"}:
            return "this is no URL of HTTP"
    return None


def _verdict(error: ssl.SSLCertVerificationError) -> str:
    # aiohttp's own error of this kind lacks the attribute.
    message = getattr(error, "verify_message", "")
    return f" ({message})" if message else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "os_error", None)
        if isinstance(inner, BaseException):
            yield inner
        error = error.__cause__ or error.__context__
