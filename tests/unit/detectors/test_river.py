import inspect
import json
import math
import random
import statistics
import subprocess
import sys
from statistics import NormalDist

import pytest
from support.points import awkward, detection, kinds, points, together

from app import detectors
from app.detectors import api
from app.detectors import river as module
from app.detectors.support import river_state
from app.detectors.support.normal import FARTHEST
from app.errors import ConfigurationError, StateError

CASES = {
    "GaussianScorer": [{}, {"window_size": 40, "grace_period": 10}],
    "PredictiveAnomalyDetection": [{}, {"p": 2, "d": 0, "q": 0, "learning_rate": 0.005, "warmup_period": 50}],
    "OneClassSVM": [{}, {"nu": 0.3, "learning_rate": 0.05}],
    "LODA": [{}, {"n_bins": 6, "n_random_cuts": 4, "seed": 7}],
    "LocalOutlierFactor": [{"window_size": 40}, {"n_neighbors": 4, "window_size": 30}],
}
ALL = [(name, given) for name, cases in CASES.items() for given in cases]


def series(points=700, seed=4):
    rng = random.Random(seed)
    return [rng.gauss(50.0, 5.0) + (60.0 if rng.random() < 0.01 else 0.0) for _ in range(points)]


def made(name, given):
    adapter = detectors.find(name)
    params = adapter.params.check(name, given)
    return adapter, params, adapter.make(params)


def scored(adapter, model, values):
    scores = []
    for x in values:
        scores.append(adapter.score_one(model, x, 0.0))
        adapter.learn_one(model, x, 0.0)
    return scores


def test_every_detector_has_cases():
    assert set(CASES) == set(module.adapters())


def test_names_and_parameters_are_known_without_importing_river():
    script = (
        "import sys; from app import detectors\n"
        "for n in ('LODA', 'GaussianScorer'):\n"
        "    a = detectors.find(n); p = detectors.check(n, {}); a.version, a.max_state_bytes(a.params.check(n, {}))\n"
        "assert set(detectors.names()) >= {'LODA', 'GaussianScorer'}\n"
        "print('river' in sys.modules, 'scipy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert found == "False False\n"


OTHERWISE = {  # said in the module's docstring
    *(("PredictiveAnomalyDetection", name) for name in ("n_std", "warmup_period", "p", "d", "q", "learning_rate")),
    *(("LODA", "n_random_cuts"), ("LocalOutlierFactor", "window_size")),
}


def test_defaults_are_those_of_river():
    from river import anomaly, optim

    for name in CASES:
        theirs = inspect.signature(getattr(anomaly, name)).parameters
        for parameter, ours in detectors.find(name).params.declared.items():
            if parameter in ("threshold", "warmup", "seed") or (name, parameter) in OTHERWISE:
                continue
            default = optim.SGD().learning_rate if parameter == "learning_rate" else theirs[parameter].default
            assert ours.default == (default or 0), (name, parameter)


@pytest.mark.parametrize("name", sorted(CASES))
def test_another_river_is_another_version(name, monkeypatch):
    import river

    mine = module.River(name).version
    assert module.installed("river") == river.__version__
    monkeypatch.setattr(module, "installed", lambda package: "0.27.0")
    assert module.River(name).version != mine
    assert 0 <= mine < 1 << 32


# --- scores


def test_standard_absolute_deviation_scores_as_rivers_own():
    from river import anomaly

    own, values = anomaly.StandardAbsoluteDeviation(), series()
    expected = []
    for x in values:
        expected.append(own.score_one(None, x))
        own.learn_one(None, x)
    got = api.run("StandardAbsoluteDeviation", values, warmup=2)
    assert got[2:] == pytest.approx(expected[2:], rel=2e-15)


@pytest.mark.parametrize("given", CASES["GaussianScorer"])
def test_gaussian_scorer_is_rivers_own_in_deviations(given):
    from river import anomaly

    own = anomaly.GaussianScorer(given.get("window_size"), given.get("grace_period", 100))
    adapter, _, model = made("GaussianScorer", given)
    seen = 0
    for x, z in zip(series(), scored(adapter, model, series())):
        share = own.score_one(None, x)
        direct = abs(x - own.gaussian.mu) / own.gaussian.sigma if share else 0.0
        if 0.0 < share < 1.0:
            assert z == pytest.approx(-NormalDist().inv_cdf((1.0 - share) / 2.0), rel=1e-12)
            assert z == pytest.approx(direct, rel=1e-6) or direct > 7.0  # a share near 1 has few digits left
            seen += 1
        else:
            assert z == min(direct, FARTHEST)
        own.learn_one(None, x)
    assert seen > 500


def squared_errors(given):
    """PredictiveAnomalyDetection of River, its forecaster made by hand."""
    from river import anomaly, linear_model, optim, preprocessing, time_series

    rate = given.get("learning_rate", 0.01)
    line = preprocessing.TargetStandardScaler(linear_model.LinearRegression(optim.SGD(rate)))
    return anomaly.PredictiveAnomalyDetection(
        time_series.SNARIMAX(
            p=given.get("p", 4),
            d=given.get("d", 1),
            q=given.get("q", 1),
            regressor=preprocessing.StandardScaler() | line,
        ),
        n_std=10.0,
        warmup_period=given.get("warmup_period", 100),
    )


@pytest.mark.parametrize("given", CASES["PredictiveAnomalyDetection"])
def test_predictive_anomaly_detection_alerts_where_rivers_own_is_cut(given):
    own = squared_errors(given)
    adapter, params, model = made("PredictiveAnomalyDetection", given)
    cut = 0
    for i, (x, score) in enumerate(zip(series(1500), scored(adapter, model, series(1500)))):
        mean, spread = own.dynamic_mae.get(), math.sqrt(own.dynamic_se_variance.get())
        expected = own.score_one(None, x)
        own.learn_one(None, x)
        if i <= given.get("warmup_period", 100):
            continue
        # River: the squared error in units of mean + n_std deviations, at most 1.
        assert min(1.0, (mean + score * spread) / (mean + 10.0 * spread)) == pytest.approx(expected, rel=1e-9) or (
            score == 0.0 and expected < mean / (mean + 10.0 * spread)
        )
        assert (score >= params["alert_at"]) == (expected >= 1.0)
        cut += expected >= 1.0
    assert cut > 5


def by_hand(name, given):
    """Score and learn of River's own, of x."""
    from river import anomaly, feature_extraction, neighbors, optim, preprocessing

    if name == "OneClassSVM":
        svm = anomaly.OneClassSVM(given.get("nu", 0.1), optim.SGD(given.get("learning_rate", 0.01)))
        return preprocessing.StandardScaler() | feature_extraction.PolynomialExtender(2) | svm
    if name == "LODA":
        return anomaly.LODA(given.get("n_bins", 10), given.get("n_random_cuts", 10), given.get("seed", 42))
    engine = neighbors.LazySearch(window_size=given["window_size"])
    return anomaly.LocalOutlierFactor(given.get("n_neighbors", 10), engine)


@pytest.mark.parametrize(("name", "given"), [c for c in ALL if c[0] in ("OneClassSVM", "LODA", "LocalOutlierFactor")])
def test_what_takes_x_scores_as_rivers_own(name, given):
    own, expected = by_hand(name, given), []
    for x in series():
        expected.append(own.score_one({"any name": x}))
        own.learn_one({"any name": x})
    adapter, _, model = made(name, given)
    got = scored(adapter, model, series())
    if name == "LocalOutlierFactor":
        expected = [math.log(max(score, 1e-10)) for score in expected]
    assert got == expected and len(set(got)) > 100


def test_cuts_of_one_metric_are_copies():
    """Why n_random_cuts is less than River's 100: cuts of one sign differ by the logarithm of their factors."""
    adapter, _, model = made("LODA", {})
    scored(adapter, model, series(50))
    cuts = [(next(iter(cut.values())), histogram) for cut, histogram in zip(model.projections_, model.histograms_)]
    for sign in (1.0, -1.0):
        alike = [(factor, histogram) for factor, histogram in cuts if factor * sign > 0.0]
        assert len(alike) > 1
        for x in series(200, seed=9):
            found = [model._density(histogram, factor * x) * abs(factor) for factor, histogram in alike]
            assert found == pytest.approx([found[0]] * len(found), rel=1e-6)


@pytest.mark.parametrize(("name", "given"), ALL)
@pytest.mark.parametrize("value", [0.0, 45.2, 1e-300, -1e150, 1e9 / 3])
def test_a_constant_series_is_not_odd_and_a_jump_is(name, given, value):
    adapter, params, model = made(name, given)
    scores = scored(adapter, model, [value] * (params["warmup"] + 120))
    assert all(math.isfinite(score) for score in scores)
    if adapter.scale == "deviations":
        assert max(scores) == 0.0
        assert adapter.score_one(model, value + 1.0 + abs(value), 0.0) > params["alert_at"]


@pytest.mark.parametrize(("name", "given"), ALL)
def test_scores_are_finite_and_not_negative(name, given):
    adapter, _, model = made(name, given)
    rng = random.Random(1)
    values = [rng.choice((0.0, -1e150, 1e150, 1e-300, rng.gauss(0, 1))) for _ in range(400)]
    scores = scored(adapter, model, values)
    assert all(map(math.isfinite, scores))
    if adapter.scale == "deviations":
        assert all(0.0 <= score <= 1e9 for score in scores)


FALSE = {"LODA": 15.0}  # alerts per 1000 points, at most: to it any new extreme is as odd as it gets


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_spike_alerts_at_the_default_threshold_and_little_else(name):
    from app.pipeline import Pipeline

    pipeline = Pipeline(detection(name))
    assert len(pipeline.profiles[0].members) == 1
    false = []
    for kind, values in kinds(700, 3).items():
        middle, spread = sum(values) / 700, statistics.pstdev(values)
        for deviations in (14.0, -14.0, 1000.0):
            outcome = pipeline.run(pipeline.sources(), points([*values[:500], middle + deviations * spread]))
            assert outcome.opened[-1] and outcome.alert[-1] >= 0.8, (kind, deviations, outcome.alert[-1])
        false += (pipeline.run(pipeline.sources(), points(values)).alert >= 0.8).tolist()
    assert 1000.0 * sum(false) / len(false) <= FALSE.get(name, 5.0)


@pytest.mark.parametrize(("name", "given"), ALL)
def test_no_series_breaks_the_results(name, given):
    from app.pipeline import Pipeline

    pipeline = Pipeline(detection(name, **given), engine="python")
    outcome = pipeline.run(pipeline.sources(), together(awkward()))
    assert all(0.0 <= score <= 1.0 for score in outcome.score.tolist())


# --- state


@pytest.mark.parametrize(("name", "given"), ALL)
@pytest.mark.parametrize("points", [0, 1, 49, 50, 51, 333])
def test_a_restored_model_goes_on_as_the_original(name, given, points):
    adapter, params, original = made(name, given)
    scored(adapter, original, series(points))
    stored = adapter.dumps(original)
    restored = adapter.loads(stored, params)
    assert adapter.dumps(restored) == stored
    assert scored(adapter, original, series(500, seed=8)) == scored(adapter, restored, series(500, seed=8))
    assert adapter.dumps(original) == adapter.dumps(restored)
    # Also what is folded away: the whole estimators are alike.
    assert river_state.dumps(original) == river_state.dumps(restored)


@pytest.mark.parametrize(("name", "given"), ALL)
def test_two_runs_give_the_same_bytes(name, given):
    """Nothing in a new model is drawn from the clock, as River's default seeds are."""
    adapter, params, first = made(name, given)
    second = adapter.make(params)
    assert adapter.dumps(first) == adapter.dumps(second)
    assert river_state.dumps(first) == river_state.dumps(second)
    assert scored(adapter, first, series()) == scored(adapter, second, series())
    assert adapter.dumps(first) == adapter.dumps(second)


def test_a_process_that_has_not_made_a_model_can_load_one():
    stored = {}
    for name, given in ALL:
        adapter, _, model = made(name, given)
        scored(adapter, model, series(320))
        stored[name, str(given)] = adapter.dumps(model).hex()
    script = (
        "import json, sys; from app import detectors\n"
        "for name, given, stored in json.load(sys.stdin):\n"
        "    adapter = detectors.find(name); params = adapter.params.check('x', given)\n"
        "    print(adapter.dumps(adapter.loads(bytes.fromhex(stored), params)).hex())"
    )
    asked = json.dumps([(name, given, stored[name, str(given)]) for name, given in ALL])
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], input=asked, check=True, capture_output=True, text=True
    )
    assert dict(zip(stored, ran.stdout.split(), strict=True)) == stored


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *ALL,
        ("GaussianScorer", {"window_size": 4096}),
        ("PredictiveAnomalyDetection", {"p": 20, "d": 2, "q": 10}),
        ("PredictiveAnomalyDetection", {"p": 0, "d": 0, "q": 0}),
        ("LODA", {"n_bins": 2}),
        ("LODA", {"n_bins": 50, "n_random_cuts": 30}),
        ("LODA", {"n_bins": 1000}),
        ("LocalOutlierFactor", {"window_size": 3}),
        ("LocalOutlierFactor", {"window_size": 1000}),
    ],
)
def test_no_state_is_larger_than_stated(name, given):
    adapter, params, model = made(name, given)
    rng = random.Random(3)
    for _ in range(max(700, 5000 if name == "GaussianScorer" else 0)):
        adapter.learn_one(model, rng.uniform(-1e150, 1e150), 0.0)
    size, most = len(adapter.dumps(model)), adapter.max_state_bytes(params)
    assert size <= most - 200  # room for counters that grow
    assert most <= 2 * size + 1024


def test_state_of_another_detector_or_shape_is_refused():
    states = {}
    for name, given in ALL:
        adapter, params, model = made(name, given)
        scored(adapter, model, series(320))
        states[name, str(given)] = (adapter, params, adapter.dumps(model))
    for (name, _), (adapter, params, _) in states.items():
        for (other, _), (_, _, data) in states.items():
            if other != name:
                with pytest.raises(StateError):
                    adapter.loads(data, params)
        for data in (b"", b"x", river_state.dumps(None), river_state.dumps((1, 2, 3, 4, b"5"))):
            with pytest.raises(StateError):
                adapter.loads(data, params)


@pytest.mark.parametrize(("name", "given"), ALL)
def test_damage_is_refused_or_loads_as_data(name, given):
    adapter, params, model = made(name, given)
    scored(adapter, model, series(60))
    stored, rng = adapter.dumps(model), random.Random(6)
    for _ in range(300):
        data = bytearray(stored)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            adapter.loads(bytes(data), params)
        except StateError as error:
            assert str(error)


# --- parameters


def test_warmup_covers_the_points_without_a_score():
    check = detectors.find("GaussianScorer").params.check
    assert check("g", {})["warmup"] == 100
    assert check("g", {"grace_period": 7})["warmup"] == 30


@pytest.mark.parametrize(
    ("name", "given", "named"),
    [
        ("GaussianScorer", {"window_size": -1}, "window_size"),
        ("LODA", {"threshold": 0.0}, "threshold"),
    ],
)
def test_a_wrong_parameter_is_named(name, given, named):
    with pytest.raises(ConfigurationError, match=f"here.{named}"):
        detectors.find(name).params.check("here", given)
