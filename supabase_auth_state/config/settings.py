"""Which project, with which key and schema, and how long to wait for it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from supabase_auth_state.errors import ConfigurationError

from .encryption import KEYS_VARIABLE, Encryption, check_encryption
from .environment import Environment, environment, first_of
from .network import CA_DIRECTORY_VARIABLE, CA_FILE_VARIABLE
from .service_key import KEY_VARIABLES, WHERE_KEYS_ARE, check_service_key

log = logging.getLogger("supabase_auth_state")

URL_VARIABLE = "SUPABASE_URL"
SCHEMA_VARIABLE = "SUPABASE_SCHEMA"
FLAG_VARIABLE = "USE_DATABASE_AUTH_STATE"

_YES = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO = frozenset({"0", "false", "f", "no", "n", "off"})
_PROJECT_URL = "use the project's API URL, https://<ref>.supabase.co"
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Schemas that belong to PostgreSQL or to Supabase.
_FOREIGN_SCHEMAS = frozenset(
    {
        "auth", "cron", "extensions", "graphql", "graphql_public", "information_schema", "net",
        "pgbouncer", "pgmq", "pgsodium", "realtime", "storage", "supabase_functions",
        "supabase_migrations", "vault",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """A Supabase project, and how long to wait for it.

    Attributes:
        url: the project's URL, e.g. ``https://abc.supabase.co`` (no ``/rest/v1``).
        key: a ``sb_secret_…`` key, or the legacy service_role JWT. Never shown by ``repr``.
        timeout: seconds that one request may take.
        give_up_after: seconds after which a request that keeps failing is given up.
        schema: the database schema that holds the tables. `migrations copy --schema` writes the SQL
            for it, and the API has to expose it.
        ca_file: a PEM file of the certificate authorities to trust for https, instead of the usual
            ones; None for that of ``SSL_CERT_FILE``.
        ca_directory: a directory of such files, as ``openssl rehash`` makes it; None for that of
            ``SSL_CERT_DIR``.
        encryption: the keys that seal values, ``k2:<base64>,k1:<base64>``: the first seals, all
            open. Or a function that returns such a list for a company_id, at once or awaitable.
            None: values are stored plain. Never shown by ``repr``.

    Raises:
        ConfigurationError: the URL is not one of a project, the key is not a service key, or the
            name of the schema cannot be used.
    """

    url: str
    key: str = field(repr=False)
    timeout: float = 10.0
    give_up_after: float = 30.0
    schema: str = "public"
    ca_file: str | None = None
    ca_directory: str | None = None
    encryption: Encryption | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_url(self.url))
        object.__setattr__(self, "key", check_service_key(self.key))
        check_schema(self.schema)
        check_encryption(self.encryption)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of the environment, and of the nearest ``.env`` file under it.

        ``SUPABASE_URL`` and the service key (``SUPABASE_SERVICE_ROLE_KEY`` or
        ``SUPABASE_SECRET_KEY``) are needed; ``SUPABASE_SCHEMA``, ``SSL_CERT_FILE``,
        ``SSL_CERT_DIR`` and ``SUPABASE_AUTH_STATE_KEYS`` are not.

        Args:
            env: read this mapping instead, and no ``.env``.

        Raises:
            ConfigurationError: a variable is missing or not what it should be.
        """
        values = environment() if env is None else env
        settings = cls(
            url=_needed(values, URL_VARIABLE),
            key=_needed(values, *KEY_VARIABLES),
            schema=(first_of(values, SCHEMA_VARIABLE) or cls.schema).strip(),
            ca_file=first_of(values, CA_FILE_VARIABLE),
            ca_directory=first_of(values, CA_DIRECTORY_VARIABLE),
            encryption=first_of(values, KEYS_VARIABLE),
        )
        if isinstance(values, Environment) and values.unread:
            log.warning("%s; the environment has what is needed", values.unread)
        return settings


def database_flag(env: Mapping[str, str] | None = None) -> bool:
    """Return whether ``USE_DATABASE_AUTH_STATE`` asks for the database; unset or empty means files.

    Raises:
        ConfigurationError: the value is neither a usual yes nor a usual no, or the variable is not
            set and the ``.env`` that may set it cannot be read.
    """
    values = environment() if env is None else env
    raw = values.get(FLAG_VARIABLE, "").strip()
    word = raw.lower()
    if word in _YES:
        return True
    if not word and isinstance(values, Environment) and values.unread:
        raise ConfigurationError(f"{FLAG_VARIABLE} is not set, and {values.unread}")
    if word in _NO or not word:
        return False
    raise ConfigurationError(
        f"{FLAG_VARIABLE}={raw!r} is neither yes nor no: use true or false (1/0, yes/no, on/off)"
    )


def check_company_id(company_id: object) -> str:
    """Return a usable company_id: text of 1 to 255 characters without control characters.

    Raises:
        ConfigurationError: it is anything else.
    """
    if not isinstance(company_id, str):
        raise ConfigurationError(
            f"company_id must be a string, not {type(company_id).__name__}: pass e.g. '962302'"
        )
    if not 1 <= len(company_id) <= 255 or company_id != company_id.strip():
        raise ConfigurationError(
            f"company_id {company_id[:40]!r} must be 1 to 255 characters without outer spaces"
        )
    if any(
        ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in company_id
    ):
        raise ConfigurationError(f"company_id {company_id[:40]!r} has a control character in it")
    return company_id


def check_schema(schema: object) -> str:
    """Return the name of a schema that can hold the tables.

    Raises:
        ConfigurationError: it is not a plain lower-case name, or the schema of something else.
    """
    if not isinstance(schema, str) or not _SCHEMA_NAME.fullmatch(schema):
        raise ConfigurationError(
            f"{SCHEMA_VARIABLE} must be one name of a-z, 0-9 and _ that does not begin with a "
            "digit, at most 63 characters: e.g. whatsapp"
        )
    if schema in _FOREIGN_SCHEMAS or schema.startswith("pg_"):
        raise ConfigurationError(
            f"{SCHEMA_VARIABLE}: the schema {schema} belongs to PostgreSQL or to Supabase: choose "
            "another name, e.g. whatsapp"
        )
    return schema


def check_url(url: str) -> str:
    """Return the project's base URL without a trailing slash or ``/rest/v1``.

    Raises:
        ConfigurationError: it is no http(s) URL of a project.
    """
    url = url.strip()
    problem = _url_problem(url)
    if problem:
        raise ConfigurationError(f"{URL_VARIABLE} {problem}")
    return url.rstrip("/").removesuffix("/rest/v1")


def _url_problem(url: str) -> str | None:
    if url[:1] in ("'", '"') or url[-1:] in ("'", '"'):
        return "has quotes around it, which are no part of it: remove them"
    if any(char.isspace() or not char.isprintable() for char in url):
        return f"has a space or a control character inside: {_PROJECT_URL}"
    import httpx

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        # Each of the two refuses names that the other lets pass.
        (host or "").encode("idna")
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        return f"is not an http(s) URL: {_PROJECT_URL}"
    if parts.scheme.startswith("postgres"):
        return f"is a database URL: {_PROJECT_URL}"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return f"is not an http(s) URL: {_PROJECT_URL}"
    if "<" in host or "…" in host:
        return f"is the placeholder of an example: {_PROJECT_URL} with the ref of your project"
    if parts.path.startswith("/dashboard"):
        return "is the dashboard's address: use https://<ref>.supabase.co"
    if parts.username or parts.query or parts.fragment:
        return "must have no user, query or fragment"
    return None


def _needed(values: Mapping[str, str], *names: str) -> str:
    found = first_of(values, *names)
    if found is not None:
        return found
    unread = values.unread if isinstance(values, Environment) else ""
    raise ConfigurationError(
        f"{' or '.join(names)} is not set"
        + (f", and {unread}" if unread else ": put it in the environment or in a .env file")
        + f" ({WHERE_KEYS_ARE})"
    )
