"""scikit-learn's detectors: against scikit-learn itself, and the laws of a detector that is refitted."""

import inspect
import math
import random
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sample_detectors import running_mean
from support.points import (
    Pipeline,
    awkward,
    batches,
    columns,
    detection,
    gaussian,
    kinds,
    points,
    states,
    together,
    vectors,
)

from app import detectors
from app.detectors import scikit as module
from app.detectors.support import background, refitted
from app.errors import ConfigurationError, StateError
from app.settings import Detection, DetectorSettings, DriftSettings
from app.state import snapshot

pytestmark = pytest.mark.filterwarnings("ignore")  # that optimisers stop where they are told to; pytest forgets ours
METHODS = sorted(module.DETECTORS)
every_method = pytest.mark.parametrize("method", METHODS)
SMALL = {"window_size": 60, "refit_every": 40}
SMALLER = {
    "isolation_forest": {"n_estimators": 10},
    "autoencoder": {"max_iter": 20},
    "elliptic_envelope": {},
    "local_outlier_factor": {},
    "one_class_svm": {},
}


def made(method, **given):
    adapter = detectors.find(method)
    params = adapter.params.check(method, SMALL | SMALLER[method] | given)
    return adapter, params, adapter.make(params)


def pipeline(method, engine="numba", **given):
    return Pipeline(detection(method, **{"warmup": 5, **SMALL, **SMALLER[method], **given}), engine=engine)


def one_by_one(adapter, model, values, start=0):
    scores = []
    for i, x in enumerate(values):
        scores.append(adapter.score_one(model, x, 60.0 * (start + i)))
        adapter.learn_one(model, x, 60.0 * (start + i))
    return scores


def at_once(adapter, model, values, start=0):
    return list(adapter.score_many(model, values, [60.0 * (start + i) for i in range(len(values))]))


# --- scores


def looked_at(values, i):
    """What is looked at of point i, in plain Python."""
    before = values[max(0, i - 20) : i] or [values[i]]
    last = values[i - 1] if i else values[i]
    return [values[i], values[i] - last, values[i] - sum(before) / len(before)]


def test_what_is_looked_at_is_the_value_its_step_and_its_distance_from_the_last_20():
    values = gaussian(90)
    expected = np.array([looked_at(values, i) for i in range(90)])
    for rows in (1, 5, 69, 70, 71, 89, 90):
        assert np.allclose(refitted.features(np.array(values), rows), expected[90 - rows :], rtol=0.0, atol=1e-12)
    for size in (1, 2, 20, 21, 22):
        assert np.allclose(refitted.features(np.array(values[:size]), size), expected[:size], rtol=0.0, atol=1e-12)


def test_a_row_of_what_is_looked_at_does_not_depend_on_the_others():
    values = np.array(gaussian(200)) * 10.0 ** np.random.default_rng(5).integers(-8, 8, 200)
    whole = refitted.features(values, 200)
    for end, rows in ((200, 3), (77, 50), (21, 1), (20, 1), (15, 8), (1, 1)):
        assert (refitted.features(values[:end], rows) == whole[end - rows : end]).all()
        assert (refitted.features(values[max(0, end - rows - 20) : end], rows) == whole[end - rows : end]).all()


def of_scikit_learn(method):
    """The estimator with the parameters of ``made``, and rows -> scores, without this program."""
    from sklearn.covariance import EllipticEnvelope
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.neural_network import MLPRegressor
    from sklearn.svm import OneClassSVM

    if method == "autoencoder":
        own = MLPRegressor(hidden_layer_sizes=(2,), activation="tanh", solver="lbfgs", max_iter=20, random_state=42)
        error = lambda rows: np.sqrt(((own.predict(rows) - rows) ** 2).mean(axis=1))  # noqa: E731
        return own, error, error
    own = {
        "isolation_forest": IsolationForest(n_estimators=10, random_state=42),
        "local_outlier_factor": LocalOutlierFactor(novelty=True),
        "one_class_svm": OneClassSVM(nu=0.01),
        "elliptic_envelope": EllipticEnvelope(random_state=42),
    }[method]
    turned = {
        "local_outlier_factor": lambda scores: np.log(-scores),
        "elliptic_envelope": lambda scores: np.sqrt(-scores),
    }.get(method, lambda scores: -scores)
    of_own = lambda rows: turned(  # noqa: E731
        own.negative_outlier_factor_ if method == "local_outlier_factor" else own.score_samples(rows)
    )
    return own, lambda rows: turned(own.score_samples(rows)), of_own


@every_method
@pytest.mark.parametrize("contamination", [0.0, 0.1])
def test_scores_are_those_of_scikit_learn_on_the_same_window(method, contamination):
    values = [*gaussian(260), 40.0, *gaussian(60, seed=8)]
    adapter, _, model = made(method, contamination=contamination)
    found = at_once(adapter, model, values)
    own = model.own
    begun = [50 + own % 25]  # doubled while there are 20 points to go until 40 more; then every 40, at its own number
    first = begun[0] + 20
    begun += [n for n in range(first, 400) if n % 40 == own % 40]
    assert found[: begun[0] + 20] == [0.0] * (begun[0] + 20)
    outside = []
    for n, following in zip(begun, [*begun[1:], 400]):
        rows = np.array([looked_at(values, i) for i in range(max(0, n - 60), min(n, len(values)))])
        if n > len(values) or n + 20 >= len(values):
            break
        scored = range(n + 20, min(following + 20, len(values)))
        centre, spread = rows.mean(axis=0), rows.std(axis=0)
        estimator, score, of_own = of_scikit_learn(method)
        standardised = (rows - centre) / spread
        estimator.fit(standardised, *([standardised] if method == "autoencoder" else []))
        known = of_own(standardised)
        later = (np.array([looked_at(values, i) for i in scored]) - centre) / spread
        zero = np.percentile(known, 90.0) if contamination else known.mean()
        expected = np.clip((score(later) - zero) / known.std(), 0.0 if contamination else -100.0, 100.0)
        assert np.allclose([found[i] for i in scored], expected, rtol=1e-6, atol=1e-6), n
        outside += [found[i] > 0.0 for i in scored]
    assert len(outside) == len(values) - begun[0] - 20


@pytest.mark.parametrize("method", ["isolation_forest", "local_outlier_factor", "elliptic_envelope"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_with_contamination_only_what_predict_calls_an_outlier_scores(method, share):
    of, names = {
        "isolation_forest": ("ensemble.IsolationForest", ["n_estimators", "random_state"]),
        "local_outlier_factor": ("neighbors.LocalOutlierFactor", []),
        "elliptic_envelope": ("covariance.EllipticEnvelope", ["random_state"]),
    }[method]
    adapter, params, model = made(method, contamination=share, refit_every=4000)
    values = [*gaussian(100), *gaussian(100, seed=8, std=4.0)]
    found = at_once(adapter, model, values)
    n = model._fits.early[0]
    package, _, name = of.partition(".")
    own = getattr(getattr(module._sklearn(), package), name)(
        contamination=share, **{name: params[name] for name in names}, **({"novelty": True} if "Local" in of else {})
    )
    rows = np.array([looked_at(values, i) for i in range(200)])
    centre, spread = rows[max(0, n - 60) : n].mean(axis=0), rows[max(0, n - 60) : n].std(axis=0)
    own.fit((rows[max(0, n - 60) : n] - centre) / spread)
    predicted = own.predict((rows[n + 25 : 2 * n + 25] - centre) / spread)
    assert [score > 0.0 for score in found[n + 25 : 2 * n + 25]] == (predicted == -1).tolist()
    assert 0 < (predicted == -1).sum() < n


def test_what_is_walked_here_is_scikit_learns():
    from sklearn.covariance import EllipticEnvelope
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(6)
    rows = np.round(rng.normal(size=(300, 3)), 1)  # some of them twice
    rows[:40] = rows[0]
    others = np.concatenate([rows, 3.0 * rng.normal(size=(700, 3)), [[1e6] * 3, [-1e6, 0.0, 1e6]]])
    for given in ({}, {"n_estimators": 7, "max_samples": 20}, {"max_samples": 2, "n_estimators": 3}):
        own = IsolationForest(random_state=1, **given).fit(rows)
        assert np.allclose(module.Forest(own)(others), -own.score_samples(others), rtol=1e-12, atol=0.0)
    for activation in module.ACTIVATIONS:
        own = MLPRegressor(
            hidden_layer_sizes=(4, 2, 4), activation=activation, solver="lbfgs", max_iter=50, random_state=1
        )
        own.fit(rows, rows)
        assert np.allclose(module.Network(own).given(others), own.predict(others), rtol=1e-9, atol=1e-9)
    for k in (1, 20, 299):
        own = LocalOutlierFactor(n_neighbors=k, algorithm="kd_tree", novelty=True).fit(rows)
        _, score = module._local_outlier_factor({"n_neighbors": k}, rows)
        assert np.allclose(np.exp(score(others)), -own.score_samples(others), rtol=1e-9, atol=0.0)
    own = EllipticEnvelope(random_state=1).fit(rows)
    _, score = module._elliptic_envelope({"support_fraction": 0.0, "random_state": 1}, rows)
    assert np.allclose(score(others) ** 2, -own.score_samples(others), rtol=1e-9, atol=0.0)


def test_thresholds_of_trees_that_are_values_themselves_divide_as_scikit_learn_does():
    """Ties with a threshold, which single precision rounds, go left."""
    from sklearn.ensemble import IsolationForest

    rows = np.repeat(np.linspace(0.1, 0.3, 4)[:, np.newaxis], 3, axis=1)
    own = IsolationForest(n_estimators=200, random_state=1).fit(np.repeat(rows, 5, axis=0))
    at = np.concatenate([one.tree_.threshold[one.tree_.feature >= 0] for one in own.estimators_])
    near = np.concatenate([np.nextafter(at.astype(np.float32), to) for to in (-np.inf, np.inf)] + [at])
    others = np.repeat(near[:, np.newaxis], 3, axis=1).astype(float)
    assert np.allclose(module.Forest(own)(others), -own.score_samples(others), rtol=1e-12, atol=0.0)


@every_method
@pytest.mark.parametrize("kind", ["normal", "uniform", "seasonal", "autocorrelated", "exponential"])
def test_a_far_outlier_scores_above_everything_before_it(method, kind):
    values = kinds(600, 3)[kind]
    far = max(values) + 8.0 * (max(values) - min(values))
    of = Pipeline(detection(method))
    scores = of.run(of.sources(), points([*values, far])).score.tolist()
    assert scores[-1] >= 0.8
    if method != "isolation_forest":  # where it lies among the extremes of the window
        assert scores[-1] >= max(scores[300:-1])


@every_method
def test_scores_are_finite_and_within_0_and_1_whatever_comes(method):
    of = pipeline(method)
    series = {name: [*values, *values[::-1], *values] for name, values in awkward().items()}
    outcome = of.run(of.sources(), together(series))
    assert not (outcome.status == 2).any(), "none may be degraded"
    assert np.isfinite(outcome.score).all() and outcome.score.min() >= 0.0 and outcome.score.max() <= 1.0
    assert np.isfinite(outcome.votes[outcome.status == 1]).all()


@every_method
@pytest.mark.parametrize("value", [0.0, 45.2, 1e-300, -1e150, 1e9 / 3])
def test_a_constant_series_is_not_odd_and_a_jump_is(method, value):
    of = pipeline(method)
    sources = of.sources()
    outcome = of.run(sources, points([value] * 400))
    assert (outcome.status == [0] * 105 + [1] * 295).all() and not outcome.score.any()
    assert of.run(sources, points([value + 1.0 + abs(value)], start=400)).score[0] > 0.8


@every_method
def test_mostly_one_value_is_no_failure(method):
    rng = random.Random(5)
    values = [0.0 if rng.random() < 0.95 else rng.random() for _ in range(500)]
    of = Pipeline(detection(method))
    outcome = of.run(of.sources(), points([*values, 50.0]))
    assert not (outcome.status == 2).any() and outcome.score[-1] >= 0.8


# --- when is fitted


@pytest.mark.parametrize("every", [10, 11, 40, 75, 100, 250, 4096])
def test_fits_are_begun_early_then_regularly_and_never_before_the_last_one_scores(every):
    spread = Counter()
    for own in range(0, 40 * every, 37):
        fits = refitted.Fits(every, own)
        numbers = [n for n in range(5 * every + 200) if fits.until(n) == n and n]
        assert 50 <= numbers[0] < 75 and numbers[0] + fits.delay < refitted.SILENT
        steps = np.diff(numbers)
        assert steps.min() >= fits.delay and steps.max() <= every + fits.delay
        assert (steps[-2:] == every).all()
        for n in range(3 * every):
            assert fits.until(n) == max((m for m in numbers if m <= n), default=0)
            assert fits.after(n) == min(m for m in numbers if m > n)
        spread[numbers[-1] % every] += 1
        if every > 250:
            break
    assert every > 250 or (max(spread.values()) <= 2 * min(spread.values()) and len(spread) == every)


def test_sources_that_report_together_are_not_refitted_together():
    begun = Counter()
    for k in range(300):
        adapter, _, model = made("one_class_svm", refit_every=100)
        at_once(adapter, model, [10.0 + 0.001 * k])
        begun[model._fits.until(1000)] += 1
    assert len(begun) > 80 and max(begun.values()) <= 12


class Busy:
    """The thread comes to nothing: whoever needs a result computes it."""

    begin = staticmethod(background.Task)


class Instant:
    """The thread is done at once."""

    @staticmethod
    def begin(call):
        task = background.Task(call)
        task.run()
        return task


@every_method
@pytest.mark.parametrize("how", [Busy, Instant])
def test_scores_do_not_depend_on_when_a_fit_is_ready(method, how, monkeypatch):
    values = gaussian(300)
    adapter, _, model = made(method)
    expected = at_once(adapter, model, values)
    monkeypatch.setattr(refitted, "begin", how.begin)
    adapter, _, model = made(method)
    assert at_once(adapter, model, values) == expected


def test_a_fit_scores_from_its_point_on_and_none_before(monkeypatch):
    """Of the four quarters of a window, each fit knows the last point that was there when it was begun."""
    fitted = []

    def fit(p, rows):
        fitted.append(len(fitted))
        number = len(fitted)
        return np.array([0.0, 2.0]), lambda rows: np.full(len(rows), 1.0 + number)

    monkeypatch.setitem(module.DETECTORS, "one_class_svm", module.DETECTORS["one_class_svm"]._replace(fit=fit))
    monkeypatch.setattr(refitted, "begin", Instant.begin)
    adapter = module.Scikit("one_class_svm")
    model = adapter.make(adapter.params.check("x", SMALL))
    found = at_once(adapter, model, gaussian(200))
    begun = [n for n in range(1, 201) if model._fits.until(n) == n]
    assert found == [float(sum(n + 20 <= i for n in begun)) for i in range(200)]


@pytest.mark.parametrize("every", [10, 40, 100])
@pytest.mark.parametrize("restored", [False, True], ids=["one model", "restored before each point"])
def test_each_point_is_scored_by_the_fit_that_its_number_says(every, restored, monkeypatch):
    """For sources of every kind: some are fitted anew at the very point from which the fit before it scores."""
    size, values = 60, gaussian(3 * every + 160)
    close = 0
    for own in range(math.lcm(25, every)):
        monkeypatch.setattr(refitted, "crc32", lambda data, own=own: own)
        monkeypatch.setattr(refitted, "begin", Busy.begin)
        fits = refitted.Fits(every, own)
        begun = [n for n in range(1, len(values)) if fits.until(n) == n]
        close += fits.delay in np.diff(begun)
        model, found = telling(size, every), []
        for x in values:
            found += model.scores([x])
            model.learn([x], 0.0)
            if restored:
                stored, model = model.dumps(), telling(size, every)
                model.loads(stored)
                assert model.dumps() == stored
        scoring = [max((b for b in begun if b + fits.delay <= n), default=0) for n in range(len(values))]
        assert found == [(min(b, size), values[max(0, b - size - 20) : b]) if b else 0.0 for b in scoring]
    assert close > 0


def telling(size, every):
    """A model that gives in the place of a score the rows and values that its estimator was fitted on."""

    def fit(values, rows):
        told = (rows, values.tolist())
        return type("Told", (), {"scores": staticmethod(lambda later, count: [told] * count)})

    return refitted.RefittedModel(fit, size, every)


def test_libraries_compute_in_one_thread_and_are_imported_where_a_model_is_made():
    script = (
        "import sys\n"
        "from app import detectors\n"
        f"for name in {METHODS}:\n"
        "    a = detectors.find(name); p = a.params.check(name, {}); a.version, a.max_state_bytes(p)\n"
        "print('sklearn' in sys.modules, 'scipy' in sys.modules)\n"
        "a.make(p)\n"
        "import threadpoolctl\n"
        "print({one['num_threads'] for one in threadpoolctl.threadpool_info() if one['user_api'] == 'blas'})\n"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert found == "False False\n{1}\n"


def test_warning_filters_of_the_process_stay_as_they_are(recwarn):
    """Two threads in scikit-learn's parallel calls would put back what the other had changed."""
    adapters = [made(method) for method in ("isolation_forest", "local_outlier_factor") for _ in range(3)]
    before = list(warnings.filters)
    for start in range(0, 200, 10):
        for adapter, _, model in adapters:
            at_once(adapter, model, gaussian(10, seed=start), start)
    for _, _, model in adapters:
        (model._coming or model._scoring).result()
    assert warnings.filters == before and not list(recwarn)


# --- failures


@pytest.fixture
def failing(monkeypatch):
    """The second fit of a source fails, and those after it do not."""
    entry = module.DETECTORS["one_class_svm"]
    count = Counter()

    def fit(p, rows):
        count["fits"] += 1
        if count["fits"] == 2:
            raise ValueError("no fit")
        return entry.fit(p, rows)

    monkeypatch.setitem(module.DETECTORS, "one_class_svm", entry._replace(fit=fit))
    module.adapter.cache_clear()
    yield
    module.adapter.cache_clear()


@pytest.mark.parametrize("engine", ["numba", "python"])
def test_a_fit_that_fails_is_left_out_where_it_would_have_scored_and_the_window_begins_anew(failing, engine):
    of = pipeline("one_class_svm", engine)
    sources = of.sources()
    outcome = of.run(sources, points(gaussian(400)))
    [at] = np.flatnonzero(outcome.status == 2).tolist()
    model = sources.models[0][0][0]
    assert model.n == 400 - at - 1
    assert (outcome.status[at + 1 : at + 1 + 105] == 0).all() and (outcome.status[at + 1 + 105 :] == 1).all()


def test_scores_that_are_not_finite_are_a_failure(monkeypatch):
    entry = module.DETECTORS["one_class_svm"]
    fit = lambda p, rows: (np.full(len(rows), np.nan), lambda rows: np.zeros(len(rows)))  # noqa: E731
    monkeypatch.setitem(module.DETECTORS, "one_class_svm", entry._replace(fit=fit))
    adapter = module.Scikit("one_class_svm")
    model = adapter.make(adapter.params.check("x", SMALL))
    with pytest.raises(ArithmeticError, match=r"\d+ points were fitted, and not all of their scores are finite"):
        at_once(adapter, model, gaussian(100))


# --- one by one, many at once, batches, restarts


@every_method
def test_many_at_once_are_as_one_by_one(method):
    values = [*gaussian(170), 1e6, *gaussian(130, seed=8)]
    adapter, _, one = made(method)
    expected = one_by_one(adapter, one, values)
    for size in (1, 7, 64, 301):
        _, _, other = made(method)
        parts = [at_once(adapter, other, values[at : at + size], at) for at in range(0, len(values), size)]
        assert [score for part in parts for score in part] == expected
        assert adapter.dumps(other) == adapter.dumps(one)


def test_a_detector_that_scores_by_the_whole_run_is_seen():
    """The negative control: what the law compares differs where a score depends on how many are asked of at once."""
    adapter, _, _ = made("one_class_svm")

    class Leaky(refitted.RefittedModel):
        def scores(self, xs):
            return [x - sum(xs) / len(xs) for x in xs]

    def model():
        return Leaky(lambda values, rows: None, 60, 40)

    assert at_once(adapter, model(), gaussian(30)) != one_by_one(adapter, model(), gaussian(30))


@every_method
@pytest.mark.parametrize("engine", ["numba", "python"])
def test_results_and_state_do_not_depend_on_the_batches(method, engine):
    both = list(zip(gaussian(260), gaussian(260, seed=8)))
    made = vectors([{"p": p, "q": q} if i % 3 else {"p": p} for i, (p, q) in enumerate(both)], ["x", "y"] * 130)
    whole, parts = pipeline(method).sources(), pipeline(method, engine).sources()
    one, other = pipeline(method), pipeline(method, engine)
    once = columns([one.run(whole, made)])
    cuts = random.Random(4).sample(range(1, 260), 60)
    split = columns([other.run(parts, batch) for batch in batches(made, cuts)])
    assert split == once and states(parts) == states(whole)


@every_method
def test_a_restored_model_goes_on_as_the_original(method):
    cuts, further = (0, 1, 49, 60, 74, 80, 99, 110, 131, 180, 333), 120
    ends = sorted({*cuts, *(at + further for at in cuts)})
    values = gaussian(ends[-1])
    adapter, params, original = made(method)
    scored, stored = [], {}
    for start, end in zip([0, *ends], ends):
        scored += at_once(adapter, original, values[start:end], start)
        stored[end] = adapter.dumps(original)
    for at in cuts:
        restored = adapter.loads(stored[at], params)
        assert adapter.dumps(restored) == stored[at]
        assert at_once(adapter, restored, values[at : at + further], at) == scored[at : at + further], at
        assert adapter.dumps(restored) == stored[at + further], at


def test_a_state_taken_anywhere_goes_on_as_the_original():
    adapter, params, whole = made("one_class_svm")
    values = gaussian(260)
    expected = at_once(adapter, whole, values)
    _, _, model = made("one_class_svm")
    for i, x in enumerate(values):
        assert at_once(adapter, model, [x], i) == expected[i : i + 1]
        model = adapter.loads(adapter.dumps(model), params)


@every_method
def test_a_snapshot_restored_in_another_thread_goes_on_as_the_original(method):
    """Recovery loads in threads of its own; points are scored in the event loop's."""
    of = pipeline(method)
    before, after = batches(points(gaussian(300)), [190])
    original, restored = of.sources(), of.sources()
    of.run(original, before)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(snapshot.loads, restored, snapshot.dumps(original, 0, 189)).result()
    assert columns([of.run(original, after)]) == columns([of.run(restored, after)])
    assert states(original) == states(restored)


@every_method
def test_no_score_depends_on_later_points(method):
    def scores(values):
        of = pipeline(method)
        return of.run(of.sources(), points(values)).score.tolist()

    values = gaussian(240)
    for at in (100, 150, 239):
        assert scores(values)[:at] == scores([*values[:at], *(1e6 - v for v in values[at:])])[:at]


def test_a_repeat_is_answered_and_not_learned():
    of = pipeline("local_outlier_factor")
    once, twice = of.sources(), of.sources()
    values = gaussian(180)
    whole = of.run(once, points(values))
    doubled = points([x for x in values for _ in (0, 1)])
    doubled.timestamp = [60.0 * (i // 2) for i in range(360)]
    found = of.run(twice, doubled)
    assert found.score[::2].tolist() == whole.score.tolist()
    assert [m.dumps() for m in once.models[0][0]] == [m.dumps() for m in twice.models[0][0]]


def test_two_processes_give_the_same_scores():
    expected = {method: at_once(*made(method)[::2], gaussian(200)) for method in METHODS}
    script = (
        "import sys; sys.path[:0] = ['tests', 'tests/unit/detectors']\n"
        "import test_scikit as t\n"
        "print({method: t.at_once(*t.made(method)[::2], t.gaussian(200)) for method in t.METHODS})"
    )
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, text=True)
    assert ran.stdout == f"{expected}\n"


# --- state


@every_method
@pytest.mark.parametrize(
    "given", [{}, {"window_size": 30, "refit_every": 10}, {"window_size": 50, "refit_every": 1000}]
)
def test_no_state_is_larger_than_stated(method, given, monkeypatch):
    monkeypatch.setattr(refitted, "begin", Busy.begin)
    sizes = []
    for first in range(40):
        adapter, params, model = made(method, **given)
        for i in range(2 * params["refit_every"] + 300):
            model.learn([float(first + i)], 0.0)
            sizes.append(12 + 8 * len(model.values))
        assert len(adapter.dumps(model)) == sizes[-1]
    most = adapter.max_state_bytes(params)
    assert max(sizes) <= most <= max(sizes) + 8 * (75 + 25)


def test_state_of_another_shape_or_damaged_is_refused():
    adapter, params, model = made("one_class_svm")
    at_once(adapter, model, gaussian(200))
    stored = adapter.dumps(model)
    other = detectors.find("one_class_svm").params.check("x", {"window_size": 61, "refit_every": 40})
    for data in (b"", b"x", stored[:-8], stored + bytes(8), stored[:-3], bytes(12 + 8), stored[:-2] + b"\xff\xff"):
        with pytest.raises(StateError, match=r"one_class_svm: .* bytes are not its state"):
            adapter.loads(data, params)
    with pytest.raises(StateError):
        adapter.loads(stored, other)
    rng = random.Random(6)
    for _ in range(300):
        data = bytearray(stored)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            adapter.loads(bytes(data), params)
        except StateError as error:
            assert str(error)


def test_another_scikit_learn_is_another_version(monkeypatch):
    mine = module.Scikit("autoencoder").version
    monkeypatch.setattr(module, "installed", lambda package: "99.0")
    assert module.Scikit("autoencoder").version != mine and 0 <= mine < 1 << 32


# --- parameters

OURS = {"window_size", "refit_every", "threshold", "warmup", "random_state"}
OTHERWISE = {  # what scikit-learn has, and what it is here
    ("isolation_forest", "max_samples"): ("auto", 256),
    ("isolation_forest", "contamination"): ("auto", 0.0),
    ("local_outlier_factor", "contamination"): ("auto", 0.0),
    ("one_class_svm", "gamma"): ("scale", 0.0),
    ("one_class_svm", "nu"): (0.5, 0.01),
    ("elliptic_envelope", "contamination"): (0.1, 0.0),
    ("elliptic_envelope", "support_fraction"): (None, 0.0),
    ("autoencoder", "hidden_layer_sizes"): ((100,), [2]),
    ("autoencoder", "activation"): ("relu", "tanh"),
    ("autoencoder", "solver"): ("adam", "lbfgs"),
    ("autoencoder", "max_iter"): (200, 60),
}


@every_method
def test_parameters_have_the_names_and_defaults_of_scikit_learn_but_where_it_is_said(method):
    module._sklearn()
    from sklearn.covariance import EllipticEnvelope
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.neural_network import MLPRegressor
    from sklearn.svm import OneClassSVM

    of = dict(zip(METHODS, (MLPRegressor, EllipticEnvelope, IsolationForest, LocalOutlierFactor, OneClassSVM)))[method]
    theirs = inspect.signature(of).parameters
    for name, ours in detectors.find(method).params.declared.items():
        if name in OURS or (name == "contamination" and name not in theirs):
            continue
        default = theirs[name].default
        assert OTHERWISE.get((method, name), (default, default)) == (default, ours.default), name


def test_parameters_may_be_spelled_as_in_scikit_learn():
    check = lambda method, **given: detectors.find(method).params.check("x", given)  # noqa: E731
    assert check("isolation_forest", contamination="auto", max_samples="auto") == check("isolation_forest")
    assert check("one_class_svm", gamma="scale") == check("one_class_svm")
    assert check("autoencoder", hidden_layer_sizes=4)["hidden_layer_sizes"] == [4]
    assert check("autoencoder", hidden_layer_sizes=(4, 2, 4))["hidden_layer_sizes"] == [4, 2, 4]


@pytest.mark.parametrize(
    ("method", "given", "named"),
    [
        ("isolation_forest", {"contamination": 0.7}, "contamination: must be a number from 0 to 0.5, got 0.7"),
        ("isolation_forest", {"n_estimators": 0}, "n_estimators"),
        ("local_outlier_factor", {"n_neighbors": "auto"}, "n_neighbors"),
        ("local_outlier_factor", {"window_size": 10}, "window_size"),
        ("one_class_svm", {"nu": 0.0}, "nu"),
        ("one_class_svm", {"kernel": "precomputed"}, "kernel"),
        ("one_class_svm", {"degree": 2}, "degree: no such parameter"),
        ("autoencoder", {"hidden_layer_sizes": []}, "hidden_layer_sizes: must be 1 to 5 whole numbers"),
        ("autoencoder", {"hidden_layer_sizes": [2, 0]}, "hidden_layer_sizes"),
        ("autoencoder", {"hidden_layer_sizes": "2"}, "hidden_layer_sizes"),
        ("elliptic_envelope", {"support_fraction": 1.5}, "support_fraction"),
    ],
)
def test_a_wrong_parameter_is_named(method, given, named):
    with pytest.raises(ConfigurationError, match=f"here.{named}"):
        detectors.find(method).params.check("here", given)


# Parameters that are not tried above, each with a value that must change scores, or not: no parameter does nothing.
CHANGES = [
    ("isolation_forest", {"n_estimators": 20}), ("isolation_forest", {"max_samples": 10}),
    ("isolation_forest", {"random_state": 1}), ("isolation_forest", {"window_size": 100}),
    ("local_outlier_factor", {"n_neighbors": 5}), ("local_outlier_factor", {"contamination": 0.1}),
    ("one_class_svm", {"nu": 0.2}), ("one_class_svm", {"gamma": 2.0}), ("one_class_svm", {"kernel": "linear"}),
    ("one_class_svm", {"kernel": "poly"}), ("one_class_svm", {"kernel": "sigmoid"}),
    ("one_class_svm", {"refit_every": 80}),
    ("autoencoder", {"hidden_layer_sizes": [1]}), ("autoencoder", {"activation": "relu"}),
    ("autoencoder", {"activation": "identity"}), ("autoencoder", {"solver": "adam"}),
    ("autoencoder", {"solver": "sgd"}), ("autoencoder", {"alpha": 1.0}),
    ("autoencoder", {"max_iter": 40}), ("autoencoder", {"random_state": 1}),
    ("elliptic_envelope", {"support_fraction": 0.9}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "given"), CHANGES)
def test_every_parameter_changes_something(method, given):
    adapter, _, model = made(method)
    plain = at_once(adapter, model, gaussian(160))
    adapter, _, model = made(method, **given)
    changed = at_once(adapter, model, gaussian(160))
    assert changed != plain and all(map(math.isfinite, changed))


# --- runs of points through the pipeline, by a detector that fails on request


@pytest.fixture
def with_library():
    with running_mean.added():
        yield


def of_library(method, engine, **more):
    made = Detection(window_points=20, detectors={"d": DetectorSettings(method=method)}, **more)
    return Pipeline(made, engine=engine)


@pytest.mark.parametrize("engine", ["numba", "python"])
def test_a_detector_that_takes_runs_is_called_as_one_that_takes_points(with_library, engine):
    values = gaussian(200, mean=12.0)
    values[50], values[90], values[91], values[92] = 13.0, 14.0, 15.0, 13.0
    once = points(values, ["x", "y", "x", "z"] * 50)
    twice = points([v for v in values for _ in (0, 1)], [s for s in once.source for _ in (0, 1)])
    twice.timestamp = [t for t in once.timestamp for _ in (0, 1)]
    one, other = of_library("running", engine), of_library("running_in_runs", engine)
    for corpus in (once, twice):
        whole, runs = one.sources(), other.sources()
        expected, found = one.run(whole, corpus), other.run(runs, corpus)
        for name in ("score", "status", "votes", "opened", "closed"):
            assert np.array_equal(getattr(expected, name), getattr(found, name), equal_nan=True), name
        assert whole.models == runs.models
        assert (found.status == 2).sum() == (4 if corpus is once else 8)


@pytest.mark.parametrize("engine", ["numba", "python"])
def test_it_starts_anew_where_a_drift_says_so(with_library, engine):
    pytest.importorskip("river")
    drift = DriftSettings(method="PageHinkley", threshold=2.0, min_instances=5, reset=True)
    values = [*gaussian(100), *gaussian(100, seed=8, mean=30.0, std=9.0)]
    found = []
    for method in ("running", "running_in_runs"):
        of = of_library(method, engine, drift=drift)
        sources = of.sources()
        outcome = of.run(sources, points(values))
        assert outcome.drift.any()
        found.append((outcome.score.tolist(), sources.models[0][0]))
    assert found[0] == found[1]
