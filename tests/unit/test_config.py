"""Settings, keys and flags: right, or refused with the reason."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from supabase_auth_state import ConfigurationError, Settings
from supabase_auth_state.config import check_company_id, database_flag

URL = "https://abc.supabase.co"


def jwt(**claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256'})}.{part(claims)}.{'c2ln' * 10}c2l"


# The same in every process: it is part of the tests' names.
SERVICE_JWT = jwt(role="service_role", exp=4102444800)


@pytest.mark.parametrize(
    "key", ["sb_secret_abc", pytest.param(SERVICE_JWT, id="jwt"), "own-gateway-key"]
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
        (jwt(sub="u"), "without role"),
        (jwt(role="service_role", exp=1), "expired"),
        ("", "is empty: copy it"),
        ("clé-of-a-gateway", "characters that no key has"),
        ("a\x07gateway-key", "characters that no key has"),
    ],
)
def test_other_keys_are_refused_and_named_but_not_shown(key: str, said: str) -> None:
    refuse_key(key, said)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (f'"{SERVICE_JWT}"', "has quotes around it"),
        ("'sb_secret_abc'", "has quotes around it"),
        ("\u201csb_secret_abc\u201d", "has quotes around it"),
        (f'"{SERVICE_JWT}', "has quotes around it"),
        (f"Bearer {SERVICE_JWT}", "remove that word"),
        ("bearer sb_secret_abc", "remove that word"),
        ("SUPABASE_SECRET_KEY=sb_secret_abc", "behind `=`"),
        ("export SUPABASE_SECRET_KEY=sb_secret_abc", "behind `=`"),
        ("sb_secret_", "only the beginning of a secret key"),
        ("sb_secret_…", "placeholder"),
        ("sb_secret_...", "placeholder"),
        ("<service-role-key>", "placeholder"),
        ("your-service-role-key", "placeholder"),
        ("https://abc.supabase.co", "is a URL"),
        (f"{SERVICE_JWT[:60]}\n{SERVICE_JWT[60:]}", "a line break inside"),
        ("sb_secret_a bc", "has a space"),
        ("sb_secret_a\u00a0bc", "has a space"),
    ],
)
def test_a_key_that_was_copied_wrongly_is_told_before_any_request(key: str, said: str) -> None:
    refuse_key(key, said)


@pytest.mark.parametrize("length", [3, 20, 36, 37, 60, len(SERVICE_JWT) - 43, len(SERVICE_JWT) - 1])
def test_a_jwt_that_was_cut_off_is_told_wherever_it_was_cut(length: int) -> None:
    refuse_key(SERVICE_JWT[:length], "not a whole one")


@pytest.mark.parametrize(
    "key", [f"{SERVICE_JWT}x", f"{SERVICE_JWT}.x", SERVICE_JWT.replace(".", "")]
)
def test_a_jwt_with_something_added_or_lost_is_told(key: str) -> None:
    refuse_key(key, "not a whole one")


def refuse_key(key: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)) as refused:
        Settings(url=URL, key=key)
    assert len(key) < 12 or key not in str(refused.value)
    assert refused.value.__context__ is None


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
        ("https://abc.supabase.co:port", "not an http"),
        ("https://abc.supabase.co:70000", "not an http"),
        ("https://abc..supabase.co", "not an http"),
        ("https://a☃c.supabase.co", "not an http"),
        (f"https://{'a' * 64}.supabase.co", "not an http"),
        (f'"{URL}"', "quotes around it"),
        (f"'{URL}", "quotes around it"),
        ("https://abc.supabase .co", "a space"),
        ("https://abc.supabase\n.co", "a control character"),
        ("https://abc\0.supabase.co", "a control character"),
        ("https://<ref>.supabase.co", "placeholder"),
        ("", "not an http"),
    ],
)
def test_other_urls_are_refused_without_showing_a_password(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        Settings(url=url, key="sb_secret_x")
    assert "pw" not in str(refused.value)
    assert refused.value.__cause__ is None


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


ENCODINGS = [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("latin-1", "not written in UTF-8")]


@pytest.mark.parametrize(("encoding", "said"), ENCODINGS)
def test_a_dotenv_file_in_another_encoding_is_named_when_it_is_needed(
    encoding: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"# clé\nSUPABASE_URL={URL}\nSUPABASE_SECRET_KEY=sb_secret_file\n"
    (tmp_path / ".env").write_text(text, encoding)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=f"is not set, and .*{tmp_path}.*{said}"):
        Settings.from_env()
    with pytest.raises(ConfigurationError, match=f"is not set, and .*{tmp_path}.*{said}"):
        database_flag()


@pytest.mark.parametrize(("encoding", "said"), ENCODINGS)
def test_a_dotenv_file_in_another_encoding_is_a_warning_when_it_is_not_needed(
    encoding: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / ".env").write_text("# clé\nSUPABASE_SCHEMA=other\n", encoding)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_URL", URL)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_environment")
    monkeypatch.setenv("USE_DATABASE_AUTH_STATE", "true")
    assert Settings.from_env().key == "sb_secret_environment"
    assert database_flag() is True
    assert said in caplog.text


def test_a_dotenv_file_may_begin_with_a_byte_order_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"SUPABASE_URL={URL}\nSUPABASE_SECRET_KEY=sb_secret_file\n"
    (tmp_path / ".env").write_text(text, "utf-8-sig")
    monkeypatch.chdir(tmp_path)
    assert Settings.from_env().url == URL


def test_a_dotenv_file_that_is_not_readable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("")
    monkeypatch.chdir(tmp_path)

    def read_bytes(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, who may read everything.
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read: Permission denied"):
        Settings.from_env()


def test_a_folder_of_that_name_is_no_dotenv_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="put it in the environment"):
        Settings.from_env()


def test_a_working_directory_that_was_deleted_has_no_dotenv_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match="is not set"):
        Settings.from_env()


# The schema


def test_the_schema_is_public_unless_a_setting_names_another() -> None:
    given = {"SUPABASE_URL": URL, "SUPABASE_SECRET_KEY": "sb_secret_x"}
    assert Settings.from_env(given).schema == "public"
    assert Settings.from_env({**given, "SUPABASE_SCHEMA": " "}).schema == "public"
    assert Settings.from_env({**given, "SUPABASE_SCHEMA": " whatsapp "}).schema == "whatsapp"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "one name"), ("WhatsApp", "one name"), ("1st", "one name"), ("a b", "one name"),
        ("a.b", "one name"), ('a"b', "one name"), ("a;drop", "one name"), ("é", "one name"),
        ("x" * 64, "one name"), ("public,other", "one name"), ("whatsapp\n", "one name"),
        ("auth", "belongs to"), ("pg_catalog", "belongs to"), ("storage", "belongs to"),
    ],
)  # fmt: skip
def test_impossible_schemas_are_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SUPABASE_SCHEMA.*{said}"):
        Settings(url=URL, key="sb_secret_x", schema=name)


# The flag


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
