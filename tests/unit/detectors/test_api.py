import types

import pytest

from app import detectors
from app.detectors.api import derived, param, params, run
from app.errors import ConfigurationError

DECLARED = params(
    half_life=param(200.0, "age at which a point counts half, points; > 0"),
    size=param(10, "points; 2..64"),
    stat=param("mean", "middle; one of mean|median"),
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
        ({"half_life": 0.0}, r"x.half_life: must be a number > 0, got 0.0"),
        ({"half_life": "1"}, r"x.half_life: must be a number > 0, got '1'"),
        ({"half_life": True}, r"must be a number > 0, got True"),
        ({"half_life": float("inf")}, r"must be a number > 0, got inf"),
        ({"half_life": float("nan")}, r"must be a number > 0, got nan"),
        ({"size": 65}, r"x.size: must be a whole number 2..64, got 65"),
        ({"size": 3.0}, r"must be a whole number 2..64, got 3.0"),
        ({"size": True}, r"must be a whole number 2..64, got True"),
        ({"size": None}, r"must be a whole number 2..64, got None"),
        ({"stat": "mode"}, r"must be text one of mean|median, got 'mode'"),
        ({"exact": 1}, r"x.exact: must be true or false, got 1"),
        ({"sise": 3}, r"x.sise: no such parameter; it has half_life, size, stat, exact, seed"),
        ({"decay": 0.5}, r"x.decay: no such parameter"),
    ],
)
def test_what_does_not_fit_is_named_with_what_is_allowed(given, message):
    with pytest.raises(ConfigurationError, match=message.replace("|", r"\|")):
        DECLARED.check("x", given)


@pytest.mark.parametrize("help", ["points; many", "points; >", "points; 1..many"])
def test_a_range_that_cannot_be_read_is_the_authors_mistake(help):
    with pytest.raises((TypeError, ValueError)):
        param(1, help)


def test_a_default_out_of_range_is_the_authors_mistake():
    with pytest.raises(TypeError, match="default is out of range"):
        param(0, "points; >= 1")


def test_detectors_are_found_by_their_files_names():
    assert {"moving_average", "zscore"} <= set(detectors.names())
    assert detectors.find("zscore") is detectors.kernel("zscore")


def test_an_unknown_detector_is_answered_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"no detector is called 'zscor'; known are .*zscore"):
        detectors.find("zscor")


def test_parameters_are_checked_by_method():
    assert detectors.check("zscore", {"threshold": 2})["threshold"] == 2.0
    with pytest.raises(ConfigurationError, match=r"zscore.threshold: must be a number > 0, got -1"):
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
