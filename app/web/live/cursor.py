"""Where a reader of ``/ws`` stands in the topics, so that it goes on there after a reconnect, at any worker."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec

Positions = dict[int, int]  # partition -> offset of the next record
ASIDE = 10_000  # records that another worker may have read more than this one; beyond it is another topic


class Cursor(msgspec.Struct, array_like=True):
    """Of the topics of anomalies, of notifications and of decisions, by partition."""

    events: list[int]
    words: list[int]
    decisions: list[int]

    @classmethod
    def of(cls, events: Mapping[int, int], words: Mapping[int, int], decisions: Mapping[int, int]) -> Cursor:
        return cls(*(_listed(one) for one in (events, words, decisions)))

    def written(self) -> str:
        """As text that a query in a URL can hold."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Raises ValueError."""
        try:
            found = msgspec.json.decode(base64.b64decode(text.encode(), b"-_", validate=True), type=cls)
        except (binascii.Error, UnicodeError, msgspec.DecodeError) as error:
            raise ValueError(f"expected that of a message before, got {text[:80]!r}") from error
        if any(at < 0 or at >= 1 << 63 for each in (found.events, found.words, found.decisions) for at in each):
            raise ValueError("expected that of a message before, got negative or too large offsets")
        return found


def _listed(positions: Mapping[int, int]) -> list[int]:
    """0 for what is not read yet."""
    return [positions.get(number, 0) for number in range(max(positions, default=-1) + 1)]


class Feed:
    """Of one topic: what was read last of each episode, and from where on that is all there is."""

    def __init__(self) -> None:
        self.positions: Positions = {}
        self.gaps = 0  # how often records were passed over
        self._begins: Positions = {}
        self._last: dict[str, tuple[int, int]] = {}

    def took(self, name: str, place: tuple[int, int]) -> None:
        """A record about this episode, at this partition and offset."""
        self._last[name] = place

    def lost(self, partition: int, offset: int) -> None:
        """Nothing is known of records before this one."""
        self._begins[partition] = max(self._begins.get(partition, 0), offset)

    def skip(self, partition: int, offset: int) -> None:
        """Records before this one are passed over, because there were too many."""
        self.gaps += 1
        self.lost(partition, offset)

    def forget(self, name: str) -> None:
        """It is remembered no longer."""
        if place := self._last.pop(name, None):
            self.lost(place[0], place[1] + 1)

    def since(self, cursor: list[int]) -> set[str] | None:
        """Episodes of which something came from there on; None if that is not known here."""
        for number in self.positions.keys() | self._begins.keys():
            at = cursor[number] if number < len(cursor) else 0
            if at < self._begins.get(number, 0) or at > self.positions.get(number, at) + ASIDE:
                return None
        return {
            name for name, (number, offset) in self._last.items() if number >= len(cursor) or offset >= cursor[number]
        }
