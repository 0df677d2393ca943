import types

import pytest

from app import detectors
from app.detectors.api import derived, param, params, run
from app.errors import ConfigurationError

DECLARED = params(
    half_life=param(200.0, "age at which a point counts half, points", above=0),
    size=param(10, "points", at_least=2, at_most=64),
    stat=param("mean", "middle", one_of=("mean", "median")),
    exact=param(True, "slow and exact"),
    seed=param(None, "anything"),
    decay=derived(lambda p: 0.5 ** (1.0 / p.half_life)),
)


def test_what_is_not_given_has_its_default():
    assert DECLARED.check("x", {}) == {"half_life": 200.0, "size": 10, "stat": "mean", "exact": True, "seed": None}


def test_what_is_derived_is_computed_from_what_is_given():
    p = DECLARED.values(DECLARED.check("x", {"half_life": 1}))
    assert (p.decay, p.half_life, p.size) == (0.5, 1.0, 10) and isinstance(p.half_life, float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"half_life": 0.0}, r"x.half_life: must be a number above 0, got 0.0"),
        ({"half_life": "1"}, r"x.half_life: must be a number above 0, got '1'"),
        ({"half_life": True}, r"must be a number above 0, got True"),
        ({"half_life": float("inf")}, r"must be a number above 0, got inf"),
        ({"half_life": float("nan")}, r"must be a number above 0, got nan"),
        ({"size": 65}, r"x.size: must be a whole number from 2 to 64, got 65"),
        ({"size": 3.0}, r"must be a whole number from 2 to 64, got 3.0"),
        ({"size": True}, r"must be a whole number from 2 to 64, got True"),
        ({"size": None}, r"must be a whole number from 2 to 64, got None"),
        ({"stat": "mode"}, r"must be mean | median, got 'mode'"),
        ({"exact": 1}, r"x.exact: must be true or false, got 1"),
        ({"sise": 3}, r"x.sise: no such parameter; it has half_life, size, stat, exact, seed"),
        ({"decay": 0.5}, r"x.decay: no such parameter"),
    ],
)
def test_what_does_not_fit_is_named_with_what_is_allowed(given, message):
    with pytest.raises(ConfigurationError, match=message.replace("|", r"\|")):
        DECLARED.check("x", given)


@pytest.mark.parametrize("declared", [{"at_least": "many"}, {"at_leats": 1}, {"at_least": 1, "at_most": "many"}])
def test_a_range_that_cannot_be_compared_is_the_authors_mistake(declared):
    with pytest.raises(TypeError):
        param(1, "points", **declared)


@pytest.mark.parametrize(
    ("declared", "allowed"),
    [
        ({"at_least": 1}, "a whole number of at least 1"),
        ({"at_most": 5000}, "a whole number of at most 5_000"),
        ({"above": 0, "at_most": 7}, "a whole number above 0 and of at most 7"),
        ({"at_least": 0.5, "at_most": 7}, "a whole number from 0.5 to 7"),
        ({"expected": "a port"}, "a port"),
        ({}, "a whole number"),
    ],
)
def test_the_range_is_put_in_words(declared, allowed):
    assert param(4, "points", **declared).allowed == allowed
    assert param(None, "anything").allowed == ""


def test_the_unit_stands_in_the_message():
    with pytest.raises(ConfigurationError, match=r"x.size: must be a whole number of at least 1 points, got 0"):
        params(size=param(4, "size of the window", unit="points", at_least=1)).check("x", {"size": 0})


def test_a_default_out_of_range_is_the_authors_mistake():
    with pytest.raises(TypeError, match="default is out of range"):
        param(0, "points", at_least=1)


def test_detectors_are_found_by_their_files_names():
    assert {"moving_average", "zscore"} <= set(detectors.names())
    assert detectors.find("zscore") is detectors.kernel("zscore")


def test_an_unknown_detector_is_answered_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"no detector is called 'zscor'; known are .*zscore"):
        detectors.find("zscor")


def test_parameters_are_checked_by_method():
    assert detectors.check("zscore", {"threshold": 2})["threshold"] == 2.0
    with pytest.raises(ConfigurationError, match=r"zscore.threshold: must be a number above 0, got -1"):
        detectors.check("zscore", {"threshold": -1})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"SCALE": "percent"}, "SCALE must be one of deviations, own_past"),
        ({"TARGETS": "all"}, "TARGETS must be one of spikes, shifts, runs, gaps"),
        ({"INVARIANT": ("turn",)}, "INVARIANT may hold scale, shift, got"),
        ({"ALERT_AT": "limit"}, "PARAMS must have 'limit'"),
        ({"PARAMS": params(threshold=param(1.0, "line"))}, "PARAMS must have 'warmup'"),
        ({"STATE": [("grid", "f8", (2, 3))]}, "STATE must have fields of one dimension"),
    ],
)
def test_a_detector_that_declares_itself_wrongly_is_refused_by_name(monkeypatch, changed, message):
    monkeypatch.setattr(detectors, "KERNELS", dict(detectors.KERNELS))
    real = detectors.kernel("zscore").module
    module = types.ModuleType("mistaken")
    vars(module).update({k: v for k, v in vars(real).items() if k.isupper() or k == "step"}, **changed)
    with pytest.raises(TypeError, match=f"mistaken: {message}"):
        detectors.register(module)


def test_a_run_warms_up_and_scores_by_the_past():
    assert run("zscore", [1.0, 3.0, 5.0], warmup=2) == [0.0, 0.0, 3.0]
    assert run("moving_average", [1.0, 3.0, 5.0, 9.0], warmup=1, window_size=2)[1:] == [1e9, 3.0, 5.0]
