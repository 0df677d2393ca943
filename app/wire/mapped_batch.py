"""Records of other shapes, a whole batch at once: columns over all elements, made and checked by loops in C.

A record that has anything unusual in it, a mistake or what is skipped, is left to app/wire/mapped.py, which reads one
record after the other: that is the reference, and a test compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, compress, islice, pairwise
from math import isnan
from operator import ne
from typing import Any

import msgspec
import numpy as np

from app.compiled.numeric import MAX_VALUE
from app.pipeline.points import Points
from app.settings.model import InputSettings
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.state.sources import VALUE
from app.wire import framing, keys, malformed
from app.wire.checked import Checks, Record
from app.wire.mapping import Mapping, repeated
from app.wire.times import END_OF_TIME

PART_BYTES = 120_000  # of records that are decoded at once: objects of some ten times that size

Pieces = Callable[[Sequence[Any]], Sequence[bytes]]


@dataclass(slots=True)
class Columns:
    """What elements hold: of each the position of its record, its source, time as it is given, and how many numbers."""

    at: list[int]
    source: list[Any]  # None: a field that names it is of another type
    given: list[Any]
    counts: list[int]
    names: list[str]  # of all numbers
    values: list[float]
    pieces: list[Any]  # their bytes
    several: bool = False  # a record may have several
    metric: list[str | None] | None = None
    labels: list[dict[str, Any] | None] | None = None

    def always(self) -> tuple[list[Any], ...]:
        return self.at, self.source, self.given, self.counts, self.names, self.values, self.pieces

    def select(self, good: list[bool]) -> Columns:
        numbers = repeated(good, self.counts)
        at, source, given, counts, pieces = (
            list(compress(column, good)) for column in (self.at, self.source, self.given, self.counts, self.pieces)
        )
        names, values = list(compress(self.names, numbers)), list(compress(self.values, numbers))
        metric = self.metric and list(compress(self.metric, good))
        labels = self.labels and list(compress(self.labels, good))
        return Columns(at, source, given, counts, names, values, pieces, self.several, metric, labels)


class MappedBatch:
    """Reads batches as a mapping says."""

    def __init__(self, mapping: Mapping, checks: Checks, input: InputSettings) -> None:
        self._mapping, self._checks = mapping, checks
        self._max_metrics, self._labels = input.max_metrics, bool(input.labels)

    def read(self, records: Sequence[Record]) -> tuple[Points, dict[int, Sequence[Any]], list[Record]]:
        """The points of usual records, in their order; by offset, the pieces of those that have several; the others."""
        mapping = self._mapping
        of = _joined([self._columns(records, part) for part in _parts(records)])
        time = self._times(of.given, of.at, records)
        good = self._good(of, time, records)
        others: list[Record] = []
        if not all(good):
            bad = {i for i, sound in zip(of.at, good) if not sound}
            of, time = of.select(good := [i not in bad for i in of.at]), list(compress(time, good))
        usual = set(of.at)
        if len(usual) < len(records):
            others = [record for i, record in enumerate(records) if i not in usual]
        offset = [records[i].offset for i in of.at]
        own_time = [one is not None for one in of.given]
        labels = of.labels if self._labels else None
        if mapping.apart:
            return *_apart(offset, of, time, own_time, labels, mapping.pieces), others
        index, several = _indices(offset, of.pieces, mapping.pieces) if of.several else ([0] * len(offset), {})
        points = Points(offset, index, of.source, time, own_time, labels=labels, single=mapping.single)
        _fill(points, of)
        return points, several, others

    def _columns(self, records: Sequence[Record], part: range) -> Columns:
        mapping = self._mapping
        raw, at = _sound(records[part.start : part.stop], part)
        found = _decoded(mapping, raw)
        if None in found:
            good = [one is not None for one in found]
            raw, at, found = (list(compress(column, good)) for column in (raw, at, found))
        elements, around, pieces, of = mapping.spread(found, raw)
        source, metric, labels = mapping.all_described(elements, around)
        return Columns(
            [at[i] for i in of] if of is not None else list(at),
            source,
            mapping.all_times(elements, around),
            *mapping.all_numbers(elements, around),
            pieces,
            of is not None,
            metric,
            labels,
        )

    def _times(self, given: list[Any], at: list[int], records: Sequence[Record]) -> list[float]:
        """Epoch seconds; negative where there is none that is allowed."""
        if given and None not in given and (times := self._checks.times(given)) is not None:
            return times
        return [
            records[i].timestamp / 1000.0 if one is None else (self._checks.times([one]) or [-1.0])[0]
            for one, i in zip(given, at)
        ]

    def _good(self, of: Columns, time: list[float], records: Sequence[Record]) -> list[bool]:
        """Of each element, whether it can be a point."""
        most = self._max_metrics if not self._mapping.apart else 1 << 30
        good = [
            one is not None and 0 < count <= most and 0.0 <= second < END_OF_TIME
            for one, count, second in zip(of.source, of.counts, time)
        ]
        if not _all_allowed(of.names, of.values):
            allowed = map(_is_allowed, of.names, of.values)
            good = [all(list(islice(allowed, count))) and ok for ok, count in zip(good, of.counts)]
        sizes = {one: 0 < len(one.encode()) <= MAX_SOURCE_BYTES for one in set(of.source) if one is not None}
        if not all(sizes.values()):
            good = [ok and sizes.get(one, False) for ok, one in zip(good, of.source)]
        if of.metric is not None:
            names = {one: one is None or _is_name(one) for one in set(of.metric)}
            if not all(names.values()):
                good = [ok and names[one] for ok, one in zip(good, of.metric)]
        if self._checks.keyed:
            good = [ok and keys.is_source(records[i].key, one) for ok, i, one in zip(good, of.at, of.source)]
        return good


def _parts(records: Sequence[Record]) -> Iterator[range]:
    """Positions of so many records that what is decoded of them stays in the processor's cache."""
    some = [len(record.value or b"") for record in records[::64]]
    step = max(PART_BYTES * len(some) // (sum(some) or 1), 16)
    return (range(i, min(i + step, len(records))) for i in range(0, len(records) or 1, step))


def _joined(parts: list[Columns]) -> Columns:
    of = parts[0]
    for part in parts[1:]:
        if of.metric is not None or part.metric is not None:
            of.metric = (of.metric or [None] * len(of.at)) + (part.metric or [None] * len(part.at))
        if of.labels is not None or part.labels is not None:
            of.labels = (of.labels or [None] * len(of.at)) + (part.labels or [None] * len(part.at))
        for column, more in zip(of.always(), part.always()):
            column += more
        of.several |= part.several
    return of


def merged(one: Points, other: Points) -> Points:
    """The points of both, which are of different records, in the order of the partition."""
    if not len(one) or not len(other):
        return one if len(one) else other
    named = one.start is not None or other.start is not None
    both = Points(
        one.offset + other.offset,
        one.index + other.index,
        one.source + other.source,
        one.timestamp + other.timestamp,
        one.own_time + other.own_time,
        one.values + other.values,
        single=one.single,
    )
    if named:
        both.metrics = [name for part in (one, other) for i in range(len(part)) for name in part.names(i)]
        ends = one.start or list(range(len(one) + 1))
        both.start = ends + [ends[-1] + end for end in (other.start or list(range(len(other) + 1)))[1:]]
    if one.metric is not None or other.metric is not None:
        both.metric = [name for part in (one, other) for name in (part.metric or [""] * len(part))]
    if one.labels is not None or other.labels is not None:
        both.labels = [some for part in (one, other) for some in (part.labels or [None] * len(part))]
    order = sorted(range(len(both)), key=both.offset.__getitem__)
    return both.select(order)


def _sound(records: Sequence[Record], at: Sequence[int]) -> tuple[list[Any], Sequence[int]]:
    """The JSON of records that are UTF-8 and not too deep, and their positions."""
    raw: list[Any] = [record.value for record in records]
    if None in raw:
        at = [i for i, value in zip(at, raw) if value is not None]
        raw = [value for value in raw if value is not None]
    if raw and raw[0][:1] in framing.FIRST:
        raw = list(map(framing.unframed, raw))
    if all(map(bytes.isascii, raw)) and not malformed.any_too_deep(raw):
        return raw, at
    good = [_is_text(value) and not malformed.too_deep(value) for value in raw]
    return list(compress(raw, good)), list(compress(at, good))


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(mapping: Mapping, raw: list[bytes]) -> list[Any]:
    """Records; None where one cannot be decoded, or is not one."""
    try:
        return list(map(mapping.decode_usual, raw))
    except (msgspec.DecodeError, RecursionError):
        return [_decode(mapping, value) for value in raw]


def _decode(mapping: Mapping, value: bytes) -> Any:
    try:
        return mapping.decode_usual(value)
    except (msgspec.DecodeError, RecursionError):
        return None


def _all_allowed(names: list[str], values: list[float]) -> bool:
    if not values or isnan(sum(values)) or max(values) > MAX_VALUE or min(values) < -MAX_VALUE:
        return False
    return all(map(_is_name, set(names)))


def _is_allowed(name: str, value: float) -> bool:
    return -MAX_VALUE <= value <= MAX_VALUE and _is_name(name)


def _is_name(name: str) -> bool:
    return 0 < len(name.encode()) <= MAX_METRIC_BYTES


def _indices(offset: list[int], found: list[Any], pieces: Pieces) -> tuple[list[int], dict[int, Sequence[Any]]]:
    if all(map(ne, offset, islice(offset, 1, None))):
        return [0] * len(offset), {}
    at = np.array(offset)
    first = np.flatnonzero(np.append(True, at[1:] != at[:-1]))
    counts = np.diff(np.append(first, len(at)))
    index = (np.arange(len(at)) - np.repeat(first, counts)).tolist()
    several = zip(first.tolist(), counts.tolist())
    return index, {offset[i]: pieces(found[i : i + count]) for i, count in several if count > 1}


def _apart(
    offset: list[int], of: Columns, time: list[float], own_time: list[bool], labels: list[Any] | None, pieces: Pieces
) -> tuple[Points, dict[int, Sequence[Any]]]:
    """A point of each value."""
    counts = of.counts
    if of.several:
        index, several = _indices(repeated(offset, counts), repeated(of.pieces, counts), pieces)
    else:
        index = list(chain.from_iterable(map(range, counts)))
        several = {at: [piece] * n for at, piece, n in zip(offset, of.pieces, counts) if n > 1}
    points = Points(
        repeated(offset, counts),
        index,
        repeated(of.source, counts),
        repeated(time, counts),
        repeated(own_time, counts),
        of.values,
        metric=["" if name == VALUE else name for name in of.names],
        labels=labels and repeated(labels, counts),
    )
    if not any(points.metric or ()):
        points.metric = None
    return points, several


def _fill(points: Points, of: Columns) -> None:
    """Values and metrics of points of one element each."""
    metrics, values = of.names, of.values
    starts = list(accumulate(of.counts, initial=0))
    if max(of.counts, default=0) > 1:
        cells = list(zip(metrics, values))
        cells = list(chain.from_iterable([sorted(cells[i:j]) for i, j in pairwise(starts)]))
        metrics, values = (list(column) for column in zip(*cells))
    series = [""] * len(points)
    if of.metric is not None:
        series = ["" if one in (None, VALUE) else one for one in of.metric]  # type: ignore[misc]
        if len(metrics) == len(points):  # one each, as none is 0
            metrics = [name if one is None else one for name, one in zip(metrics, of.metric)]
        else:
            for i, count, one in zip(starts, of.counts, of.metric):
                if count == 1 and one is not None:
                    metrics[i] = one
    points.metrics, points.start, points.metric, points.values = metrics, starts, series, values
    if metrics == [name or VALUE for name in series]:
        points.metrics = points.start = None
    if not any(series):
        points.metric = None
