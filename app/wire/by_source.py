"""Records of the topic by source: written by the hop of ``input.rekey``, read by the partitions that score them.

A record is one point in a fixed shape: the names and shapes in ``input`` apply before this topic and not after it, so
records stay readable when those settings change.

    key     pump-7                           the partition is that of Kafka's own clients for this key
    value   {"source":"pump-7","timestamp":1698399460.0,"value":90.4406}
            {"source":"pump-7","timestamp":1698399460.0,"metric":"temperature","value":45.2}
            {"source":"pump-7","timestamp":1698399460.0,"values":{"pressure":2.1,"temperature":45.2}}
            each of them may have "labels":{..}
    header  origin = 3:5658:0:1698399460123  partition, offset and index of the point in the input topic, and the
                                             Kafka timestamp of its record in ms: that of the point has no other

The ids of results are made of the origin, and duplicates are found by it: app/stream/origins.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from app.compiled import murmur2
from app.compiled.byte_columns import Column, Encoded, Header, wide
from app.compiled.jit import compiled
from app.compiled.numeric import MAX_VALUE
from app.errors import InvalidPoint
from app.pipeline.points import INDEX_BITS, INDEX_MASK, Points
from app.settings.model import InputSettings
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.state.sources import VALUE
from app.wire.dead_letters import DeadLetter
from app.wire.reader import Decoded, Reader, Record
from app.wire.result_json import COLON, put_int
from app.wire.times import END_OF_TIME

ORIGIN = "origin"  # the header
PARTS = 4  # of an origin: partition, offset, index, ms
DIGITS = 18  # of any of them, at most
PARTITIONS = 256  # of the input topic, at most: see app/stream/origins.py


class Element(msgspec.Struct, omit_defaults=True, gc=False):
    """The value of a record."""

    source: str
    timestamp: float | None = None  # None: the time in the origin
    metric: str | None = None
    value: float | None = None
    values: dict[str, float] | None = None
    labels: dict[str, Any] | None = None


class Times(NamedTuple):
    """Kafka timestamps of records."""

    offsets: np.ndarray  # i8[n], ascending
    written: np.ndarray  # i8[n], ms

    @classmethod
    def of(cls, records: Sequence[Record]) -> Times:
        offsets, written = [record.offset for record in records], [record.timestamp for record in records]
        return cls(np.array(offsets, np.int64), np.array(written, np.int64))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Element).decode


def encoded(points: Points, partition: int, times: Times, count: int) -> dict[int, Encoded]:
    """The records of these points, by partition of the topic by source, each in the points' order.

    Parameters
    ----------
    points
        Of one partition of the input topic.
    partition
        Its number.
    times
        Of all records that they came in.
    count
        Partitions of the topic by source.
    """
    if not len(points):
        return {}
    keys = Column.of(list(map(str.encode, points.source)))
    to = murmur2.partitions(keys, count)
    order = np.argsort(to, kind="stable")
    at = np.array(points.offset, np.int64)
    written = times.written[np.searchsorted(times.offsets, at)]
    origins = _origins(partition, at, np.array(points.index, np.int64), written)
    values = Column.of(list(map(_encode, _elements(points))))
    columns = [column.ordered(order) for column in (keys, values, origins)]
    numbers, starts = np.unique(to[order], return_index=True)
    found = {}
    for number, first, end in zip(numbers.tolist(), starts.tolist(), [*starts[1:].tolist(), len(order)]):
        key, value, origin = (column.part(first, end) for column in columns)
        found[number] = Encoded(key, value, Header(ORIGIN, origin))
    return found


def _origins(partition: int, offsets: np.ndarray, indices: np.ndarray, times: np.ndarray) -> Column:
    out = np.empty(len(offsets) * PARTS * (DIGITS + 2), np.uint8)
    ends = np.empty(len(offsets), np.int64)
    return Column(out[: _write(out, ends, partition, offsets, indices, np.maximum(times, 0))], ends)


def _elements(points: Points) -> Iterable[Element]:
    times = [time if own else None for time, own in zip(points.timestamp, points.own_time)]
    none = [None] * len(points)
    labels = none if points.labels is None else points.labels
    named = none if points.metric is None else [name or None for name in points.metric]
    if points.start is None or points.metrics is None:
        return map(Element, points.source, times, named, points.values, none, labels)
    values: list[float | None] = []
    vectors: list[dict[str, float] | None] = []
    for i, metric in enumerate(named):
        cells = dict(zip(points.names(i), points.values[points.cells(i)]))
        alone = metric is not None or list(cells) == [VALUE]
        values.append(next(iter(cells.values())) if alone else None)
        vectors.append(None if alone else cells)
    return map(Element, points.source, times, named, values, vectors, labels)


class BySourceReader:
    """Reads the records of one partition of the topic by source, as app/wire/reader.py those of the input topic.

    ``input_topic`` is what origins and so ids refer to. Only workers write here; what else is found becomes a dead
    letter that names this topic.
    """

    def __init__(self, input: InputSettings, topic: str, partition: int, input_topic: str) -> None:
        self._topic, self._partition, self._input_topic = topic, partition, input_topic
        self._single = Reader(input, input_topic, partition, keyed=False).single
        self._times = np.empty(0, np.int64)
        self.units: set[str] = set()  # none is to be found out

    def read(self, records: Sequence[Record]) -> Decoded:
        """Points, and dead letters of foreign records; ``offset`` of points is this topic's, ``named`` the input's."""
        found = self._read_at_once(records)
        if found is not None:
            return Decoded(self._points(records, *found), [], {}, [])
        ours, dead_letters = [], []
        for record in records:
            if self._read_at_once([record]) is not None:
                ours.append(record)
            else:
                reason = f"{self._topic}[{self._partition}]@{record.offset}: was not written by the hop of input.rekey"
                of = record.offset, 0, reason, "foreign", record.key, record.value, record.headers
                dead_letters.append(DeadLetter(*of, origin=(self._topic, self._partition, record.offset, 0)))
        found = self._read_at_once(ours)
        assert found is not None
        points = self._points(ours, *found)
        if dead_letters:
            self._times = np.array([record.timestamp for record in records], np.int64)
        return Decoded(points, dead_letters, {}, [])

    def times(self, records: Sequence[Record]) -> np.ndarray:
        """When the records were written to the input topic, ms; of those read last."""
        assert len(records) == len(self._times)
        return self._times

    def rejected(
        self, records: Iterable[Record], elements: Any, points: Points, rejected: Iterable[tuple]
    ) -> list[DeadLetter]:
        """Dead letters of points that were read but not scored: (position in ``points``, label, reason)."""
        of = {record.offset: record for record in records}
        dead_letters = []
        for position, label, reason in rejected:
            record, index = of[points.offset[position]], points.index[position]
            assert points.named is not None
            origin = self._input_topic, index >> INDEX_BITS, points.named[position], index & INDEX_MASK
            reason_with_origin = f"{origin[0]}[{origin[1]}]@{origin[2]}: {InvalidPoint(label, reason)}"
            letter = record.offset, index, reason_with_origin, label, record.key, record.value, ()
            dead_letters.append(DeadLetter(*letter, origin=origin))
        return dead_letters

    def _read_at_once(self, records: Sequence[Record]) -> tuple[list[Element], np.ndarray] | None:
        """The elements and their origins, i8[n, PARTS]; None when one of them is not the hop's."""
        try:
            found = [_decode(record.value) for record in records]  # type: ignore[arg-type]
            headers = [record.headers for record in records]
            if headers and (set(map(len, headers)) != {1} or {of[0][0] for of in headers} != {ORIGIN}):
                return None
            origins = np.empty((len(records), PARTS), np.int64)
            column = Column.of([of[0][1] for of in headers])
            ours = _numbers(wide(column.data), column.ends, origins) and _are_sound(found)
        except (msgspec.DecodeError, TypeError, ValueError, RecursionError):  # of value None, of values of headers
            return None
        partition, _, index, _ = origins.T
        return (found, origins) if ours and (partition < PARTITIONS).all() and (index <= INDEX_MASK).all() else None

    def _points(self, records: Sequence[Record], found: list[Element], origins: np.ndarray) -> Points:
        self._times = origins[:, 3]
        times = (origins[:, 3] / 1000.0).tolist()
        points = Points(
            offset=[record.offset for record in records],
            index=(origins[:, 0] << INDEX_BITS | origins[:, 2]).tolist(),
            source=[one.source for one in found],
            timestamp=[time if one.timestamp is None else one.timestamp for one, time in zip(found, times)],
            own_time=[one.timestamp is not None for one in found],
            named=origins[:, 1].tolist(),
            arrived=times,
            single=self._single,
        )
        metric = [one.metric or "" for one in found]
        points.metric = metric if any(metric) else None
        labels = [one.labels for one in found]
        points.labels = labels if any(labels) else None
        if all(one.values is None for one in found):
            points.values = [one.value for one in found]  # type: ignore[misc]
            return points
        points.metrics, points.start = [], [0]
        for one in found:
            cells = {one.metric or VALUE: one.value} if one.values is None else one.values
            points.metrics += cells
            points.values += cells.values()  # type: ignore[arg-type]
            points.start.append(len(points.values))
        return points


def _are_sound(found: Sequence[Element]) -> bool:
    """Whether they can have come from the reader of the input topic; of common ones, without looking at each."""
    values: list[Any] = [one.value for one in found]
    if not values or None in values or any([one.values is not None for one in found]):
        return all(map(_is_sound, found))
    sources = list(map(len, [one.source for one in found]))
    times = [one.timestamp or 0.0 for one in found]
    names = {one.metric for one in found}
    return (
        (min(sources) > 0 and max(sources) <= MAX_SOURCE_BYTES // 4)  # characters, of 4 bytes at most
        and (min(times) >= 0.0 and max(times) < END_OF_TIME)
        and (min(values) >= -MAX_VALUE and max(values) <= MAX_VALUE)
        and all(name is None or 0 < len(name) <= MAX_METRIC_BYTES // 4 for name in names)
    ) or all(map(_is_sound, found))


def _is_sound(one: Element) -> bool:
    """Whether it can have come from the reader of the input topic."""
    if not 0 < len(one.source.encode()) <= MAX_SOURCE_BYTES or not 0.0 <= (one.timestamp or 0.0) < END_OF_TIME:
        return False
    if one.values is None:
        named = one.metric is None or 0 < len(one.metric.encode()) <= MAX_METRIC_BYTES
        return named and one.value is not None and -MAX_VALUE <= one.value <= MAX_VALUE
    cells = one.values.items()
    sound = all(0 < len(name) <= MAX_METRIC_BYTES and -MAX_VALUE <= value <= MAX_VALUE for name, value in cells)
    return sound and bool(cells) and one.metric is None and one.value is None


@compiled
def _write(out, ends, partition, offsets, indices, times):
    i = 0
    for n in range(len(offsets)):
        i = put_int(out, i, partition)
        for number in (offsets[n], indices[n], times[n]):
            out[i] = COLON
            i = put_int(out, i + 1, number)
        ends[n] = i
    return i


@compiled
def _numbers(data, ends, out):
    """Fill in the numbers of each string, with a colon between two; False when one is not such."""
    i = 0
    for n in range(len(ends)):
        for k in range(out.shape[1]):
            value = 0
            first = i
            while i < ends[n] and 48 <= data[i] <= 57 and i - first < DIGITS:
                value = value * 10 + data[i] - 48
                i += 1
            if i == first or (i < ends[n]) != (k < out.shape[1] - 1) or (i < ends[n] and data[i] != 58):
                return False
            out[n, k] = value
            if i < ends[n]:
                i += 1
    return True
