"""Generators: the same options give the same points, and labels tell the truth."""

import json
import statistics
from collections import Counter
from itertools import groupby, islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import generators
from app.cli.feed import encode
from app.errors import ConfigurationError
from generators.api import GeneratedRecord, Remark
from generators.file import bundled
from generators.synthetic import DRIFT_POINTS, KINDS, STUCK_POINTS

synthetic, replay = generators.load("synthetic"), generators.load("file")


def by_source(records):
    found = {}
    for record in records:
        found.setdefault(record.source, []).append(record)
    return found


def test_a_generator_is_found_by_its_file():
    assert {"file", "synthetic"} <= set(generators.names())
    assert all(callable(generators.load(name)) for name in generators.names())


# --- synthetic


@pytest.mark.parametrize("shape", ["sine", "trend", "constant"])
def test_the_same_seed_gives_the_same_points_and_another_others(shape):
    first, again, other = (list(synthetic(shape=shape, points=300, sources=2, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert [r.values for r in first] != [r.values for r in other]


def test_more_sources_or_points_do_not_change_the_first_ones():
    few, many = by_source(synthetic(points=200, sources=2)), by_source(synthetic(points=400, sources=5))
    assert len(many) == 5
    assert all(many[source][:200] == records for source, records in few.items())


def test_sources_take_turns_and_time_goes_by_the_interval():
    records = list(synthetic(points=3, sources=2, source="pump", interval=0.5, start=100.0))
    assert [(r.source, r.timestamp) for r in records] == [
        ("pump-0", 100.0), ("pump-1", 100.0), ("pump-0", 100.5),
        ("pump-1", 100.5), ("pump-0", 101.0), ("pump-1", 101.0),
    ]  # fmt: skip


def test_without_end_is_without_end():
    assert len(list(islice(synthetic(points=0), 5000))) == 5000


@settings(max_examples=40)
@given(
    shape=st.sampled_from(["sine", "trend", "constant"]),
    low=st.floats(-1e6, 1e6),
    size=st.floats(1e-6, 1e6),
    noise=st.floats(0.0, 0.15),
    seed=st.integers(),
)
def test_normal_points_lie_in_the_range_and_spikes_outside(shape, low, size, noise, seed):
    high = low + size
    records = list(
        synthetic(shape=shape, low=low, high=high, noise=noise, anomaly_probability=0.05, points=400, seed=seed)
    )
    for record in records:
        value = record.values["value"]
        if record.label == "":
            assert low <= value <= high
        if record.label == "spike":
            assert not low <= value <= high


@pytest.mark.parametrize(("shape", "least"), [("constant", 20.0), ("sine", 1.5), ("trend", 1.5)])
def test_spikes_are_outliers_of_the_other_points(shape, least):
    records = list(synthetic(shape=shape, points=5000, anomaly=("spike",), anomaly_probability=0.01))
    normal = [r.values["value"] for r in records if not r.label]
    mean, sd = statistics.fmean(normal), statistics.stdev(normal)
    spikes = [abs(r.values["value"] - mean) / sd for r in records if r.label]
    assert len(spikes) > 20
    assert min(spikes) > max(least, *(abs(x - mean) / sd for x in normal))


def test_a_stuck_value_is_the_last_one_repeated():
    records = list(synthetic(points=5000, anomaly=("stuck",), anomaly_probability=0.01))
    runs = [list(run) for _, run in groupby(pairwise(records), key=lambda pair: pair[1].label)]
    stuck = [run for run in runs if run[0][1].label == "stuck"]
    assert len(stuck) > 20
    for run in stuck[:-1]:
        assert len(run) % STUCK_POINTS == 0
        assert len({before.values["value"] for before, _ in run} | {run[-1][1].values["value"]}) == 1
    assert sum(a.values == b.values for run in runs if run not in stuck for a, b in run[1:]) < 5


def test_a_drift_moves_the_level_by_half_a_range_or_more_and_returns():
    records = list(synthetic(shape="constant", points=20000, anomaly=("drift",), anomaly_probability=0.002))
    runs = [(label, [r.values["value"] for r in run]) for label, run in groupby(records, key=lambda r: r.label)]
    drifts = [values for label, values in runs if label == "drift"]
    assert len(drifts) > 20
    assert {len(values) % DRIFT_POINTS for values in drifts[:-1]} == {0}
    assert all(abs(statistics.fmean(values[:DRIFT_POINTS]) - 50.0) > 48.0 for values in drifts[:-1])
    assert all(40.0 < value < 60.0 for label, values in runs if not label for value in values)


def test_nothing_is_odd_before_the_calm_is_over():
    labels = [r.label for r in synthetic(points=900, anomaly_probability=0.5, calm=300)]
    assert not any(labels[:300]) and any(labels[300:310])


def test_anomalies_begin_as_often_as_asked_for():
    labels = Counter(r.label for r in synthetic(points=40000, anomaly=("spike",), anomaly_probability=0.02))
    assert 700 < labels["spike"] < 900
    assert not any(r.label for r in synthetic(points=2000, anomaly_probability=0.0))
    kinds = Counter(r.label for r in synthetic(points=20000, anomaly_probability=0.02))
    assert set(kinds) == {"", *KINDS}


def test_a_sine_has_the_frequency_asked_for():
    values = [r.values["value"] for r in synthetic(noise=0.0, anomaly_probability=0.0, frequency=0.01, points=1000)]
    rises = sum(a <= 50.0 < b for a, b in pairwise(values))
    assert rises == 10
    assert min(values) < 0.1 and max(values) > 99.9


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_low_must_be_less_than_high(low, high):
    with pytest.raises(ConfigurationError, match="--low, --high"):
        list(synthetic(low=low, high=high))


# --- file


@pytest.fixture
def pump(tmp_path):
    path = tmp_path / "pump.csv"
    path.write_text("time,a,b,label\n100,1,2,0\n110,,3,1\n120,x,4,0\n130,5,6,leak\n")
    return str(path)


def test_rows_become_records_and_what_cannot_be_read_a_remark(pump):
    got = list(replay((pump,)))
    assert [each for each in got if isinstance(each, GeneratedRecord)] == [
        GeneratedRecord("pump", 100.0, {"a": 1.0, "b": 2.0}, ""),
        GeneratedRecord("pump", 110.0, {"b": 3.0}, "anomaly"),
        GeneratedRecord("pump", 130.0, {"a": 5.0, "b": 6.0}, "leak"),
    ]
    interpretation, remark = [each for each in got if isinstance(each, Remark)]
    assert (
        interpretation.text
        == f"{pump}: time from time (epoch seconds), source is the name of the file, values a, b, labels label"
    )
    assert remark.unreadable and remark.text.startswith(f"{pump}:4: column 'a'")


def test_a_series_of_one_metric_is_replayed_as_one(tmp_path):
    said = [{"metric": "a", "value": 1.0}, {"values": {"a": 1.0}}, {"value": 1.0}, {"values": {"a": 1.0, "b": 2.0}}]
    lines = [{"source": "s", "timestamp": float(i), **one} for i, one in enumerate(said)]
    file = tmp_path / "pump.ndjson"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sent = [json.loads(encode(record, labels=False)) for record in generators.load("file")((str(file),))]
    assert sent == lines


def test_start_moves_the_times(pump):
    records = [each for each in replay((pump,), start=1000.0) if isinstance(each, GeneratedRecord)]
    assert [record.timestamp for record in records] == [1000.0, 1010.0, 1030.0]


def test_a_loop_goes_on_where_the_file_ends(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,value\n100,1\n110,2\n120,3\n130,x\n")
    got = list(islice(replay((str(path),), loop=True), 10))
    records = [each for each in got if isinstance(each, GeneratedRecord)]
    assert [r.timestamp for r in records] == [100.0, 110.0, 120.0, 130.0, 140.0, 150.0, 160.0, 170.0]
    assert [r.values["value"] for r in records] == [1.0, 2.0, 3.0] * 2 + [1.0, 2.0]
    assert len(got) - len(records) == 2  # what is read as what, and the bad row, are told once


def test_files_are_merged_by_time(tmp_path):
    for name, times in (("a", (1, 5, 9)), ("b", (2, 5, 20)), ("c", (3, 4))):
        (tmp_path / f"{name}.csv").write_text("time,value\n" + "".join(f"{t},1\n" for t in times))
    got = list(replay(tuple(str(tmp_path / f"{name}.csv") for name in "abc")))
    records = [each for each in got if isinstance(each, GeneratedRecord)]
    assert [(r.timestamp, r.source) for r in records] == [
        (1, "a"), (2, "b"), (3, "c"), (4, "c"), (5, "a"), (5, "b"), (9, "a"), (20, "b"),
    ]  # fmt: skip


def test_looped_files_begin_together():
    got = list(islice(replay(("nyc_taxi", "speed_t4013"), loop=True), 2000))
    assert got[0].timestamp == got[1].timestamp
    counts = Counter(r.source for r in got)
    assert counts["nyc_taxi"] > 200 and counts["speed_t4013"] > 200
    assert [r.timestamp for r in got] == sorted(r.timestamp for r in got)


def test_the_series_that_come_along_are_whole_and_labelled():
    assert len(bundled()) == 6
    assert sum(path.stat().st_size for path in bundled().values()) < 1_000_000
    for name in bundled():
        records = list(replay((name,)))
        assert all(isinstance(r, GeneratedRecord) and r.source == name for r in records)
        assert 1600 < len(records) < 11000
        assert 0.05 < sum(r.label == "anomaly" for r in records) / len(records) < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"files": ("nowhere.csv",)}, "nowhere.csv: expected a file or one of .*nyc_taxi"),
        ({"files": ("-",), "loop": True}, "--loop: .* read only once"),
        ({"files": ("nyc_taxi",), "value": ("x",)}, "no column 'x'"),
    ],
)
def test_what_cannot_be_replayed_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        list(replay(**options))
