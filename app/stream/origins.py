"""Duplicates in a partition of the topic by source, found by their origins: what lies at or below the highest origin
seen of the same input partition was there before.

The hop of ``input.rekey`` writes at least once: after a crash the successor begins at the committed position and writes
again what its predecessor had written beyond it, and a predecessor that is only suspended may go on writing beside it.
Whoever writes, in each partition here

- one owner's records of one input partition are in the input's order and without gaps from where it began: the
  producer is idempotent, and a record batch that is lost ends the process (app/stream/outbox.py);
- an owner begins at a committed position, and that is committed only when every record below it is acknowledged.

So a record y is never here before the first x < y of the same input partition that belongs here: the owner that wrote y
either wrote x before it, or began above x, when x had been acknowledged. Hence every record after a higher origin is
a duplicate, and no other record is dropped. tests/unit/stream/test_origins.py lets any number of owners
write in any order.

Whether a record is a duplicate depends on all records before it, so a successor that reads again from the replay point
needs the highest origins at exactly that offset. They are in the metadata of the commit, beside the replay point, which
is lowered to an offset at which they were noted. A broker accepts 4,096 bytes (offset.metadata.max.bytes): PARTITIONS
input partitions fit, with any offsets. The alternative was the changelog: a record there would need the same protection
against late writers as snapshots, and would not be tied to the commit.
"""

import base64
from collections import deque

import numpy as np

from app.compiled.jit import compiled
from app.pipeline.points import INDEX_BITS, INDEX_MASK, Points
from app.wire.by_source import PARTITIONS

NOTES = 64  # in the range that a restart reads again


class Origins:
    """The highest origins seen in one partition, and what they were at some offsets before.

    Parameters
    ----------
    replay
        First offset that is read.
    text
        The highest origins below it, as ``at`` gave them.
    replay_records
        Offsets that a restart reads again, at most: with what it takes to come to a note, 1/NOTES of them more.
    """

    def __init__(self, replay: int, text: str, replay_records: int) -> None:
        self._seen = parsed(text)  # i8[PARTITIONS, 2]: offset, index; -1: none
        self._apart = replay_records // NOTES
        self._notes = deque([(replay, self._seen.copy())])

    def note(self, offset: int) -> None:
        """What is read next has this offset."""
        if offset - self._notes[-1][0] >= self._apart:
            self._notes.append((offset, self._seen.copy()))

    def fresh(self, points: Points) -> Points:
        """Without the duplicates."""
        if not len(points):
            return points
        fresh = np.empty(len(points), np.bool_)
        packed = np.array(points.index, np.int64)
        _look(packed >> INDEX_BITS, np.array(points.named, np.int64), packed & INDEX_MASK, self._seen, fresh)
        return points if fresh.all() else points.select(np.flatnonzero(fresh).tolist())

    def at(self, replay_point: int, next_: int) -> tuple[int, str]:
        """(An offset at or just before the replay point, the highest origins below it); ``next_`` is read next."""
        if replay_point >= next_:
            return next_, _text(self._seen)
        while len(self._notes) > 1 and self._notes[1][0] <= replay_point:
            self._notes.popleft()  # a replay point never goes back
        offset, seen = self._notes[0]
        return offset, _text(seen)


@compiled
def _look(partitions, offsets, indices, seen, fresh):
    for n in range(len(partitions)):
        highest = seen[partitions[n]]
        fresh[n] = offsets[n] > highest[0] or (offsets[n] == highest[0] and indices[n] > highest[1])
        if fresh[n]:
            highest[0] = offsets[n]
            highest[1] = indices[n]


def _text(seen: np.ndarray) -> str:
    """By partition, up to the last one that was seen: 0, or 1 + offset and the index; 7 bits a byte, in base 64.

    256 times an offset below 2**49 and an index below 2**28 are 3,756 characters.
    """
    written = bytearray()
    known = np.flatnonzero(seen[:, 0] >= 0)
    for offset, index in seen[: int(known[-1]) + 1 if len(known) else 0].tolist():
        for number in (offset + 1, index) if offset >= 0 else (0,):
            while number > 127:
                written.append(number & 127 | 128)
                number >>= 7
            written.append(number)
    return base64.b64encode(written).decode()


def parsed(text: str) -> np.ndarray:
    """The reverse. Raises ValueError for another text."""
    seen = np.full((PARTITIONS, 2), -1, np.int64)
    numbers, shift = [0], 0
    data = base64.b64decode(text, validate=True)
    for byte in data:
        numbers[-1] |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(0)
            shift = 0
    if shift:
        raise ValueError("the last number is cut off")
    left = iter(numbers[:-1])
    try:
        for partition, number in enumerate(left):
            if number or partition >= PARTITIONS:
                seen[partition] = number - 1, next(left)
    except (IndexError, StopIteration, OverflowError) as error:
        raise ValueError("not origins") from error
    return seen
