import os
import platform
import subprocess
import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from sample_detectors import faulty, sized_state
from support.points import alone, columns, detection, gaussian, points, scores, states, vectors

from app import detectors
from app.errors import ConfigurationError
from app.pipeline import Pipeline
from app.settings import Detection, DetectorSettings, SourceOverride

ROOT = Path(__file__).parents[3]
ENGINES = pytest.mark.parametrize("engine", ["numba", "python"])
STEADY = [9.0, 11.0] * 10  # a window of mean 10 and standard deviation 1


@pytest.fixture
def with_faulty(monkeypatch):
    monkeypatch.setattr(detectors, "KERNELS", dict(detectors.KERNELS))
    detectors.register(faulty)


def run(pipeline, values, **kw):
    sources = pipeline.sources()
    return sources, pipeline.run(sources, points(values, **kw))


# What a score is


def test_a_moving_average_scores_as_a_plain_one_over_a_deque():
    pipeline = alone("moving_average", window_size=7)
    series = [*gaussian(120), 40.0, *gaussian(60, seed=9, std=5.0)]
    last: deque = deque(maxlen=7)
    expected = []
    for i, x in enumerate(series):
        z = abs(x - np.mean(last)) / np.std(last) if i >= 5 else 0.0
        expected.append(z / (z + 3.0 / 4.0))
        last.append(x)
    assert scores(pipeline, series) == pytest.approx(expected, abs=1.1e-6)


def test_a_score_of_080_lies_on_the_line():
    assert scores(alone("zscore"), [*STEADY, 13.0])[-1] == 0.8
    assert scores(alone("zscore"), [*STEADY, 12.99])[-1] < 0.8


def test_a_window_grows_to_the_largest_moving_average_asked_for():
    assert Pipeline(detection(window_points=20, window_size=50)).profiles[0].window_points == 50


def test_what_is_expected_is_the_band_of_the_detector():
    _, outcome = run(alone("moving_average"), [*STEADY, 10.5])
    assert (outcome.expected[-1], outcome.lower[-1], outcome.upper[-1]) == pytest.approx((10.0, 7.0, 13.0))
    assert outcome.direction[-1] == 1
    assert outcome.direction[:5].tolist() == [0] * 5, "nothing is expected while warming up"


@ENGINES
@pytest.mark.parametrize("ensemble", ["weighted_average", "max"])
def test_votes_become_one_score(engine, ensemble):
    both = {
        "narrow": DetectorSettings(method="moving_average", weight=3.0, window_size=4, warmup=4),
        "wide": DetectorSettings(method="zscore", weight=1.0, warmup=8),
    }
    pipeline = Pipeline(detection(ensemble=ensemble, detectors=both), engine=engine)
    assert pipeline.profiles[0].detectors == ("narrow", "wide")
    _, outcome = run(pipeline, gaussian(30))
    votes = outcome.votes
    assert np.isnan(votes[:8, 1]).all() and np.isfinite(votes[4:8, 0]).all()
    assert outcome.score[4:8] == pytest.approx(votes[4:8, 0], abs=1e-6), "one that is not ready has no weight"
    expected = np.average(votes[8:], axis=1, weights=[3, 1]) if ensemble == "weighted_average" else votes[8:].max(1)
    assert outcome.score[8:] == pytest.approx(expected, abs=1e-6)


def test_a_weight_of_zero_shows_a_vote_that_does_not_count():
    both = {
        "counts": DetectorSettings(method="moving_average", window_size=4, warmup=4),
        "shown": DetectorSettings(method="zscore", weight=0.0, warmup=4),
    }
    _, outcome = run(Pipeline(detection(detectors=both)), gaussian(30))
    assert outcome.score[5:].tolist() == outcome.votes[5:, 0].tolist() != outcome.votes[5:, 1].tolist()


# The last point again


@ENGINES
def test_an_exact_repeat_is_answered_but_not_learned(engine):
    pipeline = alone("moving_average", engine)
    once, twice = pipeline.sources(), pipeline.sources()
    for i, x in enumerate([*gaussian(25), 100.0, *gaussian(10, seed=8)]):
        point = points([x], start=i)
        pipeline.run(once, point)
        first = pipeline.run(twice, point)
        again = pipeline.run(twice, point)
        assert again.status[0] == first.status[0] or i == 4, "the fifth point ends the warm-up"
        assert again.anomaly[0] == first.anomaly[0] and not again.opened[0] and not again.closed[0]
        assert states(twice) == states(once)


def test_a_repeat_within_a_batch_is_seen_too():
    pipeline = alone("moving_average")
    values = gaussian(30)
    doubled = points([x for x in values for _ in range(2)])
    doubled.timestamp = [60.0 * (i // 2) for i in range(60)]
    doubled.offset = [i // 2 for i in range(60)]
    sources, plain = pipeline.sources(), pipeline.sources()
    pipeline.run(sources, doubled)
    pipeline.run(plain, points(values))
    assert states(sources) == states(plain)


@pytest.mark.parametrize("change", ["time", "value", "kafka time", "in between"])
def test_what_is_no_exact_repeat_is_learned(change):
    pipeline = alone("moving_average")
    sources = pipeline.sources()
    first = points([5.0], own=change != "kafka time")
    pipeline.run(sources, first)
    before = states(sources)
    second = points([5.0], own=change != "kafka time")
    if change == "time":
        second.timestamp = [1.0]
    if change == "value":
        second.values = [6.0]
    if change == "in between":
        pipeline.run(sources, points([7.0], start=1))
        before = states(sources)
    pipeline.run(sources, second)
    assert states(sources) != before


def test_a_vector_repeats_only_with_the_same_metrics_and_values():
    pipeline = alone("moving_average")

    def state(*given):
        sources = pipeline.sources()
        for one in given:
            pipeline.run(sources, vectors([one]))
        return states(sources)

    both = {"p": 1.0, "t": 2.0}
    assert state(both, both) == state(both)
    assert state(both, {"p": 1.0}) != state(both)
    assert state({"p": 1.0}, both) != state({"p": 1.0})
    assert state(both, {"p": 1.0, "t": 3.0}) != state(both)


# Episodes


@ENGINES
def test_an_episode_opens_at_the_threshold_and_closes_below_it(engine):
    pipeline = alone("moving_average", engine)
    _, o = run(pipeline, [*STEADY, 50.0, 500.0, 11.0, 10.0, 5000.0])
    assert np.flatnonzero(o.opened).tolist() == [20, 24] and np.flatnonzero(o.closed).tolist() == [22]
    assert np.flatnonzero(o.anomaly).tolist() == [20, 21, 24]
    assert o.episode_offset[20:25].tolist() == [20, 20, 20, -1, 24]
    assert (o.length[22], o.opened_at[22]) == (2, 60.0 * 20)
    assert o.peak[22] == max(o.score[20:22]) and o.peak[20] == o.score[20]
    assert (o.alert[o.anomaly] >= 0.8).all() and (o.alert[~o.anomaly] < 0.8).all()


def test_the_threshold_is_a_setting():
    _, o = run(Pipeline(detection("zscore", threshold_=0.9)), [*STEADY * 2, 14.0, 10.0, 30.0])
    assert o.score[40] > 0.8 and np.flatnonzero(o.opened).tolist() == [42]


def test_an_anomaly_says_why_and_which_metric():
    _, o = run(alone("moving_average"), [*STEADY, 12.4, 14.1])
    mean, std = np.mean([*STEADY[1:], 12.4]), np.std([*STEADY[1:], 12.4])
    assert list(o.explanation) == [21] == list(o.attribution)
    assert o.explanation[21] == (
        f"14.1 is {(14.1 - mean) / std:.4g} standard deviations above the mean {mean:.4g} of the last 20 points"
    )
    assert o.attribution[21] == {"value": o.score[21]}


def test_a_vector_is_as_odd_as_its_oddest_metric():
    rng = np.random.default_rng(1)
    given = [{"p": rng.normal(1, 0.1), "t": rng.normal(50, 5)} for _ in range(40)]
    given.append({"p": 3.0, "t": 30.0})
    pipeline = alone("moving_average")
    o = pipeline.run(pipeline.sources(), vectors(given))
    p, t = (scores(pipeline, [one[m] for one in given]) for m in ("p", "t"))
    assert o.cell_score.tolist() == [v for pair in zip(p, t) for v in pair]
    assert o.score.tolist() == [max(pair) for pair in zip(p, t)]
    assert o.attribution[40] == {"p": p[40], "t": t[40]} and o.explanation[40].startswith("p: 3 is ")


def test_a_missing_metric_is_not_learned():
    pipeline = alone("moving_average")
    sources, other = pipeline.sources(), pipeline.sources()
    pipeline.run(sources, vectors([{"p": 1.0, "t": 2.0}, {"t": 3.0}, {"p": 2.0}]))
    pipeline.run(other, vectors([{"p": 1.0, "t": 2.0}, {"p": 2.0}]))
    rows = [s.cells[0].dump(s.metrics(0)["p"])[8:] for s in (sources, other)]  # all but the point's number
    assert rows[0] == rows[1]


def test_a_metric_of_another_name_is_a_row_of_its_own():
    pipeline = alone("moving_average")
    sources = pipeline.sources()
    named = points([1.0, 2.0])
    named.metrics = ["speed", "value"]
    pipeline.run(sources, named)
    assert sources.metrics(0) == {"speed": 0, "value": 1}
    pipeline.run(sources, points([3.0], start=2))
    assert sources.metrics(0) == {"speed": 0, "value": 1} and sources.cells[0].count == 2


# Limits


@pytest.mark.parametrize("known", [True, False])
def test_a_point_with_too_many_metrics_is_rejected_and_changes_nothing(known):
    pipeline = Pipeline(detection(), max_metrics=2)
    sources = pipeline.sources()
    if known:
        pipeline.run(sources, vectors([{"a": 1.0, "b": 1.0}]))
    before = states(sources)
    o = pipeline.run(sources, vectors([{"a": 1.0, "b": 1.0, "c": 1.0}], start=1))
    assert [r[:2] for r in o.rejected] == [(0, "too_many_metrics")] and o.slot[0] == -1
    assert "input.max_metrics" in o.rejected[0].reason and ("'c'" in o.rejected[0].reason) == known
    assert states(sources) == before and len(sources) == known


def test_the_points_beside_a_rejected_one_are_scored_as_without_it():
    pipeline = Pipeline(detection(warmup=5), max_metrics=1)
    values = [*gaussian(30), 99.0]
    mixed = [{"p": v} for v in values]
    mixed.insert(10, {"p": 1.0, "q": 2.0})
    mixed.insert(31, {"q": 2.0})
    o = pipeline.run(pipeline.sources(), vectors(mixed))
    kept = [i for i in range(len(mixed)) if i not in (10, 31)]
    assert [r.position for r in o.rejected] == [10, 31]
    assert o.score[kept].tolist() == scores(pipeline, values)
    assert list(o.explanation) == np.flatnonzero(o.anomaly).tolist() and o.anomaly[32]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.1e150])
def test_values_that_would_break_the_arithmetic_are_refused_whole(bad):
    pipeline = alone("moving_average")
    sources = pipeline.sources()
    with pytest.raises(ValueError, match="finite"):
        pipeline.run(sources, points([1.0, bad]))
    assert len(sources) == 0


def test_no_points_are_no_outcome():
    assert len(alone("moving_average").run(alone("moving_average").sources(), points([]))) == 0


# A detector that fails


@ENGINES
@pytest.mark.parametrize("bad", [13.0, 14.0])
def test_a_detector_that_fails_is_reset_and_the_others_go_on(with_faulty, engine, bad):
    members = {
        "sound": DetectorSettings(method="zscore", warmup=5),
        "faulty": DetectorSettings(method="faulty", warmup=3),
    }
    pipeline = Pipeline(detection(detectors=members), engine=engine)
    values = gaussian(20)
    values[10] = bad
    sources, o = run(pipeline, values)
    assert np.flatnonzero(o.status == 2).tolist() == [10]
    left_out = np.flatnonzero(np.isnan(o.votes[:, 1])).tolist()
    assert left_out == [0, 1, 2, 10, 11, 12, 13], "three points of warm-up, and again"
    assert o.score[10:14].tolist() == o.votes[10:14, 0].tolist()
    later = sources.cells[0].dump(0)[pipeline.profiles[0].sections[2].start :]
    fresh, _ = run(pipeline, values[11:])
    assert fresh.cells[0].dump(0)[pipeline.profiles[0].sections[2].start :] == later


def test_compiled_and_plain_code_agree_about_a_detector_that_fails(with_faulty):
    values = [13.0, 14.0, 1.0, 2.0, 2.0, *gaussian(20), 13.0, *gaussian(20), 14.0, 14.0, 3.0]
    found = []
    for engine in ("numba", "python"):
        pipeline = Pipeline(detection("faulty"), engine=engine)
        sources, o = run(pipeline, values)
        repeat = pipeline.run(sources, points([3.0, 3.0], start=len(values) - 1))
        found.append((columns([o, repeat]), states(sources)))
    assert found[0] == found[1]


def test_a_state_may_have_the_size_of_a_parameter(with_faulty):
    detectors.register(sized_state)
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert detectors.api.run("sized_state", values, lag=2)[4:] == [(16 - 4) / 2, (32 - 8) / 2]
    found = {}
    for lag in (2, 5):
        for engine in ("numba", "python"):
            pipeline = Pipeline(detection("sized_state", lag=lag, warmup=5), engine=engine)
            sources, o = run(pipeline, gaussian(40))
            found[lag, engine] = columns([o]), states(sources)
    assert found[2, "numba"] == found[2, "python"] and found[5, "numba"] == found[5, "python"]
    assert len(found[5, "numba"][1]["a"]) - len(found[2, "numba"][1]["a"]) == 3 * 8


# Several profiles


@ENGINES
def test_a_source_belongs_to_the_first_profile_that_matches(engine):
    base = detection(warmup=5)
    one = SourceOverride(match="pump-[12]", window_points=30, threshold=0.5)
    two = SourceOverride(match="pump-*", detectors={"zscore": DetectorSettings(method="zscore", warmup=6)})
    pipeline = Pipeline(base, [one, two], engine=engine)
    names = ["pump-1", "fan", "pump-3", "pump-2"]
    assert [pipeline.profile_of(name) for name in names] == [1, 0, 2, 1]
    series = {name: [*gaussian(60, seed=i), 99.0] for i, name in enumerate(names)}
    mixed = points([series[name][i] for i in range(61) for name in names], names * 61)
    sources = pipeline.sources()
    o = pipeline.run(sources, mixed)
    for i, name in enumerate(names):
        assert [o.profiles[k] for k in o.profile[i::4]] == [pipeline.profiles[pipeline.profile_of(name)]] * 61
        settings = [base, base.overridden(one), base.overridden(two)][pipeline.profile_of(name)]
        _, single = run(Pipeline(settings, engine=engine), series[name])
        assert o.score[i::4].tolist() == single.score.tolist()
        assert o.expected[i::4].tobytes() == single.expected.tobytes()
        assert o.explanation[240 + i] == single.explanation[60]
    assert len({profile.config_hash for profile in pipeline.profiles}) == 3


def test_a_config_hash_covers_what_shapes_a_result():
    def hashed(**kw):
        return Pipeline(detection(**kw)).profiles[0].config_hash

    assert hashed() == hashed() and len(hashed()) == 8 and int(hashed(), 16) >= 0
    changed = [{"window_points": 21}, {"threshold_": 0.7}, {"weight": 2.0}, {"ensemble": "max"}]
    changed.append({"threshold_multiplier": 2.0})
    assert len({hashed(), *(hashed(**kw) for kw in changed)}) == 6


def test_a_detectors_name_alone_is_a_method():
    given = detection(detectors={"statistical": DetectorSettings(method="zscore", threshold=2.5)})
    alone_by_name = Pipeline(given.model_copy(update={"method": "statistical"})).profiles[0]
    assert alone_by_name.detectors == ("statistical",) and alone_by_name.members[0].params["threshold"] == 2.5
    by_default = Pipeline(given.model_copy(update={"method": "moving_average"})).profiles[0]
    assert by_default.members[0].params["threshold_multiplier"] == 3.0


def test_an_unknown_detector_or_parameter_is_named():
    with pytest.raises(ConfigurationError, match=r"'moving_avarage'; known are .*moving_average"):
        Pipeline(detection().model_copy(update={"method": "moving_avarage"}))


def test_sources_know_how_many_are_warming_up():
    pipeline = alone("moving_average")
    sources = pipeline.sources()
    pipeline.run(sources, points([1.0] * 8, ["a"] * 6 + ["b"] * 2))
    assert (len(sources), sources.warming_up, sources.slots["b"], sources.slots.get("c")) == (2, 1, 1, None)
    assert sources.names == ["a", "b"] and sources.nbytes > 0


def test_a_thousand_sources_grow_the_rows_and_keep_their_state():
    pipeline = alone("moving_average")
    names = [f"s{i}" for i in range(1000)]
    sources = pipeline.sources()
    for k in range(3):
        pipeline.run(sources, points(np.arange(1000.0) + k, names, start=1000 * k))
    single = pipeline.sources()
    for k in range(3):
        one = points([777.0 + k], "s777")
        one.timestamp, one.offset = [60.0 * (1000 * k + 777)], [1000 * k + 777]
        pipeline.run(single, one)
    assert states(sources)["s777"] == states(single)["s777"]


PAGES = """
from resource import RUSAGE_SELF, getrusage
from support.points import gaussian, points
from app.pipeline import Pipeline
from app.settings import Detection
pipeline = Pipeline(Detection())
sources, batch = pipeline.sources(), points(gaussian(4000), [f"s{i % 400}" for i in range(4000)])
for again in range(25):
    pipeline.run(sources, batch)
    if again == 4:
        before = getrusage(RUSAGE_SELF).ru_minflt
print((getrusage(RUSAGE_SELF).ru_minflt - before) // 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others give memory back by other rules")
def test_a_batch_takes_the_memory_of_the_one_before():
    """Without new pages of 4 KiB from the kernel. Control: so it is where freed memory is given back at once."""
    Pipeline(Detection()).compile()

    def pages(**environ):
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environ}
        return int(subprocess.check_output([sys.executable, "-c", PAGES], env=environ, text=True))

    assert pages() < 100 < pages(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
