"""Settings, keys and flags: right, or refused with the reason."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from supabase_auth_state import ConfigurationError, Settings
from supabase_auth_state.config import check_company_id, database_flag

URL = "https://abc.supabase.co"


def jwt(**claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256'})}.{part(claims)}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "key",
    [
        "sb_secret_abc",
        pytest.param(jwt(role="service_role", exp=time.time() + 86400), id="jwt"),
        "own-gateway-key",
    ],
)
def test_service_keys_are_taken(key: str) -> None:
    assert Settings(url=URL, key=f" {key}\n").key == key


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("sb_publishable_abc", "publishable"),
        ("sbp_abc", "personal access token"),
        (jwt(role="anon"), "anon key"),
        (jwt(role="authenticated", sub="u"), "'authenticated'"),
        (jwt(sub="u"), "without a role"),
        (jwt(role="service_role", exp=1), "expired"),
        ("", "empty"),
        ("two words", "no key has"),
        ("clé", "no key has"),
    ],
)
def test_other_keys_are_refused_and_named_but_not_shown(key: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        Settings(url=URL, key=key)
    assert len(key) < 8 or key not in str(refused.value)


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}/rest/v1", f" {URL}/rest/v1/ "])
def test_the_url_is_the_projects(url: str) -> None:
    assert Settings(url=url, key="sb_secret_x").url == URL


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://postgres:pw@db.abc.supabase.co/postgres", "database URL"),
        ("https://supabase.com/dashboard/project/abc", "dashboard"),
        ("abc.supabase.co", "not an http"),
        ("ftp://abc", "not an http"),
        ("https://user:pw@abc.supabase.co", "no user"),
        ("https://[abc", "not an http"),
        ("", "not an http"),
    ],
)
def test_other_urls_are_refused_without_showing_a_password(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        Settings(url=url, key="sb_secret_x")
    assert "pw" not in str(refused.value)


def test_the_key_is_not_in_the_repr() -> None:
    assert "sb_secret" not in repr(Settings(url=URL, key="sb_secret_x"))


@pytest.mark.parametrize("name", ["SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEY"])
def test_settings_come_from_the_environment(name: str) -> None:
    assert Settings.from_env({"SUPABASE_URL": URL, name: "sb_secret_x"}).key == "sb_secret_x"


def test_settings_come_from_a_dotenv_file_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"SUPABASE_URL={URL}\nSUPABASE_SECRET_KEY=sb_secret_file\n")
    monkeypatch.chdir(tmp_path)
    assert Settings.from_env().key == "sb_secret_file"
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_environment")
    assert Settings.from_env().key == "sb_secret_environment"


@pytest.mark.parametrize(
    "given", [{}, {"SUPABASE_URL": URL}, {"SUPABASE_URL": URL, "SUPABASE_SECRET_KEY": " "}]
)
def test_what_is_missing_is_named(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"SUPABASE_(URL|SERVICE_ROLE_KEY).* is not set"):
        Settings.from_env(given)


@pytest.mark.parametrize("word", ["1", "true", "TRUE", "Yes", "on", " t "])
def test_the_flag_says_yes(word: str) -> None:
    assert database_flag({"USE_DATABASE_AUTH_STATE": word}) is True


@pytest.mark.parametrize("word", ["0", "false", "No", "OFF", "", " "])
def test_the_flag_says_no(word: str) -> None:
    assert database_flag({"USE_DATABASE_AUTH_STATE": word}) is False


def test_no_flag_means_files() -> None:
    assert database_flag({}) is False


@pytest.mark.parametrize("word", ["maybe", "ture", "2", "-1"])
def test_a_flag_of_nonsense_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match="neither yes nor no"):
        database_flag({"USE_DATABASE_AUTH_STATE": word})


@pytest.mark.parametrize(
    "company", ["962302", "ünï/code: with 'quotes'", "00000000-0000-4000-8000-000000000001"]
)
def test_company_ids_are_any_text(company: str) -> None:
    assert check_company_id(company) == company


@pytest.mark.parametrize(
    "company", ["", " x", "x ", "a\0b", "a\nb", "x" * 256, "\ud800", 962302, None, b"x"]
)
def test_impossible_company_ids_are_refused(company: object) -> None:
    with pytest.raises(ConfigurationError):
        check_company_id(company)
