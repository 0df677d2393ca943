"""Records of the topic of decisions: what people said of episodes. Every alerter reads them all.

The key is ``Decision.key``, so that the last decision of a kind counts. A record without a value takes one back.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from app.errors import StateError

VERDICTS = ("anomaly", "expected", "new_normal", "not_useful")


class Acknowledgement(msgspec.Struct, tag_field="decision", tag="acknowledgement", omit_defaults=True):
    """Somebody takes care of an episode: it is not repeated, and its end is still told."""

    episode: str
    by: str
    at: float  # epoch seconds
    comment: str = ""

    @property
    def key(self) -> str:
        return f"acknowledgement/{self.episode}"


class Silence(msgspec.Struct, tag_field="decision", tag="silence", omit_defaults=True):
    """What matches is not told for some time; the end of what was told before is."""

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
    """What an episode was, by somebody who knows."""

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
    """Raises StateError if it is none."""
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"expected a decision, got {record[:80]!r}: {error}") from error
