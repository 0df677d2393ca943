"""Reads points from the records of the input topic; a record that cannot be read becomes a dead letter.

A record is a JSON object, or an array of objects. Each element is decoded by itself, so that a bad one does not affect
the others. Every record, with any bytes, gives at least one point, dead letter or ``Skipped``.

    {"source": "pump-7", "timestamp": 1698401060.0 | "2023-10-27T09:37:40Z", "value": 45.2}
    {"source": "pump-7", "metric": "temperature", "value": 45.2}
    {"source": "pump-7", "values": {"temperature": 45.2, "pressure": 2.1}}

Rules: unknown fields are ignored; if a field is given twice, the last one counts; null means absent; source is
preferred to sourceId, and that to entity_id; a whole number as a name is converted to text; a time without zone is UTC,
and ``times`` finds the unit of a numeric time. Refused are NaN and Infinity, text or true in place of a number, |value|
> MAX_VALUE, times outside 1970..2200, bad UTF-8 and nesting deeper than 128, also in ignored fields. ``framing`` lists
the bytes that may surround JSON, ``keys`` the accepted keys. A record without a value (a tombstone) is skipped.

A whole batch is read at once: one msgspec call for each record, then checks that run over lists in C (.4 us a record;
record by record, 1.5 us). If any of it fails, the batch is read record by record: that path is the reference, and a
test compares the other with it. msgspec alone is not enough: it does not check the UTF-8 of skipped fields, and limits
depth only by the remaining stack, so that the same record could be a point in one process and a dead letter in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np

from app.compiled.numeric import MAX_VALUE
from app.errors import InvalidPoint
from app.pipeline.points import Points
from app.settings.model import SOURCE_NAMES, InputSettings
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.state.sources import VALUE
from app.wire import formats, framing, keys, malformed, schema
from app.wire.checked import Checks, Record, append
from app.wire.dead_letters import DeadLetter
from app.wire.mapped import MappedReader
from app.wire.mapped_batch import MappedBatch, merged
from app.wire.times import END_OF_TIME

MAX_DEAD_LETTERS = 100  # for elements of one record; one more is for all elements after them


Elements = dict[int, Sequence[bytes]]
NO_METRICS: list[str] = []
# Reasons: no value; a deleted row; NaN for a missing number, where the settings allow numbers as text; no number in a
# shape in which every number is optional; a histogram or summary.
SKIPPED = ("tombstone", "deleted", "nan", "no_number", "histogram")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record or element without a point that is not an error; ``why`` is one of SKIPPED."""

    offset: int
    index: int
    why: str


class Decoded(NamedTuple):
    """What was read from records of one partition.

    ``elements``: by offset, the elements of each record that has several, as they were sent.
    """

    points: Points
    dead_letters: list[DeadLetter]
    elements: Elements
    skipped: list[Skipped]


class Reader:
    """Reads the records of one partition.

    Parameters
    ----------
    input
        Other names of the fields, the unit of timestamps, and how many metrics a point may have.
    topic, partition
        Named in reasons.
    keyed
        A record's key must be its source. False where the topic has one partition: then any key is accepted.
    """

    def __init__(self, input: InputSettings, topic: str, partition: int, keyed: bool) -> None:
        self._topic, self._partition, self._keyed = topic, partition, keyed
        input = formats.applied(input)
        self._checks = Checks(input, keyed)
        self._single = len(input.value_fields) == 1
        self._has_labels = bool(input.labels)
        self._decode_plain: Any = None
        mapping = formats.mapping(input)
        self._mapped = None if mapping is None else MappedReader(mapping, self._checks)
        self._batch = None if mapping is None else MappedBatch(mapping, self._checks, input)
        if self._mapped is not None and mapping is not None:
            self._single, self._complaints = mapping.single, mapping.complaints
            self._decode_any: Any = self._mapped.decode
            return
        self._names = schema.Names(
            (input.source_field,) if input.source_field else SOURCE_NAMES,
            input.timestamp_field or "timestamp",
            tuple(input.value_fields),
        )
        self._complaints = partial(malformed.complaints, self._names)
        one = schema.full(self._names)
        self._decode_one = msgspec.json.Decoder(one).decode
        self._decode_any = msgspec.json.Decoder(one | list[msgspec.Raw]).decode
        self._plain_metric = (*input.value_fields, VALUE)[0]
        self._takes_metric = not input.value_fields  # a point may name its value
        if plain := schema.plain(self._names):
            self._decode_plain = msgspec.json.Decoder(plain).decode

    @property
    def single(self) -> bool:
        """The value of ``Points.single`` of the points it reads."""
        return self._single

    @property
    def units(self) -> set[str]:
        """Units of the numeric timestamps read so far, where the settings name none."""
        return self._checks.units

    def read(self, records: Sequence[Record]) -> Decoded:
        """Points and dead letters of these records, each in the records' order; never raises for their bytes."""
        found = self._read(records)
        times = [record.timestamp / 1000.0 for record in records]
        offsets = found.points.offset
        if len(offsets) != len(records) or found.dead_letters or found.skipped:
            at = dict(zip((record.offset for record in records), times))
            times = [at[offset] for offset in offsets]
        found.points.arrived = times
        return found

    def _read(self, records: Sequence[Record]) -> Decoded:
        if self._batch is not None:
            return self._read_batch(records)
        points = self._read_at_once(records) if self._decode_plain and records else None
        return self._read_each(records) if points is None else Decoded(points, [], {}, [])

    def times(self, records: Sequence[Record]) -> np.ndarray:
        """When the records were written, ms."""
        return np.array([record.timestamp for record in records], np.int64)

    def rejected(
        self, records: Iterable[Record], elements: Elements, points: Points, rejected: Iterable[tuple]
    ) -> list[DeadLetter]:
        """Dead letters of points that were read but not scored: (position in ``points``, label, reason).

        ``elements``: see Decoded; ``points``: those read from the records, or some of them.
        """
        bad: dict[int, list[tuple[int, InvalidPoint | str]]] = {}
        for position, label, reason in rejected:
            why = bad.setdefault(points.offset[position], [])
            why.append((points.index[position], InvalidPoint(label, reason)))
        dead_letters: list[DeadLetter] = []
        for record in records:
            if why := bad.get(record.offset, []):
                dead_letters += self._of_elements(record, elements.get(record.offset, [record.value]), why)
        return dead_letters

    # --- all at once

    def _read_batch(self, records: Sequence[Record]) -> Decoded:
        """Records of another shape: what is usual among them at once, the others one by one."""
        assert self._batch is not None
        points, elements, others = self._batch.read(records)
        if not others:
            return Decoded(points, [], elements, [])
        found = self._read_each(others)
        return found._replace(points=merged(points, found.points), elements=elements | found.elements)

    def _read_at_once(self, records: Sequence[Record]) -> Points | None:
        """Points of records that are all plain objects with one value; None when one of them is not."""
        raw: list[Any] = [record.value for record in records]
        if None in raw:
            return None
        if raw[0][:1] in framing.FIRST:
            raw = list(map(framing.unframed, raw))
        if malformed.any_too_deep(raw):
            return None
        try:
            if not all(map(bytes.isascii, raw)):
                for value in raw:
                    value.decode()
            found: list[Any] = list(map(self._decode_plain, raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        source = [point.source for point in found]
        values = [point.value for point in found]
        try:
            names = list(map(str.encode, source))
        except TypeError:  # numbers among them
            source = list(map(str, source))
            names = list(map(str.encode, source))
        if self._keyed and not _keyed([record.key for record in records], names, source):
            return None
        if b"" in names or max(map(len, names)) > MAX_SOURCE_BYTES:
            return None
        if max(values) > MAX_VALUE or min(values) < -MAX_VALUE:
            return None
        metric = self._metrics([point.metric for point in found]) if self._takes_metric else NO_METRICS
        if metric is None:
            return None
        n = len(found)
        given = [point.timestamp for point in found]
        own_time = given[0] is not None
        timestamp = self._checks.times(given) if own_time or any(given) else [r.timestamp / 1000.0 for r in records]
        if timestamp is None or min(timestamp) < 0.0 or max(timestamp) >= END_OF_TIME:
            return None
        offset = [record.offset for record in records]
        points = Points(offset, [0] * n, source, timestamp, [own_time] * n, values, metric=metric or None)
        if self._plain_metric != VALUE:
            points.metrics, points.start, points.single = [self._plain_metric] * n, list(range(n + 1)), True
        return points

    def _metrics(self, given: list[schema.Name | None]) -> list[str] | None:
        """The metric of each point's series; no list when none has one; None when a name is not allowed."""
        different = set(given)
        if different <= {None, VALUE}:
            return NO_METRICS
        for name in different:
            if name is not None and not 0 < len(str(name).encode()) <= MAX_METRIC_BYTES:
                return None
        return ["" if name is None or name == VALUE else str(name) for name in given]

    # --- record by record

    def _read_each(self, records: Iterable[Record]) -> Decoded:
        points = Points(metrics=[], start=[0], metric=[], single=self._single, labels=[] if self._has_labels else None)
        dead_letters: list[DeadLetter] = []
        elements: Elements = {}
        skipped: list[Skipped] = []
        for record in records:
            if record.value is None:
                skipped.append(Skipped(record.offset, 0, "tombstone"))
                continue
            try:
                found = self._decode(record.value)
                if self._mapped is not None:
                    dead_letters += self._read_mapped(points, found, record, elements, skipped)
                elif isinstance(found, Sequence):
                    elements[record.offset] = found
                    dead_letters += self._read_elements(points, found, record)
                else:
                    self._add(points, found, record, 0, "$")
            except InvalidPoint as invalid:
                dead_letters.append(self._dead_letter(record, 0, invalid, record.value))
        assert points.metric is not None
        if points.metrics == [metric or VALUE for metric in points.metric]:
            points.metrics = points.start = None
        if not any(points.metric):
            points.metric = None
        return Decoded(points, dead_letters, elements, skipped)

    def _read_elements(self, points: Points, elements: Sequence[Any], record: Record) -> list[DeadLetter]:
        """Dead letters of the bad elements; after MAX_DEAD_LETTERS of them the others are not read.

        300,000 bad elements fit into a record of 1 MB. Explaining each would hold up the partition for seconds; one
        dead letter for the rest, with the whole record, is enough.
        """
        bad: list[tuple[int, InvalidPoint | str]] = []
        for index, raw in enumerate(elements):
            try:
                self._add(points, self._decode_one(raw), record, index, f"$[{index}]")
            except (InvalidPoint, msgspec.DecodeError) as error:
                bad.append((index, error if isinstance(error, InvalidPoint) else str(error)))
                if len(bad) == MAX_DEAD_LETTERS:
                    break
        dead_letters = self._of_elements(record, elements, bad)
        if len(bad) == MAX_DEAD_LETTERS and (left := len(elements) - index - 1):
            first = index + 1
            reason = f"$[{first}] and what follows, {left} elements, was not read: {MAX_DEAD_LETTERS} before it are bad"
            dead_letters.append(self._dead_letter(record, first, InvalidPoint("not_read", reason), record.value))
        return dead_letters

    def _read_mapped(
        self, points: Points, found: Any, record: Record, elements: Elements, skipped: list[Skipped]
    ) -> list[DeadLetter]:
        """Dead letters of a record of another shape, or of several in one message."""
        mapped = self._mapped
        assert mapped is not None
        stopped_at = mapped.add(points, found, record, MAX_DEAD_LETTERS)
        pieces = mapped.pieces
        if len(pieces) > 1:
            elements[record.offset] = pieces
        if mapped.skipped:
            skipped += [Skipped(record.offset, index, why) for index, why in mapped.skipped]
        if not mapped.bad:
            return []
        if len(pieces) == 1:
            pieces = [record.value]
        dead_letters = self._of_elements(record, pieces, mapped.bad)
        if stopped_at:
            reason = f"what follows {stopped_at} was not read: {MAX_DEAD_LETTERS} before it are bad"
            invalid = InvalidPoint("not_read", reason)
            dead_letters = [
                *dead_letters[:MAX_DEAD_LETTERS],
                self._dead_letter(record, len(pieces), invalid, record.value),
            ]
        return dead_letters

    def _of_elements(
        self, record: Record, elements: Sequence[Any], bad: Sequence[tuple[int, InvalidPoint | str]]
    ) -> list[DeadLetter]:
        """Dead letters of elements, each with the bytes of its element; of many, the last stands for the rest.

        An array of 400,000 bad elements fits into a record: with the whole record in each, they would be 200 GB.
        """
        dead_letters = []
        for index, why in bad[: MAX_DEAD_LETTERS + 1]:
            raw = bytes(elements[index])
            if isinstance(why, str):
                why = malformed.explain(raw, self._complaints, why, f"$[{index}]")
            dead_letters.append(self._dead_letter(record, index, why, raw))
        if more := len(bad) - len(dead_letters):
            dead_letters[-1].reason += f"; {more} elements after it are bad too"
        if len(bad) > MAX_DEAD_LETTERS:
            dead_letters[-1].value = record.value
        return dead_letters

    def _dead_letter(self, record: Record, index: int, invalid: InvalidPoint, value: bytes | None) -> DeadLetter:
        reason = f"{self._topic}[{self._partition}]@{record.offset}: {invalid}"
        return DeadLetter(record.offset, index, reason, invalid.label, record.key, value, record.headers)

    def _decode(self, given: bytes) -> Any:
        """The object, or the raw elements of the array, of which some may hold NaN. Raises InvalidPoint."""
        if not given:
            raise InvalidPoint("empty", "value must be a JSON object or an array of them, got no bytes")
        value = framing.unframed(given)
        if len(value) > malformed.MAX_DEPTH and malformed.too_deep(value):
            raise malformed.nested()
        try:
            if not value.isascii():
                value.decode()
            found = self._decode_any(value)
        except UnicodeDecodeError as error:
            raise InvalidPoint(
                "invalid_json", _begins(given, f"value must be UTF-8, byte {error.start} is not")
            ) from None
        except msgspec.DecodeError as error:
            if elements := malformed.elements(value) or framing.objects(value):
                return elements
            invalid = malformed.explain(value, self._complaints, str(error), "$")
            if invalid.label == "invalid_json":
                invalid = InvalidPoint(invalid.label, _begins(given, str(invalid)))
            raise invalid from None
        except RecursionError:  # a caller with next to no stack left
            raise malformed.nested() from None
        if found == []:
            raise InvalidPoint("empty", "$ must hold at least one object, got an empty array")
        return found

    def _add(self, points: Points, one: Any, record: Record, index: int, path: str) -> None:
        """Append one point, or raise InvalidPoint and append nothing."""
        checks, names = self._checks, self._names
        name, source = one.named()
        name = name if source is not None else f" or {path}.".join(names.source)
        source = checks.source(source, path, name, record)
        time = checks.timestamp(one.timestamp, path, names.timestamp, record)
        cells = one.cells(path)
        values = "" if cells else f" or {path}.".join(names.values or ("value", "values"))
        checks.cells(cells, path, values, one.path)
        append(points, record, index, source, time, one.timestamp is not None, cells, one.series_metric())


def _keyed(given: Sequence[bytes | None], names: list[bytes], source: list[str]) -> bool:
    """Whether each key stands for its source, whose bytes are in ``names``."""
    return names == given or all(map(keys.is_source, given, source))


def _begins(value: bytes, reason: str) -> str:
    """The reason, with what the first bytes seem to be."""
    what = framing.named(value)
    return f"{reason}; it begins like {what}" if what else reason
