"""The gateway's configuration: `/rest/v1`, and who an API key makes of a request."""

from __future__ import annotations

import json
from pathlib import Path

from devstack import keys

ROLE_TOKENS = {
    keys.ANON_KEY: keys.ANON_KEY,
    keys.PUBLISHABLE_KEY: keys.ANON_KEY,
    keys.SERVICE_ROLE_KEY: keys.SERVICE_ROLE_KEY,
    keys.SECRET_KEY: keys.SERVICE_ROLE_KEY,
}
"""The JWT that stands for each API key; PostgREST knows only JWTs."""

_NO_KEY = {
    "message": "No API key found in request",
    "hint": "No `apikey` request header or url param was found.",
}
_BAD_KEY = {
    "message": "Invalid API key",
    "hint": "Double check your Supabase `anon` or `service_role` API key.",
}
_NO_ROUTE = {"message": "no Route matched with those values"}
_NO_UPSTREAM = {"message": "An invalid response was received from the upstream server"}

_TEMPLATE = """\
{
	admin off
	auto_https <auto_https>
	skip_install_trust
	persist_config off
	grace_period 1s
	log {
		level WARN
	}
}

<scheme>://<host>:<port> {
	<tls>
	handle_path /rest/v1/* {
		@no_key not header apikey *
		handle @no_key {
			header Content-Type application/json
			respond <no_key> 401
		}

		map {header.apikey} {role_token} {
<role_tokens>
			default ""
		}
		@bad_key vars {role_token} ""
		handle @bad_key {
			header Content-Type application/json
			respond <bad_key> 401
		}

		# A user's token is passed on; clients that put their API key there too mean the key.
		@no_token not header Authorization *
		@key_as_token header Authorization "Bearer sb_*"
		request_header @no_token Authorization "Bearer {role_token}"
		request_header @key_as_token Authorization "Bearer {role_token}"

		reverse_proxy unix/<upstream> {
			transport http {
				compression off
				keepalive 5m
				keepalive_idle_conns 256
				keepalive_idle_conns_per_host 256
			}
		}
	}

	handle {
		header Content-Type application/json
		respond <no_route> 404
	}

	handle_errors {
		header Content-Type application/json
		respond <no_upstream> {err.status_code}
	}
}
"""


def render(host: str, port: int, upstream: Path, *, https: bool = False) -> str:
    """Write the Caddyfile of a gateway at `host:port` before PostgREST on the socket `upstream`.

    Args:
        host: Where it listens.
        port: Where it listens.
        upstream: PostgREST's socket.
        https: Serve https, with a certificate of an authority that Caddy makes.
    """
    values = {
        "scheme": "https" if https else "http",
        "tls": "tls internal" if https else "",
        "auto_https": "disable_redirects" if https else "off",
        "host": host,
        "port": str(port),
        "upstream": str(upstream),
        "role_tokens": "\n".join(f"\t\t\t{key} {token}" for key, token in ROLE_TOKENS.items()),
        "no_key": _quoted(_NO_KEY),
        "bad_key": _quoted(_BAD_KEY),
        "no_route": _quoted(_NO_ROUTE),
        "no_upstream": _quoted(_NO_UPSTREAM),
    }
    text = _TEMPLATE
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    return text


def _quoted(body: dict[str, str]) -> str:
    """Write `body` as JSON in the Caddyfile's quotes, inside which only `"` is escaped."""
    return '"' + json.dumps(body).replace('"', '\\"') + '"'
