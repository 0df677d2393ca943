"""The table of sources: one row of state each, kept in memory, saved as snapshots in a compacted changelog.

It is a class of its own over the changelog, not an ``app.Table``. Faust writes a table's changelog record when the
value is set, before the results it belongs to are acknowledged, and commits without waiting for either; and it
keys the record by the table's key alone. Here a snapshot may leave only after its results are acknowledged, and
its key must name the ownership that wrote it (below). An ``app.Table`` offers no place for either rule.

The key of a changelog record is the source, a zero byte and eight random bytes, drawn anew each time a partition is
taken over. Compaction keeps the last record of a key, so with plain source keys the late snapshot of a worker that
was stopped and went on would replace the new owner's: measured, 10 of 10 sources lost their state. With a key of
its own a late snapshot only stands beside the good one, and recovery takes the one that covers more. Keys of
earlier owners get a tombstone, each after the snapshot that replaces it.

A source that is no longer live (app/silence.py) is dropped, with a tombstone for every record there is of it, when it
has been silent for twice as long and the group's replay point lies beyond that: any successor then begins where the
source, if it returns, starts anew. A zombie's late snapshot of it is dropped in its turn.
"""

import os
from collections.abc import Iterable, Iterator

import numpy as np

from app import snapshot
from app.errors import StateError
from app.pipeline import Pipeline
from app.sources import Sources

TAG = 9  # bytes after the source: zero and the ownership


class OwnedSources:
    """The sources of one partition, from recovery until the partition is given up."""

    def __init__(self, sources: Sources) -> None:
        self.rows = sources
        self.covered: dict[str, int] = {}  # source -> offset its highest snapshot covers
        self._ownership = b"\0" + os.urandom(TAG - 1)
        self._earlier: dict[str, set[bytes]] = {}  # source -> keys of other ownerships with a live record
        self._walked = 0  # slots of the present round that were looked at for silence

    def load(self, key: bytes | None, value: bytes | None) -> None:
        """Take one changelog record in, in the changelog's order. Raises StateError when it is damaged."""
        if value is None:  # of any key: a record that is not ours may be taken out by one
            if key is not None:
                self._earlier.get(key[:-TAG].decode("utf-8", "replace"), set()).discard(key)
            return
        if key is None or len(key) <= TAG:
            raise StateError(f"the key must be a source and {TAG} bytes of ownership, got {key!r}")
        source, offset = snapshot.peek(value)
        if key[:-TAG] != source.encode():
            raise StateError(f"the snapshot of {source!r} stands under the key {key!r}")
        self._earlier.setdefault(source, set()).add(key)
        if offset > self.covered.get(source, -1):
            snapshot.loads(self.rows, value)
            self.covered[source] = offset

    def snapshots(self, slots: Iterable[int], offset: int) -> Iterator[tuple[bytes, bytes]]:
        """Changelog records that save these slots as they stand after ``offset``, made one by one."""
        names, ownership = self.rows.names, self._ownership
        for slot in slots:
            yield names[slot].encode() + ownership, snapshot.dumps(self.rows, slot, offset)

    def tombstones(self, slots: Iterable[int]) -> list[tuple[bytes, None]]:
        """Changelog records that remove what earlier ownerships wrote of these slots; only after their snapshots."""
        if not self._earlier:
            return []
        return [(key, None) for slot in slots for key in self._earlier.pop(self.rows.names[slot], ())]

    def silent(self, below: int, number: int) -> list[int]:
        """Slots, among the next so many on an endless round, whose source had its last point before ``below``."""
        rows, names = self.rows.rows, self.rows.names
        first = self._walked if self._walked < rows.count else 0
        self._walked = first + number
        last = rows.column("last", slice(first, self._walked))
        return [slot for slot in (np.flatnonzero(last < below) + first).tolist() if names[slot]]

    def forget(self, slots: Iterable[int], below: int) -> list[tuple[bytes, None]]:
        """Drop those whose last point lies before ``below``: changelog records that remove all there is of them.

        All points of these sources must be inside snapshots. What an earlier owner wrote of a source and what we
        wrote are never there at once: the former gets its tombstone with our first snapshot.
        """
        records: list[tuple[bytes, None]] = []
        for slot in slots:
            source = self.rows.names[slot]
            if source and self.rows.rows.get(slot, "last") < below:
                keys = self._earlier.pop(source, None) or (source.encode() + self._ownership,)
                records += ((key, None) for key in keys)
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

    def take_over(self) -> OwnedSources:
        """No sources yet, under a new ownership; recovery fills them."""
        return OwnedSources(self._pipeline.sources())
