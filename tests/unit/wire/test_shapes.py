"""Results in other shapes, and the JSON Schemas that describe them: docs/schemas."""

import json
import math
from datetime import datetime

import pytest
from unit.wire.test_mapping import read

from app.pipeline import Pipeline
from app.settings import Detection
from app.state.series import to_bytes
from app.web.topics.records import decode_event, decode_result
from app.wire import episodes
from app.wire.results import encode_columns, encode_episodes, encode_results
from app.wire.shapes import PLAIN, Shape
from tests.docs import schemas

SHAPES = [PLAIN, Shape(iso=True), Shape(by_metric=True), Shape(iso=True, by_metric=True)]
TYPES = {"object": dict, "number": (int, float), "integer": int, "string": str, "boolean": bool}


def complies(value, schema) -> bool:
    """As much of JSON Schema as ours use."""
    if "oneOf" in schema:
        return sum(complies(value, one) for one in schema["oneOf"]) == 1
    if "anyOf" in schema:
        return any(complies(value, one) for one in schema["anyOf"])
    if "const" in schema:
        return value == schema["const"]
    if "enum" in schema:
        return value in schema["enum"]
    if not isinstance(value, TYPES[schema["type"]]) or isinstance(value, bool) != (schema["type"] == "boolean"):
        return False
    if schema.get("format") == "date-time":
        return datetime.fromisoformat(value).tzinfo is not None
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        every = all(complies(one, known.get(name, others)) for name, one in value.items() if name in known or others)
        return every and set(schema.get("required", ())) <= set(value)
    return True


@pytest.fixture(scope="module")
def scored():
    """(points, outcome) with episodes: plain values, named metrics, vectors."""

    def records(more):
        for i in range(250):
            value = 10 + math.sin(i) + (99 if 170 <= i < 175 else 0)
            yield {"source": "a", "timestamp": 1698399460.25 + 60 * i, "room": "B", **more(value)}

    found = []
    for more in (
        lambda value: {"value": value},
        lambda value: {"metric": "load", "value": value},
        lambda value: {"values": {"x": value, "y": 1.0}},
    ):
        points = read(*records(more), labels=["room"]).points
        pipeline = Pipeline(Detection(method="moving_average"))
        found.append((points, pipeline.run(pipeline.sources(), points)))
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_says_the_same_and_is_as_its_schema_says(scored, shape):
    of_results, of_events = (json.loads(schemas.schemas()[f"{name}.json"]) for name in ("anomaly-results", "anomalies"))
    for points, outcome in scored:
        usual = encode_results(points, outcome, "raw-data", 3)
        shaped = encode_results(points, outcome, "raw-data", 3, 0, shape)
        assert encode_columns(points, outcome, "raw-data", 3, 0, shape).pairs() == shaped
        for (key, value), (shaped_key, shaped_value) in zip(usual, shaped, strict=True):
            plain, other = json.loads(value), json.loads(shaped_value)
            assert key == shaped_key and complies(plain, of_results) and complies(other, of_results)
            assert decode_result(shaped_value).timestamp == plain["timestamp"], "the view reads every shape"
            if shape.iso:
                assert datetime.fromisoformat(other["timestamp"]).timestamp() == plain["timestamp"]
                other["timestamp"] = plain["timestamp"]
            if shape.by_metric:
                assert all(type(other.get(name, {})) is dict for name in ("values", "expected", "expected_upper"))
                if "value" in plain:
                    [(name, number)] = other.pop("values").items()
                    assert (name, "value" in other) == (plain.get("metric", "value"), False)
                    other["value"] = number
                    for band in ("expected", "expected_lower", "expected_upper"):
                        if band in other:
                            other[band] = other[band][name]
            assert other == plain
        events = [value for _, value in encode_episodes(points, outcome, "raw-data", 3, 0, shape)]
        assert {json.loads(value)["event"] for value in events} == {"opened", "changed", "closed"}
        for value in events:
            assert complies(json.loads(value), of_events)
            assert decode_event(value).timestamp > 1.6e9
        plain_events = encode_episodes(points, outcome, "raw-data", 3)
        assert list(map(episodes.decode, events)) == [episodes.decode(value) for _, value in plain_events]
        assert {to_bytes(episodes.decode(value).series) for value in events} == {key for key, _ in plain_events}


def test_the_schemas_would_notice_what_is_wrong(scored):
    schema = json.loads(schemas.schemas()["anomaly-results.json"])
    points, outcome = scored[0]
    good = json.loads(encode_results(points, outcome, "raw-data", 3)[200][1])
    assert complies(good, schema)
    for wrong in ({"timestamp": "today"}, {"value": "1"}, {"severity": "huge"}, {"is_anomaly": 1}, {"expected": [1]}):
        try:
            assert not complies(good | wrong, schema)
        except ValueError:
            assert wrong == {"timestamp": "today"}
    del good["id"]
    assert not complies(good, schema)


def test_the_schemas_in_the_documents_are_those_of_the_program():
    written = {path.name: path.read_text() for path in schemas.FOLDER.glob("*.json")}
    assert written == schemas.schemas()
