"""Records as tools write them, with made-up values: each of input.format, read without any other setting.

The shapes are those of the tools' documentation: Telegraf's serializer json, prometheus-kafka-adapter's README, the
event structure of Metricbeat, opentelemetry-proto's examples and the JSON mapping of protobuf, the CloudEvents
specification 1.0, and the change events in Debezium's manual.
"""

import json
import typing
from pathlib import Path

import pytest
from unit.wire.test_mapping import plain, points, read, told
from unit.wire.test_reader import Record, rows

from app.settings import InputSettings
from app.wire import formats, mapped_batch
from app.wire.formats import otlp_json
from app.wire.reader import Reader

AT = 1698399460.0  # 2023-10-27T09:37:40Z
CPU = {
    "fields": {"usage_idle": 98.2, "usage_user": 1, "active": True, "governor": "powersave"},
    "name": "cpu",
    "tags": {"cpu": "cpu0", "host": "web-1"},
    "timestamp": 1698399460,
}
SAMPLE = {
    "labels": {"__name__": "node_load1", "instance": "web-1:9100", "job": "node"},
    "name": "node_load1",
    "timestamp": "2023-10-27T09:37:40Z",
    "value": "0.31",
}
BEAT = {
    "@timestamp": "2023-10-27T09:37:40.000Z",
    "@metadata": {"beat": "metricbeat", "type": "_doc", "version": "8.11.0"},
    "agent": {"name": "web-1", "type": "metricbeat", "version": "8.11.0"},
    "ecs": {"version": "8.0.0"},
    "event": {"dataset": "system.network", "module": "system", "duration": 115000},
    "host": {"name": "web-1", "ip": ["10.0.0.1"], "os": {"platform": "ubuntu", "version": "22.04"}},
    "metricset": {"name": "network", "period": 10000},
    "service": {"type": "system"},
    "system": {"network": {"name": "eth0", "in": {"bytes": 1024, "errors": 0}, "out": {"bytes": 512}}},
}
EVENT = {
    "specversion": "1.0",
    "id": "17",
    "type": "com.example.reading",
    "source": "/plants/3",
    "subject": "pump-7",
    "time": "2023-10-27T09:37:40Z",
    "datacontenttype": "application/json",
    "data": {"temperature": 45.2, "motor": {"rpm": 900, "state": "on"}},
}
CHANGE = {
    "before": None,
    "after": {"sensor": 7, "temperature": "45.2", "note": "x"},
    "source": {"connector": "postgresql", "db": "plant", "table": "readings", "ts_ms": 1698399460000},
    "op": "c",
    "ts_ms": 1698399460123,
}
LOAD = {**BEAT, "event": {"dataset": "system.load", "module": "system"}, "system": {"load": {"1": 0.31, "5": 1}}}
COLUMNS = {"format": "debezium", "source_field": "sensor", "value_fields": ["temperature"]}


def attributes(**of):
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    told = {name.replace("_", "."): {kinds[type(v)]: str(v) if type(v) is int else v} for name, v in of.items()}
    return [{"key": key, "value": value} for key, value in told.items()]


def measured(asInt=None, **point):
    point = point if asInt is None else {**point, "asInt": asInt}
    return {"attributes": attributes(method="GET"), "timeUnixNano": "1698399460250000000", **point}


def exported(*metrics, resource=None):
    of = (
        attributes(service_name="shop", host_name="web-1", telemetry_sdk_language="go")
        if resource is None
        else resource
    )
    scopes = [{"scope": {"name": "http", "version": "1.0"}, "metrics": list(metrics)}]
    return {"resourceMetrics": [{"resource": {"attributes": of}, "scopeMetrics": scopes}]}


def gauge(*measured):
    return {"name": "http.active", "unit": "1", "gauge": {"dataPoints": list(measured)}}


COUNTER = {
    "name": "c",
    "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [measured(asInt="1")]},
}
HISTOGRAM = {"name": "h", "histogram": {"dataPoints": [measured(count="5", sum=3.0, bucketCounts=["5"])]}}


def test_every_format_has_a_file_and_every_file_is_one():
    [names] = [
        typing.get_args(kind)
        for kind in typing.get_args(InputSettings.model_fields["format"].annotation)
        if typing.get_args(kind)
    ]
    files = {path.stem.replace("_", "-") for path in Path(formats.__file__).parent.glob("*.py")} - {"--init--"}
    assert set(names) == files
    for name in names:
        assert formats.applied(InputSettings(format=name)).format == name


def test_telegraf():
    source = "cpu,cpu=cpu0,host=web-1"
    two = [
        (0, source, AT, {"usage_idle": 98.2}, "usage_idle"),
        (1, source, AT, {"usage_user": 1.0}, "usage_user"),
    ]
    assert points(CPU, format="telegraf") == two
    assert points({**CPU, "timestamp": 1698399460000}, format="telegraf") == two, "json_timestamp_units = 1ms"
    bare = {**CPU, "tags": {}, "fields": {"value": 3}}
    assert points(bare, format="telegraf") == [(0, "cpu", AT, {"value": 3.0}, "")]
    text = {**CPU, "fields": {"state": "up"}}
    found = read({"metrics": [CPU, text, {**CPU, "timestamp": "x"}, bare]}, format="telegraf")
    assert [row[1:3] for row in rows(found.points)] == [(0, source), (1, source), (4, "cpu")]
    assert [(one.index, one.why) for one in found.skipped] == [(2, "no_number")]
    assert [letter.index for letter in found.dead_letters] == [3]
    assert told(found)[0].startswith("$.metrics[2].timestamp must be a number or a time")
    assert points(CPU, format="telegraf", source_field="tags.host", value_fields=["fields.usage_idle"])[0][1] == "web-1"


def test_prometheus():
    source = "node_load1,instance=web-1:9100,job=node"
    assert points(SAMPLE, format="prometheus") == [(0, source, AT, {"value": 0.31}, "")]
    assert points({**SAMPLE, "value": "1e+09"}, format="prometheus")[0][3] == {"value": 1e9}
    own = points(SAMPLE, format="prometheus", source_field="{labels.instance}/{name}")
    assert own == [(0, "web-1:9100/node_load1", AT, {"value": 0.31}, "")]
    found = read(*({**SAMPLE, "value": text} for text in ("NaN", "+Inf", "-Inf", "x")), format="prometheus")
    assert [(one.offset, one.why) for one in found.skipped] == [(0, "nan")]
    assert [letter.label for letter in found.dead_letters] == ["not_finite", "not_finite", "wrong_type"]
    assert told(found)[0] == '$.value must be finite, got "+Inf"'


def test_metricbeat():
    source = "web-1/system.network/eth0"
    assert points(BEAT, format="metricbeat") == [
        (i, source, AT, {f"system.network.{name}": value}, f"system.network.{name}")
        for i, (name, value) in enumerate([("in.bytes", 1024.0), ("in.errors", 0.0), ("out.bytes", 512.0)])
    ]
    old = {
        "@timestamp": BEAT["@timestamp"],
        "beat": {"name": "web-1", "hostname": "web-1"},
        "metricset": {"module": "system", "name": "load", "rtt": 115},
        "system": {"load": {"1": 0.31, "norm": {"1": 0.07}}},
    }
    assert [point[1:4:2] for point in points(old, format="metricbeat")] == [
        ("web-1/load", {"system.load.1": 0.31}),
        ("web-1/load", {"system.load.norm.1": 0.07}),
    ]
    failed = {**BEAT, "system": None, "error": {"message": "error fetching data", "code": 5}}
    found = read(failed, format="metricbeat")
    assert (told(found), [one.why for one in found.skipped]) == ([], ["no_number"])
    named = points(BEAT, format="metricbeat", source_field="host.name", value_fields=["system.network.in.bytes"])
    assert named == [(0, "web-1", AT, {"system.network.in.bytes": 1024.0}, "system.network.in.bytes")]


def test_cloudevents():
    source = "/plants/3/pump-7"
    assert points(EVENT, format="cloudevents") == [(0, source, AT, {"motor.rpm": 900.0, "temperature": 45.2}, "")]
    one = {**EVENT, "data": {"value": 3}, "subject": None}
    assert points(one, format="cloudevents") == [(0, "/plants/3", AT, {"value": 3.0}, "")]
    assert [point[0] for point in points([one, one], format="cloudevents")] == [0, 1], "a batch of events"
    found = read({**EVENT, "data": {"state": "on"}}, {**EVENT, "data": "text"}, format="cloudevents")
    assert [one.why for one in found.skipped] == ["no_number"]
    assert told(found) == ['$.data must be an object, got "text"']


def test_debezium():
    expected = [(0, "7", AT, {"temperature": 45.2}, "")]
    for change in (CHANGE, {"schema": {"type": "struct", "fields": []}, "payload": CHANGE}):
        assert points(change, **COLUMNS) == expected
        inner = change.get("payload", change)
        deleted = {**inner, "op": "d", "before": inner["after"], "after": None}
        truncated = {"op": "t", "ts_ms": 1698399460123, "source": inner["source"]}
        for gone in (deleted, truncated):
            found = read(gone if change is CHANGE else {**change, "payload": gone}, None, **COLUMNS)
            assert (told(found), [one.why for one in found.skipped]) == ([], ["deleted", "tombstone"])
    at = {**CHANGE, "after": {**CHANGE["after"], "at": 1698399470_000_000}}  # io.debezium.time.MicroTimestamp
    assert points(at, **COLUMNS, timestamp_field="at")[0][2] == AT + 10
    assert told(read(CHANGE, format="debezium")) == [
        "$.payload.after.source or sourceId or entity_id must name the source, got nothing"
    ]


def test_otlp_json():
    name = "http.active"
    source = "shop/web-1,method=GET"
    export = exported(gauge(measured(asInt="412"), measured(asInt=5), measured(asDouble=0.5)))
    assert points(export, format="otlp-json") == [
        (i, source, AT + 0.25, {name: value}, name) for i, value in enumerate([412.0, 5.0, 0.5])
    ]
    summary = {"name": "s", "summary": {"dataPoints": [measured(count="5")]}}
    bad = [measured(asDouble="NaN"), measured(asDouble="Infinity"), measured(flags=1), measured(asInt="x"), measured()]
    found = read(exported(HISTOGRAM, COUNTER, gauge(*bad), summary), format="otlp-json")
    assert [row[1:3] + row[6:] for row in rows(found.points)] == [(1, source, "c")]
    assert [(one.index, one.why) for one in found.skipped] == [
        (0, "histogram"),
        (2, "nan"),
        (4, "nan"),
        (7, "histogram"),
    ]
    assert [(letter.index, letter.label) for letter in found.dead_letters] == [
        (3, "not_finite"),
        (5, "wrong_type"),
        (6, "no_value"),
    ]
    assert told(found)[1].startswith(
        "$.resourceMetrics[0].scopeMetrics[0].metrics[2].gauge.dataPoints[3] must be a data po"
    )
    assert json.loads(found.dead_letters[1].value) == bad[3]


def test_otlp_json_names_and_labels():
    export = exported(gauge({**measured(asInt="1"), "attributes": attributes(code=200, ok=True)}), resource=[])
    assert points(export, format="otlp-json")[0][1] == "code=200,ok=true"
    found = read(
        export, format="otlp-json", source_field="x/{attributes.code}", labels=["attributes.*", "scope", "name"]
    )
    assert found.points.source == ["x/200"]
    assert found.points.labels == [{"code": "200", "ok": True, "scope": "http", "name": "http.active"}]
    late = {**measured(asInt="1"), "timeUnixNano": "0"}
    assert rows(read(exported(gauge(late)), format="otlp-json").points)[0][4] is False, "Kafka's time"
    for none in (exported(), {"resourceMetrics": []}):
        assert [one.why for one in read(none, format="otlp-json").skipped] == ["no_number"]
    assert told(read({"resourceSpans": []}, format="otlp-json")) == ["$.resourceMetrics must be an array, got null"]


def test_of_otlp_json_no_more_sets_of_attributes_are_kept_than_allowed(monkeypatch):
    reader, other = (Reader(InputSettings(format="otlp-json"), "raw-data", 3, False) for _ in range(2))
    points = [{**measured(i), "attributes": attributes(cpu=str(i))} for i in range(10)]
    records = [Record(json.dumps(exported(gauge(point))).encode(), i) for i, point in enumerate(points)]
    expected = rows(other.read(records).points)
    monkeypatch.setattr(otlp_json, "MOST_KNOWN", 5)
    for _ in range(3):
        assert [row for record in records for row in rows(reader.read([record]).points)] == expected
        assert sum(len(about.known) for about in reader._batch._mapping._abouts.values()) <= 5


def test_a_rejected_point_of_otlp_json_has_the_bytes_of_its_data_point():
    reader = Reader(InputSettings(format="otlp-json"), "raw-data", 3, False)
    records = [Record(json.dumps(exported(gauge(*map(measured, [1, 2])), COUNTER)).encode(), 0)]
    found = reader.read(records)
    [letter] = reader.rejected(records, found.elements, found.points, [(1, "too_many_metrics", "no")])
    assert json.loads(letter.value) == measured(2) and letter.index == 1


@pytest.mark.parametrize(
    ("format", "record"),
    [
        ("telegraf", CPU),
        ("prometheus", SAMPLE),
        ("metricbeat", BEAT),
        ("cloudevents", EVENT),
        ("debezium", CHANGE),
        ("otlp-json", exported(gauge(measured(asInt="412")))),
    ],
)
def test_a_damaged_record_is_answered(format, record):
    """Every field in turn replaced by another kind of value."""
    settings = COLUMNS if format == "debezium" else {"format": format}

    def damaged(one):
        yield from (None, 5, "x", True, [], {}, [1], {"x": 1}, 1e200)
        if isinstance(one, dict):
            for name in one:
                yield from ({**one, name: other} for other in damaged(one[name]))
        if isinstance(one, list):
            yield from ([other] for part in one for other in damaged(part))

    records = [json.dumps(one).encode() for one in damaged(record)]
    found = read(*records, **settings)
    one_by_one = Reader(InputSettings(**settings), "raw-data", 3, False)._read_each(
        [Record(value, i) for i, value in enumerate(records)]
    )
    assert rows(one_by_one.points) == rows(found.points) and plain(one_by_one) == plain(found)
    answered = {*found.points.offset, *(one.offset for one in [*found.dead_letters, *found.skipped])}
    assert answered == set(range(len(records)))
    assert all(len(letter.reason) < 500 for letter in found.dead_letters)
    assert not [letter.reason for letter in found.dead_letters if letter.label == "invalid_json"]


@pytest.mark.parametrize(
    ("format", "records"),
    [
        ("telegraf", [CPU, {**CPU, "fields": {"a": 1, "b": 2}}]),
        ("telegraf", [{"metrics": [CPU, CPU]}, {"metrics": [{**CPU, "fields": {"value": 0.5}}]}]),
        ("telegraf", [CPU, {**CPU, "fields": {"a": 10**400}}, {**CPU, "fields": {"a": 1e200, "b": 1}}]),
        ("telegraf", [{**CPU, "fields": {"a": 1}}, {**CPU, "fields": {"state": "up"}}, {**CPU, "fields": {"": 1}}]),
        ("cloudevents", [{**EVENT, "data": {"value": 3}}, {**EVENT, "data": {"rpm": 0.5, "state": "on"}}]),
        ("cloudevents", [EVENT, {**EVENT, "data": {"b": 1, "a": 2}}]),
        (
            "otlp-json",
            [exported(gauge(measured(asInt="1"), measured(asDouble=0.5))), exported(gauge(measured(asInt=2)))],
        ),
        ("otlp-json", [exported(gauge(measured(asInt="1"))), exported(gauge(measured(flags=1), measured(asInt="x")))]),
        ("debezium", [CHANGE, {**CHANGE, "op": "u"}]),
        ("debezium", [CHANGE, {"payload": CHANGE}, {**CHANGE, "after": None}]),
        ("metricbeat", [BEAT, {**BEAT, "service": None}]),
        ("metricbeat", [{**BEAT, "host": None, "agent": {"name": "a"}}, {**BEAT, "event": None}, LOAD, BEAT]),
        ("cloudevents", [{**EVENT, "data": {}}, EVENT, {**EVENT, "data": {"b": 1, "a": "x"}}]),
        ("otlp-json", [exported(COUNTER, gauge(measured(asInt="1"))), exported(gauge(), COUNTER), exported(HISTOGRAM)]),
        (
            "otlp-json",
            [exported(COUNTER, HISTOGRAM), exported(COUNTER, resource=[]), exported({**COUNTER, **gauge(measured())})],
        ),
        ("otlp-json", [exported({"name": "none"}, COUNTER), {"resourceMetrics": [{}, *exported()["resourceMetrics"]]}]),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_batch_of_usual_records_is_read_as_each_of_them_alone(format, records, apart, monkeypatch):
    """Where all are usual, and where only some are; at once, and in parts of 16 records."""
    input = {**(COLUMNS if format == "debezium" else {"format": format}), **({"values_apart": True} if apart else {})}
    reader = Reader(InputSettings(**input), "raw-data", 3, False)
    given = [Record(json.dumps(one).encode(), i) for i, one in enumerate(records * 12)]
    together, one_by_one = reader.read(given), reader._read_each(given)
    monkeypatch.setattr(mapped_batch, "PART_BYTES", 1)
    in_parts = reader.read(given)
    assert rows(in_parts.points) == rows(together.points) and plain(in_parts) == plain(together)
    assert rows(together.points) == rows(one_by_one.points) and plain(together) == plain(one_by_one)
