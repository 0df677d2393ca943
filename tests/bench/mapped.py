"""``python -m tests.bench.mapped``: records of other shapes, in percent of the rate of plain records of these points.

Each shape is read, scored with the default set, and encoded, in batches of 4,000 points from 1,000 sources that are
known: batches of plain records and of the shape take turns, each with a state of its own. One thread, its CPU time; the
median of many batches, so that a busy machine changes microseconds, but hardly shares.
"""

import gc
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import cycle
from statistics import median
from typing import Any, NamedTuple

import click

from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection, InputSettings
from app.wire.reader import Reader
from app.wire.results import encode_columns
from tests.bench import job
from tests.bench.point import BATCH, SOURCES, Record
from tests.bench.report import hardware
from tests.docs import pages

FILLED = 20  # batches of 4,000 points: 40 points a source for each of the two


class Point(NamedTuple):
    """Of a source "s7", which is a host that a tool measures."""

    source: str
    time: float  # epoch s
    value: float


class Shape(NamedTuple):
    """``write``: one record of so many ``points``."""

    input: dict[str, Any]
    write: Callable[[list[Point]], Any]
    points: int = 1


def fields(*names: str) -> Callable[[Point], dict[str, float]]:
    return lambda point: {name: point.value + i for i, name in enumerate(names)}


def telegraf(point: Point, *names: str) -> dict[str, Any]:
    tags = {"cpu": "cpu-total", "host": point.source, "region": "eu-west"}
    return {"fields": fields(*names)(point), "name": "cpu", "tags": tags, "timestamp": int(point.time)}


def prometheus(point: Point) -> dict[str, Any]:
    labels = {"__name__": "node_load1", "instance": f"{point.source}:9100", "job": "node"}
    return {"timestamp": iso(point.time), "value": str(point.value), "name": "node_load1", "labels": labels}


def metricbeat(point: Point) -> dict[str, Any]:
    return {
        "@timestamp": iso(point.time),
        "@metadata": {"beat": "metricbeat", "type": "_doc", "version": "8.11.0"},
        "agent": {"name": point.source, "type": "metricbeat", "version": "8.11.0"},
        "ecs": {"version": "8.0.0"},
        "event": {"dataset": "system.load", "module": "system", "duration": 115000},
        "host": {"name": point.source, "os": {"platform": "ubuntu", "version": "22.04"}},
        "metricset": {"name": "load", "period": 10000},
        "service": {"type": "system"},
        "system": {"load": fields("1", "5", "15")(point)},
    }


def metricsets(point: Point) -> dict[str, Any]:
    """One of four metricsets, by the number of the source."""
    number = int(point.source.removeprefix("s"))
    names = ("load", "cpu", "network", "filesystem")
    measured: list[dict[str, Any]] = [
        fields("1", "5")(point),
        {"user": {"pct": point.value}, "system": {"pct": 0.25}},
        {"name": "eth0", "in": {"bytes": point.value, "errors": 0}},
        {"mount_point": "/home", "free": 1e9, "used": {"pct": point.value}},
    ]
    name = names[number % len(names)]
    event = {"dataset": f"system.{name}", "module": "system", "duration": 115000}
    return {**metricbeat(point), "event": event, "system": {name: measured[number % len(names)]}}


def otlp(points: list[Point]) -> dict[str, Any]:
    def attributes(**of: str) -> list[dict[str, Any]]:
        return [{"key": name.replace("_", "."), "value": {"stringValue": text}} for name, text in of.items()]

    measured = [
        {
            "attributes": attributes(host=point.source, state="used"),
            "startTimeUnixNano": "1699999000000000000",
            "timeUnixNano": str(round(point.time * 1e6) * 1000),
            "asDouble": point.value,
        }
        for point in points
    ]
    resource = {"attributes": attributes(service_name="shop", service_instance_id="shop-1", telemetry_sdk_name="otel")}
    metrics = [{"name": "memory.usage", "unit": "By", "gauge": {"dataPoints": measured}}]
    return {
        "resourceMetrics": [
            {
                "resource": resource,
                "scopeMetrics": [{"scope": {"name": "memory", "version": "1.0"}, "metrics": metrics}],
            }
        ]
    }


def event(point: Point, *names: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "17",
        "type": "com.example.reading",
        "source": "/plants/3",
        "subject": point.source,
        "time": iso(point.time),
        "datacontenttype": "application/json",
        "data": fields(*names)(point),
    }


def debezium(point: Point) -> dict[str, Any]:
    at = int(point.time * 1000)
    return {
        "before": None,
        "after": {"id": 17, "sensor": point.source, "temperature": point.value, "note": "x"},
        "source": {"version": "2.4", "connector": "postgresql", "db": "plant", "table": "readings", "ts_ms": at},
        "op": "c",
        "ts_ms": at + 123,
    }


def nested(point: Point) -> dict[str, Any]:
    return {
        "host": {"name": point.source, "os": "linux"},
        "timestamp": point.time,
        "fields": {"load": point.value, "unit": "1"},
        "tags": {"room": "B"},
    }


PATHS = {"source_field": "host.name", "value_fields": ["fields.load"]}
DEBEZIUM = {"format": "debezium", "source_field": "sensor", "value_fields": ["temperature"]}
SHAPES = {
    "paths": Shape(PATHS, lambda points: nested(*points)),
    "a source of two fields, a label": Shape(
        {**PATHS, "source_field": "{tags.room}/{host.name}", "labels": ["tags.room"]}, lambda points: nested(*points)
    ),
    "array of 10 points": Shape(
        {**PATHS, "points_field": "readings"}, lambda points: {"readings": list(map(nested, points))}, 10
    ),
    "telegraf": Shape({"format": "telegraf"}, lambda points: telegraf(*points, "usage_idle")),
    "telegraf, 4 fields": Shape(
        {"format": "telegraf"},
        lambda points: telegraf(*points, "usage_idle", "usage_user", "usage_system", "usage_iowait"),
    ),
    "telegraf, batches of 10": Shape(
        {"format": "telegraf"}, lambda points: {"metrics": [telegraf(one, "usage_idle") for one in points]}, 10
    ),
    "prometheus": Shape({"format": "prometheus"}, lambda points: prometheus(*points)),
    "metricbeat": Shape({"format": "metricbeat"}, lambda points: metricbeat(*points)),
    "metricbeat, 4 metricsets": Shape({"format": "metricbeat"}, lambda points: metricsets(*points)),
    "otlp-json": Shape({"format": "otlp-json"}, otlp),
    "otlp-json, 10 points": Shape({"format": "otlp-json"}, otlp, 10),
    "cloudevents": Shape({"format": "cloudevents"}, lambda points: event(*points, "value")),
    "cloudevents, 2 numbers": Shape({"format": "cloudevents"}, lambda points: event(*points, "temperature", "rpm")),
    "debezium": Shape(DEBEZIUM, lambda points: debezium(*points)),
}


@click.command()
@click.option("--shape", "only", multiple=True, help="Of these only; default: all.")
@click.option("--rounds", default=10, show_default=True, help="Batches of each kind that are measured.")
@click.option("--write-docs", is_flag=True, help="Write the table into docs/benchmarks.md.")
def main(only: tuple[str, ...], rounds: int, write_docs: bool) -> None:
    """What reading records of other shapes costs, beside plain ones."""
    head = (
        "| records | bytes a point | read, us a point | plain | read, score, encode | plain | share of the plain rate |"
    )
    lines = [head, "|---|" + "---:|" * 6]
    for name in only or SHAPES:
        lines.append(f"| {name} | {measured(SHAPES[name], rounds)} |")
        print(lines[-1], flush=True)
    text = "\n".join([*lines, "", f"{hardware()}."])
    print(text)
    if write_docs:
        pages.write("mapped", text)


def measured(shape: Shape, rounds: int) -> str:
    """The cells of a row."""
    mapped = Reader(InputSettings(**shape.input), "raw-data", 0, False)
    usual = Reader(InputSettings(), "raw-data", 0, False)
    pipeline = Pipeline(Detection())
    pipeline.compile()
    gc.freeze()  # as a worker does: collections look through what a batch makes, and not through all modules
    gc.set_threshold(10_000, 10, 10)
    sources = {mapped: pipeline.sources(), usual: pipeline.sources()}
    took: dict[Reader, list[tuple[float, float]]] = {mapped: [], usual: []}
    for i, (reader, given) in enumerate(zip(cycle(took), batches(FILLED + 2 * rounds))):
        batch = [
            Record(b"", json.dumps(shape.write(some), separators=(",", ":")).encode(), at)
            for at, some in enumerate(given[j : j + shape.points] for j in range(0, BATCH, shape.points))
        ]
        size = sum(len(record.value) for record in batch)
        if reader is usual:
            batch = plain(mapped.read(batch).points)
        begun = time.process_time_ns()
        points = reader.read(batch).points
        read = time.process_time_ns()
        encode_columns(points, pipeline.run(sources[reader], points), "raw-data", 0)
        n = len(points) * 1000
        if i >= FILLED:
            took[reader].append(((read - begun) / n, (time.process_time_ns() - begun) / n))
    (read_us, us), (plain_read_us, plain_us) = ([median(one) for one in zip(*took[reader])] for reader in took)
    cells = [f"{size / len(points):.0f}", f"{read_us:.2f}", f"{plain_read_us:.2f}", f"{us:.2f}", f"{plain_us:.2f}"]
    return " | ".join([*cells, f"{plain_us / us:.0%}"])


def batches(count: int) -> Iterator[list[Point]]:
    found = job.values(count * BATCH, SOURCES)
    points = [Point(source, job.START + 0.001 * i, value) for i, (source, value) in enumerate(found)]
    return (points[i : i + BATCH] for i in range(0, len(points), BATCH))


def plain(points: Points) -> list[Record]:
    """The same points in the plain shape."""
    records = []
    for i, source in enumerate(points.source):
        one: dict[str, Any] = {"source": source, "timestamp": points.timestamp[i]}
        names, values = points.names(i), points.values[points.cells(i)]
        if points.metric and points.metric[i]:
            one["metric"] = points.metric[i]
        one |= {"value": values[0]} if len(values) == 1 else {"values": dict(zip(names, values))}
        records.append(Record(b"", json.dumps(one, separators=(",", ":")).encode(), i))
    return records


def iso(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC).isoformat(timespec='milliseconds')[:-6]}Z"


if __name__ == "__main__":
    main()
