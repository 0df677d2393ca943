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

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import compress, repeat
from typing import Any, NamedTuple

import msgspec

from app.errors import InvalidPoint
from app.settings.model import InputSettings
from app.wire.malformed import shown
from app.wire.mapping import MOST_KNOWN, Described, Element, Mapping, Spread, or_none

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


class DataPoints(msgspec.Struct, gc=False):
    dataPoints: list[msgspec.Raw] | None = None


class Metric(msgspec.Struct, gc=False):
    name: str = ""
    unit: str | None = None
    gauge: DataPoints | None = None
    sum: DataPoints | None = None
    histogram: DataPoints | None = None
    exponentialHistogram: DataPoints | None = None
    summary: DataPoints | None = None


class Scope(msgspec.Struct, gc=False):
    name: str | None = None


class ScopeMetrics(msgspec.Struct, gc=False):
    scope: Scope | None = None
    metrics: list[Metric] | None = None


class Resource(msgspec.Struct, gc=False):
    attributes: msgspec.Raw = NONE


class ResourceMetrics(msgspec.Struct, gc=False):
    resource: Resource | None = None
    scopeMetrics: list[ScopeMetrics] | None = None


class Record(msgspec.Struct, gc=False):
    resourceMetrics: list[ResourceMetrics]


_decode_record = msgspec.json.Decoder(Record).decode
_decode_point = msgspec.json.Decoder(DataPoint, strict=False).decode  # numbers of 64 bits are text
_decode_attributes = msgspec.json.Decoder(list[Attribute] | None).decode


class _Unusual(Exception):
    """A record that is read alone."""


class About(NamedTuple):
    """What the data points of a metric share. ``resource``: its attributes as they were written."""

    resource: bytes
    scope: str | None
    name: str
    unit: str | None


class Format(Mapping):
    """Reads data points; names and labels are made as the settings say, of a flat object for each set of attributes."""

    def __init__(self, input: InputSettings, skips_empty: str) -> None:
        super().__init__(input, whole=True)
        self._descriptions: dict[tuple[About, bytes], Described] = {}

    def decode(self, value: bytes) -> Record:
        return _decode_record(value)

    def elements(self, record: Record, raw: bytes, path: str) -> Iterable[Element]:
        found: list[Element] = []
        for i, of_resource in enumerate(record.resourceMetrics):
            resource = bytes(of_resource.resource.attributes if of_resource.resource else NONE)
            for j, of_scope in enumerate(of_resource.scopeMetrics or ()):
                scope = of_scope.scope.name if of_scope.scope else None
                for k, metric in enumerate(of_scope.metrics or ()):
                    about = About(resource, scope, metric.name, metric.unit)
                    at = f"{path}.resourceMetrics[{i}].scopeMetrics[{j}].metrics[{k}]"
                    found += self._points_of(metric, about, at)
        return found or [(None, None, raw, path, -1, "no_number")]

    def _points_of(self, metric: Metric, about: About, path: str) -> Iterator[Element]:
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

    def described(self, element: DataPoint, record: About) -> Described:
        key = record, bytes(element.attributes)
        if (known := self._descriptions.get(key)) is None:
            if len(self._descriptions) >= MOST_KNOWN:
                self._descriptions.clear()
            flat = {**record._asdict(), "resource": _attributes(key[0].resource), "attributes": _attributes(key[1])}
            known = self._descriptions[key] = super().described(flat, flat)
        return known

    def spread(self, records: list[Any], raw: list[bytes]) -> Spread:
        around: list[Any] = []
        pieces: list[Any] = []
        of: list[int] = []
        for i, record in enumerate(records):
            before = len(pieces)
            try:
                for of_resource in record.resourceMetrics:
                    resource = bytes(of_resource.resource.attributes if of_resource.resource else NONE)
                    for of_scope in of_resource.scopeMetrics or ():
                        scope = of_scope.scope.name if of_scope.scope else None
                        for metric in of_scope.metrics or ():
                            if metric.histogram or metric.exponentialHistogram or metric.summary:
                                raise _Unusual
                            for some in (metric.gauge, metric.sum):
                                if some is not None and some.dataPoints:
                                    pieces += some.dataPoints
                                    about = About(resource, scope, metric.name, metric.unit)
                                    around += repeat(about, len(some.dataPoints))
            except _Unusual:
                del pieces[before:], around[before:]
            else:
                of += repeat(i, len(pieces) - before)
        try:
            points: list[Any] = list(map(_decode_point, pieces))
        except msgspec.DecodeError:
            points = [or_none(_decode_point, piece) for piece in pieces]
        if any([point is None or point.flags for point in points]):
            unusual = {i for i, point in zip(of, points) if point is None or point.flags}
            usual = [i not in unusual for i in of]
            points, around, pieces, of = (list(compress(column, usual)) for column in (points, around, pieces, of))
        return points, around, pieces, of

    def all_described(
        self, elements: list[Any], around: list[Any]
    ) -> tuple[list[str | None], list[str | None] | None, list[dict[str, Any] | None] | None]:
        keys = zip(around, map(bytes, [point.attributes for point in elements]))
        found = list(map(self._descriptions.get, keys))
        if None in found:
            found = [
                or_none(self.described, *one) or (None, None, None) if known is None else known
                for known, one in zip(found, zip(elements, around))
            ]
        source, metric, labels = zip(*found) if found else ((), (), ())
        return list(source), list(metric), list(labels)

    def all_times(self, elements: list[DataPoint], around: list[Any]) -> list[Any]:
        return [point.timeUnixNano or None for point in elements]

    def all_cells(self, elements: list[DataPoint], around: list[Any]) -> list[Any]:
        return [point.asDouble if point.asInt is None else point.asInt for point in elements]

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
                msgspec.convert(found, Record)
            except msgspec.ValidationError as error:
                yield "wrong_type", f"{path} must be metrics of OTLP: {error}"

    def explained(self, raw: Any, error: str, path: str) -> InvalidPoint:
        return InvalidPoint("wrong_type", f"{path} must be a data point of OTLP: {error}")


def _attributes(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in _decode_attributes(raw) or ():
        if (value := attribute.value) is not None:
            known = (value.stringValue, value.boolValue, value.intValue, value.doubleValue)
            found[attribute.key] = next((one for one in known if one is not None), None)
    return found
