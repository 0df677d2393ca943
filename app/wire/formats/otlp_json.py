"""OpenTelemetry metrics in OTLP's JSON, as the collector's Kafka exporter writes them with encoding: otlp_json.

    {"resourceMetrics": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
      "scopeMetrics": [{"scope": {"name": "http"}, "metrics": [{"name": "http.requests", "unit": "1", "sum":
       {"isMonotonic": true, "dataPoints": [{"timeUnixNano": "1698401060000000000", "asInt": "412",
         "attributes": [{"key": "method", "value": {"stringValue": "GET"}}]}]}}]}]}]}

Each data point of a gauge or sum is a point: for names and labels it has the fields ``name``, ``unit``, ``scope``, and
``resource`` and ``attributes``, objects of the attributes by key. The source is the resource, as far as the attributes
below identify it, with the attributes of the point: shop,method=GET; the series is that of the metric's name.
Histograms and summaries are skipped, as are points without a value (flag 1) and NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from itertools import chain, compress, repeat
from operator import eq
from typing import Any, Generic, TypeVar

import msgspec

from app.errors import InvalidPoint
from app.settings.model import InputSettings
from app.state.sources import VALUE
from app.wire.malformed import shown
from app.wire.mapping import MOST_KNOWN, Described, Element, Mapping, Numbers, Spread, or_none, repeated

INPUT = {
    "format": "otlp-json",
    "source_field": "{resource.service.name|}/{resource.service.instance.id|}/{resource.host.name|}"
    "/{resource.k8s.pod.name|}/{resource.container.id|},{attributes.*|}",
    "metric_field": "name",
    "value_fields": ["value"],
    "numbers_as_text": True,
}
NO_RECORDED_VALUE = 1  # a flag of a data point
NONE = msgspec.Raw(b"null")


class Value(msgspec.Struct, gc=False):
    """Of an attribute; arrays, objects and bytes are left out."""

    stringValue: str | None = None
    boolValue: bool | None = None
    intValue: int | str | None = None
    doubleValue: float | str | None = None


class Attribute(msgspec.Struct, gc=False):
    key: str = ""
    value: Value | None = None


class DataPoint(msgspec.Struct, gc=False):
    attributes: msgspec.Raw = NONE
    timeUnixNano: float | None = None
    asInt: float | None = None
    asDouble: float | None = None
    flags: int | None = None


One = TypeVar("One")  # a data point


class DataPoints(msgspec.Struct, Generic[One], gc=False):
    dataPoints: list[One] | None = None


class Metric(msgspec.Struct, Generic[One], gc=False):
    name: str = ""
    unit: str | None = None
    gauge: DataPoints[One] | None = None
    sum: DataPoints[One] | None = None
    histogram: DataPoints[msgspec.Raw] | None = None
    exponentialHistogram: DataPoints[msgspec.Raw] | None = None
    summary: DataPoints[msgspec.Raw] | None = None


class Scope(msgspec.Struct, gc=False):
    name: str | None = None


class ScopeMetrics(msgspec.Struct, Generic[One], gc=False):
    scope: Scope | None = None
    metrics: list[Metric[One]] | None = None


class Resource(msgspec.Struct, gc=False):
    attributes: msgspec.Raw = NONE


class ResourceMetrics(msgspec.Struct, Generic[One], gc=False):
    resource: Resource | None = None
    scopeMetrics: list[ScopeMetrics[One]] | None = None


class OtlpRecord(msgspec.Struct, Generic[One], gc=False):
    resourceMetrics: list[ResourceMetrics[One]]


# Numbers of 64 bits are text.
_decode_record = msgspec.json.Decoder(OtlpRecord[msgspec.Raw], strict=False).decode
_decode_usual = msgspec.json.Decoder(OtlpRecord[DataPoint], strict=False).decode
_decode_point = msgspec.json.Decoder(DataPoint, strict=False).decode
_decode_attributes = msgspec.json.Decoder(list[Attribute] | None).decode
_NO_POINTS = DataPoints[DataPoint]()


class About:
    """What the data points of a metric share, and what is known of those: by their attributes as they were written.

    ``key``: the attributes of the resource as they were written, scope, name, unit.
    """

    __slots__ = ("key", "known")

    def __init__(self, *key: Any) -> None:
        self.key, self.known = key, dict[bytes, Described]()

    def fields(self) -> dict[str, Any]:
        """For the paths of the settings."""
        resource, scope, name, unit = self.key
        return {"resource": _attributes(resource), "scope": scope, "name": name, "unit": unit}


class Format(Mapping):
    """Reads data points; names and labels are made as the settings say, of a flat object for each set of attributes."""

    def __init__(self, input: InputSettings, skips_empty: str) -> None:
        super().__init__(input, whole=True)
        self.decode, self.decode_usual = _decode_record, _decode_usual
        self._abouts: dict[tuple[Any, ...], About] = {}
        self._described = 0  # how many sets of attributes are known

    def elements(self, record: OtlpRecord[msgspec.Raw], raw: bytes, path: str) -> Iterable[Element]:
        found: list[Element] = []
        for i, of_resource in enumerate(record.resourceMetrics):
            resource = bytes(of_resource.resource.attributes if of_resource.resource else NONE)
            for j, of_scope in enumerate(of_resource.scopeMetrics or ()):
                scope = of_scope.scope.name if of_scope.scope else None
                for k, metric in enumerate(of_scope.metrics or ()):
                    about = self._about(resource, scope, metric.name, metric.unit)
                    at = f"{path}.resourceMetrics[{i}].scopeMetrics[{j}].metrics[{k}]"
                    found += self._points_of(metric, about, at)
        return found or [(None, None, raw, path, -1, "no_number")]

    def _points_of(self, metric: Metric[msgspec.Raw], about: About, path: str) -> Iterator[Element]:
        for kind in ("gauge", "sum"):
            if (of := getattr(metric, kind)) is not None:
                place = f"{path}.{kind}.dataPoints"
                for n, raw in enumerate(of.dataPoints or ()):
                    yield self._point(raw, about, place, n)
        for kind in ("histogram", "exponentialHistogram", "summary"):
            if (of := getattr(metric, kind)) is not None:
                for n, raw in enumerate(of.dataPoints or ()):
                    yield None, None, raw, f"{path}.{kind}.dataPoints", n, "histogram"

    def _point(self, raw: Any, about: About, path: str, n: int) -> Element:
        try:
            point = _decode_point(raw)
        except msgspec.DecodeError as error:
            return None, None, raw, path, n, self.explained(raw, str(error), f"{path}[{n}]")
        return point, about, raw, path, n, "nan" if (point.flags or 0) & NO_RECORDED_VALUE else None

    def _about(self, *key: Any) -> About:
        if (about := self._abouts.get(key)) is None:
            self._make_room()
            about = self._abouts[key] = About(*key)
        return about

    def described(self, element: DataPoint, record: About) -> Described:
        key = bytes(element.attributes)
        if (known := record.known.get(key)) is None:
            self._make_room()
            flat = {**record.fields(), "attributes": _attributes(key)}
            known = record.known[key] = super().described(flat, flat)
        return known

    def _make_room(self) -> None:
        if self._described >= MOST_KNOWN:
            self._abouts.clear()
            self._described = 0
        self._described += 1

    def spread(self, records: list[Any], raw: list[bytes]) -> Spread:
        """Leaves out records that hold anything but gauges and sums."""
        resources, of = _below([one.resourceMetrics for one in records], range(len(records)))
        about = _bytes([one.resource.attributes if one.resource else NONE for one in resources])
        scopes, about, of = _below([one.scopeMetrics for one in resources], about, of)
        scope = [one.scope.name if one.scope else None for one in scopes]
        metrics, about, scope, of = _below([one.metrics for one in scopes], about, scope, of)
        key = list(zip(about, scope, [one.name for one in metrics], [one.unit for one in metrics]))
        around: list[Any] = list(map(self._abouts.get, key))
        if None in around:
            around = [self._about(*one) for one in key]
        unusual = {
            i
            for i, one in zip(of, metrics)
            if one.histogram or one.exponentialHistogram or one.summary or (one.gauge and one.sum)
        }
        measured = [one.gauge or one.sum or _NO_POINTS for one in metrics]
        points, around, of = _below([one.dataPoints for one in measured], around, of)
        unusual |= {i for i, point in zip(of, points) if point.flags}
        if unusual:
            usual = [i not in unusual for i in of]
            points, around, of = (list(compress(column, usual)) for column in (points, around, of))
        return points, around, [raw[i] for i in of], of

    def pieces(self, found: Sequence[Any]) -> Sequence[Any]:
        return _Pieces(self, found[0])

    def all_described(
        self, elements: list[Any], around: list[Any]
    ) -> tuple[list[str | None], list[str | None] | None, list[dict[str, Any] | None] | None]:
        found = [about.known.get(bytes(point.attributes)) for about, point in zip(around, elements)]
        if None in found:
            found = [
                or_none(self.described, *one) or (None, None, None) if known is None else known
                for known, one in zip(found, zip(elements, around))
            ]
        source, metric, labels = zip(*found) if found else ((), (), ())
        return list(source), list(metric), list(labels)

    def all_times(self, elements: list[DataPoint], around: list[Any]) -> list[Any]:
        return [point.timeUnixNano or None for point in elements]

    def all_numbers(self, elements: list[DataPoint], around: list[Any]) -> Numbers:
        values: list[Any] = [point.asDouble if point.asInt is None else point.asInt for point in elements]
        if None not in values:
            return [1] * len(values), [VALUE] * len(values), values
        return super().all_numbers(elements, around)

    def time(self, element: DataPoint, record: About) -> float | datetime | None:
        return element.timeUnixNano or None  # 0: it is not known

    def cells(self, element: DataPoint, record: About) -> list[tuple[str, float]]:
        value = element.asDouble if element.asInt is None else element.asInt
        return [] if value is None else [("value", value)]

    def complaints(self, found: Any, path: str) -> Iterator[tuple[str, str]]:
        if not isinstance(found, dict):
            yield "wrong_type", f"{path} must be an object, got {shown(found)}"
        elif not isinstance(found.get("resourceMetrics"), list):
            yield "wrong_type", f"{path}.resourceMetrics must be an array, got {shown(found.get('resourceMetrics'))}"
        else:
            try:
                msgspec.convert(found, OtlpRecord)
            except msgspec.ValidationError as error:
                yield "wrong_type", f"{path} must be metrics of OTLP: {error}"

    def explained(self, raw: Any, error: str, path: str) -> InvalidPoint:
        return InvalidPoint("wrong_type", f"{path} must be a data point of OTLP: {error}")


class _Pieces(Sequence[Any]):
    """The data points of a record as they were written, decoded again when they are asked for: for dead letters."""

    def __init__(self, format: Format, raw: bytes) -> None:
        self._format, self._raw = format, raw

    @cached_property
    def _found(self) -> list[Any]:
        return [piece for _, _, piece, *_ in self._format.elements(self._format.decode(self._raw), self._raw, "$")]

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, i: Any) -> Any:
        return self._found[i]


def _bytes(raw: list[msgspec.Raw]) -> list[bytes]:
    """One object for all where all are alike, as those of one sender: its hash is then computed once."""
    if len(raw) > 1 and all(map(eq, raw, repeat(raw[0]))):
        return [bytes(raw[0])] * len(raw)
    return list(map(bytes, raw))


def _below(lists: list[Any], *columns: Iterable[Any]) -> tuple[list[Any], ...]:
    """What is in these lists, and each column with its values repeated for all that is in the list beside."""
    try:
        counts = list(map(len, lists))
    except TypeError:  # None among them
        lists = [some or () for some in lists]
        counts = list(map(len, lists))
    return list(chain.from_iterable(lists)), *[repeated(column, counts) for column in columns]


def _attributes(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in _decode_attributes(raw) or ():
        if (value := attribute.value) is not None:
            known = (value.stringValue, value.boolValue, value.intValue, value.doubleValue)
            found[attribute.key] = next((one for one in known if one is not None), None)
    return found
