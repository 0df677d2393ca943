"""Detectors that are Python objects, through the pipeline."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_detectors import running_mean
from support.points import batches, columns, detection, gaussian, points, states

from app.errors import ConfigurationError
from app.pipeline import Pipeline
from app.settings import Detection, DetectorSettings
from app.state import snapshot

ENGINES = pytest.mark.parametrize("engine", ["numba", "python"])


@pytest.fixture(autouse=True, scope="module")
def with_library():
    with running_mean.added():
        yield


def made(engine="numba", **params):
    return Pipeline(detection("running", **params), engine=engine)


@ENGINES
def test_it_scores_before_it_learns_and_votes_after_its_warmup(engine):
    pipeline = made(engine)
    values = gaussian(30)
    o = pipeline.run(pipeline.sources(), points(values))
    assert (o.status[:3] == 0).all() and (o.status[3:] == 1).all()
    mean, raw = 0.0, []
    for x in values:
        raw.append(abs(x - mean))
        mean += 0.05 * (x - mean)
    past = np.array(raw[:3])  # equal shares so far: the plain mean and deviation
    z = max(0.0, (raw[3] - past.mean()) / past.std())
    assert o.score[3] == pytest.approx(z / (z + 0.75), abs=1.1e-6)


@ENGINES
@pytest.mark.parametrize("bad", [13.0, 14.0, 15.0])
def test_a_model_that_raises_panics_or_answers_nan_is_reset(engine, bad):
    pipeline = made(engine)
    values = gaussian(20)
    values[10] = bad
    sources, fresh = pipeline.sources(), pipeline.sources()
    o = pipeline.run(sources, points(values))
    assert np.flatnonzero(o.status == 2).tolist() == [10]
    assert np.flatnonzero(np.isnan(o.votes[:, 0])).tolist() == [0, 1, 2, 10, 11, 12, 13]
    pipeline.run(fresh, points(values[11:]))
    assert sources.models[0][0] == fresh.models[0][0]


@ENGINES
def test_a_repeat_is_not_learned_even_when_it_fails(engine):
    pipeline = made(engine)
    once, twice = pipeline.sources(), pipeline.sources()
    for i, x in enumerate([*gaussian(8), 13.0, 2.0, 14.0, 2.0]):
        pipeline.run(once, points([x], start=i))
        pipeline.run(twice, points([x], start=i))
        again = pipeline.run(twice, points([x], start=i))
        assert not again.opened[0]
        assert states(once) == states(twice)


def test_an_interrupt_is_not_a_failure_of_the_model(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running_mean.Running, "learn_one", interrupted)
    pipeline = made()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(pipeline.sources(), points([1.0]))


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 179), max_size=12), engine=st.sampled_from(["numba", "python"]))
def test_results_and_state_do_not_depend_on_the_batches(cuts, engine):
    members = {"a": DetectorSettings(method="running"), "b": DetectorSettings(method="moving_average", warmup=5)}
    values = gaussian(180, mean=12.0, std=4.0)
    values[50], values[90], values[91] = 13.0, 14.0, 15.0
    corpus = points(values, ["x", "y", "x"] * 60)
    one = Pipeline(detection(detectors=members))
    other = Pipeline(detection(detectors=members), engine=engine)
    whole, parts = one.sources(), other.sources()
    once = columns([one.run(whole, corpus)])
    split = columns([other.run(parts, batch) for batch in batches(corpus, cuts)])
    assert split == once and states(parts) == states(whole)


def test_the_explanation_is_its_own():
    pipeline = made()
    o = pipeline.run(pipeline.sources(), points([*gaussian(40), 500.0]))
    assert o.explanation[40] == "500 is far from what running knows" and np.isnan(o.expected[40])


def test_its_parameters_are_checked_like_any_others():
    with pytest.raises(ConfigurationError, match=r"running.*forget: must be a number above 0, got -1.0"):
        made(forget=-1.0)


def test_an_unread_model_is_stored_as_none():
    pipeline = made()
    sources = pipeline.sources()
    pipeline.run(sources, points([13.0]))
    assert sources.models[0][0] == [None]
    restored = pipeline.sources()
    snapshot.loads(restored, snapshot.dumps(sources, 0, 0))
    assert restored.models[0][0] == [None]


def test_the_default_ensemble_is_small_and_goes_on_after_a_restore():
    pipeline = Pipeline(Detection())
    names = pipeline.profiles[0].detectors
    assert names == ("prediction_interval", "residual", "level", "novelty", "StandardAbsoluteDeviation")
    sources, restored = pipeline.sources(), pipeline.sources()
    o = pipeline.run(sources, points([*gaussian(300), 100.0]))
    assert np.isfinite(np.delete(o.votes[-1], names.index("level"))).all() and o.anomaly[-1]
    data = snapshot.dumps(sources, 0, 300)
    assert pipeline.profiles[0].cell.itemsize <= 10_000, "docs/operations.md tells how much memory a source takes"
    assert len(data) < 10_500 and len(data) <= pipeline.max_snapshot_bytes()
    snapshot.loads(restored, data)
    later = points(gaussian(100, seed=8), start=301)
    assert columns([pipeline.run(sources, later)]) == columns([pipeline.run(restored, later)])
    assert states(sources) == states(restored)
