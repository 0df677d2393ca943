"""Records of the topic of notifications: what was told to whom, or why not. The alerter's outbox, and its memory.

The key is the notification's id. It is written before it is sent (``queued``), and again with what came of it. So what
was queued when a process ended is sent by the next one, with the same id and the same words.
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
# episodes: of what is told; the others are about the alerter itself
About = Literal["episodes", "channel_down", "channel_up", "test"]


class News(msgspec.Struct, omit_defaults=True):
    """One episode in a notification."""

    event: Event
    why: Literal["opened", "raised", "repeated", "closed"]  # raised: its severity; repeated: it is still open
    began: Event | None = None  # what opened it, where that is another event: for the words at the end


class Notification(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One message to one channel."""

    id: str  # the same on each attempt; receivers can know a repeated one by it
    state: State
    channel: str  # its name in alerting.channels
    route: str = ""  # which rule: rules[0]
    about: About = "episodes"
    news: list[News] = []  # worst first; one, or a digest of many
    text: str = ""  # where it is not about episodes
    created_at: float  # epoch seconds by the alerter's clock, and so the next one
    done_at: float = 0.0  # when it was sent, or given up
    attempts: int = 0
    answer: str = ""  # what the receiver said, or why it was muted or given up
    reference: str = ""  # what the channel needs to update it or to answer it, as Slack's ts


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Notification).decode


def encode(notification: Notification) -> bytes:
    return _encode(notification)


def decode(record: bytes) -> Notification:
    """Raises StateError if it is none."""
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"expected a notification, got {record[:80]!r}: {error}") from error
