"""Records of the topic of notifications: what was sent to whom, or why not. The outbox and the state of alerters.

The key is the notification's id. A record is written before sending (``queued``), and another one with the outcome. So
a notification that was queued when a process ended is sent by the next one, with the same id and the same text.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from app.errors import StateError
from app.wire.episodes import Event

QUEUED: Final = "queued"
SENT: Final = "sent"
FAILED: Final = "failed"
MUTED: Final = "muted"

State = Literal["queued", "sent", "failed", "muted"]
# episodes: of episodes; the others are about the alerter itself
About = Literal["episodes", "channel_down", "channel_up", "test"]


class News(msgspec.Struct, omit_defaults=True):
    """One episode in a notification."""

    event: Event
    why: Literal["opened", "raised", "repeated", "closed"]  # raised: its severity; repeated: it is still open
    began: Event | None = None  # what opened it, if that is another event: for the text at the end


class Notification(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One message to one channel."""

    id: str  # the same on each attempt, so receivers can recognize a repeated one
    state: State
    channel: str  # its name in alerting.channels
    route: str = ""  # which rule: rules[0]
    about: About = "episodes"
    news: list[News] = []  # worst first; one, or a digest of many
    text: str = ""  # if it is not about episodes
    created_at: float  # epoch seconds by the alerter's clock, and so the next one
    done_at: float = 0.0  # when it was sent, or given up
    attempts: int = 0
    answer: str = ""  # of the receiver, or why it was muted or given up
    reference: str = ""  # what the channel needs to update or answer the message, as Slack's ts


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Notification).decode


def encode(notification: Notification) -> bytes:
    return _encode(notification)


def decode(record: bytes) -> Notification:
    """Raises StateError if it is not a notification."""
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"expected a notification, got {record[:80]!r}: {error}") from error
