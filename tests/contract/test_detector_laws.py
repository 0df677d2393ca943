"""Laws that hold for every registered detector: a new one is tested by existing."""

import doctest
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_detectors import faulty, running_mean, undeclared_parameter
from support.points import (
    SMALL,
    Pipeline,
    alone,
    awkward,
    batches,
    columns,
    detection,
    fit_for,
    gaussian,
    points,
    states,
    together,
    vectors,
)

from app import detectors
from app.settings import HolidaySettings
from app.state import snapshot

KERNELS = sorted(detectors.KERNELS)
every_detector = pytest.mark.parametrize("method", KERNELS)


def in_one_batch(method, engine, made):
    """Results and state after these points."""
    pipeline = alone(method, engine)
    sources = pipeline.sources()
    return columns([pipeline.run(sources, made)]), states(sources)


def in_batches(method, engine, made, cuts):
    """Results and state after these points, cut before each of these numbers."""
    pipeline = alone(method, engine)
    sources = pipeline.sources()
    return columns([pipeline.run(sources, batch) for batch in batches(made, cuts)]), states(sources)


@cache
def awkward_points(method):
    return fit_for(method, together(awkward()))


@cache
def awkward_run(method, engine="numba"):
    return in_one_batch(method, engine, awkward_points(method))


@cache
def some_vectors():
    rng = np.random.default_rng(2)
    names = [f"s{k}" for k in rng.integers(0, 3, 90)]
    return vectors([{m: rng.normal() for m in "pqr" if rng.random() < 0.7} or {"p": 0.0} for _ in names], names)


@cache
def run_of_vectors(method):
    return in_one_batch(method, "numba", some_vectors())


@every_detector
def test_its_docstring_runs(method):
    module = detectors.KERNELS[method].module
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@every_detector
def test_compiled_and_plain_code_agree_in_every_bit(method):
    assert awkward_run(method, "numba") == awkward_run(method, "python")


def faults(method):
    """What is wrong with what a detector says of series that have broken detectors."""
    outcome = alone(method).run(alone(method).sources(), fit_for(method, together(awkward())))
    for column in (outcome.score, outcome.alert, outcome.cell_score):
        if not (np.isfinite(column).all() and column.min() >= 0.0 and column.max() <= 1.0):
            yield "scores outside 0..1"
    if (outcome.score < outcome.alert).any():
        yield "a score below that of the alert"
    if (outcome.status == 2).any():
        yield "degraded"
    if not np.isfinite(outcome.votes[outcome.status == 1]).all():
        yield "no vote after warming up"


@every_detector
def test_scores_are_finite_and_within_0_and_1(method):
    assert not list(faults(method))


def test_a_detector_that_answers_inf_is_seen(monkeypatch):
    """The negative control."""
    monkeypatch.setattr(detectors, "KERNELS", dict(detectors.KERNELS))
    detectors.register(faulty)
    monkeypatch.setitem(globals(), "awkward", lambda: {"a": [*gaussian(20), 13.0, *gaussian(20)]})
    assert set(faults("faulty")) == {"degraded"}


@every_detector
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 13 * 150), max_size=12))
def test_results_and_state_do_not_depend_on_the_batches(method, cuts):
    assert in_batches(method, "numba", awkward_points(method), cuts) == awkward_run(method)


@every_detector
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 90), max_size=12), engine=st.sampled_from(["numba", "python"]))
def test_nor_do_those_of_vectors(method, cuts, engine):
    assert in_batches(method, engine, some_vectors(), cuts) == run_of_vectors(method)


@every_detector
@pytest.mark.parametrize("engine", ["numba", "python"])
def test_a_restored_snapshot_goes_on_as_the_original(method, engine):
    pipeline, corpus = alone(method, engine), fit_for(method, together(awkward()))
    before, after = batches(corpus, [13 * 70 + 5])
    original, restored = pipeline.sources(), pipeline.sources()
    pipeline.run(original, before)
    for data in states(original).values():
        snapshot.loads(restored, data)
    assert columns([pipeline.run(original, after)]) == columns([pipeline.run(restored, after)])
    assert states(original) == states(restored)


def looks_ahead(score, values, at):
    """Does any score before ``at`` change when what comes from ``at`` on does?"""
    changed = [*values[:at], *(1e6 - v for v in values[at:])]
    return score(values)[:at] != score(changed)[:at]


@every_detector
@pytest.mark.parametrize("at", [6, 40, 99])
def test_no_score_depends_on_later_points(method, at):
    assert not looks_ahead(timed(method), gaussian(100), at)


def test_a_detector_that_scales_by_the_whole_series_is_seen_to_look_ahead():
    def leaky(values):
        return [v / max(values) for v in values]

    assert looks_ahead(leaky, gaussian(100), 99)


def learns_before_it_scores(band, values):
    """Does what is expected of the last point depend on that point?"""
    return band(values) != band([*values[:-1], values[-1] + 1000.0])


@every_detector
def test_what_is_expected_of_a_point_does_not_depend_on_it(method):
    def band(values):
        outcome = alone(method).run(alone(method).sources(), points(values))
        return outcome.expected[-1], outcome.lower[-1], outcome.upper[-1]

    if detectors.KERNELS[method].band:
        assert np.isfinite(band(gaussian(100))).all()
        assert not learns_before_it_scores(band, gaussian(100))


def test_a_mean_that_holds_its_own_point_is_seen_to_learn_before_it_scores():
    assert learns_before_it_scores(lambda values: sum(values) / len(values), gaussian(50))


@every_detector
@pytest.mark.parametrize("warmup", [1, 7])
def test_it_does_not_vote_before_it_has_learned_its_warmup(method, warmup):
    pipeline = alone(method, warmup=warmup)
    warmup += pipeline.profiles[0].members[0].silent
    outcome = pipeline.run(pipeline.sources(), fit_for(method, points(gaussian(warmup + 30))))
    assert (outcome.status[:warmup] == 0).all() and (outcome.status[warmup:] == 1).all()
    assert np.isnan(outcome.votes[:warmup]).all() and np.isfinite(outcome.votes[warmup:]).all()
    assert (outcome.score[:warmup] == 0.0).all() and np.isnan(outcome.expected[:warmup]).all()


def other(default):
    """Another value for a parameter with this default."""
    if isinstance(default, float):
        return default / 6.0
    return 7 if default > 7 else default + 1


def state_of(method, **given):
    """Rows and models of every source after the corpus, without what says whether an episode is open."""
    pipeline = Pipeline(detection(method, **SMALL.get(method, {}), **given))
    sources = pipeline.sources()
    pipeline.run(sources, fit_for(method, together(awkward())))
    profile = pipeline.profiles[0]
    rows = [sources.cells[0].dump(i) for i in range(sources.cells[0].count)]
    models = [adapter.dumps(m) for (_, adapter), of in zip(profile.adapters, sources.models[0]) for m in of]
    return rows, models, [section.digest for section in profile.sections]


def judging(method):
    return [name for name, p in detectors.find(method).params.declared.items() if p.keeps_state]


@pytest.mark.parametrize("method", detectors.names())
def test_what_only_judges_leaves_the_state_as_it_is(method):
    """So a snapshot goes on when it is changed: see app/state/snapshot.py."""
    plain = state_of(method)
    assert judging(method) and any(map(any, plain[0]))
    for name in judging(method):
        default = detectors.find(method).params.declared[name].default
        assert state_of(method, **{name: other(default)}) == plain, name


def test_a_parameter_that_does_more_than_judge_is_seen(monkeypatch):
    """The negative control."""
    monkeypatch.setattr(detectors, "KERNELS", dict(detectors.KERNELS))
    detectors.register(undeclared_parameter)
    one, other = state_of("undeclared_parameter"), state_of("undeclared_parameter", threshold=0.5)
    assert one[0] != other[0] and one[2] == other[2]


def grows(pipeline):
    """Does a snapshot become larger with the points learned, or than was reckoned with?"""
    sources = pipeline.sources()
    pipeline.run(sources, points(gaussian(10)))
    first = size(sources)
    pipeline.run(sources, points(gaussian(20_000), start=10))
    return size(sources) != first or first > pipeline.max_snapshot_bytes()


def size(sources):
    """Bytes of the snapshot, if it had the words that are 0 too."""
    words = np.frombuffer(sources.cells[0].dump(0), np.uint64)
    return len(snapshot.dumps(sources, 0, 0)) + 8 * int((words == 0).sum())


@every_detector
def test_its_state_does_not_grow(method):
    assert not grows(alone(method))


class Hoarder(running_mean.Running):
    """Keeps every value."""

    def make(self, params):
        return {**super().make(params), "past": []}

    def learn_one(self, model, x, t):
        super().learn_one(model, x, t)
        model["past"].append(x)

    def dumps(self, model):
        return super().dumps(model) + np.array(model["past"]).tobytes()


def test_a_state_that_grows_is_seen(monkeypatch):
    """The negative control."""
    with running_mean.added():
        assert not grows(Pipeline(detection("running")))
        monkeypatch.setattr(running_mean, "Running", Hoarder)
        assert grows(Pipeline(detection("running")))


# What a detector declares to see (api.py, TARGETS), it sees; and where that kind is not there, it is quiet. Each law
# takes a function from values and times to scores.


def sees_spikes(score):
    """A far outlier scores above everything before it."""
    found = score([*gaussian(290), 1000.0])
    return found[-1] > max(found[:-1]) and found[-1] >= 0.8


def sees_shifts(score):
    """A level that stays three deviations higher is an anomaly within 20 points; one spike is none."""
    shifted = score([*gaussian(200), *gaussian(20, seed=8, mean=16.0)])
    struck = score([*gaussian(200), 1000.0, *gaussian(20, seed=8)])
    return max(shifted[200:]) >= 0.8 > max(shifted[:200]) and max(struck) < 0.8


def sees_runs(score):
    """A stuck value is an anomaly until it moves; values constant or repeated by nature are none, nor is an outlier."""
    stuck = score([*gaussian(100), *[10.0] * 60, *gaussian(20, seed=8)])
    held = [float(v) for v in np.random.default_rng(3).permutation(np.arange(60) % 12) for _ in range(int(v) + 4)]
    quiet = [[5.0] * 300, held, [*gaussian(100), 1000.0, *gaussian(20)]]
    return min(stuck[130:160]) >= 0.8 > max(stuck[:101] + stuck[160:]) and all(max(score(v)) < 0.8 for v in quiet)


def sees_gaps(score):
    """The first point after a pause is an anomaly, whatever its value, and no other; nor are late and equal times."""
    times = (60.0 * np.arange(200)).tolist()
    found = score([5.0] * 200, [*times[:150], *(t + 900.0 for t in times[150:])])
    late = score(gaussian(200), [*times[:100], times[97], times[101], times[101], *times[103:]])
    return found[150] >= 0.8 > max(found[:150] + found[151:]) and max(late) < 0.8


TARGETS = {"spikes": sees_spikes, "shifts": sees_shifts, "runs": sees_runs, "gaps": sees_gaps}


def timed(method):
    """Scores of a series by one detector; a point a minute unless times are given."""

    def score(values, times=None):
        made = points(values)
        made.timestamp = times or made.timestamp
        return alone(method).run(alone(method).sources(), fit_for(method, made)).alert.tolist()

    return score


@every_detector
def test_it_sees_what_it_declares_to_see(method):
    assert TARGETS[detectors.KERNELS[method].targets](timed(method))


@pytest.mark.parametrize(
    ("kind", "other"), [("spikes", "flatline"), ("shifts", "zscore"), ("runs", "zscore"), ("gaps", "flatline")]
)
def test_a_detector_of_another_kind_is_seen_to_miss_it(kind, other):
    """The negative control."""
    assert not TARGETS[kind](timed(other))


def rises(score, side):
    """Does no outlier on this side score lower than a smaller one?"""
    sizes = [10.0, 12.0, 15.0, 20.0, 50.0, 1e3, 1e6, 1e12, 1e100]
    found = [score([*gaussian(290), 10.0 + side * size])[-1] for size in sizes]
    return found == sorted(found)


@every_detector
@pytest.mark.parametrize("side", [1, -1], ids=["above", "below"])
def test_a_larger_outlier_never_scores_lower(method, side):
    if detectors.KERNELS[method].targets == "spikes":
        assert rises(timed(method), side)


def test_a_score_that_falls_with_the_size_is_seen():
    """The negative control: a density, taken for a score."""
    assert not rises(lambda values: [1.0 / (1.0 + abs(values[-1]))], 1)


def depends_on_the_calendar(method):
    """Do scores or state of two weeks differ in another time zone, or with holidays?"""
    made = fit_for(method, points([*gaussian(150), 1000.0, *gaussian(150, seed=8)]))
    made.timestamp = [1_766_000_000.0 + 3600.0 * i for i in range(len(made))]  # over Christmas
    found = []
    for more in ({}, {"timezone": "Asia/Kathmandu"}, {"holidays": HolidaySettings(country="DE")}):
        given = detection(method, warmup=5, **SMALL.get(method, {})).model_copy(update=more)
        pipeline = Pipeline(given, engine="python")
        sources = pipeline.sources()
        outcome = pipeline.run(sources, made)
        rows = [sources.cells[0].dump(i) for i in range(sources.cells[0].count)]
        found.append((outcome.score.tobytes(), outcome.alert.tobytes(), outcome.expected.tobytes(), rows))
    return found[0] != found[1] or found[0] != found[2]


@every_detector
def test_it_depends_on_time_zone_and_holidays_only_where_it_says_so(method):
    """Else a snapshot would go on with hours of another calendar."""
    assert depends_on_the_calendar(method) == detectors.KERNELS[method].seasonal


UNITS = {"scale": [(1e-6, 0.0), (3.0, 0.0), (1e6, 0.0)], "shift": [(1.0, 123.4), (1.0, -1e4)]}


def depends_on_units(score, a, b):
    """Do scores differ by more than 1e-6 when every value x becomes a x + b?"""
    values = [*gaussian(320), 25.0, *gaussian(30, seed=8), *[11.0] * 12, *gaussian(30, seed=9, mean=18.0)]
    return not np.allclose(score([a * x + b for x in values]), score(values), rtol=0.0, atol=1.1e-6)


@every_detector
@pytest.mark.parametrize("change", UNITS)
def test_scores_are_the_same_in_other_units_where_it_says_so(method, change):
    if change in detectors.KERNELS[method].invariant:
        assert not any(depends_on_units(timed(method), *units) for units in UNITS[change])


@pytest.mark.parametrize("change", UNITS)
def test_a_score_that_is_the_distance_from_0_is_seen_to_depend_on_units(change):
    """The negative control."""
    assert any(depends_on_units(lambda values: np.abs(values), *units) for units in UNITS[change])
