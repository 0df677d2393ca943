"""How votes become one score, and what several metrics say jointly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_detectors import scripted_episodes, size_of_metric
from support.points import Pipeline, batches, columns, detection, gaussian, points, states, vectors

from app import detectors
from app.detectors.kinds import KINDS
from app.errors import ConfigurationError
from app.scoring import ensemble
from app.scoring.episodes import REASONS
from app.scoring.profile import QUIET_POINTS
from app.settings import Detection, DetectorSettings, load
from app.state import snapshot
from app.state.sources import JOINT

NAN = float("nan")
vote = st.floats(0, 1).map(lambda v: round(v, 6))


def combined(mode, votes, weights):
    return ensemble.combine(ensemble.MODES.index(mode), range(len(votes)), votes, weights)


@given(st.lists(st.tuples(vote | st.just(NAN), st.floats(0.1, 9)), min_size=1, max_size=6), vote)
def test_each_way_to_one_score_is_what_its_name_says(drawn, threshold):
    votes, weights = map(list, zip(*drawn, strict=True))
    cast = [(v, w) for v, w in drawn if v == v]
    if not cast:
        assert all(combined(mode, votes, weights) == 0.0 for mode in ensemble.MODES)
        return
    found = {mode: combined(mode, votes, weights) for mode in ensemble.MODES}
    average = np.average([v for v, _ in cast], weights=[w for _, w in cast])
    assert found["weighted_average"] == found["skill"] == pytest.approx(average, abs=6e-7)
    assert found["max"] == max(v for v, _ in cast)
    if threshold > 0.0:
        above = math.fsum(w for v, w in cast if v >= threshold)
        total = math.fsum(w for _, w in cast)
        if abs(2 * above - total) > 1e-9:
            assert (found["majority_vote"] >= threshold) == (2 * above > total)


def test_a_vote_that_is_left_out_has_no_share():
    votes, weights = [0.5, NAN, 0.1], [1.0, 5.0, 3.0]
    shares = [ensemble.share(k, range(3), votes, weights) for k in range(3)]
    assert shares[0] == 0.25 and math.isnan(shares[1]) and shares[2] == 0.75


def run(given_points, engine="numba", **settings):
    pipeline = Pipeline(Detection(window_points=20, **settings), engine=engine)
    sources = pipeline.sources()
    return pipeline.run(sources, given_points), pipeline, sources


def members(**of):
    return {name: DetectorSettings(**{"method": name, **given}) for name, given in of.items()}


def test_an_ensemble_within_another_gives_the_score_of_its_own_members():
    near, far = {"method": "zscore", "warmup": 3, "threshold": 3.0}, {"method": "zscore", "warmup": 3, "threshold": 9.0}
    ma = {"method": "moving_average", "warmup": 3}
    both = {"method": "ensemble", "ensemble": "max", "members": ["near", "far"], "weight": 3.0}
    outcome, pipeline, _ = run(
        points([*gaussian(60), 99.0]), detectors=members(near=near, both=both, ma=ma, far=far), threshold=0.5
    )
    names = pipeline.profiles[0].detectors
    assert names == ("near", "ma", "far", "both")
    votes = dict(zip(names, outcome.votes.T, strict=True))
    scored = outcome.status == 1
    assert scored.sum() > 50
    assert (votes["both"] == np.maximum(votes["near"], votes["far"]))[scored].all()
    assert np.allclose(outcome.score[scored], ((votes["ma"] + 3 * votes["both"]) / 4)[scored], atol=1e-6)
    shares = dict(zip(names, outcome.shares[-1], strict=True))
    assert outcome.anomaly[-1]
    assert shares == {"near": 0.5, "far": 0.5, "ma": 0.25, "both": 0.75}
    assert "of the last" in outcome.explanation[60]


def test_a_detector_that_expects_better_counts_for_more():
    """A trend is followed by a short mean far better than by a long one."""
    short, long = {"method": "moving_average", "window_size": 2}, {"method": "moving_average", "window_size": 20}
    ramp = points([float(i) for i in range(1500)] + [9999.0])
    outcome, _, _ = run(ramp, detectors=members(short=short, long=long), ensemble="skill", threshold=0.01)
    short_share, long_share = outcome.shares[-1]
    # How far off a mean of n points of a ramp is: (n + 1) / 2.
    assert short_share / long_share == pytest.approx((10.5 / 1.5) ** 2, rel=0.01)
    assert short_share + long_share == pytest.approx(1.0)


@pytest.mark.parametrize("mode", ensemble.MODES)
@pytest.mark.parametrize("engine", ["numba", "python"])
def test_no_ensemble_depends_on_batches_engine_or_a_restart(mode, engine):
    given = members(
        a={"method": "moving_average", "window_size": 4, "warmup": 3},
        b={"method": "zscore", "warmup": 5},
        c={"method": "ensemble", "ensemble": mode, "members": ["b", "d"], "weight": 2.0},
        d={"method": "moving_average", "warmup": 8},
    )
    corpus = points([*gaussian(50), 90.0, 91.0, *gaussian(30, seed=3)])
    whole, _, sources = run(corpus, detectors=given, ensemble=mode)
    pipeline = Pipeline(Detection(window_points=20, detectors=given, ensemble=mode), engine=engine)
    first, last = batches(corpus, [41])
    before, after = pipeline.sources(), pipeline.sources()
    parts = [pipeline.run(before, first)]
    snapshot.loads(after, states(before)["a"])
    parts.append(pipeline.run(after, last))
    assert columns(parts) == columns([whole])
    assert states(after) == states(sources)


WRONG = [
    ("detectors: {x: {method: ensemble}}", "detection.detectors.x.members", "must name at least one detector"),
    ("detectors: {x: {method: ensemble, members: [y]}}", "detection.detectors.x.members", "got 'y'"),
    ("detectors: {x: {method: ensemble, members: [x]}}", "detection.detectors.x.members", "lead back to itself"),
    (
        "detectors: {x: {method: ensemble, members: [z]}, y: {method: ensemble, members: [z]}, z: {method: zscore}}",
        "detection.detectors.y.members",
        "got 'z' again",
    ),
    ("detectors: {zscore: {members: [zscore]}}", "detection.detectors.zscore.members", "with method: ensemble"),
    ("method: ensemble", "detection.detectors", "must have at least one detector"),
    ("{method: auto, detectors: {zscore: {}}}", "detection.detectors.zscore", "give method: ensemble"),
]


@pytest.mark.parametrize(("text", "setting", "what"), WRONG)
def test_an_ensemble_that_cannot_be_is_named(text, setting, what, tmp_path):
    file = tmp_path / "anomaly.yaml"
    file.write_text(f"detection: {text}\n" if text.startswith("{") else f"detection:\n  {text}\n")
    with pytest.raises(ConfigurationError) as error:
        load(file, {})
    assert str(error.value).startswith(setting) and what in str(error.value)


# --- several metrics


@pytest.fixture
def with_channels(monkeypatch):
    monkeypatch.setattr(detectors, "KERNELS", dict(detectors.KERNELS))
    detectors.register(size_of_metric)
    detectors.register(scripted_episodes)


GIVEN = {"moving_average": {"warmup": 2}, "size_of_metric": {}, "scripted_episodes": {}}
each_engine = pytest.mark.parametrize("engine", ["numba", "python"])


@each_engine
def test_several_metrics_are_scored_jointly(with_channels, engine):
    made = vectors([{"p": 1.0, "q": 0.0}, {"p": 3.0, "q": 4.0}, {"p": -6.0, "q": 8.0}, {"p": 5.0}])
    outcome, pipeline, sources = run(made, engine, detectors=members(**GIVEN))
    joint = [NAN, math.sqrt(12.5), math.sqrt(50.0), 5.0]  # the first point is learned
    expected = [0.0, *(round(z / (z + 1.0), 6) for z in joint[1:])]
    names = pipeline.profiles[0].detectors
    assert outcome.votes[1:, names.index("size_of_metric")].tolist() == expected[1:]
    # a metric's own score is what its channel says
    assert outcome.cell_score.tolist()[2:] == pytest.approx([3 / 4, 4 / 5, 6 / 7, 8 / 9, 5 / 6], abs=1e-6)
    surprises = [round(1 - 0.2 * 10 ** (3.0 - e), 6) if e > 2.3 else 0.0 for e in joint[1:]]
    assert outcome.alert[1:].tolist() == pytest.approx(surprises, abs=1e-6)
    assert outcome.score[1:].tolist() == pytest.approx(np.maximum(expected[1:], 0.8).tolist(), abs=1e-6)
    assert list(sources.metrics(0)) == ["p", "q", JOINT]
    assert outcome.anomaly.tolist() == [False, True, True, True]
    assert outcome.explanation[2] == "all metrics together: 7.071 reported by scripted_episodes, 7.071 decades"


def test_one_metric_alone_has_no_channels(with_channels):
    outcome, pipeline, sources = run(points([1.0, 2.0, 9.0]), detectors=members(**GIVEN))
    names = pipeline.profiles[0].detectors
    assert np.isnan(outcome.votes[:, names.index("size_of_metric")]).all()
    assert outcome.alert[2] == pytest.approx(1 - 0.2 * 10**-6)
    assert list(sources.metrics(0)) == ["value"]


@each_engine
def test_an_episode_goes_on_while_its_detector_says_so(with_channels, engine):
    values = [1.0] * 5 + [9.0] + [2.5] * 50 + [1.0] * 20
    given = members(moving_average={"warmup": 2, "window_size": 3}, scripted_episodes={"threshold": 5.0})
    outcome, _, _ = run(points(values), engine, detectors=given)
    assert np.flatnonzero(outcome.opened).tolist() == [5]
    quiet = (outcome.score < 0.4) & (np.array(values) <= 2.0)
    ends = next(i for i in range(5, len(values)) if quiet[i - QUIET_POINTS + 1 : i + 1].all())
    assert ends >= 60 and (outcome.score[20:50] < 0.4).all(), "it would have ended long before"
    assert np.flatnonzero(outcome.closed).tolist() == [ends]
    assert (outcome.peak[outcome.anomaly] == outcome.alert[5]).all()
    assert REASONS[outcome.reason[ends]] == "recovered" and np.flatnonzero(outcome.reason).tolist() == [ends]


TWO = {"moving_average": {"warmup": 2, "window_size": 3}, "scripted_episodes": {"threshold": 5.0}}


@each_engine
def test_an_episode_ends_where_its_detector_says_that_it_has_become_normal(with_channels, engine):
    values = [1.0] * 5 + [9.0] + [2.5] * 10 + [-1.0] + [2.5] * 10
    outcome, _, _ = run(points(values), engine, detectors=members(**TWO))
    assert np.flatnonzero(outcome.opened).tolist() == [5] and np.flatnonzero(outcome.closed).tolist() == [16]
    assert REASONS[outcome.reason[16]] == "adapted" and outcome.kind[16] == 0 and outcome.length[16] == 11
    assert not outcome.anomaly[16:].any()


@each_engine
def test_an_episode_goes_on_while_one_detector_says_so_whatever_another_says(with_channels, engine):
    """Of the two metrics, q would end it at once."""
    given = members(scripted_episodes={"threshold": 5.0})
    made = [{"p": 1.0, "q": 1.0}] * 3 + [{"p": 9.0, "q": -1.0}] + [{"p": 2.5, "q": -1.0}] * 3 + [{"p": 1.0, "q": -1.0}]
    outcome, _, _ = run(vectors(made), engine, detectors=given)
    assert np.flatnonzero(outcome.opened).tolist() == [3] and np.flatnonzero(outcome.closed).tolist() == [7]


@each_engine
def test_a_repeated_point_ends_no_episode(with_channels, engine):
    made = points([1.0, 9.0, 2.5, -1.0, -1.0])
    made.timestamp[4] = made.timestamp[3]
    outcome, _, _ = run(made, engine, detectors=members(**TWO))
    assert outcome.repeat[4] and np.flatnonzero(outcome.closed).tolist() == [3]


@each_engine
@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_a_point_that_opens_an_episode_scores_as_much_as_it_alerts_up_to_the_line(with_channels, engine, threshold):
    given = members(moving_average={"warmup": 2, "threshold_multiplier": 1e6}, scripted_episodes={"threshold": 5.0})
    made = points([1.0, 1.2] * 5 + [4.7] + [-1.0] * 5 + [9.0] + [-1.0] * 5)
    outcome, _, _ = run(made, engine, detectors=given, threshold=threshold)
    alert = outcome.alert[[10, 16]].tolist()
    assert 0.5 < alert[0] < 0.8 and alert[1] > 0.9
    assert np.flatnonzero(outcome.opened).tolist() == ([10, 16] if threshold < 0.8 else [16])
    assert outcome.score[16] == 0.8 and (outcome.score[10] == alert[0]) == (threshold < 0.8)
    others = [i for i in range(22) if i not in (10, 16)]
    assert (outcome.score[others] < 0.01).all() and (outcome.cell_score == outcome.score).all()


@each_engine
def test_where_the_alert_makes_the_score_no_vote_has_a_share_in_it(with_channels, engine):
    given = members(
        moving_average={"warmup": 2, "threshold_multiplier": 1e6}, zscore={"warmup": 2}, scripted_episodes={}
    )
    outcome, _, _ = run(points([1.0, 1.2] * 9 + [9.0, 2.1]), engine, detectors=given)
    assert outcome.anomaly[18:].all() and outcome.score[18] == 0.8 < outcome.alert[18] > outcome.alert[19]
    assert np.isnan(outcome.shares[18]).all() and outcome.attribution[18] == {"value": 0.8}
    assert outcome.shares[19, :2].sum() == 1.0 and outcome.score[19] > outcome.alert[19]


@each_engine
def test_a_point_of_several_metrics_is_explained_by_the_one_that_alerts(monkeypatch, with_channels, engine):
    monkeypatch.setattr(scripted_episodes, "SCOPE", "metric")
    detectors.register(scripted_episodes)
    given = members(moving_average={"warmup": 2}, scripted_episodes={})
    made = vectors([{"p": 1.0 + 0.1 * (i % 2), "q": 1.0} for i in range(9)] + [{"p": 2.9, "q": 9.0}])
    outcome, _, _ = run(made, engine, detectors=given)
    assert outcome.explanation[9].startswith("q: 9 reported by scripted_episodes")
    assert outcome.attribution[9]["q"] == outcome.score[9] == outcome.alert[9]


def lower(s, p, x, at, w):
    return 9.0 - x


@each_engine
@pytest.mark.parametrize(("rows", "opens"), [(1, True), (2, False)])
def test_metrics_that_are_all_nearer_to_their_levels_than_usual_open_no_episode(
    monkeypatch, with_channels, engine, rows, opens
):
    """The detector tells of low values: those of one metric are told, what several say jointly is not."""
    monkeypatch.setattr(scripted_episodes, "step", lower)
    detectors.register(scripted_episodes)
    high, low = ({f"m{i}": value for i in range(rows)} for value in (20.0, 0.0))
    outcome, _, _ = run(vectors([high, high, low] * 7), engine, detectors=members(**GIVEN))
    assert outcome.anomaly.any() == opens


@each_engine
def test_a_detector_of_sources_alone_scores_too(with_channels, engine):
    outcome, _, _ = run(points([1.0, 1.0, 9.0]), engine, method="scripted_episodes")
    assert outcome.score.tolist() == outcome.alert.tolist()
    assert outcome.anomaly.tolist() == [False, False, True]


@each_engine
def test_what_metrics_say_jointly_is_restored_and_does_not_depend_on_batches(with_channels, engine):
    rng = np.random.default_rng(2)
    names = [f"s{k}" for k in rng.integers(0, 3, 90)]
    made = vectors([{m: rng.normal() for m in "pqr" if rng.random() < 0.6} or {"value": 0.0} for _ in names], names)
    whole, _, sources = run(made, detectors=members(**GIVEN))
    pipeline = Pipeline(Detection(window_points=20, detectors=members(**GIVEN)), engine=engine)
    first, *rest = batches(made, [33, 34, 70])
    before, after = pipeline.sources(), pipeline.sources()
    parts = [pipeline.run(before, first)]
    for data in states(before).values():
        snapshot.loads(after, data)
    parts += [pipeline.run(after, part) for part in rest]
    assert columns(parts) == columns([whole])
    assert states(after) == states(sources)
    assert max(map(len, states(after).values())) <= pipeline.max_snapshot_bytes()


def test_settings_without_channels_drop_what_metrics_said_jointly(with_channels):
    made = vectors([{"p": 1.0, "q": 0.0}, {"p": 3.0, "q": 4.0}])
    _, _, sources = run(made, detectors=members(**GIVEN))
    plain = Pipeline(detection("moving_average"))
    restored = plain.sources()
    snapshot.loads(restored, states(sources)["a"])
    assert list(restored.metrics(0)) == ["p", "q"]
    back = Pipeline(Detection(window_points=20, detectors=members(**GIVEN))).sources()
    snapshot.loads(back, states(restored)["a"])
    outcome = Pipeline(Detection(window_points=20, detectors=members(**GIVEN))).run(
        back, vectors([{"q": 2.0}, {"q": 2.0}], start=2)
    )
    assert list(back.metrics(0)) == ["p", "q", JOINT] and np.isfinite(outcome.score).all()


def test_the_largest_snapshot_counts_what_metrics_say_jointly(with_channels):
    """The negative control: a source with as many metrics as it may have is larger than they are alone."""
    settings = Detection(window_points=20, detectors=members(**GIVEN))
    pipeline = Pipeline(settings, max_metrics=2)
    sources = pipeline.sources()
    pipeline.run(sources, vectors([{"p" * 128: 1.0, "q" * 128: 0.0}], "s" * 256))
    for rows in (sources.cells[0], sources.pairs):
        rows.data.view(np.uint8)[:] = 1  # snapshots leave out what is 0
    size = len(snapshot.dumps(sources, 0, 0))
    assert size <= pipeline.max_snapshot_bytes() < size + pipeline.profiles[0].cell.itemsize


def lowly(s, p, x, w):
    return (1.0 if x < 10.0 else 0.0), x, p.threshold


def test_an_explanation_is_the_one_that_the_detector_says(monkeypatch, with_channels):
    templates = ("{value} is high", "{value} is low, {figure} {beside} {usual}")
    monkeypatch.setattr(scripted_episodes, "EXPLANATION", templates)
    monkeypatch.setattr(scripted_episodes, "why", lowly, raising=False)
    detectors.register(scripted_episodes)
    given = members(moving_average={"warmup": 2}, scripted_episodes={})
    outcome, _, _ = run(points([1.0, 1.0, 9.0, 1.0, 12.0]), "python", detectors=given)
    assert outcome.explanation[2] == "9 is low, 9 above 3" and outcome.explanation[4] == "12 is high"
    assert outcome.figure == {2: (9.0, 3.0), 4: (12.0, 3.0)}, "at 3 another leads"


@each_engine
def test_an_episode_keeps_the_kind_with_which_it_opened(monkeypatch, with_channels, engine):
    monkeypatch.setattr(scripted_episodes, "EXPLANATION", ("{value} is high", "{value} is low"))
    monkeypatch.setattr(scripted_episodes, "KINDS", ("rate", "missing"), raising=False)
    monkeypatch.setattr(scripted_episodes, "why", lowly, raising=False)
    detectors.register(scripted_episodes)
    given = members(zscore={"warmup": 3}, scripted_episodes={})
    values = [1.0, 1.1, 9.0, 12.0, -1.0, 12.0, 9.0]
    detection = Detection(window_points=20, detectors=given)
    pipeline = Pipeline(detection, engine=engine)
    sources, kinds, parts = pipeline.sources(), [], []
    for one in batches(points(values), range(1, len(values))):
        parts.append(pipeline.run(sources, one))
        kinds += [KINDS[kind] if kind >= 0 else None for kind in parts[-1].kind.tolist()]
    assert kinds == [None] * 2 + ["missing"] * 3 + ["rate"] * 2
    assert parts[4].closed[0] and columns(parts) == columns([pipeline.run(pipeline.sources(), points(values))])


@each_engine
def test_the_kind_of_an_implausible_value_is_value(with_channels, engine):
    given = members(flatline={"warmup": 1})
    outcome, _, _ = run(points([*[1.0, 2.0, 3.0] * 4, *[1.0] * 30, 99.0]), engine, detectors=given, range_highest=50.0)
    found = [KINDS[outcome.kind[i]] for i in np.flatnonzero(outcome.opened).tolist()]
    assert found == ["stuck"] and outcome.kind[-1] == KINDS.index("stuck")  # goes on
    outcome, _, _ = run(points([*[1.0, 2.0, 3.0] * 4, 99.0]), engine, detectors=given, range_highest=50.0)
    assert outcome.opened[-1] and KINDS[outcome.kind[-1]] == "value"


@pytest.mark.parametrize("given", ["spike", ("value", "value"), ()])
def test_a_detector_whose_kinds_do_not_fit_its_sentences_is_refused(monkeypatch, with_channels, given):
    monkeypatch.setattr(scripted_episodes, "KINDS", given, raising=False)
    with pytest.raises(TypeError, match="scripted_episodes: KINDS must have one of value, record, "):
        detectors.register(scripted_episodes)


@each_engine
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_second_metric_says_nothing_of_points_before_it_in_the_batch(with_channels, engine, cut):
    made = vectors([{"p": 1.0}, {"p": 2.0}, {"p": 3.0, "q": 4.0}, {"p": 5.0}])
    whole, pipeline, sources = run(made, engine, detectors=members(**GIVEN))
    parts = pipeline.sources()
    assert columns([pipeline.run(parts, part) for part in batches(made, [cut])]) == columns([whole])
    assert states(parts) == states(sources)
