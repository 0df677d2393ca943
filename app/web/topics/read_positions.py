"""How far a topic was read, and where the last record of each episode is: for clients that resume with a cursor."""

from __future__ import annotations

Positions = dict[int, int]  # partition -> offset of the next record
AHEAD_RECORDS = 10_000  # another worker may have read so many more; a cursor further ahead is of another topic


class ReadPositions:
    """Of one topic. It can answer for records from some offset of each partition on; earlier ones are lost."""

    def __init__(self) -> None:
        self.positions: Positions = {}
        self.gaps = 0  # how often records were passed over
        self._begins: Positions = {}
        self._last: dict[str, tuple[int, int]] = {}

    def record_read(self, name: str, place: tuple[int, int]) -> None:
        """A record about this episode was read at this partition and offset."""
        self._last[name] = place

    def lost(self, partition: int, offset: int) -> None:
        """Records before this offset are not known."""
        self._begins[partition] = max(self._begins.get(partition, 0), offset)

    def skip(self, partition: int, offset: int) -> None:
        """Records before this offset are skipped, because there were too many."""
        self.gaps += 1
        self.lost(partition, offset)

    def forget(self, name: str) -> None:
        """The episode is no longer in memory."""
        if place := self._last.pop(name, None):
            self.lost(place[0], place[1] + 1)

    def since(self, cursor: list[int]) -> set[str] | None:
        """Episodes with records at the cursor's offsets or later; None if earlier records are lost."""
        for number in self.positions.keys() | self._begins.keys():
            at = cursor[number] if number < len(cursor) else 0
            if at < self._begins.get(number, 0) or at > self.positions.get(number, at) + AHEAD_RECORDS:
                return None
        return {
            name for name, (number, offset) in self._last.items() if number >= len(cursor) or offset >= cursor[number]
        }
