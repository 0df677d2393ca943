"""The interface of channels. A channel is one file of this folder, found by its name.

    class Options(ChannelOptions):     its settings, checked before anything is sent
        url: Url = setting(..., "where to send", expected="https://host/path")

    class Channel(BaseChannel):
        options: Options

        async def send(self, notification: Notification) -> Answer: ...

``send`` is called again, with the same notification, after it has raised ``Retry``; never at the same time for one
channel, so that messages arrive in order.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import aiohttp
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

from app.alerting import outgoing
from app.alerting.message import clean
from app.errors import AnomalyError, ConfigurationError
from app.settings.fields import setting
from app.settings.messages import SECRET
from app.wire.decisions import Acknowledgement, Silence
from app.wire.episodes import Event
from app.wire.notifications import Notification

__all__ = [
    "Answer",
    "BaseChannel",
    "ChannelOptions",
    "Context",
    "MessageRejected",
    "Reply",
    "Retry",
    "TextList",
    "Url",
    "UrlList",
    "exchange",
    "setting",
]


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    # A password in it would be no secret; parts.port raises ValueError.
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.port == 0:
        raise ValueError
    if not text.isprintable() or " " in text:
        raise ValueError
    return text


def _split(given: Any) -> Any:
    return [one.strip() for one in given.split(",") if one.strip()] if isinstance(given, str) else given


Url = Annotated[str, AfterValidator(_url)]
TextList = Annotated[list[str], BeforeValidator(_split)]  # a variable has them separated by commas
UrlList = Annotated[list[Url], BeforeValidator(_split)]


class Retry(AnomalyError):
    """The message was not accepted now, but may be later.

    ``after_s``: seconds to wait, if the receiver said so; else None.
    """

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class MessageRejected(AnomalyError):
    """The message will never be accepted: it is given up, and the next one is sent."""


class Answer(NamedTuple):
    """The receiver's answer, short; and a reference that is needed to update the message or reply to it."""

    said: str
    reference: str = ""


class ChannelOptions(BaseModel):
    """The settings of one channel. Secrets come by a variable, or from a file that is named in ``<secret>_file``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def secret(self, name: str) -> str | None:
        """The secret itself. Raises ConfigurationError if its file cannot be read."""
        value: SecretStr | None = getattr(self, name)
        if value is not None:
            return value.get_secret_value()
        path = getattr(self, f"{name}_file", None)
        if path is None:
            return None
        try:
            return Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name}_file: expected a readable file with the secret, got {path!r}") from error


@dataclass
class Context:
    """What channels may use of the program."""

    # An HTTP client that the caller closes; it refuses addresses that are not allowed (outgoing.py).
    session: Callable[[], aiohttp.ClientSession]
    # Addresses of a host and port that may be connected to by other means; raises outgoing.Forbidden, OSError.
    check: Callable[[str, int], Coroutine[Any, Any, list[str]]] | None = None
    view_url: str = ""  # of the web view, for links; "" without
    log_file: str | None = None  # alerting.anomaly_log_file
    # (channel, episode) -> reference of the last message about the episode, unless that said closed; "" if unknown
    reference: Callable[[str, str], str] = lambda channel, episode: ""
    # episode -> its acknowledgement, None without one
    acknowledgement: Callable[[str], Acknowledgement | None] = lambda episode: None
    # The last points of the series of an event, up to it: results as JSON objects, the oldest first.
    history: Callable[[Event], Awaitable[Sequence[dict[str, Any]]]] | None = None

    def link(self, event: Event) -> str:
        """The page of the view that shows the series; "" without a view."""
        from urllib.parse import quote

        if not self.view_url:
            return ""
        metric = f"&metric={quote(event.metric, safe='')}" if event.metric else ""
        return f"{self.view_url.rstrip('/')}/#source={quote(event.source, safe='')}{metric}"


class BaseChannel:
    """The base of every ``Channel``.

    ``MESSAGES_PER_MINUTE``: more become a digest of several episodes each; a few in a row go out at once.
    ``REFRESH_S``: interval at which ``refresh`` is called with all open episodes that this channel was notified of;
    None: never.
    """

    MESSAGES_PER_MINUTE = 6.0
    REFRESH_S: float | None = None

    def __init__(self, name: str, options: Any, context: Context) -> None:
        self.name, self.options, self.context = name, options, context
        self._session: aiohttp.ClientSession | None = None

    async def send(self, notification: Notification) -> Answer:
        """Deliver one message. Raises Retry or MessageRejected; any other exception counts as Retry."""
        raise NotImplementedError

    def hosts(self) -> list[tuple[str, int]]:
        """Hosts and ports that it connects to, as far as its options say: those of all that are URLs."""
        from urllib.parse import urlsplit

        found = []
        for name, field in type(self.options).model_fields.items():
            hidden = "SecretStr" in str(field.annotation)
            value = self.options.secret(name) if hidden else getattr(self.options, name)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, str) and one.startswith(("http://", "https://")):
                    parts = urlsplit(one)
                    found.append((parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)))
        return found

    async def refresh(self, episodes: Sequence[Event]) -> None:
        """Send the open episodes again."""

    async def silences(self) -> Sequence[Silence]:
        """The silences that the receiver has: no channel is notified of matching episodes."""
        return []

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP client of this channel; it reuses connections."""
        if self._session is None or self._session.closed:
            self._session = self.context.session()
        return self._session

    async def close(self) -> None:
        """Close files and connections."""
        if self._session is not None:
            await self._session.close()


# Bad Request, Payload Too Large, Unsupported Media Type, Unprocessable Content, Header Fields Too Large
OF_THE_MESSAGE = (400, 413, 415, 422, 431)


class Reply(NamedTuple):
    """The answer of a receiver that accepted a message: status 200 to 299."""

    status: int
    headers: Mapping[str, str]
    body: bytes  # its first bytes; b"" if it broke off
    said: str  # for people: status and the beginning of the body, on one line, without secrets


async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = outgoing.TOTAL_S,
    hide: Iterable[str] = (),
    most: int = outgoing.MOST_BYTES,
) -> Reply:
    """Make an HTTP request, without following redirects.

    Neither errors nor ``Reply.said`` have more of the URL than scheme, host and port, because paths can be secrets.
    A 2xx answer whose body breaks off counts as accepted.

    Parameters
    ----------
    hide
        Secrets that the answer may repeat.
    most
        Bytes of the body that are read.

    Raises
    ------
    Retry
        Not reached, too slow, broken off, an address that is not allowed, a redirect, or a status that is about the
        receiver and not about this message: somebody may fix it while the message waits.
    MessageRejected
        A status of OF_THE_MESSAGE.
    """
    from yarl import URL

    try:
        where = URL(url)
        place = str(where.origin())
    except ValueError:  # its words have the URL
        raise Retry("not a URL that can be asked") from None
    status, text = 0, b""
    answered: Mapping[str, str] = {}
    limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=outgoing.CONNECT_S)
    try:
        async with session.request(
            method, where, data=body, headers=headers, allow_redirects=False, timeout=limits
        ) as response:
            status, answered = response.status, response.headers
            text = await outgoing.read(response, most)
    except TimeoutError as error:
        if not 200 <= status < 300:
            raise Retry(f"{place}: no answer within {timeout_s:g} s") from error
    except outgoing.Forbidden as error:
        raise Retry(str(error)) from error
    except (aiohttp.ClientError, OSError, UnicodeError) as error:
        if not 200 <= status < 300:
            words = _without_url(error)
            raise Retry(words if str(where.host) in words else f"{place}: {words}") from error
    words = text.decode("utf-8", "replace")
    for secret in (where.raw_path.strip("/"), where.raw_query_string, *hide):
        words = words.replace(secret, SECRET) if len(secret) > 3 else words
    said = f"{status} {clean(words.strip(), 200)}".strip()
    if 200 <= status < 300:
        return Reply(status, answered, text, said)
    if status in OF_THE_MESSAGE:
        raise MessageRejected(f"{place}: {said}")
    if 300 <= status < 400:
        said = f"{status}, a redirect{_target(where, answered.get('Location', ''))}"
    raise Retry(f"{place}: {said}", retry_after(answered.get("Retry-After", "")))


def retry_after(text: str) -> float | None:
    """Seconds that a header Retry-After asks for, as a number or as a date; None if it does not.

    >>> retry_after("120"), retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), retry_after(""), retry_after("soon")
    (120.0, 0.0, None, None)
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _target(where: Any, location: str) -> str:
    try:
        return f" to {where.join(type(where)(location)).origin()}; give the address itself" if location else ""
    except ValueError:
        return ""


def _without_url(error: Exception) -> str:
    if isinstance(error, aiohttp.InvalidURL):
        return "not a URL that can be asked"
    if isinstance(error, aiohttp.ClientResponseError):
        return error.message or type(error).__name__
    return str(error) or type(error).__name__
