"""Bytes of the input topic to points; what cannot be read becomes a dead letter.

A record is an object, or an array of objects each of which is decoded on its own, so that one bad element
does not spoil the others. Every record gives at least one point, dead letter or ``Skipped``, whatever its bytes are.

    {"source": "pump-7", "timestamp": 1698401060.0 | "2023-10-27T09:37:40Z", "value": 45.2}
    {"source": "pump-7", "metric": "temperature", "value": 45.2}
    {"source": "pump-7", "values": {"temperature": 45.2, "pressure": 2.1}}

Rules: unknown fields are ignored; of a field given twice, the last counts; null means absent; source is
preferred to sourceId, and that to entity_id; a whole number for a name is its text; a time without zone is UTC,
and ``times`` says of a number what unit it is in. Refused are NaN and Infinity, text or true for a number,
|value| > 1e150, times outside 1970..2200, bad UTF-8 and nesting deeper than 128, in ignored fields too. ``framing``
says what may stand around JSON, ``keys`` what keys may look like. A record without a value, a tombstone, is skipped.

A whole batch is tried at once: one msgspec call for each record, then checks that run over lists in C (.4 us
a record; record by record, 1.5 us). Where any of it fails, the batch is read record by record: that path is
the reference, and a test compares the other with it. msgspec alone is not enough: it does not check the UTF-8 of
skipped fields, and limits depth only by the stack that is left, so the same record could be a point in one
process and a dead letter in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from app.compiled.numeric import LARGEST, LARGEST_TEXT
from app.errors import InvalidPoint
from app.pipeline.points import Points
from app.settings.model import SOURCE_NAMES, InputSettings
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.state.sources import VALUE
from app.wire import framing, keys, malformed, schema, times
from app.wire.dead_letters import DeadLetter
from app.wire.malformed import shown
from app.wire.times import END_OF_TIME

MAX_DEAD_LETTERS = 100  # for elements of one record; one more stands for all elements after them


class Record(Protocol):
    """The fields of aiokafka's ConsumerRecord that are read."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int  # ms; negative: none
    offset: int


Elements = dict[int, Sequence[bytes]]
NO_METRICS: list[str] = []
SKIPPED = ("tombstone",)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record or element that is no point and no mistake; ``why`` is one of SKIPPED."""

    offset: int
    index: int
    why: str


class Decoded(NamedTuple):
    """What the records of one partition hold.

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
        A record's key must be its source. False where the topic has one partition: any key will do.

    Attributes
    ----------
    units
        In which numeric timestamps were read, where the settings do not say it.
    """

    def __init__(self, input: InputSettings, topic: str, partition: int, keyed: bool) -> None:
        self._topic, self._partition, self._keyed = topic, partition, keyed
        self._max_metrics = input.max_metrics
        self._unit = input.timestamp_unit
        self.units: set[str] = set()
        self._names = schema.Names(
            (input.source_field,) if input.source_field else SOURCE_NAMES,
            input.timestamp_field or "timestamp",
            tuple(input.value_fields),
        )
        one = schema.full(self._names)
        self._decode_one = msgspec.json.Decoder(one).decode
        self._decode_any = msgspec.json.Decoder(one | list[msgspec.Raw]).decode
        self._plain_metric = (*input.value_fields, VALUE)[0]
        plain = schema.plain(self._names)
        self._takes_metric = not input.value_fields  # a point may name its value
        self._single = len(input.value_fields) == 1
        self._decode_plain: Any = msgspec.json.Decoder(plain).decode if plain else None

    def read(self, records: Sequence[Record]) -> Decoded:
        """Points and dead letters of these records, each in the records' order; never raises for their bytes."""
        points = self._read_at_once(records) if self._decode_plain and records else None
        return self._read_each(records) if points is None else Decoded(points, [], {}, [])

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

    def _read_at_once(self, records: Sequence[Record]) -> Points | None:
        """Points of records that are all plain objects with one value; None when one of them is not."""
        raw: list[Any] = [record.value for record in records]
        if None in raw:
            return None
        if raw[0][:1] in framing.FIRST:
            raw = list(map(framing.unframed, raw))
        if max(map(len, raw)) > malformed.MAX_DEPTH and any(map(malformed.too_deep, raw)):
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
        if max(values) > LARGEST or min(values) < -LARGEST:
            return None
        metric = self._metrics([point.metric for point in found]) if self._takes_metric else NO_METRICS
        if metric is None:
            return None
        n = len(found)
        given = [point.timestamp for point in found]
        own_time = given[0] is not None
        timestamp = self._times(given) if own_time or any(given) else [r.timestamp / 1000.0 for r in records]
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

    def _times(self, given: list[Any]) -> list[float] | None:
        """Epoch seconds of times that are all numbers or all texts; None when they are not."""
        kinds = set(map(type, given))
        if kinds != {float}:
            return list(map(_epoch, given)) if kinds == {datetime} else None
        unit: str | None = self._unit
        if unit is None:
            unit = times.unit_of(given[0])
            if unit is None or (unit != "s" and not times.unit_of(min(given)) == unit == times.unit_of(max(given))):
                return None
            self.units.add(unit)
        return given if unit == "s" else [times.seconds(time, unit) for time in given]

    # --- record by record

    def _read_each(self, records: Iterable[Record]) -> Decoded:
        points = Points(metrics=[], start=[0], metric=[], single=self._single)
        dead_letters: list[DeadLetter] = []
        elements: Elements = {}
        skipped: list[Skipped] = []
        for record in records:
            if record.value is None:
                skipped.append(Skipped(record.offset, 0, "tombstone"))
                continue
            try:
                found = self._decode(record.value)
                if isinstance(found, Sequence):
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
                why = malformed.explain(raw, self._names, why, f"$[{index}]")
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
            invalid = malformed.explain(value, self._names, str(error), "$")
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
        source = self._source(one, record, path)
        timestamp = self._timestamp(one, record, path)
        cells = self._cells(one, path)
        points.offset.append(record.offset)
        points.index.append(index)
        points.source.append(source)
        points.timestamp.append(timestamp)
        points.own_time.append(one.timestamp is not None)
        for metric, value in cells:
            points.metrics.append(metric)  # type: ignore[union-attr]
            points.values.append(value)
        points.start.append(len(points.values))  # type: ignore[union-attr]
        points.metric.append(one.series_metric())  # type: ignore[union-attr]

    def _source(self, one: Any, record: Record, path: str) -> str:
        name, source = one.named()
        if source is None:
            wanted = " or ".join(f"{path}.{name}" for name in self._names.source)
            raise InvalidPoint("bad_source", f"{wanted} must name the source, got nothing")
        source = str(source)
        raw = source.encode()
        if not 0 < len(raw) <= MAX_SOURCE_BYTES:
            wanted = f"must be 1 to {MAX_SOURCE_BYTES} bytes"
            raise InvalidPoint("bad_source", f"{path}.{name} {wanted}, got {len(raw)}: {shown(source)}")
        if self._keyed and record.key != raw and not keys.is_source(record.key, source):
            key = "none" if record.key is None else shown(record.key.decode("utf-8", "backslashreplace"))
            reason = f"{path}.{name} must be the record's key, got {shown(source)} under the key {key}"
            raise InvalidPoint("key_mismatch", f"{reason}; key the records by source, or set input.rekey: true")
        return source

    def _timestamp(self, one: Any, record: Record, path: str) -> float:
        given = one.timestamp
        unit: str | None = "s"
        if given is None:
            time = record.timestamp / 1000.0
        elif isinstance(given, datetime):
            time = _epoch(given)
        else:
            unit = self._unit or times.unit_of(given)
            time = times.seconds(given, unit) if unit else -1.0
        if 0.0 <= time < END_OF_TIME:
            if self._unit is None and isinstance(given, float):
                self.units.add(unit)  # type: ignore[arg-type]
            return time
        if given is None:
            what, found = "Kafka's timestamp (the record holds none)", f"{record.timestamp} ms"
        else:
            what = f"{path}.{self._names.timestamp}"
            found = given.isoformat() if isinstance(given, datetime) else f"{given:.19g}"
        hint = times.hint(given, self._unit) if isinstance(given, float) else ""
        raise InvalidPoint("bad_timestamp", f"{what} must be a time in 1970..2199, got {found}{hint}")

    def _cells(self, one: Any, path: str) -> list[tuple[str, float]]:
        """(metric, value), by metric."""
        cells = one.cells(path)
        if len(cells) > 1:
            cells.sort()
        elif not cells:
            wanted = " or ".join(f"{path}.{name}" for name in self._names.values or ("value", "values"))
            raise InvalidPoint("no_value", f"{wanted} must hold a number, got none")
        if len(cells) > self._max_metrics:
            raise InvalidPoint(
                "too_many_metrics",
                f"{path} must have at most {self._max_metrics} metrics (input.max_metrics), got {len(cells)}",
            )
        for name, value in cells:
            if not -LARGEST <= value <= LARGEST:
                wanted = f"{path}.{one.path(shown(name)[1:-1])} must be within -{LARGEST_TEXT}..{LARGEST_TEXT}"
                raise InvalidPoint("out_of_range", f"{wanted}, got {value!r}")
            if not 0 < len(name) <= MAX_METRIC_BYTES or len(name.encode()) > MAX_METRIC_BYTES:
                raise InvalidPoint(
                    "bad_metric",
                    f"{path}: a metric's name must be 1 to {MAX_METRIC_BYTES} bytes, got {shown(name)}",
                )
        return cells


def _keyed(given: Sequence[bytes | None], names: list[bytes], source: list[str]) -> bool:
    """Whether each key stands for its source, whose bytes are in ``names``."""
    return names == given or all(map(keys.is_source, given, source))


def _begins(value: bytes, reason: str) -> str:
    """The reason, with what the first bytes seem to be."""
    what = framing.named(value)
    return f"{reason}; it begins like {what}" if what else reason


def _epoch(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
