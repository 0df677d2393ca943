"""POSTs each message as JSON, signed as Standard Webhooks (https://www.standardwebhooks.com) where there is a secret.

The header ``webhook-id`` is the notification's id, the same on each attempt: a receiver that remembers the ids of some
minutes takes each message once.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from pydantic import SecretStr
from standardwebhooks import Webhook

from app.alerting.channels.api import Answer, BaseChannel, ChannelOptions, Context, Url, exchange, setting
from app.alerting.message import Message, headline, moment
from app.errors import ConfigurationError
from app.wire.notifications import News, Notification

FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r\n]*)")  # RFC 9110, section 5
OWN = ("content-type", "content-length", "host", "webhook-id", "webhook-timestamp", "webhook-signature")
KEY_BYTES = range(24, 65)  # of a secret: the specification of Standard Webhooks


class Options(ChannelOptions):
    url: Url = setting(..., "where to POST to", expected="https://host/path")
    signing_secret: SecretStr | None = setting(
        None, "key of the signature; none: messages are not signed", expected="whsec_ and 24 to 64 bytes in base64"
    )
    signing_secret_file: str | None = setting(None, "file with that secret", expected="the path of a file")
    headers: SecretStr | None = setting(
        None, "further headers, one on a line, as Authorization: Bearer ...", expected="lines of Name: value"
    )
    headers_file: str | None = setting(None, "file with such lines", expected="the path of a file")
    timeout_s: float = setting(10.0, "longest wait for an answer", unit="s", at_least=0.1, at_most=300.0)


class _Secrets(NamedTuple):
    signature: Webhook | None
    headers: dict[str, str]


class Channel(BaseChannel):
    MESSAGES_PER_MINUTE = 480.0  # for machines: all partitions of an alerter share it, and nobody waits for a second
    options: Options

    def __init__(self, name: str, options: Options, context: Context) -> None:
        """Raises ConfigurationError for a secret or headers that are none."""
        super().__init__(name, options, context)
        self._secrets()

    async def send(self, notification: Notification) -> Answer:
        secrets = self._secrets()  # each time: their files may have changed
        body = await asyncio.to_thread(payload, notification, self.context)  # that of a digest takes a while
        now = datetime.now(UTC)
        headers = {
            **secrets.headers,
            "Content-Type": "application/json",
            "webhook-id": notification.id,
            "webhook-timestamp": str(int(now.timestamp())),
        }
        if secrets.signature:
            headers["webhook-signature"] = secrets.signature.sign(notification.id, now, body.decode())
        reply = await exchange(
            self.session,
            "POST",
            self.options.url,
            body=body,
            headers=headers,
            timeout_s=self.options.timeout_s,
            hide=[word for value in secrets.headers.values() for word in value.split()],
        )
        return Answer(reply.said)

    def _secrets(self) -> _Secrets:
        secret, signature = self.options.secret("signing_secret"), None
        if secret is not None:
            try:
                key = b64decode(secret.removeprefix("whsec_"), validate=True)
            except ValueError:
                key = b""
            if len(key) not in KEY_BYTES:
                raise ConfigurationError("signing_secret: expected whsec_ and 24 to 64 bytes in base64, got other text")
            signature = Webhook(key)
        headers = {}
        for number, line in enumerate((self.options.secret("headers") or "").splitlines(), 1):
            if not line.strip():
                continue
            found = FIELD.fullmatch(line.strip())
            if not found or found[1].lower() in OWN:
                raise ConfigurationError(
                    f"headers: line {number} must be Name: value, with another name than {', '.join(OWN)}"
                )
            headers[found[1]] = found[2]
        return _Secrets(signature, headers)


def payload(notification: Notification, context: Context) -> bytes:
    """The body: the same bytes for the same notification."""
    message = Message.of(notification, context)
    data: dict[str, Any] = {
        "id": notification.id,
        "channel": notification.channel,
        "route": notification.route,
        "title": message.title,
        "text": message.plain(),
        "severity": message.severity,
        "episodes": [_episode(news, context) for news in notification.news],
    }
    body = {"type": notification.about, "timestamp": moment(notification.created_at), "data": data}
    return msgspec.json.encode(body)


def _episode(news: News, context: Context) -> dict[str, Any]:
    """The fields of its event, as in the topic of anomalies, and what is said of it."""
    words = {"why": news.why, "title": headline(news), "link": context.link(news.event)}
    began = {"began": msgspec.to_builtins(news.began)} if news.began else {}
    return words | msgspec.to_builtins(news.event) | began
