"""What a failure to send means: at the first contact a wrong address, later a fault that passes."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import aiohttp
import httpx
import pytest

from supabase_auth_state import ConfigurationError, StoreUnavailable
from supabase_auth_state.rest.failures import translated

SECRET = "c2VjcmV0LXNpZ25hbC1rZXk="
URL = "https://project.test/rest/v1"


def caused(error: Exception, *causes: Exception) -> Exception:
    """Chain exceptions as libraries do, the last one first raised."""
    outer = error
    for cause in causes:
        outer.__cause__ = cause
        outer = cause
    return error


LASTING = {
    "there is no host of this name": caused(
        httpx.ConnectError(SECRET), OSError(), socket.gaierror(socket.EAI_NONAME, SECRET)
    ),
    "the certificate is not trusted": caused(
        httpx.ConnectError(SECRET), ssl.SSLCertVerificationError(1, SECRET)
    ),
    "does this server speak https": caused(
        httpx.ConnectError(SECRET), ssl.SSLError(1, "WRONG_VERSION_NUMBER")
    ),
    "this is no URL of HTTP": httpx.UnsupportedProtocol(SECRET),
}
PASSING = {
    "Connection refused": caused(
        httpx.ConnectError(SECRET), ConnectionRefusedError(errno.ECONNREFUSED, SECRET)
    ),
    "Connection reset by peer": caused(
        httpx.ReadError(SECRET), ConnectionResetError(errno.ECONNRESET, SECRET)
    ),
    "the name of the host cannot be looked up": caused(
        httpx.ConnectError(SECRET), socket.gaierror(socket.EAI_AGAIN, SECRET)
    ),
    "no answer in time": asyncio.TimeoutError(),
    "ServerDisconnectedError": aiohttp.ServerDisconnectedError(SECRET),
    "DecodingError": httpx.DecodingError(SECRET),
    "RuntimeError": RuntimeError(SECRET),
    "UnicodeDecodeError": UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
}


@pytest.mark.parametrize("reason", LASTING)
def test_what_no_retry_mends_is_a_wrong_setting_at_the_first_contact_only(reason: str) -> None:
    first = translated(LASTING[reason], "asking", URL, reached=False)
    later = translated(LASTING[reason], "asking", URL, reached=True)
    assert (type(first), type(later)) == (ConfigurationError, StoreUnavailable)
    for error in (first, later):
        assert reason in str(error)
        assert URL in str(error)
        assert SECRET not in str(error)


@pytest.mark.parametrize("reason", PASSING)
@pytest.mark.parametrize("reached", [False, True])
def test_what_may_pass_says_what_happened_and_quotes_nothing(reason: str, reached: bool) -> None:
    error = translated(PASSING[reason], "asking", URL, reached=reached)
    assert type(error) is StoreUnavailable
    assert str(error).startswith(f"asking: {reason}")
    assert SECRET not in str(error)
    assert ("right address" in str(error)) is (type(PASSING[reason]) is httpx.ConnectError)


def test_an_error_that_causes_itself_ends() -> None:
    first, second = OSError(), OSError()
    first.__cause__, second.__cause__ = second, first
    assert "OSError" in str(translated(first, "asking", URL, reached=False))
