"""The way to the project: trusted certificate authorities, and the proxy."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from supabase_auth_state.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

    from .settings import Settings

CA_FILE_VARIABLE = "SSL_CERT_FILE"
CA_DIRECTORY_VARIABLE = "SSL_CERT_DIR"

# What OpenSSL looks for in a directory: names that `openssl rehash` makes.
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")
_SOCKS = {"socks": "socks5", "socks5": "socks5", "socks5h": "socks5h"}


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """Return the certificate authorities that are trusted for https.

    With ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, in the settings or the environment, these are the
    authorities there and no others. Otherwise they are those of the system and of certifi.

    Args:
        settings: the project's settings.

    Raises:
        ConfigurationError: the file or the directory that a variable names holds no authority.
    """
    import ssl

    ca_file = settings.ca_file or os.environ.get(CA_FILE_VARIABLE)
    ca_directory = settings.ca_directory or os.environ.get(CA_DIRECTORY_VARIABLE)
    if not ca_file and not ca_directory:
        return _usual_authorities()
    problem = _directory_problem(ca_directory) if ca_directory else None
    if problem is None:
        try:
            return ssl.create_default_context(cafile=ca_file or None, capath=ca_directory or None)
        except (OSError, ValueError) as error:
            problem = _context_problem(error, ca_file)
    # Raised here, so that no exception of the standard library is in the chain.
    raise ConfigurationError(problem)


def _usual_authorities() -> ssl.SSLContext:
    import httpx

    try:
        context = httpx.create_ssl_context(trust_env=False)
        context.load_default_certs()
    except OSError as error:
        problem = _context_problem(error, None)
    else:
        return context
    raise ConfigurationError(problem)


def _context_problem(error: OSError | ValueError, ca_file: str | None) -> str:
    import ssl

    key_log = os.environ.get("SSLKEYLOGFILE")
    if key_log and isinstance(error, OSError) and error.filename == key_log:
        return f"SSLKEYLOGFILE: {key_log} cannot be written: {error.strerror}"
    if ca_file is None:
        return f"the certificate authorities cannot be loaded: {type(error).__name__}"
    if isinstance(error, ssl.SSLError):
        return (
            f"{CA_FILE_VARIABLE}: {ca_file} holds no certificate in PEM form (-----BEGIN "
            "CERTIFICATE-----); `openssl x509 -inform der` converts one in DER form"
        )
    reason = error.strerror if isinstance(error, OSError) else "this is no path"
    return f"{CA_FILE_VARIABLE}: {ca_file} cannot be read: {reason}"


def _directory_problem(ca_directory: str) -> str | None:
    # OpenSSL skips what it cannot read, and then trusts nothing.
    parts = [Path(part) for part in ca_directory.split(os.pathsep) if part]
    try:
        found = any(_HASHED_NAME.fullmatch(path.name) for part in parts for path in part.iterdir())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no path"
        return f"{CA_DIRECTORY_VARIABLE}: {ca_directory} cannot be read: {reason}"
    if found:
        return None
    return (
        f"{CA_DIRECTORY_VARIABLE}: {ca_directory} holds no certificate under the name by which "
        f"OpenSSL looks for it: run `openssl rehash {ca_directory}`, or name a file in "
        f"{CA_FILE_VARIABLE}"
    )


def proxy_of(url: str) -> str | None:
    """Return the URL of the proxy that the environment wants for a URL, or None for no proxy.

    The variable of the URL's scheme (``HTTPS_PROXY``) comes first, then ``ALL_PROXY``. One that
    cannot be used is passed over when the other one can. ``NO_PROXY`` is obeyed.

    Args:
        url: the URL to be reached.

    Raises:
        ConfigurationError: a proxy is wanted, and none of those that are named can be used.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    problems = []
    for name in (parts.scheme, "all"):
        value = proxies.get(name, "").strip()
        if not value:
            continue
        proxy, problem = _checked_proxy(value)
        if proxy is not None:
            return proxy
        problems.append(f"{_proxy_variable(name)} {problem}")
    if not problems:
        return None
    raise ConfigurationError(
        f"{'; '.join(problems)}. Set {parts.scheme.upper()}_PROXY to an http:// proxy, or "
        f"NO_PROXY={parts.hostname} to go without one"
    )


def _checked_proxy(value: str) -> tuple[str | None, str]:
    """Return a usable form of a proxy's URL, or what is wrong, which never quotes its password."""
    import httpx

    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "http", value
    scheme = scheme.lower()
    if scheme in _SOCKS:
        if importlib.util.find_spec("socksio") is None:
            return None, "is a SOCKS proxy, which needs `pip install 'httpx[socks]'`"
        scheme = _SOCKS[scheme]
    elif scheme not in ("http", "https"):
        return None, f"has the scheme {scheme[:20]!r}, which is none of a proxy"
    proxy = f"{scheme}://{rest}"
    try:
        host = httpx.Proxy(proxy).url.host
    except (ValueError, httpx.InvalidURL):
        host = ""
    if not host or any(char.isspace() for char in proxy):
        return None, "is not the URL of a proxy"
    return proxy, ""


def _proxy_variable(name: str) -> str:
    return next(_names_in_environment(name), f"the system's {name} proxy")


def _names_in_environment(name: str) -> Iterator[str]:
    variable = f"{name}_proxy"
    return (each for each in (variable, variable.upper()) if os.environ.get(each))
