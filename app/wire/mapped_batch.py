"""Records of other shapes, a whole batch at once: columns over all elements, made and checked by loops in C.

A record that has anything unusual in it, a mistake or what is skipped, is left to app/wire/mapped.py, which reads one
record after the other: that is the reference, and a test compares both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, compress, islice, repeat
from math import isnan
from operator import ne
from typing import Any

import msgspec
import numpy as np

from app.compiled.numeric import LARGEST
from app.pipeline.points import Points
from app.settings.model import InputSettings
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.state.sources import VALUE
from app.wire import framing, keys, malformed
from app.wire.checked import Checks, Record
from app.wire.mapping import Mapping, Numbers
from app.wire.times import END_OF_TIME


class MappedBatch:
    """Reads batches as a mapping says."""

    def __init__(self, mapping: Mapping, checks: Checks, input: InputSettings) -> None:
        self._mapping, self._checks = mapping, checks
        self._max_metrics, self._labels = input.max_metrics, bool(input.labels)

    def read(self, records: Sequence[Record]) -> tuple[Points, dict[int, Sequence[Any]], list[Record]]:
        """The points of usual records, in their order; by offset, the pieces of those that have several; the others."""
        mapping = self._mapping
        raw, at = _sound(records)
        found = _decoded(mapping, raw)
        if None in found:
            good = [one is not None for one in found]
            raw, at, found = (list(compress(column, good)) for column in (raw, at, found))
        elements, around, pieces, of = mapping.spread(found, raw)
        at = [at[i] for i in of] if of is not None else at
        named, metric, labels = mapping.all_described(elements, around)
        source: list[Any] = named
        given = mapping.all_times(elements, around)
        numbers = mapping.all_numbers(elements, around)
        if numbers is not None and not _all_allowed(numbers, mapping.apart):
            numbers = None
        cells: list[Any] = mapping.all_cells(elements, around) if numbers is None else numbers[0]
        time = self._times(given, at, records)
        good = self._good(source, metric, time, cells, numbers is not None, at, records)
        if not all(good):
            if numbers is not None:
                cells, numbers = mapping.all_cells(elements, around), None
            bad = {i for i, sound in zip(at, good) if not sound}
            good = [i not in bad for i in at]
        others: list[Record] = []
        if of is not None or len(at) < len(records) or not all(good):
            usual = set(compress(at, good))
            others = [record for i, record in enumerate(records) if i not in usual]
        if not all(good):
            at, pieces, source, time, given, cells = (
                list(compress(column, good)) for column in (at, pieces, source, time, given, cells)
            )
            metric = metric and list(compress(metric, good))
            labels = labels and list(compress(labels, good))
        offset = [records[i].offset for i in at]
        own_time = [one is not None for one in given]
        if not self._labels:
            labels = None
        if mapping.apart:
            return *_apart(offset, source, time, own_time, numbers or _numbers(cells), labels, pieces), others
        index, several = _indices(offset, pieces) if of is not None else ([0] * len(offset), {})
        points = Points(offset, index, source, time, own_time, labels=labels, single=mapping.single)
        _fill(points, mapping.flat, cells, numbers, metric)
        return points, several, others

    def _times(self, given: list[Any], at: list[int], records: Sequence[Record]) -> list[float]:
        """Epoch seconds; negative where there is none that is allowed."""
        if given and None not in given and (times := self._checks.times(given)) is not None:
            return times
        return [
            records[i].timestamp / 1000.0 if one is None else (self._checks.times([one]) or [-1.0])[0]
            for one, i in zip(given, at)
        ]

    def _good(
        self,
        source: list[str | None],
        metric: list[str | None] | None,
        time: list[float],
        cells: list[Any],
        cells_are_good: bool,
        at: list[int],
        records: Sequence[Record],
    ) -> list[bool]:
        """Of each element, whether it can be a point."""
        most = self._max_metrics if not self._mapping.apart else 1 << 30
        good = [
            one is not None and some is not None and 0.0 <= second < END_OF_TIME
            for one, some, second in zip(source, cells, time)
        ]
        if cells_are_good:
            pass
        elif self._mapping.flat:
            if cells and None not in cells and not (isnan(sum(cells)) or max(cells) > LARGEST or min(cells) < -LARGEST):
                pass
            else:
                good = [ok and -LARGEST <= value <= LARGEST for ok, value in zip(good, cells)]
        elif not _all_in_range(cells, most):
            good = [ok and 0 < len(some) <= most and _in_range(some) for ok, some in zip(good, cells)]
        sizes = {one: 0 < len(one.encode()) <= MAX_SOURCE_BYTES for one in set(source) if one is not None}
        if not all(sizes.values()):
            good = [ok and sizes.get(one, False) for ok, one in zip(good, source)]  # type: ignore[arg-type]
        if metric is not None:
            names = {one: one is None or 0 < len(one.encode()) <= MAX_METRIC_BYTES for one in set(metric)}
            if not all(names.values()):
                good = [ok and names[one] for ok, one in zip(good, metric)]
        if self._checks.keyed:
            good = [ok and keys.is_source(records[i].key, one) for ok, i, one in zip(good, at, source)]  # type: ignore[arg-type]
        return good


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


def _sound(records: Sequence[Record]) -> tuple[list[Any], list[int]]:
    """The JSON of records that are UTF-8 and not too deep, and their positions."""
    raw: list[Any] = [record.value for record in records]
    at = list(range(len(raw)))
    if None in raw:
        at = [i for i in at if raw[i] is not None]
        raw = [raw[i] for i in at]
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
        return list(map(mapping.decode, raw))
    except (msgspec.DecodeError, RecursionError):
        return [_decode(mapping, value) for value in raw]


def _decode(mapping: Mapping, value: bytes) -> Any:
    try:
        return mapping.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None


def _all_in_range(cells: list[Any], most: int) -> bool:
    if None in cells or not all(cells) or max(map(len, cells), default=0) > most:
        return False
    return not cells or _all_allowed(_numbers(cells), True)


def _numbers(cells: list[Any]) -> Numbers:
    names = [name for some in cells for name, _ in some]
    return list(map(len, cells)), names, [value for some in cells for _, value in some]


def _all_allowed(numbers: Numbers, several: bool) -> bool:
    """Whether all names and values are; ``several``: an element may have more than one."""
    counts, names, values = numbers
    if isnan(sum(values)) or max(values) > LARGEST or min(values) < -LARGEST or not (several or max(counts) == 1):
        return False
    return all(0 < len(name.encode()) <= MAX_METRIC_BYTES for name in set(names))


def _in_range(cells: list[tuple[str, float]]) -> bool:
    for name, value in cells:
        if not -LARGEST <= value <= LARGEST or not name or len(name.encode()) > MAX_METRIC_BYTES:
            return False
    return True


def _indices(offset: list[int], pieces: list[Any]) -> tuple[list[int], dict[int, Sequence[Any]]]:
    if all(map(ne, offset, islice(offset, 1, None))):
        return [0] * len(offset), {}
    at = np.array(offset)
    first = np.flatnonzero(np.append(True, at[1:] != at[:-1]))
    counts = np.diff(np.append(first, len(at)))
    index = (np.arange(len(at)) - np.repeat(first, counts)).tolist()
    several = zip(first.tolist(), counts.tolist())
    return index, {offset[i]: pieces[i : i + count] for i, count in several if count > 1}


def _apart(
    offset: list[int],
    source: list[Any],
    time: list[float],
    own_time: list[bool],
    numbers: Numbers,
    labels: list[Any] | None,
    pieces: list[Any],
) -> tuple[Points, dict[int, Sequence[Any]]]:
    """A point of each value."""
    counts, names, values = numbers
    index, several = _indices(_repeated(offset, counts), _repeated(pieces, counts))
    points = Points(
        _repeated(offset, counts),
        index,
        _repeated(source, counts),
        _repeated(time, counts),
        _repeated(own_time, counts),
        values,
        metric=["" if name == VALUE else name for name in names],
        labels=labels and _repeated(labels, counts),
    )
    if not any(points.metric or ()):
        points.metric = None
    return points, several


def _repeated(column: list[Any], counts: list[int]) -> list[Any]:
    if len(counts) == sum(counts):  # one each, as none is 0
        return column
    return list(chain.from_iterable(map(repeat, column, counts)))


def _fill(
    points: Points, flat: str, cells: list[Any], numbers: Numbers | None, metric: list[str | None] | None
) -> None:
    """Values and metrics of points of one element each."""
    if flat or numbers is not None:
        _, metrics, points.values = numbers or ([], [flat] * len(cells), cells)
        if metric is not None:
            metrics = [name if one is None else one for name, one in zip(metrics, metric)]
        starts = list(range(len(cells) + 1))
    else:
        sorted_cells = [sorted(some) for some in cells]
        if metric is not None:
            sorted_cells = [
                [(one, some[0][1])] if one is not None and len(some) == 1 else some
                for one, some in zip(metric, sorted_cells)
            ]
        points.values = [value for some in sorted_cells for _, value in some]
        metrics = [name for some in sorted_cells for name, _ in some]
        starts = [0]
        for some in sorted_cells:
            starts.append(starts[-1] + len(some))
    series = [""] * len(points) if metric is None else ["" if one in (None, VALUE) else one for one in metric]
    points.metrics, points.start, points.metric = metrics, starts, series  # type: ignore[assignment]
    if metrics == [name or VALUE for name in series]:
        points.metrics = points.start = None
    if not any(series):
        points.metric = None
