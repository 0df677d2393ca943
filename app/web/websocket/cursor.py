"""The cursor of ``/ws``: how far a client has read the topics. After a reconnect, any worker goes on from there."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec


class StreamCursor(msgspec.Struct, array_like=True):
    """Offsets of the next records by partition, for the topics of anomalies, notifications and decisions."""

    events: list[int]
    notifications: list[int]
    decisions: list[int]

    @classmethod
    def of(
        cls, events: Mapping[int, int], notifications: Mapping[int, int], decisions: Mapping[int, int]
    ) -> StreamCursor:
        return cls(*(_listed(one) for one in (events, notifications, decisions)))

    def encoded(self) -> str:
        """Text that a URL can hold."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def decoded(cls, text: str) -> StreamCursor:
        """Raises ValueError."""
        try:
            found = msgspec.json.decode(base64.b64decode(text.encode(), b"-_", validate=True), type=cls)
        except (binascii.Error, UnicodeError, msgspec.DecodeError) as error:
            raise ValueError(f"expected the cursor of an earlier message, got {text[:80]!r}") from error
        if any(at < 0 or at >= 1 << 63 for each in (found.events, found.notifications, found.decisions) for at in each):
            raise ValueError("expected the cursor of an earlier message, got negative or too large offsets")
        return found


def _listed(positions: Mapping[int, int]) -> list[int]:
    """0 for what is not read yet."""
    return [positions.get(number, 0) for number in range(max(positions, default=-1) + 1)]
