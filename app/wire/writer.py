"""Points to records of the input topic, in the shape that the settings of ``input`` describe: what ``reader`` reads.

    NewPoint("pump-7", value=45.2, timestamp=1698401060.0)
    {"source": "pump-7", "timestamp": 1698401060.0, "value": 45.2}
    {"host": {"name": "pump-7"}, "readings": {"ts": 1698401060.0, "cpu": {"pct": 45.2}}}

Every record is read back before it is handed out, so that none becomes a dead letter or another point. Shapes that no
record of ours can have, such as those of OpenTelemetry, are found out with a point made for that, when a writer is
made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from app.errors import InvalidPoint
from app.settings import paths
from app.settings.model import InputSettings
from app.settings.paths import TOP, Choice, Path, Template
from app.state.sources import VALUE
from app.wire import formats, times
from app.wire.malformed import shown
from app.wire.reader import Decoded, Reader
from app.wire.schema import Scalar
from app.wire.shapes import iso

# Of a label of InvalidPoint: the field of a point that is wrong.
FIELDS = {"bad_source": "source", "key_mismatch": "source", "bad_timestamp": "timestamp", "bad_metric": "metric"}
# And the setting that describes it.
SETTINGS = {"source": "source_field", "timestamp": "timestamp_field", "metric": "metric_field", VALUE: "value_fields"}

_encode = msgspec.json.Encoder().encode


class NewPoint(NamedTuple):
    """A point as somebody sends it. It has ``value``, maybe with the name ``metric``, or ``values`` by metric.

    ``timestamp``: a number since 1970, whose unit its size says, or ISO 8601; None: when Kafka gets it. ``labels``: of
    the names of ``input.labels``.
    """

    source: str
    value: float | None = None
    values: Mapping[str, float | None] | None = None
    metric: str | None = None
    timestamp: float | str | None = None
    labels: dict[str, Scalar] | None = None


@dataclass(slots=True)
class NewRecord:
    """A record of the input topic that is one point."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 0  # ms
    offset: int = 0


class Writer:
    """Makes records of points. Those that only other settings would allow are refused with the label "settings".

    Attributes
    ----------
    problem
        Why no point can be written, in a sentence that names the setting; "" if points can be.
    """

    def __init__(self, input: InputSettings, topic: str) -> None:
        self._reader = Reader(input, topic, 0, keyed=True)
        applied = formats.applied(input)
        self._unit = applied.timestamp_unit
        self._points = paths.choice(applied.points_field)[0] if applied.points_field else None
        if str(applied.points_field).endswith("|"):
            self._points = None  # a record may be a point itself
        self._source = paths.template(applied.source_field or "source")
        self._source_text = applied.source_field or ""
        self._timestamp = paths.choice(applied.timestamp_field or "timestamp")[0]
        metric = applied.metric_field or ("" if applied.value_fields else "metric")
        self._metric = paths.choice(metric)[0] if metric else None
        choices = [paths.choice(text) for text in applied.value_fields]
        self._values = {_name(choice): choice[0] for choice in choices if not choice[0].many}
        self._others = next((choice[0] for choice in choices if choice[0].many), None)
        self._usual = not choices
        labels = [paths.choice(text) for text in applied.labels]
        self._labels = {_name(choice): choice[0] for choice in labels if not choice[0].many}
        self._other_labels = next((choice[0] for choice in labels if choice[0].many), None)
        self.problem = self._trial(applied)

    def records(self, points: Sequence[NewPoint], now_ms: int) -> list[NewRecord | InvalidPoint]:
        """Of each point its record, or why there is none. ``now_ms``: the time of points without one.

        Reasons begin with the place in the record that would have been written, ``$.value``.
        """
        made: list[NewRecord | InvalidPoint] = []
        for at, point in enumerate(points):
            try:
                value = _encode(self._object(point))
                made.append(NewRecord(point.source.encode(), value, (), now_ms, at))
            except InvalidPoint as invalid:
                made.append(invalid)
            except UnicodeEncodeError:
                made.append(InvalidPoint("bad_source", "$: text must be Unicode without halves of surrogate pairs"))
        sent = [record for record in made if isinstance(record, NewRecord)]
        for at, why in self._misread(points, self._reader.read(sent), [record.offset for record in sent]):
            made[at] = why
        return made

    # --- writing

    def _object(self, point: NewPoint) -> dict[str, Any]:
        record: dict[str, Any] = {}
        element: dict[str, Any] = {} if self._points else record
        if self._points:
            _put(record, self._points.keys, element)

        def put(path: Path, value: Any, *more: str) -> None:
            _put(record if path.top else element, (*path.keys, *more), value)

        for path, text in self._names(point.source):
            put(path, text)
        if point.timestamp is not None:
            put(self._timestamp, self._time(point.timestamp))
        self._put_values(point, put)
        for name, label in (point.labels or {}).items():
            if name in self._labels:
                put(self._labels[name], label)
            elif self._other_labels:
                put(self._other_labels, label, name)
            else:
                known = ", ".join(self._labels) or "none"
                raise InvalidPoint("settings", f"$.labels.{name}: must be one of input.labels ({known})")
        return record

    def _names(self, source: str) -> list[tuple[Path, str]]:
        """The fields that make this source."""
        texts = _parted(self._source, source)
        if texts is None:
            wanted = f"must look like {self._source_text} (input.source_field)"
            raise InvalidPoint("settings", f"$.source {wanted}, got {shown(source)}")
        return [(part.field[0], text) for part, text in zip(_required(self._source), texts)]

    def _time(self, given: float | str) -> float | str:
        """In the unit of the settings, or as text."""
        if isinstance(given, str) or self._unit is None:
            return given
        unit = times.unit_of(given)
        return given if unit in (None, self._unit) else iso(times.seconds(given, unit))

    def _put_values(self, point: NewPoint, put: Any) -> None:
        if (point.value is None) == (point.values is None):
            got = "none of them" if point.value is None else "both"
            raise InvalidPoint("no_value", f"$ must have value or values, got {got}")
        if point.values is not None and point.metric is not None:
            raise InvalidPoint("bad_metric", "$.metric names a value; names of values are in values")
        if self._usual:
            if point.values is None:
                put(Path(VALUE, (VALUE,)), point.value)
            else:
                put(Path("values", ("values",)), point.values)
            if point.metric is not None and self._metric:
                put(self._metric, point.metric)
            return
        if point.values is None and self._metric and point.metric is not None:
            put(self._metric, point.metric)
            values: dict[str, float | None] = {next(iter(self._values), VALUE): point.value}
        elif point.values is None:
            only = next(iter(self._values)) if len(self._values) == 1 and not self._others else VALUE
            values = {point.metric or only: point.value}
        else:
            values = dict(point.values or {})
        for name, value in values.items():
            if name in self._values:
                put(self._values[name], value)
            elif self._others:
                put(self._others, value, name)
            else:
                known = ", ".join(self._values)
                raise InvalidPoint("settings", f"$.values.{name}: must be one of input.value_fields ({known})")

    # --- reading back

    def _misread(self, points: Sequence[NewPoint], found: Decoded, sent: list[int]) -> list[tuple[int, InvalidPoint]]:
        """Of those that were sent, each that was not read as the one point that it is."""
        read: dict[int, list[int]] = {at: [] for at in sent}
        for i, at in enumerate(found.points.offset):
            read[at].append(i)
        wrong = [
            (letter.offset, InvalidPoint(letter.label, letter.reason.partition("]@")[2].partition(": ")[2]))
            for letter in found.dead_letters
        ]
        said = {at for at, _ in wrong}
        for skipped in found.skipped:
            said.add(skipped.offset)
            wrong.append((skipped.offset, InvalidPoint("no_value", f"$ holds no value: {skipped.why}")))
        for at, places in read.items():
            if at not in said and (why := _other(points[at], found, places)):
                wrong.append((at, InvalidPoint(*why)))
        return wrong

    def _trial(self, input: InputSettings) -> str:
        before, after = _ends(self._source)
        between = [part.before for part in _required(self._source)[1:]]
        source = before + "s" + "".join(f"{text}s" for text in between) + after
        name = "" if self._usual else next(iter(self._values), "m")
        point = NewPoint(source, values={name: 1.5}) if name else NewPoint(source, 1.5)
        for trial in (point._replace(timestamp="2023-10-27T09:37:40Z"), point):
            [made] = self.records([trial], 1_698_399_460_000)
            if isinstance(made, InvalidPoint):
                setting = SETTINGS[FIELDS.get(made.label, VALUE)]
                named = f"format {input.format}" if input.format else f"{setting}"
                return f"points cannot be written as input.{named} says: {made}"
        return ""


def _required(template: Template) -> Template:
    """The parts of a name that are written; the others may be absent. Where all may be, the first has it whole."""
    found = tuple(part for part in template if part.field and not part.optional)
    return found or template[:1]


def _ends(template: Template) -> tuple[str, str]:
    """What stands before the first field that is written, and behind the last field."""
    first = _required(template)[0]
    return "" if first.optional else first.before, "" if template[-1].field else template[-1].before


def _parted(template: Template, source: str) -> list[str] | None:
    """The texts of the required fields of a source; None if it has another form."""
    before, after = _ends(template)
    if not (source.startswith(before) and source.endswith(after)):
        return None
    text, texts = source[len(before) : len(source) - len(after)], []
    for part in _required(template)[1:]:
        at = text.find(part.before, 1)
        if at < 0:
            return None
        texts.append(text[:at])
        text = text[at + len(part.before) :]
    return [*texts, text]


def _name(choice: Choice) -> str:
    return choice[0].text.removeprefix(TOP)


def _put(into: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        into = into.setdefault(key, {})
    into[keys[-1]] = value


def _other(point: NewPoint, found: Decoded, places: list[int]) -> tuple[str, str] | None:
    """(label, reason) if these points, which were read, are not this one."""
    read = found.points
    if len(places) != 1:
        return "settings", f"$ is {len(places)} points with these settings of input: send the values one by one"
    [i] = places
    if read.source[i] != point.source:
        return "bad_source", f"$.source would be read as {read.source[i]!r}, got {point.source!r}"
    if read.own_time[i] != (point.timestamp is not None):
        return "bad_timestamp", f"$.timestamp would not be read, got {point.timestamp!r}"
    names, values = read.names(i), read.values[read.cells(i)]
    if point.values is None:
        alone = [point.value] == values and (point.metric in (None, VALUE, *names))
    else:
        given = {name: value for name, value in point.values.items() if value is not None}
        alone = given == dict(zip(names, values)) or (len(given) == 1 and [*given.values()] == values)
    return None if alone else ("no_value", f"$ would be read with the values {dict(zip(names, values))}")
