"""Where alerts go: Slack-compatible and generic webhooks, e-mail, the log."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any, Protocol

import orjson

from .alert_config import ReceiverSettings

log = logging.getLogger("supabase_auth_state")

SIGNATURE_HEADER = "x-alert-signature"
"""``sha256=`` and the HMAC of time, a full stop and the body, in hex, by the shared secret."""

TIME_HEADER = "x-alert-time"
"""When the message was sent, in seconds since 1970: part of what is signed."""

ID_HEADER = "x-alert-id"
"""Names the message; one that is sent again, because no answer came, has the same."""

_WITHIN = 10.0
_ICONS = {"firing": "🔴", "repeated": "🔴", "resolved": "🟢", "test": "🔵"}

Message = Mapping[str, Any]
"""What is told: rule, title, notice, severity, value, threshold, since, time, project, text."""


class Undelivered(Exception):
    """A receiver did not take a message. The text quotes neither address nor secret."""


class Receiver(Protocol):
    """Something that takes messages.

    Attributes:
        name: its name in the file.
    """

    name: str

    async def send(self, message: Message, *, message_id: str, now: float) -> None:
        """Send a message.

        Raises:
            Undelivered: it was not taken for certain.
        """
        ...


def receiver_of(settings: ReceiverSettings) -> Receiver:
    """Return the receiver that settings describe."""
    kinds: Mapping[str, type[Any]] = {
        "log": LogReceiver,
        "slack": SlackReceiver,
        "webhook": WebhookReceiver,
        "email": EmailReceiver,
    }
    found: Receiver = kinds[settings.type](settings)
    return found


def signature(secret: str, time: str, body: bytes) -> str:
    """Return the value of `SIGNATURE_HEADER`, for receivers to compare with."""
    signed = hmac.new(secret.encode(), time.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


class LogReceiver:
    """Writes messages to the log ``supabase_auth_state``."""

    def __init__(self, settings: ReceiverSettings) -> None:
        self.name = settings.name

    async def send(self, message: Message, *, message_id: str, now: float) -> None:
        """See `Receiver`."""
        del message_id, now
        is_over = message["notice"] in {"resolved", "test"}
        log.log(logging.INFO if is_over else logging.WARNING, "alert: %s", message["text"])


class SlackReceiver:
    """Sends to an incoming webhook of Slack, or of what takes the same: Mattermost, Discord."""

    def __init__(self, settings: ReceiverSettings) -> None:
        self.name = settings.name
        self._url = settings.secrets["url"]

    async def send(self, message: Message, *, message_id: str, now: float) -> None:
        """See `Receiver`."""
        del message_id, now
        icon = _ICONS.get(message["notice"], "")
        await _post(self._url, orjson.dumps({"text": f"{icon} {message['text']}"}), {})


class WebhookReceiver:
    """Sends the message as JSON, signed with a shared secret."""

    def __init__(self, settings: ReceiverSettings) -> None:
        self.name = settings.name
        self._url = settings.secrets["url"]
        self._secret = settings.secrets["secret"]

    async def send(self, message: Message, *, message_id: str, now: float) -> None:
        """See `Receiver`."""
        body, time = orjson.dumps(message), str(int(now))
        headers = {
            SIGNATURE_HEADER: signature(self._secret, time, body),
            TIME_HEADER: time,
            ID_HEADER: message_id,
        }
        await _post(self._url, body, headers)


class EmailReceiver:
    """Sends an e-mail by SMTP, by default with STARTTLS."""

    def __init__(self, settings: ReceiverSettings) -> None:
        self.name = settings.name
        self._options = settings.options
        self._secrets = settings.secrets

    async def send(self, message: Message, *, message_id: str, now: float) -> None:
        """See `Receiver`."""
        del now
        mail = EmailMessage()
        mail["From"] = self._options["sender"]
        to = self._options["to"]
        mail["To"] = to if isinstance(to, str) else ", ".join(to)
        mail["Subject"] = f"[{message['notice']}] {message['title']}"
        mail["Message-ID"] = f"<{message_id}@supabase-auth-state>"
        mail.set_content(f"{message['text']}\n")
        problem = None
        try:
            await asyncio.to_thread(self._send, mail)
        except (OSError, smtplib.SMTPException) as error:
            # Raised below: what a server says may quote an address or a name.
            problem = type(error).__name__
        if problem is not None:
            raise Undelivered(problem)

    def _send(self, mail: EmailMessage) -> None:
        mode = self._options.get("tls", "starttls")
        context = ssl.create_default_context()
        host, port = self._options["host"], self._options.get("port")
        server: smtplib.SMTP
        if mode == "tls":
            server = smtplib.SMTP_SSL(host, port or 465, timeout=_WITHIN, context=context)
        else:
            server = smtplib.SMTP(host, port or 587, timeout=_WITHIN)
        with server:
            if mode == "starttls":
                server.starttls(context=context)
            if "user" in self._secrets:
                server.login(self._secrets["user"], self._secrets.get("password", ""))
            server.send_message(mail)


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    # By aiohttp and not by httpx, which writes addresses to its log: Slack's are secrets.
    import aiohttp

    problem = None
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_WITHIN), trust_env=True
            ) as session,
            session.post(
                url,
                data=body,
                headers={"content-type": "application/json", **headers},
                allow_redirects=False,
            ) as answer,
        ):
            if not 200 <= answer.status < 300:
                problem = f"HTTP {answer.status}"
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError) as error:
        problem = type(error).__name__
    # Raised here, so that no exception in the chain holds the address.
    if problem is not None:
        raise Undelivered(problem)
