"""The table of series: one row of state for each, in memory, saved as snapshots in a compacted changelog.

A series is a source, or a source and one metric (app/state/series.py); it is called a source here, as most are.

This is a class of its own and not an ``app.Table``. Faust writes a table's changelog record when the value is set,
before the results it belongs to are acknowledged, and commits without waiting for either; and the key of the record is
only the key of the table. Here a snapshot may be sent only after its results are acknowledged, and its key must contain
the ownership that wrote it (below). An ``app.Table`` allows neither.

The key of a changelog record is the name of the series, a zero byte and eight random bytes, which are new each time a
partition is taken over. Compaction keeps the last record of a key. If keys were names alone, the late snapshot of a
worker that was suspended and continued would replace the snapshot of the new owner: in a test 10 of 10 sources lost
their state. With a key of its own a late snapshot only exists beside the other, and recovery takes the one that covers
more. Keys of earlier owners get a tombstone, each after the snapshot that replaces it.

A source that is no longer live (app/state/expiry.py) is dropped, with a tombstone for each of its records, when it has
been silent for twice as long and the group's replay point is beyond that: a successor then begins at an offset where
the source, if it returns, starts without state. A late snapshot of a suspended worker is dropped in the same way.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from app.compiled.byte_columns import RecordColumns
from app.errors import StateError
from app.pipeline import Pipeline
from app.state import bulk_restore, series, snapshot
from app.state.sources import Sources

TAG = 9  # bytes after the name of the series: zero and the ownership


class ChangelogSources:
    """The sources of one partition, from recovery until the partition is given up."""

    def __init__(self, sources: Sources) -> None:
        self.rows = sources
        self.covered: dict[str, int] = {}  # source -> offset its highest snapshot covers
        self._ownership = b"\0" + os.urandom(TAG - 1)
        # source -> other ownerships with a live record; sources share the tuples, which are few
        self._earlier: dict[str, tuple[bytes, ...]] = {}
        self._alone: dict[bytes, tuple[bytes, ...]] = {}
        self._holder: dict[str, bytes] = {}  # of sources with several such: which of them covers most
        self._unsaved: set[str] = set()  # sources whose highest snapshot has a tombstone, while lower ones exist
        self._walked = 0  # slots of the present round that were checked for silence

    def load(self, records: RecordColumns) -> None:
        """Load records of the changelog, in its order. Raises StateError when one is damaged, with its offset.

        Another ChangelogSources may load at the same time, in another thread.
        """
        found = bulk_restore.examine(self.rows, records, TAG)
        highest: dict[str, int] = {}  # source -> the record with its snapshot
        begins = np.flatnonzero(found.begins).tolist()
        for first, end in pairwise([*begins, len(records.offsets)]):
            if found.plain[first]:
                self._enter_all(highest, records, first, end, found.covers[first:end].tolist())
                continue
            try:
                self._enter(highest, first, records.key(first), records.value(first))
            except StateError as error:
                raise StateError(f"@{records.offsets[first]}: {error}") from error
        bulk_restore.load(self.rows, records, found, highest)

    def _enter_all(
        self, highest: dict[str, int], records: RecordColumns, first: int, end: int, covers: list[int]
    ) -> None:
        """Plain snapshots of one ownership."""
        starts, ends = records.spans[first:end, 0], records.spans[first:end, 1]
        (ownership,) = records.slices(ends[:1] - TAG, ends[:1])
        try:
            sources = list(map(series.from_bytes, records.slices(starts, ends - TAG)))
        except UnicodeDecodeError as error:
            raise StateError(f"@{records.offsets[first]} or after it: a source must be UTF-8: {error}") from error
        if self.covered.keys().isdisjoint(sources) and len(set(sources)) == len(sources):  # all are new to us
            self.covered.update(zip(sources, covers))
            self._earlier.update(dict.fromkeys(sources, self._alone.setdefault(ownership, (ownership,))))
            highest.update(zip(sources, range(first, end)))
            return
        for at, (source, offset) in enumerate(zip(sources, covers), first):
            if self._is_higher(source, ownership, offset):
                highest[source] = at

    def _enter(self, highest: dict[str, int], at: int, key: bytes | None, value: bytes | None) -> None:
        name, ownership = (key or b"")[:-TAG], (key or b"")[-TAG:]
        source = series.from_any_bytes(name)
        if value is None:  # of any key: a foreign record can be removed by a tombstone
            if left := tuple(other for other in self._earlier.pop(source, ()) if other != ownership):
                self._earlier[source] = left
                if self._holder.get(source) == ownership:
                    self._unsaved.add(source)
            return
        if not name:
            raise StateError(f"the key must be a source and {TAG} bytes of ownership, got {key!r}")
        offset = bulk_restore.peek(value, name)
        if offset is None:
            found, _ = snapshot.peek(value)  # raises what is wrong with it
            raise StateError(f"the snapshot of {series.shown(found)} has the key {key!r}")
        if self._is_higher(source, ownership, offset):
            highest[source] = at

    def _is_higher(self, source: str, ownership: bytes, offset: int) -> bool:
        """Note that a snapshot exists; True if it covers more than those before it."""
        others = self._earlier.get(source, ())
        if ownership not in others:
            alone = self._alone.setdefault(ownership, (ownership,))
            self._earlier[source] = (*others, ownership) if others else alone
        higher = offset > self.covered.get(source, -2)  # -1: put before a log that is empty, app/stream/copies
        if others:
            self._holder[source] = ownership if higher else self._holder.get(source, others[0])
        if higher:
            self.covered[source] = offset
            self._unsaved.discard(source)
        return higher

    @property
    def unsaved(self) -> list[int]:
        """Slots of recovered sources whose snapshots compaction may remove from the changelog at any time.

        An owner that was suspended for longer than its session may write a snapshot that covers more than that of its
        successor, with a key for which the successor then writes a tombstone.
        """
        return [self.rows.slots[source] for source in sorted(self._unsaved) if source in self.rows.slots]

    def snapshots(self, slots: Iterable[int], offset: int) -> Iterator[tuple[bytes, bytes]]:
        """Changelog records that save these slots as they are after ``offset``, made one by one."""
        names, ownership = self.rows.names, self._ownership
        for slot in slots:
            yield series.to_bytes(names[slot]) + ownership, snapshot.dumps(self.rows, slot, offset)

    def tombstones(self, slots: Iterable[int]) -> list[tuple[bytes, None]]:
        """Changelog records that remove what earlier ownerships wrote of these slots; only after their snapshots."""
        if not self._earlier:
            return []
        names = [self.rows.names[slot] for slot in slots]
        return [(series.to_bytes(name) + other, None) for name in names for other in self._earlier.pop(name, ())]

    def silent(self, below: int, number: int) -> list[int]:
        """Slots, among the next ``number`` of an endless round, whose source had its last point before ``below``."""
        rows, names = self.rows.rows, self.rows.names
        first = self._walked if self._walked < rows.count else 0
        self._walked = first + number
        last = rows.column("last", slice(first, self._walked))
        return [slot for slot in (np.flatnonzero(last < below) + first).tolist() if names[slot]]

    def forget(self, slots: Iterable[int], below: int) -> list[tuple[bytes, None]]:
        """Drop those whose last point is before ``below``: changelog records that remove everything about them.

        All points of these sources must be in snapshots. Records of an earlier owner and our own never exist at the
        same time: the former get their tombstones with our first snapshot.
        """
        records: list[tuple[bytes, None]] = []
        for slot in slots:
            source = self.rows.names[slot]
            if source and self.rows.rows.get(slot, "last") < below:
                wrote = self._earlier.pop(source, (self._ownership,))
                records += ((series.to_bytes(source) + ownership, None) for ownership in wrote)
                self.covered.pop(source, None)
                self.rows.drop(slot)
        return records

    @property
    def covers(self) -> int:
        """The highest offset any recovered snapshot covers, -1 without one."""
        return max(self.covered.values(), default=-1)


class SourcesTable:
    """Makes the sources of a partition when this worker becomes its owner."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def take_over(self) -> ChangelogSources:
        """No sources yet, under a new ownership; recovery fills them."""
        return ChangelogSources(self._pipeline.sources())
