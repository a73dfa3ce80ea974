"""Certificate authorities and proxies: used, or refused with the name of the variable."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi
import pytest

from supabase_auth_state import ConfigurationError, Settings
from supabase_auth_state.config import network, proxy_of, ssl_context

URL = "https://abc.supabase.co"
PROXY_NAMES = ("http", "https", "all", "no")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_NAMES:
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)


def settings(**given: str) -> Settings:
    return Settings(url=URL, key="sb_secret_x", **given)


# Certificate authorities


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A PEM file of one authority."""
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----\n")
    path = tmp_path / "authority.pem"
    path.write_text(first + end)
    return path


def test_the_usual_authorities_are_trusted_by_default() -> None:
    context = ssl_context(settings())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 50


def test_an_authority_of_ones_own_is_the_only_one(
    authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_settings = ssl_context(settings(ca_file=str(authority)))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    from_environment = ssl_context(settings())
    for context in (from_settings, from_environment):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.cert_store_stats()["x509_ca"] == 1


def test_the_variables_count_in_a_dotenv_file_too(authority: Path) -> None:
    given = {"SUPABASE_URL": URL, "SUPABASE_SECRET_KEY": "sb_secret_x"}
    found = Settings.from_env({**given, "SSL_CERT_FILE": str(authority), "SSL_CERT_DIR": "/ca"})
    assert (found.ca_file, found.ca_directory) == (str(authority), "/ca")


def test_a_file_that_holds_no_authority_is_named_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "der").write_bytes(b"0\x82\x03\x0f0\x82\x01\xf7")
    for name, said in (
        ("missing", "cannot be read: No such file"),
        ("", "cannot be read: Is a directory"),
        ("empty", "holds no certificate in PEM form"),
        ("der", "holds no certificate in PEM form"),
    ):
        path = tmp_path / name
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(ConfigurationError, match=f"^SSL_CERT_FILE: {path} {said}") as refused:
            ssl_context(settings())
        assert refused.value.__context__ is None
    with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE.*no path"):
        ssl_context(settings(ca_file="a\0b"))


def test_a_directory_without_hashed_names_is_named_with_its_variable(
    authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, said in (
        (authority.parent / "missing", "cannot be read: No such file"),
        (authority, "cannot be read: Not a directory"),
        (authority.parent, "run `openssl rehash"),
    ):
        monkeypatch.setenv("SSL_CERT_DIR", str(path))
        with pytest.raises(ConfigurationError, match=f"^SSL_CERT_DIR: {path} .*{said}"):
            ssl_context(settings())
    authority.rename(authority.with_name("0a1b2c3d.0"))
    assert ssl_context(settings()).verify_mode is ssl.CERT_REQUIRED


def test_a_log_of_keys_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "missing" / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    with pytest.raises(ConfigurationError, match=f"SSLKEYLOGFILE: {path} cannot be written"):
        ssl_context(settings())


# Proxies


def test_no_proxy_is_used_unless_one_is_named() -> None:
    assert proxy_of(URL) is None


@pytest.mark.parametrize(
    ("named", "proxy"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"ALL_PROXY": "HTTP://u:pw@proxy"}, "http://u:pw@proxy"),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "ALL_PROXY": "socks://p:1080/"}, "http://proxy:3128"),
        ({"ALL_PROXY": "http://proxy:3128", "https_proxy": "socks5://p:1"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "supabase.co"}, None),
        ({"ALL_PROXY": "socks://p:1080/", "no_proxy": "*"}, None),
        ({"ALL_PROXY": "socks://p:1080/", "NO_PROXY": "::1/128,abc.supabase.co"}, None),
    ],
)
def test_a_usable_proxy_is_the_one_that_counts(
    named: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(URL) == proxy


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALL_PROXY", "socks://proxy:1080/", "SOCKS"),
        ("all_proxy", "socks5://u:pw@proxy:1080", "SOCKS"),
        ("HTTPS_PROXY", "socks5h://proxy", "SOCKS"),
        ("https_proxy", "socks4://u:pw@proxy", "scheme 'socks4'"),
        ("HTTPS_PROXY", "ftp://proxy", "scheme 'ftp'"),
        ("HTTPS_PROXY", "http://u:pw@proxy:port", "not the URL of a proxy"),
        ("HTTPS_PROXY", "http://", "not the URL of a proxy"),
        ("ALL_PROXY", "http://[::1", "not the URL of a proxy"),
        ("ALL_PROXY", "http://a b", "not the URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"^{name} .*{said}.*HTTPS_PROXY") as refused:
        proxy_of(URL)
    assert "pw" not in str(refused.value)
    assert refused.value.__context__ is None


@pytest.mark.parametrize(
    ("value", "proxy"),
    [("socks://proxy:1080/", "socks5://proxy:1080/"), ("socks5h://proxy:1", "socks5h://proxy:1")],
)
def test_a_socks_proxy_is_used_where_httpx_can(
    value: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network.importlib.util, "find_spec", lambda name: name == "socksio")
    monkeypatch.setenv("ALL_PROXY", value)
    assert proxy_of(URL) == proxy
