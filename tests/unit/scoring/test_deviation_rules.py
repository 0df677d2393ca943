"""Which deviations count as the settings say, over every detector: laws, and what an episode comes to."""

import numpy as np
import pytest
from sample_detectors import scripted_episodes, size_of_metric
from support.points import SMALL, gaussian, points, states, vectors

from app import detectors
from app.pipeline import Pipeline
from app.scoring import deviation_rules
from app.settings import Detection, DetectorSettings, SourceOverride

METRICS = {name: k for name, k in detectors.KERNELS.items() if k.scope == "metric"}
VALUED = sorted(name for name, k in METRICS.items() if k.targets in ("spikes", "shifts"))
NUMBERS = [*gaussian(100), 30.0, *gaussian(30, seed=8), -10.0, *gaussian(30, seed=9), *gaussian(20, seed=3, mean=16.0)]
ENGINES = pytest.mark.parametrize("engine", ["numba", "python"])


def settings(method, **given):
    own = DetectorSettings(method=method, warmup=5, **SMALL.get(method, {}))
    return Detection(window_points=20, detectors={method: own}, **given)


def outcome(method, values=NUMBERS, engine="numba", **given):
    pipeline = Pipeline(settings(method, **given), engine=engine)
    return pipeline.run(pipeline.sources(), points(values))


def middles(values):
    """What stands in for an expected value: the median of the 20 values before."""
    return np.array([np.median(values[max(0, i - 20) : i]) if i else 0.0 for i in range(len(values))])


def away(found, values=NUMBERS):
    """How far each value lies above the expected one, and that one."""
    expected = np.where(np.isnan(found.expected), middles(values), found.expected)
    return np.array(values) - expected, expected


@pytest.mark.parametrize("method", [*VALUED, "StandardAbsoluteDeviation"])
@pytest.mark.parametrize(
    "given",
    [
        {"direction": "above"},
        {"direction": "below"},
        {"min_deviation": 3.0},
        {"min_deviation_relative": 0.4},
        {"direction": "above", "min_deviation": 2.0, "min_deviation_relative": 0.1},
    ],
    ids=str,
)
def test_a_score_is_what_it_was_where_the_deviation_counts_and_0_elsewhere(method, given):
    free, ruled = outcome(method), outcome(method, **given)
    distance, expected = away(free)
    counts = np.abs(distance) >= given.get("min_deviation", 0.0)
    counts &= np.abs(distance) >= given.get("min_deviation_relative", 0.0) * np.abs(expected)
    if "direction" in given:
        counts &= (distance > 0.0) if given["direction"] == "above" else (distance < 0.0)
    assert ruled.score.tolist() == np.where(counts, free.score, 0.0).tolist()
    assert ruled.alert.tolist() == np.where(counts, free.alert, 0.0).tolist()
    assert ruled.expected.tobytes() == free.expected.tobytes()
    if "direction" in given or not (
        method in METRICS and METRICS[method].opens_episodes
    ):  # else it scores nothing so near
        assert (free.score != ruled.score).any(), "the series has something to leave out"
    assert not (ruled.opened & ~counts).any()


@pytest.mark.parametrize("method", sorted(set(METRICS) - set(VALUED)))
def test_what_is_no_matter_of_a_value_is_not_held_to_it(method):
    """A stuck value and a pause lie nowhere: a rule on sides and distances says nothing of them."""
    given = {"direction": "above", "min_deviation": 1e6, "min_deviation_relative": 5.0}
    values = [*gaussian(60), *[7.0] * 60]
    made = points(values)
    made.timestamp[100:] = [t + 3600.0 for t in made.timestamp[100:]]
    free, ruled = (Pipeline(one) for one in (settings(method), settings(method, **given)))
    found = free.run(free.sources(), made)
    assert found.score.max() >= 0.8
    assert ruled.run(ruled.sources(), made).score.tolist() == found.score.tolist()


@pytest.mark.parametrize("method", detectors.names())
def test_a_value_outside_the_range_scores_1_whatever_detectors_find(method):
    if method not in detectors.KERNELS and method != "StandardAbsoluteDeviation":
        pytest.skip("one of River's stands for all")
    low, high = 8.0, 15.0
    values = [9.0, 1.0, *NUMBERS]
    found = outcome(method, values, range_lowest=low, range_highest=high, direction="below", min_deviation=1e9)
    outside = np.array([v < low or v > high for v in values])
    assert outside[:5].any(), "some lie in the warm-up"
    assert (found.score[outside] == 1.0).all() and (found.alert[outside] == 1.0).all() and found.anomaly[outside].all()
    assert (found.direction[outside] == np.where(np.array(values)[outside] > high, 1, -1)).all()
    assert (found.score[~outside] == 0.0).all() or method in ("flatline", "gaps")
    known = ~np.isnan(found.expected)
    for column in (found.expected, found.lower, found.upper):
        assert ((column[known] >= low) & (column[known] <= high)).all()


@ENGINES
def test_its_explanation_is_the_range(engine):
    found = outcome("zscore", [*gaussian(60), 1000.0, -5.0], engine, range_lowest=0.0, range_highest=100.0)
    assert found.explanation[60] == "1000 is above 100, the highest plausible value"
    assert found.explanation[61] == "-5 is below 0, the lowest plausible value"
    assert found.attribution[60] == {"value": 1.0}


def test_one_end_of_the_range_is_enough():
    values = [50.0] * 30 + [-1e150, 101.0]
    assert outcome("zscore", values, range_highest=100.0, direction="above").score[-2:].tolist() == [0.0, 1.0]


@ENGINES
@pytest.mark.parametrize("method", ["moving_average", "ewma"])
def test_of_several_metrics_each_is_held_to_it(engine, method):
    quiet = [{"a": a, "b": b} for a, b in zip(gaussian(60), gaussian(60, seed=8))]
    made = vectors([*quiet, {"a": 30.0, "b": -30.0}, *quiet[:5], {"a": -30.0, "b": 10.0}, {"a": 10.0, "b": 500.0}])
    pipeline = Pipeline(settings(method, direction="above", range_highest=400.0), engine=engine)
    found = pipeline.run(pipeline.sources(), made)
    cells = found.cell_score.reshape(-1, 2)
    assert cells[60, 0] > 0.8 and cells[60, 1] == 0.0 and found.score[60] == cells[60, 0]
    assert cells[66, 0] == 0.0 and found.score[66] < 0.8
    assert cells[67, 1] == 1.0 == found.score[67]
    assert found.explanation[67] == "b: 500 is above 400, the highest plausible value"


def test_rules_leave_the_state_of_detectors_as_it_is():
    """So that a change of them resets nothing."""
    one, other = (Pipeline(settings("autoregression", **g)) for g in ({}, {"direction": "above", "range_lowest": 9.0}))
    rows_ = []
    for pipeline in (one, other):
        sources = pipeline.sources()
        pipeline.run(sources, points(NUMBERS))
        rows_.append([sources.cells[0].dump(i) for i in range(sources.cells[0].count)])
    assert rows_[0] == rows_[1]
    assert [s.digest for s in one.profiles[0].sections] == [s.digest for s in other.profiles[0].sections]


def test_engines_agree_under_rules():
    given = {"direction": "above", "min_deviation": 1.0, "min_deviation_relative": 0.1, "range_lowest": 8.0}
    pipelines = [Pipeline(settings("seasonal", **given), engine=engine) for engine in ("numba", "python")]
    sources = [pipeline.sources() for pipeline in pipelines]
    found = [pipeline.run(own, points(NUMBERS)) for pipeline, own in zip(pipelines, sources)]
    for name in ("score", "alert", "expected", "lower", "upper", "votes", "direction"):
        assert getattr(found[0], name).tobytes() == getattr(found[1], name).tobytes()
    assert states(sources[0]) == states(sources[1])


@pytest.mark.parametrize(
    "given",
    [{"direction": "above"}, {"min_deviation": 1.0}, {"min_deviation_relative": 0.1}, {"range_lowest": 0.0},
     {"range_highest": 9.0}],
    ids=str,
)  # fmt: skip
def test_a_rule_changes_the_config_hash_and_may_be_given_for_some_sources(given):
    pipeline = Pipeline(settings("zscore"), [SourceOverride(match="pump-*", **given)])
    free, ruled = pipeline.profiles
    assert free.config_hash != ruled.config_hash
    assert ruled.config_hash == Pipeline(settings("zscore", **given)).profiles[0].config_hash


def test_an_expected_value_that_is_not_known_counts():
    class Ruled:
        direction, min_deviation, min_deviation_relative = deviation_rules.ABOVE, 5.0, 0.0

    counts = deviation_rules.counts
    assert counts(Ruled, 1.0, float("nan")) and not counts(Ruled, 1.0, 2.0)
    assert counts(Ruled, 7.0, 2.0) and not counts(Ruled, 6.9, 2.0) and not counts(Ruled, -7.0, 2.0)


@pytest.fixture
def with_channels(monkeypatch):
    monkeypatch.setattr(detectors, "KERNELS", dict(detectors.KERNELS))
    for module in (size_of_metric, scripted_episodes):
        detectors.register(module)


@ENGINES
def test_no_episode_opens_or_lasts_through_another_detector_against_the_rules(with_channels, engine):
    """``scripted_episodes`` opens episodes by the size of the value, and says that they last."""
    both = {
        "zscore": DetectorSettings(method="zscore", warmup=5),
        "scripted_episodes": DetectorSettings(method="scripted_episodes"),
    }
    values = [*[-1.0, -2.0] * 15, -1.5, *[5.0] * 3, *[2.5] * 8, -1.0]

    def found(**given):
        pipeline = Pipeline(Detection(window_points=20, detectors=both, **given), engine=engine)
        return pipeline.run(pipeline.sources(), points(values))

    assert found().anomaly[31:42].all() and found(direction="above").anomaly[31:42].all()
    assert not found(direction="below").alert[31:42].any() and not found(direction="below").anomaly.any()
    near = found(min_deviation=5.0)
    assert near.opened[31] and not near.anomaly[41], "2.5 is too near to what is expected to go on"


@ENGINES
def test_what_metrics_say_jointly_counts_where_one_of_them_does(with_channels, engine):
    members = {
        "zscore": DetectorSettings(method="zscore", warmup=5),
        "size_of_metric": DetectorSettings(method="size_of_metric"),
    }
    quiet = [{"a": 0.1 * (i % 3), "b": 0.1 * (i % 4)} for i in range(30)]
    made = vectors([*quiet, {"a": 9.0, "b": -9.0}, {"a": -9.0, "b": -9.0}, {"a": 0.1, "b": 99.0}])

    def found(**given):
        pipeline = Pipeline(Detection(window_points=20, detectors=members, **given), engine=engine)
        return pipeline.run(pipeline.sources(), made)

    free, ruled = found(), found(direction="above", range_highest=50.0)
    assert (free.score[30:] > 0.8).all()
    assert ruled.score[30] == free.score[30] and ruled.score[31] == 0.0 and ruled.score[32] == 1.0
    assert ruled.cell_score.reshape(-1, 2)[30, 1] == 0.0 < ruled.cell_score.reshape(-1, 2)[30, 0]
    assert ruled.explanation[32] == "b: 99 is above 50, the highest plausible value"
