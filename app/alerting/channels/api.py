"""What a channel is: one file of this folder, found by its name.

    class Options(ChannelOptions):     what the settings say, checked before anything is sent
        url: Url = setting(..., "where to send", expected="https://host/path")

    class Channel(BaseChannel):
        options: Options

        async def send(self, notification: Notification) -> Answer: ...

``send`` is called again, with the same notification, after it has raised ``Retry``; never at the same time for one
channel, so that messages arrive in order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import aiohttp
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

from app.errors import AnomalyError, ConfigurationError
from app.settings.model import setting
from app.wire.episodes import Event
from app.wire.notifications import Notification

__all__ = ["Answer", "BaseChannel", "ChannelOptions", "Context", "Refused", "Retry", "TextList", "Url", "setting"]


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    return text


def _split(given: Any) -> Any:
    return [one.strip() for one in given.split(",") if one.strip()] if isinstance(given, str) else given


Url = Annotated[str, AfterValidator(_url)]
TextList = Annotated[list[str], BeforeValidator(_split)]  # a variable has them separated by commas


class Retry(AnomalyError):
    """It was not taken now, and may be later.

    ``after_s``: how long the receiver wants to be left alone, None if it did not say.
    """

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Refused(AnomalyError):
    """It was not taken and never will be: the message is given up, and the next one is tried."""


class Answer(NamedTuple):
    """What the receiver said, in a few words; and what is needed to update this message, or to answer it."""

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
    """What the program gives to its channels."""

    session: Callable[[], aiohttp.ClientSession]  # for HTTP; refuses addresses that nobody should be sent to
    view_url: str = ""  # of the web view, for links; "" without
    log_file: str | None = None  # alerting.anomaly_log_file
    # (event, reference) of what this channel told of an episode at first: its notification's reference, "" if unknown
    reference: Callable[[str, str], str] = lambda channel, episode: ""
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
    ``REFRESH_S``: ``refresh`` is called so often, with all open episodes that this channel was told of; None: never.
    """

    MESSAGES_PER_MINUTE = 6.0
    REFRESH_S: float | None = None

    def __init__(self, name: str, options: Any, context: Context) -> None:
        self.name, self.options, self.context = name, options, context

    async def send(self, notification: Notification) -> Answer:
        """Deliver one message. Raises Retry or Refused; whatever else it raises counts as Retry."""
        raise NotImplementedError

    async def refresh(self, episodes: Sequence[Event]) -> None:
        """Say again what is open."""

    async def close(self) -> None:
        """Let go of files and connections."""
