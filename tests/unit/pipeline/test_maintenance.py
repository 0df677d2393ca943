"""Points in spans known in advance: scored, and neither alerted nor learned."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_detectors import running_mean
from support.points import (
    SMALL,
    Pipeline,
    batches,
    columns,
    detection,
    fit_for,
    gaussian,
    named,
    points,
    states,
    vectors,
)

from app import detectors
from app.scoring.maintenance import Maintenance, Span
from app.scoring.profile import SOURCE
from app.settings import Detection, DetectorSettings, DriftSettings, MaintenanceSpan, SourceOverride
from app.state import snapshot
from app.wire.results import encode_columns, encode_episodes, encode_results

CALM = np.random.default_rng(4).uniform(8.0, 12.0, 300).tolist()
ENGINES = pytest.mark.parametrize("engine", ["numba", "python"])


def span(first, end, name="upgrade", sources="*"):
    """A span of these points, of those that ``points`` makes."""
    times = (datetime.fromtimestamp(60.0 * i, UTC).isoformat() for i in (first, end))
    return MaintenanceSpan(name=name, start=next(times), end=next(times), sources=sources)


def without(made, first, end):
    return made.select([i for i in range(len(made)) if not first <= i < end])


def detectors_of(sources):
    """Rows of metrics and saved models, and the sources' own rows but for where and when the last point came."""
    cells = [[rows.dump(i) for i in range(rows.count)] for rows in sources.cells]
    models = [
        [
            b"" if model is None else adapter.dumps(model)
            for (_, adapter), of in zip(profile.adapters, found)
            for model in of
        ]
        for profile, found in zip(sources.profiles, sources.models)
    ]
    own = []
    for slot in range(sources.rows.count):
        row = np.frombuffer(sources.rows.dump(slot), SOURCE).copy()
        row["last"] = row["met"] = row["arrived"] = row["gap"] = 0
        own.append(row.tobytes())
    return cells, models, own


def check_nothing_is_learned(given, made, first, end, engine="numba"):
    """After the span, state and results are those of a run without its points."""
    pipeline = Pipeline(given.model_copy(update={"maintenance": [span(first, end)]}), engine=engine)
    through, around = pipeline.sources(), pipeline.sources()
    inside = pipeline.run(through, made.select(range(end)))
    pipeline.run(around, without(made, first, end).select(range(first)))
    assert detectors_of(through) == detectors_of(around)
    later = made.select(range(end, len(made)))
    after, expected = pipeline.run(through, later), pipeline.run(around, later)
    assert columns([after]) == columns([expected])
    assert detectors_of(through) == detectors_of(around)
    return inside


@pytest.mark.parametrize("method", sorted(detectors.KERNELS))
def test_no_detector_learns(method):
    values = [*gaussian(120), *gaussian(40, seed=8, mean=80.0), 1e9, *gaussian(80, seed=9)]
    given_ = detection(method, **{"warmup": 5, **SMALL.get(method, {})})
    found = check_nothing_is_learned(given_, fit_for(method, points(values)), 120, 161)
    assert not found.anomaly[120:].any() and not found.opened[120:].any() and not found.alert[120:].any()


LIBRARIES = ["StandardAbsoluteDeviation", "GaussianScorer", "OneClassSVM", "LODA", "LocalOutlierFactor"]
LIBRARIES += ["PredictiveAnomalyDetection", "river", "elliptic_envelope", "one_class_svm"]


@pytest.mark.parametrize("method", LIBRARIES)
def test_no_object_of_a_library_learns(method):
    small = {"elliptic_envelope": {"window_size": 60, "refit_every": 30}, "one_class_svm": {"window_size": 60}}
    given_ = detection(method, **{"warmup": 5, **SMALL.get(method, {}), **small.get(method, {})})
    values = [*gaussian(150), *gaussian(20, seed=8, mean=80.0), *gaussian(60, seed=9)]
    found = check_nothing_is_learned(given_, points(values), 150, 170)
    assert np.isfinite(found.votes[150:, 0]).all() and found.score[150:].max() > 0.5


@ENGINES
def test_a_model_that_fails_is_not_reset(engine):
    with running_mean.added():
        values = [*gaussian(20), 13.0, 14.0, 15.0, *gaussian(9, seed=8)]
        found = check_nothing_is_learned(detection("running"), points(values), 20, 23, engine)
        assert found.status[20:].tolist() == [2, 2, 2]


@ENGINES
@pytest.mark.parametrize("reset", [False, True])
def test_no_drift_is_found_and_no_reset_is_lost(engine, reset):
    drift = DriftSettings(method="PageHinkley", threshold=2.0, min_instances=10, reset=reset)
    members = {
        name: DetectorSettings(method=name, warmup=5) for name in ("zscore", "ewma", "StandardAbsoluteDeviation")
    }
    given_ = Detection(detectors=members, drift=drift)
    values = [*gaussian(100), *gaussian(60, seed=8, mean=40.0, std=20.0), *gaussian(60, seed=9)]
    plain = Pipeline(given_, engine=engine)
    drifts = np.flatnonzero(plain.run(plain.sources(), points(values)).drift)
    assert len(drifts)
    # The span begins just after a drift: detectors that are to be reset go on until they learn again.
    first = int(drifts[0]) + 1
    found = check_nothing_is_learned(given_, points(values), first, first + 30, engine)
    assert not found.drift[first:].any()
    assert (found.status[first:] == 1).all()


@ENGINES
def test_vectors_of_metrics_are_not_learned_either(engine):
    rng = np.random.default_rng(2)
    made = vectors(
        [dict(zip("pq", (rng.normal(0.0, 1.0, 2) + (50.0 if 300 <= i < 330 else 0.0)).tolist())) for i in range(400)]
    )
    found = check_nothing_is_learned(Detection(), made, 300, 330, engine)
    assert found.score[300:].max() > 0.8 and not found.anomaly[300:].any()


@ENGINES
def test_the_same_points_open_an_episode_outside_a_span(engine):
    """The negative control."""
    values = [*gaussian(300), *[60.0] * 30, *gaussian(100, seed=8)]
    plain = Pipeline(detection("ewma"), engine=engine)
    assert plain.run(plain.sources(), points(values)).anomaly[300:330].any()


@ENGINES
def test_an_open_episode_waits_for_the_end_of_the_span(engine):
    values = [*CALM, 60.0, *[60.0, 10.0] * 5, 60.0, *CALM[:20]]
    pipeline = Pipeline(detection("zscore", maintenance=[span(301, 311)]), engine=engine)
    sources = pipeline.sources()
    found = pipeline.run(sources, points(values))
    assert np.flatnonzero(found.opened).tolist() == [300]
    assert not found.anomaly[301:311].any() and not found.closed[301:311].any()
    assert found.anomaly[311] and found.episode_offset[311] == 300 and found.length[311] == 2
    assert np.flatnonzero(found.closed).tolist() == [312] and found.length[312] == 2


def test_the_result_names_the_span_and_has_no_alert():
    values = [*CALM[:60], 80.0, 81.0, *CALM[:10]]
    made = points(values)
    pipeline = Pipeline(detection("zscore", warmup=5, maintenance=[span(60, 62, 'Umbau "7"')]))
    outcome = pipeline.run(pipeline.sources(), made)
    encoded = encode_results(made, outcome, "raw-data", 3)
    shown = [json.loads(value) for _, value in encoded]
    assert [i for i, one in enumerate(shown) if "maintenance" in one] == [60, 61]
    inside = shown[60]
    assert inside["maintenance"] == 'Umbau "7"' and inside["anomaly_score"] > 0.9
    assert (inside["alert_score"], inside["is_anomaly"], inside["severity"]) == (0.0, False, "low")
    assert "episode" not in inside and not encode_episodes(made, outcome, "raw-data", 3)
    assert encode_columns(made, outcome, "raw-data", 3).pairs() == encoded


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 400), max_size=8), engine=st.sampled_from(["numba", "python"]))
def test_results_do_not_depend_on_batches_engine_or_restarts(cuts, engine):
    names = ["a", "b", "c"]
    made = points(gaussian(420), [names[i % 3] for i in range(420)])
    spans = [span(100, 200, "x", "[ab]"), span(150, 180, "y"), span(0, 30, "z", "c"), span(300, 301, "w")]
    members = {name: DetectorSettings(method=name) for name in ("zscore", "novelty", "StandardAbsoluteDeviation")}
    given_ = Detection(detectors=members, maintenance=spans)
    whole = Pipeline(given_).sources()
    once = columns([Pipeline(given_).run(whole, made)])
    parts, outcomes = Pipeline(given_, engine=engine).sources(), []
    for part in batches(made, cuts):
        outcomes.append(Pipeline(given_, engine=engine).run(parts, part))
        for data in states(parts).values():
            snapshot.loads(parts, data)
    assert columns(outcomes) == once and states(parts) == states(whole)


def test_of_several_spans_the_first_counts_and_a_pattern_names_sources():
    spans = [Span("x", 10.0, 20.0, "pump-*"), Span("y", 15.0, 30.0, "*")]
    times = np.array([9.0, 10.0, 15.0, 15.0, 19.0, 20.0, 30.0])
    slots = np.array([0, 0, 0, 1, 1, 0, 0])
    found = Maintenance(spans).places(times, slots, ["pump-1", "fan"].__getitem__)
    assert found.tolist() == [-1, 0, 0, 1, 1, 1, -1]
    assert Maintenance([]).places(times, slots, str).tolist() == [-1] * 7
    assert Maintenance(spans).places(times[:0], slots[:0], str).tolist() == []


def test_a_pattern_is_one_of_sources_also_where_points_name_their_metric():
    made = named([("cpu", 1.0), ("disk", 1.0)] * 10, ["db-1", "db-1", "web", "web"] * 5)
    pipeline = Pipeline(detection(maintenance=[span(0, 20, sources="db-?")]), engine="python")
    assert (pipeline.run(pipeline.sources(), made).maintenance >= 0).tolist() == [True, True, False, False] * 5


def test_times_without_a_zone_are_local():
    given_ = [MaintenanceSpan(name="x", start="2026-12-24T18:00", end="2026-12-27")]
    [found] = Maintenance.of(given_, ZoneInfo("Europe/Berlin")).spans
    assert found.start == datetime(2026, 12, 24, 17, tzinfo=UTC).timestamp()
    assert found.end == datetime(2026, 12, 26, 23, tzinfo=UTC).timestamp()
    [found] = (
        Pipeline(Detection(timezone="Europe/Berlin", maintenance=given_), engine="python").profiles[0].maintenance.spans
    )
    assert found.start == datetime(2026, 12, 24, 17, tzinfo=UTC).timestamp()


def test_a_source_that_begins_in_a_span_is_known_from_its_first_point():
    """Else a replay would count its partition's live sources otherwise (app/state/expiry.py)."""
    for engine in ("numba", "python"):
        pipeline = Pipeline(detection(maintenance=[span(5, 8)]), engine=engine)
        sources = pipeline.sources()
        pipeline.run(sources, points(gaussian(3), start=5))
        assert [sources.rows.get(0, name) for name in ("seen", "born", "last")] == [0, 5, 7]
        pipeline.run(sources, points(gaussian(3), start=8))
        assert [sources.rows.get(0, name) for name in ("seen", "born", "last")] == [3, 5, 10]


def test_an_override_may_have_spans_of_its_own():
    base = detection("zscore", maintenance=[span(0, 10, "all")])
    pipeline = Pipeline(base, [SourceOverride(match="b", maintenance=[span(5, 20, "b")])], engine="python")
    made = points(gaussian(40), ["a", "b"] * 20)
    found = pipeline.run(pipeline.sources(), made)
    names = [
        pipeline.profiles[k].maintenance.spans[m].name if m >= 0 else ""
        for k, m in zip(found.profile, found.maintenance)
    ]
    assert names == [("all" if i < 10 else "") if i % 2 == 0 else ("b" if 5 <= i < 20 else "") for i in range(40)]


def test_spans_are_part_of_the_config_hash():
    def hashed(*spans):
        return Pipeline(Detection(maintenance=list(spans)), engine="python").profiles[0].config_hash

    assert hashed() == Pipeline(Detection(), engine="python").profiles[0].config_hash
    assert len({hashed(), hashed(span(0, 1)), hashed(span(0, 2)), hashed(span(0, 1), span(0, 2))}) == 4


@ENGINES
@pytest.mark.parametrize("sends", [True, False], ids=["with points in the span", "silent in the span"])
def test_the_pause_of_a_span_is_no_gap(engine, sends):
    def alerts(later, *spans):
        at = [*range(100), *(range(100, 200) if sends else []), *range(later, later + 20)]
        made = points([5.0] * len(at))
        made.timestamp = [60.0 * i for i in at]
        pipeline = Pipeline(detection("gaps", maintenance=list(spans)), engine=engine)
        return [at[i] for i in np.flatnonzero(pipeline.run(pipeline.sources(), made).opened)]

    assert alerts(200, span(100, 200)) == []
    assert alerts(200, span(100, 200, sources="b")) == alerts(200) == ([] if sends else [200])
    assert alerts(230, span(100, 200)) == [230], "a pause after its end is one"
    assert alerts(230, span(100, 150), span(150, 229), span(120, 130)) == []


def test_the_last_end_before_a_point_counts():
    spans = [Span("x", 10.0, 20.0, "a"), Span("y", 15.0, 30.0, "*"), Span("z", 0.0, 5.0, "*")]
    times, slots = np.array([4.0, 5.0, 20.0, 29.0, 30.0, 20.0]), np.array([0, 0, 0, 0, 0, 1])
    assert Maintenance(spans).ends(times, slots, "ab".__getitem__).tolist() == [-np.inf, 5.0, 20.0, 20.0, 30.0, 5.0]
