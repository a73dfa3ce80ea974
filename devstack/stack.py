"""A Supabase project to work against, known by its addresses and keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack import keys
from devstack.binaries import PROJECT, DevstackError
from devstack.migrations import push_migrations

_REQUIRED = ("SUPABASE_URL", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_DB_URL")


@dataclass(frozen=True, repr=False, kw_only=True)
class Stack:
    """The addresses and keys of a Supabase project.

    Attributes:
        url: Base address of the API, without `/rest/v1`.
        db_url: PostgreSQL as the role `postgres`, which is no superuser.
        anon_key: Legacy JWT key of the role `anon`.
        service_role_key: Legacy JWT key of the role `service_role`.
        publishable_key: `sb_publishable_…` key of the role `anon`.
        secret_key: `sb_secret_…` key of the role `service_role`.
        jwt_secret: What user tokens are signed with, see `devstack.keys.sign_jwt`.
    """

    url: str
    db_url: str
    anon_key: str = keys.ANON_KEY
    service_role_key: str = keys.SERVICE_ROLE_KEY
    publishable_key: str = keys.PUBLISHABLE_KEY
    secret_key: str = keys.SECRET_KEY
    jwt_secret: str = keys.JWT_SECRET

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Stack | None:
        """Give the project that the environment names, None when it names none.

        What `env` gives beyond the four required names is read too; else Supabase's local defaults.

        Raises:
            DevstackError: Some of the four required variables are set and some are not.
        """
        missing = [name for name in _REQUIRED if not environ.get(name)]
        if len(missing) == len(_REQUIRED):
            return None
        if missing:
            raise DevstackError(f"set {', '.join(missing)} too, or none of {', '.join(_REQUIRED)}")
        return Stack(
            url=environ["SUPABASE_URL"].rstrip("/"),
            db_url=environ["SUPABASE_DB_URL"],
            anon_key=environ["SUPABASE_ANON_KEY"],
            service_role_key=environ["SUPABASE_SERVICE_ROLE_KEY"],
            publishable_key=environ.get("SUPABASE_PUBLISHABLE_KEY", keys.PUBLISHABLE_KEY),
            secret_key=environ.get("SUPABASE_SECRET_KEY", keys.SECRET_KEY),
            jwt_secret=environ.get("SUPABASE_JWT_SECRET", keys.JWT_SECRET),
        )

    def env(self) -> dict[str, str]:
        """Give the environment that `from_env` reads."""
        return {
            "SUPABASE_URL": self.url,
            "SUPABASE_ANON_KEY": self.anon_key,
            "SUPABASE_SERVICE_ROLE_KEY": self.service_role_key,
            "SUPABASE_DB_URL": self.db_url,
            "SUPABASE_PUBLISHABLE_KEY": self.publishable_key,
            "SUPABASE_SECRET_KEY": self.secret_key,
            "SUPABASE_JWT_SECRET": self.jwt_secret,
        }

    def migrate(self, workdir: Path = PROJECT) -> None:
        """Apply `workdir/supabase/migrations` with the Supabase CLI, as a user would."""
        push_migrations(self.db_url, workdir)
