"""Drifts of a source's scores: River's own, the same whatever the batches, and what a reset does."""

import json
import random

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings as how
from hypothesis import strategies as st
from support.points import batches, columns, gaussian, points, states, vectors

from app.detectors import drift
from app.errors import ConfigurationError, StateError
from app.pipeline import Pipeline
from app.settings import Detection, DetectorSettings, DriftSettings, load
from app.state import snapshot
from app.wire.results import encode_columns, encode_results

ADWIN = {"method": "ADWIN", "clock": 1}
PAGE = {"method": "PageHinkley", "threshold": 5.0}
METHODS = pytest.mark.parametrize("given", [ADWIN, PAGE], ids=lambda given: given["method"])
ENGINES = pytest.mark.parametrize("engine", ["numba", "python"])
MEMBERS = {
    "average": DetectorSettings(method="moving_average", window_size=8, warmup=5),
    "river": DetectorSettings(method="GaussianScorer", grace_period=5, warmup=5),
}


def detection(given, reset=False, members=MEMBERS):
    return Detection(window_points=10, detectors=members, drift=DriftSettings(reset=reset, **given))


def made(given, reset=False, engine="numba", **more):
    return Pipeline(detection(given, reset, **more), engine=engine)


def shifting(n=300, at=150, seed=1):
    """Noise that is four times as wide from a point on, so that scores rise; the width then stays."""
    rng = random.Random(seed)
    values = [rng.gauss(50.0, 1.0) for _ in range(at)]
    return values + [rng.choice((-1.0, 1.0)) * 1.25**i for i in range(n - at)]


@METHODS
@ENGINES
def test_it_is_found_where_rivers_own_finds_it(given, engine):
    from river import drift as rivers

    params = {name: value for name, value in given.items() if name != "method"}
    own = getattr(rivers, given["method"])(**params)
    pipeline = made(given, engine=engine)
    outcome = pipeline.run(pipeline.sources(), points(shifting()))
    expected = []
    for status, score in zip(outcome.status, outcome.score.tolist()):
        if status == 1:
            own.update(score)
        expected.append(bool(status == 1 and own.drift_detected))
    assert outcome.drift.tolist() == expected
    assert 1 <= sum(expected) < 20


def test_nothing_is_found_where_nothing_is_asked_for():
    pipeline = Pipeline(Detection(window_points=10, detectors=MEMBERS))
    outcome = pipeline.run(pipeline.sources(), points(shifting()))
    assert not outcome.drift.any()
    assert [section.name for section in pipeline.profiles[0].sections][-1] == "detector:river"


def test_little_is_found_in_noise():
    for given in ({"method": "ADWIN"}, {"method": "PageHinkley"}):
        pipeline = made(given)
        outcome = pipeline.run(pipeline.sources(), points(gaussian(20_000)))
        assert outcome.drift.sum() == 0


def corpus():
    """Three sources in turn, of which two drift; with repeats, and a spike."""
    series = [shifting(120, 60, seed) for seed in (1, 2)] + [gaussian(120)]
    values = [values[i] for i in range(120) for values in series]
    found = points(values, ["x", "y", "z"] * 120)
    for i in range(200, 340, 7):  # the point before again: it is answered, not learned
        found.source[i], found.values[i], found.timestamp[i] = (
            found.source[i - 1], found.values[i - 1], found.timestamp[i - 1],
        )  # fmt: skip
    return found


@pytest.mark.parametrize("given", [{**ADWIN, "delta": 0.3}, PAGE], ids=lambda given: given["method"])
@pytest.mark.parametrize("reset", [False, True])
@how(max_examples=6, deadline=None)
@drawn(cuts=st.lists(st.integers(1, 359), max_size=8), engine=st.sampled_from(["numba", "python"]))
def test_results_and_state_do_not_depend_on_batches_restores_or_engine(given, reset, cuts, engine):
    one, other = made(given, reset), made(given, reset, engine)
    whole, parts = one.sources(), other.sources()
    outcome = one.run(whole, corpus())
    assert outcome.drift.any()
    split = []
    for batch in batches(corpus(), cuts):
        split.append(other.run(parts, batch))
        restored = other.sources()
        for data in states(parts).values():
            snapshot.loads(restored, data)
        parts = restored
    assert columns(split) == columns([outcome])
    assert states(parts) == states(whole)


@pytest.mark.parametrize("reset", [False, True])
@how(max_examples=8, deadline=None)
@drawn(cuts=st.lists(st.integers(1, 149), max_size=8), engine=st.sampled_from(["numba", "python"]))
def test_nor_do_those_of_vectors_and_several_profiles(reset, cuts, engine):
    from app.settings import SourceOverride

    rng = random.Random(3)
    rows = [
        {m: rng.gauss(0.0, 1.0) * 1.1 ** max(0, i - 70) for m in "pqr" if rng.random() < 0.8} or {"p": 0.0}
        for i in range(150)
    ]
    made_points = vectors(rows, ["a", "b", "pump-1"] * 50)
    override = SourceOverride(match="pump-*", drift=DriftSettings(reset=not reset, **PAGE))
    settings = detection({"method": "ADWIN", "clock": 1, "delta": 0.3}, reset)
    one, other = Pipeline(settings, [override]), Pipeline(settings, [override], engine=engine)
    whole, parts = one.sources(), other.sources()
    outcome = one.run(whole, made_points)
    split = [other.run(parts, batch) for batch in batches(made_points, cuts)]
    assert columns(split) == columns([outcome]) and states(parts) == states(whole)


@METHODS
@ENGINES
def test_a_reset_starts_the_detectors_anew_with_the_next_point(given, engine):
    pipeline = made(given, True, engine)
    values = shifting()
    outcome = pipeline.run(pipeline.sources(), points(values))
    first = int(np.flatnonzero(outcome.drift)[0])
    # What follows is what a source that begins there would have, but for its episode and its own counts.
    fresh = made({"method": "none"}, engine=engine)
    after = fresh.run(fresh.sources(), points(values[first + 1 :], start=first + 1))
    second = [*np.flatnonzero(outcome.drift[first + 1 :]), len(values)][0] + 1
    assert second > 5
    for name in ("score", "status", "votes", "expected", "lower", "upper"):
        np.testing.assert_array_equal(getattr(outcome, name)[first + 1 :][:second], getattr(after, name)[:second])
    assert (outcome.status[first + 1 : first + 6] == 0).all() and outcome.status[first] == 1


def test_a_repeat_after_a_drift_is_answered_by_what_was_known():
    pipeline = made(ADWIN, True)
    values = shifting()
    first = int(np.flatnonzero(pipeline.run(pipeline.sources(), points(values)).drift)[0])
    sources, twice = pipeline.sources(), pipeline.sources()
    before = pipeline.run(sources, points(values[: first + 1]))
    pipeline.run(twice, points(values[: first + 1]))
    again = pipeline.run(twice, points(values[first : first + 1], start=first))
    assert before.drift[-1] and not again.drift[0] and again.status[0] == 1
    assert states(sources, 0) == states(twice, 0)


def test_it_is_in_the_result_where_it_was_found():
    pipeline = made(ADWIN)
    all_points = points(shifting())
    outcome = pipeline.run(pipeline.sources(), all_points)
    results = [value for _, value in encode_results(all_points, outcome, "raw-data", 0)]
    assert [json.loads(value).get("drift", False) for value in results] == outcome.drift.tolist()
    assert any(b'"drift":true' in value for value in results)
    assert [value for _, value in encode_columns(all_points, outcome, "raw-data", 0).pairs()] == results


def test_other_parameters_start_it_anew_and_the_detectors_go_on():
    values = shifting(300, 290)
    for other, anew in (({**ADWIN, "delta": 0.01}, ["drift"]), (PAGE, ["drift"]), (ADWIN, [])):
        old, new = made(ADWIN), made(other)
        sources, restored = old.sources(), new.sources()
        old.run(sources, points(values))
        snapshot.loads(restored, snapshot.dumps(sources, 0, 0))
        assert sorted(restored.reset_sections) == anew
        assert (restored.models[0][-1][0] is None) == bool(anew)
        assert restored.models[0][0][0] is not None


def test_state_of_profiles_with_and_without_it_can_be_taken_over():
    for first, then in ((ADWIN, {"method": "none"}), ({"method": "none"}, ADWIN)):
        old, new = made(first), made(then)
        sources, restored = old.sources(), new.sources()
        old.run(sources, points(gaussian(50)))
        snapshot.loads(restored, snapshot.dumps(sources, 0, 0))
        later = points(gaussian(50, seed=8), start=50)
        np.testing.assert_array_equal(old.run(sources, later).score, new.run(restored, later).score)


@METHODS
def test_no_state_is_larger_than_stated(given):
    detector = drift.Drift(given["method"])
    for more in ({}, {"max_buckets": 20}) if given["method"] == "ADWIN" else ({},):
        params = detector.params.check("x", more)
        model = detector.make(params)
        for i in range(50_000):
            detector.update(model, 0.1 + 0.001 * (i % 7))
        size = len(detector.dumps(model))
        assert size <= detector.max_state_bytes(params) // 2
        pipeline = made({**given, **more})
        assert pipeline.max_snapshot_bytes() > detector.max_state_bytes(params)
        with pytest.raises(StateError):
            detector.loads(b"x", params)


def test_defaults_are_those_of_river():
    import inspect

    from river import drift as rivers

    for name, known in drift.METHODS.items():
        theirs = inspect.signature(getattr(rivers, name)).parameters
        assert {n: p.default for n, p in known.declared.items()} == {n: p.default for n, p in theirs.items()}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{method: ADWIN, delta: 2}", r"detection\.drift\.delta .*:2\): must be a number from 0 to 1, got 2"),
        ("{method: ADWIN, threshold: 2}", r"detection\.drift\.threshold .*no such parameter; it has delta"),
        ("{method: DDM}", r"detection\.drift\.method .*: must be none \| ADWIN \| PageHinkley"),
        ("{delta: 0.1}", r"detection\.drift\.delta .*method is none"),
        ("{method: ADWIN, reset: 3}", r"detection\.drift\.reset .*must be true or false"),
    ],
)
def test_wrong_settings_are_named(tmp_path, text, sentence):
    path = tmp_path / "anomaly.yaml"
    path.write_text(f"detection:\n  drift: {text}\n")
    with pytest.raises(ConfigurationError, match=sentence):
        load(path, {})


def test_a_variable_may_turn_it_on():
    found = load(None, {"ANOMALY_DETECTION__DRIFT__METHOD": "ADWIN", "ANOMALY_DETECTION__DRIFT__RESET": "true"})
    assert found.detection.drift.method == "ADWIN" and found.detection.drift.reset
