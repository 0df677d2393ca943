"""Protocols of the table of sources; tables/sources.py implements them."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from app.compiled.byte_columns import RecordColumns
from app.state.sources import Sources


class PartitionSources(Protocol):
    """The sources of one partition, from recovery until the partition is given up."""

    rows: Sources
    covered: dict[str, int]  # source -> offset that its highest recovered snapshot covers

    @property
    def covers(self) -> int:
        """The highest offset any recovered snapshot covers, -1 without one."""

    @property
    def unsaved(self) -> list[int]:
        """Slots of recovered sources whose snapshots the cleaner may remove at any time."""

    def load(self, records: RecordColumns) -> None:
        """Take in records of the changelog, in its order. Raises StateError when one is damaged."""

    def snapshots(self, slots: Iterable[int], offset: int) -> Iterator[tuple[bytes, bytes]]:
        """Changelog records that save these slots as they are after ``offset``, made one by one."""

    def tombstones(self, slots: Iterable[int]) -> list[tuple[bytes, None]]:
        """Changelog records that remove what earlier owners wrote for these slots; only after their snapshots."""

    def silent(self, below: int, number: int) -> list[int]:
        """Slots, among the next ``number`` of an endless round, whose source had its last point before ``below``."""

    def forget(self, slots: Iterable[int], below: int) -> list[tuple[bytes, None]]:
        """Drop those whose last point is before ``below``: changelog records that remove everything about them."""


class StateTable(Protocol):
    """Makes the sources of a partition when this worker becomes its owner."""

    def take_over(self) -> PartitionSources:
        """No sources yet; recovery fills them."""
