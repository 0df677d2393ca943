"""Checks of a point, for records of any shape: source, key, time, names and numbers of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import isinf
from typing import Any, Protocol

from app.compiled.numeric import MAX_VALUE, MAX_VALUE_TEXT
from app.errors import InvalidPoint
from app.pipeline.points import Points
from app.settings.model import InputSettings
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.state.sources import VALUE
from app.wire import keys, times
from app.wire.malformed import shown
from app.wire.schema import Name
from app.wire.times import END_OF_TIME


class Record(Protocol):
    """The fields of aiokafka's ConsumerRecord that are read."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int  # ms; negative: none
    offset: int


class Checks:
    """Checks the parts of a point one by one; each raises InvalidPoint.

    ``keyed``: a record's key must be its source. ``units``: units of numeric timestamps that were read, where the
    settings name none.
    """

    def __init__(self, input: InputSettings, keyed: bool) -> None:
        self.keyed = keyed
        self._max_metrics = input.max_metrics
        self._unit = input.timestamp_unit
        self.units: set[str] = set()

    def source(self, source: Name | None, path: str, names: str, record: Record) -> str:
        """``path``: of the point; ``names``: of the field that has it, or may have it."""
        if source is None:
            raise InvalidPoint("bad_source", f"{path}.{names} must name the source, got nothing")
        source = str(source)
        raw = source.encode()
        if not 0 < len(raw) <= MAX_SOURCE_BYTES:
            size = f"must be 1 to {MAX_SOURCE_BYTES} bytes, got {len(raw)}"
            raise InvalidPoint("bad_source", f"{path}.{names} {size}: {shown(source)}")
        if self.keyed and record.key != raw and not keys.is_source(record.key, source):
            key = "none" if record.key is None else shown(record.key.decode("utf-8", "backslashreplace"))
            reason = f"{path}.{names} must be the record's key, got {shown(source)} under the key {key}"
            raise InvalidPoint("key_mismatch", f"{reason}; key the records by source, or set input.rekey: true")
        return source

    def timestamp(self, given: float | datetime | None, path: str, names: str, record: Record) -> float:
        """Epoch seconds. ``names``: of the field."""
        unit: str | None = "s"
        if given is None:
            time = record.timestamp / 1000.0
        elif isinstance(given, datetime):
            time = epoch(given)
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
            what = f"{path}.{names}"
            found = given.isoformat() if isinstance(given, datetime) else f"{given:.19g}"
        hint = times.hint(given, self._unit) if isinstance(given, float) else ""
        raise InvalidPoint("bad_timestamp", f"{what} must be a time in 1970..2199, got {found}{hint}")

    def times(self, given: list[Any]) -> list[float] | None:
        """Epoch seconds of times that are all numbers or all texts; None when they are not, or one is not allowed.

        Not checked is whether seconds are within 1970..2200.
        """
        kinds = set(map(type, given))
        if kinds != {float}:
            return epochs(given) if kinds == {datetime} else None
        unit: str | None = self._unit
        if unit is None:
            unit = times.unit_of(given[0])
            if unit is None or (unit != "s" and not times.unit_of(min(given)) == unit == times.unit_of(max(given))):
                return None
            self.units.add(unit)
        return times.all_seconds(given, unit)

    def cells(self, cells: list[tuple[str, float]], path: str, names: str, field: Callable[[str], str] = str) -> None:
        """(metric, value), which are sorted by metric.

        ``names``: of the fields that may have a number; ``field``: of the field of a metric.
        """
        if len(cells) > 1:
            cells.sort()
        elif not cells:
            raise InvalidPoint("no_value", f"{path}.{names} must hold a number, got none")
        if len(cells) > self._max_metrics:
            raise InvalidPoint(
                "too_many_metrics",
                f"{path} must have at most {self._max_metrics} metrics (input.max_metrics), got {len(cells)}",
            )
        for name, value in cells:
            if not -MAX_VALUE <= value <= MAX_VALUE:
                if isinf(value):
                    raise InvalidPoint("not_finite", f"{path}.{field(shown(name)[1:-1])} must be finite, got {value}")
                wanted = f"{path}.{field(shown(name)[1:-1])} must be within -{MAX_VALUE_TEXT}..{MAX_VALUE_TEXT}"
                raise InvalidPoint("out_of_range", f"{wanted}, got {value!r}")
            if not 0 < len(name) <= MAX_METRIC_BYTES or len(name.encode()) > MAX_METRIC_BYTES:
                raise InvalidPoint(
                    "bad_metric",
                    f"{path}: a metric's name must be 1 to {MAX_METRIC_BYTES} bytes, got {shown(name)}",
                )


def append(
    points: Points,
    record: Record,
    index: int,
    source: str,
    timestamp: float,
    own_time: bool,
    cells: Sequence[tuple[str, float]],
    metric: str | None = None,
    labels: dict[str, Any] | None = None,
) -> None:
    """Add a checked point. ``metric``: of its series, None or "value" for that of the source."""
    points.offset.append(record.offset)
    points.index.append(index)
    points.source.append(source)
    points.timestamp.append(timestamp)
    points.own_time.append(own_time)
    for name, value in cells:
        points.metrics.append(name)  # type: ignore[union-attr]
        points.values.append(value)
    points.start.append(len(points.values))  # type: ignore[union-attr]
    points.metric.append("" if metric is None or metric == VALUE else metric)  # type: ignore[union-attr]
    if points.labels is not None:
        points.labels.append(labels)


def epoch(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def epochs(times: list[datetime]) -> list[float]:
    return list(map(epoch, times) if None in [time.tzinfo for time in times] else map(datetime.timestamp, times))
