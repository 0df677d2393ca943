"""Detectors put together in the settings from classes of River and of the user."""

import random
import textwrap

import pytest
from hypothesis import given as drawn
from hypothesis import settings as how
from hypothesis import strategies as st
from support.points import SMALL, batches, columns, detection, gaussian, points, states

from app import detectors
from app.detectors.support import river_state
from app.errors import ConfigurationError, StateError
from app.pipeline import Pipeline
from app.settings import Detection, DetectorSettings, load
from app.state import snapshot

SCALER = {"class": "river.preprocessing.StandardScaler"}
SVM = {"class": "river.anomaly.OneClassSVM", "nu": 0.2}
SNARIMAX = {
    "class": "river.time_series.SNARIMAX",
    **{"p": 3, "d": 1, "q": 1},
    "regressor": {"class": "river.preprocessing.TargetStandardScaler", "regressor": {
        "class": "river.linear_model.LinearRegression", "optimizer": {"class": "river.optim.SGD", "lr": 0.005}}},
}  # fmt: skip
PAD = {"class": "river.anomaly.PredictiveAnomalyDetection", "predictive_model": SNARIMAX, "warmup_period": 10}
OWN = "sample_detectors.own_classes."
STEPS = {
    "scaled": [SCALER, SVM],
    "alone": [{"class": "river.anomaly.StandardAbsoluteDeviation"}],
    "a forecaster, which learns where it scores": [PAD],
    "nested": [{"class": "river.anomaly.QuantileFilter", "anomaly_detector": SVM, "q": 0.99}],
    "random": [
        {"class": "river.feature_extraction.RBFSampler", "n_components": 5},
        {"class": "river.anomaly.LODA", "n_random_cuts": 3},
    ],
    "trees": [
        {"class": "river.preprocessing.MinMaxScaler"},
        {"class": "river.anomaly.HalfSpaceTrees", "n_trees": 2, "height": 3, "window_size": 30},
    ],
    "own": [{"class": OWN + "Change", "factor": 2.0}, SCALER, {"class": OWN + "Distance"}],
    "own that counts": [{"class": OWN + "Counting"}],
}
ALLOWED = [OWN + name for name in ("Change", "Distance", "Counting")]
each = pytest.mark.parametrize("name", STEPS)
check = detectors.find("river").params.check


def of(name, engine="numba", **given):
    made = detection("river", steps=STEPS[name], warmup=5, **given)
    return Pipeline(made.model_copy(update={"allow_classes": ALLOWED}), engine=engine)


def test_it_scores_as_rivers_own_pipeline():
    from river import anomaly, preprocessing

    own = preprocessing.StandardScaler() | anomaly.OneClassSVM(nu=0.2)
    adapter = detectors.find("river")
    model = adapter.make(check("x", {"steps": [SCALER, SVM]}))
    for x in gaussian(500):
        assert adapter.score_one(model, x, 0.0) == own.score_one({"value": x})
        own.learn_one({"value": x})
        adapter.learn_one(model, x, 0.0)


def test_a_forecaster_scores_as_rivers_own_though_it_learns_where_it_scores():
    from river import anomaly, linear_model, optim, preprocessing, time_series

    line = preprocessing.TargetStandardScaler(linear_model.LinearRegression(optim.SGD(0.005)))
    own = anomaly.PredictiveAnomalyDetection(time_series.SNARIMAX(p=3, d=1, q=1, regressor=line), warmup_period=10)
    adapter = detectors.find("river")
    params = check("x", {"steps": [PAD]})
    assert not params["pure"] and check("x", {"steps": [SVM]})["pure"]
    model = adapter.make(params)
    for x in gaussian(200):
        before = adapter.dumps(model)
        found = adapter.score_one(model, x, 0.0)
        assert adapter.dumps(model) == before
        assert found == own.score_one(None, x)
        own.learn_one(None, x)
        adapter.learn_one(model, x, 0.0)


@each
@how(max_examples=5, deadline=None)
@drawn(cuts=st.lists(st.integers(1, 119), max_size=6), engine=st.sampled_from(["numba", "python"]))
def test_results_and_state_do_not_depend_on_batches_restores_or_engine(name, cuts, engine):
    values = gaussian(120)
    values[50] = values[51] = 40.0
    corpus = points(values, ["x", "y", "x"] * 40)
    corpus.timestamp[53] = corpus.timestamp[51]
    corpus.values[53] = corpus.values[51]  # "y" again: answered, not learned
    corpus.source[53] = corpus.source[51] = "y"
    one, other = of(name), of(name, engine)
    whole, parts = one.sources(), other.sources()
    once, split = columns([one.run(whole, corpus)]), []
    for batch in batches(corpus, cuts):
        split.append(other.run(parts, batch))
        restored = other.sources()
        for data in states(parts).values():
            snapshot.loads(restored, data)
        parts = restored
    assert columns(split) == once and states(parts) == states(whole)


@each
def test_seeds_are_fixed(name):
    params = check("x", {"steps": STEPS[name], "allow_classes": ALLOWED})
    adapter = detectors.find("river")
    models = [adapter.make(params) for _ in range(2)]
    for x in gaussian(100):
        for model in models:
            adapter.learn_one(model, x, 0.0)
    assert adapter.dumps(models[0]) == adapter.dumps(models[1])


def test_a_first_window_without_scores_is_no_past():
    trees = [
        {"class": "river.preprocessing.MinMaxScaler"},
        {"class": "river.anomaly.HalfSpaceTrees", "height": 3, "window_size": 30},
    ]
    pipeline = Pipeline(detection("river", steps=trees, grace_period=30, warmup=10))
    outcome = pipeline.run(pipeline.sources(), points(gaussian(60)))
    assert (outcome.status[:40] == 0).all() and (outcome.status[40:] == 1).all()


# --- what is refused, before anybody joins a group


REFUSED = {
    "no steps": (None, r"x\.steps: must be a list of mappings"),
    "no list": ("StandardScaler", r"x\.steps: must be a list of mappings"),
    "empty": ([], r"x\.steps: must be a list of mappings"),
    "no mapping": (["river.anomaly.OneClassSVM"], r"x\.steps: must be a list of mappings"),
    "no class": ([{"nu": 0.2}], r"x\.steps\[0\]: must be a detector.*got dict"),
    "unknown class": ([{"class": "river.anomaly.TwoClassSVM"}], r"x\.steps\[0\].class: river.anomaly has no class"),
    "unknown package": ([{"class": "river.nothing.At"}], r"must be a class of River.*detection\.allow_classes"),
    "not allowed": (
        [{"class": OWN + "Distance2"}],
        r"got 'sample_detectors.*.Distance2'; .*detection\.allow_classes",
    ),
    "allowed but absent": ([{"class": OWN + "Absent"}], r"sample_detectors.own_classes has no class 'Absent'"),
    "allowed but no module": ([{"class": "absent.module.Class"}], r"absent\.module cannot be imported"),
    "a function": ([{"class": "river.utils.math.sigmoid"}], r"has no class 'sigmoid'"),
    "from elsewhere": ([{"class": "river.anomaly.hst.functools"}], r"has no class 'functools'"),
    "reads files": ([{"class": "river.stream.Cache"}], r"must be a class of River"),
    "the system": ([{"class": "os.system"}], r"must be a class of River"),
    "a builtin": ([{"class": "builtins.eval"}], r"must be a class of River"),
    "no path": ([{"class": 3}], r"must be a class of River.*got 3"),
    "wrong parameter": ([SCALER, SVM | {"gamma": 1}], r"x\.steps\[1\]\.gamma: river\.anomaly\.OneClassSVM has no such"),
    "wrong nested parameter": (
        [SVM | {"optimizer": {"class": "river.optim.SGD", "rate": 1}}],
        r"x\.steps\[0\]\.optimizer\.rate: river\.optim\.SGD has no such parameter; it has lr",
    ),
    "parameter that is wanting": ([{"class": "river.anomaly.QuantileFilter"}], r"x\.steps\[0\]: .* cannot be made"),
    "scaler last": ([SVM, SCALER], r"x\.steps\[0\]: must be a transformer"),
    "no detector": ([SCALER], r"x\.steps\[0\]: must be a detector"),
    "(x, y) behind a scaler": ([SCALER, STEPS["alone"][0]], r"x\.steps\[1\]: .* must stand alone"),
    "no estimator": ([{"class": OWN + "Silent"}], r"must be a detector.*got Silent"),
    "not to be stored": ([{"class": OWN + "Unstorable"}], r"its state cannot be kept: .*lambda"),
    "drawn from the clock": ([{"class": OWN + "Restless"}], r"give every part a seed"),
    "River's that draws from the clock": ([{"class": "river.anomaly.GaussianScorer"}], r"give every part a seed"),
    "state elsewhere": ([{"class": OWN + "Forgetful"}], r"keep all state in attributes"),
    "too large": ([{"class": OWN + "Growing"}], r"max_state_bytes = 500; raise it"),
    "raises": ([{"class": OWN + "Failing"}], r"failed on a point of a trial: LookupError\('nothing there'\)"),
}
NAMED = [
    *ALLOWED, "absent.module.Class",
    *(OWN + name for name in ("Absent", "Silent", "Unstorable", "Restless", "Forgetful", "Growing", "Failing")),
]  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_by_name(what):
    steps, sentence = REFUSED[what]
    given = {"steps": steps} if steps is not None else {}
    with pytest.raises(ConfigurationError, match=sentence):
        check("x", {**given, "allow_classes": NAMED, "max_state_bytes": 500 if "large" in what else 16384})


def test_a_class_of_ones_own_must_be_named():
    with pytest.raises(ConfigurationError, match=r"must be named in detection\.allow_classes"):
        check("x", {"steps": STEPS["own"], "allow_classes": ALLOWED[:1]})
    with pytest.raises(ConfigurationError, match=r"must be named in detection\.allow_classes"):
        Pipeline(detection("river", steps=STEPS["own"]))


def test_state_names_no_class_that_nobody_allowed():
    class Stranger:
        pass

    with pytest.raises(StateError, match="not allow-listed"):
        river_state.dumps(Stranger())


def test_a_state_that_outgrows_its_bound_stops_the_worker_with_a_sentence():
    pipeline = Pipeline(detection("river", steps=[PAD], max_state_bytes=1400))
    sources = pipeline.sources()
    assert pipeline.max_snapshot_bytes() > 1400
    model = detectors.find("river").make(pipeline.profiles[0].members[0].params)._replace(most=10)
    sources.models.append(model)
    with pytest.raises(StateError, match="more than max_state_bytes = 10; raise it"):
        model.dumps()


def written(tmp_path, text):
    path = tmp_path / "anomaly.yaml"
    path.write_text(textwrap.dedent(text))
    return path


def test_the_settings_say_it_all(tmp_path):
    path = written(
        tmp_path,
        """
        detection:
          allow_classes: [sample_detectors.own_classes.Change]
          detectors:
            svm:
              method: river
              steps:
                - {class: sample_detectors.own_classes.Change}
                - {class: river.anomaly.OneClassSVM, nu: 0.2}
              threshold: 4
        sources:
          - {match: "pump-*", window_points: 7}
        """,
    )
    pipeline = Pipeline.of(load(path, {}))
    outcome = pipeline.run(pipeline.sources(), points(gaussian(60), ["a", "pump-1"] * 30))
    assert outcome.status[-1] == 0 and pipeline.profiles[1].window_points == 7


def test_wrong_settings_are_named_with_their_line(tmp_path):
    path = written(
        tmp_path,
        """
        detection:
          detectors:
            svm:
              method: river
              threshold: -1.0
              steps: [{class: river.anomaly.OneClassSVM, gamma: 0.2}]
            none:
              method: river
        """,
    )
    with pytest.raises(ConfigurationError) as error:
        load(path, {})
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == 3
    assert "detection.detectors.svm.threshold" in lines[0] and ":6" in lines[0]
    assert "steps[0].gamma: river.anomaly.OneClassSVM has no such parameter" in lines[1] and ":7" in lines[1]
    assert "detection.detectors.none.steps" in lines[2] and "must be a list of mappings" in lines[2]


def test_other_steps_start_the_detector_anew_and_another_allowance_does_not():
    def digests(steps, **more):
        given = {"a": DetectorSettings(method="river", steps=steps, **more)}
        return [section.digest for section in Pipeline(Detection(detectors=given)).profiles[0].sections]

    first = digests([SCALER, SVM])
    assert first == digests([SCALER, SVM], threshold=5.0, max_state_bytes=9000)
    assert first[1] != digests([SCALER, SVM | {"nu": 0.3}])[1]


def test_damage_is_refused_or_loads_as_data():
    adapter = detectors.find("river")
    params = check("x", SMALL["river"])
    model = adapter.make(params)
    for x in gaussian(50):
        adapter.learn_one(model, x, 0.0)
    stored, rng = adapter.dumps(model), random.Random(6)
    for _ in range(300):
        data = bytearray(stored)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            adapter.loads(bytes(data), params)
        except StateError as error:
            assert str(error)
    with pytest.raises(StateError, match="state must hold"):
        adapter.loads(stored, check("x", {"steps": [SVM]}))
