"""Records of the topic of decisions: what people decided on episodes. Every alerter reads all of them.

The key is ``Decision.key``, so the last decision of a kind counts. A tombstone deletes one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from app.errors import StateError

VERDICTS = ("anomaly", "expected", "new_normal", "not_useful")


class Acknowledgement(msgspec.Struct, tag_field="decision", tag="acknowledgement", omit_defaults=True):
    """Somebody takes care of an episode: its notification is not repeated; its end is still notified."""

    episode: str
    by: str
    at: float  # epoch seconds
    comment: str = ""

    @property
    def key(self) -> str:
        return f"acknowledgement/{self.episode}"


class Silence(msgspec.Struct, tag_field="decision", tag="silence", omit_defaults=True):
    """No notifications of matching episodes for some time; the end of an episode notified before is still notified."""

    id: str
    matchers: list[str]  # as Alertmanager writes them: source=~"pump-.*"
    starts_at: float
    ends_at: float
    by: str
    comment: str = ""

    @property
    def key(self) -> str:
        return f"silence/{self.id}"


class Feedback(msgspec.Struct, tag_field="decision", tag="feedback", omit_defaults=True):
    """What an episode was, in somebody's judgement."""

    episode: str
    verdict: Literal["anomaly", "expected", "new_normal", "not_useful"]
    by: str
    at: float
    comment: str = ""

    @property
    def key(self) -> str:
        return f"feedback/{self.episode}"


Decision = Acknowledgement | Silence | Feedback

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Decision).decode


def encode(decision: Decision) -> bytes:
    return _encode(decision)


def decode(record: bytes) -> Decision:
    """Raises StateError if it is not a decision."""
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"expected a decision, got {record[:80]!r}: {error}") from error
