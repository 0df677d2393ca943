"""The compiled way to the bytes of results gives what the structs give."""

import json
import random

import numpy as np
import pytest

from app.pipeline import Pipeline
from app.pipeline.points import Points, packed
from app.settings import load
from app.wire import result_json, results

NAMES = ["pump-7", "Pumpe Ä", 'a"quote', "back\\slash", "line\nbreak", "del\x7f", "日本", "s" * 256]


def made(seed, count, rekeyed=False, **detection):
    """Points of awkward sources and values, and what the pipeline finds in them."""
    draw = random.Random(seed)
    points = Points()
    for i in range(count):
        points.offset.append(10 ** draw.randrange(12) + i if i == 0 else points.offset[-1] + draw.randrange(1, 4))
        points.index.append(draw.choice([0, 0, 0, 7, 99_999]))
        points.source.append(draw.choice(NAMES))
        points.timestamp.append(draw.choice([1.7e9 + i, 1.7e9 + i / 7, 0.0]))
        points.own_time.append(True)
        usual = draw.choice([draw.gauss(50, 5), round(draw.gauss(50, 5), 2), 50.0, 0.0, -0.0])
        points.values.append(draw.choice([*[usual] * 40, 1e150, -1e150, 1e-300, 5e-324, 1e16, 123456789.125]))
    if rekeyed:
        points.named = [draw.randrange(10 ** draw.randrange(1, 16)) for _ in points.index]
        points.index = [packed(draw.randrange(256), index) for index in points.index]
    settings = load(environ={}, detection=detection)
    pipeline = Pipeline(settings.detection)
    return points, pipeline.run(pipeline.sources(), points)


DETECTIONS = [
    {"detectors": {"moving_average": {"warmup": 5}}},
    {"detectors": {"moving_average": {"warmup": 5}, "slow": {"method": "zscore", "warmup": 40}}, "threshold": 0.99},
    {"detectors": {"moving_average": {"warmup": 5}}, "drift": {"method": "PageHinkley", "threshold": 2.0}},
]


@pytest.mark.parametrize("detection", DETECTIONS, ids=["one", "two", "drift"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rekeyed", [False, True], ids=["", "rekeyed"])
def test_both_ways_give_the_same_bytes(detection, seed, rekeyed):
    points, outcome = made(seed, 600, rekeyed, **detection)
    for start in (0, 17, 560):
        expected = results.encode_results(points, outcome, "raw-data", 3, start)
        columns = results.encode_columns(points, outcome, "raw-data", 3, start)
        assert columns.pairs() == expected


def test_behind_the_hop_by_source_ids_name_where_the_point_was_before():
    points, outcome = made(1, 100, rekeyed=True, **DETECTIONS[1])
    found = [json.loads(value) for _, value in results.encode_results(points, outcome, "raw-data", 3)]
    ids = [f"raw-data:{i >> 32}:{offset}:{i % 2**32}" for offset, i in zip(points.named, points.index)]
    assert [result["id"] for result in found] == ids
    openers = {result["episode"] for result in found if result["is_anomaly"]}
    assert openers and openers < set(ids)


def test_the_compiled_way_is_taken(monkeypatch):
    points, outcome = made(9, 600, **DETECTIONS[0])
    structs = []
    original = results._results
    monkeypatch.setattr(results, "_results", lambda *args: structs.append(original(*args)) or structs[-1])
    results.encode_columns(points, outcome, "raw-data", 3)
    assert 0 < len(structs[0]) < 400  # anomalies and escapes only


def test_a_wrong_byte_would_be_seen(monkeypatch):
    monkeypatch.setattr(result_json, "BEFORE", (*result_json.BEFORE[:-1], b',"anomaly_scare":'))
    results._words.cache_clear()
    points, outcome = made(9, 600, **DETECTIONS[0])
    columns = results.encode_columns(points, outcome, "raw-data", 3)
    results._words.cache_clear()
    assert columns.values.strings() != [value for _, value in results.encode_results(points, outcome, "raw-data", 3)]


def test_rejected_points_have_no_result():
    points, outcome = made(2, 100, **DETECTIONS[0])
    outcome.rejected = [(5, "too_many_metrics", "x")]
    outcome.slot = np.where(np.arange(100) == 5, -1, outcome.slot)
    columns = results.encode_columns(points, outcome, "raw-data", 0)
    assert len(columns) == 99
    assert columns.values.strings() == [value for _, value in results.encode_results(points, outcome, "raw-data", 0)]


def test_columns_of_nothing_are_empty():
    assert result_json.Column.of([]).strings() == []
    assert result_json.Column.of([b"", b"a", b""]).strings() == [b"", b"a", b""]
